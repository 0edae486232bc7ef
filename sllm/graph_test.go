package sllm

import (
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"svae/kernels"
	"svae/kernels/op"
	"svae/kernels/ref"
	"svae/vae"
	"svae/vae/vaetest"
)

func tinyOPT(post bool) vae.Arch {
	pre := !post
	a := vae.Arch{ModelType: "opt", HiddenSize: 16, NumLayers: 2, NumHeads: 4, NumKVHeads: 4, HeadDim: 4, VocabSize: 50, Positions: 60,
		Tied: true, BOS: 2, EOS: 2, PAD: 1, FFNDim: 24, EmbedDim: 16, PreNorm: &pre, Act: "relu"}
	if post {
		a.EmbedDim = 8
	}
	return a
}

func tinyLlama() vae.Arch {
	return vae.Arch{ModelType: "llama", HiddenSize: 16, NumLayers: 2, NumHeads: 4, NumKVHeads: 2, HeadDim: 4, VocabSize: 50, Positions: 64,
		Tied: false, BOS: 1, EOS: 2, PAD: 0, Intermediate: 24, RMSNormEps: 1e-5, RopeTheta: 10000}
}

func tinyGPT2() vae.Arch {
	return vae.Arch{ModelType: "gpt2", HiddenSize: 16, NumLayers: 2, NumHeads: 4, NumKVHeads: 4, HeadDim: 4, VocabSize: 50, Positions: 60,
		Tied: true, BOS: 2, EOS: 2, PAD: -1, FFNDim: 24}
}

func tinyQwen3() vae.Arch {
	a := tinyLlama()
	a.ModelType, a.HeadDim = "qwen3", 6
	return a
}

func tinyGemma() vae.Arch {
	a := tinyLlama()
	a.ModelType, a.HiddenAct, a.Tied = "gemma", "gelu_pytorch_tanh", true
	return a
}

// tinyBases are one base of each make, by name.
func tinyBases() map[string]vae.Arch {
	return map[string]vae.Arch{"opt": tinyOPT(false), "opt-post": tinyOPT(true), "llama": tinyLlama(), "gpt2": tinyGPT2(), "qwen3": tinyQwen3(),
		"gemma": tinyGemma()}
}

// tinyConfigs are one of each kind of model, by name.
func tinyConfigs() map[string]Config {
	cs := map[string]Config{}
	for name, base := range tinyBases() {
		cs[name] = Config{Base: base, VAE: vae.Default(base), LatentScale: 0.3}
	}
	c := cs["llama"]
	c.VAE.Latents, c.VAE.Context, c.AELoss = 2, 3, 0.5
	cs["llama-k2-context"] = c
	c.VAE.Latents, c.VAE.LatentEvery = 1, 3
	cs["llama-every3"] = c
	cs["paper"] = Config{Base: tinyOPT(false), VAE: vae.Paper(tinyOPT(false)), LatentScale: 0.3}
	c = cs["paper"]
	c.Base.NoFinalNorm, c.VAE.LearnableAdd, c.Direct = true, true, true
	cs["reference"] = c
	for name, c := range cs {
		c.VAE.MaxSentence = 20
		c.VAE.Arch.Dropout = 0
		cs[name] = c
	}
	return cs
}

// batch is a random batch of pieces.
type batch struct {
	ids, sent, doc []int32
	ends           []bool
}

func randomBatch(r *rand.Rand, vocab, pieces int) batch {
	b := batch{sent: []int32{0}, doc: []int32{0}}
	for range pieces {
		for range 1 + r.IntN(4) {
			for range 1 + r.IntN(8) {
				b.ids = append(b.ids, int32(3+r.IntN(vocab-3)))
			}
			b.sent = append(b.sent, int32(len(b.ids)))
		}
		b.doc = append(b.doc, int32(len(b.sent)-1))
		b.ends = append(b.ends, r.IntN(2) == 0)
	}
	return b
}

// TestGraphGradients checks on one compiled graph, at three geometries in turn, that every gradient equals central
// differences in float64, and that the first geometry repeats to the bit.
func TestGraphGradients(t *testing.T) {
	for name, c := range tinyConfigs() {
		t.Run(name, func(t *testing.T) {
			if testing.Short() && name != "llama-k2-context" && name != "opt-post" {
				t.Skip("the others take seconds")
			}
			if err := c.Validate(); err != nil {
				t.Fatal(err)
			}
			be := ref.New(kernels.F64)
			s := vaetest.RandomStore(t, be, vae.List(func(b vae.Build[op.Mat]) { New(&c, b) }), 1)
			g := op.NewGraph(be)
			var f Feed
			loss := New(&c, vaetest.Graph(g, s)).Loss(g, &f)
			m, err := g.Compile(loss)
			if err != nil {
				t.Fatal(err)
			}
			r := rand.New(rand.NewPCG(3, 4))
			geometries := []batch{randomBatch(r, c.Base.VocabSize, 2), randomBatch(r, c.Base.VocabSize, 4)}
			geometries = append(geometries, geometries[0])
			var first []float64
			for i, b := range geometries {
				f.Set(&c, b.ids, b.sent, b.doc, b.ends, nil, Real)
				l, err := m.Run(1)
				if err != nil {
					t.Fatal(err)
				}
				all := []float64{l}
				for _, g := range m.Grads() {
					if dead := strings.Contains(g.Name, "cross_attn.q_proj") || strings.Contains(g.Name, "cross_attn.k_proj"); g.Data.Absent() != (dead && c.VAE.Single()) {
						t.Fatalf("%s: gradient absent: %v", g.Name, g.Data.Absent())
					}
					all = append(all, kernels.Host[float64](g.Data)...)
				}
				switch i {
				case 0:
					first = all
				case 2:
					for j := range all {
						if all[j] != first[j] {
							t.Fatalf("value %d is %v, was %v before the other geometry", j, all[j], first[j])
						}
					}
				}
				if i < 2 {
					checkGradients(t, &c, s, &f, m.Grads(), r)
				}
			}
		})
	}
}

// checkGradients compares gradients with central differences of the eager loss, at a few elements of every weight.
func checkGradients(t *testing.T, c *Config, s *vae.Store, f *Feed, grads []op.Grad, r *rand.Rand) {
	t.Helper()
	e := op.NewEager(s.Backend())
	model := New(c, s.Mat)
	eval := func() float64 {
		e.Reset()
		model.Loss(e, f)
		if err := e.Err(); err != nil {
			t.Fatal(err)
		}
		return f.Dec.Targets.Loss + f.Stop.Loss + c.AELoss*f.AE.Targets.Loss
	}
	const h = 1e-5
	elements := 2
	if testing.Short() {
		elements = 1
	}
	for _, g := range grads {
		if g.Data.Absent() {
			continue
		}
		w, d := kernels.Host[float64](s.Buf(g.Name)), kernels.Host[float64](g.Data)
		for range elements {
			i := r.IntN(len(w))
			old := w[i]
			w[i] = old + h
			up := eval()
			w[i] = old - h
			down := eval()
			w[i] = old
			want := (up - down) / (2 * h)
			if err := math.Abs(want - d[i]); err > 1e-6*(1+math.Abs(want)) {
				t.Errorf("%s[%d]: gradient %.9g, central difference %.9g", g.Name, i, d[i], want)
			}
		}
	}
	eval()
}
