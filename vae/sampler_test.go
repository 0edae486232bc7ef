package vae

import (
	"cmp"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

// TestCut compares the choice of the most probable candidates with sorting all of them, where many are equal too.
func TestCut(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for trial := range 300 {
		n := 1 + r.IntN(2000)
		all := make([]candidate, n)
		var sum float64
		for i := range all {
			all[i] = candidate{int32(i), math.Exp(6 * r.NormFloat64())}
			if trial%3 == 0 {
				all[i].p = float64(r.IntN(4))
			}
			sum += all[i].p
		}
		s := NewSampler(Sampling{Temperature: 1, TopK: []int{0, 1, 2, 40, n, 3000}[r.IntN(6)], TopP: []float64{0, 0.01, 0.6, 0.999, 1}[r.IntN(5)]})
		want, total := slices.Clone(all), sum
		slices.SortFunc(want, func(a, b candidate) int { return cmp.Or(cmp.Compare(b.p, a.p), cmp.Compare(a.id, b.id)) })
		if k := s.s.TopK; k > 0 && k < n {
			want, total = want[:k], 0
			for _, c := range want {
				total += c.p
			}
		}
		if p := s.s.TopP; p > 0 && p < 1 {
			acc := 0.0
			for i, c := range want {
				if acc += c.p; acc >= p*total {
					want, total = want[:i+1], acc
					break
				}
			}
		}
		got, gotSum := s.cut(all, sum)
		if !slices.Equal(got, want) || gotSum != total {
			t.Fatalf("%d candidates, %+v: %d of sum %v, want %d of %v", n, s.s, len(got), gotSum, len(want), total)
		}
	}
}

// TestArgMax compares it with the plain loop.
func TestArgMax(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 3))
	for trial := range 500 {
		x := make([]float32, 1+r.IntN(300))
		for i := range x {
			if x[i] = float32(r.IntN(20)) - 30; trial%2 == 0 {
				x[i] = float32(r.NormFloat64())
			}
			if r.IntN(50) == 0 {
				x[i] = float32(math.Inf(-1))
			}
		}
		want := int32(0)
		for i, v := range x {
			if v > x[want] {
				want = int32(i)
			}
		}
		if got := argMax(x); got != want {
			t.Fatalf("%d of %d, want %d", got, len(x), want)
		}
	}
}

// BenchmarkChoose times the choice among 50000 tokens.
func BenchmarkChoose(b *testing.B) {
	r := rand.New(rand.NewPCG(1, 1))
	logits := make([]float32, 50000)
	for i := range logits {
		logits[i] = float32(2 * r.NormFloat64())
	}
	for name, s := range map[string]Sampling{"greedy": {}, "all": {Temperature: 1}, "top-k": {Temperature: 1, TopK: 40}, "top-p": {Temperature: 1, TopP: 0.9}} {
		b.Run(name, func(b *testing.B) {
			s := NewSampler(s)
			for b.Loop() {
				s.Choose(logits)
			}
		})
	}
}
