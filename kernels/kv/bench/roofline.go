package bench

import (
	"time"

	"svae/kernels"
)

// roofline returns the least time that dense attention of one token over n rows can take: that of reading its keys and
// values at the speed at which the backend reads memory, or of its products at the speed of the backend's matrix products,
// whichever is longer. Both are measured here, as medians like that of dense attention.
func (c *Config) roofline(n int) time.Duration {
	s, b := c.Sequence, c.Backend
	bytes := float64(n) * float64(2*s.KVHeads*s.HeadDim*4)
	flops := float64(n) * float64(4*s.Heads*s.HeadDim)
	const O, I = 1 << 14, 1 << 11 // 128 MiB: out of every cache
	w, x, y := b.Alloc(O*I), b.Alloc(I), b.Alloc(O)
	b.Pack(w, O, I)
	read := typical(7, func() { b.Linear(y, kernels.Buf{}, x, w, kernels.Buf{}, kernels.None, 1, I, O) })
	b.Unpack(w)
	const N, D = 512, 1024
	m, a, p := b.Alloc(D*D), b.Alloc(N*D), b.Alloc(N*D)
	b.Pack(m, D, D)
	product := typical(7, func() { b.Linear(p, kernels.Buf{}, a, m, kernels.Buf{}, kernels.None, N, D, D) })
	b.Unpack(m)
	return max(time.Duration(bytes/(4*O*I)*float64(read)), time.Duration(flops/(2*N*D*D)*float64(product)))
}

// typical returns the median time of n calls after a first one.
func typical(n int, f func()) time.Duration {
	f()
	times := make([]time.Duration, n)
	for i := range times {
		begin := time.Now()
		f()
		times[i] = time.Since(begin)
	}
	return median(times)
}
