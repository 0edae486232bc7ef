package checkpoints

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"slices"
)

// Named is a tensor to be written.
type Named struct {
	Name  string
	DType DType
	Shape []int

	// Write writes the elements, little-endian and row-major: exactly the product of Shape times DType.Size() bytes, or the
	// blocks of so many elements.
	Write func(w io.Writer) error
}

// FromFloat32 makes a tensor of v, which is read when the tensor is written. len(v) must be the product of shape.
func FromFloat32(name string, shape []int, v []float32) Named {
	return Named{Name: name, DType: F32, Shape: shape, Write: func(w io.Writer) error {
		if n, ok := product(shape...); !ok || n != len(v) {
			return fmt.Errorf("tensor %q: %d values do not fill the shape %v", name, len(v), shape)
		}
		buf := make([]byte, 4*min(len(v), 1<<14))
		for part := range slices.Chunk(v, 1<<14) {
			encode(buf, part, F32)
			if _, err := w.Write(buf[:4*len(part)]); err != nil {
				return err
			}
		}
		return nil
	}}
}

// FromTensor makes a tensor that copies t as it is stored, without holding it in memory. t's file must stay open until
// the tensor is written. That its file is damaged may be an error only after all of it was written.
func FromTensor(t *Tensor) Named {
	return Named{Name: t.Name, DType: t.DType, Shape: t.Shape, Write: func(w io.Writer) error {
		return t.stream(func(b []byte) error {
			_, err := w.Write(b)
			return err
		})
	}}
}

// As converts to d while writing: to F32, F16 or BF16 from these, F64 and the types that store blocks, each value rounded once
// to the nearest, ties to even; and from all of these to Q8_0, as llama.cpp does. Other pairs are an error when the tensor is
// written, and so is Q8_0 when a row is no multiple of 32 elements.
func (n Named) As(d DType) Named {
	if n.DType == d {
		return n
	}
	from := n
	n.DType = d
	n.Write = func(w io.Writer) error {
		if d > BF16 && d != Q8_0 || from.DType > F64 && !from.DType.blocks() {
			return fmt.Errorf("tensor %q: cannot convert %s to %s", from.Name, from.DType, d)
		}
		if d == Q8_0 && (len(n.Shape) == 0 || n.Shape[len(n.Shape)-1]%32 != 0) {
			return fmt.Errorf("tensor %q: Q8_0 needs rows of a multiple of 32 elements, not the shape %v (write it as F16 or F32)", from.Name, n.Shape)
		}
		c := newConverter(w, from.DType, d)
		if err := from.Write(c); err != nil {
			return err
		}
		if len(c.rest) != 0 {
			return fmt.Errorf("tensor %q: ends within an element", from.Name)
		}
		return nil
	}
	return n
}

// A converter decodes the elements written to it and passes them on in another type.
type converter struct {
	w          io.Writer
	from, to   DType
	count      int    // elements of a unit: whole blocks of both types
	unit, made int    // bytes of a unit before and after
	rest       []byte // the begin of a unit whose end comes with the next Write
	values     []float32
	out        []byte
}

func newConverter(w io.Writer, from, to DType) *converter {
	in, inSize := from.Block()
	out, outSize := to.Block()
	count := max(in, out) // each is a multiple of the smaller
	return &converter{w: w, from: from, to: to, count: count, unit: count / in * inSize, made: count / out * outSize}
}

func (c *converter) Write(p []byte) (int, error) {
	written := len(p)
	if len(c.rest) > 0 {
		n := min(c.unit-len(c.rest), len(p))
		c.rest = append(c.rest, p[:n]...)
		p = p[n:]
		if len(c.rest) < c.unit {
			return written, nil
		}
		if err := c.convert(c.rest); err != nil {
			return 0, err
		}
		c.rest = c.rest[:0]
	}
	for len(p) >= c.unit {
		n := min(len(p)/c.unit, 1<<14/c.count)
		if err := c.convert(p[:n*c.unit]); err != nil {
			return 0, err
		}
		p = p[n*c.unit:]
	}
	c.rest = append(c.rest, p...)
	return written, nil
}

func (c *converter) convert(p []byte) error {
	n := len(p) / c.unit
	if cap(c.values) < n*c.count {
		c.values, c.out = make([]float32, n*c.count), make([]byte, n*c.made)
	}
	v, out := c.values[:n*c.count], c.out[:n*c.made]
	if c.from == F64 && c.to != F32 && c.to != Q8_0 {
		decodeOdd(v, p)
	} else {
		decode(v, p, c.from)
	}
	if c.to == Q8_0 {
		if err := encodeQ8_0(out, v); err != nil {
			return err
		}
	} else {
		encode(out, v, c.to)
	}
	_, err := c.w.Write(out)
	return err
}

// WriteSafetensors writes a safetensors file as a stream. Tensors lie in the given order, but those with larger elements
// first, so that each is aligned to its element size; the header is padded to 8 bytes. The same arguments give the same
// bytes.
func WriteSafetensors(w io.Writer, ts []Named, metadata map[string]string) error {
	ts = slices.Clone(ts)
	slices.SortStableFunc(ts, func(a, b Named) int { return b.DType.Size() - a.DType.Size() })
	header, err := safetensorsHeader(ts, metadata)
	if err != nil {
		return err
	}
	if _, err := w.Write(header); err != nil {
		return err
	}
	bw := bufio.NewWriterSize(w, 1<<16) // for small tensors: larger pieces pass by it
	for _, t := range ts {
		n, _ := product(t.Shape...)
		c := &counter{w: bw, left: int64(n) * int64(t.DType.Size())}
		if err := t.Write(c); err != nil {
			return fmt.Errorf("write tensor %q: %w", t.Name, err)
		}
		if c.left != 0 {
			return fmt.Errorf("write tensor %q: %d bytes are missing of %s %v", t.Name, c.left, t.DType, t.Shape)
		}
	}
	return bw.Flush()
}

// safetensorsHeader returns the length and the JSON of a file that holds ts one after the other.
func safetensorsHeader(ts []Named, metadata map[string]string) ([]byte, error) {
	type entry struct {
		DType   string   `json:"dtype"`
		Shape   []int    `json:"shape"`
		Offsets [2]int64 `json:"data_offsets"`
	}
	h := make([]byte, 8, 8+128*len(ts))
	add := func(key string, value any) error {
		k, err := json.Marshal(key)
		if err != nil {
			return err
		}
		v, err := json.Marshal(value) // map keys come sorted
		if err != nil {
			return err
		}
		sep := byte(',')
		if len(h) == 8 {
			sep = '{'
		}
		h = append(append(append(append(h, sep), k...), ':'), v...)
		return nil
	}
	if len(metadata) > 0 {
		if err := add("__metadata__", metadata); err != nil {
			return nil, err
		}
	}
	seen := make(map[string]bool, len(ts))
	at := int64(0)
	for _, t := range ts {
		n, ok := product(append([]int{t.DType.Size()}, t.Shape...)...)
		switch {
		case t.DType.Size() == 0:
			return nil, fmt.Errorf("tensor %q: its type %s cannot be written to safetensors (convert it to float32 or float16 first)", t.Name, t.DType)
		case !ok || int64(n) > 1<<62-at:
			return nil, fmt.Errorf("tensor %q: shape %v is out of range", t.Name, t.Shape)
		case t.Name == "__metadata__" || seen[t.Name]:
			return nil, fmt.Errorf("tensor %q: the name is taken twice", t.Name)
		}
		seen[t.Name] = true
		shape := t.Shape
		if shape == nil {
			shape = []int{}
		}
		if err := add(t.Name, entry{t.DType.String(), shape, [2]int64{at, at + int64(n)}}); err != nil {
			return nil, err
		}
		at += int64(n)
	}
	if len(h) == 8 {
		h = append(h, '{')
	}
	h = append(h, '}')
	for len(h)%8 != 0 {
		h = append(h, ' ')
	}
	if len(h)-8 > maxHeader {
		return nil, fmt.Errorf("header of %d bytes exceeds the format's %d", len(h)-8, maxHeader)
	}
	binary.LittleEndian.PutUint64(h, uint64(len(h)-8))
	return h, nil
}

// A counter passes on at most left bytes.
type counter struct {
	w    io.Writer
	left int64
}

func (c *counter) Write(p []byte) (int, error) {
	if int64(len(p)) > c.left {
		return 0, fmt.Errorf("more bytes than its shape holds")
	}
	n, err := c.w.Write(p)
	c.left -= int64(n)
	return n, err
}
