package kerneltest

import (
	"fmt"
	"math"
	"runtime"
	"slices"
	"sync/atomic"
	"testing"

	"svae/kernels"
	"svae/kernels/ref"
)

// faulty is the reference in float32 with one operation replaced.
type faulty struct {
	kernels.Backend
	linear     func(out, pre, x, w, b kernels.Buf, act kernels.Act, N, I, O int)
	backwardW  func(dW, dOut, x kernels.Buf, N, I, O int)
	gather     func(out, src kernels.Buf, idx []int32, lo, N, R, D int)
	scatter    func(dSrc, dOut kernels.Buf, idx []int32, lo, N, R, D int)
	act        func(dPre, dOut, saved kernels.Buf, act kernels.Act, n int)
	swiGLU     func(out, gate, up kernels.Buf, n int)
	layerNorm  func(out, mean, rstd, x, w, b kernels.Buf, eps float64, N, D int)
	layerBack  func(dX, dW, dB, dOut, x, w, mean, rstd kernels.Buf, N, D int)
	rotary     func(out, x kernels.Buf, pos []int32, freqs []float64, inverse bool, N, H, K int)
	attention  func(a *kernels.Attention)
	attBack    func(a *kernels.Attention)
	segmentSum func(out, x kernels.Buf, at []int32, S, D int)
	add        func(out, a, b kernels.Buf, n int)
	dropout    func(out, x kernels.Buf, p float64, seed uint64, n int)
	noise      func(out, x kernels.Buf, sigma float64, seed uint64, n int)
	xent       func(a *kernels.Xent) float64
	ranges     func(a *kernels.Ranges)
	top        func(t *kernels.Top)
	adamW      func(w, m, v, g kernels.Buf, p kernels.AdamW, n int)
	sumSquares func(x kernels.Buf, n int) float64
}

// or returns f, or the sound operation if there is no f.
func or[F any](f, sound F, broken bool) F {
	if broken {
		return f
	}
	return sound
}

func (b *faulty) Linear(out, pre, x, w, bias kernels.Buf, act kernels.Act, N, I, O int) {
	or(b.linear, b.Backend.Linear, b.linear != nil)(out, pre, x, w, bias, act, N, I, O)
}

func (b *faulty) LinearBackwardW(dW, dOut, x kernels.Buf, N, I, O int) {
	or(b.backwardW, b.Backend.LinearBackwardW, b.backwardW != nil)(dW, dOut, x, N, I, O)
}

func (b *faulty) Gather(out, src kernels.Buf, idx []int32, lo, N, R, D int) {
	or(b.gather, b.Backend.Gather, b.gather != nil)(out, src, idx, lo, N, R, D)
}

func (b *faulty) ScatterAdd(dSrc, dOut kernels.Buf, idx []int32, lo, N, R, D int) {
	or(b.scatter, b.Backend.ScatterAdd, b.scatter != nil)(dSrc, dOut, idx, lo, N, R, D)
}

func (b *faulty) ActBackward(dPre, dOut, saved kernels.Buf, act kernels.Act, n int) {
	or(b.act, b.Backend.ActBackward, b.act != nil)(dPre, dOut, saved, act, n)
}

func (b *faulty) SwiGLU(out, gate, up kernels.Buf, n int) {
	or(b.swiGLU, b.Backend.SwiGLU, b.swiGLU != nil)(out, gate, up, n)
}

func (b *faulty) LayerNorm(out, mean, rstd, x, w, bias kernels.Buf, eps float64, N, D int) {
	or(b.layerNorm, b.Backend.LayerNorm, b.layerNorm != nil)(out, mean, rstd, x, w, bias, eps, N, D)
}

func (b *faulty) LayerNormBackward(dX, dW, dB, dOut, x, w, mean, rstd kernels.Buf, N, D int) {
	or(b.layerBack, b.Backend.LayerNormBackward, b.layerBack != nil)(dX, dW, dB, dOut, x, w, mean, rstd, N, D)
}

func (b *faulty) Rotary(out, x kernels.Buf, pos []int32, freqs []float64, inverse bool, N, H, K int) {
	or(b.rotary, b.Backend.Rotary, b.rotary != nil)(out, x, pos, freqs, inverse, N, H, K)
}

func (b *faulty) Attention(a *kernels.Attention) {
	or(b.attention, b.Backend.Attention, b.attention != nil)(a)
}

func (b *faulty) AttentionBackward(a *kernels.Attention) {
	or(b.attBack, b.Backend.AttentionBackward, b.attBack != nil)(a)
}

func (b *faulty) SegmentSum(out, x kernels.Buf, at []int32, S, D int) {
	or(b.segmentSum, b.Backend.SegmentSum, b.segmentSum != nil)(out, x, at, S, D)
}

func (b *faulty) Add(out, x, y kernels.Buf, n int) {
	or(b.add, b.Backend.Add, b.add != nil)(out, x, y, n)
}

func (b *faulty) Dropout(out, x kernels.Buf, p float64, seed uint64, n int) {
	or(b.dropout, b.Backend.Dropout, b.dropout != nil)(out, x, p, seed, n)
}

func (b *faulty) Noise(out, x kernels.Buf, sigma float64, seed uint64, n int) {
	or(b.noise, b.Backend.Noise, b.noise != nil)(out, x, sigma, seed, n)
}

func (b *faulty) Xent(a *kernels.Xent) float64 {
	return or(b.xent, b.Backend.Xent, b.xent != nil)(a)
}

func (b *faulty) AttentionRanges(a *kernels.Ranges) {
	or(b.ranges, b.Backend.AttentionRanges, b.ranges != nil)(a)
}

func (b *faulty) Top(t *kernels.Top) { or(b.top, b.Backend.Top, b.top != nil)(t) }

func (b *faulty) AdamW(w, m, v, g kernels.Buf, p kernels.AdamW, n int) {
	or(b.adamW, b.Backend.AdamW, b.adamW != nil)(w, m, v, g, p, n)
}

func (b *faulty) SumSquares(x kernels.Buf, n int) float64 {
	return or(b.sumSquares, b.Backend.SumSquares, b.sumSquares != nil)(x, n)
}

// longer returns x with one more element of the memory behind it.
func longer(x kernels.Buf) []float32 {
	return kernels.Device(x.Pointer(), x.Len()+1, kernels.F32).F32()
}

// nudge moves an element by one rounding.
func nudge(x *float32) { *x = math.Nextafter32(*x, float32(math.Inf(1))) }

// faults lists what a backend may get wrong: the subtest that must notice, the mistake, and how it is made.
func faults() []struct {
	test, name string
	b          faulty
} {
	s := ref.New(kernels.F32)
	calls := new(atomic.Int64)
	return []struct {
		test, name string
		b          faulty
	}{
		{"Gather", "other rows are cleared", faulty{gather: func(out, src kernels.Buf, idx []int32, lo, N, R, D int) {
			s.Zero(out)
			s.Gather(out, src, idx, lo, N, R, D)
		}}},
		{"ScatterAdd", "sums run backwards", faulty{scatter: func(dSrc, dOut kernels.Buf, idx []int32, lo, N, R, D int) {
			for i := N - 1; i >= 0; i-- {
				s.ScatterAdd(dSrc, dOut.Slice(i*D, (i+1)*D), idx[i:i+1], lo, 1, R, D)
			}
		}}},
		{"Linear", "the last term is lost", faulty{linear: func(out, pre, x, w, b kernels.Buf, act kernels.Act, N, I, O int) {
			short := slices.Clone(x.F32())
			if I%8 == 7 && N > 0 {
				short[N*I-1] = 0
			}
			s.Linear(out, pre, kernels.Of(short), w, b, act, N, I, O)
		}}},
		{"Linear", "an input is written", faulty{linear: func(out, pre, x, w, b kernels.Buf, act kernels.Act, N, I, O int) {
			s.Linear(out, pre, x, w, b, act, N, I, O)
			if I > 1 && N > 0 {
				x.F32()[1] = 0
			}
		}}},
		{"Linear", "one element too many is written", faulty{
			linear: func(out, pre, x, w, b kernels.Buf, act kernels.Act, N, I, O int) {
				s.Linear(out, pre, x, w, b, act, N, I, O)
				longer(out)[N*O] = 0
			}}},
		{"Linear", "an old output is added to", faulty{
			linear: func(out, pre, x, w, b kernels.Buf, act kernels.Act, N, I, O int) {
				old := slices.Clone(out.F32())
				s.Linear(out, pre, x, w, b, act, N, I, O)
				for i, x := range old {
					out.F32()[i] += 0 * x
				}
			}}},
		{"Linear", "a call depends on the one before", faulty{
			linear: func(out, pre, x, w, b kernels.Buf, act kernels.Act, N, I, O int) {
				s.Linear(out, pre, x, w, b, act, N, I, O)
				if N*O > 0 && calls.Add(1)%2 == 0 {
					nudge(&out.F32()[0])
				}
			}}},
		{"Weights", "int8 products take x unrounded", faulty{
			linear: func(out, pre, x, w, b kernels.Buf, act kernels.Act, N, I, O int) {
				if w.DType() == kernels.I8 && I > 0 {
					wide, all := s.Alloc(O*I), make([]int32, O)
					for i := range all {
						all[i] = int32(i)
					}
					s.Gather(wide, w, all, 0, O, O, I)
					w = wide
				}
				s.Linear(out, pre, x, w, b, act, N, I, O)
			}}},
		{"AttentionRanges", "rows that stand twice count once", faulty{ranges: func(a *kernels.Ranges) {
			once := *a
			once.At, once.Lo, once.Hi = []int32{0}, nil, nil
			for l := range a.N * a.KV {
				seen := map[int32]bool{}
				for i := a.At[l]; i < a.At[l+1]; i++ {
					for row := a.Lo[i]; row < a.Hi[i]; row++ {
						if !seen[row] {
							once.Lo, once.Hi = append(once.Lo, row), append(once.Hi, row+1)
						}
						seen[row] = true
					}
				}
				once.At = append(once.At, int32(len(once.Lo)))
			}
			s.AttentionRanges(&once)
		}}},
		{"Top", "the best int8 score is taken", faulty{top: func(t *kernels.Top) {
			z := s.Alloc(t.N * t.V)
			s.Linear(z, kernels.Buf{}, t.X, t.Q, t.B, kernels.None, t.N, t.D, t.V)
			for n := range t.N {
				row := z.F32()[n*t.V : (n+1)*t.V]
				t.IDs[n] = int32(slices.Index(row, slices.Max(row)))
				t.Scores.F32()[n] = row[t.IDs[n]]
			}
			t.Scored = t.N
		}}},
		{"Top", "the highest of equals is taken", faulty{top: func(t *kernels.Top) {
			s.Top(t)
			z := s.Alloc(t.N * t.V)
			s.Linear(z, kernels.Buf{}, t.X, t.W, t.B, kernels.None, t.N, t.D, t.V)
			for i, y := range z.F32() {
				if n := i / t.V; y == z.F32()[n*t.V+int(t.IDs[n])] {
					t.IDs[n] = int32(i % t.V)
				}
			}
		}}},
		{"Narrow", "a NaN is hidden", faulty{linear: func(out, pre, x, w, b kernels.Buf, act kernels.Act, N, I, O int) {
			s.Linear(out, pre, x, w, b, act, N, I, O)
			for i, y := range out.F32() {
				if y != y && w.DType() == kernels.I8 {
					out.F32()[i] = 0
				}
			}
		}}},
		{"Rows", "many rows take another path", faulty{
			linear: func(out, pre, x, w, b kernels.Buf, act kernels.Act, N, I, O int) {
				s.Linear(out, pre, x, w, b, act, N, I, O)
				if N > 8 {
					nudge(&out.F32()[N*O/2])
				}
			}}},
		{"LinearBackward", "the gradient is added", faulty{backwardW: func(dW, dOut, x kernels.Buf, N, I, O int) {
			old := slices.Clone(dW.F32())
			s.LinearBackwardW(dW, dOut, x, N, I, O)
			for i, v := range old {
				dW.F32()[i] += v
			}
		}}},
		{"Pack", "packed weights outlive Unpack", stale(s)},
		{"Threads", "a sum is split among threads", faulty{backwardW: func(dW, dOut, x kernels.Buf, N, I, O int) {
			part, parts := s.Alloc(O*I), runtime.GOMAXPROCS(0)
			s.Zero(dW)
			for p := range parts {
				a, z := p*N/parts, (p+1)*N/parts
				s.LinearBackwardW(part, dOut.Slice(a*O, z*O), x.Slice(a*I, z*I), z-a, I, O)
				s.Add(dW, dW, part, O*I)
			}
		}}},
		{"Overlap", "the output is cleared first", faulty{act: func(dPre, dOut, saved kernels.Buf, act kernels.Act, n int) {
			s.Zero(dPre)
			s.ActBackward(dPre, dOut, saved, act, n)
		}}},
		{"ActBackward", "the derivative of the other activation", faulty{
			act: func(dPre, dOut, saved kernels.Buf, act kernels.Act, n int) {
				s.ActBackward(dPre, dOut, saved, min(act, kernels.ReLU), n)
			}}},
		{"Rows", "the tail of a vector loop differs", faulty{swiGLU: func(out, gate, up kernels.Buf, n int) {
			s.SwiGLU(out, gate, up, n)
			for i := n / 8 * 8; i < n; i++ {
				nudge(&out.F32()[i])
			}
		}}},
		{"Extremes", "exp overflows", faulty{swiGLU: func(out, gate, up kernels.Buf, n int) {
			for i, g := range gate.F32()[:n] {
				e := float32(math.Exp(float64(g)))
				out.F32()[i] = g * e / (1 + e) * up.F32()[i]
			}
		}}},
		{"NaN", "a clamp hides it", faulty{linear: func(out, pre, x, w, b kernels.Buf, act kernels.Act, N, I, O int) {
			s.Linear(out, pre, x, w, b, act, N, I, O)
			for i, v := range out.F32() {
				if act == kernels.ReLU && !(v > 0) {
					out.F32()[i] = 0
				}
			}
		}}},
		{"LayerNorm", "the variance is unbiased", faulty{
			layerNorm: func(out, mean, rstd, x, w, b kernels.Buf, eps float64, N, D int) {
				s.LayerNorm(out, mean, rstd, x, w, b, eps, N, D)
				if !rstd.Absent() {
					s.Scale(rstd, math.Sqrt(float64(D-1)/float64(D)), rstd, N)
				}
			}}},
		{"LayerNorm", "an absent gradient drops the others", faulty{
			layerBack: func(dX, dW, dB, dOut, x, w, mean, rstd kernels.Buf, N, D int) {
				if !dX.Absent() {
					s.LayerNormBackward(dX, dW, dB, dOut, x, w, mean, rstd, N, D)
				}
			}}},
		{"Rotary", "the angle is in float32", faulty{
			rotary: func(out, x kernels.Buf, pos []int32, freqs []float64, inverse bool, N, H, K int) {
				for n := range N {
					f := make([]float64, len(freqs))
					for j := range f {
						f[j] = float64(float32(pos[n]) * float32(freqs[j]))
					}
					row := H * K
					s.Rotary(out.Slice(n*row, (n+1)*row), x.Slice(n*row, (n+1)*row), []int32{1}, f, inverse, 1, H, K)
				}
			}}},
		{"Attention", "head h reads key head h mod KV", faulty{attention: func(a *kernels.Attention) {
			s.Attention(a)
			if a.KV > 1 && a.H > a.KV && a.N > 0 {
				b := *a
				b.H, b.Lse, b.Out = a.KV, kernels.Buf{}, s.Alloc(a.N*a.KV*a.HeadDim)
				s.Attention(&b)
				copy(a.Out.F32()[:a.HeadDim], b.Out.F32()[a.HeadDim:])
			}
		}}},
		{"AttentionLeak", "a causal query looks ahead", faulty{attention: func(a *kernels.Attention) {
			b, sp := *a, *a.Spans
			sp.Causal = false
			b.Spans = &sp
			s.Attention(&b)
		}}},
		{"AttentionLeak", "what is masked is multiplied by zero", faulty{attention: func(a *kernels.Attention) {
			s.Attention(a)
			for _, v := range a.V.F32() {
				for i := range a.Out.F32() {
					a.Out.F32()[i] += 0 * v
				}
			}
		}}},
		{"AttentionRows", "a decoding step differs", faulty{attention: func(a *kernels.Attention) {
			s.Attention(a)
			if a.N == 1 {
				nudge(&a.Out.F32()[0])
			}
		}}},
		{"Attention", "shared keys keep the last gradient", faulty{attBack: func(a *kernels.Attention) {
			s.AttentionBackward(a)
			if g := len(a.Spans.KLo); g > 0 {
				b, sp := *a, *a.Spans
				sp.Q = append([]int32{}, sp.Q...)
				b.DQ = s.Alloc(a.DQ.Len())
				n := int(sp.Q[g-1])
				row := a.H * a.HeadDim
				b.N -= n
				b.Q, b.Out, b.DOut = a.Q.Slice(n*row, a.Q.Len()), a.Out.Slice(n*row, a.Out.Len()), a.DOut.Slice(n*row, a.DOut.Len())
				b.Lse = a.Lse.Slice(n*a.H, a.Lse.Len())
				b.Spans = &kernels.Spans{
					Q: []int32{0, int32(b.N)}, KLo: sp.KLo[g-1:], KHi: sp.KHi[g-1:], Causal: sp.Causal,
				}
				s.AttentionBackward(&b)
			}
		}}},
		{"Segments", "an empty segment keeps what was there", faulty{segmentSum: func(out, x kernels.Buf, at []int32, S, D int) {
			old := slices.Clone(out.F32())
			s.SegmentSum(out, x, at, S, D)
			for i, v := range old {
				if at[i/D] == at[i/D+1] {
					out.F32()[i] = v
				}
			}
		}}},
		{"ShortOperands", "sizes are not checked", faulty{add: func(out, a, b kernels.Buf, n int) {
			s.Add(out, a, b, min(n, out.Len(), a.Len(), b.Len()))
		}}},
		{"Panics", "a bad target is clamped", faulty{xent: func(a *kernels.Xent) float64 {
			b := *a
			b.Targets = slices.Clone(a.Targets)
			for i, t := range b.Targets {
				b.Targets[i] = min(t, int32(a.V-1))
			}
			return s.Xent(&b)
		}}},
		{"Dropout", "the kept are not scaled", faulty{dropout: func(out, x kernels.Buf, p float64, seed uint64, n int) {
			s.Dropout(out, x, p, seed, n)
			s.Scale(out, 1-p, out, n)
		}}},
		{"Dropout", "other elements fall", faulty{dropout: func(out, x kernels.Buf, p float64, seed uint64, n int) {
			s.Dropout(out, x, p, seed+1, n)
		}}},
		{"Noise", "sigma is a variance", faulty{noise: func(out, x kernels.Buf, sigma float64, seed uint64, n int) {
			s.Noise(out, x, math.Sqrt(sigma), seed, n)
		}}},
		{"Xent", "ignored rows are scored", faulty{xent: func(a *kernels.Xent) float64 {
			b := *a
			b.Targets = slices.Clone(a.Targets)
			for i, t := range b.Targets {
				b.Targets[i] = max(t, 0)
			}
			return s.Xent(&b)
		}}},
		{"Xent", "gamma is left out of the loss", faulty{xent: func(a *kernels.Xent) float64 {
			b := *a
			b.Gamma = 0
			b.DX, b.DW, b.DB = kernels.Buf{}, kernels.Buf{}, kernels.Buf{}
			s.Xent(a)
			return s.Xent(&b)
		}}},
		{"XentTop", "the last of equals wins", faulty{xent: func(a *kernels.Xent) float64 {
			loss := s.Xent(a)
			z := make([]float32, a.V)
			for n := range a.Top {
				ref.Linear(z, nil, a.X.F32()[n*a.D:], a.W.F32(), nil, kernels.None, 1, a.D, a.V)
				for j := range z {
					if z[j] == z[a.Top[n]] {
						a.Top[n] = int32(j)
					}
				}
			}
			return loss
		}}},
		{"AdamW", "the decay is coupled", faulty{adamW: func(w, m, v, g kernels.Buf, p kernels.AdamW, n int) {
			d := s.Alloc(n)
			s.Scale(d, p.GradScale, g, n)
			s.AddScaled(d, p.WeightDecay, w, n)
			p.GradScale, p.WeightDecay = 1, 0
			s.AdamW(w, m, v, d, p, n)
		}}},
		{"AdamW", "no bias correction", faulty{adamW: func(w, m, v, g kernels.Buf, p kernels.AdamW, n int) {
			p.Step = 1 << 20
			s.AdamW(w, m, v, g, p, n)
		}}},
		{"SumSquares", "the sum is in float32", faulty{sumSquares: func(x kernels.Buf, n int) float64 {
			var sum float32
			for _, v := range x.F32()[:n] {
				sum += v * v
			}
			return float64(sum)
		}}},
	}
}

// packer keeps a copy of the weights it packed, and the copy after Unpack too.
type packer struct {
	kernels.Backend
	kept map[kernels.Buf]kernels.Buf
}

func stale(s kernels.Backend) faulty {
	return faulty{Backend: packer{s, map[kernels.Buf]kernels.Buf{}}}
}

func (p packer) Pack(w kernels.Buf, O, I int) {
	p.kept[w] = p.Alloc(O * I)
	p.Copy(p.kept[w], w)
}

func (p packer) Linear(out, pre, x, w, b kernels.Buf, act kernels.Act, N, I, O int) {
	if k, ok := p.kept[w]; ok {
		w = k
	}
	p.Backend.Linear(out, pre, x, w, b, act, N, I, O)
}

// recorder notes failures instead of reporting them.
type recorder struct{ failed bool }

func (r *recorder) Helper()               {}
func (r *recorder) Errorf(string, ...any) { r.failed = true }
func (r *recorder) Fatal(...any)          { runtime.Goexit() }

// TestSuiteFindsFaults breaks a sound backend in one way at a time and expects the subtest named to fail.
func TestSuiteFindsFaults(t *testing.T) {
	for _, f := range faults() {
		t.Run(fmt.Sprint(f.test, "/", f.name), func(t *testing.T) {
			if f.b.Backend == nil {
				f.b.Backend = ref.New(kernels.F32)
			}
			i := slices.IndexFunc(tests, func(c testCase) bool { return c.name == f.test })
			r, done := &recorder{}, make(chan any)
			go func() {
				defer func() { done <- recover() }()
				tests[i].run(newSuite(r, func() kernels.Backend { return &f.b }))
			}()
			if p := <-done; p != nil {
				t.Fatal("the fault panics: ", p)
			}
			if !r.failed {
				t.Error("not noticed")
			}
		})
	}
}
