//go:build !noasm

#include "textflag.h"
#include "vector_amd64.h"
#include "attention_amd64.h"

// func lanes12AVX(q, k *float32, ld, n int, out, most *float32, ahead int)
TEXT ·lanes12AVX(SB), NOSPLIT, $0-56
	LANES(ROWS12, SUMS12)

// func lanes8AVX(q, k *float32, ld, n int, out, most *float32, ahead int)
TEXT ·lanes8AVX(SB), NOSPLIT, $0-56
	LANES(ROWS8, SUMS8)

// func lanes4AVX(q, k *float32, ld, n int, out, most *float32, ahead int)
TEXT ·lanes4AVX(SB), NOSPLIT, $0-56
	LANES(ROWS4, SUMS4)

// func lanes1AVX(q, k *float32, ld, n int, out, most *float32, ahead int)
TEXT ·lanes1AVX(SB), NOSPLIT, $0-56
	LANES(ROWS1, SUMS1)

#define EXPROW(o, sum) \
	VMULPS o(DI), Y12, Y8; \
	VSUBPS Y13, Y8, Y8; \
	EXP(Y8, Y9, Y10, Y11); \
	VMOVUPS Y8, o(DI); \
	VADDPS Y8, sum, sum

// func expLanesAVX(x *float32, scale float32, shift, sum *float32, n int)
TEXT ·expLanesAVX(SB), NOSPLIT, $0-40
	MOVQ x+0(FP), DI
	VBROADCASTSS scale+8(FP), Y12
	MOVQ shift+16(FP), SI
	MOVQ sum+24(FP), DX
	MOVQ n+32(FP), CX
	VMOVUPS (SI), Y13
	VXORPS Y0, Y0, Y0
	VXORPS Y1, Y1, Y1
	VXORPS Y2, Y2, Y2
	VXORPS Y3, Y3, Y3
	VXORPS Y4, Y4, Y4
	VXORPS Y5, Y5, Y5
	VXORPS Y6, Y6, Y6
	VXORPS Y7, Y7, Y7
eight:
	EXPROW(0, Y0)
	EXPROW(32, Y1)
	EXPROW(64, Y2)
	EXPROW(96, Y3)
	EXPROW(128, Y4)
	EXPROW(160, Y5)
	EXPROW(192, Y6)
	EXPROW(224, Y7)
	ADDQ $256, DI
	SUBQ $8, CX
	JGT  eight
	VADDPS Y4, Y0, Y0
	VADDPS Y5, Y1, Y1
	VADDPS Y6, Y2, Y2
	VADDPS Y7, Y3, Y3
	VADDPS Y2, Y0, Y0
	VADDPS Y3, Y1, Y1
	VADDPS Y1, Y0, Y0
	VMOVUPS Y0, (DX)
	VZEROUPPER
	RET

// func values3AVX(p, v *float32, ld, n int, out *float32, ldo, ahead int)
TEXT ·values3AVX(SB), NOSPLIT, $0-56
	VALUES(WEIGH3, OUT3)

// func values4AVX(p, v *float32, ld, n int, out *float32, ldo, ahead int)
TEXT ·values4AVX(SB), NOSPLIT, $0-56
	VALUES(WEIGH4, OUT4)

// func values5AVX(p, v *float32, ld, n int, out *float32, ldo, ahead int)
TEXT ·values5AVX(SB), NOSPLIT, $0-56
	VALUES(WEIGH5, OUT5)

// func values6AVX(p, v *float32, ld, n int, out *float32, ldo, ahead int)
TEXT ·values6AVX(SB), NOSPLIT, $0-56
	VALUES(WEIGH6, OUT6)

// func values7AVX(p, v *float32, ld, n int, out *float32, ldo, ahead int)
TEXT ·values7AVX(SB), NOSPLIT, $0-56
	VALUES(WEIGH7, OUT7)
