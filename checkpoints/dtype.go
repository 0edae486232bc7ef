package checkpoints

import "strconv"

// A DType is the type of a tensor's elements as stored.
type DType uint8

// The types that [Tensor.Float32] converts, then those that can only be copied as they are, then the rest.
const (
	F32 DType = iota
	F16
	BF16
	F64
	I64
	I32
	I16
	I8
	U8
	Bool

	U64
	U32
	U16
	C64    // complex of two float32
	F8E4M3 // the variants of FP8
	F8E5M2
	F8E8M0
	F8E4M3FNUZ
	F8E5M2FNUZ

	// Unsupported is a type or a layout whose element size is unknown here; [Tensor.TypeName] has its name.
	Unsupported
)

// dtypes holds each type's safetensors name and its size in bytes.
var dtypes = [...]struct {
	name string
	size int
}{
	F32: {"F32", 4}, F16: {"F16", 2}, BF16: {"BF16", 2}, F64: {"F64", 8},
	I64: {"I64", 8}, I32: {"I32", 4}, I16: {"I16", 2}, I8: {"I8", 1}, U8: {"U8", 1}, Bool: {"BOOL", 1},
	U64: {"U64", 8}, U32: {"U32", 4}, U16: {"U16", 2}, C64: {"C64", 8},
	F8E4M3: {"F8_E4M3", 1}, F8E5M2: {"F8_E5M2", 1}, F8E8M0: {"F8_E8M0", 1},
	F8E4M3FNUZ: {"F8_E4M3FNUZ", 1}, F8E5M2FNUZ: {"F8_E5M2FNUZ", 1},
	Unsupported: {"unsupported", 0},
}

// dtypeByName maps safetensors names to types.
var dtypeByName = func() map[string]DType {
	m := make(map[string]DType)
	for d := F32; d < Unsupported; d++ {
		m[dtypes[d].name] = d
	}
	return m
}()

// String returns the safetensors name, such as "BF16" or "F8_E4M3".
func (d DType) String() string {
	if d > Unsupported {
		return "DType(" + strconv.Itoa(int(d)) + ")"
	}
	return dtypes[d].name
}

// Size returns the bytes of one element, 0 for [Unsupported].
func (d DType) Size() int {
	if d > Unsupported {
		return 0
	}
	return dtypes[d].size
}

// Numeric reports whether [Tensor.Float32] converts from d.
func (d DType) Numeric() bool { return d <= Bool }
