//go:build !noasm

#include "textflag.h"

// A row of a panel is 8 pairs: column j in the lower half, column j+8 in the upper.
DATA ·upper+0(SB)/8, $0xffff0000ffff0000
DATA ·upper+8(SB)/8, $0xffff0000ffff0000
DATA ·upper+16(SB)/8, $0xffff0000ffff0000
DATA ·upper+24(SB)/8, $0xffff0000ffff0000
GLOBL ·upper(SB), RODATA|NOPTR, $32

#define ROWB VMOVUPS (DI), Y1; VPSLLD $16, Y1, Y0; VANDPS ·upper(SB), Y1, Y1
#define BSHIFT 1

#include "gemm_amd64.h"

// func gemm1BF16AVX(kc int, a *float32, rs, cs int, b *uint16, bs int, c *float32, ldc, mode int)
TEXT ·gemm1BF16AVX(SB), NOSPLIT, $0-72
	BODY(STEP1, EACH1)

// func gemm2BF16AVX(kc int, a *float32, rs, cs int, b *uint16, bs int, c *float32, ldc, mode int)
TEXT ·gemm2BF16AVX(SB), NOSPLIT, $0-72
	BODY(STEP2, EACH2)

// func gemm3BF16AVX(kc int, a *float32, rs, cs int, b *uint16, bs int, c *float32, ldc, mode int)
TEXT ·gemm3BF16AVX(SB), NOSPLIT, $0-72
	BODY(STEP3, EACH3)

// func gemm4BF16AVX(kc int, a *float32, rs, cs int, b *uint16, bs int, c *float32, ldc, mode int)
TEXT ·gemm4BF16AVX(SB), NOSPLIT, $0-72
	BODY(STEP4, EACH4)

// func gemm5BF16AVX(kc int, a *float32, rs, cs int, b *uint16, bs int, c *float32, ldc, mode int)
TEXT ·gemm5BF16AVX(SB), NOSPLIT, $0-72
	BODY(STEP5, EACH5)

// func gemm6BF16AVX(kc int, a *float32, rs, cs int, b *uint16, bs int, c *float32, ldc, mode int)
TEXT ·gemm6BF16AVX(SB), NOSPLIT, $0-72
	BODY(STEP6, EACH6)

// One row over four panels: Y4..Y11 sums, Y3 the mask, R12 the last panel, R13 and R15 what to fetch ahead.
#define PAIR(p, x, y) \
	VMOVUPS p, Y1; \
	VPSLLD $16, Y1, Y2; \
	VANDPS Y3, Y1, Y1; \
	VFMADD231PS Y2, Y0, x; \
	VFMADD231PS Y1, Y0, y

#define STEPV(o) \
	VBROADCASTSS (o/8)(SI), Y0; \
	PAIR(o(DI), Y4, Y5); \
	PAIR(o(DI)(R8*1), Y6, Y7); \
	PAIR(o(DI)(R8*2), Y8, Y9); \
	PAIR(o(R12), Y10, Y11)

#define EACHV(OP) \
	OP((DX), 32(DX), Y4, Y5); \
	OP(64(DX), 96(DX), Y6, Y7); \
	OP(128(DX), 160(DX), Y8, Y9); \
	OP(192(DX), 224(DX), Y10, Y11)

// func gemv64BF16AVX(kc int, a *float32, b *uint16, ps int, c *float32, mode int)
TEXT ·gemv64BF16AVX(SB), NOSPLIT, $0-48
	MOVQ kc+0(FP), CX
	MOVQ a+8(FP), SI
	MOVQ b+16(FP), DI
	MOVQ ps+24(FP), R8
	MOVQ c+32(FP), DX
	MOVQ mode+40(FP), AX
	SHLQ $1, R8
	LEAQ (R8)(R8*2), R12
	ADDQ DI, R12
	LEAQ 1024(DI), R13
	LEAQ 1024(R12), R15
	VMOVUPS ·upper(SB), Y3
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
	PREFETCHT0 (R13)
	PREFETCHT0 (R13)(R8*1)
	PREFETCHT0 (R13)(R8*2)
	PREFETCHT0 (R15)
	STEPV(0)
	STEPV(32)
	ADDQ $8, SI
	ADDQ $64, DI
	ADDQ $64, R12
	ADDQ $64, R13
	ADDQ $64, R15
	SUBQ $2, CX
	JGE  two
rest:
	ADDQ $2, CX
	JLE  done
	STEPV(0)
done:
	CMPQ AX, $2
	JNE  store
	EACHV(ADD2)
store:
	EACHV(STORE2)
	VZEROUPPER
	RET

// PAIRS leaves the words k of rows j and j+8 side by side, for eight j and the four k of each half that U takes.
#define PAIRS(U) \
	VMOVDQU (SI), Y0; \
	VMOVDQU (SI)(R8*1), Y1; \
	VMOVDQU (SI)(R8*2), Y2; \
	VMOVDQU (SI)(R9*1), Y3; \
	VMOVDQU (R10), Y4; \
	VMOVDQU (R10)(R8*1), Y5; \
	VMOVDQU (R10)(R8*2), Y6; \
	VMOVDQU (R10)(R9*1), Y7; \
	U (R11), Y0, Y0; \
	U (R11)(R8*1), Y1, Y1; \
	U (R11)(R8*2), Y2, Y2; \
	U (R11)(R9*1), Y3, Y3; \
	U (R12), Y4, Y4; \
	U (R12)(R8*1), Y5, Y5; \
	U (R12)(R8*2), Y6, Y6; \
	U (R12)(R9*1), Y7, Y7

// TURNPAIRS turns those eight rows of pairs and stores the rows of the panel from o(DI) and 256+o(DI) on.
#define TURNPAIRS(o) \
	VPUNPCKLDQ Y1, Y0, Y8; \
	VPUNPCKHDQ Y1, Y0, Y9; \
	VPUNPCKLDQ Y3, Y2, Y10; \
	VPUNPCKHDQ Y3, Y2, Y11; \
	VPUNPCKLDQ Y5, Y4, Y12; \
	VPUNPCKHDQ Y5, Y4, Y13; \
	VPUNPCKLDQ Y7, Y6, Y14; \
	VPUNPCKHDQ Y7, Y6, Y15; \
	VPUNPCKLQDQ Y10, Y8, Y0; \
	VPUNPCKHQDQ Y10, Y8, Y1; \
	VPUNPCKLQDQ Y11, Y9, Y2; \
	VPUNPCKHQDQ Y11, Y9, Y3; \
	VPUNPCKLQDQ Y14, Y12, Y4; \
	VPUNPCKHQDQ Y14, Y12, Y5; \
	VPUNPCKLQDQ Y15, Y13, Y6; \
	VPUNPCKHQDQ Y15, Y13, Y7; \
	VINSERTI128 $1, X4, Y0, Y8; \
	VINSERTI128 $1, X5, Y1, Y9; \
	VINSERTI128 $1, X6, Y2, Y10; \
	VINSERTI128 $1, X7, Y3, Y11; \
	VPERM2I128 $0x31, Y4, Y0, Y12; \
	VPERM2I128 $0x31, Y5, Y1, Y13; \
	VPERM2I128 $0x31, Y6, Y2, Y14; \
	VPERM2I128 $0x31, Y7, Y3, Y15; \
	VMOVDQU Y8, o(DI); \
	VMOVDQU Y9, (o+32)(DI); \
	VMOVDQU Y10, (o+64)(DI); \
	VMOVDQU Y11, (o+96)(DI); \
	VMOVDQU Y12, (o+256)(DI); \
	VMOVDQU Y13, (o+288)(DI); \
	VMOVDQU Y14, (o+320)(DI); \
	VMOVDQU Y15, (o+352)(DI)

// func packT16BF16AVX(dst, src *uint16, ld, n, ahead int)
TEXT ·packT16BF16AVX(SB), NOSPLIT, $0-40
	MOVQ dst+0(FP), DI
	MOVQ src+8(FP), SI
	MOVQ ld+16(FP), R8
	MOVQ n+24(FP), CX
	SHLQ $1, R8
	LEAQ (R8)(R8*2), R9
	LEAQ (SI)(R8*4), R10
	LEAQ (SI)(R8*8), R11
	LEAQ (R10)(R8*8), R12
	MOVQ ahead+32(FP), R13
	ADDQ SI, R13
sixteen:
	PREFETCHT1 (R13)
	PREFETCHT1 64(R13)
	PREFETCHT1 128(R13)
	PREFETCHT1 192(R13)
	PREFETCHT1 256(R13)
	PREFETCHT1 320(R13)
	PREFETCHT1 384(R13)
	PREFETCHT1 448(R13)
	PAIRS(VPUNPCKLWD)
	TURNPAIRS(0)
	PAIRS(VPUNPCKHWD)
	TURNPAIRS(128)
	ADDQ $32, SI
	ADDQ $32, R10
	ADDQ $32, R11
	ADDQ $32, R12
	ADDQ $512, R13
	ADDQ $512, DI
	SUBQ $16, CX
	JGT  sixteen
	VZEROUPPER
	RET
