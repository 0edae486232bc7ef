package checkpoints

import (
	"cmp"
	"encoding/binary"
	"slices"
	"strconv"
	"unicode/utf8"
)

// ggufType is a type of tensors in a GGUF file: ggml's number for it is its index in ggufTypes.
type ggufType struct {
	name        string
	dtype       DType
	block, size int // elements and bytes of a block, 0 when unknown
}

// ggufTypes holds ggml's types. Some numbers were given up.
var ggufTypes = func() []ggufType {
	types := make([]ggufType, 42)
	for number, d := range map[int]DType{
		0: F32, 1: F16, 2: Q4_0, 3: Q4_1, 6: Q5_0, 7: Q5_1, 8: Q8_0, 12: Q4_K, 13: Q5_K, 14: Q6_K,
		24: I8, 25: I16, 26: I32, 27: I64, 28: F64, 30: BF16,
	} {
		block, size := d.Block()
		types[number] = ggufType{d.String(), d, block, size}
	}
	for number, t := range map[int]ggufType{ // their sizes tell where the next tensor begins
		9: {"Q8_1", Unsupported, 32, 40}, 10: {"Q2_K", Unsupported, 256, 84}, 11: {"Q3_K", Unsupported, 256, 110},
		15: {"Q8_K", Unsupported, 256, 292}, 16: {"IQ2_XXS", Unsupported, 256, 66}, 17: {"IQ2_XS", Unsupported, 256, 74},
		18: {"IQ3_XXS", Unsupported, 256, 98}, 19: {"IQ1_S", Unsupported, 256, 50}, 20: {"IQ4_NL", Unsupported, 32, 18},
		21: {"IQ3_S", Unsupported, 256, 110}, 22: {"IQ2_S", Unsupported, 256, 82}, 23: {"IQ4_XS", Unsupported, 256, 136},
		29: {"IQ1_M", Unsupported, 256, 56}, 34: {"TQ1_0", Unsupported, 256, 54}, 35: {"TQ2_0", Unsupported, 256, 66},
		39: {"MXFP4", Unsupported, 32, 17}, 40: {"NVFP4", Unsupported, 64, 36}, 41: {"Q1_0", Unsupported, 128, 18},
	} {
		types[number] = t
	}
	return types
}()

const ggufAlignment = 32 // of tensors, when general.alignment does not say

// readGGUF reads the header of a GGUF file, version 2 or 3: the numbers of tensors and of values, the values, the tensors'
// descriptions; then, aligned, the tensors, which must fill the rest of the file without holes or overlaps.
func readGGUF(w *Weights, m *mapping) error {
	c := &cursor{b: m.data, at: 4}
	if len(c.b) > maxHeader {
		c.b, c.limited = c.b[:maxHeader], true
	}
	version := c.u32("the version")
	switch {
	case c.err != nil:
		return c.err
	case version == 1:
		return formatf("GGUF version 1 (convert it to version 3 with an older llama.cpp)")
	case version&0xffff == 0:
		return formatf("a big-endian GGUF file (convert it to little-endian with gguf_convert_endian.py of llama.cpp)")
	case version != 2 && version != 3:
		return formatf("GGUF version %d is unknown (want 2 or 3)", version)
	}
	tensors := c.count("tensors", 25) // an empty name has 8 bytes; dimensions, type and offset follow
	values := c.count("values", 13)   // a length, a type and a value
	w.format, w.values = "gguf", make(map[string]any)
	for range values {
		if err := c.keyValue(w); err != nil {
			return err
		}
	}
	alignment, err := ggufAlign(w.values)
	if err != nil {
		return err
	}
	ts := make([]*stored, 0, tensors)
	for range tensors {
		t := c.tensor(alignment)
		if c.err != nil {
			return c.err
		}
		if w.tensors[t.Name] != nil {
			return formatf("tensor %q comes twice", clip(t.Name))
		}
		w.tensors[t.Name] = &t.Tensor
		ts = append(ts, t)
	}
	if c.err != nil {
		return c.err
	}
	return placeGGUF(m, ts, c.at, alignment)
}

// ggufAlign returns the alignment of tensors.
func ggufAlign(values map[string]any) (int, error) {
	v, ok := values["general.alignment"]
	if !ok {
		return ggufAlignment, nil
	}
	n, ok := v.(int64)
	if !ok || n < 1 || n > maxAlignment || n&(n-1) != 0 {
		return 0, formatf("general.alignment is %s (want a power of two up to %d)", clip(valueText(v)), maxAlignment)
	}
	return int(n), nil
}

// tensor reads the description of one tensor: name, dimensions from the last to the first, type, offset.
func (c *cursor) tensor(alignment int) *stored {
	at := c.at
	t := &stored{Tensor: Tensor{Name: c.string("a tensor's name")}}
	name := clip(t.Name)
	dims := c.u32("dimensions")
	if c.err == nil && dims > 4 {
		c.fail("tensor %q at byte %d has %d dimensions (at most 4)", name, at, dims)
	}
	if c.err != nil {
		return nil
	}
	t.Shape = make([]int, dims)
	for i := len(t.Shape) - 1; i >= 0; i-- {
		n := c.u64("dimensions")
		if n > uint64(maxInt) {
			c.fail("tensor %q at byte %d: dimension of %d", name, at, n)
			return nil
		}
		t.Shape[i] = int(n)
	}
	number, offset := c.u32("a tensor's type"), c.u64("a tensor's offset")
	if c.err != nil {
		return nil
	}
	typ := ggufType{name: "type " + strconv.Itoa(int(number)), dtype: Unsupported}
	if int64(number) < int64(len(ggufTypes)) && ggufTypes[number].block > 0 {
		typ = ggufTypes[number]
	}
	t.DType, t.TypeName = typ.dtype, typ.name
	if t.DType == Unsupported {
		t.problem = typ.name + " is not supported (use a file of F16, Q8_0, Q4_K or another of the common types)"
	}
	row := 1
	if dims > 0 {
		row = t.Shape[dims-1]
	}
	n, ok := product(append([]int{max(typ.size, 1)}, t.Shape...)...)
	switch {
	case !validTensorName(t.Name):
		c.fail("tensor at byte %d: the name %q is empty, too long or not UTF-8", at, name)
	case !ok:
		c.fail("tensor %q at byte %d: shape %v is out of range", name, at, t.Shape)
	case typ.block > 0 && row%typ.block != 0:
		c.fail("tensor %q at byte %d: %s has blocks of %d, which do not fill rows of %d", name, at, typ.name, typ.block, row)
	case offset%uint64(alignment) != 0 || offset > uint64(maxInt-alignment)/2:
		c.fail("tensor %q at byte %d: offset %d is not a multiple of the alignment %d", name, at, offset, alignment)
	}
	t.begin, t.end = int(offset), -1
	if typ.block > 0 && c.err == nil {
		if n /= typ.block; n > maxInt/2 {
			c.fail("tensor %q at byte %d: shape %v is out of range", name, at, t.Shape)
		}
		t.end = t.begin + n
	}
	return t
}

func validTensorName(name string) bool {
	return name != "" && len(name) <= maxName && utf8.ValidString(name)
}

// placeGGUF gives each tensor its bytes. The end of one of an unknown type is where the next begins.
func placeGGUF(m *mapping, ts []*stored, header, alignment int) error {
	align := func(n int) int { return (n + alignment - 1) &^ (alignment - 1) }
	start := min(align(header), len(m.data))
	data := m.data[start:]
	slices.SortStableFunc(ts, func(a, b *stored) int { return cmp.Or(cmp.Compare(a.begin, b.begin), cmp.Compare(a.end, b.end)) })
	at := 0 // where the next must begin
	for i, t := range ts {
		name := clip(t.Name)
		switch {
		case t.begin < at:
			return formatf("tensor %q at %d overlaps the one before, which ends at %d", name, t.begin, at)
		case max(t.begin, t.end) > len(data):
			return formatf("tensor %q lies at %d to %d, but the file has %d bytes of data: it is cut (copy it again)",
				name, t.begin, max(t.begin, t.end), len(data))
		case t.begin > at:
			return formatf("hole of %d bytes before tensor %q", t.begin-at, name)
		}
		at = align(t.end)
		if t.end < 0 {
			at = len(data)
			if i+1 < len(ts) {
				at = min(ts[i+1].begin, len(data))
			}
			t.end = at
			if n := t.Len(); n/maxPacked > t.end-t.begin {
				return formatf("tensor %q: shape %v does not fit into %d bytes", name, t.Shape, t.end-t.begin)
			}
		}
		t.m, t.File, t.Offset = m, m.path, int64(start+t.begin)
		t.storage = data[t.begin:t.end:t.end]
	}
	if len(data) > at {
		return formatf("%d bytes follow the last tensor", len(data)-at)
	}
	return nil
}

// A cursor reads the little-endian numbers of a header and keeps the first error.
type cursor struct {
	b       []byte
	at      int
	limited bool // b was cut to the limit of a header
	err     error
}

func (c *cursor) fail(format string, args ...any) {
	if c.err == nil {
		c.err = formatf(format, args...)
	}
}

// take returns the next n bytes, nil after an error.
func (c *cursor) take(n uint64, what string) []byte {
	switch {
	case c.err != nil:
	case n <= uint64(len(c.b)-c.at):
		c.at += int(n)
		return c.b[c.at-int(n) : c.at]
	case c.limited:
		c.fail("header exceeds the limit of %d bytes", maxHeader)
	default:
		c.fail("the file ends within %s at byte %d: it is cut (copy it again)", what, c.at)
	}
	return nil
}

func (c *cursor) u32(what string) uint32 {
	if b := c.take(4, what); b != nil {
		return binary.LittleEndian.Uint32(b)
	}
	return 0
}

func (c *cursor) u64(what string) uint64 {
	if b := c.take(8, what); b != nil {
		return binary.LittleEndian.Uint64(b)
	}
	return 0
}

// count reads a number of things that take least bytes each, which bounds it.
func (c *cursor) count(what string, least int) int {
	at := c.at
	n := c.u64("the number of " + what)
	if rest := len(c.b) - c.at; c.err == nil && n > uint64(rest/least) {
		c.fail("%d %s at byte %d, but only %d bytes of header follow: the file is cut (copy it again)", n, what, at, rest)
	}
	if c.err != nil {
		return 0
	}
	return int(n)
}

func (c *cursor) string(what string) string { return string(c.take(c.u64(what), what)) }
