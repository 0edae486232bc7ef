package kv

import (
	"math"
	"unsafe"

	"svae/kernels/cpu"
)

// The words of a block of 64 rows of one head, each row K elements:
//
//	F32   keys (64, K), values (64, K)
//	BF16  the same, in halves
//	I8    scales of the keys (K), of the values (64), then keys (64, K), values (64, K) in bytes
//
// Words are 4 bytes in the order of the machine; a saved file says which that was.

// blockWords returns the length of a block.
func blockWords(t Type, K int) int {
	switch t {
	case BF16:
		return blockRows * K
	case I8:
		return K + blockRows + 2*blockRows*K/4
	}
	return 2 * blockRows * K
}

func asFloats(w []uint32) []float32 {
	return unsafe.Slice((*float32)(unsafe.Pointer(unsafe.SliceData(w))), len(w))
}

func asHalves(w []uint32) []uint16 {
	return unsafe.Slice((*uint16)(unsafe.Pointer(unsafe.SliceData(w))), 2*len(w))
}

func asInts(w []uint32) []int8 {
	return unsafe.Slice((*int8)(unsafe.Pointer(unsafe.SliceData(w))), 4*len(w))
}

func asBytes(w []uint32) []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(w))), 4*len(w))
}

// encode writes 64 rows of keys and values (64, K) as a block.
func encode(w []uint32, t Type, k, v []float32, K int) {
	n := blockRows * K
	switch t {
	case F32:
		copy(asFloats(w), k[:n])
		copy(asFloats(w)[n:], v[:n])
	case BF16:
		h := asHalves(w)
		for i := range n {
			h[i], h[n+i] = half(k[i]), half(v[i])
		}
	case I8:
		scales, q := asFloats(w[:K+blockRows]), asInts(w[K+blockRows:])
		for c := range K {
			scales[c] = quantise(q[c:], k[c:], K, blockRows)
		}
		for r := range blockRows {
			scales[K+r] = quantise(q[n+r*K:], v[r*K:], 1, K)
		}
	}
}

// quantise writes n elements that lie step apart as q ≈ x/scale with |q| <= 127, and returns the scale.
func quantise(q []int8, x []float32, step, n int) float32 {
	var most float32
	for i := range n {
		most = max(most, float32(math.Abs(float64(x[i*step]))))
	}
	scale := most / 127
	for scale*127 > math.MaxFloat32 { // the largest floats: stay finite
		scale = math.Nextafter32(scale, 0)
	}
	for i := range n {
		q[i*step] = 0
		if scale > 0 {
			q[i*step] = int8(min(max(math.RoundToEven(float64(x[i*step])/float64(scale)), -127), 127))
		}
	}
	return scale
}

// decodeKeys writes keys lo to hi-1 of a block as float32.
func decodeKeys(dst []float32, w []uint32, t Type, lo, hi, K int) {
	switch t {
	case F32:
		copy(dst, asFloats(w)[lo*K:hi*K])
	case BF16:
		cpu.WidenHalves(dst, asHalves(w)[lo*K:hi*K])
	case I8:
		scales, q := asFloats(w[:K]), asInts(w[K+blockRows:])
		for r := lo; r < hi; r++ {
			cpu.ScaleBytes(dst[(r-lo)*K:], q[r*K:(r+1)*K], scales)
		}
	}
}

// decodeValues writes values lo to hi-1 of a block as float32.
func decodeValues(dst []float32, w []uint32, t Type, lo, hi, K int) {
	n := blockRows * K
	switch t {
	case F32:
		copy(dst, asFloats(w)[n+lo*K:n+hi*K])
	case BF16:
		cpu.WidenHalves(dst, asHalves(w)[n+lo*K:n+hi*K])
	case I8:
		scales, q := asFloats(w[K:K+blockRows]), asInts(w[K+blockRows:])[n:]
		for r := lo; r < hi; r++ {
			cpu.ScaleBytesBy(dst[(r-lo)*K:], q[r*K:(r+1)*K], scales[r])
		}
	}
}

// half rounds to bfloat16, to nearest even. A NaN stays one.
func half(x float32) uint16 {
	b := math.Float32bits(x)
	if x != x {
		return uint16(b>>16) | 0x40
	}
	return uint16((b + 0x7fff + b>>16&1) >> 16)
}
