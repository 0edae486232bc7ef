package kerneltest

import (
	"testing"

	"svae/kernels"
)

// Bench times the operations that a step spends its time in, at the sizes of a small model, and reports their rate:
// GFLOP/s for products, GB/s of memory read and written for the rest.
func Bench(b *testing.B, open func() kernels.Backend) {
	k := open()
	for _, d := range [][3]int{{512, 128, 512}, {512, 768, 3072}} {
		N, I, O := d[0], d[1], d[2]
		x, w, out := fresh(k, N*I), fresh(k, O*I), fresh(k, N*O)
		flops := 2 * float64(N) * float64(I) * float64(O)
		name := map[int]string{128: "512x128x512", 768: "512x768x3072"}[I]
		rate(b, "Linear/"+name, flops, "GFLOP/s", func() {
			k.Linear(out, kernels.Buf{}, x, w, kernels.Buf{}, kernels.None, N, I, O)
		})
		rate(b, "LinearBackwardX/"+name, flops, "GFLOP/s", func() { k.LinearBackwardX(x, out, w, N, I, O) })
		rate(b, "LinearBackwardW/"+name, flops, "GFLOP/s", func() { k.LinearBackwardW(w, out, x, N, I, O) })
	}
	benchRow(b, k)
	benchAttention(b, k)
	benchXent(b, k)
	benchStreams(b, k)
}

// benchRow is a decoding step: one row through packed weights, bound by reading them.
func benchRow(b *testing.B, k kernels.Backend) {
	const I, O = 768, 3072
	x, w, out := fresh(k, I), fresh(k, O*I), fresh(k, O)
	k.Pack(w, O, I)
	defer k.Unpack(w)
	rate(b, "Linear/1x768x3072packed", float64(O*I*k.DType().Size()), "GB/s", func() {
		k.Linear(out, kernels.Buf{}, x, w, kernels.Buf{}, kernels.None, 1, I, O)
	})
}

// benchAttention is 64 causal sentences of 16 tokens, 8 heads of 64.
func benchAttention(b *testing.B, k kernels.Backend) {
	const S, T, H, K = 64, 16, 8, 64
	sp := &kernels.Spans{Q: []int32{0}, Causal: true}
	for s := int32(0); s < S; s++ {
		sp.Q, sp.KLo, sp.KHi = append(sp.Q, (s+1)*T), append(sp.KLo, s*T), append(sp.KHi, (s+1)*T)
	}
	const n = S * T * H * K
	a := &kernels.Attention{
		Out: fresh(k, n), Lse: fresh(k, S*T*H), Q: fresh(k, n), K: fresh(k, n), V: fresh(k, n), DQ: fresh(k, n),
		DK: fresh(k, n), DV: fresh(k, n), DOut: fresh(k, n), Spans: sp, N: S * T, M: S * T, H: H, KV: H, HeadDim: K, Scale: 0.125,
	}
	pairs := float64(S * H * T * (T + 1) / 2)
	rate(b, "Attention/64segmentsOf16", pairs*4*K, "GFLOP/s", func() { k.Attention(a) })
	rate(b, "AttentionBackward/64segmentsOf16", pairs*10*K, "GFLOP/s", func() { k.AttentionBackward(a) })
}

func benchXent(b *testing.B, k kernels.Backend) {
	const N, D, V = 512, 128, 2048
	a := &kernels.Xent{
		Nats: fresh(k, N), X: fresh(k, N*D), W: fresh(k, V*D), Targets: make([]int32, N), N: N, D: D, V: V,
	}
	rate(b, "Xent/512x128x2048", 2*N*D*V, "GFLOP/s", func() { k.Xent(a) })
	a.DX, a.DW = fresh(k, N*D), fresh(k, V*D)
	rate(b, "XentBackward/512x128x2048", 6*N*D*V, "GFLOP/s", func() { k.Xent(a) })
}

// benchStreams are the operations bound by memory.
func benchStreams(b *testing.B, k kernels.Backend) {
	size := float64(k.DType().Size())
	const N, D, n = 1024, 768, 1 << 20
	x, out, w, c, mean, rstd := fresh(k, N*D), fresh(k, N*D), fresh(k, D), fresh(k, D), fresh(k, N), fresh(k, N)
	rate(b, "LayerNorm/1024x768", 2*N*D*size, "GB/s", func() { k.LayerNorm(out, mean, rstd, x, w, c, eps, N, D) })
	dX, dW := fresh(k, N*D), fresh(k, D)
	rate(b, "LayerNormBackward/1024x768", 3*N*D*size, "GB/s", func() {
		k.LayerNormBackward(dX, dW, kernels.Buf{}, out, x, w, mean, rstd, N, D)
	})
	p, m, v, g := fresh(k, n), k.Alloc(n), k.Alloc(n), fresh(k, n)
	rate(b, "AdamW/1M", 7*n*size, "GB/s", func() { k.AdamW(p, m, v, g, adam, n) })
}

// rate runs f and reports how much work it does in a second, in units of 1e9.
func rate(b *testing.B, name string, work float64, unit string, f func()) {
	b.Run(name, func(b *testing.B) {
		for b.Loop() {
			f()
		}
		b.ReportMetric(work*float64(b.N)/b.Elapsed().Seconds()/1e9, unit)
	})
}

// fresh returns n small normal numbers.
func fresh(k kernels.Backend, n int) kernels.Buf {
	return upload(k, newEnv(k, "bench", 0).normals(n, 0.1))
}
