package sllm

import (
	"context"
	"errors"
	"maps"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"svae/checkpoints"
	"svae/kernels"
	"svae/kernels/cpu"
	"svae/kernels/op"
	"svae/kernels/ref"
	"svae/vae"
	"svae/vae/vaetest"
)

// tinyFolders are one model of each make, with random weights.
func tinyFolders(t testing.TB) map[string]*Folder {
	t.Helper()
	fs := map[string]*Folder{}
	for name, a := range tinyBases() {
		if name == "gpt2" { // whose config.json does not say
			a.FFNDim = 4 * a.HiddenSize
		}
		fs["lm-"+name] = &Folder{Kind: KindLM, LM: a}
	}
	for name, c := range tinyConfigs() {
		fs["sllm-"+name] = &Folder{Kind: KindSLLM, SLLM: c}
		if name == "opt" || name == "paper" || name == "reference" {
			fs["svae-"+name] = &Folder{Kind: KindVAE, SVAE: c.VAE}
		}
	}
	for name, f := range fs {
		f.Files = map[string][]byte{"tokenizer.json": []byte(`{"model": "of ` + name + `"}`), GenerationFile: []byte("{}")}
		f.Store = vaetest.RandomStore(t, cpu.New(), f.Weights(), 5)
	}
	return fs
}

// modelFolder writes a model folder.
func modelFolder(t testing.TB, f *Folder) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "model")
	d, err := checkpoints.CreateDir(dir, false)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Abort()
	if err := f.Write(d); err != nil {
		t.Fatal(err)
	}
	if err := d.Commit(); err != nil {
		t.Fatal(err)
	}
	return dir
}

// exported writes a bundle.
func exported(t testing.TB, o ExportOptions) (string, *Exported) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "bundle")
	r, err := Export(context.Background(), dir, o)
	if err != nil {
		t.Fatal(err)
	}
	return dir, r
}

// rounded returns a folder whose store holds the weights of f as a bundle of that type should: computed here from what the
// types promise.
func rounded(t *testing.T, f *Folder, be kernels.Backend, dtype string) *Folder {
	t.Helper()
	g := *f
	var bufs []kernels.Buf
	head, _ := f.headNames()
	for _, w := range f.Weights() {
		v, err := f.Read(w.Name)
		if err != nil {
			t.Fatal(err)
		}
		matrix := len(w.Shape) == 2 && (w.Shape[0] >= 16 || w.Name == head)
		switch {
		case dtype == "f32" || !matrix:
			b := be.Alloc(len(v))
			be.Upload(b, v)
			bufs = append(bufs, b)
		case dtype == "bf16" || w.Table || w.Name == head:
			h := make([]uint16, len(v))
			kernels.RoundBF16(h, v)
			bufs = append(bufs, kernels.BF16Of(h))
		default:
			q, scales := make([]int8, len(v)), make([]float32, w.Shape[0])
			if err := kernels.QuantizeInt8(q, scales, v, w.Shape[0], w.Shape[1]); err != nil {
				t.Fatal(err)
			}
			bufs = append(bufs, kernels.Int8Of(q, scales, w.Shape[1]))
		}
	}
	var err error
	if g.Store, err = vae.NewStoreOf(be, f.Weights(), bufs); err != nil {
		t.Fatal(err)
	}
	return &g
}

// results returns what a model of any kind computes.
func results(t *testing.T, f *Folder) map[string][]float64 {
	t.Helper()
	ids, sent := []int32{5, 9, 12, 7, 30, 41, 8, 3, 22}, []int32{0, 4, 6, 9}
	if f.Kind == KindLM {
		return map[string][]float64{"logits": logits(t, f, ids)}
	}
	return outputs(t, f, f.Store, ids, sent)
}

// TestBundleRuns exports every kind of model in every type and compares, to the bit, what the bundle computes with what the
// model does whose weights are rounded here.
func TestBundleRuns(t *testing.T) {
	narrow := map[string]bool{}
	for name, f := range tinyFolders(t) {
		dir := modelFolder(t, f)
		for _, dtype := range BundleTypes {
			bundle, _ := exported(t, ExportOptions{Model: dir, DType: dtype})
			backends := map[string]kernels.Backend{"cpu": cpu.New()}
			if slices.Contains([]string{"lm-llama", "sllm-llama", "svae-paper"}, name) {
				backends["ref"], backends["ref64"] = ref.New(kernels.F32), ref.New(kernels.F64)
			}
			for backend, be := range backends {
				t.Run(name+"/"+dtype+"/"+backend, func(t *testing.T) {
					got := load(t, bundle, be)
					if got.Kind != f.Kind || got.Bundle != dtype || !maps.EqualFunc(got.Files, f.Files, slices.Equal[[]byte]) {
						t.Fatalf("opened as %s in %q with %d files", got.Kind, got.Bundle, len(got.Files))
					}
					want := rounded(t, f, be, dtype)
					gots, wants := results(t, got), results(t, want)
					for key, v := range wants {
						equal(t, key, gots[key], v)
					}
					if be.DType() == kernels.F32 {
						checkHead(t, got)
					}
					for _, w := range got.Store.Weights() {
						if dt := got.Store.Buf(w.Name).DType(); dt != want.Store.Buf(w.Name).DType() {
							t.Errorf("%s is held in type %d, want %d", w.Name, dt, want.Store.Buf(w.Name).DType())
						} else if dt == kernels.I8 {
							narrow[dtype] = true
						}
					}
				})
			}
		}
	}
	if !narrow["int8"] {
		t.Error("no weight was held in int8")
	}
}

// checkHead checks that the stored head is what op.NewHead computes, and that it chooses the best token.
func checkHead(t *testing.T, f *Folder) {
	t.Helper()
	weight, bias := f.headNames()
	h := f.Store.Head(weight)
	if h == nil || f.Store.Head("model.norm.weight") != nil {
		t.Fatalf("%s has the head %v", weight, h)
	}
	want, err := op.NewHead(h.W, h.B)
	if err != nil {
		t.Fatal(err)
	}
	q, scales := h.Q.Int8(h.Q.C)
	wantQ, wantScales := want.Q.Int8(h.Q.C)
	if !slices.Equal(q, wantQ) || !slices.Equal(scales, wantScales) || !slices.Equal(h.Bounds.F32(), want.Bounds.F32()) {
		t.Fatal("the head is not as op.NewHead computes it")
	}
	if h.B.Absent() != (bias == "") || h.W.Pointer() != f.Store.Buf(weight).Pointer() {
		t.Fatal("the head reads other weights")
	}
	f.Store.Pack()
	defer f.Store.Unpack()
	o, r := op.NewEager(f.Store.Backend()), rand.New(rand.NewPCG(1, 2))
	x := o.New(32, h.W.C)
	for i := range x.F32() {
		x.F32()[i] = float32(r.NormFloat64())
	}
	ids := make([]int32, x.R)
	o.Top(ids, x, h)
	all := o.Linear(x, h.W, h.B, kernels.None)
	for n, id := range ids {
		row := all.F32()[n*h.W.R : (n+1)*h.W.R]
		if best := slices.Index(row, slices.Max(row)); int32(best) != id {
			t.Fatalf("row %d: token %d, want %d", n, id, best)
		}
	}
}

// smallBundle is a bundle of an SLLM and its base, in int8, the base's layers being equal.
func smallBundle(t testing.TB) (dir string, sllm, base *Folder, r *Exported) {
	fs := tinyFolders(t)
	sllm, base = fs["sllm-llama"], fs["lm-llama"]
	for _, w := range base.Weights() {
		if b := sllm.Store.Buf(w.Name); !b.Absent() && strings.Contains(w.Name, ".layers.") {
			cpu.New().Copy(b, base.Store.Buf(w.Name))
		}
	}
	dir, r = exported(t, ExportOptions{Model: modelFolder(t, sllm), Base: modelFolder(t, base), DType: "int8"})
	return dir, sllm, base, r
}

// TestBundleShares checks that equal tensors are stored and held once, and that each model of the bundle is itself.
func TestBundleShares(t *testing.T) {
	dir, sllm, base, r := smallBundle(t)
	be := cpu.New()
	b, err := OpenBundle(dir, be)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	if len(b.Models) != 2 || b.Models[0].Kind != KindSLLM || b.Models[1].Kind != KindLM || b.Shared != r.Shared {
		t.Fatalf("%d models, %d bytes shared, want %d", len(b.Models), b.Shared, r.Shared)
	}
	least := int64(0)
	for _, w := range base.Weights() {
		x, y := b.Models[0].Store.Buf(w.Name), b.Models[1].Store.Buf(w.Name)
		equal := !x.Absent() && strings.Contains(w.Name, ".layers.")
		if (x.Pointer() == y.Pointer()) != equal {
			t.Errorf("%s: the models hold it at %p and %p", w.Name, x.Pointer(), y.Pointer())
		}
		if equal {
			least += x.WeightBytes()
		}
	}
	if least == 0 || r.Shared < least {
		t.Errorf("%d bytes shared, want %d at least", r.Shared, least)
	}
	for path, f := range map[string]*Folder{dir: sllm, filepath.Join(dir, BaseFolder): base} {
		want := results(t, rounded(t, f, be, "int8"))
		i := 0
		if f == base {
			i = 1
		}
		for _, got := range []*Folder{load(t, path, be), b.Models[i]} {
			if got.Path != path {
				t.Errorf("path %s, want %s", got.Path, path)
			}
			for key, v := range results(t, got) {
				equal(t, key, v, want[key])
			}
		}
	}

	// A base that is all in its model has no file of weights.
	fs := tinyFolders(t)
	sllm, base = fs["sllm-opt"], fs["lm-opt"]
	for _, w := range base.Weights() {
		b := sllm.Store.Buf(w.Name)
		if b.Absent() {
			b = sllm.Store.Buf(strings.Replace(w.Name, "model.decoder.", "decoder.", 1))
		}
		be.Copy(b, base.Store.Buf(w.Name))
	}
	dir, r = exported(t, ExportOptions{Model: modelFolder(t, sllm), Base: modelFolder(t, base), DType: "bf16"})
	dir = filepath.Join(dir, BaseFolder)
	if _, err := os.Stat(filepath.Join(dir, bundleWeights)); !errors.Is(err, os.ErrNotExist) || r.Shared == 0 {
		t.Errorf("the base has a file of its own (%v), %d bytes shared", err, r.Shared)
	}
	equal(t, "logits", results(t, load(t, dir, be))["logits"], results(t, rounded(t, base, be, "bf16"))["logits"])

	// An autoencoder whose tables are equal holds one.
	v := tinyFolders(t)["svae-opt"]
	be.Copy(v.Store.Buf("encoder.embed_tokens.weight"), v.Store.Buf("decoder.embed_tokens.weight"))
	dir, r = exported(t, ExportOptions{Model: modelFolder(t, v), DType: "bf16"})
	if table := v.Store.Buf("encoder.embed_tokens.weight"); r.Shared < int64(2*table.Len()) {
		t.Errorf("%d bytes shared, want a table of %d elements in bf16", r.Shared, table.Len())
	}
	equal(t, "logits", results(t, load(t, dir, be))["logits"], results(t, rounded(t, v, be, "bf16"))["logits"])
}

// TestExportRefused checks what cannot be exported, that the line names the tensor, and that nothing is left.
func TestExportRefused(t *testing.T) {
	inf := float32(math.Inf(1))
	fs := tinyFolders(t)
	model, base := modelFolder(t, fs["sllm-llama"]), modelFolder(t, fs["lm-llama"])
	bundle, _ := exported(t, ExportOptions{Model: base, DType: "f32"})
	bare := tinyFolders(t)["lm-opt"]
	bare.Files = nil
	with := func(name string, x float32) string {
		f := tinyFolders(t)["lm-llama"]
		v, _ := f.Read(name)
		v[len(v)-1] = x
		f.Store.Backend().Upload(f.Store.Buf(name), v)
		return modelFolder(t, f)
	}
	const up = "model.layers.0.mlp.up_proj.weight"
	head, _ := fs["lm-llama"].headNames()
	for _, c := range []struct {
		o    ExportOptions
		want string // "" is no error
	}{
		{ExportOptions{Model: with(up, inf-inf), DType: "int8"}, `tensor "` + up + `": NaN or infinity in row`},
		{ExportOptions{Model: with(up, inf), DType: "int8"}, `tensor "` + up + `": NaN or infinity in row`},
		{ExportOptions{Model: with(up, inf), DType: "bf16"}, ""},
		{ExportOptions{Model: with(up, math.MaxFloat32), DType: "bf16"}, `tensor "` + up + `": 3.4028235e+38 is beyond bfloat16`},
		{ExportOptions{Model: with(up, math.MaxFloat32), DType: "f32"}, ""},
		{ExportOptions{Model: with(head, inf), DType: "f32"}, `tensor "` + head + `": NaN or infinity in row`},
		{ExportOptions{Model: with("model.norm.weight", inf), DType: "int8"}, ""},
		{ExportOptions{Model: base, DType: "q4"}, `dtype "q4" is not known (known: f32, bf16, int8)`},
		{ExportOptions{Model: base, Base: base, DType: "f32"}, "only a sentence model has a base"},
		{ExportOptions{Model: model, Base: model, DType: "f32"}, "want a token-level one as the base"},
		{ExportOptions{Model: bundle, DType: "f32"}, "a runtime bundle, which only runs"},
		{ExportOptions{Model: model, Base: bundle, DType: "f32"}, "a runtime bundle, which only runs"},
		{ExportOptions{Model: modelFolder(t, bare), DType: "f32"}, "holds no tokenizer"},
		{ExportOptions{Model: filepath.Join(base, "none"), DType: "f32"}, "no such model folder"},
	} {
		parent := t.TempDir()
		_, err := Export(context.Background(), filepath.Join(parent, "bundle"), c.o)
		left, _ := os.ReadDir(parent)
		switch {
		case c.want == "" && (err != nil || len(left) != 1):
			t.Errorf("%+v: %v", c.o, err)
		case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
			t.Errorf("%+v: %v, want %q", c.o, err, c.want)
		case c.want != "" && len(left) != 0:
			t.Errorf("%v left %v", err, left)
		}
	}
}

// TestNarrowStore checks that a store of narrow weights says what it cannot do.
func TestNarrowStore(t *testing.T) {
	f := tinyFolders(t)["lm-llama"]
	for _, dtype := range BundleTypes {
		dir, _ := exported(t, ExportOptions{Model: modelFolder(t, f), DType: dtype})
		got := load(t, dir, cpu.New())
		const name = "model.layers.0.mlp.up_proj.weight"
		_, err := got.Read(name)
		for what, err := range map[string]error{"read": err, "wide": got.Wide()} {
			if narrow := dtype != "f32"; (err != nil) != narrow {
				t.Errorf("%s of %s: %v", what, dtype, err)
			} else if narrow && !strings.Contains(err.Error(), "give the model folder") {
				t.Errorf("%s of %s: no way out: %v", what, dtype, err)
			}
		}
		if v, err := got.Read("model.norm.weight"); err != nil || len(v) == 0 {
			t.Errorf("a vector of %s: %v", dtype, err)
		}
		if err := got.Store.Init(1, nil); err == nil {
			t.Errorf("the weights of a bundle in %s were started anew", dtype)
		}
		for _, name := range []string{name, "model.embed_tokens.weight", "model.norm.weight"} {
			if x, y := got.Store.Spread(name), f.Store.Spread(name); math.Abs(x-y) > 0.01*y {
				t.Errorf("the spread of %s in %s is %g, want %g", name, dtype, x, y)
			}
		}
	}
}

// TestExportStopped stops an export on its way, by its context and by killing the process. Nothing is seen of it, and what
// was there before stays.
func TestExportStopped(t *testing.T) {
	const child = "SVAE_TEST_EXPORT"
	die := func() {}
	export := func(model, out string, force bool) error {
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		_, err := Export(ctx, out, ExportOptions{Model: model, DType: "f32", Force: force, Progress: func(done, total int64) {
			if done > total/2 {
				die()
				cancel()
			}
		}})
		return err
	}
	if args := os.Getenv(child); args != "" {
		p, err := os.FindProcess(os.Getpid())
		if err != nil {
			t.Fatal(err)
		}
		die = func() { p.Kill(); select {} }
		model, out, _ := strings.Cut(args, "\n")
		t.Fatalf("went on: %v", export(model, out, true))
	}
	model := modelFolder(t, tinyFolders(t)["lm-gpt2"])
	parent := t.TempDir()
	out := filepath.Join(parent, "bundle")
	names := func() []string {
		es, _ := os.ReadDir(parent)
		var ns []string
		for _, e := range es {
			ns = append(ns, e.Name())
		}
		return ns
	}
	if err := export(model, out, false); !errors.Is(err, context.Canceled) || len(names()) != 0 {
		t.Fatalf("cancelled: %v, left %v", err, names())
	}
	if _, err := Export(context.Background(), out, ExportOptions{Model: model, DType: "int8"}); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestExportStopped$")
	cmd.Env = append(os.Environ(), child+"="+model+"\n"+out)
	text, err := cmd.CombinedOutput()
	if exit := (*exec.ExitError)(nil); !errors.As(err, &exit) || exit.Exited() {
		t.Fatalf("the child was not killed: %v: %s", err, text)
	}
	if len(names()) != 2 {
		t.Fatalf("%v is there, want the bundle and what the killed process left", names())
	}
	if f := load(t, out, cpu.New()); f.Bundle != "int8" {
		t.Fatalf("the bundle from before is one in %s", f.Bundle)
	}
	if _, err := Export(context.Background(), out, ExportOptions{Model: model, DType: "f32", Force: true}); err != nil {
		t.Fatal(err)
	}
	checkpoints.RemoveTemp(parent)
	if f := load(t, out, cpu.New()); f.Bundle != "f32" || !slices.Equal(names(), []string{"bundle"}) {
		t.Errorf("in the end there are %v, the bundle in %s", names(), f.Bundle)
	}
}

// TestBundleRepeats checks that the same model gives the same bytes, and that types of real weights stay near them.
func TestBundleRepeats(t *testing.T) {
	root := os.Getenv("SVAE_TESTDATA")
	model := filepath.Join(root, "models", "stories260K", "hf")
	if _, err := os.Stat(model); root == "" || err != nil {
		t.Skip("stories260K is not there")
	}
	ids := []int32{1, 403, 407, 261, 378}
	want := logits(t, load(t, model, cpu.New()), ids)
	for dtype, most := range map[string]float64{"f32": 0, "bf16": 0.03, "int8": 0.1} {
		dir, _ := exported(t, ExportOptions{Model: model, DType: dtype})
		again, _ := exported(t, ExportOptions{Model: model, DType: dtype})
		for _, name := range []string{BundleFile, checkpoints.ManifestName, bundleWeights} {
			a, err := os.ReadFile(filepath.Join(dir, name))
			if err != nil {
				t.Fatal(err)
			}
			if b, err := os.ReadFile(filepath.Join(again, name)); err != nil || !slices.Equal(a, b) {
				t.Errorf("%s of %s differs the second time (%v)", name, dtype, err)
			}
		}
		off, size := 0.0, 0.0
		for i, v := range logits(t, load(t, dir, cpu.New()), ids) {
			off += (v - want[i]) * (v - want[i])
			size += want[i] * want[i]
		}
		if d := math.Sqrt(off / size); d > most || dtype != "f32" && d == 0 {
			t.Errorf("logits in %s are off by %.4f of their size, want %g at most", dtype, d, most)
		}
	}
}
