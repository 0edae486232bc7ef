package kv

import (
	"math"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"testing"

	"svae/kernels"
	"svae/kernels/cpu"
	"svae/kernels/ref"
)

// geometry is small and odd enough to reach the edges: 6 heads over 2 key heads of 16.
var geometry = Config{Layers: 2, Heads: 6, KVHeads: 2, HeadDim: 16, Fingerprint: "test"}

// sequence is made-up keys, values and queries with sentences: keys drift from sentence to sentence, have channels of
// outliers, and here and there a key that stands out; queries look for some of the keys.
type sequence struct {
	cfg     Config
	k, v, q [][]float32 // of each layer: (N, KV*K), (N, KV*K), (N, H*K)
	bounds  []int
	ids     []int32
	N       int
}

func newSequence(cfg Config, seed uint64, N int) *sequence { return newTopics(cfg, seed, N, 0.8, 0.6) }

// newTopics is newSequence with topics that keep so much of the last one and take in so much of another.
func newTopics(cfg Config, seed uint64, N int, keep, change float32) *sequence {
	r := rand.New(rand.NewPCG(seed, 7))
	s := &sequence{cfg: cfg, N: N}
	for at := 0; ; {
		at += 1 + r.IntN(30)
		if r.IntN(20) == 0 {
			at += 150
		}
		if at > N {
			break
		}
		s.bounds = append(s.bounds, at)
	}
	for range N {
		s.ids = append(s.ids, int32(r.IntN(1000)))
	}
	K, W := cfg.HeadDim, cfg.KVHeads*cfg.HeadDim
	for range cfg.Layers {
		k, v, q := make([]float32, N*W), make([]float32, N*W), make([]float32, N*cfg.Heads*K)
		topic := make([]float32, W)
		next := 0
		for t := range N {
			if next < len(s.bounds) && t == s.bounds[next] {
				for i := range topic {
					topic[i] = topic[i]*keep + float32(r.NormFloat64())*change
				}
				next++
			}
			for i := range W {
				x := topic[i] + float32(r.NormFloat64())*0.5
				if i%K == 3 {
					x = 4 + x*2
				}
				if t%97 == 13 {
					x *= 2
				}
				k[t*W+i], v[t*W+i] = x, float32(r.NormFloat64())
			}
			for h := range cfg.Heads {
				from := r.IntN(t + 1)
				for c := range K {
					q[(t*cfg.Heads+h)*K+c] = float32(r.NormFloat64()) + k[from*W+h*cfg.KVHeads/cfg.Heads*K+c]*0.7
				}
			}
		}
		s.k, s.v, s.q = append(s.k, k), append(s.v, v), append(s.q, q)
	}
	return s
}

func (s *sequence) query(layer, t int) []float32 {
	w := s.cfg.Heads * s.cfg.HeadDim
	return s.q[layer][t*w : (t+1)*w]
}

func (s *sequence) append(t testing.TB, st *Store, lo, hi int) {
	t.Helper()
	w := s.cfg.KVHeads * s.cfg.HeadDim
	for l := range s.cfg.Layers {
		must(t, st.Append(l, s.k[l][lo*w:hi*w], s.v[l][lo*w:hi*w]))
	}
	for _, b := range s.bounds {
		if b > lo && b <= hi {
			must(t, st.Seal(b))
		}
	}
}

// store returns a store of rows 0 to n-1.
func (s *sequence) store(t testing.TB, pool *Pool, n int) *Store {
	t.Helper()
	st, err := New(s.cfg, cpu.New(), pool)
	must(t, err)
	t.Cleanup(func() { st.Close() })
	s.append(t, st, 0, n)
	return st
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// whole returns attention over all rows in one piece, as the store's type gives them.
func whole(t testing.TB, st *Store, layer int, q []float32) (out, lse []float32) {
	t.Helper()
	c, n := st.cfg, st.Rows(layer)
	K, W := c.HeadDim, c.KVHeads*c.HeadDim
	k, v := make([]float32, n*W), make([]float32, n*W)
	hk, hv := make([]float32, n*K), make([]float32, n*K)
	for h := range c.KVHeads {
		must(t, st.gather(hk, hv, layer, h, []Range{{0, n}}))
		for r := range n {
			copy(k[r*W+h*K:], hk[r*K:(r+1)*K])
			copy(v[r*W+h*K:], hv[r*K:(r+1)*K])
		}
	}
	out, lse = make([]float32, c.Heads*K), make([]float32, c.Heads)
	st.backend.Attention(&kernels.Attention{Out: kernels.Of(out), Lse: kernels.Of(lse), Q: kernels.Of(q), K: kernels.Of(k), V: kernels.Of(v),
		Spans: &kernels.Spans{Q: []int32{0, 1}, KLo: []int32{0}, KHi: []int32{int32(n)}}, N: 1, M: n, H: c.Heads, KV: c.KVHeads,
		HeadDim: K, Scale: c.Scale})
	return out, lse
}

func sameBits(a, b []float32) bool {
	return slices.EqualFunc(a, b, func(x, y float32) bool { return math.Float32bits(x) == math.Float32bits(y) })
}

// sameStore checks that two stores hold the same rows, segments and summaries, to the bit.
func sameStore(t testing.TB, a, b *Store) {
	t.Helper()
	if !slices.Equal(a.ends, b.ends) {
		t.Fatalf("segments end at %v and %v", a.ends, b.ends)
	}
	for l := range a.layers {
		if a.Rows(l) != b.Rows(l) {
			t.Fatalf("layer %d has %d and %d rows", l, a.Rows(l), b.Rows(l))
		}
		for h := range a.layers[l].heads {
			n := a.Rows(l) * a.cfg.HeadDim
			x, y := make([]float32, 2*n), make([]float32, 2*n)
			must(t, a.gather(x[:n], x[n:], l, h, []Range{{0, a.Rows(l)}}))
			must(t, b.gather(y[:n], y[n:], l, h, []Range{{0, a.Rows(l)}}))
			if !sameBits(x, y) {
				t.Fatalf("layer %d head %d: rows differ", l, h)
			}
			p, q := &a.layers[l].heads[h], &b.layers[l].heads[h]
			if !sameBits(p.rank.f, q.rank.f) || !sameBits(p.wide.f, q.wide.f) {
				t.Fatalf("layer %d head %d: bounds of ranks differ", l, h)
			}
			if !sameBits(p.index.q.f, q.index.q.f) || !sameBits(p.index.scale.f, q.index.scale.f) ||
				!sameBits(p.index.center.f, q.index.center.f) {
				t.Fatalf("layer %d head %d: indices differ", l, h)
			}
			for i, s := range []*summaries{&p.seg, &p.par} {
				o := []*summaries{&q.seg, &q.par}[i]
				for j, x := range [][2]table{{s.mean, o.mean}, {s.vari, o.vari}, {s.box, o.box}, {s.val, o.val}, {s.info, o.info}} {
					if !sameBits(x[0].f, x[1].f) {
						t.Fatalf("layer %d head %d level %d: table %d differs", l, h, i, j)
					}
				}
			}
		}
	}
}

func forTypes(t *testing.T, f func(t *testing.T, cfg Config)) {
	for _, typ := range []Type{F32, BF16, I8} {
		t.Run(typ.String(), func(t *testing.T) {
			cfg := geometry
			cfg.Type = typ
			f(t, cfg)
		})
	}
}

func TestAttendWhole(t *testing.T) {
	forTypes(t, func(t *testing.T, cfg Config) {
		for _, n := range []int{1, 5, 63, 64, 65, 700} {
			seq := newSequence(cfg, 1, n)
			st := seq.store(t, nil, n)
			out, lse := make([]float32, 96), make([]float32, 6)
			for l := range 2 {
				q := seq.query(l, n-1)
				want, wantLse := whole(t, st, l, q)
				cut := []Range{{0, n}}
				if n > 1 {
					cut = []Range{{0, n / 2}, {n / 2, n}}
				}
				for _, ranges := range [][][]Range{{{{0, n}}, {{0, n}}}, {cut, {{0, n}}}, slices.Repeat([][]Range{{{0, n}}}, 6)} {
					must(t, st.Attend(out, lse, q, l, ranges))
					if !sameBits(out, want) || !sameBits(lse, wantLse) {
						t.Fatalf("%d rows, layer %d: not the bits of attention in one piece", n, l)
					}
				}
			}
		}
	})
}

// TestRead: rows read for all heads are those that each head attends to, in and out of RAM.
func TestRead(t *testing.T) {
	forTypes(t, func(t *testing.T, cfg Config) {
		const n, K, W = 333, 16, 32
		seq := newSequence(cfg, 30, n)
		pool := NewPool(20000, filepath.Join(t.TempDir(), "rows"))
		t.Cleanup(func() { pool.Close() })
		for _, st := range []*Store{seq.store(t, nil, n), seq.store(t, pool, n)} {
			for _, r := range []Range{{0, n}, {0, 0}, {63, 65}, {10, 200}, {320, 333}, {332, 333}} {
				m := r.Len()
				k, v := make([]float32, m*W), make([]float32, m*W)
				must(t, st.Read(k, v, 1, r.Lo, r.Hi))
				hk, hv := make([]float32, m*K), make([]float32, m*K)
				for h := range 2 {
					must(t, st.gather(hk, hv, 1, h, []Range{r}))
					for i := range m {
						if !sameBits(k[i*W+h*K:][:K], hk[i*K:][:K]) || !sameBits(v[i*W+h*K:][:K], hv[i*K:][:K]) {
							t.Fatalf("head %d row %d differs", h, r.Lo+i)
						}
					}
				}
			}
			x := make([]float32, 2*W)
			for _, err := range []error{st.Read(x, x, 2, 0, 2), st.Read(x, x, 0, n-1, n+1), st.Read(x, x, 0, -1, 1),
				st.Read(x, x, 0, 2, 0), st.Read(x, x[:W], 0, 0, 2)} {
				if err == nil {
					t.Error("a read of rows that are not there, or into too little, succeeded")
				}
			}
		}
	})
}

// TestAttendRanges compares gathered rows with a mask over all rows, in float64.
func TestAttendRanges(t *testing.T) {
	forTypes(t, func(t *testing.T, cfg Config) {
		const n = 333
		seq := newSequence(cfg, 2, n)
		st := seq.store(t, nil, n)
		ranges := [][]Range{{{0, 3}, {60, 70}, {100, 101}, {330, 333}}, {{64, 128}}}
		out, lse := make([]float32, 96), make([]float32, 6)
		q := seq.query(1, n-1)
		must(t, st.Attend(out, lse, q, 1, ranges))
		keys, values := make([]float32, n*16), make([]float32, n*16)
		for h := range 6 {
			must(t, st.gather(keys, values, 1, h/3, []Range{{0, n}}))
			want := make([]float64, 16)
			var sum float64
			for _, r := range ranges[h/3] {
				for i := r.Lo; i < r.Hi; i++ {
					e := math.Exp(dot64(q[h*16:(h+1)*16], keys[i*16:(i+1)*16]) / 4)
					sum += e
					for c := range want {
						want[c] += e * float64(values[i*16+c])
					}
				}
			}
			for c := range want {
				if d := math.Abs(want[c]/sum - float64(out[h*16+c])); d > 1e-5 {
					t.Fatalf("head %d: off by %g", h, d)
				}
			}
			if d := math.Abs(math.Log(sum) - float64(lse[h])); d > 1e-5 {
				t.Fatalf("head %d: log-sum-exp off by %g", h, d)
			}
		}
		// Nothing to read, and wrong lists.
		must(t, st.Attend(out, lse, q, 1, [][]Range{{}, {{0, 1}}}))
		if out[0] != 0 || !math.IsInf(float64(lse[0]), -1) || math.IsInf(float64(lse[3]), -1) {
			t.Fatal("a head without rows must give zeros and -Inf")
		}
		for _, bad := range [][][]Range{{}, {{}, {}, {}, {}}, {{{0, n + 1}}, {}}, {{{5, 5}}, {}}, {{{5, 9}, {8, 10}}, {}}, {{{-1, 2}}, {}}} {
			if st.Attend(out, lse, q, 1, bad) == nil {
				t.Fatalf("ranges %v were accepted", bad)
			}
		}
	})
}

func TestSegments(t *testing.T) {
	cfg := Config{Layers: 1, Heads: 1, KVHeads: 1, HeadDim: 4, MinSegment: 4}
	rows := make([]float32, 12000*4)
	for _, c := range []struct {
		name   string
		rows   int
		bounds []int
		ends   []int
	}{
		{"none", 0, nil, nil},
		{"no punctuation", 50, nil, nil},
		{"plain", 30, []int{10, 20, 30}, []int{10, 20, 30}},
		{"only punctuation", 9, []int{1, 2, 3, 4, 5, 6, 7, 8, 9}, []int{4, 8}},
		{"short ones merge", 40, []int{2, 20, 23, 40}, []int{20, 40}},
		{"split", 130, []int{130}, []int{64, 128}},
		{"split even", 128, []int{128}, []int{64, 128}},
		{"rest", 140, []int{5, 140}, []int{5, 69, 133, 140}},
	} {
		st, err := New(cfg, ref.New(kernels.F32), nil)
		must(t, err)
		must(t, st.Append(0, rows[:c.rows*4], rows[:c.rows*4]))
		for _, b := range c.bounds {
			must(t, st.Seal(b))
		}
		want, err := cfg.Ends(c.bounds)
		must(t, err)
		if !slices.Equal(st.ends, c.ends) || !slices.Equal(want, c.ends) {
			t.Errorf("%s: segments end at %v, by Ends at %v, want %v", c.name, st.ends, want, c.ends)
		}
	}
	// A sentence of 10000 rows, told at its end or row by row.
	a, _ := New(cfg, ref.New(kernels.F32), nil)
	b, _ := New(cfg, ref.New(kernels.F32), nil)
	must(t, a.Append(0, rows[:10000*4], rows[:10000*4]))
	must(t, a.Seal(10000))
	for n := 1; n <= 10000; n++ {
		must(t, b.Append(0, rows[:4], rows[:4]))
		must(t, b.Split(n))
		if b.Len()-b.Sealed() >= 64 {
			t.Fatalf("%d rows are open", b.Len()-b.Sealed())
		}
	}
	must(t, b.Seal(10000))
	if !slices.Equal(a.ends, b.ends) || len(a.ends) != 157 || a.Sealed() != 10000 {
		t.Fatalf("%d and %d segments", len(a.ends), len(b.ends))
	}
	at := 0
	for i := range a.Segments() {
		r := a.Segment(i)
		if r.Lo != at || r.Len() < 4 || r.Len() > 64 {
			t.Fatalf("segment %d is %v after %d", i, r, at)
		}
		at = r.Hi
	}
	if a.Seal(9000) == nil || a.Seal(10001) == nil || a.Seal(10000) != nil {
		t.Fatal("boundaries before a segment's end or past the rows must fail, the end itself must not")
	}
}

// TestSummaries compares summaries of both levels with the rows they describe.
func TestSummaries(t *testing.T) {
	forTypes(t, func(t *testing.T, cfg Config) {
		const n, K = 1500, 16
		seq := newSequence(cfg, 3, n)
		st := seq.store(t, nil, n)
		for h := range 2 {
			hd := &st.layers[1].heads[h]
			if hd.par.len() == 0 || hd.par.len() != len(st.ends)/16 || hd.seg.len() != len(st.ends) {
				t.Fatalf("%d segments and %d paragraphs of %d", hd.seg.len(), hd.par.len(), len(st.ends))
			}
			check := func(s *summaries, i int, r Range) {
				k, v := make([]float32, r.Len()*K), make([]float32, r.Len()*K)
				must(t, st.gather(k, v, 1, h, []Range{r}))
				info := s.info.row(i)
				if int(info[infoCount]) != r.Len() {
					t.Fatalf("count %v of %v", info[infoCount], r)
				}
				var radius, value float64
				for j := range r.Len() {
					var d float64
					for c := range K {
						x := k[j*K+c]
						if x > s.box.row(i)[c] || x < s.box.row(i)[K+c] {
							t.Fatalf("%v: row %d is out of the box", r, j)
						}
						e := float64(x) - float64(s.mean.row(i)[c])
						d += e * e
					}
					radius, value = max(radius, math.Sqrt(d)), max(value, math.Sqrt(norm2(v[j*K:(j+1)*K])))
					if math.Sqrt(norm2(k[j*K:(j+1)*K])) > float64(info[infoNorm]) {
						t.Fatalf("%v: row %d is longer than the norm", r, j)
					}
				}
				if radius > float64(info[infoRadius]) || value > float64(info[infoValue]) {
					t.Fatalf("%v: radius %v > %v or value %v > %v", r, radius, info[infoRadius], value, info[infoValue])
				}
				for c := range K {
					var m, w, q float64
					for j := range r.Len() {
						m += float64(k[j*K+c]) / float64(r.Len())
						w += float64(v[j*K+c]) / float64(r.Len())
					}
					for j := range r.Len() {
						q += (float64(k[j*K+c]) - m) * (float64(k[j*K+c]) - m) / float64(r.Len())
					}
					for x, y := range map[float64]float32{m: s.mean.row(i)[c], w: s.val.row(i)[c], q: s.vari.row(i)[c]} {
						if math.Abs(x-float64(y)) > 1e-4*(1+math.Abs(x)) {
							t.Fatalf("%v channel %d: %v, want %v", r, c, y, x)
						}
					}
				}
			}
			for i := range st.ends {
				check(&hd.seg, i, st.Segment(i))
			}
			for p := range hd.par.len() {
				check(&hd.par, p, Range{st.Segment(p * 16).Lo, st.Segment(p*16 + 15).Hi})
			}
		}
	})
}

func TestChunks(t *testing.T) {
	forTypes(t, func(t *testing.T, cfg Config) {
		const n = 900
		seq := newSequence(cfg, 4, n)
		once := seq.store(t, nil, n)
		r := rand.New(rand.NewPCG(5, 5))
		for range 5 {
			st := seq.store(t, nil, 0)
			for at := 0; at < n; {
				to := min(n, at+1+r.IntN(100))
				seq.append(t, st, at, to)
				at = to
			}
			sameStore(t, once, st)
		}
	})
}
