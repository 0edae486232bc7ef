package cpu

import (
	"fmt"
	"testing"
	"time"

	"svae/kernels"
)

// BenchmarkStep measures attention of one token of Qwen2.5-0.5B, one layer, over contiguous rows in huge pages, and beside
// it how fast the same memory is read.
func BenchmarkStep(b *testing.B) {
	for _, n := range []int{4096, 32768, 131072} {
		be := New().(*Backend)
		k, v := be.Alloc(n*128), be.Alloc(n*128)
		for i := range k.F32() {
			k.F32()[i], v.F32()[i] = float32(i%251)*0.01-1, float32(i%127)*0.01
		}
		q, out := be.Alloc(14*64), be.Alloc(14*64)
		for i := range q.F32() {
			q.F32()[i] = float32(i%31) * 0.02
		}
		a := kernels.Attention{Out: out, Q: q, K: k, V: v, Spans: &kernels.Spans{Q: []int32{0, 1}, KLo: []int32{0}, KHi: []int32{int32(n)}},
			N: 1, M: n, H: 14, KV: 2, HeadDim: 64, Scale: 0.125}
		b.Run(fmt.Sprintf("attention/rows=%d", n), func(b *testing.B) {
			b.SetBytes(int64(n) * 1024)
			fastest(b, func() { be.Attention(&a) })
		})
		b.Run(fmt.Sprintf("read/rows=%d", n), func(b *testing.B) {
			b.SetBytes(int64(n) * 1024)
			j := &bothJob{x: [2][]float32{k.F32(), v.F32()}}
			fastest(b, func() { be.pool.do(n/1024, j) })
		})
	}
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

// bothJob reads two arrays, 1024 rows of 128 elements a part.
type bothJob struct{ x [2][]float32 }

var bothSum float32

func (j *bothJob) run(part int) {
	for _, x := range j.x {
		if s := sum(x[part*1024*128:][:1024*128]); s == 1.5 {
			bothSum = s
		}
	}
}
