//go:build !amd64 || noasm

package cpu

func quantize(q []int16, scales, x []float32) { quantizeGo(q, scales, x) }

func dot8(out []float32, w []int8, ld int, ws []float32, n int, x []int16, xs []float32) {
	dot8Go(out, w, ld, ws, n, x, xs)
}

func dot8x4(out []float32, ldo int, w []int8, ld int, ws []float32, n int, x []int16, ldx int, xs []float32, lds int) {
	for r := range 4 {
		dot8Go(out[r*ldo:], w, ld, ws, n, x[r*ldx:][:ldx], xs[r*lds:][:lds])
	}
}
