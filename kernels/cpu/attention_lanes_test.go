package cpu

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"svae/kernels"
)

// TestLanes compares the loops for heads in lanes with their definition, and sees that they write nothing else.
func TestLanes(t *testing.T) {
	if !haveLanes() {
		t.Skip("no assembly")
	}
	r := rand.New(rand.NewPCG(9, 52))
	const guard = 12345
	for _, K := range []int{16, 64, 80, 128} {
		for n := 1; n <= 41; n++ {
			ld := K * (1 + n%3)
			q, k := random(r, lanes*K), random(r, n*ld)
			out, want := make([]float32, lanes*n+1), make([]float32, lanes*n)
			out[lanes*n] = guard
			var most, wantMost, sum, wantSum [lanes]float32
			laneScores(q, k, ld, n, K, out, &most, 0)
			laneScoresGo(q, k, ld, n, K, want, &wantMost)
			name := fmt.Sprintf("%d keys of %d", n, K)
			close32(t, name+", scores", out[:lanes*n], want, 1e-5*float64(K))
			close32(t, name+", most", most[:], wantMost[:], 1e-5*float64(K))
			wide := roundUp(n, lanes)
			p := append(append([]float32(nil), want...), make([]float32, lanes*(wide-n)+1)...)
			for i := lanes * n; i < lanes*wide; i++ {
				p[i] = float32(math.Inf(-1))
			}
			p[lanes*wide] = guard
			wantP := append([]float32(nil), p...)
			laneShares(p[:lanes*wide], 0.3, &wantMost, &sum)
			laneSharesGo(wantP[:lanes*wide], 0.3, &wantMost, &wantSum)
			for i := range p {
				if d := math.Abs(float64(p[i] - wantP[i])); d > 1e-5*float64(wantP[i])+1e-37 {
					t.Fatalf("%s: share %d is %v, want %v", name, i, p[i], wantP[i])
				}
			}
			for g := range sum {
				if math.Abs(float64(sum[g]-wantSum[g])) > 1e-5*float64(wantSum[g]) {
					t.Fatalf("%s: sum %d is %v, want %v", name, g, sum[g], wantSum[g])
				}
			}
			for group := leastLanes; group <= lanes; group++ {
				got := append(random(r, group*K), guard)
				wantOut := append([]float32(nil), got...)
				laneValues(want, k, ld, n, K, got, group, 0)
				laneValuesGo(want, k, ld, n, K, wantOut, group)
				close32(t, fmt.Sprintf("%s, values of %d heads", name, group), got, wantOut, 1e-4*float64(n))
			}
			if out[lanes*n] != guard || p[lanes*wide] != guard {
				t.Fatalf("%s: wrote past the end", name)
			}
		}
	}
}

func close32(t *testing.T, name string, got, want []float32, tol float64) {
	t.Helper()
	for i := range want {
		if !(math.Abs(float64(got[i]-want[i])) <= tol) {
			t.Fatalf("%s: element %d is %v, want %v", name, i, got[i], want[i])
		}
	}
}

// TestStepBlocks compares a query alone with the same query among others, over several blocks of keys, for groups in lanes
// and not, and for thread counts: to the bit.
func TestStepBlocks(t *testing.T) {
	r := rand.New(rand.NewPCG(9, 53))
	for _, s := range []struct{ H, KV, K int }{{14, 2, 64}, {9, 3, 64}, {16, 2, 16}, {4, 4, 64}, {20, 5, 128}, {3, 1, 40}} {
		for _, m := range []int{1, 500, 513, 1024, 9000} {
			if m > 2000 && s.H != 14 && s.H != 20 {
				continue
			}
			be := New().(*Backend)
			const n = 3
			q, k, v := random(r, n*s.H*s.K), random(r, m*s.KV*s.K), random(r, m*s.KV*s.K)
			k[len(k)/2] = 30 // so that the largest score does not always lie in the first block
			all, allLse := make([]float32, n*s.H*s.K), make([]float32, n*s.H)
			a := kernels.Attention{Out: kernels.Of(all), Lse: kernels.Of(allLse), Q: kernels.Of(q), K: kernels.Of(k), V: kernels.Of(v),
				Spans: &kernels.Spans{Q: []int32{0, n}, KLo: []int32{0}, KHi: []int32{int32(m)}}, N: n, M: m, H: s.H, KV: s.KV,
				HeadDim: s.K, Scale: 0.1}
			be.Attention(&a)
			one, oneLse := make([]float32, n*s.H*s.K), make([]float32, n*s.H)
			a.Out, a.Lse = kernels.Of(one), kernels.Of(oneLse)
			a.Spans = &kernels.Spans{Q: []int32{0, 1, 2, 3}, KLo: []int32{0, 0, 0}, KHi: []int32{int32(m), int32(m), int32(m)}}
			be.Attention(&a)
			same(t, fmt.Sprintf("%+v, %d keys", s, m), one, all)
			same(t, fmt.Sprintf("%+v, %d keys, lse", s, m), oneLse, allLse)
		}
	}
}
