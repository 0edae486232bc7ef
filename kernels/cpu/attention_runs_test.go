package cpu

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"svae/kernels"
)

// TestAttentionRuns compares attention over rows in pieces with Attention over a copy of them, to the bit.
func TestAttentionRuns(t *testing.T) {
	r := rand.New(rand.NewPCG(9, 32))
	for _, s := range []struct{ H, L, K int }{{1, 1, 8}, {3, 3, 16}, {14, 2, 64}, {6, 2, 20}, {8, 1, 64}, {26, 2, 32}, {2, 2, 128}} {
		for _, longest := range []int{1, 5, 70, 2000} {
			for _, rows := range []int{1, 15, 64, 511, 1300} {
				be := New().(*Backend)
				q, out, lse := random(r, s.H*s.K), make([]float32, s.H*s.K), make([]float32, s.H)
				var keys, values [][]float32
				var k, v []float32
				at, spans := []int{0}, &kernels.Spans{Q: []int32{0}}
				for l := range s.L {
					spans.KLo = append(spans.KLo, int32(len(k)/s.K))
					for n := rows + l; n > 0; {
						m := min(n, 1+r.IntN(longest))
						keys, values = append(keys, random(r, m*s.K)), append(values, random(r, m*s.K))
						k, v = append(k, keys[len(keys)-1]...), append(v, values[len(values)-1]...)
						n -= m
					}
					at = append(at, len(keys))
					spans.KHi, spans.Q = append(spans.KHi, int32(len(k)/s.K)), append(spans.Q, int32(l+1))
				}
				be.AttentionRuns(out, lse, q, keys, values, at, s.H, s.K, 0.2)
				want, wantLse := make([]float32, s.H*s.K), make([]float32, s.H)
				be.Attention(&kernels.Attention{Out: kernels.Of(want), Lse: kernels.Of(wantLse), Q: kernels.Of(q), K: kernels.Of(k),
					V: kernels.Of(v), Spans: spans, N: s.L, M: len(k) / s.K, H: s.H / s.L, KV: 1, HeadDim: s.K, Scale: 0.2})
				name := fmt.Sprintf("%+v, %d rows in runs of up to %d", s, rows, longest)
				same(t, name, out, want)
				same(t, name, lse, wantLse)
			}
		}
	}
	be := New().(*Backend)
	out, lse := []float32{7}, []float32{7}
	be.AttentionRuns(out, lse, []float32{1}, nil, nil, []int{0, 0}, 1, 1, 1)
	if out[0] != 0 || !math.IsInf(float64(lse[0]), -1) {
		t.Errorf("no rows give %v and %v", out, lse)
	}
}
