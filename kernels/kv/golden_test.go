package kv

import (
	"encoding/binary"
	"encoding/json"
	"math"
	"os"
	"slices"
	"testing"

	"svae/kernels/cpu"
)

// TestGolden compares the paper's policy and the published code's behaviour with testdata/make.py, an implementation that
// shares nothing with this one: the very rows of each step, and outputs within what float32 leaves of float64 (1e-5).
func TestGolden(t *testing.T) {
	raw, err := os.ReadFile("testdata/golden.json")
	must(t, err)
	var g struct {
		Heads   int `json:"heads"`
		KVHeads int `json:"kv_heads"`
		HeadDim int `json:"head_dim"`
		Rows    int
		Bounds  []int
		Cases   []struct {
			Policy         string
			Prompt, Budget int
			Keep           float64
			Steps          [][][]int
		}
	}
	must(t, json.Unmarshal(raw, &g))
	raw, err = os.ReadFile("testdata/golden.f32")
	must(t, err)
	next := func(n int) []float32 {
		x := make([]float32, n)
		for i := range x {
			x[i] = math.Float32frombits(binary.LittleEndian.Uint32(raw[4*i:]))
		}
		raw = raw[4*n:]
		return x
	}
	cfg := Config{Layers: 1, Heads: g.Heads, KVHeads: g.KVHeads, HeadDim: g.HeadDim, MinSegment: 1, MaxSegment: 1 << 20}
	w, wq := g.KVHeads*g.HeadDim, g.Heads*g.HeadDim
	seq := &sequence{cfg: cfg, bounds: g.Bounds, N: g.Rows}
	seq.k, seq.v, seq.q = [][]float32{next(g.Rows * w)}, [][]float32{next(g.Rows * w)}, [][]float32{next(g.Rows * wq)}
	for _, c := range g.Cases {
		st, err := New(cfg, cpu.New(), nil)
		must(t, err)
		seq.N = c.Prompt + len(c.Steps)
		outs, sels := seq.run(t, st, policy(t, c.Policy, Options{Keep: c.Keep}), Budget{Rows: c.Budget}, c.Prompt, 50)
		if len(outs) != len(c.Steps) {
			t.Fatalf("%d steps, want %d", len(outs), len(c.Steps))
		}
		for i, lists := range c.Steps {
			if len(sels[i]) != len(lists) {
				t.Fatalf("%s of %d, step %d: %d lists, want %d", c.Policy, c.Prompt, i, len(sels[i]), len(lists))
			}
			for h, want := range lists {
				var got []int
				for _, r := range sels[i][h] {
					got = append(got, r.Lo, r.Hi)
				}
				if !slices.Equal(got, want) {
					t.Fatalf("%s of %d, step %d, list %d: rows %v, want %v", c.Policy, c.Prompt, i, h, got, want)
				}
			}
			for j, want := range next(wq) {
				if d := math.Abs(float64(outs[i][j] - want)); d > 1e-5 {
					t.Fatalf("%s of %d, step %d: element %d off by %g", c.Policy, c.Prompt, i, j, d)
				}
			}
		}
	}
	if len(raw) != 0 {
		t.Fatalf("%d bytes are left", len(raw))
	}
}
