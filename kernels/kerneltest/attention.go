package kerneltest

import (
	"fmt"
	"math"
	"sync"

	"svae/kernels"
)

// heads is one way to split a row: H query heads over KV key heads of size K.
type heads struct{ H, KV, K int }

var headings = []heads{
	{1, 1, 2}, {2, 1, 6}, {2, 2, 8}, {4, 2, 16}, {6, 3, 33}, {8, 1, 8}, {3, 3, 64}, {1, 1, 1}, {4, 4, 80}, {2, 1, 128},
}

// spread is one way to lay out queries and keys.
type spread struct {
	S, longest int  // segments and the most queries of one
	causal     bool // the last queries of their keys
	shared     bool // segments read the same keys
}

var spreads = []spread{
	{0, 0, false, false}, {1, 1, false, false}, {1, 1, true, false}, {1, 9, true, false}, {5, 3, false, false},
	{5, 3, true, false}, {7, 9, true, true}, {7, 9, false, true}, {2, 33, true, false}, {2, 33, false, true},
}

// spans returns the ranges of a spread and the number of key rows, with empty segments, segments without keys, rows
// between the ranges that no query sees, and as many keys as queries or more.
func (p spread) spans(e *env) (sp *kernels.Spans, M int) {
	sp = &kernels.Spans{Q: offsets(e, 0, p.S, p.longest), Causal: p.causal}
	next := e.Int32N(3)
	for i := range p.S {
		n := sp.Q[i+1] - sp.Q[i]
		m := e.Int32N(int32(2*p.longest) + 1)
		if p.causal {
			m = n + e.Int32N(6)*e.Int32N(2)
		}
		if p.shared {
			next = e.Int32N(5)
		}
		sp.KLo, sp.KHi = append(sp.KLo, next), append(sp.KHi, next+m)
		M = max(M, int(next+m))
		next += m + e.Int32N(3)
	}
	return sp, M + e.IntN(3)
}

// eachQuery calls f for every query row and the key rows lo to hi-1 that it sees.
func eachQuery(sp *kernels.Spans, f func(n, lo, hi int)) {
	for s := range sp.KLo {
		first, last, m := int(sp.Q[s]), int(sp.Q[s+1]), int(sp.KHi[s]-sp.KLo[s])
		for i := range last - first {
			seen := m
			if sp.Causal {
				seen = m - (last - first) + i + 1
			}
			f(first+i, int(sp.KLo[s]), int(sp.KLo[s])+seen)
		}
	}
}

// attn holds the values of a case on the host.
type attn struct {
	heads
	N, M       int
	sp         *kernels.Spans
	scale      float64
	q, k, v, d []float64 // d is the gradient of the output
	out, lse   []float64 // as the measure gives them, rounded to float32
}

func newAttn(e *env, h heads, p spread) *attn {
	a := &attn{heads: h, scale: 1 / math.Sqrt(float64(h.K))}
	a.sp, a.M = p.spans(e)
	a.N = int(a.sp.Q[p.S])
	q, kv := a.N*h.H*h.K, a.M*h.KV*h.K
	a.q, a.k, a.v, a.d = e.normals(q, 1.5), e.normal(kv), e.normal(kv), e.normal(q)
	return a
}

// fill runs the measure for out and lse.
func (a *attn) fill(b kernels.Backend) {
	op := a.forward(b)
	b.Attention(op)
	a.out, a.lse = rounded(download(b, op.Out)), rounded(download(b, op.Lse))
}

// forward returns the operands of a forward pass in fresh memory.
func (a *attn) forward(b kernels.Backend) *kernels.Attention {
	return &kernels.Attention{
		Out: b.Alloc(len(a.q)), Lse: b.Alloc(a.N * a.H), Q: upload(b, a.q), K: upload(b, a.k), V: upload(b, a.v),
		Spans: a.sp, N: a.N, M: a.M, H: a.H, KV: a.KV, HeadDim: a.K, Scale: a.scale,
	}
}

// pair is what the error of one head of one query is made of: where it lies, the largest sum of absolute terms of a
// score, and the scores' log-sum-exp.
func (a *attn) pair(n, h, lo, hi int) (at int, worst, lse float64) {
	at = (n*a.H + h) * a.K
	scores := make([]float64, hi-lo)
	for j := range scores {
		m := 0.0
		for i := range a.K {
			p := a.scale * a.q[at+i] * a.k[a.key(lo+j, h)+i]
			scores[j] += p
			m += math.Abs(p)
		}
		worst = max(worst, m)
	}
	return at, worst, logSumExp(scores)
}

// logSumExp returns ln Σ exp(v), -Inf for nothing.
func logSumExp(v []float64) float64 {
	top, sum := math.Inf(-1), 0.0
	for _, x := range v {
		top = max(top, x)
	}
	for _, x := range v {
		sum += math.Exp(x - top)
	}
	return top + math.Log(sum)
}

func (a *attn) key(j, h int) int { return (j*a.KV + h/(a.H/a.KV)) * a.K }

// forwardMags returns the magnitudes of Out and Lse: rounding a score by a part of its sum moves its probability by as
// much. The Lse of a query without keys is left open.
func (a *attn) forwardMags() (out, lse []float64) {
	out, lse = make([]float64, len(a.q)), make([]float64, a.N*a.H)
	eachQuery(a.sp, func(n, lo, hi int) {
		for h := range a.H {
			at, worst, l := a.pair(n, h, lo, hi)
			lse[n*a.H+h] = 1 + worst + math.Abs(l)
			for j := lo; j < hi; j++ {
				p := a.prob(at, j, h, l)
				for i := range a.K {
					out[at+i] += (1 + worst) * p * math.Abs(a.v[a.key(j, h)+i])
				}
			}
		}
	})
	return out, lse
}

// prob returns the probability of key row j for the head of a query that begins at q[at].
func (a *attn) prob(at, j, h int, lse float64) float64 {
	s := 0.0
	for i := range a.K {
		s += a.scale * a.q[at+i] * a.k[a.key(j, h)+i]
	}
	return math.Exp(s - lse)
}

// backwardMags returns the magnitudes of DQ, DK and DV: the sums of the backward pass over absolute terms.
func (a *attn) backwardMags() (dQ, dK, dV []float64) {
	dQ, dK, dV = make([]float64, len(a.q)), make([]float64, len(a.k)), make([]float64, len(a.k))
	eachQuery(a.sp, func(n, lo, hi int) {
		for h := range a.H {
			at, worst, l := a.pair(n, h, lo, hi)
			delta := 0.0
			for i := range a.K {
				delta += math.Abs(a.d[at+i] * a.out[at+i])
			}
			for j := lo; j < hi; j++ {
				kat := a.key(j, h)
				p, dp := a.prob(at, j, h, l)*(1+worst+math.Abs(l)), delta
				for i := range a.K {
					dp += math.Abs(a.d[at+i] * a.v[kat+i])
				}
				ds := a.scale * p * dp
				for i := range a.K {
					dV[kat+i] += p * math.Abs(a.d[at+i])
					dQ[at+i] += ds * math.Abs(a.k[kat+i])
					dK[kat+i] += ds * math.Abs(a.q[at+i])
				}
			}
		}
	})
	return dQ, dK, dV
}

func attention(h heads, p spread, keep bool) func(*env) {
	return func(e *env) {
		a := newAttn(e, h, p)
		op := a.forward(e.b)
		op.Q, op.K, op.V = e.in("q", a.q), e.in("k", a.k), e.in("v", a.v)
		op.Out = e.out("out", len(a.q), tolAttn, func() []float64 { m, _ := a.forwardMags(); return m })
		op.Lse = kernels.Buf{}
		if keep {
			op.Lse = e.out("lse", a.N*a.H, tolAttn, func() []float64 { _, m := a.forwardMags(); return m })
		}
		e.b.Attention(op)
	}
}

func attentionBackward(h heads, p spread, measure kernels.Backend) func(*env) {
	return func(e *env) {
		a := newAttn(e, h, p)
		a.fill(measure)
		op := a.forward(e.b)
		op.Q, op.K, op.V = e.in("q", a.q), e.in("k", a.k), e.in("v", a.v)
		op.Out, op.Lse, op.DOut = e.in("out", a.out), e.in("lse", a.lse), e.in("dOut", a.d)
		mags := sync.OnceValue(func() [3][]float64 {
			dQ, dK, dV := a.backwardMags()
			return [3][]float64{dQ, dK, dV}
		})
		op.DQ = e.out("dQ", len(a.q), tolAttn, func() []float64 { return mags()[0] })
		op.DK = e.out("dK", len(a.k), tolAttn, func() []float64 { return mags()[1] })
		op.DV = e.out("dV", len(a.k), tolAttn, func() []float64 { return mags()[2] })
		e.b.AttentionBackward(op)
	}
}

func testAttention(s *suite) {
	each := func(h heads, p spread) {
		label := fmt.Sprintf("%+v %+v", h, p)
		s.check("Attention "+label, attention(h, p, true))
		s.check("Attention without lse "+label, attention(h, p, false))
		s.check("AttentionBackward "+label, attentionBackward(h, p, s.ref))
	}
	for _, p := range spreads {
		for _, h := range headings {
			if !s.thin() {
				each(h, p)
			}
		}
	}
	for _, causal := range []bool{false, true} {
		each(heads{2, 1, 16}, spread{2, 150, causal, false})
		each(heads{2, 2, 8}, spread{40, 12, causal, causal})
	}
}

// testAttentionLeak puts NaN where no query may look: the key rows between the ranges, and for every causal query the
// rows after its own.
func testAttentionLeak(s *suite) {
	for _, h := range headings {
		for _, p := range spreads {
			label := fmt.Sprintf("%+v %+v", h, p)
			a := newAttn(newEnv(s.b, label, 0), h, p)
			seen := make([]bool, a.M)
			eachQuery(a.sp, func(_, lo, hi int) {
				for j := lo; j < hi; j++ {
					seen[j] = true
				}
			})
			for i := range a.k {
				if !seen[i/(h.KV*h.K)] {
					a.k[i], a.v[i] = math.NaN(), math.NaN()
				}
			}
			s.leak(label, a, func(int) bool { return false })
			if !p.causal || p.shared {
				continue
			}
			// Now the last key of every segment: its last query alone may see it.
			last := map[int]bool{}
			for g := range p.S {
				if a.sp.Q[g] < a.sp.Q[g+1] {
					last[int(a.sp.Q[g+1])-1] = true
					row := int(a.sp.KHi[g]-1) * h.KV * h.K
					for i := range h.KV * h.K {
						a.k[row+i], a.v[row+i] = math.NaN(), math.NaN()
					}
				}
			}
			s.leak(label+", last keys", a, func(n int) bool { return last[n] })
		}
	}
}

// leak runs both passes and reports a NaN in the result of a query that is not spoilt.
func (s *suite) leak(label string, a *attn, spoilt func(n int) bool) {
	s.Helper()
	op := a.forward(s.b)
	op.DOut, op.DQ = upload(s.b, a.d), s.b.Alloc(len(a.q))
	op.DK, op.DV = s.b.Alloc(len(a.k)), s.b.Alloc(len(a.k))
	s.b.Attention(op)
	s.b.AttentionBackward(op)
	for _, buf := range []kernels.Buf{op.Out, op.DQ} {
		for i, x := range download(s.b, buf) {
			if n := i / (a.H * a.K); math.IsNaN(x) != spoilt(n) {
				s.fail("%s: query %d sees %v, must it be NaN: %t", label, n, x, spoilt(n))
				return
			}
		}
	}
}

// testAttentionRows checks that a query's result is the same to the bit alone and among others: its segment alone, and
// the query alone over the keys it sees, as a cached decoding step computes it. The gradients of a segment's keys, too,
// are those of the segment alone.
func testAttentionRows(s *suite) {
	for _, h := range headings {
		for _, p := range spreads {
			label := fmt.Sprintf("%+v %+v", h, p)
			a := newAttn(newEnv(s.b, label, 0), h, p)
			all := s.attend(a)
			for g := range p.S {
				one := a.only(int(a.sp.Q[g]), int(a.sp.Q[g+1]), int(a.sp.KLo[g]), int(a.sp.KHi[g]), p.causal)
				s.rowsEqual(label+fmt.Sprint(" segment ", g), a, all, one, int(a.sp.Q[g]), int(a.sp.KLo[g]), !p.shared)
			}
			eachQuery(a.sp, func(n, lo, hi int) {
				one := a.only(n, n+1, lo, hi, false)
				s.rowsEqual(label+fmt.Sprint(" query ", n), a, all, one, n, lo, false)
			})
		}
	}
}

// only returns the case of query rows n0 to n1-1 over key rows k0 to k1-1.
func (a *attn) only(n0, n1, k0, k1 int, causal bool) *attn {
	q, kv := a.H*a.K, a.KV*a.K
	return &attn{
		heads: a.heads, N: n1 - n0, M: k1 - k0, scale: a.scale,
		sp: &kernels.Spans{Q: []int32{0, int32(n1 - n0)}, KLo: []int32{0}, KHi: []int32{int32(k1 - k0)}, Causal: causal},
		q:  a.q[n0*q : n1*q], d: a.d[n0*q : n1*q], k: a.k[k0*kv : k1*kv], v: a.v[k0*kv : k1*kv],
	}
}

// attended is what both passes gave.
type attended struct{ out, lse, dQ, dK, dV []float64 }

func (s *suite) attend(a *attn) attended {
	op := a.forward(s.b)
	op.DOut, op.DQ = upload(s.b, a.d), s.b.Alloc(len(a.q))
	op.DK, op.DV = s.b.Alloc(len(a.k)), s.b.Alloc(len(a.k))
	s.b.Attention(op)
	s.b.AttentionBackward(op)
	get := func(b kernels.Buf) []float64 { return download(s.b, b) }
	return attended{get(op.Out), get(op.Lse), get(op.DQ), get(op.DK), get(op.DV)}
}

// rowsEqual compares a part, run alone, with the whole, from query row n and key row k on.
func (s *suite) rowsEqual(label string, a *attn, all attended, one *attn, n, k int, keys bool) {
	s.Helper()
	part := s.attend(one)
	q, kv := a.H*a.K, a.KV*a.K
	for _, c := range []struct {
		name      string
		part, all []float64
	}{
		{"out", part.out, all.out[n*q:]}, {"lse", part.lse, all.lse[n*a.H:]}, {"dQ", part.dQ, all.dQ[n*q:]},
		{"dK", part.dK, all.dK[k*kv:]}, {"dV", part.dV, all.dV[k*kv:]},
	} {
		if !keys && (c.name == "dK" || c.name == "dV") {
			continue
		}
		if i := differ(c.part, c.all); i >= 0 {
			s.fail("%s: %s[%d] is %v alone and %v among others", label, c.name, i, c.part[i], c.all[i])
			return
		}
	}
}
