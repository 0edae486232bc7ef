package ref

import (
	"math"

	"svae/kernels"
)

// Rotary turns the pair (x[j], x[j+K/2]) of each head by the angle pos·freqs[j] (Su et al. 2021, §3.4.2; half-split
// order, as Hugging Face's Llama). inverse turns back, which is the backward pass. out may be x.
//
//	out, x (N, H*K)    pos (N)    freqs (K/2) in radians a position
func Rotary[T kernels.Float](out, x []T, pos []int32, freqs []float64, inverse bool, N, H, K int) {
	if K%2 != 0 {
		panic(kernels.BadHeadSize)
	}
	check(N*H*K, out, x)
	checkIndex(len(pos), N)
	checkIndex(len(freqs), K/2)
	for n := range N {
		for j := range K / 2 {
			sin, cos := math.Sincos(float64(pos[n]) * freqs[j])
			if inverse {
				sin = -sin
			}
			s, c := T(sin), T(cos)
			for h := range H {
				i := (n*H+h)*K + j
				re, im := x[i], x[i+K/2]
				out[i] = re*c - im*s
				out[i+K/2] = im*c + re*s
			}
		}
	}
}
