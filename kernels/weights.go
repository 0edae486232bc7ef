package kernels

import (
	"fmt"
	"math"
	"unsafe"
)

// Weights for inference may be held in bf16 or in int8: the matrix of Linear, the table of Gather, and the matrix of a
// forward Xent. Their memory may be read-only, a mapped file for one. Every other operation panics with NarrowWeights.
//
// A bf16 weight is the upper half of a float32. Linear over bf16 weights is Linear over the same weights widened to
// float32, to the bit.
//
// Int8 weights have a scale for each row (output): w = scale·q, -127 <= q <= 127. Linear rounds each row of x to int8 too,
// with a scale for every block of I8Block columns, and multiplies integers:
//
//	out[o] = scale[o] · Σ over blocks of xScale[block] · (Σ q[o,i]·xq[i] over the block)
//
// The inner sums are exact. A scale a block, not a row, because activations have a few columns that are many times larger
// than the rest: they then cost the precision of 64 columns and not of all.

// I8Block is the number of columns of a row of x that share a scale.
const I8Block = 64

// tinyBlock is where a block counts as zeros: below it, 127/max is no float32.
const tinyBlock = 0x1p-110

// BF16Of returns the Buf over bfloat16 weights in host memory, which it keeps alive.
func BF16Of(s []uint16) Buf {
	return Buf{p: unsafe.Pointer(unsafe.SliceData(s)), n: len(s), dt: BF16}
}

// Int8Of returns the Buf over int8 weights in host memory, which it keeps alive.
//
//	q (O, I)    scales (O)
//
// It panics if there is not one scale a row.
func Int8Of(q []int8, scales []float32, I int) Buf {
	if I < 0 || I > math.MaxInt32 || len(scales)*I != len(q) {
		panic(badScales)
	}
	return Buf{
		p: unsafe.Pointer(unsafe.SliceData(q)), n: len(q), dt: I8,
		scales: unsafe.Pointer(unsafe.SliceData(scales)), width: int32(I),
	}
}

// BF16 returns the elements of a bf16 Buf in host memory.
func (b Buf) BF16() []uint16 {
	if b.dt != BF16 {
		panic(badType)
	}
	return unsafe.Slice((*uint16)(b.p), b.n)
}

// Int8 returns the elements of an int8 Buf in host memory and the scales of its rows, of I elements each. It panics if
// they have another width.
func (b Buf) Int8(I int) (q []int8, scales []float32) {
	if b.dt != I8 {
		panic(badType)
	}
	if int(b.width) != I {
		panic(badWidth)
	}
	if I == 0 {
		return nil, nil
	}
	return unsafe.Slice((*int8)(b.p), b.n), unsafe.Slice((*float32)(b.scales), b.n/I)
}

// WeightBytes returns the memory that b takes up, with its scales.
func (b Buf) WeightBytes() int64 {
	n := int64(b.n) * int64(b.dt.Size())
	if b.dt == I8 && b.width > 0 {
		n += 4 * int64(b.n/int(b.width))
	}
	return n
}

// WidenBF16 overwrites dst with the values of src.
func WidenBF16[T Float](dst []T, src []uint16) {
	for i, h := range src {
		dst[i] = T(math.Float32frombits(uint32(h) << 16))
	}
}

// RoundBF16 overwrites dst with src, rounded to nearest, ties to even. A NaN stays one; what is too large becomes
// infinite.
func RoundBF16(dst []uint16, src []float32) {
	for i, x := range src {
		b := math.Float32bits(x)
		if x != x {
			dst[i] = uint16(b>>16) | 0x40
			continue
		}
		dst[i] = uint16((b + 0x7fff + b>>16&1) >> 16)
	}
}

// QuantizeInt8 overwrites q and scales with the nearest int8 weights of w: scale = max|w|/127 of the row. It returns an
// error if a row holds a NaN or an infinity.
//
//	q, w (O, I)    scales (O)
func QuantizeInt8(q []int8, scales, w []float32, O, I int) error {
	for o := range O {
		row := w[o*I : (o+1)*I]
		s, inv := blockScale(row)
		if s != s {
			return fmt.Errorf("quantize row %d: NaN or infinity (keep this tensor in bf16 or f32)", o)
		}
		scales[o] = s
		to := q[o*I : (o+1)*I]
		for i, x := range row {
			to[i] = int8(math.RoundToEven(float64(x * inv)))
		}
	}
	return nil
}

// QuantizeBlocks rounds a row of x, as Linear over int8 weights does, in float32. A block that holds a NaN or an infinity
// gets the scale NaN. q is filled with zeros up to a whole number of blocks.
//
//	x (I)    q (I rounded up to blocks)    scales (blocks)
func QuantizeBlocks(q []int16, scales, x []float32) {
	for b := 0; b*I8Block < len(x); b++ {
		block := x[b*I8Block : min((b+1)*I8Block, len(x))]
		s, inv := blockScale(block)
		scales[b] = s
		to := q[b*I8Block : (b+1)*I8Block]
		clear(to[len(block):])
		for i, v := range block {
			if s != s {
				v = 0
			}
			to[i] = int16(math.RoundToEven(float64(v * inv)))
		}
	}
}

// blockScale returns max|x|/127 and 127/max|x|; zeros if x is all but zero; NaN and 0 if not all of x is finite.
func blockScale(x []float32) (scale, inverse float32) {
	var top uint32
	for _, v := range x {
		top = max(top, math.Float32bits(v)&^(1<<31))
	}
	m := math.Float32frombits(top)
	switch {
	case top >= 0x7f800000:
		return float32(math.NaN()), 0
	case m < tinyBlock:
		return 0, 0
	}
	return m / 127, 127 / m
}
