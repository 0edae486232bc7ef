package kerneltest

import (
	"fmt"
	"math"

	"svae/kernels"
)

// rangeKinds make the list of one query and key head over M rows.
var rangeKinds = []struct {
	name string
	list func(e *env, M int32) [][2]int32
}{
	{"none", func(*env, int32) [][2]int32 { return nil }},
	{"all", func(_ *env, M int32) [][2]int32 { return [][2]int32{{0, M}} }},
	{"all in pieces", func(e *env, M int32) (l [][2]int32) {
		for at := int32(0); at < M; {
			n := min(1+e.Int32N(40), M-at)
			l = append(l, [2]int32{at, at + n})
			at += n
		}
		return l
	}},
	{"single rows", func(e *env, M int32) (l [][2]int32) {
		for at := e.Int32N(3); at < M; at += 1 + e.Int32N(5) {
			l = append(l, [2]int32{at, at + 1})
		}
		return l
	}},
	{"sentences", func(e *env, M int32) (l [][2]int32) {
		for at := e.Int32N(30); at < M; at += 30 + e.Int32N(60) {
			l = append(l, [2]int32{at, min(at+20+e.Int32N(30), M)})
		}
		return l
	}},
	{"any order, twice, empty", func(e *env, M int32) (l [][2]int32) {
		for range 1 + e.IntN(9) {
			lo := e.Int32N(M + 1)
			l = append(l, [2]int32{lo, lo + e.Int32N(min(M-lo, 70)+1)})
		}
		return l
	}},
}

// ranged is a case of AttentionRanges on the host.
type ranged struct {
	attn
	at, lo, hi []int32
}

// newRanged makes N queries over M rows whose lists are of a kind each, or of all of them in turn if kind is negative.
func newRanged(e *env, h heads, N, M, kind int) *ranged {
	r := &ranged{attn: attn{heads: h, N: N, M: M, scale: 1 / math.Sqrt(float64(h.K))}, at: []int32{0}}
	r.q, r.k, r.v = e.normals(N*h.H*h.K, 1.5), e.normal(M*h.KV*h.K), e.normal(M*h.KV*h.K)
	for i := range N * h.KV {
		k := kind
		if k < 0 {
			k = i % len(rangeKinds)
		}
		for _, l := range rangeKinds[k].list(e, int32(M)) {
			r.lo, r.hi = append(r.lo, l[0]), append(r.hi, l[1])
		}
		r.at = append(r.at, int32(len(r.lo)))
	}
	return r
}

func (r *ranged) operands(b kernels.Backend) *kernels.Ranges {
	return &kernels.Ranges{
		Out: b.Alloc(len(r.q)), Lse: b.Alloc(r.N * r.H), Q: upload(b, r.q), K: upload(b, r.k), V: upload(b, r.v),
		At: r.at, Lo: r.lo, Hi: r.hi, N: r.N, M: r.M, H: r.H, KV: r.KV, HeadDim: r.K, Scale: r.scale,
	}
}

// gathered runs Attention for each query and key head over a copy of its rows.
func (r *ranged) gathered(b kernels.Backend) (out, lse []float64) {
	group := r.H / r.KV
	for n := range r.N {
		for g := range r.KV {
			one := &attn{heads: heads{group, 1, r.K}, N: 1, scale: r.scale}
			one.q = r.q[(n*r.H+g*group)*r.K:][:group*r.K]
			for i := r.at[n*r.KV+g]; i < r.at[n*r.KV+g+1]; i++ {
				for row := int(r.lo[i]); row < int(r.hi[i]); row++ {
					at := (row*r.KV + g) * r.K
					one.k, one.v = append(one.k, r.k[at:at+r.K]...), append(one.v, r.v[at:at+r.K]...)
					one.M++
				}
			}
			one.sp = &kernels.Spans{Q: []int32{0, 1}, KLo: []int32{0}, KHi: []int32{int32(one.M)}}
			op := one.forward(b)
			b.Attention(op)
			out, lse = append(out, download(b, op.Out)...), append(lse, download(b, op.Lse)...)
		}
	}
	return out, lse
}

func attentionRanges(h heads, N, M, kind int, keep bool) func(*env) {
	return func(e *env) {
		r := newRanged(e, h, N, M, kind)
		op := r.operands(e.b)
		op.Q, op.K, op.V = e.in("q", r.q), e.in("k", r.k), e.in("v", r.v)
		op.Out = e.out("out", len(r.q), tolAttn, func() []float64 { return r.mags(len(r.q), 4) })
		if op.Lse = (kernels.Buf{}); keep {
			op.Lse = e.out("lse", r.N*r.H, tolAttn, func() []float64 { return r.mags(r.N*r.H, 8) })
		}
		e.b.AttentionRanges(op)
	}
}

// mags returns n times a magnitude that holds for all: that of the largest score, times by.
func (r *ranged) mags(n int, by float64) []float64 {
	worst := 0.0
	for _, x := range r.q {
		worst = max(worst, math.Abs(x))
	}
	m := make([]float64, n)
	for i := range m {
		m[i] = by * (1 + worst*r.scale*float64(r.K))
	}
	return m
}

// testAttentionRanges checks it against the measure, and that it gives the bits of Attention: over a copy of the rows, and,
// if the lists hold all rows in order, over the rows themselves. Rows in no list may hold NaN.
func testAttentionRanges(s *suite) {
	for i, h := range headings {
		for kind := -1; kind < len(rangeKinds); kind++ {
			for _, d := range [][2]int{{1, 7}, {3, 100}, {1, 1300}} {
				N, M := d[0], d[1]
				if M == 1300 && (i+kind)%4 != 0 || s.thin() {
					continue
				}
				label := fmt.Sprintf("AttentionRanges %+v N=%d M=%d kind=%d", h, N, M, kind)
				s.check(label, attentionRanges(h, N, M, kind, true))
				s.check(label+" without lse", attentionRanges(h, N, M, kind, false))
				s.gather(label, newRanged(newEnv(s.b, label, 0), h, N, M, kind), kind == 1 || kind == 2)
			}
		}
	}
}

// gather compares with Attention over copies, and with Attention over all rows if they are what the lists hold.
func (s *suite) gather(label string, r *ranged, all bool) {
	s.Helper()
	seen := make([]bool, r.M*r.KV)
	for i := range r.N * r.KV {
		for l := r.at[i]; l < r.at[i+1]; l++ {
			for row := r.lo[l]; row < r.hi[l]; row++ {
				seen[int(row)*r.KV+i%r.KV] = true
			}
		}
	}
	for i := range r.k {
		if !seen[i/r.K] {
			r.k[i], r.v[i] = math.NaN(), math.NaN()
		}
	}
	op := r.operands(s.b)
	s.b.AttentionRanges(op)
	out, lse := download(s.b, op.Out), download(s.b, op.Lse)
	same := func(where string, wantOut, wantLse []float64) {
		s.Helper()
		if i := differ(out, wantOut); i >= 0 {
			s.fail("%s: out[%d] is %v, and %v %s", label, i, out[i], wantOut[i], where)
		}
		if i := differ(lse, wantLse); i >= 0 {
			s.fail("%s: lse[%d] is %v, and %v %s", label, i, lse[i], wantLse[i], where)
		}
	}
	wantOut, wantLse := r.gathered(s.b)
	same("over a copy", wantOut, wantLse)
	if all {
		r.sp = &kernels.Spans{Q: []int32{0, int32(r.N)}, KLo: []int32{0}, KHi: []int32{int32(r.M)}}
		dense := r.forward(s.b)
		s.b.Attention(dense)
		same("over all rows", download(s.b, dense.Out), download(s.b, dense.Lse))
	}
}
