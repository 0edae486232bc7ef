package op

import (
	"fmt"
	"hash"
	"hash/fnv"

	"github.com/chewxy/hm"
	"gorgonia.org/gorgonia"
	"gorgonia.org/tensor"

	"svae/kernels"
)

// value is what flows along an edge of the graph: a matrix (rank 2), a vector (rank 1, one row) or a scalar (rank 0).
type value struct {
	Mat
	t *tensor.Dense // what gorgonia sees; nil for a scalar
	s float64       // the scalar
}

// fused is one operation of the graph. Shapes are read from the values when it runs, so that a compiled graph serves
// every geometry; the static shape given to gorgonia only carries ranks and widths.
type fused struct {
	g     *Graph
	name  string
	id    uint64
	ranks []int        // of the inputs
	out   tensor.Shape // static shape of the output; nil for a scalar
	run   func(in []value) value
	grad  func(in gorgonia.Nodes, out, dOut *gorgonia.Node) []*gorgonia.Node // nil: not differentiable
	fixed []bool                                                             // inputs whose gradient is never asked for; grad returns nil there
}

// Arity implements gorgonia.Op.
func (f *fused) Arity() int { return len(f.ranks) }

// Type implements gorgonia.Op.
func (f *fused) Type() hm.Type {
	ts := make([]hm.Type, 0, len(f.ranks)+1)
	for _, r := range f.ranks {
		ts = append(ts, f.g.typeOf(r))
	}
	return hm.NewFnType(append(ts, f.g.typeOf(f.out.Dims()))...)
}

// InferShape implements gorgonia.Op.
func (f *fused) InferShape(...gorgonia.DimSizer) (tensor.Shape, error) {
	if f.out == nil {
		return tensor.ScalarShape(), nil
	}
	return f.out.Clone(), nil
}

// Do implements gorgonia.Op.
func (f *fused) Do(in ...gorgonia.Value) (gorgonia.Value, error) {
	vs := make([]value, len(in))
	for i, v := range in {
		vs[i] = f.g.value(v)
	}
	r := f.run(vs)
	switch {
	case f.g.err != nil:
		return nil, f.g.err
	case r.t != nil:
		return r.t, nil
	case f.g.dt == tensor.Float64:
		return gorgonia.NewF64(r.s), nil
	}
	return gorgonia.NewF32(float32(r.s)), nil
}

// ReturnsPtr implements gorgonia.Op.
func (f *fused) ReturnsPtr() bool { return true }

// CallsExtern implements gorgonia.Op: false, or the compiler would allocate outputs of the static shape.
func (f *fused) CallsExtern() bool { return false }

// OverwritesInput implements gorgonia.Op.
func (f *fused) OverwritesInput() int { return -1 }

// WriteHash implements gorgonia.Op. The id makes it unique: gorgonia merges operations that hash alike.
func (f *fused) WriteHash(h hash.Hash) { fmt.Fprintf(h, "%s#%d", f.name, f.id) }

// Hashcode implements gorgonia.Op.
func (f *fused) Hashcode() uint32 {
	h := fnv.New32a()
	f.WriteHash(h)
	return h.Sum32()
}

// String implements gorgonia.Op.
func (f *fused) String() string { return fmt.Sprintf("%s#%d", f.name, f.id) }

// DiffWRT implements gorgonia.SDOp.
func (f *fused) DiffWRT(n int) []bool {
	d := make([]bool, n)
	for i := range d {
		d[i] = f.grad != nil && (f.fixed == nil || !f.fixed[i])
	}
	return d
}

// SymDiff implements gorgonia.SDOp.
func (f *fused) SymDiff(in gorgonia.Nodes, out, dOut *gorgonia.Node) (gorgonia.Nodes, error) {
	if f.grad == nil {
		return nil, fmt.Errorf("op: %s has no gradient", f.name)
	}
	return f.grad(in, out, dOut), f.g.err
}

// slot is memory that an operation owns: it survives from run to run and grows when a larger batch comes.
type slot struct {
	back kernels.Buf
	v    value
}

// mat returns the slot as an (r, c) matrix, uninitialised.
func (s *slot) mat(g *Graph, r, c int) value { return s.shaped(g, r, c, false) }

// vec returns the slot as a vector of n elements.
func (s *slot) vec(g *Graph, n int) value { return s.shaped(g, 1, n, true) }

func (s *slot) shaped(g *Graph, r, c int, vector bool) value {
	if s.v.t != nil && s.v.R == r && s.v.C == c {
		return s.v
	}
	n := r * c
	if s.back.Absent() || s.back.Len() < n {
		if !s.back.Absent() {
			g.bytes -= int64(s.back.Len() * s.back.DType().Size())
			n += n / 4
		}
		s.back = g.be.Alloc(max(n, 1))
		g.bytes += int64(s.back.Len() * s.back.DType().Size())
	}
	m := Mat{s.back.Slice(0, r*c), r, c}
	s.v = value{Mat: m, t: g.tensor(m, vector)}
	return s.v
}

// buf returns the slot as n plain elements.
func (s *slot) buf(g *Graph, n int) kernels.Buf { return s.vec(g, n).Buf }
