package ref

import (
	"math"

	"svae/kernels"
)

// Uniform returns the i-th number of a seed's stream, uniform over the multiples of 2⁻⁵³ in [0, 1). It is output i of
// SplitMix64 (Steele et al. 2014, §3) started at the hash of the seed, so that neighbouring seeds share nothing.
func Uniform(seed uint64, i int) float64 {
	return float64(mix(mix(seed)+uint64(i+1)*golden)>>11) * 0x1p-53
}

// Normal returns the i-th standard normal number of a seed's stream, made of uniforms 2i and 2i+1 by Box & Muller
// (1958), eq. 1.
func Normal(seed uint64, i int) float64 {
	u, turn := 1-Uniform(seed, 2*i), Uniform(seed, 2*i+1) // u in (0, 1]
	return math.Sqrt(-2*math.Log(u)) * math.Cos(2*math.Pi*turn)
}

const golden = 0x9e3779b97f4a7c15 // 2⁶⁴ over the golden ratio, odd

// mix is the finalizer of SplitMix64, a bijection.
func mix(z uint64) uint64 {
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

// Dropout overwrites out[i] with x[i]·(1/(1-p)) where Uniform(seed, i) >= p, and with 0 elsewhere (Srivastava et al.
// 2014, §10, scaled in training). The factor is rounded to T once. The same call on a gradient is the backward pass.
// out may be x.
//
//	out, x (n)
func Dropout[T kernels.Float](out, x []T, p float64, seed uint64, n int) {
	check(n, out, x)
	keep := T(1 / (1 - p))
	for i := range n {
		if Uniform(seed, i) >= p {
			out[i] = x[i] * keep
		} else {
			out[i] = 0
		}
	}
}

// Noise overwrites out[i] = x[i] + sigma·Normal(seed, i), the product rounded to T before the sum. out may be x.
//
//	out, x (n)
func Noise[T kernels.Float](out, x []T, sigma float64, seed uint64, n int) {
	check(n, out, x)
	for i := range n {
		out[i] = x[i] + T(sigma*Normal(seed, i))
	}
}
