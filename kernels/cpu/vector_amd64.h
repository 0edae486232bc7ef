// Constants and steps that the loops of this package share. The values are in vector_amd64.s.

#define EXPHI ·consts+0(SB)
#define EXPLO ·consts+32(SB)
#define LOG2E ·consts+64(SB)
#define LN2HI ·consts+96(SB)
#define LN2LO ·consts+128(SB)
#define EXP6 ·consts+160(SB)
#define EXP5 ·consts+192(SB)
#define EXP4 ·consts+224(SB)
#define EXP3 ·consts+256(SB)
#define HALF ·consts+288(SB)
#define ONE ·consts+320(SB)
#define BIAS ·consts+352(SB)
#define ABS ·consts+384(SB)
#define QSQRT2 ·consts+416(SB)
#define MHALF ·consts+448(SB)
#define INVSQRT2PI ·consts+480(SB)
#define ERFC0 ·consts+512(SB)
#define ERFC1 ·consts+544(SB)
#define ERFC2 ·consts+576(SB)
#define ERFC3 ·consts+608(SB)
#define ERFC4 ·consts+640(SB)
#define ERFC5 ·consts+672(SB)
#define ERFC6 ·consts+704(SB)
#define ERFC7 ·consts+736(SB)
#define ERFC8 ·consts+768(SB)
#define ERFC9 ·consts+800(SB)
#define GELUFAR ·consts+832(SB)
#define GELUNEAR ·consts+864(SB)
#define MGELUC ·consts+896(SB)
#define MGELUC3 ·consts+928(SB)
#define GELUC ·consts+960(SB)
#define GELUC9 ·consts+992(SB)
#define MAXFLT ·consts+1024(SB)

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

// GATE sets s to sigmoid(z) for z = GELUC·x + GELUC9/3·x³, by which the tanh form of GELU multiplies x, c to x where s is
// neither 0 nor 1 and e to exp(-z), t, u and v being free. A NaN stays.
#define GATE(x, c, s, e, t, u, v) \
	VMOVUPS GELUFAR, t; \
	VMINPS x, t, c; \
	VMOVUPS GELUNEAR, t; \
	VMAXPS c, t, c; \
	VMULPS c, c, s; \
	VMOVUPS MGELUC3, t; \
	VFMADD213PS MGELUC, s, t; \
	VMULPS t, c, e; \
	EXP(e, t, u, v); \
	VADDPS ONE, e, s; \
	VMOVUPS ONE, t; \
	VDIVPS s, t, s

// GATESLOPE sets e to the derivative of x·sigmoid(z) from what GATE left, t and u being free: s + c·s·(1-s)·dz/dx, where
// 1-s is e·s.
#define GATESLOPE(c, s, e, t, u) \
	VMINPS MAXFLT, e, e; \
	VMULPS s, e, e; \
	VMULPS s, e, e; \
	VMULPS c, e, e; \
	VMULPS c, c, t; \
	VMOVUPS GELUC9, u; \
	VFMADD213PS GELUC, t, u; \
	VFMADD213PS s, u, e

// SUM8 leaves the sum of the eight lanes of the register y (whose low half is x) in X0.
#define SUM8(y, x) \
	VEXTRACTF128 $1, y, X0; \
	VADDPS x, X0, X0; \
	VPERMILPS $0x4e, X0, X1; \
	VADDPS X1, X0, X0; \
	VPERMILPS $0xb1, X0, X1; \
	VADDPS X1, X0, X0
