package kv

import (
	"fmt"
	"math"
	"sync"
	"testing"
	"time"

	"svae/kernels"
	"svae/kernels/cpu"
)

// qwen is one layer of Qwen2.5-0.5B.
var qwen = Config{Layers: 1, Heads: 14, KVHeads: 2, HeadDim: 64}

var benchSequences sync.Map

func benchSequence(n int) *sequence {
	s, ok := benchSequences.Load(n)
	if !ok {
		s = newTopics(qwen, 70, n, 0.9, 0.4)
		benchSequences.Store(n, s)
	}
	return s.(*sequence)
}

// BenchmarkStep measures the attention of one token in one layer: over contiguous rows (dense, the backend alone), over
// the store's rows by each policy, and the choice of rows alone. "mass" is the true softmax mass kept, on made-up
// keys; light stands for segments of 16 rows or more, ranked by their means.
func BenchmarkStep(b *testing.B) {
	for _, n := range []int{4096, 32768} {
		seq := benchSequence(n)
		b.Run(fmt.Sprintf("dense/rows=%d", n), func(b *testing.B) {
			q, out := seq.query(0, n-1), make([]float32, 14*64)
			a := kernels.Attention{Out: kernels.Of(out), Q: kernels.Of(q), K: kernels.Of(seq.k[0]), V: kernels.Of(seq.v[0]),
				Spans: &kernels.Spans{Q: []int32{0, 1}, KLo: []int32{0}, KHi: []int32{int32(n)}}, N: 1, M: n, H: 14, KV: 2,
				HeadDim: 64, Scale: 0.125}
			be := cpu.New()
			fastest(b, func() { be.Attention(&a) })
		})
		for _, typ := range []Type{F32, BF16, I8} {
			st := benchStore(b, seq, typ, nil)
			for _, c := range []struct {
				name string
				o    Options
			}{{"dense", Options{}}, {"recent", Options{}}, {"quest", Options{}}, {"ours", Options{}}, {"ours", Options{FlatLimit: -1}}, {"paper", Options{}}} {
				if typ != F32 && c.name != "ours" {
					continue
				}
				name := c.name
				if c.o.FlatLimit < 0 {
					name += "-levels"
				}
				b.Run(fmt.Sprintf("%s/%s/rows=%d", name, typ, n), func(b *testing.B) { benchReader(b, seq, st, c.name, c.o) })
			}
			if typ == F32 {
				light := benchStoreOf(b, seq, Config{Layers: 1, Heads: 14, KVHeads: 2, HeadDim: 64, MinSegment: 16}, nil)
				b.Run(fmt.Sprintf("ours-light/f32/rows=%d", n), func(b *testing.B) {
					benchReader(b, seq, light, "ours", Options{})
				})
				light.Close()
				b.Run(fmt.Sprintf("select/rows=%d", n), func(b *testing.B) { benchSelect(b, seq, st) })
			}
			st.Close()
		}
	}
}

func benchStore(b *testing.B, seq *sequence, typ Type, pool *Pool) *Store {
	cfg := qwen
	cfg.Type = typ
	return benchStoreOf(b, seq, cfg, pool)
}

func benchStoreOf(b *testing.B, seq *sequence, cfg Config, pool *Pool) *Store {
	st, err := New(cfg, cpu.New(), pool)
	must(b, err)
	seq.append(b, st, 0, seq.N)
	must(b, st.Split(seq.N))
	return st
}

func benchPolicy(b *testing.B, seq *sequence, st *Store, name string, o Options) *Reader {
	p := policy(b, name, o)
	must(b, p.Observe(st, 0, seq.N-32, seq.q[0][(seq.N-32)*14*64:]))
	r, err := NewReader(st, p, Budget{Rows: 1024})
	must(b, err)
	_, err = r.Step(make([]float32, 14*64), Query{Q: seq.query(0, seq.N-1)})
	must(b, err)
	return r
}

func benchReader(b *testing.B, seq *sequence, st *Store, name string, o Options) {
	r, out := benchPolicy(b, seq, st, name, o), make([]float32, 14*64)
	var mass, count float64
	for i := range 8 {
		q := seq.query(0, seq.N-1-i)
		_, err := r.Step(out, Query{Q: q})
		must(b, err)
		in, rest, _ := truth(b, st, 0, q, r.sel.Ranges)
		for h := range in {
			mass += 1 / (1 + math.Exp(rest[h]-in[h]))
			count++
		}
	}
	i := 0
	fastest(b, func() {
		if _, err := r.Step(out, Query{Q: seq.query(0, seq.N-1-i%64)}); err != nil {
			b.Fatal(err)
		}
		i++
	})
	b.ReportMetric(mass/count, "mass")
	b.ReportMetric(r.sel.Rows(), "rows")
}

// fastest reports, besides the mean, the time of the fastest call: what is left of it on a machine that others use.
func fastest(b *testing.B, f func()) {
	least := time.Duration(1 << 62)
	for b.Loop() {
		begin := time.Now()
		f()
		least = min(least, time.Since(begin))
	}
	b.ReportMetric(float64(least.Nanoseconds()), "least-ns")
}

func benchSelect(b *testing.B, seq *sequence, st *Store) {
	r := benchPolicy(b, seq, st, "ours", Options{})
	i := 0
	fastest(b, func() {
		if err := r.Policy.Select(st, Query{Q: seq.query(0, seq.N-1-i%64)}, r.Budget, &r.sel); err != nil {
			b.Fatal(err)
		}
		i++
	})
}

// BenchmarkTier measures a step with an eighth of the rows in RAM, and with all.
func BenchmarkTier(b *testing.B) {
	const n = 32768
	seq := benchSequence(n)
	for _, share := range []int64{1, 8} {
		b.Run(fmt.Sprintf("share=%d", share), func(b *testing.B) {
			pool := NewPool(int64(n)*2*64*2*4/share, "")
			defer pool.Close()
			st := benchStore(b, seq, F32, pool)
			defer st.Close()
			r, out := benchPolicy(b, seq, st, "ours", Options{}), make([]float32, 14*64)
			before, i := pool.Stats(), 0
			for b.Loop() {
				if _, err := r.Step(out, Query{Q: seq.query(0, n-1-i%64)}); err != nil {
					b.Fatal(err)
				}
				i++
			}
			after := pool.Stats()
			hits, misses := float64(after.Hits-before.Hits), float64(after.Misses-before.Misses)
			b.ReportMetric(hits/(hits+misses), "hits")
			b.ReportMetric(float64(after.BytesRead-before.BytesRead)/float64(b.N), "B-read/op")
			b.ReportMetric(float64((after.Stall-before.Stall).Nanoseconds())/float64(b.N), "stall-ns/op")
		})
	}
}

// BenchmarkSeal measures what segments and their summaries cost, for each row and layer.
func BenchmarkSeal(b *testing.B) {
	seq := benchSequence(4096)
	w := 2 * 64
	for _, seal := range []bool{false, true} {
		b.Run(fmt.Sprintf("seal=%v", seal), func(b *testing.B) {
			for b.Loop() {
				st, err := New(qwen, cpu.New(), nil)
				must(b, err)
				must(b, st.Append(0, seq.k[0][:4096*w], seq.v[0][:4096*w]))
				for _, n := range seq.bounds {
					if seal {
						must(b, st.Seal(n))
					}
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/4096, "ns/row")
		})
	}
}

// BenchmarkPromptEnd measures what ours computes once at the end of a prompt, for a layer.
func BenchmarkPromptEnd(b *testing.B) {
	for _, n := range []int{4096, 32768} {
		b.Run(fmt.Sprintf("rows=%d", n), func(b *testing.B) {
			seq := benchSequence(n)
			st := benchStore(b, seq, F32, nil)
			p := &ours{}
			l := &oursLayer{window: window{size: 32}}
			l.observe(n-32, seq.q[0][(n-32)*14*64:], 14*64)
			for b.Loop() {
				must(b, p.settle(st, 0, l, 4096))
			}
		})
	}
}
