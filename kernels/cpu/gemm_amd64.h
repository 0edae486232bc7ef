// The steps that the kernels of gemm_amd64.s and bf16_amd64.s share. A file defines ROWB, which loads a row of b into Y0
// and Y1, and BSHIFT, the logarithm of an element's bytes there. Registers of all of them:
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
	SHLQ $BSHIFT, R10; \
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
