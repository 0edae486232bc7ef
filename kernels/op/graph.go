package op

import (
	"fmt"

	"github.com/chewxy/hm"
	"gorgonia.org/gorgonia"
	"gorgonia.org/tensor"

	"svae/kernels"
)

// Graph is Set over the nodes of a gorgonia expression graph, for training. Build a scalar loss, Compile, then Run as
// often as wanted, changing the Ints, Spans and Targets that were given to the operations in between. It is not safe
// for concurrent use.
type Graph struct {
	g      *gorgonia.ExprGraph
	be     kernels.Backend
	dt     tensor.Dtype
	ids    uint64
	err    error
	bytes  int64 // of all slots
	frozen map[*gorgonia.Node]bool
	params []param
	seed   uint64
	sums   sumEngine
}

type param struct {
	name string
	node *gorgonia.Node
	vec  bool
}

// NewGraph returns an empty graph whose operations run on a backend.
func NewGraph(be kernels.Backend) *Graph {
	g := &Graph{g: gorgonia.NewGraph(), be: be, dt: tensor.Float32, frozen: map[*gorgonia.Node]bool{}}
	if be.DType() == kernels.F64 {
		g.dt = tensor.Float64
	}
	g.sums.g = g
	return g
}

// Err returns the first failure.
func (g *Graph) Err() error { return g.err }

// Bytes returns the memory of all operations' outputs, gradients and scratch; weights are not counted.
func (g *Graph) Bytes() int64 { return g.bytes }

// Param adds a weight, a vector or a matrix by its shape, whose elements stay in data. Unless trainable, no gradient
// of it is computed.
func (g *Graph) Param(name string, shape []int, data kernels.Buf, trainable bool) *gorgonia.Node {
	m := Mat{data, 1, shape[len(shape)-1]}
	if len(shape) == 2 {
		m.R = shape[0]
	}
	if len(shape) < 1 || len(shape) > 2 || data.Len() != m.R*m.C {
		return g.fail("op: weight %q: shape %v does not hold %d elements", name, shape, data.Len())
	}
	vec := len(shape) == 1
	n := gorgonia.NewTensor(g.g, g.dt, len(shape), gorgonia.WithShape(shape...), gorgonia.WithName(name), gorgonia.WithValue(g.tensor(m, vec)))
	if trainable {
		g.params = append(g.params, param{name, n, vec})
	} else {
		g.frozen[n] = true
	}
	return n
}

func (g *Graph) fail(format string, a ...any) *gorgonia.Node {
	if g.err == nil {
		g.err = fmt.Errorf(format, a...)
	}
	return nil
}

// tensor wraps a matrix or vector as gorgonia's value, without copying.
func (g *Graph) tensor(m Mat, vector bool) *tensor.Dense {
	shape := tensor.Shape{m.R, m.C}
	if vector {
		shape = tensor.Shape{m.C}
	}
	var back tensor.ConsOpt
	if g.dt == tensor.Float64 {
		back = tensor.WithBacking(kernels.Host[float64](m.Buf))
	} else {
		back = tensor.WithBacking(m.F32())
	}
	return tensor.New(tensor.WithShape(shape...), back, tensor.WithEngine(&g.sums))
}

// value reads gorgonia's value back.
func (g *Graph) value(v gorgonia.Value) value {
	switch v := v.(type) {
	case *tensor.Dense:
		s := v.Shape()
		m := Mat{R: 1, C: s[len(s)-1]}
		if len(s) == 2 {
			m.R = s[0]
		}
		if g.dt == tensor.Float64 {
			m.Buf = kernels.Of(v.Data().([]float64))
		} else {
			m.Buf = kernels.Of(v.Data().([]float32))
		}
		return value{Mat: m, t: v}
	case *gorgonia.F32:
		return value{s: float64(*v)}
	case *gorgonia.F64:
		return value{s: float64(*v)}
	}
	panic(fmt.Sprintf("op: a %T flows through the graph", v))
}

func (g *Graph) typeOf(rank int) hm.Type {
	if rank == 0 {
		return g.dt
	}
	return gorgonia.TensorType{Dims: rank, Of: g.dt}
}

// matShape is the static shape of a matrix of c columns. The number of rows is not known; gorgonia wants one.
func matShape(c int) tensor.Shape { return tensor.Shape{2, c} }

// cols returns the static width of a node.
func cols(n *gorgonia.Node) int {
	s := n.Shape()
	return s[len(s)-1]
}

// apply adds an operation to the graph. After a failure it adds nothing.
func (g *Graph) apply(f *fused, in ...*gorgonia.Node) *gorgonia.Node {
	if g.err != nil {
		return nil
	}
	f.g = g
	g.ids++
	f.id = g.ids
	for _, n := range in {
		f.ranks = append(f.ranks, n.Dims())
	}
	n, err := gorgonia.ApplyOp(f, in...)
	if err != nil {
		return g.fail("op: %s: %w", f.name, err)
	}
	return n
}

// pick returns a gradient that another operation's run has left in v; after is that operation's node.
func (g *Graph) pick(name string, out tensor.Shape, v *value, after *gorgonia.Node) *gorgonia.Node {
	return g.apply(&fused{name: name, out: out, run: func([]value) value { return *v }}, after)
}

// Machine runs a compiled graph: the loss and the gradients of the trainable weights, nothing else.
type Machine struct {
	g     *Graph
	vm    gorgonia.VM
	loss  *gorgonia.Node
	grads []Grad
}

// Grad is the gradient of one weight after a Run. Data is absent if the loss does not depend on the weight.
type Grad struct {
	Name string
	Data kernels.Buf
	node *gorgonia.Node
}

// Compile differentiates the loss with respect to the trainable weights and compiles what this needs.
func (g *Graph) Compile(loss *gorgonia.Node) (*Machine, error) {
	if g.err != nil {
		return nil, g.err
	}
	var wrt gorgonia.Nodes
	m := &Machine{g: g, loss: loss}
	reached := g.reach(loss)
	for _, p := range g.params {
		m.grads = append(m.grads, Grad{Name: p.name})
		if reached[p.node.ID()] {
			wrt = append(wrt, p.node)
		}
	}
	outs := gorgonia.Nodes{loss}
	if len(wrt) > 0 {
		gs, err := gorgonia.Grad(loss, wrt...)
		if err == nil {
			err = g.err
		}
		if err != nil {
			return nil, fmt.Errorf("op: differentiate: %w", err)
		}
		outs = append(outs, gs...)
		for i, j := 0, 0; i < len(g.params); i++ {
			if reached[g.params[i].node.ID()] {
				m.grads[i].node = gs[j]
				j++
			}
		}
	}
	var inputs gorgonia.Nodes
	for _, n := range g.g.Inputs() {
		if reached[n.ID()] {
			inputs = append(inputs, n)
		}
	}
	prog, loc, err := gorgonia.CompileFunction(g.g, inputs, outs)
	if err != nil {
		return nil, fmt.Errorf("op: compile: %w", err)
	}
	m.vm = gorgonia.NewTapeMachine(g.g, gorgonia.WithPrecompiled(prog, loc), gorgonia.WithEngine(&g.sums))
	return m, nil
}

// reach returns the ids of all nodes that a node depends on.
func (g *Graph) reach(from *gorgonia.Node) map[int64]bool {
	seen := map[int64]bool{from.ID(): true}
	for todo := []int64{from.ID()}; len(todo) > 0; {
		id := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		for it := g.g.From(id); it.Next(); {
			if n := it.Node().ID(); !seen[n] {
				seen[n] = true
				todo = append(todo, n)
			}
		}
	}
	return seen
}

// Run computes the loss and the gradients. Seed determines what Dropout and Noise draw.
func (m *Machine) Run(seed uint64) (loss float64, err error) {
	m.g.seed, m.g.sums.used = seed, 0
	m.vm.Reset()
	if err := m.vm.RunAll(); m.g.err != nil {
		return 0, m.g.err
	} else if err != nil {
		return 0, fmt.Errorf("op: run: %w", err)
	}
	for i := range m.grads {
		if m.grads[i].node == nil {
			continue
		}
		m.grads[i].Data = m.g.value(m.grads[i].node.Value()).Buf
	}
	return m.g.value(m.loss.Value()).s, nil
}

// Grads returns the gradients of the last Run, in the order in which the weights were added. They are overwritten by
// the next.
func (m *Machine) Grads() []Grad { return m.grads }

// Close frees the machine.
func (m *Machine) Close() error { return m.vm.Close() }

// sumEngine adds up the gradients of a value that several operations read. This is the one computation that gorgonia
// does by itself; here it runs on the backend and into memory that is kept from run to run.
type sumEngine struct {
	tensor.StdEng
	g     *Graph
	slots []*slot
	used  int
}

// Add implements tensor.Adder. It always writes to memory of its own, whatever the options allow.
func (e *sumEngine) Add(a, b tensor.Tensor, _ ...tensor.FuncOpt) (tensor.Tensor, error) {
	x, y := e.g.value(a.(*tensor.Dense)), e.g.value(b.(*tensor.Dense))
	if x.R != y.R || x.C != y.C {
		return nil, fmt.Errorf("op: sum of gradients (%d, %d) and (%d, %d)", x.R, x.C, y.R, y.C)
	}
	if e.used == len(e.slots) {
		e.slots = append(e.slots, &slot{})
	}
	s := e.slots[e.used]
	e.used++
	out := s.shaped(e.g, x.R, x.C, a.Dims() == 1)
	e.g.be.Add(out.Buf, x.Buf, y.Buf, x.R*x.C)
	return out.t, nil
}
