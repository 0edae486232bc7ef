//go:build !noasm

#include "textflag.h"

// Two channels of 16 segments for query row g, whose two elements are at off.
#define MADD(off, x, y) \
	VPBROADCASTD off(BX), Y2; \
	VPMADDWD Y0, Y2, Y3; \
	VPADDD Y3, x, x; \
	VPMADDWD Y1, Y2, Y3; \
	VPADDD Y3, y, y

// Scales and stores the sums of row g: out at p, its factor at off, its center at c.
#define FINISH(off, c, p0, p1, x, y) \
	VBROADCASTSS off(R9), Y2; \
	VBROADCASTSS c, Y3; \
	VCVTDQ2PS x, x; \
	VCVTDQ2PS y, y; \
	VMULPS Y0, x, x; \
	VMULPS Y1, y, y; \
	VMULPS Y2, x, x; \
	VMULPS Y2, y, y; \
	VADDPS Y3, x, x; \
	VADDPS Y3, y, y; \
	VMOVUPS x, p0; \
	VMOVUPS y, p1

// func scoreSegmentsAVX(out *float32, ld int, q *int16, panels *int8, scales, factor, center *float32, ldc, pairs, n int)
TEXT ·scoreSegmentsAVX(SB), NOSPLIT, $0-80
	MOVQ out+0(FP), DX
	MOVQ ld+8(FP), R11
	MOVQ q+16(FP), SI
	MOVQ panels+24(FP), DI
	MOVQ scales+32(FP), R8
	MOVQ factor+40(FP), R9
	MOVQ center+48(FP), R10
	MOVQ ldc+56(FP), R12
	MOVQ n+72(FP), AX
	SHLQ $2, R11
	SHLQ $2, R12
	LEAQ (R11)(R11*2), R13
	LEAQ (R12)(R12*2), R15
panel:
	MOVQ SI, BX
	MOVQ pairs+64(FP), CX
	VPXOR Y4, Y4, Y4
	VPXOR Y5, Y5, Y5
	VPXOR Y6, Y6, Y6
	VPXOR Y7, Y7, Y7
	VPXOR Y8, Y8, Y8
	VPXOR Y9, Y9, Y9
	VPXOR Y10, Y10, Y10
	VPXOR Y11, Y11, Y11
pair:
	VPMOVSXBW (DI), Y0
	VPMOVSXBW 16(DI), Y1
	MADD(0, Y4, Y5)
	MADD(4, Y6, Y7)
	MADD(8, Y8, Y9)
	MADD(12, Y10, Y11)
	ADDQ $32, DI
	ADDQ $16, BX
	DECQ CX
	JNE  pair
	VMOVUPS (R8), Y0
	VMOVUPS 32(R8), Y1
	FINISH(0, (R10), (DX), 32(DX), Y4, Y5)
	FINISH(4, (R10)(R12*1), (DX)(R11*1), 32(DX)(R11*1), Y6, Y7)
	FINISH(8, (R10)(R12*2), (DX)(R11*2), 32(DX)(R11*2), Y8, Y9)
	FINISH(12, (R10)(R15*1), (DX)(R13*1), 32(DX)(R13*1), Y10, Y11)
	ADDQ $64, R8
	ADDQ $4, R10
	ADDQ $64, DX
	DECQ AX
	JNE  panel
	VZEROUPPER
	RET

// func scaleBytesAVX(dst *float32, q *int8, scale *float32, n int)
TEXT ·scaleBytesAVX(SB), NOSPLIT, $0-32
	MOVQ dst+0(FP), DI
	MOVQ q+8(FP), SI
	MOVQ scale+16(FP), DX
	MOVQ n+24(FP), CX
	XORQ BX, BX
loop:
	VPMOVSXBD (SI)(BX*1), Y0
	VCVTDQ2PS Y0, Y0
	VMULPS (DX)(BX*4), Y0, Y0
	VMOVUPS Y0, (DI)(BX*4)
	ADDQ $8, BX
	CMPQ BX, CX
	JLT loop
	VZEROUPPER
	RET

// func scaleBytesByAVX(dst *float32, q *int8, scale float32, n int)
TEXT ·scaleBytesByAVX(SB), NOSPLIT, $0-32
	MOVQ dst+0(FP), DI
	MOVQ q+8(FP), SI
	VBROADCASTSS scale+16(FP), Y1
	MOVQ n+24(FP), CX
	XORQ BX, BX
loop:
	VPMOVSXBD (SI)(BX*1), Y0
	VCVTDQ2PS Y0, Y0
	VMULPS Y1, Y0, Y0
	VMOVUPS Y0, (DI)(BX*4)
	ADDQ $8, BX
	CMPQ BX, CX
	JLT loop
	VZEROUPPER
	RET

// func widenHalvesAVX(dst *float32, h *uint16, n int)
TEXT ·widenHalvesAVX(SB), NOSPLIT, $0-24
	MOVQ dst+0(FP), DI
	MOVQ h+8(FP), SI
	MOVQ n+16(FP), CX
	XORQ BX, BX
loop:
	VPMOVZXWD (SI)(BX*2), Y0
	VPSLLD $16, Y0, Y0
	VMOVUPS Y0, (DI)(BX*4)
	ADDQ $8, BX
	CMPQ BX, CX
	JLT loop
	VZEROUPPER
	RET
