package sllm

import (
	"bytes"
	"encoding/json"
	"errors"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"svae/checkpoints"
	"svae/kernels"
	"svae/kernels/op"
	"svae/vae"
	"svae/vae/vaetest"
)

var references = []string{"svae", "svae-la", "svae-norm-first", "sllm", "sllm-post"}

func openWeights(t *testing.T, path string) *checkpoints.Weights {
	t.Helper()
	w, err := checkpoints.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.Close() })
	return w
}

// openReference reads a file that PyTorch wrote, and its outputs.
func openReference(t *testing.T, name string) (src, golden *checkpoints.Weights, o ReferenceOptions) {
	t.Helper()
	src = openWeights(t, "testdata/reference/"+name+".pth")
	golden = openWeights(t, "testdata/reference/"+name+".safetensors")
	var opts struct {
		Heads     int  `json:"heads"`
		NormFirst bool `json:"norm_first"`
		PostNorm  bool `json:"post_norm"`
	}
	if err := json.Unmarshal([]byte(golden.Metadata()["options"]), &opts); err != nil {
		t.Fatal(err)
	}
	return src, golden, ReferenceOptions{Heads: opts.Heads, normFirst: opts.NormFirst, postNorm: opts.PostNorm}
}

// storeOf uploads a model's tensors.
func storeOf(t *testing.T, f *Folder, tensors map[string]*checkpoints.Tensor, be kernels.Backend) *vae.Store {
	t.Helper()
	s, err := vae.NewStore(be, f.Weights())
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range s.Weights() {
		be.Upload(s.Buf(w.Name), values(t, tensors[w.Name]))
	}
	return s
}

func values(t *testing.T, x *checkpoints.Tensor) []float32 {
	t.Helper()
	v := make([]float32, x.Len())
	if err := x.Float32(v); err != nil {
		t.Fatal(err)
	}
	return v
}

// outputs computes what a fixture holds.
func outputs(t *testing.T, f *Folder, s *vae.Store, ids, sent []int32) map[string][]float64 {
	t.Helper()
	o := op.NewEager(s.Backend())
	c := f.SVAEConfig()
	doc := []int32{0, int32(len(sent) - 1)}
	out := map[string]op.Mat{}
	if f.Kind == KindVAE {
		var feed vae.Feed
		feed.Set(c, ids, sent, doc, nil)
		m := vae.New(c, s.Mat)
		z := m.Encoder.Encode(o, &feed.Enc)
		x := m.Decoder.Decode(o, &feed.Dec, m.Decoder.Memory(z, &feed.Dec), nil)
		out["latents"], out["logits"] = z, o.Linear(x, m.Decoder.Head, m.Decoder.Bias, kernels.None)
	} else {
		var feed Feed
		feed.Set(&f.SLLM, ids, sent, doc, []bool{true}, nil, Real)
		m := New(&f.SLLM, s.Mat)
		z := m.Encoder.Encode(o, &feed.Enc)
		h := m.Hidden(o, z, &feed)
		x := m.Decoder.Decode(o, &feed.Dec, m.Decoder.Memory(m.Plan(o, m.plans(o, &feed, h)), &feed.Dec), nil)
		out["latents"], out["hidden"], out["stop"] = z, h, o.Linear(h, m.stop.W, m.stop.B, kernels.None)
		out["logits"] = o.Linear(x, m.Decoder.Head, m.Decoder.Bias, kernels.None)
	}
	if err := o.Err(); err != nil {
		t.Fatal(err)
	}
	vs := map[string][]float64{}
	for name, m := range out {
		vs[name] = vaetest.Host(s.Backend(), m.Buf)
	}
	return vs
}

func ints(t *testing.T, w *checkpoints.Weights, name string) []int32 {
	t.Helper()
	x, ok := w.Get(name)
	if !ok {
		t.Fatalf("no tensor %s", name)
	}
	var v []int32
	for _, f := range values(t, x) {
		v = append(v, int32(f))
	}
	return v
}

// TestReferenceGolden reads files that PyTorch wrote and compares what the models compute. Float64 differs from PyTorch by
// the fixed positions, which are float32 here; float32 by its rounding over some ten operations.
func TestReferenceGolden(t *testing.T) {
	for _, name := range references {
		for be, backend := range vaetest.Backends() {
			t.Run(name+"/"+be, func(t *testing.T) {
				src, golden, opts := openReference(t, name)
				f, tensors, err := ReadReference(src, opts)
				if err != nil {
					t.Fatal(err)
				}
				got := outputs(t, f, storeOf(t, f, tensors, backend), ints(t, golden, "ids"), ints(t, golden, "sent"))
				if want := len(golden.Names()) - 2; len(got) != want {
					t.Errorf("%d outputs, the fixture has %d", len(got), want)
				}
				for key, v := range got {
					x, ok := golden.Get(key)
					if !ok {
						t.Errorf("the fixture has no %s", key)
						continue
					}
					want := values(t, x)
					if len(v) != len(want) {
						t.Errorf("%s: %d elements, want %d", key, len(v), len(want))
						continue
					}
					for i := range v {
						if math.Abs(v[i]-float64(want[i])) > 1e-5*(1+math.Abs(float64(want[i]))) {
							t.Errorf("%s[%d] is %g, PyTorch's %g", key, i, v[i], want[i])
							break
						}
					}
				}
			})
		}
	}
}

// TestReferenceRoundTrip writes every model again: the same names in the same types, to the bit. What a file does not say, and
// its sizes do not either, is refused.
func TestReferenceRoundTrip(t *testing.T) {
	for _, name := range references {
		t.Run(name, func(t *testing.T) {
			src, _, opts := openReference(t, name)
			f, tensors, err := ReadReference(src, opts)
			if err != nil {
				t.Fatal(err)
			}
			if n := ReferenceHeads(f); n != opts.Heads {
				t.Errorf("to be read with %d heads, want %d", n, opts.Heads)
			}
			ns, err := WriteReference(f, tensors)
			if opts.normFirst || opts.postNorm {
				if err == nil || !strings.Contains(err.Error(), "whose norms stand") {
					t.Errorf("error %v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			var b bytes.Buffer
			if err := checkpoints.WriteTorch(&b, ns, checkpoints.TorchOptions{Key: "state_dict", Meta: map[string]any{"meta": map[string]any{"epoch": 0}}}); err != nil {
				t.Fatal(err)
			}
			path := filepath.Join(t.TempDir(), "again.pth")
			if err := os.WriteFile(path, b.Bytes(), 0o666); err != nil {
				t.Fatal(err)
			}
			again := openWeights(t, path)
			want := slices.DeleteFunc(src.Names(), isTrainingState)
			if !slices.Equal(again.Names(), want) {
				t.Fatalf("names are %q, want %q", again.Names(), want)
			}
			for _, n := range want {
				x, _ := src.Get(n)
				y, _ := again.Get(n)
				a, errA := x.Raw()
				b, errB := y.Raw()
				if errA != nil || errB != nil || !slices.Equal(x.Shape, y.Shape) || x.DType != y.DType || !bytes.Equal(a, b) {
					t.Errorf("%s is not the same: %v %v, %v %v, %v %v", n, x.DType, x.Shape, y.DType, y.Shape, errA, errB)
				}
			}
			g, _, err := ReadReference(again, opts)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(f.Raw, g.Raw) {
				t.Errorf("config.json is then\n%s\nwas\n%s", g.Raw, f.Raw)
			}
		})
	}
}

// TestReferenceFolder writes an imported model as a model folder and reads it: nothing is lost, and it generates.
func TestReferenceFolder(t *testing.T) {
	src, golden, opts := openReference(t, "sllm")
	f, tensors, err := ReadReference(src, opts)
	if err != nil {
		t.Fatal(err)
	}
	be := vaetest.Backends()["cpu"]
	f.Store = storeOf(t, f, tensors, be)
	dir := filepath.Join(t.TempDir(), "model")
	d, err := checkpoints.CreateDir(dir, false)
	if err == nil {
		err = errors.Join(f.Write(d), d.Commit())
	}
	if err != nil {
		t.Fatal(err)
	}
	g, err := Load(dir, be)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(g.Raw, f.Raw) || g.SLLM.Attention != BidirectionalTrained || !g.SLLM.Direct || string(g.Kind) != "sllm" {
		t.Errorf("config.json is then\n%s\nwas\n%s", g.Raw, f.Raw)
	}
	if w := strings.Join(g.Warnings(), "\n"); !strings.Contains(w, "bidirectional attention") || !strings.Contains(w, "first sentence") {
		t.Errorf("warnings are %q", w)
	}
	ids, sent := ints(t, golden, "ids"), ints(t, golden, "sent")
	want := outputs(t, f, f.Store, ids, sent)
	got := outputs(t, g, g.Store, ids, sent)
	for key := range want {
		if !slices.Equal(got[key], want[key]) {
			t.Errorf("%s differs after writing and reading", key)
		}
	}
	for _, prompt := range [][][]int32{nil, {ids[:4]}, {ids[:4], ids[4:5]}} {
		_, res := generate(t, NewEngine(&g.SLLM, g.Store), Request{Sentences: prompt, MaxTokens: 30, MaxSentences: 3, IgnoreStop: true})
		if res.Sentences == 0 {
			t.Errorf("after %d sentences it writes %d", len(prompt), res.Sentences)
		}
	}
}

// changed returns a file of the given tensors.
func changed(t *testing.T, src *checkpoints.Weights, edit func(ns map[string]checkpoints.Named)) *checkpoints.Weights {
	t.Helper()
	ns := map[string]checkpoints.Named{}
	for _, n := range src.Names() {
		x, _ := src.Get(n)
		ns[n] = checkpoints.FromTensor(x)
	}
	edit(ns)
	var list []checkpoints.Named
	for name, n := range ns {
		n.Name = name
		list = append(list, n)
	}
	slices.SortFunc(list, func(a, b checkpoints.Named) int { return strings.Compare(a.Name, b.Name) })
	var b bytes.Buffer
	path := filepath.Join(t.TempDir(), "changed.pth")
	err := checkpoints.WriteTorch(&b, list, checkpoints.TorchOptions{})
	if err == nil {
		err = os.WriteFile(path, b.Bytes(), 0o666)
	}
	if err != nil {
		t.Fatal(err)
	}
	return openWeights(t, path)
}

func TestReferenceRefused(t *testing.T) {
	src, _, _ := openReference(t, "sllm")
	type named = map[string]checkpoints.Named
	for name, c := range map[string]struct {
		edit  func(named)
		heads int
		want  string
	}{
		"heads unknown":      {heads: 0, want: "hidden size 16 is none of OPT's, so the number of attention heads is not known (--heads N)"},
		"heads not dividing": {heads: 3, want: "3 heads do not divide the hidden size 16"},
		"heads negative":     {heads: -4, want: "do not divide"},
		"missing":            {edit: func(n named) { delete(n, "svae.decoder.linear.bias"); delete(n, "fc.weight") }, heads: 4, want: "missing svae.decoder.linear.bias [40]; missing fc.weight [2 16]"},
		"unexpected":         {edit: func(n named) { n["svae.x"] = n["fc.weight"] }, heads: 4, want: "unexpected svae.x"},
		"mis-shaped":         {edit: func(n named) { n["svae.encoder.encoder.layers.0.self_attn.in_proj_bias"] = n["fc.bias"] }, heads: 4, want: "svae.encoder.encoder.layers.0.self_attn.in_proj_bias is [2], want [48]"},
		"no table":           {edit: func(n named) { delete(n, "svae.encoder.embed_token.weight") }, heads: 4, want: "no tensor svae.encoder.embed_token.weight"},
		"flat table":         {edit: func(n named) { n["svae.encoder.embed_token.weight"] = n["fc.bias"] }, heads: 4, want: "svae.encoder.embed_token.weight is [2], want 2 dimensions"},
		"no positions":       {edit: func(n named) { n["llm_pe.weight"] = n["fc.weight"] }, heads: 4, want: "max_position_embeddings 0 is out of range"},
		"no layers":          {edit: func(n named) { delete(n, "svae.encoder.encoder.layers.0.linear1.weight") }, heads: 4, want: "layers.0.linear1.weight"},
	} {
		t.Run(name, func(t *testing.T) {
			w := src
			if c.edit != nil {
				w = changed(t, src, c.edit)
			}
			_, _, err := ReadReference(w, ReferenceOptions{Heads: c.heads})
			if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("error %v, want %q in it", err, c.want)
			}
		})
	}
	if !IsReference(src) || IsReference(openWeights(t, "testdata/sllm-opt.safetensors")) {
		t.Error("IsReference takes one for the other")
	}
}

func TestReferenceUnheld(t *testing.T) {
	paper := func() *Folder { return &Folder{Kind: KindVAE, SVAE: vae.Paper(tinyOPT(false))} }
	if _, err := WriteReference(paper(), memTensors(paper())); err != nil {
		t.Errorf("the paper's autoencoder is refused: %v", err)
	}
	for want, f := range map[string]*Folder{
		"a token-level model":           {Kind: KindLM, LM: tinyOPT(false)},
		"blocks other than the paper's": {Kind: KindVAE, SVAE: vae.Default(tinyLlama())},
		"a head that is the embedding table, a cross-attention without query and key maps": {Kind: KindVAE, SVAE: vae.Default(tinyOPT(false))},
		"a start-of-document latent and maps between latents and the base's layers":        {Kind: KindSLLM, SLLM: Config{Base: tinyOPT(false), VAE: vae.Paper(tinyOPT(false)), LatentScale: 1}},
		"the base's final norm":       {Kind: KindSLLM, SLLM: Config{Base: tinyOPT(false), VAE: vae.Paper(tinyOPT(false)), LatentScale: 1, Direct: true}},
		"layers of a base other than": {Kind: KindSLLM, SLLM: Config{Base: tinyGPT2(), VAE: vae.Paper(tinyOPT(false)), LatentScale: 1, Direct: true}},
		"more than one latent":        func() *Folder { f := paper(); f.SVAE.Latents = 2; return f }(),
		"as context":                  func() *Folder { f := paper(); f.SVAE.Context = 2; return f }(),
		"without an end mark":         func() *Folder { f := paper(); f.SVAE.EndMark = false; return f }(),
		"without a begin mark":        func() *Folder { f := paper(); f.SVAE.EncoderBOS = false; return f }(),
		"feed-forward size of":        func() *Folder { f := paper(); f.SVAE.Arch.FFNDim = 17; return f }(),
		"whose norms stand before":    func() *Folder { f := paper(); f.SVAE.Arch.PreNorm = nil; return f }(),
		"norms stand before their":    func() *Folder { f := paper(); f.SVAE.Arch.PreNorm, f.SVAE.Arch.NoFinalNorm = nil, true; return f }(),
		"other than the paper's":      func() *Folder { f := paper(); f.SVAE.Arch.EnableBias = new(bool); return f }(),
		"cannot hold autoencoder":     func() *Folder { f := paper(); f.SVAE.Arch.NormAffine = new(bool); return f }(),
		"heads of the base":           direct(func(c *Config) { c.Base.NumHeads, c.Base.NumKVHeads, c.Base.HeadDim = 2, 2, 8 }),
		"all the start-of-document's": direct(func(c *Config) { c.Null = true }),
		"norms stand behind its sums": direct(func(c *Config) { c.Base.PreNorm = new(bool) }),
		"a base of the size of OPT-350M whose norms stand before": direct(func(c *Config) {
			c.Base.HiddenSize, c.Base.EmbedDim, c.Base.NumLayers, c.VAE.Arch.HiddenSize, c.VAE.Arch.FFNDim = 1024, 1024, 24, 1024, 2048
		}),
	} {
		_, err := WriteReference(f, nil)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want %q in it", err, want)
		}
	}
}

// direct returns a sentence-level model that a reference file can hold, but for a change.
func direct(change func(*Config)) *Folder {
	base := tinyOPT(false)
	base.NoFinalNorm = true
	f := &Folder{Kind: KindSLLM, SLLM: Config{Base: base, VAE: vae.Paper(base), LatentScale: 1, Direct: true}}
	change(&f.SLLM)
	return f
}

// TestReferenceHeads checks which files need to be told how many heads there are.
func TestReferenceHeads(t *testing.T) {
	for want, f := range map[int]*Folder{
		4: direct(func(*Config) {}),
		0: {Kind: KindVAE, SVAE: vae.Paper(vae.Arch{HiddenSize: 768, NumHeads: 12})},
		8: {Kind: KindVAE, SVAE: vae.Paper(vae.Arch{HiddenSize: 768, NumHeads: 8})},
	} {
		if got := ReferenceHeads(f); got != want {
			t.Errorf("%d heads, want %d", got, want)
		}
	}
	if got := ReferenceHeads(&Folder{Kind: KindLM, LM: tinyOPT(false)}); got != 0 {
		t.Errorf("a token-level model: %d heads", got)
	}
	ok := direct(func(*Config) {})
	if _, err := WriteReference(ok, memTensors(ok)); err != nil {
		t.Errorf("a sentence-level model of the reference's is refused: %v", err)
	}
}

// TestWindowWarning checks that a model within its sliding window is said to be so.
func TestWindowWarning(t *testing.T) {
	a, err := vae.ParseArch([]byte(`{"model_type":"mistral","hidden_size":64,"num_hidden_layers":2,"num_attention_heads":8,"intermediate_size":20,
		"vocab_size":50,"max_position_embeddings":32,"sliding_window":20}`))
	if err != nil {
		t.Fatal(err)
	}
	f := &Folder{Kind: KindLM, LM: a}
	if w := f.Warnings(); len(w) != 1 || !strings.Contains(w[0], "within its sliding window of 20 positions") {
		t.Errorf("warnings %q", w)
	}
	if f.LM.Positions = 32; len(f.Warnings()) > 0 {
		t.Errorf("warnings %q", f.Warnings())
	}
}

// memTensors makes tensors of zeros for a model.
func memTensors(f *Folder) map[string]*checkpoints.Tensor {
	ts := map[string]*checkpoints.Tensor{}
	for _, w := range f.Weights() {
		ts[w.Name] = checkpoints.MemTensor(w.Name, w.Shape, make([]float32, w.Elements()))
	}
	return ts
}

// TestReferenceSizes checks what is taken from the shapes of files as large as the released ones, without their data.
func TestReferenceSizes(t *testing.T) {
	for _, c := range []struct{ h, e, layers, heads, params int }{
		{768, 768, 1, 12, 127_700_000}, {1024, 1024, 2, 16, 196_500_000}, {1024, 512, 1, 16, 125_100_000}, {2048, 2048, 1, 32, 392_900_000},
	} {
		base := vae.Arch{ModelType: "opt", HiddenSize: c.h, NumLayers: 1, NumHeads: c.heads, VocabSize: 50272, BOS: 2, EOS: 2, PAD: 1}
		f := &Folder{Kind: KindVAE, SVAE: vae.Paper(base)}
		f.SVAE.EncoderLayers, f.SVAE.DecoderLayers, f.SVAE.Arch.EmbedDim = c.layers, c.layers, c.e
		if err := f.SVAE.Validate(); err != nil {
			t.Fatal(err)
		}
		n := 0
		for _, w := range f.Weights() {
			n += w.Elements()
		}
		if math.Abs(float64(n-c.params)) > 100_000 {
			t.Errorf("h %d, e %d, %d layers: %d parameters, the paper's table says %d", c.h, c.e, c.layers, n, c.params)
		}
		if got := referenceBases[c.h].heads; got != c.heads {
			t.Errorf("h %d: %d heads, want %d", c.h, got, c.heads)
		}
	}
}
