//go:build !noasm

#include "textflag.h"
#include "vector_amd64.h"

// MAX8 leaves the largest lane of the register y (whose low half is x) in X0.
#define MAX8(y, x) \
	VEXTRACTF128 $1, y, X0; \
	VMAXPS x, X0, X0; \
	VPERMILPS $0x4e, X0, X1; \
	VMAXPS X1, X0, X0; \
	VPERMILPS $0xb1, X0, X1; \
	VMAXPS X1, X0, X0

// func topBoundsAVX(z, radius, norm, bias *float32, n int, slack *[4]float32, r *topRange) (small int)
TEXT ·topBoundsAVX(SB), NOSPLIT, $0-64
	MOVQ z+0(FP), SI
	MOVQ radius+8(FP), R8
	MOVQ norm+16(FP), R9
	MOVQ bias+24(FP), R10
	MOVQ n+32(FP), CX
	MOVQ slack+40(FP), DX
	MOVQ r+48(FP), DI
	VBROADCASTSS (DX), Y8
	VBROADCASTSS 4(DX), Y9
	VBROADCASTSS 8(DX), Y10
	VBROADCASTSS 12(DX), Y11
	VMOVUPS ABS, Y12
	MOVL $0x749dc5ae, AX // TopBound 1e32
	VMOVD AX, X13
	VBROADCASTSS X13, Y13
	MOVL $0x7e967699, AX // TopScore 1e38
	VMOVD AX, X14
	VBROADCASTSS X14, Y14
	VPCMPEQD Y15, Y15, Y15
	MOVL $0xff800000, AX // -Inf
	VMOVD AX, X6
	VBROADCASTSS X6, Y6
	VMOVAPS Y6, Y7
	SHLQ $2, CX
	XORQ BX, BX
loop:
	VMOVUPS (SI)(BX*1), Y0
	VMOVAPS Y11, Y1
	VFMADD231PS (R8)(BX*1), Y8, Y1
	VFMADD231PS (R9)(BX*1), Y9, Y1
	TESTQ R10, R10
	JEQ  unbiased
	VANDPS (R10)(BX*1), Y12, Y2
	VFMADD231PS Y2, Y10, Y1
unbiased:
	VANDPS Y12, Y0, Y2
	VCMPPS $0x11, Y13, Y1, Y3 // e < TopBound
	VCMPPS $0x11, Y14, Y2, Y4 // |z| < TopScore
	VANDPS Y3, Y15, Y15
	VANDPS Y4, Y15, Y15
	VSUBPS Y1, Y0, Y2
	VADDPS Y1, Y0, Y3
	VMAXPS Y2, Y6, Y6
	VMAXPS Y3, Y7, Y7
	ADDQ $32, BX
	CMPQ BX, CX
	JLT  loop
	MAX8(Y6, X6)
	VMOVSS X0, (DI)
	MAX8(Y7, X7)
	VMOVSS X0, 4(DI)
	VMOVMSKPS Y15, AX
	XORQ BX, BX
	CMPL AX, $255
	JNE  done
	INCQ BX
done:
	MOVQ BX, small+56(FP)
	VZEROUPPER
	RET
