package checkpoints

import (
	"fmt"
	"io"
	"slices"
)

// Rows returns the rows lo to hi-1 of the first dimension, a view of the same storage. It panics when they are out of range.
func (t *Tensor) Rows(lo, hi int) *Tensor {
	if len(t.Shape) == 0 || lo < 0 || hi < lo || hi > t.Shape[0] {
		panic("checkpoints: rows out of range")
	}
	shape := slices.Clone(t.Shape)
	shape[0] = hi - lo
	if t.Len() == 0 || lo == hi {
		return t.viewOf(shape, nil, 0)
	}
	if len(shape) == 1 { // its one row may be of blocks
		elements, _ := t.DType.Block()
		if lo%elements != 0 || hi%elements != 0 {
			panic("checkpoints: rows begin or end within a block")
		}
		lo, hi = lo/elements, hi/elements
	}
	dims := t.dims()
	first := dims[0].step(lo)
	if at := dims[0].at; at != nil {
		dims[0].at = moved(at[lo:hi], first)
	}
	dims[0].n = hi - lo
	return t.viewOf(shape, dims, first)
}

// moved returns the steps counted from the first of them.
func moved(at []int, first int) []int {
	at = slices.Clone(at)
	for i := range at {
		at[i] -= first
	}
	return at
}

// T returns the transposed matrix, a view of the same storage. It panics when t is no matrix or its type stores blocks.
func (t *Tensor) T() *Tensor {
	if len(t.Shape) != 2 || t.DType.blocks() {
		panic("checkpoints: transpose of what is no plain matrix")
	}
	shape := []int{t.Shape[1], t.Shape[0]}
	if t.Len() == 0 {
		return t.viewOf(shape, nil, 0)
	}
	dims := t.dims()
	dims[0], dims[1] = dims[1], dims[0]
	return t.viewOf(shape, dims, 0)
}

// HalfRows returns the rows of each head in another order, a view of the same storage. Rotary position embeddings turn pairs
// of rows (Su et al. 2021, §3.4.2). t has the rows of each pair side by side, r0 i0 r1 i1 ..., as llama2.c and the GGUF files
// of Llama models do; the result has them in two halves, r0 r1 ... i0 i1 ..., as Hugging Face does. It panics when the first
// dimension is not heads times an even number.
//
//	t, result (heads*K) or (heads*K, D)
func (t *Tensor) HalfRows(heads int) *Tensor {
	return t.perHead(heads, func(i, k int) int { return i%(k/2)*2 + i/(k/2) })
}

// PairRows is the inverse of [Tensor.HalfRows].
func (t *Tensor) PairRows(heads int) *Tensor {
	return t.perHead(heads, func(i, k int) int { return i%2*(k/2) + i/2 })
}

// perHead returns the rows in another order: row i of the k rows of a head is row from(i, k) of t.
func (t *Tensor) perHead(heads int, from func(i, k int) int) *Tensor {
	if len(t.Shape) == 0 || heads <= 0 || t.Shape[0]%(2*heads) != 0 || len(t.Shape) == 1 && t.DType.blocks() {
		panic("checkpoints: rows are not pairs in each head")
	}
	shape := slices.Clone(t.Shape)
	if t.Len() == 0 {
		return t.viewOf(shape, nil, 0)
	}
	dims := t.dims()
	k := dims[0].n / heads
	at := make([]int, dims[0].n)
	for i := range at {
		at[i] = dims[0].step(i/k*k + from(i%k, k))
	}
	dims[0] = axis{n: len(at), at: at}
	return t.viewOf(shape, dims, 0)
}

// viewOf returns a tensor over the storage of t that begins first units after t's begin. dims is nil for one without elements.
func (t *Tensor) viewOf(shape []int, dims []axis, first int) *Tensor {
	_, size := t.DType.Block()
	v := *t
	v.Shape = shape
	v.start += first * size
	v.Offset += int64(first * size)
	v.view = joined(dims)
	if v.DType == Unsupported && v.problem == "" {
		v.problem = fmt.Sprintf("is of type %s, whose elements cannot be told apart (store it as float32, float16 or bfloat16)", clip(v.TypeName))
	}
	return &v
}

// MemTensor returns a tensor of v, which is not copied where that is possible and must not change. It panics when v does not
// fill the shape.
func MemTensor(name string, shape []int, v []float32) *Tensor {
	if n, ok := product(shape...); !ok || n != len(v) {
		panic("checkpoints: values do not fill the shape")
	}
	t := &Tensor{Name: name, DType: F32, TypeName: F32.String(), Shape: slices.Clone(shape), File: "memory"}
	switch {
	case len(v) == 0:
	case littleEndian:
		t.storage = asBytes(v)
	default:
		t.storage = make([]byte, 4*len(v))
		encode(t.storage, v, F32)
	}
	return t
}

// Stack makes a tensor of parts that are stacked along their rows, without holding it in memory. With transposed it is the
// transpose of the stack, (in, out) where the parts are (out, in), and the parts must be matrices. Parts of different types
// are written as F32, and so are transposed ones that store blocks. Other dimensions than the first must agree; it panics
// otherwise. The files of the parts must stay open until the tensor is written.
func Stack(name string, transposed bool, parts ...*Tensor) Named {
	if len(parts) == 0 || len(parts[0].Shape) == 0 || transposed && len(parts[0].Shape) != 2 {
		panic("checkpoints: nothing to stack")
	}
	shape := slices.Clone(parts[0].Shape)
	d := parts[0].DType
	for _, p := range parts[1:] {
		if len(p.Shape) != len(shape) || !slices.Equal(p.Shape[1:], shape[1:]) {
			panic("checkpoints: parts of a stack differ in more than their rows")
		}
		shape[0] += p.Shape[0]
		if p.DType != d {
			d = F32
		}
	}
	if transposed && d.blocks() {
		d = F32
	}
	s := &stack{parts: slices.Clone(parts), dtype: d, rows: shape[0]}
	if !transposed {
		return Named{Name: name, DType: d, Shape: shape, Write: s.write}
	}
	return Named{Name: name, DType: d, Shape: []int{shape[1], shape[0]}, Write: s.writeTransposed}
}

// stack writes the parts of a Stack.
type stack struct {
	parts []*Tensor
	dtype DType
	rows  int // of all parts
}

func (s *stack) write(w io.Writer) error {
	for _, p := range s.parts {
		if err := FromTensor(p).As(s.dtype).Write(w); err != nil {
			return err
		}
	}
	return nil
}

// writeTransposed writes some columns of all parts at a time. Parts that store blocks are held in memory as float32.
func (s *stack) writeTransposed(w io.Writer) error {
	parts := make([]*Tensor, len(s.parts))
	for i, p := range s.parts {
		if p.DType.blocks() {
			v := make([]float32, p.Len())
			if err := p.Float32(v); err != nil {
				return err
			}
			p = MemTensor(p.Name, p.Shape, v)
		}
		parts[i] = p.T()
	}
	if len(parts) == 1 {
		return FromTensor(parts[0]).As(s.dtype).Write(w)
	}
	line := s.rows * s.dtype.Size() // bytes of one column of all parts
	cols := parts[0].Shape[0]
	step := max(min(cols, 4<<20/max(line, 1)), 1)
	tile := make([]byte, step*line)
	for c := 0; c < cols; c += step {
		n := min(step, cols-c)
		at := 0
		for _, p := range parts {
			width := p.Shape[1] * s.dtype.Size()
			put := &spread{dst: tile[:n*line], at: at, line: line, width: width}
			if err := FromTensor(p.Rows(c, c+n)).As(s.dtype).Write(put); err != nil {
				return err
			}
			at += width
		}
		if _, err := w.Write(tile[:n*line]); err != nil {
			return err
		}
	}
	return nil
}

// A spread writes runs of width bytes, one in each line of dst.
type spread struct {
	dst             []byte
	at, line, width int
	done            int // bytes of the run at at
}

func (s *spread) Write(p []byte) (int, error) {
	for rest := p; len(rest) > 0; {
		n := copy(s.dst[s.at+s.done:s.at+s.width], rest)
		rest = rest[n:]
		if s.done += n; s.done == s.width {
			s.at, s.done = s.at+s.line, 0
		}
	}
	return len(p), nil
}
