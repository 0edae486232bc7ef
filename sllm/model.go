package sllm

import (
	"math"

	"svae/kernels"
	"svae/kernels/op"
	"svae/vae"
)

// Backbone is the layers of the base, with its final norm.
type Backbone[X comparable] struct {
	arch   *vae.Arch
	blocks []vae.Block[X]
	norm   vae.Norm[X]
}

// NewBackbone walks the base's layers, under the base's names.
func NewBackbone[X comparable](a *vae.Arch, get vae.Build[X]) *Backbone[X] {
	b := &Backbone[X]{arch: a}
	for i := range a.NumLayers {
		p := a.LayerPrefix(i)
		b.blocks = append(b.blocks, vae.NewBlock(a, vae.BlockConfig{Prefix: p, Base: p}, get))
	}
	b.norm = vae.FinalNorm(a, a.FinalName(), get)
	return b
}

// Run passes rows x (N, D) through all layers and the final norm. past is nil without a cache.
func (b *Backbone[X]) Run(o op.Set[X], x X, seq *vae.Seq, past vae.Past[X]) X {
	for i := range b.blocks {
		x = b.blocks[i].Apply(o, x, seq, nil, past, i)
	}
	return b.norm.Apply(o, x)
}

// Model is the sentence-level language model.
type Model[X comparable] struct {
	cfg      *Config
	Encoder  *vae.Encoder[X]
	Decoder  *vae.Decoder[X]
	backbone *Backbone[X]
	pos      X // learned positions of the base; absent with rotary ones
	start    X // (K, D) start-of-document latents
	in       linear[X]
	out      linear[X]
	outNorm  vae.Norm[X]
	stop     linear[X] // (2, D): class 1, another sentence follows; class 0, the document ends
}

type linear[X comparable] struct{ W, B X }

// New walks the weights of a sentence-level model.
func New[X comparable](c *Config, get vae.Build[X]) *Model[X] {
	D, E := c.Base.HiddenSize, c.VAE.Arch.HiddenSize
	lin := func(name string, out, in int, std, one float64) linear[X] {
		return linear[X]{get(vae.Weight{Name: name + ".weight", Shape: []int{out, in}, Std: std, One: one, New: true}),
			get(vae.Weight{Name: name + ".bias", Shape: []int{out}, New: true})}
	}
	m := &Model[X]{cfg: c, Encoder: vae.NewEncoder(&c.VAE, get), Decoder: vae.NewDecoder(&c.VAE, get)}
	start := vae.Weight{Name: "latent_start", Shape: []int{c.startRows(), D}, Std: c.LatentScale, New: true, Table: true}
	if c.Direct {
		start.Const = func([]float32) {} // zeros
	} else {
		m.in = lin("latent_in", D, E, 0, c.LatentScale)
	}
	m.start = get(start)
	if c.Base.Learned() {
		m.pos = vae.Positions(&c.Base, c.Base.EmbedPrefix(), false, get)
	}
	m.backbone = NewBackbone(&c.Base, get)
	if !c.Direct {
		m.out = lin("latent_out", E, D, 1/math.Sqrt(float64(D)), 0)
		m.outNorm = vae.LayerNorm("latent_norm", E, get)
	}
	m.stop = lin("stop_head", 2, D, 0, 0)
	return m
}

// Hidden runs the base's layers over the documents' latents: rows of the start latents and of each sentence's, in turn.
//
//	z (ΣK, E) as Encoder.Encode returns it    returns (rows, D), after the final norm
func (m *Model[X]) Hidden(o op.Set[X], z X, f *Feed) X {
	return m.step(o, o.Gather(&f.Rows, m.start, m.enter(o, z)), &f.Seq, nil)
}

// enter projects latents (N, E) into the base's space (N, D).
func (m *Model[X]) enter(o op.Set[X], z X) X {
	if m.cfg.Direct {
		return z
	}
	return o.Linear(z, m.in.W, m.in.B, kernels.None)
}

// plans returns the hidden rows that are the plans of f's sentences, in turn.
func (m *Model[X]) plans(o op.Set[X], f *Feed, h X) X {
	if m.cfg.Direct {
		return o.Gather(&f.Plan, m.start, h)
	}
	return o.Gather(&f.Plan, h)
}

// step adds positions to rows x (N, D) and runs the backbone.
func (m *Model[X]) step(o op.Set[X], x X, seq *vae.Seq, past vae.Past[X]) X {
	var none X
	if m.pos != none {
		x = o.Add(x, o.Gather(&seq.Pos, m.pos))
	}
	return m.backbone.Run(o, x, seq, past)
}

// Plan projects hidden rows (N, D) into the decoder's latent space (N, E).
func (m *Model[X]) Plan(o op.Set[X], h X) X {
	if m.cfg.Direct {
		return h
	}
	return m.outNorm.Apply(o, o.Linear(h, m.out.W, m.out.B, kernels.None))
}

// Loss returns the sum of the losses over a batch: the tokens of every sentence, whether another sentence follows, and
// if asked for the reconstruction of each sentence from its own latents.
func (m *Model[X]) Loss(o op.Set[X], f *Feed) X {
	z := m.Encoder.Encode(o, &f.Enc)
	h := m.Hidden(o, o.Noise(z, m.cfg.VAE.Noise), f)
	tokens := m.Decoder.Loss(o, &f.Dec, m.Plan(o, m.plans(o, f, h)))
	stop := o.Xent(o.Gather(&f.StopRows, h), m.stop.W, m.stop.B, &f.Stop)
	if m.cfg.AELoss > 0 {
		return o.Sum([]float64{1, 1, m.cfg.AELoss}, tokens, stop, m.Decoder.Loss(o, &f.AE, z))
	}
	return o.Sum([]float64{1, 1}, tokens, stop)
}
