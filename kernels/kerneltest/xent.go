package kerneltest

import (
	"fmt"
	"math"
	"sync"

	"svae/kernels"
	"svae/kernels/ref"
)

// xentForm is one way to call Xent.
type xentForm struct {
	N, D, V int
	gamma   float64
	bias    bool
	absent  int // bits: 1 for DX, 2 for DW, 4 for DB
}

// mags returns the magnitudes of the nats and of the gradients: a logit's rounding is a part of its sum of absolute
// terms, and moves every probability of the row by as much.
func (f xentForm) mags(x, w, b []float64, targets []int32) (nats, dX, dW, dB []float64) {
	z, m := make([]float64, f.N*f.V), make([]float64, f.N*f.V)
	ref.Linear(z, nil, x, w, b, kernels.None, f.N, f.D, f.V)
	ref.Linear(m, nil, abs(x), abs(w), abs(b), kernels.None, f.N, f.D, f.V)
	nats = make([]float64, f.N)
	for n := range f.N {
		row, worst := z[n*f.V:(n+1)*f.V], 0.0
		for _, x := range m[n*f.V : (n+1)*f.V] {
			worst = max(worst, x)
		}
		lse := logSumExp(row)
		if targets[n] < 0 { // exact zeros
			clear(row)
			continue
		}
		nats[n] = 1 + worst + math.Abs(lse)
		for j := range row {
			row[j] = math.Exp(row[j]-lse) * nats[n]
			if j == int(targets[n]) {
				row[j] += 1
			}
			row[j] *= 1 + f.gamma // the focal factor is at most that
		}
	}
	dX, dW, dB = make([]float64, f.N*f.D), make([]float64, f.V*f.D), make([]float64, f.V)
	ref.LinearBackwardX(dX, z, abs(w), f.N, f.D, f.V)
	ref.LinearBackwardW(dW, z, abs(x), f.N, f.D, f.V)
	ref.LinearBackwardB(dB, z, f.N, f.V)
	return nats, dX, dW, dB
}

// targets returns N tokens below V, one in six of them negative: a row that is not scored.
func targets(e *env, N, V int) []int32 {
	t := make([]int32, N)
	for i := range t {
		if t[i] = e.Int32N(int32(V)); e.IntN(6) == 0 {
			t[i] = -1 - t[i]
		}
	}
	return t
}

// xent is one Xent whose logits deviate by about width.
func xent(f xentForm, width float64) func(*env) {
	return func(e *env) {
		xv, wv := e.normal(f.N*f.D), e.normals(f.V*f.D, width/math.Sqrt(float64(f.D)))
		a := kernels.Xent{N: f.N, D: f.D, V: f.V, Gamma: f.gamma, Targets: targets(e, f.N, f.V)}
		a.X, a.W = e.in("x", xv), e.in("w", wv)
		var bv []float64
		if f.bias {
			bv = e.normal(f.V)
			a.B = e.in("b", bv)
		}
		mags := sync.OnceValue(func() [4][]float64 {
			nats, dX, dW, dB := f.mags(xv, wv, bv, a.Targets)
			return [4][]float64{nats, dX, dW, dB}
		})
		mag := func(k int) func() []float64 { return func() []float64 { return mags()[k] } }
		a.Nats = e.out("nats", f.N, tolXent, mag(0))
		if f.absent&1 == 0 {
			a.DX = e.out("dX", f.N*f.D, tolXent, mag(1))
		}
		if f.absent&2 == 0 {
			a.DW = e.out("dW", f.V*f.D, tolXent, mag(2))
		}
		if f.absent&4 == 0 {
			a.DB = e.out("dB", f.V, tolXent, mag(3))
		}
		e.scalar("loss", e.b.Xent(&a), tolXent, func() []float64 {
			sum := 0.0
			for _, m := range mags()[0] {
				sum += (1 + f.gamma) * m
			}
			return []float64{sum}
		})
	}
}

func testXent(s *suite) {
	i := 0
	for _, N := range rowCounts {
		for _, D := range []int{1, 3, 16, 31, 64} {
			for _, V := range vocabs {
				i++
				if N*D*V > 600_000 || s.thin() {
					continue
				}
				f := xentForm{N, D, V, []float64{0, 2, 0.5}[i%3], i%2 == 0, i / 2 % 8}
				s.check(fmt.Sprintf("Xent %+v", f), xent(f, 2))
				f.absent, f.gamma = 0, 0
				s.check(fmt.Sprintf("Xent %+v", f), xent(f, 2))
			}
		}
	}
	for _, gamma := range []float64{0, 0.5, 1, 2} {
		f := xentForm{130, 17, 301, gamma, true, 0}
		s.check(fmt.Sprintf("Xent %+v", f), xent(f, 2))
	}
}

// testXentTop checks the best token: equal logits give the lowest id, whatever row chunk or column block it is in, and
// the loss is the sum of the nats. Small integers make the logits exact.
func testXentTop(s *suite) {
	const D = 8
	for _, N := range rowCounts {
		for _, V := range vocabs {
			e := newEnv(s.b, fmt.Sprint("top", N, V), 0)
			small := func(n int) []float64 {
				v := make([]float64, n)
				for i := range v {
					v[i] = float64(e.IntN(3) - 1)
				}
				return v
			}
			xv, wv := small(N*D), small(V*D)
			z := make([]float64, N*V)
			ref.Linear(z, nil, xv, wv, nil, kernels.None, N, D, V)
			a := kernels.Xent{
				N: N, D: D, V: V, X: upload(s.b, xv), W: upload(s.b, wv), Nats: s.b.Alloc(N),
				Targets: targets(e, N, V), Top: make([]int32, N),
			}
			loss, sum := s.b.Xent(&a), 0.0
			for n, top := range a.Top {
				best := 0
				for j, x := range z[n*V : (n+1)*V] {
					if x > z[n*V+best] {
						best = j
					}
				}
				if int(top) != best {
					s.fail("Xent N=%d V=%d: top of row %d is %d, want %d", N, V, n, top, best)
				}
			}
			for _, x := range download(s.b, a.Nats) {
				sum += x
			}
			if math.Abs(loss-sum) > 1e-6*(1+sum) {
				s.fail("Xent N=%d V=%d: loss %v, nats add up to %v", N, V, loss, sum)
			}
		}
	}
}
