//go:build !race

package cpu

import (
	"math/rand/v2"
	"testing"

	"svae/kernels"
)

// TestAllocations checks that a training step and a cached step allocate nothing once warm.
func TestAllocations(t *testing.T) {
	const N, I, O, H = 96, 64, 256, 4
	r := rand.New(rand.NewPCG(1, 1))
	b := New()
	buf := func(n int) kernels.Buf { return kernels.Of(random(r, n)) }
	x, w, bias, out, pre, dX, dW := buf(N*I), buf(O*I), buf(O), buf(N*O), buf(N*O), buf(N*I), buf(O*I)
	mean, rstd, dB, nats := buf(N), buf(N), buf(O), buf(N)
	sp := &kernels.Spans{Q: []int32{0, 40, N}, KLo: []int32{0, 40}, KHi: []int32{40, N}, Causal: true}
	at := &kernels.Attention{Out: dX, Lse: buf(N * H), Q: x, K: x, V: x, DQ: buf(N * I), DK: buf(N * I), DV: buf(N * I), DOut: x,
		Spans: sp, N: N, M: N, H: H, KV: H, HeadDim: I / H, Scale: 0.2}
	step := *at
	step.N, step.Spans = 1, &kernels.Spans{Q: []int32{0, 1}, KLo: []int32{0}, KHi: []int32{N}}
	targets := make([]int32, N)
	ranges := &kernels.Ranges{Out: out, Q: x, K: x, V: x, At: []int32{0, 2, 3, 4, 4}, Lo: []int32{0, 40, 9, 0}, Hi: []int32{30, 96, 10, 96},
		N: 1, M: N, H: H, KV: H, HeadDim: I / H, Scale: 0.2}
	xe := &kernels.Xent{Nats: nats, DX: dX, DW: dW, DB: dB, X: x, W: w, Targets: targets, N: N, D: I, V: O}
	h, q, scales := make([]uint16, O*I), make([]int8, O*I), make([]float32, O)
	bf16, int8s := kernels.BF16Of(h), kernels.Int8Of(q, scales, I)
	best := &kernels.Top{IDs: make([]int32, N), X: x, W: w, Q: int8s, Bounds: buf(2 * O), N: N, D: I, V: O}
	freqs := []float64{1, 0.5, 0.25, 0.125, 1, 1, 1, 1}
	for name, f := range map[string]func(){
		"Linear":            func() { b.Linear(out, pre, x, w, bias, kernels.GELU, N, I, O) },
		"Linear of one row": func() { b.Linear(out, pre, x, w, bias, kernels.GELU, 1, I, O) },
		"Linear of bf16":    func() { b.Linear(out, pre, x, bf16, bias, kernels.GELU, N, I, O) },
		"Linear of int8":    func() { b.Linear(out, pre, x, int8s, bias, kernels.GELU, N, I, O) },
		"One row of bf16":   func() { b.Linear(out, pre, x, bf16, bias, kernels.GELU, 1, I, O) },
		"One row of int8":   func() { b.Linear(out, pre, x, int8s, bias, kernels.GELU, 1, I, O) },
		"Gather of bf16":    func() { b.Gather(dX, bf16, targets, 0, N, O, I) },
		"Gather of int8":    func() { b.Gather(dX, int8s, targets, 0, N, O, I) },
		"LinearBackwardX":   func() { b.LinearBackwardX(dX, out, w, N, I, O) },
		"LinearBackwardW":   func() { b.LinearBackwardW(dW, out, x, N, I, O) },
		"LinearBackwardB":   func() { b.LinearBackwardB(dB, out, N, O) },
		"ActBackward":       func() { b.ActBackward(out, out, pre, kernels.GELU, N*O) },
		"GeGLU":             func() { b.GeGLU(out, out, pre, N*O) },
		"LayerNorm":         func() { b.LayerNorm(dX, mean, rstd, x, bias, bias, 1e-5, N, I) },
		"LayerNormBackward": func() { b.LayerNormBackward(dX, dB, dB, x, x, bias, mean, rstd, N, I) },
		"Attention":         func() { b.Attention(at) },
		"Attention of one":  func() { b.Attention(&step) },
		"AttentionRanges":   func() { b.AttentionRanges(ranges) },
		"Top":               func() { b.Top(best) },
		"AttentionBackward": func() { b.AttentionBackward(at) },
		"Xent":              func() { b.Xent(xe) },
		"Rotary":            func() { b.Rotary(dX, x, targets, freqs, false, N, H, I/H) },
		"Gather":            func() { b.Gather(dX, x, targets, 0, N, N, I) },
		"SegmentSum":        func() { b.SegmentSum(dX, x, sp.Q, 2, I) },
		"Add":               func() { b.Add(out, out, pre, N*O) },
		"AdamW": func() {
			b.AdamW(w, dW, dW, dW, kernels.AdamW{LR: 1e-3, Beta1: 0.9, Beta2: 0.99, Eps: 1e-8, GradScale: 1, Step: 1}, O*I)
		},
		"SumSquares": func() { b.SumSquares(out, N*O) },
	} {
		if n := testing.AllocsPerRun(50, f); n > 0 {
			t.Errorf("%s allocates %v times a call", name, n)
		}
	}
}
