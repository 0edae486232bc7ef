// Package vaetest helps to test models: it reads what PyTorch computed and compares, and makes small random models.
package vaetest

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"gorgonia.org/gorgonia"

	"svae/checkpoints"
	"svae/kernels"
	"svae/kernels/cpu"
	"svae/kernels/op"
	"svae/kernels/ref"
	"svae/vae"
)

// Golden is a model that PyTorch computed in float64, padded and under masks; testdata/make.py says what a file holds.
type Golden struct {
	t    *testing.T
	file *checkpoints.Weights
	tol  tolerance
	cfg  struct {
		Family     string  `json:"family"`
		HiddenSize int     `json:"hidden_size"`
		EmbedDim   int     `json:"word_embed_proj_dim"`
		Heads      int     `json:"num_attention_heads"`
		KVHeads    int     `json:"num_key_value_heads"`
		FFN        int     `json:"ffn_dim"`
		Layers     int     `json:"num_layers"`
		Encoder    int     `json:"encoder_layers"`
		Decoder    int     `json:"decoder_layers"`
		Vocab      int     `json:"vocab_size"`
		Positions  int     `json:"max_positions"`
		PostNorm   bool    `json:"post_norm"`
		Latents    int     `json:"latents"`
		Context    int     `json:"context"`
		EndMark    bool    `json:"end_mark"`
		BOS        int32   `json:"bos"`
		EOS        int32   `json:"eos"`
		Gamma      float64 `json:"gamma"`
		Tied       bool    `json:"tied"`
		RopeTheta  float64 `json:"rope_theta"`
		NormEps    float64 `json:"norm_eps"`
	}
	worst map[string]float64
}

// tolerance is how far results may be from PyTorch's, as a share of the largest element of the tensor.
type tolerance struct{ rows, nats, loss, grads, losses float64 }

// Float64: the files hold outputs and gradients in float32, whose rounding is 6e-8; the fixed positions of the paper's
// model are float32 here and float64 there.
//
// Float32: rows pass some ten operations over 16 to 24 terms, each rounding to 6e-8 of the largest partial sum, and a
// LayerNorm of a sum, which multiplies what cancelled; nats add the differences of logits of size 5 to 10; gradients
// pass twice as many operations; the loss averages its errors out. Ten steps of AdamW divide gradients by their own
// size, so that elements near zero move by their rounding error.
var tolerances = map[kernels.DType]tolerance{
	kernels.F64: {rows: 1e-7, nats: 1e-7, loss: 1e-8, grads: 1e-7, losses: 1e-8},
	kernels.F32: {rows: 5e-6, nats: 5e-6, loss: 1e-6, grads: 3e-5, losses: 3e-5},
}

// Backends are all that can run on the host.
func Backends() map[string]kernels.Backend {
	return map[string]kernels.Backend{"ref64": ref.New(kernels.F64), "ref32": ref.New(kernels.F32), "cpu": cpu.New()}
}

// Open opens a fixture to compare with what a backend of an element type computes.
func Open(t *testing.T, path string, dt kernels.DType) *Golden {
	t.Helper()
	f, err := checkpoints.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	g := &Golden{t: t, file: f, tol: tolerances[dt], worst: map[string]float64{}}
	if err := json.Unmarshal([]byte(f.Metadata()["config"]), &g.cfg); err != nil {
		t.Fatal(err)
	}
	return g
}

// Arch is the architecture of the blocks.
func (g *Golden) Arch() vae.Arch {
	c, pre := &g.cfg, !g.cfg.PostNorm
	a := vae.Arch{ModelType: c.Family, HiddenSize: c.HiddenSize, NumLayers: c.Layers, NumHeads: c.Heads, NumKVHeads: c.KVHeads,
		HeadDim: c.HiddenSize / c.Heads, VocabSize: c.Vocab, Positions: c.Positions, Tied: c.Tied, BOS: c.BOS, EOS: c.EOS}
	if c.Family == "llama" {
		a.Intermediate, a.RMSNormEps, a.RopeTheta = c.FFN, c.NormEps, c.RopeTheta
		return a
	}
	a.ModelType, a.FFNDim, a.EmbedDim, a.PreNorm, a.Act, a.Sinusoid = "opt", c.FFN, c.EmbedDim, &pre, "relu", c.Family == "paper"
	return a
}

// Config is that of the autoencoder.
func (g *Golden) Config() vae.Config {
	c, paper := &g.cfg, g.cfg.Family == "paper"
	return vae.Config{Arch: g.Arch(), EncoderLayers: c.Encoder, DecoderLayers: c.Decoder, Latents: c.Latents, Context: c.Context,
		EndMark: c.EndMark, EncoderBOS: paper, UntiedHead: !c.Tied, CrossQK: paper, Gamma: c.Gamma, MaxSentence: 9}
}

// raw returns a tensor's elements as bytes, in words of a given size.
func (g *Golden) raw(name, dtype string) []byte {
	g.t.Helper()
	x, ok := g.file.Get(name)
	if !ok || x.TypeName != dtype {
		g.t.Fatalf("no tensor %s of type %s", name, dtype)
	}
	b, err := x.Raw()
	if err != nil {
		g.t.Fatal(err)
	}
	return b
}

// Ints returns a tensor of integers.
func (g *Golden) Ints(name string) []int32 {
	b := g.raw(name, "I32")
	v := make([]int32, len(b)/4)
	for i := range v {
		v[i] = int32(binary.LittleEndian.Uint32(b[4*i:]))
	}
	return v
}

// Bools returns a tensor of integers as truth values.
func (g *Golden) Bools(name string) []bool {
	var v []bool
	for _, i := range g.Ints(name) {
		v = append(v, i != 0)
	}
	return v
}

func (g *Golden) doubles(name string) []float64 {
	b := g.raw(name, "F64")
	v := make([]float64, len(b)/8)
	for i := range v {
		v[i] = math.Float64frombits(binary.LittleEndian.Uint64(b[8*i:]))
	}
	return v
}

func (g *Golden) singles(name string) []float64 {
	b := g.raw(name, "F32")
	v := make([]float64, len(b)/4)
	for i := range v {
		v[i] = float64(math.Float32frombits(binary.LittleEndian.Uint32(b[4*i:])))
	}
	return v
}

// Store loads the weights; there must be no other in the file.
func (g *Golden) Store(be kernels.Backend, ws []vae.Weight) *vae.Store {
	g.t.Helper()
	s, err := vae.NewStore(be, ws)
	if err != nil {
		g.t.Fatal(err)
	}
	for _, w := range ws {
		x, ok := g.file.Get("w." + w.Name)
		if !ok {
			g.t.Fatalf("the file has no weight %s", w.Name)
		}
		v := make([]float32, w.Elements())
		if err := x.Float32(v); err != nil {
			g.t.Fatal(err)
		}
		be.Upload(s.Buf(w.Name), v)
	}
	for _, name := range g.file.Names() {
		if w, ok := strings.CutPrefix(name, "w."); ok && s.Buf(w).Absent() {
			g.t.Errorf("the model has no weight %s", w)
		}
	}
	return s
}

// near fails unless got is want but for tol of scale.
func (g *Golden) near(kind, what string, got, want []float64, tol, scale float64) {
	g.t.Helper()
	if len(got) != len(want) {
		g.t.Errorf("%s: %d elements, want %d", what, len(got), len(want))
		return
	}
	for i := range got {
		off := math.Abs(got[i]-want[i]) / scale
		g.worst[kind] = max(g.worst[kind], off)
		if !(off <= tol) {
			g.t.Errorf("%s[%d] is %.9g, PyTorch's %.9g: off by %.2g of %.3g, more than %.0e", what, i, got[i], want[i], off, scale, tol)
			return
		}
	}
}

// largest returns the largest absolute value.
func largest(v []float64) float64 {
	m := 0.0
	for _, x := range v {
		m = max(m, math.Abs(x))
	}
	return m
}

// Rows compares a tensor of the file with a matrix.
func (g *Golden) Rows(be kernels.Backend, name string, m op.Mat) {
	g.t.Helper()
	want := g.singles(name)
	g.near(name, name, Host(be, m.Buf), want, g.tol.rows, largest(want))
}

// Nats compares the losses of rows, all in nats.
func (g *Golden) Nats(name string, got []float64) {
	g.t.Helper()
	want := g.singles(name)
	g.near(name, name, got, want, g.tol.nats, largest(want))
}

// Loss compares the loss of the batch.
func (g *Golden) Loss(got float64) {
	g.t.Helper()
	want := g.doubles("loss")
	g.near("loss", "loss", []float64{got}, want, g.tol.loss, want[0])
}

// Host copies a buffer.
func Host(be kernels.Backend, b kernels.Buf) []float64 {
	if b.DType() == kernels.F64 {
		return append([]float64{}, kernels.Host[float64](b)...)
	}
	f := make([]float32, b.Len())
	be.Download(f, b)
	v := make([]float64, len(f))
	for i := range f {
		v[i] = float64(f[i])
	}
	return v
}

// grads compares all gradients. Two kinds are zero in exact arithmetic: those of a key's bias without rotation, which
// shifts all scores of a row alike, where rounding is measured on the scale of the key's weight; and those of the query
// and key of an attention over one row, which we do not compute at all.
func (g *Golden) grads(be kernels.Backend, grads []op.Grad) {
	g.t.Helper()
	for _, d := range grads {
		want := g.singles("g." + d.Name)
		scale := largest(want)
		switch {
		case d.Data.Absent():
			if scale > 1e-12 {
				g.t.Errorf("gradient of %s is absent, PyTorch's is up to %g", d.Name, scale)
			}
			continue
		case strings.HasSuffix(d.Name, "k_proj.bias"):
			scale = largest(g.singles("g." + strings.TrimSuffix(d.Name, "bias") + "weight"))
		}
		g.near("grads", "gradient of "+d.Name, Host(be, d.Data), want, g.tol.grads, scale)
	}
}

// Train compares the losses of ten steps of AdamW on a graph over the weights of s, and of the first run the loss and
// all gradients. It calls first after that.
func (g *Golden) Train(s *vae.Store, m *op.Machine, first func()) {
	g.t.Helper()
	be, want := s.Backend(), g.doubles("losses")
	count := float64(len(g.singles("nats")))
	moments := map[string][2]kernels.Buf{}
	for step := range want {
		loss, err := m.Run(0)
		if err != nil {
			g.t.Fatal(err)
		}
		if step == 0 {
			g.Loss(loss)
			g.grads(be, m.Grads())
			first()
		}
		g.near("losses", fmt.Sprint("loss of step ", step), []float64{loss / count}, want[step:step+1], g.tol.losses, want[step])
		for _, d := range m.Grads() {
			n := d.Data.Len()
			if d.Data.Absent() {
				continue
			}
			if step == 0 {
				moments[d.Name] = [2]kernels.Buf{be.Alloc(n), be.Alloc(n)}
			}
			be.AdamW(s.Buf(d.Name), moments[d.Name][0], moments[d.Name][1], d.Data, kernels.AdamW{LR: 1e-2, Beta1: 0.9,
				Beta2: 0.95, Eps: 1e-8, WeightDecay: 0.01, GradScale: 1 / count, Step: step + 1}, n)
		}
	}
	for _, kind := range slices.Sorted(maps.Keys(g.worst)) {
		g.t.Logf("largest deviation of %s: %.1e", kind, g.worst[kind])
	}
}

// RandomStore fills every weight with noise around its start, so that nothing vanishes by construction.
func RandomStore(t testing.TB, be kernels.Backend, ws []vae.Weight, seed uint64) *vae.Store {
	t.Helper()
	s, err := vae.NewStore(be, ws)
	if err != nil {
		t.Fatal(err)
	}
	r := rand.New(rand.NewPCG(seed, 2))
	for _, w := range ws {
		v := make([]float32, w.Elements())
		for i := range v {
			v[i] = float32(r.NormFloat64() * 0.3)
			if len(w.Shape) == 1 && w.One != 0 {
				v[i]++
			}
		}
		be.Upload(s.Buf(w.Name), v)
	}
	return s
}

// Graph returns a Build over graph nodes that share the weights' memory.
func Graph(g *op.Graph, s *vae.Store) vae.Build[*gorgonia.Node] {
	return func(w vae.Weight) *gorgonia.Node { return g.Param(w.Name, w.Shape, s.Mat(w).Buf, w.Const == nil) }
}
