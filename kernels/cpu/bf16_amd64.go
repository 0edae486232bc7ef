//go:build amd64 && !noasm

package cpu

// gemm6BF16AVX and its smaller kin are gemm6AVX and its kin over panels of bf16 pairs.
//
//go:noescape
func gemm6BF16AVX(kc int, a *float32, rs, cs int, b *uint16, bs int, c *float32, ldc, mode int)

//go:noescape
func gemm5BF16AVX(kc int, a *float32, rs, cs int, b *uint16, bs int, c *float32, ldc, mode int)

//go:noescape
func gemm4BF16AVX(kc int, a *float32, rs, cs int, b *uint16, bs int, c *float32, ldc, mode int)

//go:noescape
func gemm3BF16AVX(kc int, a *float32, rs, cs int, b *uint16, bs int, c *float32, ldc, mode int)

//go:noescape
func gemm2BF16AVX(kc int, a *float32, rs, cs int, b *uint16, bs int, c *float32, ldc, mode int)

//go:noescape
func gemm1BF16AVX(kc int, a *float32, rs, cs int, b *uint16, bs int, c *float32, ldc, mode int)

// gemv64BF16AVX is gemv64AVX over panels of bf16 pairs.
//
//go:noescape
func gemv64BF16AVX(kc int, a *float32, b *uint16, ps int, c *float32, mode int)

// packT16BF16AVX is packTBF16Go for 16 rows and n > 0, a multiple of 16. Meanwhile it asks for the 32·n bytes that lie
// ahead bytes further on.
//
//go:noescape
func packT16BF16AVX(dst, src *uint16, ld, n, ahead int)

func kernelBF16(rows, kc int, a []float32, rs, cs int, b []uint16, c []float32, ldc, mode int) {
	if !haveAVX2 {
		kernelBF16Go(rows, kc, a, rs, cs, b, c, ldc, mode)
		return
	}
	switch rows {
	case 6:
		gemm6BF16AVX(kc, &a[0], rs, cs, &b[0], tileCols, &c[0], ldc, mode)
	case 5:
		gemm5BF16AVX(kc, &a[0], rs, cs, &b[0], tileCols, &c[0], ldc, mode)
	case 4:
		gemm4BF16AVX(kc, &a[0], rs, cs, &b[0], tileCols, &c[0], ldc, mode)
	case 3:
		gemm3BF16AVX(kc, &a[0], rs, cs, &b[0], tileCols, &c[0], ldc, mode)
	case 2:
		gemm2BF16AVX(kc, &a[0], rs, cs, &b[0], tileCols, &c[0], ldc, mode)
	case 1:
		gemm1BF16AVX(kc, &a[0], rs, cs, &b[0], tileCols, &c[0], ldc, mode)
	}
}

func kernelRowBF16(kc int, a []float32, b []uint16, ps int, c []float32, mode int) {
	if !haveAVX2 {
		kernelRowBF16Go(kc, a, b, ps, c, mode)
		return
	}
	gemv64BF16AVX(kc, &a[0], &b[0], ps, &c[0], mode)
}

func packTBF16(dst, src []uint16, ld, rows, n, ahead int) {
	whole := n &^ 15
	if !haveAVX2 || rows < tileCols || whole == 0 {
		packTBF16Go(dst, src, ld, rows, n)
		return
	}
	packT16BF16AVX(&dst[0], &src[0], ld, whole, ahead)
	if whole < n {
		packTBF16Go(dst[whole*tileCols:], src[whole:], ld, rows, n-whole)
	}
}
