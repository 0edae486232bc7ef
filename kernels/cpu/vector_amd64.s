//go:build !noasm

#include "textflag.h"

// Constants, each eight times. EXP3..EXP6 are the minimax polynomial of (exp(r)-1-r)/r² over |r| <= ln(2)/2, above its
// 1/2 (relative error of exp 3e-9); ERFC0..ERFC9 that of ln(erfc(z)·exp(z²)/t) in t = 1/(1+z/2) for z >= 0 (6e-8).

#define WIDE(off, x) \
	DATA consts<>+(off)(SB)/8, $x; \
	DATA consts<>+(off+8)(SB)/8, $x; \
	DATA consts<>+(off+16)(SB)/8, $x; \
	DATA consts<>+(off+24)(SB)/8, $x

WIDE(0, 0x42b2000042b20000) // EXPHI 89
WIDE(32, 0xc2d00000c2d00000) // EXPLO -104
WIDE(64, 0x3fb8aa3b3fb8aa3b) // LOG2E 1.44269504
WIDE(96, 0x3f3180003f318000) // LN2HI 0.693359375
WIDE(128, 0xb95e8083b95e8083) // LN2LO -0.00021219444
WIDE(160, 0x3ab6da2f3ab6da2f) // EXP6 0.00139505218
WIDE(192, 0x3c091dbf3c091dbf) // EXP5 0.00836890843
WIDE(224, 0x3d2aaa2f3d2aaa2f) // EXP4 0.041666206
WIDE(256, 0x3e2aaa473e2aaa47) // EXP3 0.166665182
WIDE(288, 0x3f0000003f000000) // HALF 0.5
WIDE(320, 0x3f8000003f800000) // ONE 1
WIDE(352, 0x0000007f0000007f) // BIAS 0x7f
WIDE(384, 0x7fffffff7fffffff) // ABS 0x7fffffff
WIDE(416, 0x3eb504f33eb504f3) // QSQRT2 0.353553391
WIDE(448, 0xbf000000bf000000) // MHALF -0.5
WIDE(480, 0x3ecc422a3ecc422a) // INVSQRT2PI 0.39894228
WIDE(512, 0xbfa1fb86bfa1fb86) // ERFC0 -1.26548839
WIDE(544, 0x3f7fdd593f7fdd59) // ERFC1 0.999471247
WIDE(576, 0x3ec2369e3ec2369e) // ERFC2 0.379322946
WIDE(608, 0x3d8f55be3d8f55be) // ERFC3 0.069987759
WIDE(640, 0xbdd44ca9bdd44ca9) // ERFC4 -0.103661843
WIDE(672, 0x3df290353df29035) // ERFC5 0.118439116
WIDE(704, 0xbf700538bf700538) // ERFC6 -0.937579632
WIDE(736, 0x3fab58313fab5831) // ERFC7 1.33862889
WIDE(768, 0xbf421fe4bf421fe4) // ERFC8 -0.758299112
WIDE(800, 0x3e22ffda3e22ffda) // ERFC9 0.159179121
GLOBL consts<>(SB), RODATA|NOPTR, $832

#define EXPHI consts<>+0(SB)
#define EXPLO consts<>+32(SB)
#define LOG2E consts<>+64(SB)
#define LN2HI consts<>+96(SB)
#define LN2LO consts<>+128(SB)
#define EXP6 consts<>+160(SB)
#define EXP5 consts<>+192(SB)
#define EXP4 consts<>+224(SB)
#define EXP3 consts<>+256(SB)
#define HALF consts<>+288(SB)
#define ONE consts<>+320(SB)
#define BIAS consts<>+352(SB)
#define ABS consts<>+384(SB)
#define QSQRT2 consts<>+416(SB)
#define MHALF consts<>+448(SB)
#define INVSQRT2PI consts<>+480(SB)
#define ERFC0 consts<>+512(SB)
#define ERFC1 consts<>+544(SB)
#define ERFC2 consts<>+576(SB)
#define ERFC3 consts<>+608(SB)
#define ERFC4 consts<>+640(SB)
#define ERFC5 consts<>+672(SB)
#define ERFC6 consts<>+704(SB)
#define ERFC7 consts<>+736(SB)
#define ERFC8 consts<>+768(SB)
#define ERFC9 consts<>+800(SB)

// EXP turns x into exp(x), t, u and v being free. Subnormal results are exact to their last bit or one off; a NaN stays.
#define EXP(x, t, u, v) \
	VMOVUPS EXPHI, t; \
	VMINPS x, t, x; \
	VMOVUPS EXPLO, t; \
	VMAXPS x, t, x; \
	VMULPS LOG2E, x, t; \
	VROUNDPS $0, t, t; \
	VFNMADD231PS LN2HI, t, x; \
	VFNMADD231PS LN2LO, t, x; \
	VMOVUPS EXP6, u; \
	VFMADD213PS EXP5, x, u; \
	VFMADD213PS EXP4, x, u; \
	VFMADD213PS EXP3, x, u; \
	VFMADD213PS HALF, x, u; \
	VMULPS x, x, v; \
	VFMADD213PS x, v, u; \
	VADDPS ONE, u, u; \
	VCVTPS2DQ t, t; \
	VPSRAD $1, t, v; \
	VPSUBD v, t, t; \
	VPADDD BIAS, v, v; \
	VPSLLD $23, v, v; \
	VPADDD BIAS, t, t; \
	VPSLLD $23, t, t; \
	VMULPS v, u, u; \
	VMULPS t, u, x

// PHI sets p to the normal distribution function of x, a, t, u and v being free.
#define PHI(x, p, a, t, u, v) \
	VANDPS ABS, x, a; \
	VMOVUPS ONE, t; \
	VFMADD231PS QSQRT2, a, t; \
	VMOVUPS ONE, u; \
	VDIVPS t, u, a; \
	VMOVUPS ERFC9, p; \
	VFMADD213PS ERFC8, a, p; \
	VFMADD213PS ERFC7, a, p; \
	VFMADD213PS ERFC6, a, p; \
	VFMADD213PS ERFC5, a, p; \
	VFMADD213PS ERFC4, a, p; \
	VFMADD213PS ERFC3, a, p; \
	VFMADD213PS ERFC2, a, p; \
	VFMADD213PS ERFC1, a, p; \
	VFMADD213PS ERFC0, a, p; \
	VMULPS MHALF, x, u; \
	VFMADD231PS x, u, p; \
	EXP(p, t, u, v); \
	VMULPS HALF, a, a; \
	VMULPS a, p, p; \
	VMOVUPS ONE, t; \
	VSUBPS p, t, t; \
	VBLENDVPS x, p, t, p

// SUM8 leaves the sum of the eight lanes of the register y (whose low half is x) in X0.
#define SUM8(y, x) \
	VEXTRACTF128 $1, y, X0; \
	VADDPS x, X0, X0; \
	VPERMILPS $0x4e, X0, X1; \
	VADDPS X1, X0, X0; \
	VPERMILPS $0xb1, X0, X1; \
	VADDPS X1, X0, X0

// func addAVX(out, a, b *float32, n int)
TEXT ·addAVX(SB), NOSPLIT, $0-32
	MOVQ out+0(FP), DI
	MOVQ a+8(FP), SI
	MOVQ b+16(FP), DX
	MOVQ n+24(FP), CX
	SHLQ $2, CX
	XORQ BX, BX
loop:
	VMOVUPS (SI)(BX*1), Y0
	VADDPS (DX)(BX*1), Y0, Y0
	VMOVUPS Y0, (DI)(BX*1)
	ADDQ $32, BX
	CMPQ BX, CX
	JLT loop
	VZEROUPPER
	RET

// func mulAddAVX(y, x *float32, alpha float32, n int)
TEXT ·mulAddAVX(SB), NOSPLIT, $0-32
	MOVQ y+0(FP), DI
	MOVQ x+8(FP), SI
	VBROADCASTSS alpha+16(FP), Y8
	MOVQ n+24(FP), CX
	SHLQ $2, CX
	XORQ BX, BX
loop:
	VMOVUPS (DI)(BX*1), Y0
	VFMADD231PS (SI)(BX*1), Y8, Y0
	VMOVUPS Y0, (DI)(BX*1)
	ADDQ $32, BX
	CMPQ BX, CX
	JLT loop
	VZEROUPPER
	RET

// func scaleAVX(y, x *float32, alpha float32, n int)
TEXT ·scaleAVX(SB), NOSPLIT, $0-32
	MOVQ y+0(FP), DI
	MOVQ x+8(FP), SI
	VBROADCASTSS alpha+16(FP), Y8
	MOVQ n+24(FP), CX
	SHLQ $2, CX
	XORQ BX, BX
loop:
	VMULPS (SI)(BX*1), Y8, Y0
	VMOVUPS Y0, (DI)(BX*1)
	ADDQ $32, BX
	CMPQ BX, CX
	JLT loop
	VZEROUPPER
	RET

// func reluAVX(out, x *float32, n int)
TEXT ·reluAVX(SB), NOSPLIT, $0-24
	MOVQ out+0(FP), DI
	MOVQ x+8(FP), SI
	MOVQ n+16(FP), CX
	VXORPS Y1, Y1, Y1
	SHLQ $2, CX
	XORQ BX, BX
loop:
	VMAXPS (SI)(BX*1), Y1, Y0
	VMOVUPS Y0, (DI)(BX*1)
	ADDQ $32, BX
	CMPQ BX, CX
	JLT loop
	VZEROUPPER
	RET

// func reluBackAVX(dx, dy, y *float32, n int)
TEXT ·reluBackAVX(SB), NOSPLIT, $0-32
	MOVQ dx+0(FP), DI
	MOVQ dy+8(FP), SI
	MOVQ y+16(FP), DX
	MOVQ n+24(FP), CX
	VXORPS Y1, Y1, Y1
	SHLQ $2, CX
	XORQ BX, BX
loop:
	VMOVUPS (DX)(BX*1), Y0
	VCMPPS $0x1e, Y1, Y0, Y0
	VANDPS (SI)(BX*1), Y0, Y0
	VMOVUPS Y0, (DI)(BX*1)
	ADDQ $32, BX
	CMPQ BX, CX
	JLT loop
	VZEROUPPER
	RET

// func geluAVX(out, x *float32, n int)
TEXT ·geluAVX(SB), NOSPLIT, $0-24
	MOVQ out+0(FP), DI
	MOVQ x+8(FP), SI
	MOVQ n+16(FP), CX
	SHLQ $2, CX
	XORQ BX, BX
loop:
	VMOVUPS (SI)(BX*1), Y0
	PHI(Y0, Y1, Y2, Y3, Y4, Y5)
	VMULPS Y1, Y0, Y0
	VMOVUPS Y0, (DI)(BX*1)
	ADDQ $32, BX
	CMPQ BX, CX
	JLT loop
	VZEROUPPER
	RET

// func geluBackAVX(dx, dy, x *float32, n int)
TEXT ·geluBackAVX(SB), NOSPLIT, $0-32
	MOVQ dx+0(FP), DI
	MOVQ dy+8(FP), SI
	MOVQ x+16(FP), DX
	MOVQ n+24(FP), CX
	SHLQ $2, CX
	XORQ BX, BX
loop:
	VMOVUPS (DX)(BX*1), Y0
	PHI(Y0, Y1, Y2, Y3, Y4, Y5)
	VMULPS MHALF, Y0, Y6
	VMULPS Y0, Y6, Y6
	EXP(Y6, Y3, Y4, Y5)
	VMULPS INVSQRT2PI, Y6, Y6
	VFMADD231PS Y0, Y6, Y1
	VMULPS (SI)(BX*1), Y1, Y1
	VMOVUPS Y1, (DI)(BX*1)
	ADDQ $32, BX
	CMPQ BX, CX
	JLT loop
	VZEROUPPER
	RET

// func swigluAVX(out, gate, up *float32, n int)
TEXT ·swigluAVX(SB), NOSPLIT, $0-32
	MOVQ out+0(FP), DI
	MOVQ gate+8(FP), SI
	MOVQ up+16(FP), DX
	MOVQ n+24(FP), CX
	VXORPS Y7, Y7, Y7
	SHLQ $2, CX
	XORQ BX, BX
loop:
	VMOVUPS (SI)(BX*1), Y0
	VSUBPS Y0, Y7, Y1
	EXP(Y1, Y3, Y4, Y5)
	VADDPS ONE, Y1, Y1
	VDIVPS Y1, Y0, Y0
	VMULPS (DX)(BX*1), Y0, Y0
	VMOVUPS Y0, (DI)(BX*1)
	ADDQ $32, BX
	CMPQ BX, CX
	JLT loop
	VZEROUPPER
	RET

// func swigluBackAVX(dGate, dUp, dOut, gate, up *float32, n int)
TEXT ·swigluBackAVX(SB), NOSPLIT, $0-48
	MOVQ dGate+0(FP), DI
	MOVQ dUp+8(FP), SI
	MOVQ dOut+16(FP), DX
	MOVQ gate+24(FP), R8
	MOVQ up+32(FP), R9
	MOVQ n+40(FP), CX
	VXORPS Y7, Y7, Y7
	VMOVUPS ONE, Y6
	SHLQ $2, CX
	XORQ BX, BX
loop:
	VMOVUPS (R8)(BX*1), Y0
	VSUBPS Y0, Y7, Y1
	EXP(Y1, Y3, Y4, Y5)
	VADDPS Y6, Y1, Y1
	VDIVPS Y1, Y6, Y1
	VSUBPS Y1, Y6, Y2
	VMOVUPS Y6, Y3
	VFMADD231PS Y2, Y0, Y3
	VMULPS Y1, Y3, Y3
	VMOVUPS (DX)(BX*1), Y4
	VMULPS Y1, Y0, Y0
	VMULPS Y4, Y0, Y0
	VMULPS (R9)(BX*1), Y4, Y4
	VMULPS Y3, Y4, Y4
	VMOVUPS Y4, (DI)(BX*1)
	VMOVUPS Y0, (SI)(BX*1)
	ADDQ $32, BX
	CMPQ BX, CX
	JLT loop
	VZEROUPPER
	RET

// func expSumAVX(x *float32, scale, shift float32, n int) (ret float32)
TEXT ·expSumAVX(SB), NOSPLIT, $0-28
	MOVQ x+0(FP), DI
	VBROADCASTSS scale+8(FP), Y8
	VBROADCASTSS shift+12(FP), Y9
	MOVQ n+16(FP), CX
	VXORPS Y6, Y6, Y6
	SHLQ $2, CX
	XORQ BX, BX
loop:
	VMULPS (DI)(BX*1), Y8, Y0
	VSUBPS Y9, Y0, Y0
	EXP(Y0, Y3, Y4, Y5)
	VMOVUPS Y0, (DI)(BX*1)
	VADDPS Y0, Y6, Y6
	ADDQ $32, BX
	CMPQ BX, CX
	JLT loop
	SUM8(Y6, X6)
	VMOVSS X0, ret+24(FP)
	VZEROUPPER
	RET

// func maxAVX(x *float32, n int) (ret float32)
TEXT ·maxAVX(SB), NOSPLIT, $0-20
	MOVQ x+0(FP), DI
	MOVQ n+8(FP), CX
	VMOVUPS (DI), Y6
	SHLQ $2, CX
	XORQ BX, BX
loop:
	VMOVUPS (DI)(BX*1), Y0
	VMAXPS Y6, Y0, Y6
	ADDQ $32, BX
	CMPQ BX, CX
	JLT loop
	VEXTRACTF128 $1, Y6, X0
	VMAXPS X6, X0, X0
	VPERMILPS $0x4e, X0, X1
	VMAXPS X1, X0, X0
	VPERMILPS $0xb1, X0, X1
	VMAXPS X1, X0, X0
	VMOVSS X0, ret+16(FP)
	VZEROUPPER
	RET

// func sumAVX(x *float32, n int) (ret float32)
TEXT ·sumAVX(SB), NOSPLIT, $0-20
	MOVQ x+0(FP), DI
	MOVQ n+8(FP), CX
	VXORPS Y6, Y6, Y6
	SHLQ $2, CX
	XORQ BX, BX
loop:
	VADDPS (DI)(BX*1), Y6, Y6
	ADDQ $32, BX
	CMPQ BX, CX
	JLT loop
	SUM8(Y6, X6)
	VMOVSS X0, ret+16(FP)
	VZEROUPPER
	RET

// func dotAVX(a, b *float32, n int) (ret float32)
TEXT ·dotAVX(SB), NOSPLIT, $0-28
	MOVQ a+0(FP), DI
	MOVQ b+8(FP), SI
	MOVQ n+16(FP), CX
	VXORPS Y6, Y6, Y6
	SHLQ $2, CX
	XORQ BX, BX
loop:
	VMOVUPS (DI)(BX*1), Y0
	VFMADD231PS (SI)(BX*1), Y0, Y6
	ADDQ $32, BX
	CMPQ BX, CX
	JLT loop
	SUM8(Y6, X6)
	VMOVSS X0, ret+24(FP)
	VZEROUPPER
	RET

// func spreadAVX(x *float32, mean float32, n int) (ret float32)
TEXT ·spreadAVX(SB), NOSPLIT, $0-28
	MOVQ x+0(FP), DI
	VBROADCASTSS mean+8(FP), Y8
	MOVQ n+16(FP), CX
	VXORPS Y6, Y6, Y6
	SHLQ $2, CX
	XORQ BX, BX
loop:
	VMOVUPS (DI)(BX*1), Y0
	VSUBPS Y8, Y0, Y0
	VFMADD231PS Y0, Y0, Y6
	ADDQ $32, BX
	CMPQ BX, CX
	JLT loop
	SUM8(Y6, X6)
	VMOVSS X0, ret+24(FP)
	VZEROUPPER
	RET

// func normAVX(out, x, w *float32, mean, rstd float32, n int)
TEXT ·normAVX(SB), NOSPLIT, $0-40
	MOVQ out+0(FP), DI
	MOVQ x+8(FP), SI
	MOVQ w+16(FP), DX
	VBROADCASTSS mean+24(FP), Y8
	VBROADCASTSS rstd+28(FP), Y9
	MOVQ n+32(FP), CX
	SHLQ $2, CX
	XORQ BX, BX
loop:
	VMOVUPS (SI)(BX*1), Y0
	VSUBPS Y8, Y0, Y0
	VMULPS Y9, Y0, Y0
	VMULPS (DX)(BX*1), Y0, Y0
	VMOVUPS Y0, (DI)(BX*1)
	ADDQ $32, BX
	CMPQ BX, CX
	JLT loop
	VZEROUPPER
	RET

// func normBiasAVX(out, x, w, b *float32, mean, rstd float32, n int)
TEXT ·normBiasAVX(SB), NOSPLIT, $0-48
	MOVQ out+0(FP), DI
	MOVQ x+8(FP), SI
	MOVQ w+16(FP), DX
	MOVQ b+24(FP), R8
	VBROADCASTSS mean+32(FP), Y8
	VBROADCASTSS rstd+36(FP), Y9
	MOVQ n+40(FP), CX
	SHLQ $2, CX
	XORQ BX, BX
loop:
	VMOVUPS (SI)(BX*1), Y0
	VSUBPS Y8, Y0, Y0
	VMULPS Y9, Y0, Y0
	VMOVUPS (DX)(BX*1), Y1
	VFMADD213PS (R8)(BX*1), Y1, Y0
	VMOVUPS Y0, (DI)(BX*1)
	ADDQ $32, BX
	CMPQ BX, CX
	JLT loop
	VZEROUPPER
	RET

// func normSumsAVX(dy, x, w *float32, mean, rstd float32, n int) (sum float32, proj float32)
TEXT ·normSumsAVX(SB), NOSPLIT, $0-48
	MOVQ dy+0(FP), DI
	MOVQ x+8(FP), SI
	MOVQ w+16(FP), DX
	VBROADCASTSS mean+24(FP), Y8
	VBROADCASTSS rstd+28(FP), Y9
	MOVQ n+32(FP), CX
	VXORPS Y6, Y6, Y6
	VXORPS Y7, Y7, Y7
	SHLQ $2, CX
	XORQ BX, BX
loop:
	VMOVUPS (DI)(BX*1), Y0
	VMULPS (DX)(BX*1), Y0, Y0
	VMOVUPS (SI)(BX*1), Y1
	VSUBPS Y8, Y1, Y1
	VMULPS Y9, Y1, Y1
	VADDPS Y0, Y6, Y6
	VFMADD231PS Y0, Y1, Y7
	ADDQ $32, BX
	CMPQ BX, CX
	JLT loop
	SUM8(Y6, X6)
	VMOVSS X0, sum+40(FP)
	SUM8(Y7, X7)
	VMOVSS X0, proj+44(FP)
	VZEROUPPER
	RET

// func normBackXAVX(dx, dy, x, w *float32, mean, rstd, avg, proj float32, n int)
TEXT ·normBackXAVX(SB), NOSPLIT, $0-56
	MOVQ dx+0(FP), DI
	MOVQ dy+8(FP), SI
	MOVQ x+16(FP), DX
	MOVQ w+24(FP), R8
	VBROADCASTSS mean+32(FP), Y8
	VBROADCASTSS rstd+36(FP), Y9
	VBROADCASTSS avg+40(FP), Y10
	VBROADCASTSS proj+44(FP), Y11
	MOVQ n+48(FP), CX
	SHLQ $2, CX
	XORQ BX, BX
loop:
	VMOVUPS (SI)(BX*1), Y0
	VMULPS (R8)(BX*1), Y0, Y0
	VSUBPS Y10, Y0, Y0
	VMOVUPS (DX)(BX*1), Y1
	VSUBPS Y8, Y1, Y1
	VMULPS Y9, Y1, Y1
	VFNMADD231PS Y1, Y11, Y0
	VMULPS Y9, Y0, Y0
	VMOVUPS Y0, (DI)(BX*1)
	ADDQ $32, BX
	CMPQ BX, CX
	JLT loop
	VZEROUPPER
	RET

// func normBackWAVX(dw, dy, x *float32, mean, rstd float32, n int)
TEXT ·normBackWAVX(SB), NOSPLIT, $0-40
	MOVQ dw+0(FP), DI
	MOVQ dy+8(FP), SI
	MOVQ x+16(FP), DX
	VBROADCASTSS mean+24(FP), Y8
	VBROADCASTSS rstd+28(FP), Y9
	MOVQ n+32(FP), CX
	SHLQ $2, CX
	XORQ BX, BX
loop:
	VMOVUPS (DX)(BX*1), Y1
	VSUBPS Y8, Y1, Y1
	VMULPS Y9, Y1, Y1
	VMOVUPS (DI)(BX*1), Y0
	VFMADD231PS (SI)(BX*1), Y1, Y0
	VMOVUPS Y0, (DI)(BX*1)
	ADDQ $32, BX
	CMPQ BX, CX
	JLT loop
	VZEROUPPER
	RET

// func slopeAVX(p, dp *float32, delta, scale float32, n int)
TEXT ·slopeAVX(SB), NOSPLIT, $0-32
	MOVQ p+0(FP), DI
	MOVQ dp+8(FP), SI
	VBROADCASTSS delta+16(FP), Y8
	VBROADCASTSS scale+20(FP), Y9
	MOVQ n+24(FP), CX
	SHLQ $2, CX
	XORQ BX, BX
loop:
	VMOVUPS (SI)(BX*1), Y0
	VSUBPS Y8, Y0, Y0
	VMULPS (DI)(BX*1), Y0, Y0
	VMULPS Y9, Y0, Y0
	VMOVUPS Y0, (SI)(BX*1)
	ADDQ $32, BX
	CMPQ BX, CX
	JLT loop
	VZEROUPPER
	RET

// func turnAVX(re, im, a, b, cos, sin *float32, n int)
TEXT ·turnAVX(SB), NOSPLIT, $0-56
	MOVQ re+0(FP), DI
	MOVQ im+8(FP), SI
	MOVQ a+16(FP), DX
	MOVQ b+24(FP), R8
	MOVQ cos+32(FP), R9
	MOVQ sin+40(FP), R10
	MOVQ n+48(FP), CX
	SHLQ $2, CX
	XORQ BX, BX
loop:
	VMOVUPS (DX)(BX*1), Y0
	VMOVUPS (R8)(BX*1), Y1
	VMOVUPS (R9)(BX*1), Y2
	VMOVUPS (R10)(BX*1), Y3
	VMULPS Y2, Y0, Y4
	VFNMADD231PS Y3, Y1, Y4
	VMULPS Y2, Y1, Y5
	VFMADD231PS Y3, Y0, Y5
	VMOVUPS Y4, (DI)(BX*1)
	VMOVUPS Y5, (SI)(BX*1)
	ADDQ $32, BX
	CMPQ BX, CX
	JLT loop
	VZEROUPPER
	RET

// func adamwAVX(w, m, v, grad *float32, scale, decay, b1, c1, b2, c2, step, root, eps float32, n int)
TEXT ·adamwAVX(SB), NOSPLIT, $0-80
	MOVQ w+0(FP), DI
	MOVQ m+8(FP), SI
	MOVQ v+16(FP), DX
	MOVQ grad+24(FP), R8
	VBROADCASTSS scale+32(FP), Y8
	VBROADCASTSS decay+36(FP), Y9
	VBROADCASTSS b1+40(FP), Y10
	VBROADCASTSS c1+44(FP), Y11
	VBROADCASTSS b2+48(FP), Y12
	VBROADCASTSS c2+52(FP), Y13
	VBROADCASTSS step+56(FP), Y14
	VBROADCASTSS root+60(FP), Y15
	VBROADCASTSS eps+64(FP), Y7
	MOVQ n+72(FP), CX
	SHLQ $2, CX
	XORQ BX, BX
loop:
	VMULPS (R8)(BX*1), Y8, Y0
	VMULPS (SI)(BX*1), Y10, Y1
	VFMADD231PS Y0, Y11, Y1
	VMOVUPS Y1, (SI)(BX*1)
	VMULPS Y0, Y0, Y0
	VMULPS (DX)(BX*1), Y12, Y2
	VFMADD231PS Y0, Y13, Y2
	VMOVUPS Y2, (DX)(BX*1)
	VSQRTPS Y2, Y2
	VFMADD213PS Y7, Y15, Y2
	VMULPS Y1, Y14, Y1
	VDIVPS Y2, Y1, Y1
	VMULPS (DI)(BX*1), Y9, Y0
	VSUBPS Y1, Y0, Y0
	VMOVUPS Y0, (DI)(BX*1)
	ADDQ $32, BX
	CMPQ BX, CX
	JLT loop
	VZEROUPPER
	RET

// func sumSquaresAVX(x *float32, n int) (ret float64)
TEXT ·sumSquaresAVX(SB), NOSPLIT, $0-24
	MOVQ x+0(FP), DI
	MOVQ n+8(FP), CX
	VXORPD Y6, Y6, Y6
	VXORPD Y7, Y7, Y7
	SHLQ $2, CX
	XORQ BX, BX
loop:
	VCVTPS2PD (DI)(BX*1), Y0
	VCVTPS2PD 16(DI)(BX*1), Y1
	VFMADD231PD Y0, Y0, Y6
	VFMADD231PD Y1, Y1, Y7
	ADDQ $32, BX
	CMPQ BX, CX
	JLT loop
	VADDPD Y7, Y6, Y6
	VEXTRACTF128 $1, Y6, X0
	VADDPD X6, X0, X0
	VPERMILPD $1, X0, X1
	VADDPD X1, X0, X0
	VMOVSD X0, ret+16(FP)
	VZEROUPPER
	RET
