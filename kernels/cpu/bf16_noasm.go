//go:build !amd64 || noasm

package cpu

func kernelBF16(rows, kc int, a []float32, rs, cs int, b []uint16, c []float32, ldc, mode int) {
	kernelBF16Go(rows, kc, a, rs, cs, b, c, ldc, mode)
}

func kernelRowBF16(kc int, a []float32, b []uint16, ps int, c []float32, mode int) {
	kernelRowBF16Go(kc, a, b, ps, c, mode)
}

func packTBF16(dst, src []uint16, ld, rows, n, ahead int) { packTBF16Go(dst, src, ld, rows, n) }
