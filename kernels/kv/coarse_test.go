package kv

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"svae/kernels/cpu"
)

// TestRankSome: if every paragraph is opened, rankSome chooses what rankAll does; if one of many is, nearly as much of the
// softmax mass is read.
func TestRankSome(t *testing.T) {
	cfg := qwen
	cfg.MinSegment, cfg.MaxSegment = 2, 4
	for _, n := range []int{1500, 12000} {
		seq := newTopics(cfg, 71, n, 0.9, 0.4)
		st, err := New(cfg, cpu.New(), nil)
		must(t, err)
		seq.append(t, st, 0, n)
		must(t, st.Split(n))
		var sels [2]Selection
		var mass [2]float64
		for i, limit := range []int{1, 1 << 30} {
			p := policy(t, "ours", Options{FlatLimit: limit})
			must(t, p.Observe(st, 0, n-32, seq.q[0][(n-32)*14*64:]))
			for x := range 8 {
				q := seq.query(0, n-1-x)
				must(t, p.Select(st, Query{Q: q}, Budget{Rows: 200}, &sels[i]))
				in, out, _ := truth(t, st, 0, q, sels[i].Ranges)
				for h := range in {
					mass[i] += 1 / (1 + math.Exp(out[h]-in[h])) / float64(8*len(in))
				}
			}
		}
		P := st.layers[0].heads[0].par.len()
		switch {
		case P <= coarseLimit:
			if fmt.Sprint(sels[0].Ranges) != fmt.Sprint(sels[1].Ranges) {
				t.Errorf("%d rows, all of %d paragraphs open: other rows are read", n, P)
			}
			for h, m := range sels[0].Mass {
				if math.Abs(float64(m-sels[1].Mass[h])) > 1e-4 {
					t.Errorf("%d rows, head %d: mass %v, want %v", n, h, m, sels[1].Mass[h])
				}
			}
		case sels[0].Scanned >= sels[1].Scanned || mass[0] < mass[1]-0.005:
			t.Errorf("%d rows, %d paragraphs: mass %.4f after %d bytes, that of all segments %.4f after %d", n, P, mass[0],
				sels[0].Scanned, mass[1], sels[1].Scanned)
		}
		if n == 12000 && P <= coarseLimit {
			t.Errorf("%d paragraphs: all are opened", P)
		}
		st.Close()
	}
}

func TestNthLargest(t *testing.T) {
	r := rand.New(rand.NewPCG(4, 4))
	for _, n := range []int{1, 2, 31, 33, 100, 2000} {
		x := make([]float32, n)
		for i := range x {
			x[i] = float32(r.IntN(n/2 + 1))
		}
		x[r.IntN(n)] = float32(math.NaN())
		want := slices.Clone(x)
		for i, v := range want {
			if v != v {
				want[i] = float32(math.Inf(-1))
			}
		}
		slices.Sort(want)
		for _, k := range []int{1, (n + 1) / 2, n} {
			if got := nthLargest(slices.Clone(x), k); got != want[n-k] {
				t.Fatalf("largest %d of %d is %v, want %v", k, n, got, want[n-k])
			}
		}
		if got := nthLargest(x, n+1); !math.IsInf(float64(got), -1) {
			t.Errorf("largest %d of %d is %v", n+1, n, got)
		}
	}
}
