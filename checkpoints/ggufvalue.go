package checkpoints

import (
	"encoding/binary"
	"fmt"
	"math"
	"strconv"
	"unicode/utf8"
)

// The types of values in the header of a GGUF file.
const (
	ggufUint8 = iota
	ggufInt8
	ggufUint16
	ggufInt16
	ggufUint32
	ggufInt32
	ggufFloat32
	ggufBool
	ggufString
	ggufArray
	ggufUint64
	ggufInt64
	ggufFloat64
)

// ggufSizes holds the bytes of each type's values; for strings and arrays the least.
var ggufSizes = [...]int{1, 1, 2, 2, 4, 4, 4, 1, 8, 12, 8, 8, 8}

// keyValue reads one key and its value.
func (c *cursor) keyValue(w *Weights) error {
	at := c.at
	key := c.string("a key")
	kind := c.u32("the type of a value")
	if c.err != nil {
		return c.err
	}
	if key == "" || len(key) > maxName || !utf8.ValidString(key) {
		return formatf("key at byte %d: %q is empty, too long or not UTF-8", at, clip(key))
	}
	if _, ok := w.values[key]; ok {
		return formatf("key %q comes twice", clip(key))
	}
	v := c.value(kind, 0)
	if c.err != nil {
		return fmt.Errorf("key %q: %w", clip(key), c.err)
	}
	w.values[key] = v
	if s := valueText(v); s != "" {
		w.meta[key] = s
	}
	return nil
}

// valueText returns a single value as text, "" for an array.
func valueText(v any) string {
	switch v := v.(type) {
	case string:
		return v
	case bool:
		return strconv.FormatBool(v)
	case int64:
		return strconv.FormatInt(v, 10)
	case uint64:
		return strconv.FormatUint(v, 10)
	case float64:
		return strconv.FormatFloat(v, 'g', -1, 64)
	}
	return ""
}

// value reads a value of a type; depth counts the arrays around it.
func (c *cursor) value(kind uint32, depth int) any {
	switch {
	case kind >= uint32(len(ggufSizes)):
		c.fail("value of the unknown type %d at byte %d", kind, c.at)
		return nil
	case kind == ggufString:
		return c.string("a string")
	case kind == ggufArray:
		return c.array(depth + 1)
	}
	b := c.take(uint64(ggufSizes[kind]), "a value")
	if b == nil {
		return nil
	}
	switch kind {
	case ggufBool:
		if b[0] > 1 {
			c.fail("truth value of %d at byte %d", b[0], c.at-1)
		}
		return b[0] == 1
	case ggufFloat32, ggufFloat64:
		return ggufFloat(b)
	}
	n, big := ggufInt(kind, b)
	if big {
		return uint64(n)
	}
	return n
}

// ggufFloat widens a number of 4 or 8 bytes. A float32 becomes the float64 of the same value.
func ggufFloat(b []byte) float64 {
	if len(b) == 4 {
		return float64(math.Float32frombits(binary.LittleEndian.Uint32(b)))
	}
	return math.Float64frombits(binary.LittleEndian.Uint64(b))
}

// ggufInt widens an integer; big says that it is unsigned and beyond int64.
func ggufInt(kind uint32, b []byte) (n int64, big bool) {
	le := binary.LittleEndian
	switch kind {
	case ggufUint8:
		return int64(b[0]), false
	case ggufInt8:
		return int64(int8(b[0])), false
	case ggufUint16:
		return int64(le.Uint16(b)), false
	case ggufInt16:
		return int64(int16(le.Uint16(b))), false
	case ggufUint32:
		return int64(le.Uint32(b)), false
	case ggufInt32:
		return int64(int32(le.Uint32(b))), false
	}
	n = int64(le.Uint64(b))
	return n, kind == ggufUint64 && n < 0
}

// array reads an array: the type of its elements, their number, the elements.
func (c *cursor) array(depth int) any {
	if depth > maxArrays {
		c.fail("arrays at byte %d are nested more than %d deep", c.at, maxArrays)
		return nil
	}
	kind := c.u32("the type of an array")
	if c.err == nil && kind >= uint32(len(ggufSizes)) {
		c.fail("array of the unknown type %d at byte %d", kind, c.at-4)
	}
	if c.err != nil {
		return nil
	}
	n := c.count("elements of an array", ggufSizes[kind])
	switch {
	case c.err != nil:
		return nil
	case kind == ggufString:
		return c.strings(n)
	case kind == ggufArray:
		v := make([]any, n)
		for i := range v {
			if v[i] = c.array(depth + 1); c.err != nil {
				return nil
			}
		}
		return v
	}
	size := ggufSizes[kind]
	b := c.take(uint64(n*size), "an array")
	switch kind {
	case ggufBool:
		v := make([]bool, n)
		for i, x := range b {
			if v[i] = x == 1; x > 1 {
				c.fail("truth value of %d at byte %d", x, c.at-n+i)
			}
		}
		return v
	case ggufFloat32, ggufFloat64:
		v := make([]float64, n)
		for i := range v {
			v[i] = ggufFloat(b[i*size:][:size])
		}
		return v
	}
	return ggufInts(kind, b, n)
}

// ggufInts widens n integers to []int64, or to []uint64 when one is beyond int64.
func ggufInts(kind uint32, b []byte, n int) any {
	size := ggufSizes[kind]
	v, beyond := make([]int64, n), false
	for i := range v {
		x, big := ggufInt(kind, b[i*size:])
		v[i], beyond = x, beyond || big
	}
	if !beyond {
		return v
	}
	u := make([]uint64, n)
	for i, x := range v {
		u[i] = uint64(x)
	}
	return u
}

// strings reads n strings. They share one copy of the bytes of the array: vocabularies have many.
func (c *cursor) strings(n int) []string {
	begin := c.at
	for range n {
		c.take(c.u64("a string"), "a string")
		if c.err != nil {
			return nil
		}
	}
	all, at := string(c.b[begin:c.at]), 0
	v := make([]string, n)
	for i := range v {
		size := int(binary.LittleEndian.Uint64(c.b[begin+at:]))
		v[i] = all[at+8 : at+8+size]
		at += 8 + size
	}
	return v
}
