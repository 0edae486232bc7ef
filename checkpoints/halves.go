package checkpoints

import (
	"encoding/binary"
	"math"
)

// Conversions of many numbers of 16 bits. A uint64 holds two numbers of 32 bits, or four of 16, which integer instructions
// work on together: no sum below carries from one into the next. Numbers for which that is not enough (subnormal, infinite,
// NaN) are rare in weights, and go through half.go.

const (
	each16 = 0x0001_0001_0001_0001
	each32 = 0x0000_0001_0000_0001
)

// decodeF16 is F16ToF32 of each of src.
func decodeF16(dst []float32, src []byte) {
	for len(dst) >= 4 && len(src) >= 8 {
		d, x := (*[4]float32)(dst), binary.LittleEndian.Uint64(src)
		if normalF16(x) {
			a := wideF16(x&0xffff | x&0xffff_0000<<16)
			b := wideF16(x>>32&0xffff | x>>48<<32)
			d[0], d[1] = math.Float32frombits(uint32(a)), math.Float32frombits(uint32(a>>32))
			d[2], d[3] = math.Float32frombits(uint32(b)), math.Float32frombits(uint32(b>>32))
		} else {
			for i := range d {
				d[i] = F16ToF32(uint16(x >> (16 * i)))
			}
		}
		dst, src = dst[4:], src[8:]
	}
	for i := range dst {
		dst[i] = F16ToF32(binary.LittleEndian.Uint16(src[2*i:]))
	}
}

// normalF16 reports whether four binary16 are normal: their exponents are neither 0 nor 31.
func normalF16(x uint64) bool {
	e := x & (0x7c00 * each16)
	return ((e+0x0400*each16)|(e-0x0400*each16))&(0x8000*each16) == 0 // a borrow from the next does not hide itself
}

// wideF16 converts two normal binary16, each in the low half of its 32 bits.
func wideF16(x uint64) uint64 {
	return x&(0x8000*each32)<<16 | (x&(0x7fff*each32)<<13 + 112<<23*each32)
}

// decodeBF16 is BF16ToF32 of each of src.
func decodeBF16(dst []float32, src []byte) {
	for len(dst) >= 4 && len(src) >= 8 {
		d, x := (*[4]float32)(dst), binary.LittleEndian.Uint64(src)
		d[0] = math.Float32frombits(uint32(x) << 16)
		d[1] = math.Float32frombits(uint32(x) &^ 0xffff)
		d[2] = math.Float32frombits(uint32(x>>32) << 16)
		d[3] = math.Float32frombits(uint32(x>>32) &^ 0xffff)
		dst, src = dst[4:], src[8:]
	}
	for i := range dst {
		dst[i] = BF16ToF32(binary.LittleEndian.Uint16(src[2*i:]))
	}
}

// pair returns the bits of two numbers.
func pair(a, b float32) uint64 { return uint64(math.Float32bits(a)) | uint64(math.Float32bits(b))<<32 }

// narrow joins the low halves of two times two numbers of 32 bits.
func narrow(a, b uint64) uint64 {
	return a&0xffff | a>>16&0xffff_0000 | (b&0xffff|b>>16&0xffff_0000)<<32
}

// encodeF16 is F32ToF16 of each of src.
func encodeF16(dst []byte, src []float32) {
	const least, above = 0x3880_0000, 0x477f_f000 // the magnitudes that become normal numbers
	for len(src) >= 4 && len(dst) >= 8 {
		s := (*[4]float32)(src)
		a, b := pair(s[0], s[1]), pair(s[2], s[3])
		ma, mb := a&(0x7fff_ffff*each32), b&(0x7fff_ffff*each32)
		low := (ma + (1<<31-least)*each32) & (mb + (1<<31-least)*each32)
		high := (ma + (1<<31-above)*each32) | (mb + (1<<31-above)*each32)
		if (low&^high)&(1<<31*each32) == 1<<31*each32 {
			ma = (ma+0xfff*each32+a>>13&each32)>>13&(0x3ffff*each32) - 112<<10*each32 // to nearest, ties to even
			mb = (mb+0xfff*each32+b>>13&each32)>>13&(0x3ffff*each32) - 112<<10*each32
			binary.LittleEndian.PutUint64(dst, narrow(ma|a>>16&(0x8000*each32), mb|b>>16&(0x8000*each32)))
		} else {
			for i, v := range s {
				binary.LittleEndian.PutUint16(dst[2*i:], F32ToF16(v))
			}
		}
		src, dst = src[4:], dst[8:]
	}
	for i, v := range src {
		binary.LittleEndian.PutUint16(dst[2*i:], F32ToF16(v))
	}
}

// encodeBF16 is F32ToBF16 of each of src.
func encodeBF16(dst []byte, src []float32) {
	const nan = 0x7f80_0001 // the least magnitude of a NaN
	for len(src) >= 4 && len(dst) >= 8 {
		s := (*[4]float32)(src)
		a, b := pair(s[0], s[1]), pair(s[2], s[3])
		if ((a&(0x7fff_ffff*each32)+(1<<31-nan)*each32)|(b&(0x7fff_ffff*each32)+(1<<31-nan)*each32))&(1<<31*each32) == 0 {
			a += 0x7fff*each32 + a>>16&each32
			b += 0x7fff*each32 + b>>16&each32
			binary.LittleEndian.PutUint64(dst, narrow(a>>16, b>>16))
		} else {
			for i, v := range s {
				binary.LittleEndian.PutUint16(dst[2*i:], F32ToBF16(v))
			}
		}
		src, dst = src[4:], dst[8:]
	}
	for i, v := range src {
		binary.LittleEndian.PutUint16(dst[2*i:], F32ToBF16(v))
	}
}
