package kerneltest

import (
	"fmt"
	"math"

	"svae/kernels"
	"svae/kernels/ref"
)

const eps = 1e-5

// normRows is what a case of a norm is measured by: the row statistics in float64, and the condition of each row, by
// which the rounding of x alone moves the normalised row.
type normRows struct{ mean, rstd, cond []float64 }

func newNormRows(x []float64, N, D int, centre bool) normRows {
	r := normRows{make([]float64, N), make([]float64, N), make([]float64, N)}
	w := make([]float64, D)
	if centre {
		ref.LayerNorm(make([]float64, N*D), r.mean, r.rstd, x, w, nil, eps, N, D)
	} else {
		ref.RMSNorm(make([]float64, N*D), r.rstd, x, w, eps, N, D)
	}
	for n := range N {
		for _, v := range x[n*D : (n+1)*D] {
			r.cond[n] = max(r.cond[n], math.Abs(v))
		}
		r.cond[n] = 1 + r.cond[n]*r.rstd[n]
	}
	return r
}

func layerNorm(N, D int, bias, keep bool) func(*env) {
	return func(e *env) {
		xv, wv, bv := e.normal(N*D), e.normal(D), make([]float64, D)
		r := newNormRows(xv, N, D, true)
		x, w := e.in("x", xv), e.in("w", wv)
		var b, mean, rstd kernels.Buf
		if bias {
			bv = e.normal(D)
			b = e.in("b", bv)
		}
		out := e.out("out", N*D, tolNorm, func() []float64 {
			m := make([]float64, N*D)
			for i, v := range xv {
				n, d := i/D, i%D
				m[i] = r.cond[n]*(1+math.Abs(v-r.mean[n])*r.rstd[n])*math.Abs(wv[d]) + math.Abs(bv[d])
			}
			return m
		})
		if keep {
			mean = e.out("mean", N, tolNorm, func() []float64 {
				m := make([]float64, N)
				for i, v := range xv {
					m[i/D] += math.Abs(v) / float64(D)
				}
				return m
			})
			rstd = e.out("rstd", N, tolNorm, func() []float64 { return times(r.rstd, r.cond) })
		}
		e.b.LayerNorm(out, mean, rstd, x, w, b, eps, N, D)
	}
}

// backwardMags returns the sums of absolute terms in dX, dW and dB of a norm. mean is nil for RMSNorm.
func backwardMags(dy, x, w, mean, rstd []float64, N, D int) (dX, dW, dB []float64) {
	dX, dW, dB = make([]float64, N*D), make([]float64, D), make([]float64, D)
	for n := range N {
		var avg, proj, m float64
		if mean != nil {
			m = mean[n]
		}
		hat := make([]float64, D)
		for d := range D {
			g := math.Abs(dy[n*D+d])
			hat[d] = math.Abs(x[n*D+d]-m) * rstd[n]
			dW[d] += g * hat[d]
			dB[d] += g
			avg += g * math.Abs(w[d]) / float64(D)
			proj += g * math.Abs(w[d]) * hat[d] / float64(D)
		}
		for d := range D {
			dX[n*D+d] = rstd[n] * (math.Abs(dy[n*D+d]*w[d]) + avg + hat[d]*proj)
		}
	}
	return dX, dW, dB
}

// layerNormBackward leaves out the gradients whose bit in absent is set: 1 for dX, 2 for dW, 4 for dB.
func layerNormBackward(N, D, absent int) func(*env) {
	return func(e *env) {
		dv, xv, wv := e.normal(N*D), e.normal(N*D), e.normal(D)
		r := newNormRows(xv, N, D, true)
		mv, rv := rounded(r.mean), rounded(r.rstd)
		mX, mW, mB := backwardMags(dv, xv, wv, mv, rv, N, D)
		var dX, dW, dB kernels.Buf
		if absent&1 == 0 {
			dX = e.out("dX", N*D, tolNorm, func() []float64 { return mX })
		}
		if absent&2 == 0 {
			dW = e.out("dW", D, tolNorm, func() []float64 { return mW })
		}
		if absent&4 == 0 {
			dB = e.out("dB", D, tolNorm, func() []float64 { return mB })
		}
		e.b.LayerNormBackward(dX, dW, dB, e.in("dOut", dv), e.in("x", xv), e.in("w", wv), e.in("mean", mv), e.in("rstd", rv),
			N, D)
	}
}

// normShapes calls f with every row count and width, and a few longer rows.
func normShapes(s *suite, f func(i, N, D int)) {
	for i, N := range rowCounts {
		for j, D := range widths {
			if !s.thin() {
				f(i+j, N, D)
			}
		}
	}
	f(0, 3, 777)
	f(1, 300, 40)
}

func testLayerNorm(s *suite) {
	normShapes(s, func(i, N, D int) {
		bias, keep, absent := i%2 == 0, i%3 > 0, i%8
		label := fmt.Sprintf("N=%d D=%d bias=%t keep=%t absent=%d", N, D, bias, keep, absent)
		s.check("LayerNorm "+label, layerNorm(N, D, bias, keep))
		s.check("LayerNormBackward "+label, layerNormBackward(N, D, 0))
		s.check("LayerNormBackward "+label, layerNormBackward(N, D, absent))
	})
}

func rmsNorm(N, D int, keep bool) func(*env) {
	return func(e *env) {
		xv, wv := e.normal(N*D), e.normal(D)
		r := newNormRows(xv, N, D, false)
		out := e.out("out", N*D, tolNorm, func() []float64 {
			m := make([]float64, N*D)
			for i, v := range xv {
				m[i] = math.Abs(v*wv[i%D]) * r.rstd[i/D]
			}
			return m
		})
		var rstd kernels.Buf
		if keep {
			rstd = e.out("rstd", N, tolNorm, func() []float64 { return r.rstd })
		}
		e.b.RMSNorm(out, rstd, e.in("x", xv), e.in("w", wv), eps, N, D)
	}
}

// rmsNormBackward leaves out the gradients whose bit in absent is set: 1 for dX, 2 for dW.
func rmsNormBackward(N, D, absent int) func(*env) {
	return func(e *env) {
		dv, xv, wv := e.normal(N*D), e.normal(N*D), e.normal(D)
		rv := rounded(newNormRows(xv, N, D, false).rstd)
		mX, mW, _ := backwardMags(dv, xv, wv, nil, rv, N, D)
		var dX, dW kernels.Buf
		if absent&1 == 0 {
			dX = e.out("dX", N*D, tolNorm, func() []float64 { return mX })
		}
		if absent&2 == 0 {
			dW = e.out("dW", D, tolNorm, func() []float64 { return mW })
		}
		e.b.RMSNormBackward(dX, dW, e.in("dOut", dv), e.in("x", xv), e.in("w", wv), e.in("rstd", rv), N, D)
	}
}

func testRMSNorm(s *suite) {
	normShapes(s, func(i, N, D int) {
		label := fmt.Sprintf("N=%d D=%d keep=%t absent=%d", N, D, i%2 == 0, i%4)
		s.check("RMSNorm "+label, rmsNorm(N, D, i%2 == 0))
		s.check("RMSNormBackward "+label, rmsNormBackward(N, D, 0))
		s.check("RMSNormBackward "+label, rmsNormBackward(N, D, i%4))
	})
}

func rotary(N, H, K int, inverse bool) func(*env) {
	return func(e *env) {
		pos, freqs := make([]int32, N), rotaryFreqs(K)
		for i := range pos {
			pos[i] = e.Int32N(5000)
		}
		xv := e.normal(N * H * K)
		out := e.out("out", N*H*K, tolRotary, func() []float64 {
			m := make([]float64, len(xv))
			for i := range m {
				m[i] = math.Abs(xv[i]) + math.Abs(xv[i/K*K+(i%K+K/2)%K])
			}
			return m
		})
		e.b.Rotary(out, e.in("x", xv), pos, freqs, inverse, N, H, K)
	}
}

// rotaryFreqs returns 10000^(-2j/K).
func rotaryFreqs(K int) []float64 {
	f := make([]float64, K/2)
	for j := range f {
		f[j] = math.Pow(10000, -2*float64(j)/float64(K))
	}
	return f
}

func testRotary(s *suite) {
	for _, N := range rowCounts {
		for _, K := range []int{2, 6, 8, 16, 34, 64} {
			for _, H := range []int{1, 2, 3, 8} {
				if !s.thin() {
					s.check(fmt.Sprintf("Rotary N=%d H=%d K=%d", N, H, K), rotary(N, H, K, H%2 == 0))
				}
			}
		}
	}
}
