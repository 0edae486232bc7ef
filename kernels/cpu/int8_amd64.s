//go:build !noasm

#include "textflag.h"
#include "vector_amd64.h"

// MAXBITS raises Y8 to the magnitudes of x, which compare as integers: a NaN above infinity above all numbers.
#define MAXBITS(x) \
	VPAND Y15, x, Y9; \
	VPMAXUD Y9, Y8, Y8

// ROUND16 stores 16 elements, scaled by Y12, as integers.
#define ROUND16(x, y, o) \
	VMULPS Y12, x, x; \
	VMULPS Y12, y, y; \
	VCVTPS2DQ x, x; \
	VCVTPS2DQ y, y; \
	VPACKSSDW y, x, x; \
	VPERMQ $0xd8, x, x; \
	VMOVDQU x, o(DI)

#define ZERO128 \
	VPXOR Y0, Y0, Y0; \
	VMOVDQU Y0, (DI); \
	VMOVDQU Y0, 32(DI); \
	VMOVDQU Y0, 64(DI); \
	VMOVDQU Y0, 96(DI)

// func quantizeAVX(q *int16, scales, x *float32, blocks int)
TEXT ·quantizeAVX(SB), NOSPLIT, $0-32
	MOVQ q+0(FP), DI
	MOVQ scales+8(FP), DX
	MOVQ x+16(FP), SI
	MOVQ blocks+24(FP), CX
	VMOVUPS ABS, Y15
	MOVL $0x42fe0000, AX // 127
	VMOVD AX, X10
block:
	VMOVUPS (SI), Y0
	VMOVUPS 32(SI), Y1
	VMOVUPS 64(SI), Y2
	VMOVUPS 96(SI), Y3
	VMOVUPS 128(SI), Y4
	VMOVUPS 160(SI), Y5
	VMOVUPS 192(SI), Y6
	VMOVUPS 224(SI), Y7
	VPAND Y15, Y0, Y8
	MAXBITS(Y1)
	MAXBITS(Y2)
	MAXBITS(Y3)
	MAXBITS(Y4)
	MAXBITS(Y5)
	MAXBITS(Y6)
	MAXBITS(Y7)
	VEXTRACTI128 $1, Y8, X9
	VPMAXUD X9, X8, X8
	VPSHUFD $0x4e, X8, X9
	VPMAXUD X9, X8, X8
	VPSHUFD $0xb1, X8, X9
	VPMAXUD X9, X8, X8
	VMOVD X8, AX
	CMPL AX, $0x7f800000
	JCC  infinite
	CMPL AX, $0x08800000 // tinyBlock
	JCS  tiny
	VDIVSS X10, X8, X11
	VMOVSS X11, (DX)
	VDIVSS X8, X10, X12
	VBROADCASTSS X12, Y12
	ROUND16(Y0, Y1, 0)
	ROUND16(Y2, Y3, 32)
	ROUND16(Y4, Y5, 64)
	ROUND16(Y6, Y7, 96)
next:
	ADDQ $256, SI
	ADDQ $128, DI
	ADDQ $4, DX
	DECQ CX
	JNE  block
	VZEROUPPER
	RET
infinite:
	MOVL $0x7fc00000, (DX)
	ZERO128
	JMP  next
tiny:
	MOVL $0, (DX)
	ZERO128
	JMP  next

// BLOCK4 adds to sum the products of a block of a row of w, which it widens, with Y4..Y7, scaled by Y14. Two terms go to
// each of 8 lanes four times: they stay below 2^18, so that nothing overflows and the conversion is exact.
#define BLOCK4(p0, p1, p2, p3, sum) \
	VPMOVSXBW p0, Y8; \
	VPMOVSXBW p1, Y9; \
	VPMOVSXBW p2, Y10; \
	VPMOVSXBW p3, Y11; \
	VPMADDWD Y4, Y8, Y8; \
	VPMADDWD Y5, Y9, Y9; \
	VPMADDWD Y6, Y10, Y10; \
	VPMADDWD Y7, Y11, Y11; \
	VPADDD Y9, Y8, Y8; \
	VPADDD Y11, Y10, Y10; \
	VPADDD Y10, Y8, Y8; \
	VCVTDQ2PS Y8, Y8; \
	VFMADD231PS Y14, Y8, sum

// HSUM4 leaves the sums of the lanes of Y0..Y3 in X8.
#define HSUM4 \
	VHADDPS Y1, Y0, Y8; \
	VHADDPS Y3, Y2, Y9; \
	VHADDPS Y9, Y8, Y8; \
	VEXTRACTF128 $1, Y8, X9; \
	VADDPS X9, X8, X8

#define ZERO4 \
	VXORPS Y0, Y0, Y0; \
	VXORPS Y1, Y1, Y1; \
	VXORPS Y2, Y2, Y2; \
	VXORPS Y3, Y3, Y3

// func dotRows4AVX(out *float32, w *int8, ld int, ws *float32, groups int, x *int16, xs *float32, blocks int)
TEXT ·dotRows4AVX(SB), NOSPLIT, $0-64
	MOVQ out+0(FP), DI
	MOVQ w+8(FP), SI
	MOVQ ws+24(FP), R10
	MOVQ groups+32(FP), R11
	MOVQ ld+16(FP), R8
	IMULQ R11, R8
	LEAQ (R8)(R8*2), R9
	LEAQ (R11*4), R12
	LEAQ (R12)(R12*2), R15
group:
	MOVQ x+40(FP), BX
	MOVQ xs+48(FP), DX
	MOVQ blocks+56(FP), CX
	MOVQ SI, AX
	LEAQ 1024(SI), R13
	ZERO4
block:
	PREFETCHT0 (R13)
	PREFETCHT0 (R13)(R8*1)
	PREFETCHT0 (R13)(R8*2)
	PREFETCHT0 (R13)(R9*1)
	VMOVDQU (BX), Y4
	VMOVDQU 32(BX), Y5
	VMOVDQU 64(BX), Y6
	VMOVDQU 96(BX), Y7
	VBROADCASTSS (DX), Y14
	BLOCK4((AX), 16(AX), 32(AX), 48(AX), Y0)
	BLOCK4((AX)(R8*1), 16(AX)(R8*1), 32(AX)(R8*1), 48(AX)(R8*1), Y1)
	BLOCK4((AX)(R8*2), 16(AX)(R8*2), 32(AX)(R8*2), 48(AX)(R8*2), Y2)
	BLOCK4((AX)(R9*1), 16(AX)(R9*1), 32(AX)(R9*1), 48(AX)(R9*1), Y3)
	ADDQ $64, AX
	ADDQ $64, R13
	ADDQ $128, BX
	ADDQ $4, DX
	DECQ CX
	JNE  block
	HSUM4
	VMOVSS (R10), X9
	VINSERTPS $0x10, (R10)(R12*1), X9, X9
	VINSERTPS $0x20, (R10)(R12*2), X9, X9
	VINSERTPS $0x30, (R10)(R15*1), X9, X9
	VMULPS X9, X8, X8
	VMOVSS X8, (DI)
	VEXTRACTPS $1, X8, (DI)(R12*1)
	VEXTRACTPS $2, X8, (DI)(R12*2)
	VEXTRACTPS $3, X8, (DI)(R15*1)
	ADDQ ld+16(FP), SI
	ADDQ $4, R10
	ADDQ $4, DI
	DECQ R11
	JNE  group
	VZEROUPPER
	RET

// ROWX adds to sum the products of a row of x with the block of w in Y4..Y7.
#define ROWX(p0, p1, p2, p3, s, sum) \
	VPMADDWD p0, Y4, Y8; \
	VPMADDWD p1, Y5, Y9; \
	VPMADDWD p2, Y6, Y10; \
	VPMADDWD p3, Y7, Y11; \
	VPADDD Y9, Y8, Y8; \
	VPADDD Y11, Y10, Y10; \
	VPADDD Y10, Y8, Y8; \
	VCVTDQ2PS Y8, Y8; \
	VBROADCASTSS s, Y12; \
	VFMADD231PS Y12, Y8, sum

// func dotCols4AVX(out *float32, ldo int, w *int8, ld int, ws *float32, rows int, x *int16, ldx int, xs *float32, lds, blocks int)
TEXT ·dotCols4AVX(SB), NOSPLIT, $0-88
	MOVQ out+0(FP), DI
	MOVQ ldo+8(FP), R10
	MOVQ w+16(FP), SI
	MOVQ ws+32(FP), R9
	MOVQ ldx+56(FP), R12
	MOVQ lds+72(FP), R15
	SHLQ $2, R10
	LEAQ (R10)(R10*2), R11
	SHLQ $1, R12
	LEAQ (R12)(R12*2), R13
	SHLQ $2, R15
	LEAQ (R15)(R15*2), AX
row:
	MOVQ x+48(FP), BX
	MOVQ xs+64(FP), DX
	MOVQ blocks+80(FP), CX
	MOVQ SI, R8
	ZERO4
block:
	PREFETCHT0 2048(R8)
	VPMOVSXBW (R8), Y4
	VPMOVSXBW 16(R8), Y5
	VPMOVSXBW 32(R8), Y6
	VPMOVSXBW 48(R8), Y7
	ROWX((BX), 32(BX), 64(BX), 96(BX), (DX), Y0)
	ROWX((BX)(R12*1), 32(BX)(R12*1), 64(BX)(R12*1), 96(BX)(R12*1), (DX)(R15*1), Y1)
	ROWX((BX)(R12*2), 32(BX)(R12*2), 64(BX)(R12*2), 96(BX)(R12*2), (DX)(R15*2), Y2)
	ROWX((BX)(R13*1), 32(BX)(R13*1), 64(BX)(R13*1), 96(BX)(R13*1), (DX)(AX*1), Y3)
	ADDQ $64, R8
	ADDQ $128, BX
	ADDQ $4, DX
	DECQ CX
	JNE  block
	HSUM4
	VBROADCASTSS (R9), X9
	VMULPS X9, X8, X8
	VMOVSS X8, (DI)
	VEXTRACTPS $1, X8, (DI)(R10*1)
	VEXTRACTPS $2, X8, (DI)(R10*2)
	VEXTRACTPS $3, X8, (DI)(R11*1)
	ADDQ ld+24(FP), SI
	ADDQ $4, R9
	ADDQ $4, DI
	DECQ rows+40(FP)
	JNE  row
	VZEROUPPER
	RET
