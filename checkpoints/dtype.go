package checkpoints

import "strconv"

// A DType is the type of a tensor's elements as stored.
type DType uint8

// The types that [Tensor.Float32] converts, those of GGUF that store elements in blocks last; then those that can only be
// copied as they are; then the rest.
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

	Q4_0 // 32 elements: 4-bit numbers and one scale
	Q4_1 // ... and one minimum
	Q5_0
	Q5_1
	Q8_0
	Q4_K // 256 elements: 8 groups with scales and minima of their own
	Q5_K
	Q6_K

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

// dtypes holds each type's name, that of safetensors or of GGUF, and the bytes of an element; for a type of blocks the bytes
// and the elements of a block.
var dtypes = [...]struct {
	name  string
	size  int
	block int // elements, 0 for a plain type
}{
	F32: {"F32", 4, 0}, F16: {"F16", 2, 0}, BF16: {"BF16", 2, 0}, F64: {"F64", 8, 0},
	I64: {"I64", 8, 0}, I32: {"I32", 4, 0}, I16: {"I16", 2, 0}, I8: {"I8", 1, 0}, U8: {"U8", 1, 0}, Bool: {"BOOL", 1, 0},
	Q4_0: {"Q4_0", 18, 32}, Q4_1: {"Q4_1", 20, 32}, Q5_0: {"Q5_0", 22, 32}, Q5_1: {"Q5_1", 24, 32}, Q8_0: {"Q8_0", 34, 32},
	Q4_K: {"Q4_K", 144, 256}, Q5_K: {"Q5_K", 176, 256}, Q6_K: {"Q6_K", 210, 256},
	U64: {"U64", 8, 0}, U32: {"U32", 4, 0}, U16: {"U16", 2, 0}, C64: {"C64", 8, 0},
	F8E4M3: {"F8_E4M3", 1, 0}, F8E5M2: {"F8_E5M2", 1, 0}, F8E8M0: {"F8_E8M0", 1, 0},
	F8E4M3FNUZ: {"F8_E4M3FNUZ", 1, 0}, F8E5M2FNUZ: {"F8_E5M2FNUZ", 1, 0},
	Unsupported: {"unsupported", 0, 0},
}

// dtypeByName maps safetensors names to types. safetensors has no types of blocks.
var dtypeByName = func() map[string]DType {
	m := make(map[string]DType)
	for d := F32; d < Unsupported; d++ {
		if dtypes[d].block == 0 {
			m[dtypes[d].name] = d
		}
	}
	return m
}()

// String returns the name that safetensors or GGUF gives the type, such as "BF16", "F8_E4M3" or "Q4_K".
func (d DType) String() string {
	if d > Unsupported {
		return "DType(" + strconv.Itoa(int(d)) + ")"
	}
	return dtypes[d].name
}

// Size returns the bytes of one element, 0 for [Unsupported] and for a type of blocks.
func (d DType) Size() int {
	if d > Unsupported || dtypes[d].block != 0 {
		return 0
	}
	return dtypes[d].size
}

// Block returns how many elements are stored together, and in how many bytes: 32, 18 for Q4_0, and 1, Size() for the plain
// types. A row, the last dimension of a tensor, is a whole number of blocks.
func (d DType) Block() (elements, bytes int) {
	if d > Unsupported {
		return 1, 0
	}
	return max(dtypes[d].block, 1), dtypes[d].size
}

// Numeric reports whether [Tensor.Float32] converts from d.
func (d DType) Numeric() bool { return d <= Q6_K }

// blocks reports whether d stores elements in blocks.
func (d DType) blocks() bool { return d >= Q4_0 && d <= Q6_K }
