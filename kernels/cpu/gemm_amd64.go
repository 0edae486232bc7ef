//go:build amd64 && !noasm

package cpu

import "golang.org/x/sys/cpu"

// haveAVX2 says that the processor and the operating system run the assembly of this package.
var haveAVX2 = cpu.X86.HasAVX2 && cpu.X86.HasFMA

// gemm6AVX and its smaller kin compute gemmGo for their number of rows, with one fused multiply-add a term.
//
//go:noescape
func gemm6AVX(kc int, a *float32, rs, cs int, b *float32, bs int, c *float32, ldc, mode int)

//go:noescape
func gemm5AVX(kc int, a *float32, rs, cs int, b *float32, bs int, c *float32, ldc, mode int)

//go:noescape
func gemm4AVX(kc int, a *float32, rs, cs int, b *float32, bs int, c *float32, ldc, mode int)

//go:noescape
func gemm3AVX(kc int, a *float32, rs, cs int, b *float32, bs int, c *float32, ldc, mode int)

//go:noescape
func gemm2AVX(kc int, a *float32, rs, cs int, b *float32, bs int, c *float32, ldc, mode int)

//go:noescape
func gemm1AVX(kc int, a *float32, rs, cs int, b *float32, bs int, c *float32, ldc, mode int)

// gemv64AVX is gemm1AVX for a dense row of A, four panels of B that lie ps elements apart and 64 columns of C.
//
//go:noescape
func gemv64AVX(kc int, a, b *float32, ps, bs int, c *float32, mode int)

// packT8AVX computes, for 8 rows of which those past rows repeat the last one,
//
//	for k := range n { for r := range 8 { dst[16*k+r] = src[min(r, rows-1)*ld+k] } }
//
//go:noescape
func packT8AVX(dst, src *float32, ld, rows, n int)

// packR6AVX computes, for up to 6 rows, the missing ones as above, and writes two elements past the end,
//
//	for k := range n { for r := range 6 { dst[6*k+r] = src[min(r, rows-1)*ld+k] } }
//
//go:noescape
func packR6AVX(dst, src *float32, ld, rows, n int)

// packNAVX computes, for whole panels of 16 columns,
//
//	for k := range n { for p := range panels { copy(dst[16*(p*n+k):][:16], src[k*ld+16*p:]) } }
//
//go:noescape
func packNAVX(dst, src *float32, ld, panels, n int)

// packA6AVX computes, for whole groups of 6 columns,
//
//	for k := range n { for g := range groups { copy(dst[6*(g*n+k):][:6], src[k*ld+6*g:]) } }
//
//go:noescape
func packA6AVX(dst, src *float32, ld, groups, n int)

// fetchAVX asks for lines of 64 bytes of rows that lie ld elements apart.
//
//go:noescape
func fetchAVX(p *float32, ld, rows, lines int)

func kernel(rows, kc int, a []float32, rs, cs int, b []float32, bs int, c []float32, ldc, mode int) {
	if !haveAVX2 {
		kernelGo(rows, kc, a, rs, cs, b, bs, c, ldc, mode)
		return
	}
	switch rows {
	case 6:
		gemm6AVX(kc, &a[0], rs, cs, &b[0], bs, &c[0], ldc, mode)
	case 5:
		gemm5AVX(kc, &a[0], rs, cs, &b[0], bs, &c[0], ldc, mode)
	case 4:
		gemm4AVX(kc, &a[0], rs, cs, &b[0], bs, &c[0], ldc, mode)
	case 3:
		gemm3AVX(kc, &a[0], rs, cs, &b[0], bs, &c[0], ldc, mode)
	case 2:
		gemm2AVX(kc, &a[0], rs, cs, &b[0], bs, &c[0], ldc, mode)
	case 1:
		gemm1AVX(kc, &a[0], rs, cs, &b[0], bs, &c[0], ldc, mode)
	}
}

func kernelRow(kc int, a, b []float32, ps, bs int, c []float32, mode int) {
	if !haveAVX2 {
		kernelRowGo(kc, a, b, ps, bs, c, mode)
		return
	}
	gemv64AVX(kc, &a[0], &b[0], ps, bs, &c[0], mode)
}

func packT(dst, src []float32, ld, rows, n int) {
	if !haveAVX2 {
		packTGo(dst, src, ld, rows, n)
		return
	}
	packT8AVX(&dst[0], &src[0], ld, min(rows, 8), n)
	if rows > 8 {
		packT8AVX(&dst[8], &src[8*ld], ld, rows-8, n)
	}
}

func packN(dst, src []float32, ld, cols, n int) {
	whole := cols / tileCols
	if haveAVX2 && whole > 0 && n > 0 {
		packNAVX(&dst[0], &src[0], ld, whole, n)
		dst, src, cols = dst[whole*tileCols*n:], src[whole*tileCols:], cols-whole*tileCols
	}
	if cols > 0 {
		packNGo(dst, src, ld, cols, n)
	}
}

func packA(dst, src []float32, ld, rows, n int) {
	whole := rows / tileRows
	if haveAVX2 && whole > 0 && n > 0 {
		packA6AVX(&dst[0], &src[0], ld, whole, n)
		dst, src, rows = dst[whole*tileRows*n:], src[whole*tileRows:], rows-whole*tileRows
	}
	if rows > 0 {
		packAGo(dst, src, ld, rows, n)
	}
}

func packR(dst, src []float32, ld, rows, n int) {
	if !haveAVX2 {
		packRGo(dst, src, ld, rows, n)
		return
	}
	for r := 0; r < rows && n > 0; r += tileRows {
		packR6AVX(&dst[r*n : r*n+tileRows*n+packRSlack][0], &src[r*ld], ld, min(tileRows, rows-r), n)
	}
}

// fetch asks the processor for n elements of some rows that will be read soon.
func fetch(x []float32, ld, rows, n int) {
	if haveAVX2 {
		fetchAVX(&x[0], ld, rows, (n+15)/16)
	}
}
