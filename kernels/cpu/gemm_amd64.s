//go:build !noasm

#include "textflag.h"

#define ROWB VMOVUPS (DI), Y0; VMOVUPS 32(DI), Y1
#define BSHIFT 2

#include "gemm_amd64.h"

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
