package checkpoints

import (
	"encoding/binary"
	"fmt"
	"math"
)

// The types of blocks, as ggml defines them (its block_q4_0 and so on). A block holds a scale d, often a minimum m, and small
// unsigned or signed numbers q; the types with K have scales and minima for groups of 16 or 32 elements, themselves small
// numbers. Products and sums are rounded one after the other, as ggml's plain C and its Python package do: float32 around a
// product forbids the compiler to fuse it with the addition.

// Small numbers as float32: looking one up is faster than converting it.
var (
	unsignedFloats [256]float32 // of 0 to 255
	signedFloats   [256]float32 // of int8
)

func init() {
	for i := range 256 {
		unsignedFloats[i] = float32(i)
		signedFloats[i] = float32(int8(i))
	}
}

// decodeBlocks converts whole blocks of src, len(dst) elements.
func decodeBlocks(dst []float32, src []byte, d DType) {
	elements, size := d.Block()
	block := blockDecoders[d]
	for len(dst) >= elements {
		block(dst[:elements:elements], src[:size:size])
		dst, src = dst[elements:], src[size:]
	}
}

var blockDecoders = [...]func(dst []float32, src []byte){
	Q4_0: decodeQ4_0, Q4_1: decodeQ4_1, Q5_0: decodeQ5_0, Q5_1: decodeQ5_1, Q8_0: decodeQ8_0,
	Q4_K: decodeQ4_K, Q5_K: decodeQ5_K, Q6_K: decodeQ6_K,
}

func half(b []byte) float32 { return F16ToF32(binary.LittleEndian.Uint16(b)) }

// decodeQ4_0: d, 16 bytes of two q each, the low ones first; d * (q - 8).
func decodeQ4_0(dst []float32, src []byte) {
	out, qs := (*[32]float32)(dst), (*[16]byte)(src[2:])
	d := half(src)
	for j, q := range qs {
		out[j] = d * signedFloats[q&15-8]
		out[j+16] = d * signedFloats[q>>4-8]
	}
}

// decodeQ4_1: d, m, 16 bytes of q; d * q + m.
func decodeQ4_1(dst []float32, src []byte) {
	out, qs := (*[32]float32)(dst), (*[16]byte)(src[4:])
	d, m := half(src), half(src[2:])
	for j, q := range qs {
		out[j] = float32(d*unsignedFloats[q&15]) + m
		out[j+16] = float32(d*unsignedFloats[q>>4]) + m
	}
}

// decodeQ5_0: d, 32 high bits, 16 bytes of low bits; d * (q - 16).
func decodeQ5_0(dst []float32, src []byte) {
	out, qs := (*[32]float32)(dst), (*[16]byte)(src[6:])
	d, high := half(src), binary.LittleEndian.Uint32(src[2:])
	for j, q := range qs {
		out[j] = d * signedFloats[q&15|byte(high<<4)&16-16]
		out[j+16] = d * signedFloats[q>>4|byte(high>>12)&16-16]
		high >>= 1
	}
}

// decodeQ5_1: d, m, 32 high bits, 16 bytes of low bits; d * q + m.
func decodeQ5_1(dst []float32, src []byte) {
	out, qs := (*[32]float32)(dst), (*[16]byte)(src[8:])
	d, m, high := half(src), half(src[2:]), binary.LittleEndian.Uint32(src[4:])
	for j, q := range qs {
		out[j] = float32(d*unsignedFloats[q&15|byte(high<<4)&16]) + m
		out[j+16] = float32(d*unsignedFloats[q>>4|byte(high>>12)&16]) + m
		high >>= 1
	}
}

// decodeQ8_0: d, 32 signed q; q * d.
func decodeQ8_0(dst []float32, src []byte) {
	out, qs := (*[32]float32)(dst), (*[32]byte)(src[2:])
	d := half(src)
	for j, q := range qs {
		out[j] = signedFloats[q] * d
	}
}

// groupScale returns the scale and the minimum of group j of 8, six bits each, from the 12 bytes of a Q4_K or Q5_K block.
func groupScale(s *[12]byte, j int) (scale, minimum byte) {
	if j < 4 {
		return s[j] & 63, s[j+4] & 63
	}
	return s[j+4]&15 | s[j-4]>>6<<4, s[j+4]>>4 | s[j]>>6<<4
}

// decodeQ4_K: d and the unit of the minima, 12 bytes of scales and minima, 128 bytes of q; 32 bytes hold the low and the high
// bits of two groups; d * scale * q - unit * minimum.
func decodeQ4_K(dst []float32, src []byte) {
	d, unit, scales := half(src), half(src[2:]), (*[12]byte)(src[4:])
	for j := 0; j < 8; j += 2 {
		s1, m1 := groupScale(scales, j)
		s2, m2 := groupScale(scales, j+1)
		d1, min1 := d*unsignedFloats[s1], float32(unit*unsignedFloats[m1])
		d2, min2 := d*unsignedFloats[s2], float32(unit*unsignedFloats[m2])
		qs, out := (*[32]byte)(src[16+16*j:]), (*[64]float32)(dst[32*j:])
		for l, q := range qs {
			out[l] = float32(d1*unsignedFloats[q&15]) - min1
			out[l+32] = float32(d2*unsignedFloats[q>>4]) - min2
		}
	}
}

// decodeQ5_K: as Q4_K, with 32 bytes of high bits, one bit for each group, before the 128 bytes of low bits.
func decodeQ5_K(dst []float32, src []byte) {
	d, unit, scales := half(src), half(src[2:]), (*[12]byte)(src[4:])
	high := (*[32]byte)(src[16:])
	for j := 0; j < 8; j += 2 {
		s1, m1 := groupScale(scales, j)
		s2, m2 := groupScale(scales, j+1)
		d1, min1 := d*unsignedFloats[s1], float32(unit*unsignedFloats[m1])
		d2, min2 := d*unsignedFloats[s2], float32(unit*unsignedFloats[m2])
		qs, out := (*[32]byte)(src[48+16*j:]), (*[64]float32)(dst[32*j:])
		for l, q := range qs {
			h := high[l] >> uint(j&7)
			out[l] = float32(d1*unsignedFloats[q&15|h&1<<4]) - min1
			out[l+32] = float32(d2*unsignedFloats[q>>4|h&2<<3]) - min2
		}
	}
}

// decodeQ6_K: 128 bytes of low bits, 64 of high bits, 16 signed scales, d; d * scale * (q - 32). Each half of the block lies
// in 64 bytes of low and 32 of high bits, four groups of 32 elements woven together.
func decodeQ6_K(dst []float32, src []byte) {
	d := half(src[208:])
	for n := range 2 {
		low, high, scales := (*[64]byte)(src[64*n:]), (*[32]byte)(src[128+32*n:]), (*[8]byte)(src[192+8*n:])
		for i := range 2 {
			d1, d2 := d*signedFloats[scales[i]], d*signedFloats[scales[i+2]]
			d3, d4 := d*signedFloats[scales[i+4]], d*signedFloats[scales[i+6]]
			out := (*[112]float32)(dst[128*n+16*i:])
			l1, l2, hs := (*[16]byte)(low[16*i:]), (*[16]byte)(low[32+16*i:]), (*[16]byte)(high[16*i:])
			for l, h := range hs {
				out[l] = d1 * signedFloats[l1[l]&15|h<<4&48-32]
				out[l+32] = d2 * signedFloats[l2[l]&15|h<<2&48-32]
				out[l+64] = d3 * signedFloats[l1[l]>>4|h&48-32]
				out[l+96] = d4 * signedFloats[l2[l]>>4|h>>2&48-32]
			}
		}
	}
}

// encodeQ8_0 converts whole blocks as ggml does (quantize_row_q8_0_ref): d = max |x| / 127, q = x times 1/d rounded half away
// from zero, d stored as float16. It fails for what a block cannot hold.
func encodeQ8_0(dst []byte, src []float32) error {
	for len(src) >= 32 {
		x, out := (*[32]float32)(src), (*[34]byte)(dst)
		top := largest(x)
		d := math.Float32frombits(top) / 127
		h := F32ToF16(d)
		if h >= 0x7c00 {
			return fmt.Errorf("a value of %v is out of the range of Q8_0 (write it as F16 or F32)", math.Float32frombits(top))
		}
		inverse := float32(0)
		if d != 0 {
			inverse = 1 / d
		}
		if inverse > math.MaxFloat32 { // d is 0 in float16 too
			inverse = 0
		}
		binary.LittleEndian.PutUint16(out[:], h)
		for i, v := range x {
			// The number below 0.5 next to it: 0.5 itself would round what lies just below it up to 1.
			y := v * inverse
			y += math.Float32frombits(math.Float32bits(y)&(1<<31) | 0x3eff_ffff)
			out[2+i] = byte(int32(y)) // cut towards zero
		}
		src, dst = src[32:], dst[34:]
	}
	return nil
}

// largest returns the bits of the largest magnitude. Without the sign, floats are ordered as their bits, a NaN above all.
func largest(x *[32]float32) uint32 {
	var a, b, c, d uint32
	for i := 0; i < 32; i += 4 {
		a = max(a, math.Float32bits(x[i])&^(1<<31))
		b = max(b, math.Float32bits(x[i+1])&^(1<<31))
		c = max(c, math.Float32bits(x[i+2])&^(1<<31))
		d = max(d, math.Float32bits(x[i+3])&^(1<<31))
	}
	return max(a, b, c, d)
}
