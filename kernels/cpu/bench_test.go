package cpu

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"testing"
	"time"

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

// BenchmarkRanges is one query of 14 heads on 2 key heads of 64 over 1024 of 32768 rows, in ranges of some length, in turns
// with the query over all rows, and reports the median microseconds of both.
func BenchmarkRanges(b *testing.B) {
	const H, KV, K, M, budget = 14, 2, 64, 32768, 1024
	r := rand.New(rand.NewPCG(1, 2))
	q, out := kernels.Of(random(r, H*K)), kernels.Of(floats(H*K))
	k, v := kernels.Of(random(r, M*KV*K)), kernels.Of(random(r, M*KV*K))
	all := &kernels.Attention{Out: out, Q: q, K: k, V: v, Spans: &kernels.Spans{Q: []int32{0, 1}, KLo: []int32{0}, KHi: []int32{M}},
		N: 1, M: M, H: H, KV: KV, HeadDim: K, Scale: 0.125}
	for _, n := range []int32{1, 16, 20, 1024} {
		a := &kernels.Ranges{Out: out, Q: q, K: k, V: v, At: []int32{0}, N: 1, M: M, H: H, KV: KV, HeadDim: K, Scale: 0.125}
		for range KV {
			for i := range int32(budget) / n {
				lo := (i*(M/(budget/n)) + int32(r.IntN(8))) % (M - n)
				a.Lo, a.Hi = append(a.Lo, lo), append(a.Hi, lo+n)
			}
			a.At = append(a.At, int32(len(a.Lo)))
		}
		b.Run(fmt.Sprint("length=", n), func(b *testing.B) {
			eachWorkers(b, func(b *testing.B, be kernels.Backend) {
				var some, dense []float64
				for b.Loop() {
					start := time.Now()
					be.AttentionRanges(a)
					middle := time.Now()
					be.Attention(all)
					some = append(some, middle.Sub(start).Seconds()*1e6)
					dense = append(dense, time.Since(middle).Seconds()*1e6)
				}
				b.ReportMetric(median(some), "ranges-us")
				b.ReportMetric(median(dense), "all-us")
				b.ReportMetric(0, "ns/op")
			})
		})
	}
}
