package checkpoints

import (
	"encoding/binary"
	"math"
	"unsafe"
)

// littleEndian says that float32 values lie in this machine's memory as in a file.
var littleEndian = binary.NativeEndian.Uint16([]byte{1, 0}) == 1

// asBytes returns the memory of v.
func asBytes(v []float32) []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(v))), 4*len(v))
}

// decode converts the first len(dst) little-endian elements of src, whole blocks, from d, which must be Numeric.
func decode(dst []float32, src []byte, d DType) {
	if d.blocks() {
		decodeBlocks(dst, src, d)
		return
	}
	le := binary.LittleEndian
	src = src[:len(dst)*d.Size()]
	switch d {
	case F32:
		if littleEndian {
			copy(asBytes(dst), src)
			return
		}
		for i := range dst {
			dst[i] = math.Float32frombits(le.Uint32(src[4*i:]))
		}
	case F16:
		decodeF16(dst, src)
	case BF16:
		decodeBF16(dst, src)
	case F64:
		for i := range dst {
			dst[i] = float32(math.Float64frombits(le.Uint64(src[8*i:])))
		}
	case I64:
		for i := range dst {
			dst[i] = float32(int64(le.Uint64(src[8*i:])))
		}
	case I32:
		for i := range dst {
			dst[i] = float32(int32(le.Uint32(src[4*i:])))
		}
	case I16:
		for i := range dst {
			dst[i] = float32(int16(le.Uint16(src[2*i:])))
		}
	case I8:
		for i := range dst {
			dst[i] = float32(int8(src[i]))
		}
	case U8:
		for i := range dst {
			dst[i] = float32(src[i])
		}
	case Bool:
		for i := range dst {
			dst[i] = 0
			if src[i] != 0 {
				dst[i] = 1
			}
		}
	}
}

// encode converts src into little-endian elements of d: F32, F16 or BF16.
func encode(dst []byte, src []float32, d DType) {
	le := binary.LittleEndian
	switch d {
	case F32:
		if littleEndian {
			copy(dst[:4*len(src)], asBytes(src))
			return
		}
		for i, v := range src {
			le.PutUint32(dst[4*i:], math.Float32bits(v))
		}
	case F16:
		encodeF16(dst, src)
	case BF16:
		encodeBF16(dst, src)
	}
}

// decodeOdd is decode for F64 that is to be rounded once more.
func decodeOdd(dst []float32, src []byte) {
	for i := range dst {
		dst[i] = oddF32(math.Float64frombits(binary.LittleEndian.Uint64(src[8*i:])))
	}
}
