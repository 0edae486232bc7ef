//go:build amd64 && !noasm

package cpu

// quantizeAVX computes kernels.QuantizeBlocks for whole blocks, blocks > 0.
//
//go:noescape
func quantizeAVX(q *int16, scales, x *float32, blocks int)

// dotRows4AVX computes dot8Go for 4·groups rows of w, groups > 0, and one row of x. It takes a row of each quarter of them
// at a time: memory gives four long streams faster than one.
//
//go:noescape
func dotRows4AVX(out *float32, w *int8, ld int, ws *float32, groups int, x *int16, xs *float32, blocks int)

// dotCols4AVX computes dot8Go for rows rows of w, rows > 0, and four of x: out[r*ldo+o] for 0 <= r < 4.
//
//go:noescape
func dotCols4AVX(out *float32, ldo int, w *int8, ld int, ws *float32, rows int, x *int16, ldx int, xs *float32, lds, blocks int)

// quantize is kernels.QuantizeBlocks.
func quantize(q []int16, scales, x []float32) {
	if !haveAVX2 {
		quantizeGo(q, scales, x)
		return
	}
	whole := len(x) / i8Block
	if whole > 0 {
		quantizeAVX(&q[0], &scales[0], &x[0], whole)
	}
	if whole*i8Block < len(x) {
		var last [i8Block]float32
		copy(last[:], x[whole*i8Block:])
		quantizeAVX(&q[whole*i8Block], &scales[whole], &last[0], 1)
	}
}

// dot8 is dot8Go for n rows of w, of whole blocks each; what lies behind the columns is multiplied by zeros.
func dot8(out []float32, w []int8, ld int, ws []float32, n int, x []int16, xs []float32) {
	if !haveAVX2 {
		dot8Go(out, w, ld, ws, n, x, xs)
		return
	}
	whole, blocks := n&^3, len(xs)
	if whole > 0 {
		dotRows4AVX(&out[0], &w[0], ld, &ws[0], whole/4, &x[0], &xs[0], blocks)
	}
	for o := whole; o < n; o++ { // four times the same row
		var s, t [4]float32
		s[0] = ws[o]
		dotRows4AVX(&t[0], &w[o*ld], 0, &s[0], 1, &x[0], &xs[0], blocks)
		out[o] = t[0]
	}
}

// dot8x4 is dot8 for four rows of x, ldx elements apart, with scales lds apart and results ldo apart.
func dot8x4(out []float32, ldo int, w []int8, ld int, ws []float32, n int, x []int16, ldx int, xs []float32, lds int) {
	if !haveAVX2 {
		for r := range 4 {
			dot8Go(out[r*ldo:], w, ld, ws, n, x[r*ldx:][:ldx], xs[r*lds:][:lds])
		}
		return
	}
	dotCols4AVX(&out[0], ldo, &w[0], ld, &ws[0], n, &x[0], ldx, &xs[0], lds, lds)
}
