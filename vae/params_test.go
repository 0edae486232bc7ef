package vae_test

import (
	"math"
	"slices"
	"testing"

	"svae/kernels"
	"svae/kernels/cpu"
	"svae/kernels/op"
	"svae/vae"
)

// TestStoreOf checks a store over given memory: it is that memory, what does not fit is refused, it is not started anew, and
// Pack reaches the int8 copy of a head.
func TestStoreOf(t *testing.T) {
	const V, D = 40, 70
	ws := []vae.Weight{{Name: "head", Shape: []int{V, D}}, {Name: "map", Shape: []int{3, 2}}, {Name: "norm", Shape: []int{D}, One: 1}}
	w := make([]float32, V*D)
	for i := range w {
		w[i] = float32(i%97) - 48
	}
	half := make([]uint16, len(w))
	kernels.RoundBF16(half, w)
	be := cpu.New()
	bufs := []kernels.Buf{kernels.BF16Of(half), kernels.Int8Of([]int8{1, 2, 3, 4, 5, 6}, []float32{1, 0.5, 2}, 2), kernels.Of(make([]float32, D))}
	s, err := vae.NewStoreOf(be, ws, bufs)
	if err != nil {
		t.Fatal(err)
	}
	for i, x := range ws {
		if s.Buf(x.Name).Pointer() != bufs[i].Pointer() {
			t.Errorf("%s is held elsewhere", x.Name)
		}
	}
	if err := s.Init(1, nil); err == nil {
		t.Error("given weights were started anew")
	}
	want := math.Sqrt((1 + 4 + 0.25*(9+16) + 4*(25+36)) / 6)
	if got := s.Spread("map"); math.Abs(got-want) > 1e-12 {
		t.Errorf("spread of int8 weights %g, want %g", got, want)
	}
	for name, bad := range map[string][]kernels.Buf{"too few": bufs[:2], "another size": {bufs[1], bufs[1], bufs[2]}} {
		if _, err := vae.NewStoreOf(be, ws, bad); err == nil {
			t.Errorf("%s: made a store", name)
		}
	}
	if _, err := vae.NewStoreOf(be, []vae.Weight{ws[1], ws[1]}, []kernels.Buf{bufs[1], bufs[1]}); err == nil {
		t.Error("a weight that stands twice: made a store")
	}

	h, err := op.NewHead(s.Mat(ws[0]), op.Mat{})
	if err != nil {
		t.Fatal(err)
	}
	if s.Head("head") != nil {
		t.Error("a head before there is one")
	}
	s.SetHead("head", &h)
	if s.Head("head") != &h || s.Head("map") != nil {
		t.Error("the head is not found by its name")
	}
	o := op.NewEager(be)
	x := o.New(1, D)
	for i := range x.F32() {
		x.F32()[i] = float32(i%7) - 3
	}
	score := func() []float32 {
		return slices.Clone(o.Linear(x, h.Q, op.Mat{}, kernels.None).F32())
	}
	before := score()
	s.Pack()
	q, _ := h.Q.Int8(D)
	was := slices.Clone(q)
	clear(q) // the packed copy is read instead
	if !slices.Equal(score(), before) {
		t.Error("Pack does not keep a copy of the head's int8 weights, or another one")
	}
	copy(q, was)
	s.Unpack()
	clear(q)
	if slices.Equal(score(), before) {
		t.Error("Unpack leaves the copy in use")
	}
}
