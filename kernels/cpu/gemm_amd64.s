//go:build !noasm

#include "textflag.h"

// The kernels of gemm_amd64.go. Registers of all of them:
//
//	SI  a of rows 0..2   R12  a of rows 3..5   R8  rs   R9  cs   (bytes)
//	DI  b                R10  bs                                   (bytes)
//	DX  c of rows 0..2   R13  c of rows 3..5   R11 ldc            (bytes)
//	CX  k left           AX   mode
//	Y0, Y1  a row of b   Y2, Y3  elements of a, broadcast          Y4..Y15  sums, two for each row

#define ARGS \
	MOVQ kc+0(FP), CX; \
	MOVQ a+8(FP), SI; \
	MOVQ rs+16(FP), R8; \
	MOVQ cs+24(FP), R9; \
	MOVQ b+32(FP), DI; \
	MOVQ bs+40(FP), R10; \
	MOVQ c+48(FP), DX; \
	MOVQ ldc+56(FP), R11; \
	MOVQ mode+64(FP), AX; \
	SHLQ $2, R8; \
	SHLQ $2, R9; \
	SHLQ $2, R10; \
	SHLQ $2, R11; \
	LEAQ (R8)(R8*2), R12; \
	ADDQ SI, R12; \
	LEAQ (R11)(R11*2), R13; \
	ADDQ DX, R13

#define FMA2(bc, x, y) VFMADD231PS Y0, bc, x; VFMADD231PS Y1, bc, y

#define NEXT \
	ADDQ R9, SI; \
	ADDQ R9, R12; \
	ADDQ R10, DI

#define ROWB VMOVUPS (DI), Y0; VMOVUPS 32(DI), Y1

#define STEP1 \
	ROWB; \
	VBROADCASTSS (SI), Y2; \
	FMA2(Y2, Y4, Y5); \
	NEXT

#define STEP2 \
	ROWB; \
	VBROADCASTSS (SI), Y2; \
	VBROADCASTSS (SI)(R8*1), Y3; \
	FMA2(Y2, Y4, Y5); \
	FMA2(Y3, Y6, Y7); \
	NEXT

#define STEP3 \
	ROWB; \
	VBROADCASTSS (SI), Y2; \
	VBROADCASTSS (SI)(R8*1), Y3; \
	FMA2(Y2, Y4, Y5); \
	FMA2(Y3, Y6, Y7); \
	VBROADCASTSS (SI)(R8*2), Y2; \
	FMA2(Y2, Y8, Y9); \
	NEXT

#define STEP4 \
	ROWB; \
	VBROADCASTSS (SI), Y2; \
	VBROADCASTSS (SI)(R8*1), Y3; \
	FMA2(Y2, Y4, Y5); \
	FMA2(Y3, Y6, Y7); \
	VBROADCASTSS (SI)(R8*2), Y2; \
	VBROADCASTSS (R12), Y3; \
	FMA2(Y2, Y8, Y9); \
	FMA2(Y3, Y10, Y11); \
	NEXT

#define STEP5 \
	ROWB; \
	VBROADCASTSS (SI), Y2; \
	VBROADCASTSS (SI)(R8*1), Y3; \
	FMA2(Y2, Y4, Y5); \
	FMA2(Y3, Y6, Y7); \
	VBROADCASTSS (SI)(R8*2), Y2; \
	VBROADCASTSS (R12), Y3; \
	FMA2(Y2, Y8, Y9); \
	FMA2(Y3, Y10, Y11); \
	VBROADCASTSS (R12)(R8*1), Y2; \
	FMA2(Y2, Y12, Y13); \
	NEXT

#define STEP6 \
	ROWB; \
	VBROADCASTSS (SI), Y2; \
	VBROADCASTSS (SI)(R8*1), Y3; \
	FMA2(Y2, Y4, Y5); \
	FMA2(Y3, Y6, Y7); \
	VBROADCASTSS (SI)(R8*2), Y2; \
	VBROADCASTSS (R12), Y3; \
	FMA2(Y2, Y8, Y9); \
	FMA2(Y3, Y10, Y11); \
	VBROADCASTSS (R12)(R8*1), Y2; \
	VBROADCASTSS (R12)(R8*2), Y3; \
	FMA2(Y2, Y12, Y13); \
	FMA2(Y3, Y14, Y15); \
	NEXT

#define ADD2(p0, p1, x, y) VADDPS p0, x, x; VADDPS p1, y, y
#define STORE2(p0, p1, x, y) VMOVUPS x, p0; VMOVUPS y, p1

// EACHn applies OP to the n rows of c.
#define EACH1(OP) OP((DX), 32(DX), Y4, Y5)
#define EACH2(OP) EACH1(OP); OP((DX)(R11*1), 32(DX)(R11*1), Y6, Y7)
#define EACH3(OP) EACH2(OP); OP((DX)(R11*2), 32(DX)(R11*2), Y8, Y9)
#define EACH4(OP) EACH3(OP); OP((R13), 32(R13), Y10, Y11)
#define EACH5(OP) EACH4(OP); OP((R13)(R11*1), 32(R13)(R11*1), Y12, Y13)
#define EACH6(OP) EACH5(OP); OP((R13)(R11*2), 32(R13)(R11*2), Y14, Y15)

#define GET2(p0, p1, x, y) VMOVUPS p0, x; VMOVUPS p1, y
#define ZERO2(p0, p1, x, y) VXORPS x, x, x; VXORPS y, y, y
#define FETCH2(p0, p1, x, y) PREFETCHT0 p0; PREFETCHT0 p1

// BODY: mode 1 starts from c, mode 2 adds c at the end, mode 0 overwrites c.
#define BODY(STEP, EACH) \
	ARGS; \
	CMPQ AX, $1; \
	JEQ  fromc; \
	EACH(ZERO2); \
	EACH(FETCH2); \
	JMP  begin; \
fromc: \
	EACH(GET2); \
begin: \
	SUBQ $4, CX; \
	JLT  rest; \
four: \
	STEP; \
	STEP; \
	STEP; \
	STEP; \
	SUBQ $4, CX; \
	JGE  four; \
rest: \
	ADDQ $4, CX; \
	JLE  done; \
one: \
	STEP; \
	SUBQ $1, CX; \
	JGT  one; \
done: \
	CMPQ AX, $2; \
	JNE  store; \
	EACH(ADD2); \
store: \
	EACH(STORE2); \
	VZEROUPPER; \
	RET

// func gemm1AVX(kc int, a *float32, rs, cs int, b *float32, bs int, c *float32, ldc, mode int)
TEXT ·gemm1AVX(SB), NOSPLIT, $0-72
	BODY(STEP1, EACH1)

// func gemm2AVX(kc int, a *float32, rs, cs int, b *float32, bs int, c *float32, ldc, mode int)
TEXT ·gemm2AVX(SB), NOSPLIT, $0-72
	BODY(STEP2, EACH2)

// func gemm3AVX(kc int, a *float32, rs, cs int, b *float32, bs int, c *float32, ldc, mode int)
TEXT ·gemm3AVX(SB), NOSPLIT, $0-72
	BODY(STEP3, EACH3)

// func gemm4AVX(kc int, a *float32, rs, cs int, b *float32, bs int, c *float32, ldc, mode int)
TEXT ·gemm4AVX(SB), NOSPLIT, $0-72
	BODY(STEP4, EACH4)

// func gemm5AVX(kc int, a *float32, rs, cs int, b *float32, bs int, c *float32, ldc, mode int)
TEXT ·gemm5AVX(SB), NOSPLIT, $0-72
	BODY(STEP5, EACH5)

// func gemm6AVX(kc int, a *float32, rs, cs int, b *float32, bs int, c *float32, ldc, mode int)
TEXT ·gemm6AVX(SB), NOSPLIT, $0-72
	BODY(STEP6, EACH6)

// One row over four panels. Y4..Y11 sums, R12 the last panel, R13 and R15 what to fetch ahead.
#define STEPV \
	VBROADCASTSS (SI), Y0; \
	PREFETCHT0 (R13); \
	PREFETCHT0 (R13)(R8*1); \
	PREFETCHT0 (R13)(R8*2); \
	PREFETCHT0 (R15); \
	VFMADD231PS (DI), Y0, Y4; \
	VFMADD231PS 32(DI), Y0, Y5; \
	VFMADD231PS (DI)(R8*1), Y0, Y6; \
	VFMADD231PS 32(DI)(R8*1), Y0, Y7; \
	VFMADD231PS (DI)(R8*2), Y0, Y8; \
	VFMADD231PS 32(DI)(R8*2), Y0, Y9; \
	VFMADD231PS (R12), Y0, Y10; \
	VFMADD231PS 32(R12), Y0, Y11; \
	ADDQ $4, SI; \
	ADDQ R10, DI; \
	ADDQ R10, R12; \
	ADDQ R10, R13; \
	ADDQ R10, R15

#define EACHV(OP) \
	OP((DX), 32(DX), Y4, Y5); \
	OP(64(DX), 96(DX), Y6, Y7); \
	OP(128(DX), 160(DX), Y8, Y9); \
	OP(192(DX), 224(DX), Y10, Y11)

// func gemv64AVX(kc int, a, b *float32, ps, bs int, c *float32, mode int)
TEXT ·gemv64AVX(SB), NOSPLIT, $0-56
	MOVQ kc+0(FP), CX
	MOVQ a+8(FP), SI
	MOVQ b+16(FP), DI
	MOVQ ps+24(FP), R8
	MOVQ bs+32(FP), R10
	MOVQ c+40(FP), DX
	MOVQ mode+48(FP), AX
	SHLQ $2, R8
	SHLQ $2, R10
	LEAQ (R8)(R8*2), R12
	ADDQ DI, R12
	MOVQ R10, R13
	SHLQ $4, R13
	LEAQ (R12)(R13*1), R15
	ADDQ DI, R13
	CMPQ AX, $1
	JEQ  fromc
	EACHV(ZERO2)
	JMP  begin
fromc:
	EACHV(GET2)
begin:
	SUBQ $2, CX
	JLT  rest
two:
	STEPV
	STEPV
	SUBQ $2, CX
	JGE  two
rest:
	ADDQ $2, CX
	JLE  done
	STEPV
done:
	CMPQ AX, $2
	JNE  store
	EACHV(ADD2)
store:
	EACHV(STORE2)
	VZEROUPPER
	RET
