//go:build !noasm

#include "textflag.h"

// AX, BX, CX, R8..R12: eight rows, the missing ones the same as the last. DX k left, DI dst, R13 k done.
#define ROWPTR(i, prev, p) \
	MOVQ prev, p; \
	CMPQ R13, $i; \
	JLE  2(PC); \
	ADDQ SI, p

#define ROWPTRS \
	MOVQ dst+0(FP), DI; \
	MOVQ src+8(FP), AX; \
	MOVQ ld+16(FP), SI; \
	MOVQ rows+24(FP), R13; \
	MOVQ n+32(FP), DX; \
	SHLQ $2, SI; \
	ROWPTR(1, AX, BX); \
	ROWPTR(2, BX, CX); \
	ROWPTR(3, CX, R8); \
	ROWPTR(4, R8, R9); \
	ROWPTR(5, R9, R10); \
	ROWPTR(6, R10, R11); \
	ROWPTR(7, R11, R12); \
	XORQ R13, R13

// TURN4 leaves elements o/4 to o/4+3 of the eight rows in Y8..Y11.
#define TURN4(o) \
	VMOVUPS o(AX)(R13*4), X0; \
	VMOVUPS o(BX)(R13*4), X1; \
	VMOVUPS o(CX)(R13*4), X2; \
	VMOVUPS o(R8)(R13*4), X3; \
	VINSERTF128 $1, o(R9)(R13*4), Y0, Y0; \
	VINSERTF128 $1, o(R10)(R13*4), Y1, Y1; \
	VINSERTF128 $1, o(R11)(R13*4), Y2, Y2; \
	VINSERTF128 $1, o(R12)(R13*4), Y3, Y3; \
	VUNPCKLPS Y1, Y0, Y4; \
	VUNPCKHPS Y1, Y0, Y5; \
	VUNPCKLPS Y3, Y2, Y6; \
	VUNPCKHPS Y3, Y2, Y7; \
	VUNPCKLPD Y6, Y4, Y8; \
	VUNPCKHPD Y6, Y4, Y9; \
	VUNPCKLPD Y7, Y5, Y10; \
	VUNPCKHPD Y7, Y5, Y11

// TURN1 is one element of the eight rows, stored at DI.
#define TURN1 \
	MOVSS (AX)(R13*4), X0; \
	MOVSS (BX)(R13*4), X1; \
	MOVSS (CX)(R13*4), X2; \
	MOVSS (R8)(R13*4), X3; \
	MOVSS X0, (DI); \
	MOVSS X1, 4(DI); \
	MOVSS X2, 8(DI); \
	MOVSS X3, 12(DI); \
	MOVSS (R9)(R13*4), X0; \
	MOVSS (R10)(R13*4), X1; \
	MOVSS (R11)(R13*4), X2; \
	MOVSS (R12)(R13*4), X3; \
	MOVSS X0, 16(DI); \
	MOVSS X1, 20(DI); \
	MOVSS X2, 24(DI); \
	MOVSS X3, 28(DI)

// TURN stores S bytes apart, in rising order: with S = 24 each store covers what the one before wrote too far.
#define TURN(S) \
	ROWPTRS; \
	SUBQ $8, DX; \
	JLT  rest; \
eight: \
	TURN4(0); \
	VMOVUPS Y8, (DI); \
	VMOVUPS Y9, S(DI); \
	VMOVUPS Y10, (2*S)(DI); \
	VMOVUPS Y11, (3*S)(DI); \
	TURN4(16); \
	VMOVUPS Y8, (4*S)(DI); \
	VMOVUPS Y9, (5*S)(DI); \
	VMOVUPS Y10, (6*S)(DI); \
	VMOVUPS Y11, (7*S)(DI); \
	ADDQ $(8*S), DI; \
	ADDQ $8, R13; \
	SUBQ $8, DX; \
	JGE  eight; \
rest: \
	ADDQ $8, DX; \
	JLE  done; \
one: \
	TURN1; \
	ADDQ $S, DI; \
	INCQ R13; \
	DECQ DX; \
	JNE  one; \
done: \
	VZEROUPPER; \
	RET

// func packT8AVX(dst, src *float32, ld, rows, n int)
TEXT ·packT8AVX(SB), NOSPLIT, $0-40
	TURN(64)

// func packR6AVX(dst, src *float32, ld, rows, n int)
TEXT ·packR6AVX(SB), NOSPLIT, $0-40
	TURN(24)

// func packNAVX(dst, src *float32, ld, panels, n int)
TEXT ·packNAVX(SB), NOSPLIT, $0-40
	MOVQ dst+0(FP), DI
	MOVQ src+8(FP), SI
	MOVQ ld+16(FP), R8
	MOVQ panels+24(FP), R9
	MOVQ n+32(FP), CX
	MOVQ CX, R10
	SHLQ $6, R10
	SHLQ $2, R8
row:
	MOVQ SI, AX
	MOVQ DI, BX
	MOVQ R9, DX
panel:
	VMOVUPS (AX), Y0
	VMOVUPS 32(AX), Y1
	VMOVUPS Y0, (BX)
	VMOVUPS Y1, 32(BX)
	ADDQ $64, AX
	ADDQ R10, BX
	DECQ DX
	JNE  panel
	ADDQ R8, SI
	ADDQ $64, DI
	DECQ CX
	JNE  row
	VZEROUPPER
	RET

// func packA6AVX(dst, src *float32, ld, groups, n int)
TEXT ·packA6AVX(SB), NOSPLIT, $0-40
	MOVQ dst+0(FP), DI
	MOVQ src+8(FP), SI
	MOVQ ld+16(FP), R8
	MOVQ groups+24(FP), R9
	MOVQ n+32(FP), CX
	LEAQ (CX)(CX*2), R10
	SHLQ $3, R10
	SHLQ $2, R8
row:
	MOVQ SI, AX
	MOVQ DI, BX
	MOVQ R9, DX
group:
	MOVUPS (AX), X0
	MOVSD  16(AX), X1
	MOVUPS X0, (BX)
	MOVSD  X1, 16(BX)
	ADDQ $24, AX
	ADDQ R10, BX
	DECQ DX
	JNE  group
	ADDQ R8, SI
	ADDQ $24, DI
	DECQ CX
	JNE  row
	RET

// func fetchAVX(p *float32, ld, rows, lines int)
TEXT ·fetchAVX(SB), NOSPLIT, $0-32
	MOVQ p+0(FP), SI
	MOVQ ld+8(FP), R8
	MOVQ rows+16(FP), CX
	MOVQ lines+24(FP), R9
	SHLQ $2, R8
row:
	MOVQ SI, AX
	MOVQ R9, DX
line:
	PREFETCHT0 (AX)
	ADDQ $64, AX
	DECQ DX
	JNE  line
	ADDQ R8, SI
	DECQ CX
	JNE  row
	RET
