package kerneltest

import (
	"fmt"
	"math"

	"svae/kernels"
)

// topHeads are vocabularies that a bound has a hard time with: they fill rows w (V, D), seen by rows like x (D).
var topHeads = map[string]func(e *env, w, x []float64, V, D int){
	"normal": func(e *env, w, _ []float64, _, _ int) { copy(w, e.normal(len(w))) },
	"equal": func(e *env, w, _ []float64, V, D int) {
		base := e.normal(D)
		for i := range w {
			w[i] = base[i%D]
		}
	},
	"nearly equal": func(e *env, w, _ []float64, V, D int) {
		base := e.normal(D)
		for i := range w {
			w[i] = base[i%D] * (1 + 1e-7*float64(e.IntN(5)))
		}
	},
	"pairs": func(e *env, w, _ []float64, V, D int) { // each row twice, the second with one element moved
		copy(w, e.normal(len(w)))
		for v := 1; v < V; v += 2 {
			copy(w[v*D:(v+1)*D], w[(v-1)*D:v*D])
			w[v*D+e.IntN(D)] += 1e-6 * e.NormFloat64()
		}
	},
	"worst residues": func(e *env, w, x []float64, V, D int) { // all that rounding takes away points along x, or against it
		for v := range V {
			side := float64(1 - 2*e.IntN(2))
			for i := range D {
				w[v*D+i] = (float64(e.IntN(20)) + 0.499*side*sign(x[i])) / 127
			}
			w[v*D+e.IntN(D)] = 1
		}
	},
	"every scale": func(e *env, w, _ []float64, V, D int) {
		for v := range V {
			copy(w[v*D:], e.normals(D, math.Exp2(float64(e.IntN(60)-40))))
		}
	},
	"huge": func(e *env, w, _ []float64, V, D int) {
		for v := range V {
			copy(w[v*D:], e.normals(D, math.Exp2(float64(e.IntN(40)+80))))
		}
	},
	"tiny": func(e *env, w, _ []float64, V, D int) {
		for v := range V {
			copy(w[v*D:], e.normals(D, math.Exp2(-float64(e.IntN(60)+90))))
		}
	},
	"zeros": func(e *env, w, _ []float64, _, _ int) {},
	"one outlier": func(e *env, w, _ []float64, V, D int) {
		copy(w, e.normals(len(w), 0.01))
		for v := range V {
			w[v*D+e.IntN(D)] = 3 * e.NormFloat64()
		}
	},
}

func sign(x float64) float64 { return math.Copysign(1, x) }

// topInputs are ways to scale a row of normal numbers.
var topInputs = map[string]func(e *env, x []float64){
	"normal": func(*env, []float64) {},
	"outlier": func(e *env, x []float64) {
		x[e.IntN(len(x))] = 3000
	},
	"zero":   func(_ *env, x []float64) { clear(x) },
	"tiny":   func(_ *env, x []float64) { scaleBy(x, 1e-37) },
	"huge":   func(_ *env, x []float64) { scaleBy(x, 1e30) },
	"sparse": func(e *env, x []float64) { clear(x[len(x)/2:]) },
}

func scaleBy(x []float64, by float64) {
	for i := range x {
		x[i] = round(by * x[i])
	}
}

// head returns the operands of a Top over a head, those of Linear over it as well.
func (s *suite) head(e *env, w []float64, V, D int, bias bool, dt kernels.DType) (t kernels.Top) {
	f := make([]float32, len(w))
	for i, v := range w {
		f[i] = float32(v)
	}
	t = kernels.Top{D: D, V: V, W: upload(s.b, rounded(w))}
	if dt == kernels.BF16 {
		h := make([]uint16, len(f))
		kernels.RoundBF16(h, f)
		kernels.WidenBF16(f, h)
		t.W = kernels.BF16Of(h)
	}
	q, scales, bounds := make([]int8, V*D), make([]float32, V), make([]float32, 2*V)
	if err := kernels.QuantizeInt8(q, scales, f, V, D); err != nil {
		s.Fatal(err)
	}
	t.Q = kernels.Int8Of(q, scales, D)
	kernels.HeadBounds(bounds, kernels.Of(f), t.Q, V, D)
	t.Bounds = kernels.Of(bounds)
	if bias {
		t.B = upload(s.b, e.normal(V))
	}
	return t
}

// testTop checks that Top finds what Linear over the whole head has as its largest logit, whatever the head and the rows.
func testTop(s *suite) {
	for name, fill := range topHeads {
		for kind, shape := range topInputs {
			for i, d := range [][3]int{{1, 1, 1}, {3, 2, 3}, {9, 33, 64}, {2, 5000, 100}, {1, 700, 513}} {
				N, V, D := d[0], d[1], d[2]
				if V == 5000 && kind != "normal" && kind != "outlier" || s.thin() {
					continue
				}
				label := fmt.Sprintf("Top of a head %q, rows %q, %v", name, kind, d)
				e := newEnv(s.b, label, 0)
				x := e.normal(N * D)
				w := make([]float64, V*D)
				fill(e, w, x, V, D)
				shape(e, x)
				t := s.head(e, w, V, D, i%2 == 0, []kernels.DType{kernels.F32, kernels.BF16}[i/2%2])
				t.N, t.X, t.IDs, t.Scores = N, upload(s.b, x), make([]int32, N), s.b.Alloc(N)
				s.greedy(label, &t)
			}
		}
	}
}

// greedy compares a Top with the logits of Linear, and the int8 scores with them and their bound.
func (s *suite) greedy(label string, t *kernels.Top) {
	s.Helper()
	z, q := s.b.Alloc(t.N*t.V), s.b.Alloc(t.N*t.V)
	s.b.Linear(z, kernels.Buf{}, t.X, t.W, t.B, kernels.None, t.N, t.D, t.V)
	s.b.Linear(q, kernels.Buf{}, t.X, t.Q, t.B, kernels.None, t.N, t.D, t.V)
	s.b.Top(t)
	logits, rough, scores, bias := download(s.b, z), download(s.b, q), download(s.b, t.Scores), make([]float64, t.V)
	if !t.B.Absent() {
		bias = download(s.b, t.B)
	}
	if t.Scored < t.N || t.Scored > t.N*t.V {
		s.fail("%s: %d logits computed", label, t.Scored)
	}
	x := download(s.b, t.X)
	for n := range t.N {
		row := logits[n*t.V : (n+1)*t.V]
		best := 0
		for v, c := range row {
			if c > row[best] {
				best = v
			}
		}
		if int(t.IDs[n]) != best || !same(scores[n], row[best]) {
			s.fail("%s: row %d: id %d (%v), want %d (%v)", label, n, t.IDs[n], scores[n], best, row[best])
			return
		}
		byRadius, byNorm, byBias, rest := t.Slack(rowNorms(x[n*t.D : (n+1)*t.D]))
		bounds := t.Bounds.F32()
		for v, c := range row {
			e := byRadius*bounds[v] + byNorm*bounds[t.V+v] + byBias*float32(math.Abs(bias[v])) + rest
			if sc := rough[n*t.V+v]; e < kernels.TopBound && math.Abs(sc) < kernels.TopScore && !(math.Abs(c-sc) <= float64(e)) {
				s.fail("%s: row %d: logit %d is %v, its int8 score %v, further than %v", label, n, v, c, sc, e)
				return
			}
		}
	}
}

func rowNorms(x []float64) (norm, lost float64) {
	row := make([]float32, len(x))
	for i, v := range x {
		row[i] = float32(v)
	}
	blocks := (len(x) + kernels.I8Block - 1) / kernels.I8Block
	q, scales := make([]int16, blocks*kernels.I8Block), make([]float32, blocks)
	kernels.QuantizeBlocks(q, scales, row)
	return kernels.RowNorms(row, q, scales)
}

func topCall(N, V, D int) func(*env) {
	return func(e *env) {
		q, wv := e.weights("q", kernels.I8, V, D)
		for i := range wv {
			wv[i] = round(wv[i] + 1e-3*e.NormFloat64())
		}
		wf := make([]float32, len(wv))
		for i, v := range wv {
			wf[i] = float32(v)
		}
		bounds := make([]float32, 2*V)
		if q.Len() == V*D { // not in the test of short operands
			kernels.HeadBounds(bounds, kernels.Of(wf), q, V, D)
		}
		bv := make([]float64, 2*V)
		for i, v := range bounds {
			bv[i] = float64(v)
		}
		xv := e.normal(N * D)
		t := &kernels.Top{IDs: make([]int32, N), X: e.in("x", xv), W: e.in("w", wv), B: e.in("b", e.normal(V)), Q: q,
			Bounds: e.in("bounds", bv), N: N, D: D, V: V}
		t.Scores = e.out("scores", N, tolSum, func() []float64 {
			m := make([]float64, N)
			for i := range m {
				m[i] = float64(10 * D)
			}
			return m
		})
		e.b.Top(t)
		for n, v := range t.IDs {
			e.scalar(fmt.Sprint("id of row ", n), float64(v), tolCopy, nil)
		}
	}
}
