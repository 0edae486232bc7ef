// The loops of attention_amd64.s.

// Scores of rows of keys with eight queries, a lane each.
//
//	SI  q, 8 queries an element    R11  ld (bytes)    CX  elements left, by 16
//	DI, R8, R9, R10  rows 0, 3, 6 and 9
//	AX  what is asked for
//	Y0..Y11  sums of rows          Y12  an element of the queries

#define KEY(m, x) VBROADCASTSS m, Y13; VFMADD231PS Y12, Y13, x

#define ROWS1(ko) KEY(ko(DI), Y0)
#define ROWS4(ko) \
	KEY(ko(DI), Y0); \
	KEY(ko(DI)(R11*1), Y1); \
	KEY(ko(DI)(R11*2), Y2); \
	KEY(ko(R8), Y3)
#define ROWS8(ko) \
	ROWS4(ko); \
	KEY(ko(R8)(R11*1), Y4); \
	KEY(ko(R8)(R11*2), Y5); \
	KEY(ko(R9), Y6); \
	KEY(ko(R9)(R11*1), Y7)
#define ROWS12(ko) \
	ROWS8(ko); \
	KEY(ko(R9)(R11*2), Y8); \
	KEY(ko(R10), Y9); \
	KEY(ko(R10)(R11*1), Y10); \
	KEY(ko(R10)(R11*2), Y11)

#define COLUMN(ROWS, qo, ko) VMOVUPS qo(SI), Y12; ROWS(ko)

// Sixteen elements of every row; twelve lines from AX on are asked for meanwhile, in order: the processor's own
// prefetching goes along then.
#define COLUMNS16(ROWS) \
	COLUMN(ROWS, 0, 0); \
	PREFETCHNTA 0(AX); \
	COLUMN(ROWS, 32, 4); \
	PREFETCHNTA 64(AX); \
	COLUMN(ROWS, 64, 8); \
	PREFETCHNTA 128(AX); \
	COLUMN(ROWS, 96, 12); \
	PREFETCHNTA 192(AX); \
	COLUMN(ROWS, 128, 16); \
	PREFETCHNTA 256(AX); \
	COLUMN(ROWS, 160, 20); \
	PREFETCHNTA 320(AX); \
	COLUMN(ROWS, 192, 24); \
	PREFETCHNTA 384(AX); \
	COLUMN(ROWS, 224, 28); \
	PREFETCHNTA 448(AX); \
	COLUMN(ROWS, 256, 32); \
	PREFETCHNTA 512(AX); \
	COLUMN(ROWS, 288, 36); \
	PREFETCHNTA 576(AX); \
	COLUMN(ROWS, 320, 40); \
	PREFETCHNTA 640(AX); \
	COLUMN(ROWS, 352, 44); \
	PREFETCHNTA 704(AX); \
	COLUMN(ROWS, 384, 48); \
	COLUMN(ROWS, 416, 52); \
	COLUMN(ROWS, 448, 56); \
	COLUMN(ROWS, 480, 60); \
	ADDQ $768, AX

#define LANESARGS \
	MOVQ q+0(FP), SI; \
	MOVQ k+8(FP), DI; \
	MOVQ ld+16(FP), R11; \
	MOVQ n+24(FP), CX; \
	MOVQ out+32(FP), R12; \
	MOVQ most+40(FP), R13; \
	MOVQ ahead+48(FP), AX; \
	SHLQ $2, R11; \
	SHRQ $4, CX; \
	LEAQ (R11)(R11*2), R15; \
	ADDQ DI, AX; \
	LEAQ (DI)(R15*1), R8; \
	LEAQ (R8)(R15*1), R9; \
	LEAQ (R9)(R15*1), R10

#define ON \
	ADDQ $512, SI; \
	ADDQ $64, DI; \
	ADDQ $64, R8; \
	ADDQ $64, R9; \
	ADDQ $64, R10

#define NOUGHT(o, x) VXORPS x, x, x
#define KEEP(o, x) VMOVUPS x, o(R12); VMAXPS Y12, x, Y12

#define SUMS1(OP) OP(0, Y0)
#define SUMS4(OP) SUMS1(OP); OP(32, Y1); OP(64, Y2); OP(96, Y3)
#define SUMS8(OP) SUMS4(OP); OP(128, Y4); OP(160, Y5); OP(192, Y6); OP(224, Y7)
#define SUMS12(OP) SUMS8(OP); OP(256, Y8); OP(288, Y9); OP(320, Y10); OP(352, Y11)

#define LANES(ROWS, SUMS) \
	LANESARGS; \
	SUMS(NOUGHT); \
columns: \
	COLUMNS16(ROWS); \
	ON; \
	DECQ CX; \
	JNE  columns; \
	VMOVUPS (R13), Y12; \
	SUMS(KEEP); \
	VMOVUPS Y12, (R13); \
	VZEROUPPER; \
	RET

// Weighed values: 16 columns of up to seven rows of the output.
//
//	SI  weights, 8 a row    DI  values    R10  ld    (bytes)    R8  what is asked for
//	DX, R12, R13  rows 0, 3 and 6 of the output    R11  ldo (bytes)    CX  rows of values left

#define WEIGH(o, x, y) \
	VBROADCASTSS o(SI), Y15; \
	VFMADD231PS Y14, Y15, x; \
	VFMADD231PS 32(DI), Y15, y

#define WEIGH3 WEIGH(0, Y0, Y1); WEIGH(4, Y2, Y3); WEIGH(8, Y4, Y5)
#define WEIGH4 WEIGH3; WEIGH(12, Y6, Y7)
#define WEIGH5 WEIGH4; WEIGH(16, Y8, Y9)
#define WEIGH6 WEIGH5; WEIGH(20, Y10, Y11)
#define WEIGH7 WEIGH6; WEIGH(24, Y12, Y13)

#define OUT3(OP) \
	OP((DX), 32(DX), Y0, Y1); \
	OP((DX)(R11*1), 32(DX)(R11*1), Y2, Y3); \
	OP((DX)(R11*2), 32(DX)(R11*2), Y4, Y5)
#define OUT4(OP) OUT3(OP); OP((R12), 32(R12), Y6, Y7)
#define OUT5(OP) OUT4(OP); OP((R12)(R11*1), 32(R12)(R11*1), Y8, Y9)
#define OUT6(OP) OUT5(OP); OP((R12)(R11*2), 32(R12)(R11*2), Y10, Y11)
#define OUT7(OP) OUT6(OP); OP((R13), 32(R13), Y12, Y13)

#define TAKE(p0, p1, x, y) VMOVUPS p0, x; VMOVUPS p1, y
#define PUT(p0, p1, x, y) VMOVUPS x, p0; VMOVUPS y, p1

#define VALUES(EACH, OUT) \
	MOVQ p+0(FP), SI; \
	MOVQ v+8(FP), DI; \
	MOVQ ld+16(FP), R10; \
	MOVQ n+24(FP), CX; \
	MOVQ out+32(FP), DX; \
	MOVQ ldo+40(FP), R11; \
	MOVQ ahead+48(FP), R8; \
	ADDQ DI, R8; \
	SHLQ $2, R10; \
	SHLQ $2, R11; \
	LEAQ (R11)(R11*2), R13; \
	LEAQ (DX)(R13*1), R12; \
	ADDQ R12, R13; \
	OUT(TAKE); \
row: \
	VMOVUPS (DI), Y14; \
	PREFETCHNTA (R8); \
	ADDQ $64, R8; \
	EACH; \
	ADDQ R10, DI; \
	ADDQ $32, SI; \
	DECQ CX; \
	JNE  row; \
	OUT(PUT); \
	VZEROUPPER; \
	RET
