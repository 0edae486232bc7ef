package checkpoints

import "math"

// F16ToF32 converts an IEEE 754 binary16 pattern. It is exact for every finite and infinite value; a NaN keeps its sign
// and its payload, and becomes quiet.
func F16ToF32(h uint16) float32 {
	sign := uint32(h&0x8000) << 16
	exp := uint32(h>>10) & 0x1f
	frac := uint32(h & 0x3ff)
	switch exp {
	case 0: // zero or subnormal: frac * 2^-24, exact in float32
		return math.Float32frombits(sign | math.Float32bits(float32(frac)*0x1p-24))
	case 0x1f:
		if frac != 0 {
			frac |= 0x200
		}
		return math.Float32frombits(sign | 0x7f800000 | frac<<13)
	}
	return math.Float32frombits(sign | (exp+112)<<23 | frac<<13)
}

// F32ToF16 rounds to the nearest binary16, ties to even; from 65520 on it gives infinity. A NaN stays a NaN with its sign.
func F32ToF16(f float32) uint16 {
	b := math.Float32bits(f)
	sign := uint16(b>>16) & 0x8000
	b &= 0x7fffffff
	switch {
	case b > 0x7f800000:
		return sign | 0x7e00 | uint16(b>>13)&0x1ff
	case b >= 0x477ff000: // 65520 and above, infinity too
		return sign | 0x7c00
	case b < 0x38800000: // below 2^-14: the sum has 2^-24 as its last place, so the addition rounds
		return sign | uint16(math.Float32bits(math.Float32frombits(b)+0.5)-0x3f000000)
	}
	b += 0xfff + b>>13&1 // ties to even; a carry moves into the exponent, as it should
	return sign | uint16(b>>13-112<<10)
}

// BF16ToF32 converts a bfloat16 pattern. It is exact.
func BF16ToF32(h uint16) float32 { return math.Float32frombits(uint32(h) << 16) }

// F32ToBF16 rounds to the nearest bfloat16, ties to even. A NaN stays a NaN with its sign.
func F32ToBF16(f float32) uint16 {
	b := math.Float32bits(f)
	if b&0x7fffffff > 0x7f800000 {
		return uint16(b>>16) | 0x40
	}
	return uint16((b + 0x7fff + b>>16&1) >> 16)
}

// oddF32 rounds to float32 so that a second rounding, to 24 - 2 bits or fewer, gives what one rounding would have
// (round to odd: Boldo and Melquiond 2008).
func oddF32(x float64) float32 {
	f := float32(x)
	if float64(f) == x || x != x {
		return f
	}
	b := math.Float32bits(f)
	if b&1 != 0 {
		return f
	}
	if math.Abs(float64(f)) > math.Abs(x) { // one towards zero, else one away from it
		return math.Float32frombits(b - 1)
	}
	return math.Float32frombits(b + 1)
}
