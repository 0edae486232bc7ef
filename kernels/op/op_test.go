package op

import (
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"testing"

	"svae/kernels"
	"svae/kernels/cpu"
	"svae/kernels/ref"
)

// weights are random matrices and vectors by name, in a backend's memory.
type weights struct {
	be   kernels.Backend
	rng  *rand.Rand
	m    map[string]Mat
	list []string // in the order of making
}

func newWeights(be kernels.Backend) *weights {
	return &weights{be: be, rng: rand.New(rand.NewPCG(1, 2)), m: map[string]Mat{}}
}

// mat returns the matrix of a name, or with r = 0 the vector, and makes it the first time.
func (w *weights) mat(name string, r, c int) Mat {
	if m, ok := w.m[name]; ok {
		return m
	}
	v := make([]float32, max(r, 1)*c)
	for i := range v {
		v[i] = float32(w.rng.NormFloat64())
	}
	m := Mat{w.be.Alloc(len(v)), max(r, 1), c}
	w.be.Upload(m.Buf, v)
	w.m[name] = m
	w.list = append(w.list, name)
	return m
}

// build hands out weights as values of a Set.
type build[X comparable] func(name string, r, c int) X

// onto returns the build of a graph's nodes. Weights whose names begin with an underscore are frozen.
func (w *weights) onto(g *Graph) build[*node] { return w.params(g, true) }

// frozen returns a build whose weights are all frozen.
func (w *weights) frozen(g *Graph) build[*node] { return w.params(g, false) }

func (w *weights) params(g *Graph, train bool) build[*node] {
	return func(name string, r, c int) *node {
		shape := []int{r, c}
		if r == 0 {
			shape = shape[1:]
		}
		return g.Param(name, shape, w.mat(name, r, c).Buf, train && !strings.HasPrefix(name, "_"))
	}
}

func (w *weights) host(b kernels.Buf) []float64 {
	if b.DType() == kernels.F64 {
		return slices.Clone(kernels.Host[float64](b))
	}
	var v []float64
	for _, x := range b.F32() {
		v = append(v, float64(x))
	}
	return v
}

// probe adds an operation that keeps a copy of its input. It is a scalar, so that it can stand where a loss does.
func probe(g *Graph, x *node, keep *[]float64) *node {
	return g.apply(&fused{name: "probe", run: func(in []value) value {
		*keep = (&weights{}).host(in[0].Buf)
		return value{}
	}}, x)
}

var (
	segments = &Ints{V: []int32{0, 2, 2, 7}}
	freqs    = []float64{1, 0.1}
)

// operations are all of Set that give rows, over x (7, 8), y (7, 8), c (3, 8) and weights.
var operations = []string{"gather", "linear", "linear without bias", "linear relu", "linear gelu", "linear gelu tanh",
	"swiglu", "geglu", "layernorm", "layernorm without bias", "rmsnorm", "rmsnorm shifted", "rmsnorm of heads", "scale", "rotary", "attention", "segmentsum", "segmentadd", "add"}

func operation[X comparable](name string, o Set[X], get build[X]) X {
	var none X
	x, y := get("x", 7, 8), get("y", 7, 8)
	spans := &kernels.Spans{Q: []int32{0, 4, 7}, KLo: []int32{0, 4}, KHi: []int32{4, 7}, Causal: true}
	switch name {
	case "gather":
		return o.Gather(&Ints{V: []int32{13, 0, 7, 6, 6}}, x, y)
	case "linear":
		return o.Linear(x, get("w", 5, 8), get("b", 0, 5), kernels.None)
	case "linear without bias":
		return o.Linear(x, get("w", 5, 8), none, kernels.None)
	case "linear relu":
		return o.Linear(x, get("w", 5, 8), get("b", 0, 5), kernels.ReLU)
	case "linear gelu":
		return o.Linear(x, get("w", 5, 8), get("b", 0, 5), kernels.GELU)
	case "linear gelu tanh":
		return o.Linear(x, get("w", 5, 8), get("b", 0, 5), kernels.GELUTanh)
	case "swiglu":
		return o.SwiGLU(x, y)
	case "geglu":
		return o.GeGLU(x, y)
	case "layernorm":
		return o.LayerNorm(x, get("scale", 0, 8), get("shift", 0, 8), 1e-5)
	case "layernorm without bias":
		return o.LayerNorm(x, get("scale", 0, 8), none, 1e-5)
	case "rmsnorm":
		return o.RMSNorm(x, get("scale", 0, 8), 0, 1e-5)
	case "rmsnorm shifted":
		return o.RMSNorm(x, get("scale", 0, 8), 1, 1e-5)
	case "rmsnorm of heads":
		return o.RMSNorm(x, get("scale", 0, 2), 0.5, 1e-5)
	case "scale":
		return o.Scale(x, 1.7)
	case "rotary":
		return o.Rotary(x, &Ints{V: []int32{0, 1, 2, 3, 0, 1, 9}}, freqs)
	case "attention":
		kv := get("kv", 7, 4)
		return o.Attention(x, kv, kv, spans, Heads{Query: 4, KV: 2, Size: 2, Scale: 0.7})
	case "segmentsum":
		return o.SegmentSum(x, segments)
	case "segmentadd":
		return o.SegmentAdd(x, get("c", 3, 8), segments)
	case "add":
		return o.Add(x, y)
	}
	panic(name)
}

// TestEagerIsGraph checks that every operation gives the same bits eager and in a graph.
func TestEagerIsGraph(t *testing.T) {
	for backend, be := range map[string]kernels.Backend{"ref": ref.New(kernels.F32), "cpu": cpu.New()} {
		for _, name := range operations {
			t.Run(backend+"/"+name, func(t *testing.T) {
				w, e, g := newWeights(be), NewEager(be), NewGraph(be)
				out := operation(name, e, w.mat)
				if err := e.Err(); err != nil {
					t.Fatal(err)
				}
				want := w.host(out.Buf)
				var got []float64
				m, err := g.Compile(probe(g, operation(name, g, once(w.frozen(g))), &got))
				if err == nil {
					_, err = m.Run(0)
				}
				if err != nil {
					t.Fatal(err)
				}
				if !slices.Equal(got, want) || len(got) == 0 {
					t.Errorf("graph %v, eager %v", got, want)
				}
			})
		}
	}
}

// once makes a weight that is asked for twice one node.
func once(get build[*node]) build[*node] {
	had := map[string]*node{}
	return func(name string, r, c int) *node {
		if had[name] == nil {
			had[name] = get(name, r, c)
		}
		return had[name]
	}
}

// TestGradients checks every operation's gradients against central differences in float64. The loss weighs what it
// gives by a head.
func TestGradients(t *testing.T) {
	for _, name := range operations {
		t.Run(name, func(t *testing.T) {
			target := &Targets{}
			checkGradients(t, target, func(rows int) {
				target.IDs = make([]int32, rows)
				for i := range target.IDs {
					target.IDs[i] = int32(i % 4)
				}
			}, func(o Set[Mat], get build[Mat]) Mat { return operation(name, o, get) },
				func(o Set[*node], get build[*node]) *node { return operation(name, o, get) })
		})
	}
}

func checkGradients(t *testing.T, target *Targets, size func(rows int), eager func(Set[Mat], build[Mat]) Mat, graph func(Set[*node], build[*node]) *node) {
	t.Helper()
	be := ref.New(kernels.F64)
	w, e, g := newWeights(be), NewEager(be), NewGraph(be)
	out := eager(e, w.mat)
	head := w.mat("head", 4, out.C)
	size(out.R)
	get := once(w.onto(g))
	m, err := g.Compile(g.Xent(graph(g, get), get("head", 4, out.C), nil, target))
	if err == nil {
		_, err = m.Run(0)
	}
	if err != nil {
		t.Fatal(err)
	}
	differences(t, w, m.Grads(), func() float64 {
		e.Reset()
		e.Xent(eager(e, w.mat), head, Mat{}, target)
		if err := e.Err(); err != nil {
			t.Fatal(err)
		}
		return target.Loss
	})
}

// differences compares gradients with central differences of a loss, at every element.
func differences(t *testing.T, w *weights, grads []Grad, loss func() float64) {
	t.Helper()
	const h = 1e-5
	for _, g := range grads {
		v := kernels.Host[float64](w.m[g.Name].Buf)
		d := kernels.Host[float64](g.Data)
		if g.Data.Absent() {
			d = make([]float64, len(v))
		}
		for i, old := range v {
			v[i] = old + h
			up := loss()
			v[i] = old - h
			down := loss()
			v[i] = old
			// Differences round to 1e-16·loss/h and are off by h² times the third derivative: 1e-9.
			if want := (up - down) / (2 * h); math.Abs(want-d[i]) > 1e-7*(1+math.Abs(want)) {
				t.Errorf("%s[%d]: gradient %.9g, central difference %.9g", g.Name, i, d[i], want)
			}
		}
	}
}

// adapted is a model that the package knows nothing of: a frozen linear map with a low-rank adapter beside it
// (Hu et al. 2022), and beside the loss of the next token a second one, that each sentence's vector predicts the bag of
// its words. It is composed of Set's operations and has no backward code.
func adapted[X comparable](o Set[X], get build[X], tokens, words *Targets) X {
	var none X
	lora := func(x X) X {
		low := o.Linear(x, get("a", 2, 6), none, kernels.None)
		return o.Add(o.Linear(x, get("_w", 6, 6), get("_b", 0, 6), kernels.None), o.Linear(low, get("b", 6, 2), none, kernels.None))
	}
	table := get("table", 9, 6)
	x := lora(o.Gather(&Ints{V: []int32{1, 2, 3, 4, 5, 2, 8}}, table))
	sentence := o.SegmentSum(x, segments)
	bag := o.Gather(&Ints{V: []int32{0, 0, 2, 2, 2, 2, 2}}, sentence)
	return o.Sum([]float64{1, 0.3}, o.Xent(lora(x), table, none, tokens), o.Xent(bag, table, none, words))
}

func adaptedTargets() (tokens, words *Targets) {
	return &Targets{IDs: []int32{2, -1, 4, 5, 2, 8, -1}}, &Targets{IDs: []int32{1, 2, 3, 4, 5, 2, 8}, Gamma: 1.5}
}

// TestComposed checks the gradients of what was composed, where weights are read several times.
func TestComposed(t *testing.T) {
	be := ref.New(kernels.F64)
	w, e, g := newWeights(be), NewEager(be), NewGraph(be)
	tokens, words := adaptedTargets()
	m, err := g.Compile(adapted(g, once(w.onto(g)), tokens, words))
	if err != nil {
		t.Fatal(err)
	}
	loss, err := m.Run(0)
	if err != nil {
		t.Fatal(err)
	}
	eager := func() float64 {
		e.Reset()
		adapted(e, w.mat, tokens, words)
		return tokens.Loss + 0.3*words.Loss
	}
	if want := eager(); loss != want {
		t.Errorf("loss %v, eager %v", loss, want)
	}
	var names []string
	for _, g := range m.Grads() {
		names = append(names, g.Name)
		if g.Data.Absent() {
			t.Errorf("%s has no gradient", g.Name)
		}
	}
	if fmt.Sprint(names) != "[table a b]" {
		t.Errorf("gradients of %v", names)
	}
	differences(t, w, m.Grads(), eager)
}

// TestRandomness checks that Dropout and Noise act in graphs alone, as the seed of a run says, each for itself.
func TestRandomness(t *testing.T) {
	be := ref.New(kernels.F32)
	for name, f := range map[string]func(o Set[*node], x *node) *node{
		"dropout": func(o Set[*node], x *node) *node { return o.Dropout(x, 0.5) },
		"noise":   func(o Set[*node], x *node) *node { return o.Noise(x, 0.5) },
	} {
		t.Run(name, func(t *testing.T) {
			w, g := newWeights(be), NewGraph(be)
			x := w.frozen(g)("x", 20, 8)
			var a, b []float64
			m, err := g.Compile(g.Sum([]float64{1, 1}, probe(g, f(g, x), &a), probe(g, f(g, x), &b)))
			if err != nil {
				t.Fatal(err)
			}
			run := func(seed uint64) []float64 {
				if _, err := m.Run(seed); err != nil {
					t.Fatal(err)
				}
				return a
			}
			first := run(1)
			if slices.Equal(a, b) {
				t.Error("two operations draw the same")
			}
			if slices.Equal(first, w.host(w.m["x"].Buf)) || slices.Equal(first, run(2)) {
				t.Error("nothing random, or the seed changes nothing")
			}
			if !slices.Equal(first, run(1)) {
				t.Error("the same seed draws otherwise")
			}
		})
	}
	w, e := newWeights(be), NewEager(be)
	if x := w.mat("x", 3, 3); e.Dropout(x, 0.5) != x || e.Noise(x, 0.5) != x {
		t.Error("inference is random")
	}
}

// TestDropoutGradient checks that the gradient passes where the value passed.
func TestDropoutGradient(t *testing.T) {
	be := ref.New(kernels.F64)
	w, g := newWeights(be), NewGraph(be)
	get := w.onto(g)
	var out []float64
	y := g.Dropout(get("x", 6, 8), 0.5)
	m, err := g.Compile(g.Sum([]float64{1, 0}, g.Xent(y, get("_head", 4, 8), nil, &Targets{IDs: make([]int32, 6)}), probe(g, y, &out)))
	if err == nil {
		_, err = m.Run(3)
	}
	if err != nil {
		t.Fatal(err)
	}
	for i, d := range w.host(m.Grads()[0].Data) {
		if (out[i] == 0) != (d == 0) {
			t.Fatalf("element %d is %v, its gradient %v", i, out[i], d)
		}
	}
}

// counter counts the backward operations that a backend executes.
type counter struct {
	kernels.Backend
	n map[string]int
}

func (c *counter) LinearBackwardX(dX, dOut, w kernels.Buf, N, I, O int) {
	c.n["linear dx"]++
	c.Backend.LinearBackwardX(dX, dOut, w, N, I, O)
}

func (c *counter) LinearBackwardW(dW, dOut, x kernels.Buf, N, I, O int) {
	c.n["linear dw"]++
	c.Backend.LinearBackwardW(dW, dOut, x, N, I, O)
}

func (c *counter) LinearBackwardB(dB, dOut kernels.Buf, N, O int) {
	c.n["linear db"]++
	c.Backend.LinearBackwardB(dB, dOut, N, O)
}

func (c *counter) ScatterAdd(dSrc, dOut kernels.Buf, idx []int32, lo, N, R, D int) {
	c.n["scatter"]++
	c.Backend.ScatterAdd(dSrc, dOut, idx, lo, N, R, D)
}

func (c *counter) Xent(a *kernels.Xent) float64 {
	if !a.DW.Absent() {
		c.n["xent dw"]++
	}
	if !a.DB.Absent() {
		c.n["xent db"]++
	}
	return c.Backend.Xent(a)
}

func (c *counter) Dropout(out, x kernels.Buf, p float64, seed uint64, n int) {
	c.n["dropout"]++
	c.Backend.Dropout(out, x, p, seed, n)
}

// TestFrozen checks that nothing is computed for weights that do not train: below the first that does there is no
// backward pass at all.
func TestFrozen(t *testing.T) {
	for _, c := range []struct {
		name                    string
		table, first, top, head string // names; an underscore freezes
		want                    string
	}{
		{"all train", "t", "v", "w", "h", "map[linear db:2 linear dw:2 linear dx:2 scatter:1 xent db:1 xent dw:1]"},
		{"the top alone", "_t", "_v", "w", "_h", "map[linear db:1 linear dw:1]"},
		{"the table alone", "t", "_v", "_w", "_h", "map[linear dx:2 scatter:1]"},
		{"the head alone", "_t", "_v", "_w", "h", "map[xent db:1 xent dw:1]"},
		{"none", "_t", "_v", "_w", "_h", "map[]"},
	} {
		t.Run(c.name, func(t *testing.T) {
			be := &counter{ref.New(kernels.F32), map[string]int{}}
			w, g := newWeights(be), NewGraph(be)
			get := w.onto(g)
			x := g.Gather(&Ints{V: []int32{1, 2, 1}}, get(c.table, 5, 4))
			x = g.Linear(x, get(c.first, 4, 4), get(c.first+"b", 0, 4), kernels.None)
			x = g.Linear(x, get(c.top, 4, 4), get(c.top+"b", 0, 4), kernels.None)
			m, err := g.Compile(g.Xent(x, get(c.head, 6, 4), get(c.head+"b", 0, 6), &Targets{IDs: []int32{0, 5, 2}}))
			if err == nil {
				_, err = m.Run(0)
			}
			if err != nil {
				t.Fatal(err)
			}
			if got := fmt.Sprint(be.n); got != c.want {
				t.Errorf("executed %s, want %s", got, c.want)
			}
			for _, d := range m.Grads() {
				if strings.HasPrefix(d.Name, "_") || d.Data.Absent() {
					t.Errorf("gradient of %s: absent %v", d.Name, d.Data.Absent())
				}
			}
		})
	}
}

// TestUnused checks that a weight that the loss does not read has no gradient, and stops nothing.
func TestUnused(t *testing.T) {
	be := ref.New(kernels.F32)
	w, g := newWeights(be), NewGraph(be)
	get := w.onto(g)
	get("unused", 3, 3)
	m, err := g.Compile(g.Xent(get("x", 2, 4), get("h", 3, 4), nil, &Targets{IDs: []int32{0, 1}}))
	if err == nil {
		_, err = m.Run(0)
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range m.Grads() {
		if d.Data.Absent() != (d.Name == "unused") {
			t.Errorf("gradient of %s: absent %v", d.Name, d.Data.Absent())
		}
	}
}

// TestUniqueHashes checks that no two operations look alike to gorgonia, which would merge them.
func TestUniqueHashes(t *testing.T) {
	be := &counter{ref.New(kernels.F32), map[string]int{}}
	w, g := newWeights(be), NewGraph(be)
	tokens, words := adaptedTargets()
	if _, err := g.Compile(adapted(g, once(w.onto(g)), tokens, words)); err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	ops := 0
	for _, n := range g.g.AllNodes() {
		f, ok := n.Op().(*fused)
		if !ok {
			continue
		}
		ops++
		if key := fmt.Sprint(f.Hashcode()); seen[key] || seen[f.String()] {
			t.Errorf("%s looks like another operation", f)
		} else {
			seen[key], seen[f.String()] = true, true
		}
	}
	if ops < 20 {
		t.Errorf("only %d operations", ops)
	}

	g = NewGraph(be)
	x := w.frozen(g)("x", 3, 4)
	var a, b []float64
	m, err := g.Compile(g.Sum([]float64{1, 1}, probe(g, g.Dropout(x, 0.5), &a), probe(g, g.Dropout(x, 0.5), &b)))
	if err == nil {
		_, err = m.Run(1)
	}
	if err != nil || be.n["dropout"] != 2 {
		t.Errorf("two equal operations run %d times (%v)", be.n["dropout"], err)
	}
}

// TestMemory runs one graph at two geometries in turn: after the first time of each, its memory no longer grows, and
// what a run allocates is gorgonia's own bookkeeping.
func TestMemory(t *testing.T) {
	be := ref.New(kernels.F32)
	w, g := newWeights(be), NewGraph(be)
	get := w.onto(g)
	const D, V = 32, 100
	ids, target := &Ints{}, &Targets{}
	table := get("table", V, D)
	x := g.Gather(ids, table)
	for i := range 3 {
		n := fmt.Sprint(i)
		x = g.Add(x, g.Linear(g.LayerNorm(x, get("s"+n, 0, D), get("c"+n, 0, D), 1e-5), get("w"+n, D, D), get("b"+n, 0, D), kernels.GELU))
	}
	m, err := g.Compile(g.Xent(x, table, nil, target))
	if err != nil {
		t.Fatal(err)
	}
	run := func(rows int) {
		ids.V, target.IDs = ids.V[:0], target.IDs[:0]
		for i := range rows {
			ids.V, target.IDs = append(ids.V, int32(i*7%V)), append(target.IDs, int32(i*3%V))
		}
		if _, err := m.Run(0); err != nil {
			t.Fatal(err)
		}
	}
	run(90)
	run(128)
	run(90)
	before := g.Bytes()
	if least := int64(4 * 128 * D * 10); before < least {
		t.Errorf("%d bytes are counted, the rows alone are more than %d", before, least)
	}
	var start, end runtime.MemStats
	const runs = 10
	runtime.ReadMemStats(&start)
	for i := range runs {
		run(90 + 38*(i%2))
	}
	runtime.ReadMemStats(&end)
	if after := g.Bytes(); after != before {
		t.Errorf("memory grew from %d to %d bytes", before, after)
	}
	per := (end.TotalAlloc - start.TotalAlloc) / runs
	t.Logf("%d bytes held, %d allocated a run", before, per)
	if per > 64<<10 {
		t.Errorf("%d bytes are allocated a run", per)
	}
}

// TestEagerArena checks that passes of the same shapes reuse their memory.
func TestEagerArena(t *testing.T) {
	be := ref.New(kernels.F32)
	w, e := newWeights(be), NewEager(be)
	pass := func() {
		e.Reset()
		x := w.mat("x", 50, 64)
		for range 4 {
			x = e.Linear(x, w.mat("w", 64, 64), Mat{}, kernels.ReLU)
		}
	}
	pass()
	before := e.Bytes()
	if n := testing.AllocsPerRun(10, pass); n > 0 || e.Bytes() != before || before == 0 {
		t.Errorf("%v allocations a pass; %d bytes held, %d before", n, e.Bytes(), before)
	}
}

// TestErrors checks that wrong input is an error, not a panic or a wrong number.
func TestErrors(t *testing.T) {
	be := ref.New(kernels.F32)
	for _, c := range []struct{ name, want string }{
		{"columns", "op: linear map of 5 columns applied to rows of 4"},
		{"index", "op: gather: index 5 at 1 is outside 0..4"},
		{"negative", "op: gather: index -1 at 1 is outside 0..4"},
		{"targets", "op: 1 targets for 2 rows"},
	} {
		wrong := func(name string) (ids *Ints, cols int, target *Targets) {
			ids, cols, target = &Ints{V: []int32{0, 1}}, 4, &Targets{IDs: []int32{0, 1}}
			switch name {
			case "columns":
				cols = 5
			case "index":
				ids.V[1] = 5
			case "negative":
				ids.V[1] = -1
			case "targets":
				target.IDs = target.IDs[:1]
			}
			return ids, cols, target
		}
		t.Run(c.name, func(t *testing.T) {
			w, e, g := newWeights(be), NewEager(be), NewGraph(be)
			get := w.onto(g)
			ids, cols, target := wrong(c.name)
			head := get("head", 3, 4)
			x := g.Linear(g.Gather(ids, get("table", 5, 4)), get("w", 4, cols), nil, kernels.None)
			m, err := g.Compile(g.Xent(x, head, nil, target))
			if err == nil {
				_, err = m.Run(0)
			}
			if err == nil || err.Error() != c.want {
				t.Errorf("graph: %v, want %s", err, c.want)
			}
			y := e.Gather(ids, w.mat("table", 5, 4))
			if e.Err() == nil {
				y = e.Linear(y, w.mat("w", 4, cols), Mat{}, kernels.None)
			}
			if e.Err() == nil {
				e.Xent(y, w.mat("head", 3, 4), Mat{}, target)
			}
			if err := e.Err(); err == nil || err.Error() != c.want {
				t.Errorf("eager: %v, want %s", err, c.want)
			}
			if e.Reset(); e.Err() != nil {
				t.Error("Reset keeps the error")
			}
		})
	}
}
