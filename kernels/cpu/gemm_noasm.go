//go:build !amd64 || noasm

package cpu

const haveAVX2 = false

func kernel(rows, kc int, a []float32, rs, cs int, b []float32, bs int, c []float32, ldc, mode int) {
	kernelGo(rows, kc, a, rs, cs, b, bs, c, ldc, mode)
}

func kernelRow(kc int, a, b []float32, ps, bs int, c []float32, mode int) {
	kernelRowGo(kc, a, b, ps, bs, c, mode)
}

func packT(dst, src []float32, ld, rows, n int) { packTGo(dst, src, ld, rows, n) }

func packN(dst, src []float32, ld, cols, n int) { packNGo(dst, src, ld, cols, n) }

func packA(dst, src []float32, ld, rows, n int) { packAGo(dst, src, ld, rows, n) }

func packR(dst, src []float32, ld, rows, n int) { packRGo(dst, src, ld, rows, n) }

func fetch(x []float32, ld, rows, n int) {}
