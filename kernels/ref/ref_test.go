package ref_test

import (
	"math"
	"math/cmplx"
	"testing"

	"svae/kernels"
	"svae/kernels/kerneltest"
	"svae/kernels/ref"
)

func TestFloat32(t *testing.T) {
	kerneltest.Suite(t, func() kernels.Backend { return ref.New(kernels.F32) })
}

func TestFloat64(t *testing.T) {
	kerneltest.Suite(t, func() kernels.Backend { return ref.New(kernels.F64) })
}

func TestGradients(t *testing.T) { kerneltest.Gradients(t) }

func BenchmarkRef(b *testing.B) {
	kerneltest.Bench(b, func() kernels.Backend { return ref.New(kernels.F32) })
}

func TestOpen(t *testing.T) {
	b, err := kernels.Open("ref")
	if err != nil {
		t.Fatal(err)
	}
	if b.Name() != "ref" || b.DType() != kernels.F32 {
		t.Errorf("Open gives %q with elements of type %d", b.Name(), b.DType())
	}
}

// near fails unless got and want agree to 1e-12.
func near(t *testing.T, name string, got, want []float64) {
	t.Helper()
	for i, x := range want {
		if !(math.Abs(got[i]-x) <= 1e-12*(1+math.Abs(x))) {
			t.Errorf("%s[%d] = %v, want %v", name, i, got[i], x)
		}
	}
}

// The row 1, 2, 3, 6 has mean 3 and variance 3.5.
func TestLayerNormByHand(t *testing.T) {
	out, mean, rstd := make([]float64, 4), make([]float64, 1), make([]float64, 1)
	ref.LayerNorm(out, mean, rstd, []float64{1, 2, 3, 6}, []float64{1, 1, 1, 2}, []float64{0, 0, 5, 0}, 0.5, 1, 4)
	near(t, "mean", mean, []float64{3})
	near(t, "rstd", rstd, []float64{0.5})
	near(t, "out", out, []float64{-1, -0.5, 5, 3})
}

// The row 1, -7 has a mean square of 25.
func TestRMSNormByHand(t *testing.T) {
	out, rstd := make([]float64, 2), make([]float64, 1)
	ref.RMSNorm(out, rstd, []float64{1, -7}, []float64{5, 10}, 0, 1, 2)
	near(t, "rstd", rstd, []float64{0.2})
	near(t, "out", out, []float64{1, -14})
}

// Scores of ln 1, ln 2 and ln 5 give probabilities of 1/8, 2/8 and 5/8.
func TestAttentionByHand(t *testing.T) {
	out, lse := make([]float64, 2), make([]float64, 1)
	ref.Attention[float64](&kernels.Attention{
		Out: kernels.Of(out), Lse: kernels.Of(lse), Q: kernels.Of([]float64{2, 0}), Scale: 0.5,
		K:     kernels.Of([]float64{0, 9, math.Log(2), 9, math.Log(5), 9, 100, 0}),
		V:     kernels.Of([]float64{8, 0, 16, 0, 24, 8, 1000, 1000}),
		Spans: &kernels.Spans{Q: []int32{0, 1}, KLo: []int32{0}, KHi: []int32{3}}, N: 1, M: 4, H: 1, KV: 1, HeadDim: 2,
	})
	near(t, "out", out, []float64{20, 5})
	near(t, "lse", lse, []float64{math.Log(8)})
}

func TestAttentionWithoutKeys(t *testing.T) {
	out, lse, d := []float64{7}, []float64{7}, make([]float64, 3)
	a := &kernels.Attention{
		Out: kernels.Of(out), Lse: kernels.Of(lse), Q: kernels.Of([]float64{2}), K: kernels.Of([]float64{2}), Scale: 1,
		V: kernels.Of([]float64{2}), DOut: kernels.Of([]float64{3}), N: 1, M: 1, H: 1, KV: 1, HeadDim: 1,
		DQ: kernels.Of(d[:1]), DK: kernels.Of(d[1:2]), DV: kernels.Of(d[2:]),
		Spans: &kernels.Spans{Q: []int32{0, 1}, KLo: []int32{0}, KHi: []int32{0}},
	}
	ref.Attention[float64](a)
	if out[0] != 0 || !math.IsInf(lse[0], -1) {
		t.Errorf("out %v, lse %v; want 0 and -Inf", out[0], lse[0])
	}
	copy(d, []float64{1, 1, 1})
	ref.AttentionBackward[float64](a)
	if d[0] != 0 || d[1] != 0 || d[2] != 0 {
		t.Errorf("gradients %v, want zeros", d)
	}
}

// A pair is a complex number, and turning it a product with exp(i·angle).
func TestRotaryIsComplexRotation(t *testing.T) {
	const N, H, K = 2, 2, 4
	x, out, back := make([]float64, N*H*K), make([]float64, N*H*K), make([]float64, N*H*K)
	for i := range x {
		x[i] = float64(i*i%7) - 3
	}
	pos, freqs := []int32{3, 250}, []float64{1, 0.01}
	ref.Rotary(out, x, pos, freqs, false, N, H, K)
	for n := range N {
		for h := range H {
			for j := range K / 2 {
				i := (n*H+h)*K + j
				z := complex(x[i], x[i+K/2]) * cmplx.Rect(1, float64(pos[n])*freqs[j])
				near(t, "pair", []float64{out[i], out[i+K/2]}, []float64{real(z), imag(z)})
			}
		}
	}
	ref.Rotary(back, out, pos, freqs, true, N, H, K)
	near(t, "back", back, x)
}

// A row with a negative target has no loss and no gradient, but a best token.
func TestXentIgnoresNegativeTargets(t *testing.T) {
	x, w, nats, dX, dW := []float64{1, 1}, []float64{0, 1}, []float64{9, 9}, []float64{9, 9}, []float64{9, 9}
	a := &kernels.Xent{
		Nats: kernels.Of(nats), DX: kernels.Of(dX), DW: kernels.Of(dW), X: kernels.Of(x), W: kernels.Of(w),
		Targets: []int32{-1, -100}, Top: make([]int32, 2), N: 2, D: 1, V: 2,
	}
	if loss := ref.Xent[float64](a); loss != 0 || a.Top[0] != 1 || a.Top[1] != 1 {
		t.Errorf("loss %v, top %v; want 0 and 1, 1", loss, a.Top)
	}
	near(t, "nats, dX, dW", append(append(nats, dX...), dW...), make([]float64, 6))
}

// Logits 0 and ln 3: the target has p = 1/4, so L = (3/4)²·ln 4 and dL/dz = f·(p - 1), f·(1 - p) with
// f = 9/16 + 2·(1/4)·(3/4)·ln 4.
func TestXentByHand(t *testing.T) {
	nats, dX, dW, dB := make([]float64, 1), make([]float64, 1), make([]float64, 2), make([]float64, 2)
	a := &kernels.Xent{
		Nats: kernels.Of(nats), DX: kernels.Of(dX), DW: kernels.Of(dW), DB: kernels.Of(dB),
		X: kernels.Of([]float64{2}), W: kernels.Of([]float64{0, math.Log(3) / 2}), B: kernels.Of([]float64{1, 1}),
		Targets: []int32{0}, Top: []int32{-1}, N: 1, D: 1, V: 2,
	}
	ln4, f := math.Log(4), 1.0
	for _, gamma := range []float64{0, 2} {
		a.Gamma = gamma
		loss := ref.Xent[float64](a)
		want := ln4
		if gamma == 2 {
			want, f = 9.0/16*ln4, 9.0/16+2.0/4*3/4*ln4
		}
		near(t, "loss", []float64{loss}, []float64{want})
		near(t, "nats", nats, []float64{ln4})
		near(t, "dB", dB, []float64{-0.75 * f, 0.75 * f})
		near(t, "dW", dW, []float64{-1.5 * f, 1.5 * f})
		near(t, "dX", dX, []float64{0.75 * f * math.Log(3) / 2})
		if a.Top[0] != 1 {
			t.Errorf("top is %d, want 1", a.Top[0])
		}
	}
}

// A target whose probability rounds to 1, or to 0, has a finite loss and gradient for any gamma.
func TestXentAtTheEnds(t *testing.T) {
	for _, gamma := range []float64{0, 0.25, 0.5, 1, 2, 5} {
		for _, target := range []int32{0, 1} {
			dB, nats := make([]float64, 2), make([]float64, 1)
			loss := ref.Xent[float64](&kernels.Xent{
				Nats: kernels.Of(nats), DB: kernels.Of(dB), X: kernels.Of([]float64{1}), W: kernels.Of([]float64{0, 0}),
				B: kernels.Of([]float64{900, 0}), Targets: []int32{target}, Gamma: gamma, N: 1, D: 1, V: 2,
			})
			want := []float64{0, 0, 0}
			if target == 1 {
				want = []float64{900, 1, -1}
			}
			near(t, "loss and dB", []float64{loss, dB[0], dB[1]}, want)
		}
	}
}

// The first step of Adam is LR in the direction of the gradient's sign, whatever the gradient's size.
func TestAdamWByHand(t *testing.T) {
	w, m, v := []float64{1, 1, 2}, make([]float64, 3), make([]float64, 3)
	p := kernels.AdamW{LR: 0.1, Beta1: 0.9, Beta2: 0.99, WeightDecay: 0.5, GradScale: 0.5, Step: 1}
	ref.AdamW(w, m, v, []float64{8, -0.002, 4}, p, 3)
	near(t, "w", w, []float64{0.95 - 0.1, 0.95 + 0.1, 1.9 - 0.1})
	near(t, "m", m, []float64{0.4, -0.0001, 0.2})
	near(t, "v", v, []float64{0.16, 1e-8, 0.04})
}

// GELU at 1 is Φ(1), and what its input loses on the other side it keeps on this.
func TestGELUByHand(t *testing.T) {
	out := make([]float64, 3)
	ref.Linear(out, nil, []float64{1, -1, 0}, []float64{1}, nil, kernels.GELU, 3, 1, 1)
	near(t, "out", out, []float64{0.8413447460685429, -0.15865525393145707, 0})
}

// PyTorch's gelu(approximate="tanh") in float64.
func TestGELUTanhByHand(t *testing.T) {
	out := make([]float64, 4)
	ref.Linear(out, nil, []float64{1, -1, -6, 0}, []float64{1}, nil, kernels.GELUTanh, 4, 1, 1)
	near(t, "out", out, []float64{0.8411919906082768, -0.15880800939172324, -8.43964897967453e-11, 0})
}

// The first numbers of two streams, as SplitMix64 in Python gives them, never change: a run resumes with the masks it
// began with.
func TestRandomIsFixed(t *testing.T) {
	var got []float64
	for _, seed := range []uint64{0, 1} {
		got = append(got, ref.Uniform(seed, 0), ref.Uniform(seed, 1), ref.Normal(seed, 0))
	}
	near(t, "draws", got, []float64{
		0.8833108082136426, 0.43152799704850997, -1.8839083333524405,
		0.7497482413580301, 0.37239342287916577, -1.1575493713558918,
	})
}
