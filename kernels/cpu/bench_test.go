package cpu

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"testing"

	"svae/kernels"
	"svae/kernels/kerneltest"
)

func BenchmarkOps(b *testing.B) { kerneltest.Bench(b, New) }

// eachWorkers runs f on backends of one and of two workers.
func eachWorkers(b *testing.B, f func(b *testing.B, be kernels.Backend)) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(0))
	for _, n := range []int{1, 2} {
		runtime.GOMAXPROCS(n)
		be := New()
		b.Run(fmt.Sprint("workers=", n), func(b *testing.B) { f(b, be) })
	}
}

// BenchmarkGemm reports GFLOP/s of a linear map and of its two gradients.
func BenchmarkGemm(b *testing.B) {
	r := rand.New(rand.NewPCG(1, 2))
	for _, s := range [][3]int{{2048, 768, 3072}, {2048, 3072, 768}, {512, 128, 512}} {
		N, I, O := s[0], s[1], s[2]
		x, w, out := kernels.Of(random(r, N*I)), kernels.Of(random(r, O*I)), kernels.Of(random(r, N*O))
		dX, dW, none := kernels.Of(floats(N*I)), kernels.Of(floats(O*I)), kernels.Buf{}
		for _, op := range []struct {
			name string
			f    func(be kernels.Backend)
		}{
			{"Linear", func(be kernels.Backend) { be.Linear(out, none, x, w, none, kernels.None, N, I, O) }},
			{"BackwardX", func(be kernels.Backend) { be.LinearBackwardX(dX, out, w, N, I, O) }},
			{"BackwardW", func(be kernels.Backend) { be.LinearBackwardW(dW, out, x, N, I, O) }},
		} {
			b.Run(fmt.Sprintf("%s/%dx%dx%d", op.name, N, I, O), func(b *testing.B) {
				eachWorkers(b, func(b *testing.B, be kernels.Backend) {
					for b.Loop() {
						op.f(be)
					}
					b.ReportMetric(2*float64(N*I*O)*float64(b.N)/b.Elapsed().Seconds()/1e9, "GFLOP/s")
				})
			})
		}
	}
}

// BenchmarkFewRows reports GB/s of packed weights that few rows read. The weights rotate over 256 MiB, so that they come
// from memory.
func BenchmarkFewRows(b *testing.B) {
	const I, O, copies = 768, 3072, 28
	r := rand.New(rand.NewPCG(1, 2))
	ws := make([]kernels.Buf, copies)
	for i := range ws {
		ws[i] = kernels.Of(random(r, O*I))
	}
	for _, N := range []int{1, 2, 4, 8} {
		x, out := kernels.Of(random(r, N*I)), kernels.Of(floats(N*O))
		b.Run(fmt.Sprintf("%dx%dx%d", N, I, O), func(b *testing.B) {
			eachWorkers(b, func(b *testing.B, be kernels.Backend) {
				for _, w := range ws {
					be.Pack(w, O, I)
				}
				i := 0
				for b.Loop() {
					be.Linear(out, kernels.Buf{}, x, ws[i%copies], kernels.Buf{}, kernels.None, N, I, O)
					i++
				}
				b.ReportMetric(4*float64(I*O)*float64(b.N)/b.Elapsed().Seconds()/1e9, "GB/s")
			})
		})
	}
}

// BenchmarkCachedStep is one query of 12 heads of 64 over its keys, and reports GB/s of keys and values.
func BenchmarkCachedStep(b *testing.B) {
	const H, K = 12, 64
	r := rand.New(rand.NewPCG(1, 2))
	for _, m := range []int{64, 1024, 16384} {
		q, out := kernels.Of(random(r, H*K)), kernels.Of(floats(H*K))
		a := &kernels.Attention{
			Out: out, Q: q, K: kernels.Of(random(r, m*H*K)), V: kernels.Of(random(r, m*H*K)),
			Spans: &kernels.Spans{Q: []int32{0, 1}, KLo: []int32{0}, KHi: []int32{int32(m)}, Causal: true},
			N:     1, M: m, H: H, KV: H, HeadDim: K, Scale: 0.125,
		}
		b.Run(fmt.Sprint("keys=", m), func(b *testing.B) {
			eachWorkers(b, func(b *testing.B, be kernels.Backend) {
				for b.Loop() {
					be.Attention(a)
				}
				b.ReportMetric(8*float64(m*H*K)*float64(b.N)/b.Elapsed().Seconds()/1e9, "GB/s")
			})
		})
	}
}
