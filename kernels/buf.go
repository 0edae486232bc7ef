package kernels

import "unsafe"

// DType is the element type of a buffer.
type DType uint8

// The element types: those of a backend's values, and the narrow ones, which only weights may have (see weights.go).
const (
	F32 DType = iota
	F64
	BF16
	I8
)

// Size returns the bytes of one element, without the scales of int8 rows.
func (d DType) Size() int {
	switch d {
	case F64:
		return 8
	case BF16:
		return 2
	case I8:
		return 1
	}
	return 4
}

// Narrow says that only weights may have this type.
func (d DType) Narrow() bool { return d == BF16 || d == I8 }

// Buf is a run of n elements in a backend's memory. The zero Buf is absent: an optional operand that is not there.
// A host backend reads it as a slice; a device backend as an address.
type Buf struct {
	p      unsafe.Pointer
	n      int
	scales unsafe.Pointer // of int8 rows
	width  int32          // of int8 rows
	dt     DType
}

// Float is the element type of host memory.
type Float interface{ float32 | float64 }

// Of returns the Buf over a host slice. It keeps the slice's memory alive.
func Of[T Float](s []T) Buf {
	var z T
	dt := F32
	if unsafe.Sizeof(z) == 8 {
		dt = F64
	}
	return Buf{p: unsafe.Pointer(unsafe.SliceData(s)), n: len(s), dt: dt}
}

// Device returns the Buf over n elements at a device address.
func Device(p unsafe.Pointer, n int, dt DType) Buf { return Buf{p: p, n: n, dt: dt} }

// Host returns the elements of a Buf in host memory. It panics if the Buf holds another element type, narrow weights
// above all. An absent Buf gives nil.
func Host[T Float](b Buf) []T {
	if b.p == nil {
		return nil
	}
	var z T
	if b.dt.Narrow() {
		panic(NarrowWeights)
	}
	if b.dt.Size() != int(unsafe.Sizeof(z)) {
		panic(badType)
	}
	return unsafe.Slice((*T)(b.p), b.n)
}

// F32 returns the elements of a float32 Buf in host memory.
func (b Buf) F32() []float32 { return Host[float32](b) }

// Absent says that there is no operand.
func (b Buf) Absent() bool { return b.p == nil }

// Len returns the number of elements.
func (b Buf) Len() int { return b.n }

// DType returns the element type.
func (b Buf) DType() DType { return b.dt }

// Pointer returns the address of the first element.
func (b Buf) Pointer() unsafe.Pointer { return b.p }

// Slice returns elements i to j-1, sharing memory. Int8 weights have whole rows only.
func (b Buf) Slice(i, j int) Buf {
	if i < 0 || j < i || j > b.n {
		panic(badSlice)
	}
	if w := int(b.width); b.dt == I8 && w > 0 {
		if i%w != 0 || j%w != 0 {
			panic(badSlice)
		}
		b.scales = unsafe.Add(b.scales, 4*(i/w))
	}
	b.p, b.n = unsafe.Add(b.p, i*b.dt.Size()), j-i
	return b
}
