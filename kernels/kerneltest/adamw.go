package kerneltest

import (
	"fmt"
	"math"

	"svae/kernels"
)

var adam = kernels.AdamW{LR: 0.01, Beta1: 0.9, Beta2: 0.98, Eps: 1e-8, WeightDecay: 0.1, GradScale: 0.25, Step: 1}

func adamW(p kernels.AdamW, n int) func(*env) {
	return func(e *env) {
		wv, mv, vv, gv := e.normal(n), e.normals(n, 0.1), abs(e.normals(n, 0.01)), e.normal(n)
		if p.Step == 1 {
			mv, vv = make([]float64, n), make([]float64, n)
		}
		mags := func(k int) func() []float64 {
			return func() []float64 {
				sums := [3][]float64{abs(wv), abs(mv), abs(vv)}
				for i := range n {
					d := math.Abs(gv[i] * p.GradScale)
					sums[1][i] = p.Beta1*sums[1][i] + (1-p.Beta1)*d
					sums[2][i] = p.Beta2*sums[2][i] + (1-p.Beta2)*d*d
					mhat := sums[1][i] / (1 - math.Pow(p.Beta1, float64(p.Step)))
					vhat := sums[2][i] / (1 - math.Pow(p.Beta2, float64(p.Step)))
					sums[0][i] += p.LR * mhat / (math.Sqrt(vhat) + p.Eps)
				}
				return sums[k]
			}
		}
		w, m, v := e.inout("w", wv, tolAdamW, mags(0)), e.inout("m", mv, tolAdamW, mags(1)), e.inout("v", vv, tolAdamW, mags(2))
		e.b.AdamW(w, m, v, e.in("g", gv), p, n)
	}
}

// testAdamW compares single updates with the measure and six updates in a row with the formula, written out here.
func testAdamW(s *suite) {
	for _, n := range lengths {
		for _, step := range []int{1, 2, 1000} {
			p := adam
			p.Step = step
			s.check(fmt.Sprintf("AdamW n=%d step=%d", n, step), adamW(p, n))
		}
	}
	const n = 37
	e := newEnv(s.b, "steps", 0)
	wv := e.normal(n)
	w, m, v := upload(s.b, wv), s.b.Alloc(n), s.b.Alloc(n)
	mv, vv := make([]float64, n), make([]float64, n)
	for step := 1; step <= 6; step++ {
		p, g := adam, e.normal(n)
		p.Step, p.LR = step, adam.LR*float64(step)
		s.b.AdamW(w, m, v, upload(s.b, g), p, n)
		for i := range n {
			d := g[i] * p.GradScale
			wv[i] -= p.LR * p.WeightDecay * wv[i]
			mv[i] += (1 - p.Beta1) * (d - mv[i])
			vv[i] += (1 - p.Beta2) * (d*d - vv[i])
			mhat, vhat := mv[i]/(1-math.Pow(p.Beta1, float64(step))), vv[i]/(1-math.Pow(p.Beta2, float64(step)))
			wv[i] -= p.LR * mhat / (math.Sqrt(vhat) + p.Eps)
		}
	}
	tol := 1e-5 // six updates of a float32 state
	if s.b.DType() == kernels.F64 {
		tol = tol64
	}
	for i, got := range download(s.b, w) {
		if math.Abs(got-wv[i]) > tol*(1+math.Abs(wv[i])) {
			s.fail("AdamW: w[%d] = %v after six steps, want %v", i, got, wv[i])
		}
	}
}

func sumSquares(n int) func(*env) {
	return func(e *env) {
		e.scalar("sum", e.b.SumSquares(e.in("x", e.normal(n)), n), tolSquare, nil)
	}
}

func testSumSquares(s *suite) {
	for _, n := range append(lengths, 100_003) {
		s.check(fmt.Sprintf("SumSquares n=%d", n), sumSquares(n))
	}
	for _, n := range lengths[1:] {
		for _, bad := range []float64{math.NaN(), math.Inf(1), math.Inf(-1)} {
			v := make([]float64, n)
			v[n-1] = bad
			got := s.b.SumSquares(upload(s.b, v), n)
			if !math.IsNaN(bad) != math.IsInf(got, 1) || math.IsNaN(bad) != math.IsNaN(got) {
				s.fail("SumSquares of %d elements, the last %v, is %v", n, bad, got)
			}
		}
	}
	v := make([]float64, 33)
	for i := range v {
		v[i] = 1e25 // its square is past float32
	}
	if got := s.b.SumSquares(upload(s.b, v), 33); math.Abs(got/33e50-1) > 1e-6 {
		s.fail("SumSquares of 33 times 1e25 is %v, want 3.3e51", got)
	}
}
