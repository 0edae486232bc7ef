package cpu

import (
	"math/rand/v2"
	"slices"
	"testing"

	"svae/kernels"
)

// TestLinears compares maps that are computed together with each of them alone, to the bit, in every type, for numbers of
// rows and of columns that are joined and such that are not.
func TestLinears(t *testing.T) {
	r := rand.New(rand.NewPCG(8, 8))
	for _, packed := range []bool{true, false} {
		for _, dt := range []kernels.DType{kernels.F32, kernels.BF16, kernels.I8} {
			for _, sizes := range [][]int{{576, 192, 192}, {64, 64}, {1536, 1536}, {64, 100, 64}, {256}, {64, 64, 64, 64}} {
				for _, N := range []int{0, 1, 2, 3, 5, 8, 9, 13} {
					for _, I := range []int{64, 100, 576} {
						be := New().(*Backend)
						x := kernels.Of(random(r, N*I+1))
						var maps []kernels.LinearMap
						for i, O := range sizes {
							m := kernels.LinearMap{Out: kernels.Of(random(r, N*O+1)), W: weights(r, dt, O, I), O: O}
							if i != 1 {
								m.B = kernels.Of(random(r, O))
							}
							if packed {
								be.Pack(m.W, O, I)
							}
							maps = append(maps, m)
						}
						be.Linears(maps, x, N, I)
						for i, m := range maps {
							want := make([]float32, N*m.O+1)
							want[N*m.O] = m.Out.F32()[N*m.O] // a guard
							be.Linear(kernels.Of(want), kernels.Buf{}, x, m.W, m.B, kernels.None, N, I, m.O)
							if !slices.Equal(m.Out.F32(), want) {
								t.Fatalf("type %d, packed %v, %d rows of %d, map %d of %v differs", dt, packed, N, I, i, sizes)
							}
						}
					}
				}
			}
		}
	}
}

// weights returns random weights (O, I) of a type.
func weights(r *rand.Rand, dt kernels.DType, O, I int) kernels.Buf {
	w := random(r, O*I)
	switch dt {
	case kernels.BF16:
		h := make([]uint16, O*I)
		kernels.RoundBF16(h, w)
		return kernels.BF16Of(h)
	case kernels.I8:
		q, scales := make([]int8, O*I), make([]float32, O)
		if err := kernels.QuantizeInt8(q, scales, w, O, I); err != nil {
			panic(err)
		}
		return kernels.Int8Of(q, scales, I)
	}
	return kernels.Of(w)
}
