package checkpoints

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// A naive is a tensor as a list of values: what views are compared with.
type naive struct {
	shape []int
	v     []float32
}

// row returns the length of a row of the first dimension.
func (n naive) row() int { return len(n.v) / n.shape[0] }

func (n naive) rows(lo, hi int) naive {
	r := n.row()
	return naive{append([]int{hi - lo}, n.shape[1:]...), n.v[lo*r : hi*r]}
}

func (n naive) t() naive {
	out := naive{shape: []int{n.shape[1], n.shape[0]}}
	for c := range n.shape[1] {
		for r := range n.shape[0] {
			out.v = append(out.v, n.v[r*n.shape[1]+c])
		}
	}
	return out
}

// halves writes out the order that HalfRows documents: of each head the even rows, then the odd ones.
func (n naive) halves(heads int) naive {
	out := naive{shape: n.shape}
	k := n.shape[0] / heads
	for h := range heads {
		for part := range 2 {
			for i := part; i < k; i += 2 {
				out.v = append(out.v, n.rows(h*k+i, h*k+i+1).v...)
			}
		}
	}
	return out
}

// pairs writes out the order that PairRows documents: of each head, by turns, a row of its first and of its second half.
func (n naive) pairs(heads int) naive {
	out := naive{shape: n.shape}
	k := n.shape[0] / heads
	for h := range heads {
		for i := range k / 2 {
			out.v = append(out.v, n.rows(h*k+i, h*k+i+1).v...)
			out.v = append(out.v, n.rows(h*k+k/2+i, h*k+k/2+i+1).v...)
		}
	}
	return out
}

// sameView compares a view with the naive one through Float32, Raw and a written copy.
func sameView(t *testing.T, what string, x *Tensor, n naive) {
	t.Helper()
	if !slices.Equal(x.Shape, n.shape) {
		t.Fatalf("%s: shape %v, want %v", what, x.Shape, n.shape)
	}
	if got := floats(t, x); !slices.Equal(got, n.v) {
		t.Fatalf("%s: %v, want %v", what, got, n.v)
	}
	raw, err := x.Raw()
	if err != nil || int64(len(raw)) != x.Bytes() || !bytes.Equal(raw, written(t, FromTensor(x))) {
		t.Fatalf("%s: Raw and the copy differ, %v", what, err)
	}
	v := make([]float32, x.Len())
	decode(v, raw, x.DType)
	if !slices.Equal(v, n.v) {
		t.Fatalf("%s: Raw holds %v, want %v", what, v, n.v)
	}
}

// stored returns an opened file with one tensor of the type, and its values.
func stored1(t *testing.T, d DType, shape []int, rng *rand.Rand) (*Tensor, naive) {
	t.Helper()
	count, _ := product(shape...)
	v := make([]float32, count)
	for i := range v {
		v[i] = float32(rng.IntN(255) - 127) // exact in every type here
	}
	if d == Q8_0 { // so that each block has scale 1
		for i := 0; i < count; i += 32 {
			v[i] = 127
		}
	}
	n := FromFloat32("w", shape, v).As(d)
	var b bytes.Buffer
	if err := WriteGGUF(&b, nil, []Named{n}); err != nil {
		t.Fatal(err)
	}
	return get(t, open(t, put(t, "x", b.Bytes())), "w"), naive{slices.Clone(shape), v}
}

// TestViews: chains of views equal the same chains on a list of values.
func TestViews(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for round := range 200 {
		d := []DType{F32, F16, BF16, Q8_0}[round%4]
		shape := []int{4 * (1 + rng.IntN(6)), 1 + rng.IntN(9)}
		switch {
		case d == Q8_0:
			shape[1] = 32 * (1 + rng.IntN(3))
		case round%12 == 1:
			shape = shape[:1]
		case round%12 == 2:
			shape = append(shape, 1+rng.IntN(4))
		}
		x, n := stored1(t, d, shape, rng)
		what := fmt.Sprint(d, " ", shape)
		for range 1 + rng.IntN(5) {
			var heads []int // that divide the rows into even numbers
			for h := 1; len(n.shape) > 0 && h <= n.shape[0]; h++ {
				if n.shape[0]%(2*h) == 0 {
					heads = append(heads, h)
				}
			}
			switch op := rng.IntN(5); {
			case op == 0:
				lo := rng.IntN(n.shape[0])
				hi := lo + 1 + rng.IntN(n.shape[0]-lo)
				x, n = x.Rows(lo, hi), n.rows(lo, hi)
				what += fmt.Sprintf(" rows %d %d", lo, hi)
			case op == 1 && len(n.shape) == 2 && d != Q8_0:
				x, n = x.T(), n.t()
				what += " transposed"
			case op == 2 && len(heads) > 0:
				h := heads[rng.IntN(len(heads))]
				x, n = x.HalfRows(h), n.halves(h)
				what += fmt.Sprintf(" halves of %d", h)
			case op == 3 && len(heads) > 0:
				h := heads[rng.IntN(len(heads))]
				x, n = x.PairRows(h), n.pairs(h)
				what += fmt.Sprintf(" pairs of %d", h)
			}
			sameView(t, what, x, n)
		}
	}
}

// TestViewsUndo: the second view of a pair gives back the file's own order, without a copy.
func TestViewsUndo(t *testing.T) {
	x, n := stored1(t, F16, []int{24, 10}, rand.New(rand.NewPCG(3, 4)))
	for what, v := range map[string]*Tensor{
		"T": x.T().T(), "halves": x.HalfRows(3).PairRows(3), "pairs": x.PairRows(3).HalfRows(3), "rows": x.Rows(0, 24),
		"transposed pairs": x.PairRows(2).T().T().HalfRows(2),
	} {
		sameView(t, what, v, n)
		if v.view != nil || v.Offset != x.Offset {
			t.Errorf("%s: still a view", what)
		}
	}
	if y := x.Rows(5, 9); y.Offset != x.Offset+5*20 || y.view != nil {
		t.Errorf("rows lie at %d, want %d", y.Offset, x.Offset+100)
	}
}

// TestViewsOfTorch: views of tensors that are views already, as PyTorch stores them.
func TestViewsOfTorch(t *testing.T) {
	w := open(t, "testdata/views.pt")
	for _, name := range w.Names() {
		x := get(t, w, name)
		n := naive{x.Shape, floats(t, x)}
		if len(x.Shape) == 0 || x.Len() == 0 {
			continue
		}
		mid := x.Shape[0] / 2
		sameView(t, name+" rows", x.Rows(mid, x.Shape[0]), n.rows(mid, x.Shape[0]))
		if x.Shape[0]%2 == 0 {
			sameView(t, name+" halves", x.HalfRows(1), n.halves(1))
		}
		if len(x.Shape) == 2 {
			sameView(t, name+" transposed", x.T(), n.t())
			sameView(t, name+" transposed rows", x.T().Rows(0, 1), n.t().rows(0, 1))
		}
	}
}

// TestViewsLarge: matrices larger than the pieces in which they are read.
func TestViewsLarge(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	for _, c := range []struct {
		d    DType
		a, b int
	}{{F16, 700, 2100}, {F32, 2100, 300}, {F32, 4, 150_000}, {F32, 150_000, 4}, {Q8_0, 1024, 2048}} {
		x, n := stored1(t, c.d, []int{c.a, c.b}, rng)
		sameView(t, "halves", x.HalfRows(2), n.halves(2))
		if c.d != Q8_0 {
			sameView(t, "transposed", x.T(), n.t())
			sameView(t, "transposed rows", x.T().Rows(1, c.b-1), n.t().rows(1, c.b-1))
		}
	}
}

// TestStack: stacks and their transposes, of one type and of several.
func TestStack(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 8))
	for _, c := range []struct {
		types []DType
		cols  int
		want  [2]DType // plain, transposed
	}{
		{[]DType{F16}, 12, [2]DType{F16, F16}},
		{[]DType{F16, F16, F16}, 12, [2]DType{F16, F16}},
		{[]DType{F32, F32}, 1, [2]DType{F32, F32}},
		{[]DType{F16, BF16}, 12, [2]DType{F32, F32}},
		{[]DType{Q8_0}, 64, [2]DType{Q8_0, F32}},
		{[]DType{Q8_0, Q8_0}, 64, [2]DType{Q8_0, F32}},
		{[]DType{Q8_0, F16}, 32, [2]DType{F32, F32}},
		{[]DType{F32, F32, F32}, 200_000, [2]DType{F32, F32}}, // a column at a time is more than a buffer
	} {
		var parts []*Tensor
		all := naive{shape: []int{0, c.cols}}
		for i, d := range c.types {
			x, n := stored1(t, d, []int{2 + i, c.cols}, rng)
			parts = append(parts, x)
			all.shape[0] += n.shape[0]
			all.v = append(all.v, n.v...)
		}
		for i, want := range []naive{all, all.t()} {
			s := Stack("s", i == 1, parts...)
			v := make([]float32, len(want.v))
			raw := written(t, s)
			if s.Name != "s" || s.DType != c.want[i] || !slices.Equal(s.Shape, want.shape) {
				t.Fatalf("%v: %s %v, want %s %v", c.types, s.DType, s.Shape, c.want[i], want.shape)
			}
			decode(v, raw, s.DType)
			if !slices.Equal(v, want.v) {
				t.Errorf("%v, transposed %v: differs", c.types, i == 1)
			}
		}
	}
	x, _ := stored1(t, F16, []int{6, 4}, rng)
	bias := Stack("b", false, x.T().Rows(0, 1).T().Rows(0, 6), x.T().Rows(1, 2).T())
	if !slices.Equal(bias.Shape, []int{12, 1}) || len(written(t, bias)) != 24 {
		t.Errorf("stack of views: %v", bias.Shape)
	}
	bad := open(t, "testdata/complex128.pt")
	if err := Stack("s", false, get(t, bad, "c")).Write(&bytes.Buffer{}); err == nil || !strings.Contains(err.Error(), "is not supported") {
		t.Error(err)
	}
}

// TestMemTensor: a tensor in memory reads like one of a file.
func TestMemTensor(t *testing.T) {
	v := []float32{1, 2, 3, 4, 5, 6}
	x := MemTensor("m", []int{2, 3}, v)
	sameView(t, "memory", x, naive{[]int{2, 3}, v})
	sameView(t, "memory transposed", x.T(), naive{[]int{2, 3}, v}.t())
	if e := MemTensor("e", []int{0, 3}, nil); e.Len() != 0 || len(floats(t, e)) != 0 || len(written(t, FromTensor(e))) != 0 {
		t.Error("empty tensor")
	}
	if s := MemTensor("s", nil, v[:1]); floats(t, s)[0] != 1 {
		t.Error("scalar")
	}
	if err := x.Float32(make([]float32, 5)); err == nil || !strings.Contains(err.Error(), `memory: tensor "m": has 6 elements, the destination 5`) {
		t.Error(err)
	}
}

// TestViewPanics: what the caller has to check.
func TestViewPanics(t *testing.T) {
	x := MemTensor("m", []int{6, 3}, make([]float32, 18))
	q, _ := stored1(t, Q8_0, []int{64}, rand.New(rand.NewPCG(9, 9)))
	for name, f := range map[string]func(){
		"rows below 0": func() { x.Rows(-1, 2) }, "rows behind": func() { x.Rows(0, 7) }, "rows backwards": func() { x.Rows(3, 2) },
		"rows of a scalar": func() { MemTensor("s", nil, make([]float32, 1)).Rows(0, 1) },
		"T of a vector":    func() { x.Rows(0, 1).Rows(0, 1); MemTensor("v", []int{3}, make([]float32, 3)).T() },
		"T of blocks":      func() { q.T() },
		"half a block":     func() { q.Rows(0, 16) },
		"heads 0":          func() { x.HalfRows(0) }, "heads 2": func() { x.HalfRows(2) }, "heads of blocks": func() { q.PairRows(1) },
		"stack of nothing": func() { Stack("s", false) },
		"stack of unequal": func() { Stack("s", false, x, x.T()) },
		"values":           func() { MemTensor("v", []int{4}, make([]float32, 3)) },
	} {
		func() {
			defer func() {
				if s, ok := recover().(string); !ok || !strings.HasPrefix(s, "checkpoints: ") {
					t.Errorf("%s: panicked with %v", name, s)
				}
			}()
			f()
		}()
	}
	sameView(t, "whole blocks", q.Rows(32, 64), naive{[]int{32}, floats(t, q)[32:]})
}

// TestViewUnsupported: a view of a tensor whose elements are not known fails by name.
func TestViewUnsupported(t *testing.T) {
	w := open(t, put(t, "x", stOf("{"+stEntry("w", "F4", "[4,2]", 0, 4)+"}", 4)))
	x := get(t, w, "w").Rows(0, 2)
	if _, err := x.Raw(); err == nil || !strings.Contains(err.Error(), `tensor "w": is of type F4, whose elements cannot be told apart`) {
		t.Error(err)
	}
}
