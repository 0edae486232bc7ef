package op

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"svae/kernels"
	"svae/kernels/cpu"
)

func normal(r *rand.Rand, n int) []float32 {
	v := make([]float32, n)
	for i := range v {
		v[i] = float32(r.NormFloat64())
	}
	return v
}

// TestNarrowWeights runs the same model code over weights in float32, bf16 and int8: rows of the table, a map of some of
// its rows, and the projection onto all of them.
func TestNarrowWeights(t *testing.T) {
	const V, D, N = 130, 96, 3
	r := rand.New(rand.NewPCG(3, 1))
	w := normal(r, V*D)
	h, q, scales := make([]uint16, V*D), make([]int8, V*D), make([]float32, V)
	kernels.RoundBF16(h, w)
	if err := kernels.QuantizeInt8(q, scales, w, V, D); err != nil {
		t.Fatal(err)
	}
	model := func(w kernels.Buf) []float32 {
		e := NewEager(cpu.New())
		m := Mat{w, V, D}
		x := e.Gather(&Ints{V: []int32{5, 0, V - 1}}, m)
		x = e.Linear(x, m.Rows(20, 20+D), Mat{}, kernels.ReLU)
		y := e.Linear(e.RMSNorm(x, Mat{kernels.Of(normal(rand.New(rand.NewPCG(1, 1)), D)), 1, D}, 0, 1e-5), m, Mat{}, kernels.None)
		if e.Err() != nil {
			t.Fatal(e.Err())
		}
		return slices.Clone(y.F32())
	}
	want := model(kernels.Of(w))
	size := 0.0
	for _, v := range want {
		size += float64(v) * float64(v)
	}
	for name, c := range map[string]struct {
		w     kernels.Buf
		bytes int64
		least float64
	}{
		"bf16": {kernels.BF16Of(h), 2 * V * D, 1e-5},
		"int8": {kernels.Int8Of(q, scales, D), V*D + 4*V, 1e-4},
	} {
		off := 0.0
		for i, v := range model(c.w) {
			off += math.Pow(float64(v-want[i]), 2)
		}
		if rel := math.Sqrt(off / size); rel < c.least || rel > 0.02 {
			t.Errorf("%s: the logits are off by %.2g of their size", name, rel)
		}
		if got := c.w.WeightBytes(); got != c.bytes {
			t.Errorf("%s: %d bytes of weights, want %d", name, got, c.bytes)
		}
	}
}

// TestTop compares the choice with the arg max of all logits, and checks what is refused.
func TestTop(t *testing.T) {
	const V, D, N = 3000, 96, 5
	r := rand.New(rand.NewPCG(3, 2))
	w, x := Mat{kernels.Of(normal(r, V*D)), V, D}, Mat{kernels.Of(normal(r, N*D)), N, D}
	copy(w.F32()[2000*D:], w.F32()[:500*D]) // ties
	h, err := NewHead(w, Mat{})
	if err != nil {
		t.Fatal(err)
	}
	e, ids := NewEager(cpu.New()), make([]int32, N)
	scored := e.Top(ids, x, &h)
	if scored < N || scored > N*V/10 {
		t.Errorf("%d logits computed for %d rows of %d", scored, N, V)
	}
	logits := e.Linear(x, w, Mat{}, kernels.None).F32()
	for n, id := range ids {
		row := logits[n*V : (n+1)*V]
		if want := slices.Index(row, slices.Max(row)); int(id) != want {
			t.Errorf("row %d: id %d, want %d", n, id, want)
		}
	}
	if e.Top(ids[1:], x, &h); e.Err() == nil {
		t.Error("too few ids are not an error")
	}
	w.F32()[7*D+1] = float32(math.NaN())
	if _, err := NewHead(w, Mat{}); err == nil {
		t.Error("a NaN in the head is not an error")
	}
}
