package sllm

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
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
				checkGradients(t, &c, s, &f, m.Grads(), r)
			}
		})
	}
}

// checkGradients compares gradients with central differences of the eager loss: of every weight along a random direction
// that moves all its elements alike far, so that an element that is wrong by itself shows, and unless -short at one element.
// A weight without a gradient must move nothing.
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
	for _, g := range grads {
		w := kernels.Host[float64](s.Buf(g.Name))
		d := make([]float64, len(w))
		if !g.Data.Absent() {
			d = kernels.Host[float64](g.Data)
		}
		all := make([]float64, len(w))
		for i := range all {
			all[i] = float64(1-2*r.IntN(2)) / math.Sqrt(float64(len(w)))
		}
		checkDirection(t, g.Name+" along all elements", eval, w, d, all)
		if !testing.Short() {
			one := make([]float64, len(w))
			i := r.IntN(len(w))
			one[i] = 1
			checkDirection(t, fmt.Sprintf("%s[%d]", g.Name, i), eval, w, d, one)
		}
	}
	eval()
}

// checkDirection compares the slope of eval in the weights w along a direction of length 1 with that of the gradient d.
func checkDirection(t *testing.T, name string, eval func() float64, w, d, along []float64) {
	t.Helper()
	const h = 1e-5
	old := slices.Clone(w)
	at := func(h float64) float64 {
		for i, v := range old {
			w[i] = v + h*along[i]
		}
		return eval()
	}
	want := (at(h) - at(-h)) / (2 * h)
	copy(w, old)
	var got float64
	for i, v := range along {
		got += v * d[i]
	}
	if err := math.Abs(want - got); !(err <= 1e-6*(1+math.Abs(want))) {
		t.Errorf("%s: gradient %.9g, central difference %.9g", name, got, want)
	}
}

// TestStopFocal: the paper's focal loss weighs the stop flag as it does the tokens, in the loss alone: the nats that are
// reported stay plain.
func TestStopFocal(t *testing.T) {
	b := randomBatch(rand.New(rand.NewPCG(5, 6)), 50, 4)
	plain := map[string][]float64{}
	for _, gamma := range []float64{0, 2} {
		c := tinyConfigs()["paper"]
		c.VAE.Gamma = gamma
		be := ref.New(kernels.F64)
		s := vaetest.RandomStore(t, be, vae.List(func(b vae.Build[op.Mat]) { New(&c, b) }), 1)
		var f Feed
		f.Set(&c, b.ids, b.sent, b.doc, b.ends, nil, Real)
		e := op.NewEager(be)
		New(&c, s.Mat).Loss(e, &f)
		if err := e.Err(); err != nil {
			t.Fatal(err)
		}
		for name, g := range map[string]*op.Targets{"stop": &f.Stop, "tokens": &f.Dec.Targets} {
			var sum, want float64
			for _, n := range g.Nats {
				loss, _ := ref.Focal(n, gamma)
				sum, want = sum+n, want+loss
			}
			if math.Abs(g.Loss-want) > 1e-9*want || (math.Abs(g.Loss-sum) > 0.01*sum) != (gamma > 0) {
				t.Errorf("%s, γ = %v: loss %v of %v nats, want %v", name, gamma, g.Loss, sum, want)
			}
			if gamma == 0 {
				plain[name] = slices.Clone(g.Nats)
			} else if !slices.Equal(g.Nats, plain[name]) {
				t.Errorf("%s: focal loss changes the nats to %v from %v", name, g.Nats, plain[name])
			}
		}
	}
}
