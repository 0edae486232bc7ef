package sllm

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"svae/checkpoints"
	"svae/kernels/op"
	"svae/vae"
)

func lmWeights(a *vae.Arch) []vae.Weight {
	return vae.List(func(get vae.Build[op.Mat]) { NewLM(a, get) })
}

// randomTensors gives every weight random elements.
func randomTensors(ws []vae.Weight) map[string]*checkpoints.Tensor {
	r := rand.New(rand.NewPCG(5, 6))
	ts := map[string]*checkpoints.Tensor{}
	for _, w := range ws {
		v := make([]float32, w.Elements())
		for i := range v {
			v[i] = r.Float32()
		}
		ts[w.Name] = checkpoints.MemTensor(w.Name, w.Shape, v)
	}
	return ts
}

// stored writes tensors into a file and opens it.
func stored(t *testing.T, ts []checkpoints.Named) *checkpoints.Weights {
	t.Helper()
	path := filepath.Join(t.TempDir(), "x.safetensors")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := checkpoints.WriteSafetensors(f, ts, nil); err != nil {
		t.Fatal(err)
	}
	f.Close()
	w, err := checkpoints.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.Close() })
	return w
}

func elements(t *testing.T, x *checkpoints.Tensor) []float32 {
	t.Helper()
	v := make([]float32, x.Len())
	if err := x.Float32(v); err != nil {
		t.Fatal(err)
	}
	return v
}

// TestLayoutGPT2 checks what stands where in GPT-2's fused and transposed maps, element by element.
func TestLayoutGPT2(t *testing.T) {
	a := tinyGPT2()
	ws := lmWeights(&a)
	st, ts := Layout(&a, ws), randomTensors(ws)
	src := stored(t, Arrange(st, ts))
	if len(src.Names()) != 3+2*12+1 {
		t.Errorf("%d tensors: %v", len(src.Names()), src.Names())
	}
	const p = "transformer.h.1.attn."
	fused, _ := src.Get(p + "c_attn.weight")
	bias, _ := src.Get(p + "c_attn.bias")
	D := a.HiddenSize
	got, gotBias := elements(t, fused), elements(t, bias)
	for part, name := range []string{"q_proj", "k_proj", "v_proj"} {
		w, b := elements(t, ts[p+name+".weight"]), elements(t, ts[p+name+".bias"])
		for o := range D {
			if gotBias[part*D+o] != b[o] {
				t.Fatalf("bias %d of %s is elsewhere", o, name)
			}
			for i := range D {
				if got[i*3*D+part*D+o] != w[o*D+i] {
					t.Fatalf("element (%d, %d) of %s is elsewhere", o, i, name)
				}
			}
		}
	}
	if wte, _ := src.Get("transformer.wte.weight"); !slices.Equal(elements(t, wte), elements(t, ts["transformer.wte.weight"])) {
		t.Error("the embedding table is transposed")
	}
	found, err := Find(ws, st, src)
	if err != nil {
		t.Fatal(err)
	}
	for name, x := range ts {
		equal(t, name, elements(t, found[name]), elements(t, x))
	}
}

// TestPairs checks that rows in rotary pairs come back as halves: r0 i0 r1 i1 for each of two heads.
func TestPairs(t *testing.T) {
	ws := []vae.Weight{{Name: "w", Shape: []int{8, 1}}, {Name: "b", Shape: []int{8}}}
	st := []Stored{{Name: "x", Parts: []string{"w"}, Pairs: 2}, {Name: "y", Parts: []string{"b"}, Pairs: 2}}
	halves := []float32{0, 2, 1, 3, 4, 6, 5, 7}
	src := stored(t, Arrange(st, map[string]*checkpoints.Tensor{
		"w": checkpoints.MemTensor("w", []int{8, 1}, halves), "b": checkpoints.MemTensor("b", []int{8}, halves)}))
	found, err := Find(ws, st, src)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"x", "y"} {
		x, _ := src.Get(name)
		equal(t, name, elements(t, x), []float32{0, 1, 2, 3, 4, 5, 6, 7})
	}
	equal(t, "w", elements(t, found["w"]), halves)
	equal(t, "b", elements(t, found["b"]), halves)
}

// TestFindErrors checks that everything that does not fit is said at once, in one line.
func TestFindErrors(t *testing.T) {
	a := tinyGPT2()
	ws := lmWeights(&a)
	st, ts := Layout(&a, ws), randomTensors(ws)
	good := Arrange(st, ts)
	fails := func(name string, change func(ns []checkpoints.Named) []checkpoints.Named, want ...string) {
		t.Helper()
		_, err := Find(ws, st, stored(t, change(slices.Clone(good))))
		if err == nil {
			t.Errorf("%s: no error", name)
			return
		}
		for _, w := range want {
			if !strings.Contains(err.Error(), w) || strings.Contains(err.Error(), "\n") {
				t.Errorf("%s: %v, want %q in one line", name, err, w)
			}
		}
	}
	at := func(ns []checkpoints.Named, name string) int {
		return slices.IndexFunc(ns, func(n checkpoints.Named) bool { return n.Name == name })
	}
	fails("missing, mis-shaped, left over", func(ns []checkpoints.Named) []checkpoints.Named {
		i := at(ns, "transformer.h.0.attn.c_attn.weight")
		ns[i] = checkpoints.FromFloat32(ns[i].Name, []int{48, 16}, make([]float32, 48*16)) // as a plain map would be
		i = at(ns, "transformer.wte.weight")
		ns[i] = checkpoints.FromFloat32(ns[i].Name, []int{64, 16}, make([]float32, 64*16)) // padded
		i = at(ns, "transformer.ln_f.bias")
		ns[i].Name = "transformer.ln_f.shift"
		return ns
	}, "transformer.h.0.attn.c_attn.weight is [48 16], want [16 48]", "transformer.wte.weight is [64 16], want [50 16]",
		"missing transformer.ln_f.bias [16]", "unexpected transformer.ln_f.shift")
	fails("a type", func(ns []checkpoints.Named) []checkpoints.Named {
		i := at(ns, "transformer.h.1.mlp.c_fc.weight")
		ns[i].DType = checkpoints.U32
		return ns
	}, "transformer.h.1.mlp.c_fc.weight has the unsupported type U32")
	fails("many", func(ns []checkpoints.Named) []checkpoints.Named { return ns[:1] }, "missing transformer.wpe.weight", "and 15 more")

	if _, err := Find(ws, st[1:], stored(t, good)); err == nil || !strings.Contains(err.Error(), "no tensor holds transformer.wte.weight") {
		t.Errorf("a layout without a weight: %v", err)
	}
	if _, err := Find(ws[1:], st, stored(t, good)); err == nil || !strings.Contains(err.Error(), "no weight of the model") {
		t.Errorf("a layout of another model: %v", err)
	}
}

// TestLayoutOneToOne checks that every other family's files hold the weights under their own names.
func TestLayoutOneToOne(t *testing.T) {
	for name, a := range tinyBases() {
		if name == "gpt2" {
			continue
		}
		ws := lmWeights(&a)
		for i, s := range Layout(&a, ws) {
			if s.Name != ws[i].Name || !slices.Equal(s.Parts, []string{s.Name}) || s.Transposed || s.Pairs != 0 {
				t.Errorf("%s: %+v", name, s)
			}
		}
	}
}

// TestSpareHead checks that a head beside a tied table is accepted where it is the table, and refused where it is not.
func TestSpareHead(t *testing.T) {
	a := tinyGPT2()
	ws := lmWeights(&a)
	st, ts := Layout(&a, ws), randomTensors(ws)
	const table = "transformer.wte.weight"
	good := Arrange(st, ts)
	copyOf := func(shape []int, change func([]float32)) checkpoints.Named {
		v := slices.Clone(elements(t, ts[table]))
		if change != nil {
			change(v)
		}
		return checkpoints.FromFloat32("lm_head.weight", shape, v)
	}
	shape := ts[table].Shape
	for name, c := range map[string]struct {
		head checkpoints.Named
		want string // in the error; "" for none
	}{
		"equal":         {copyOf(shape, nil), ""},
		"another":       {copyOf(shape, func(v []float32) { v[len(v)-1] += 1 }), "lm_head.weight differs from transformer.wte.weight"},
		"another sign":  {copyOf(shape, func(v []float32) { v[0] = -v[0] }), "lm_head.weight differs"},
		"another shape": {copyOf([]int{shape[1], shape[0]}, nil), "lm_head.weight is [16 50] and transformer.wte.weight [50 16]"},
		"another type":  {copyOf(shape, nil).As(checkpoints.BF16), "lm_head.weight differs"},
		"no number":     {checkpoints.Named{Name: "lm_head.weight", DType: checkpoints.U32, Shape: shape, Write: copyOf(shape, nil).Write}, "unsupported type U32"},
	} {
		_, err := Find(ws, st, stored(t, append(slices.Clone(good), c.head)))
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "lm_head")) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
		if err != nil && c.want != "" && name != "no number" && !strings.Contains(err.Error(), "tie_word_embeddings: false") {
			t.Errorf("%s: %v names no way out", name, err)
		}
	}
	// Tables of BF16, of which the head holds the float32.
	half := slices.Clone(good)
	for i := range half {
		half[i] = half[i].As(checkpoints.BF16)
	}
	var found map[string]*checkpoints.Tensor
	var err error
	if found, err = Find(ws, st, stored(t, half)); err != nil {
		t.Fatal(err)
	}
	wide := checkpoints.FromFloat32("lm_head.weight", shape, elements(t, found[table]))
	if _, err := Find(ws, st, stored(t, append(half, wide))); err != nil {
		t.Errorf("a head in float32 of the same values: %v", err)
	}
	// A file without the table has nothing to compare with.
	rest := slices.DeleteFunc(slices.Clone(good), func(n checkpoints.Named) bool { return n.Name == table })
	if _, err := Find(ws, st, stored(t, append(rest, copyOf(shape, nil)))); err == nil || !strings.Contains(err.Error(), "missing "+table+" [50 16]; unexpected lm_head.weight") {
		t.Errorf("a head alone: %v", err)
	}
}

// TestNeedless checks that only whole names are passed over.
func TestNeedless(t *testing.T) {
	a := tinyLlama()
	ws := lmWeights(&a)
	st := Layout(&a, ws)
	good := Arrange(st, randomTensors(ws))
	for name, ok := range map[string]bool{
		"model.layers.1.self_attn.rotary_emb.inv_freq": true, "layers.0.self_attn.rotary_emb.inv_freq": true, "model.rotary_emb.inv_freq": true,
		"h.0.attn.bias": true, "transformer.h.11.attn.masked_bias": true, "decoder.version": true, "model.decoder.version": true, "rope_freqs.weight": true,
		"mtp.lm_head.weight": false, "model.lm_head.weight": false, "model.layers.0.attn.bias": false, "x.rope_freqs.weight": false, "my.decoder.version": false,
		"vision.rotary_emb.inv_freq": false, "transformer.h.x.attn.bias": false, "decoder.versions": false,
	} {
		_, err := Find(ws, st, stored(t, append(slices.Clone(good), checkpoints.FromFloat32(name, []int{1}, []float32{1}))))
		if ok != (err == nil) || err != nil && !strings.Contains(err.Error(), "unexpected "+name) {
			t.Errorf("%s: %v, want it passed over: %t", name, err, ok)
		}
	}
}

// TestFindMany: a file in which all of a deep model is missing. With time in the square of the layers it would take long.
func TestFindMany(t *testing.T) {
	a := tinyLlama()
	a.NumLayers = 4096
	ws := lmWeights(&a)
	st := Layout(&a, ws)
	src := stored(t, []checkpoints.Named{checkpoints.FromFloat32("x", []int{1}, []float32{1})})
	if _, err := Find(ws, st, src); err == nil || !strings.Contains(err.Error(), "and 36855 more; unexpected x") {
		t.Errorf("error %v", err)
	}
}
