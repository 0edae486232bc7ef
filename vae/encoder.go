package vae

import (
	"math"

	"svae/kernels"
	"svae/kernels/op"
)

// Embedding turns token ids into rows: the table, times √D in Gemma, an optional projection to the hidden size (OPT-350M)
// and learned or fixed positions. Families whose positions are rotations inside attention have none here.
type Embedding[X comparable] struct {
	Table, projIn, pos X
	scale              float64
	rows, positions    []X // Table and pos as lists, so that looking rows up makes none
}

// NewEmbedding walks the weights of an embedding whose names begin with prefix. head says that its table is also the head
// of the model.
func NewEmbedding[X comparable](a *Arch, prefix string, head bool, get Build[X]) Embedding[X] {
	D, E := a.HiddenSize, a.EmbedSize()
	base, n := a.EmbedPrefix(), a.family().names
	e := Embedding[X]{scale: a.EmbedScale(), Table: get(Weight{Name: prefix + n.embed + ".weight", Shape: []int{a.VocabSize, E},
		Base: a.EmbedName(), Std: a.embedStd(), New: true, Table: !head})}
	if E != D {
		e.projIn = get(Weight{Name: prefix + "project_in.weight", Shape: []int{D, E}, Base: base + "project_in.weight",
			Std: 1 / math.Sqrt(float64(E)), New: true})
	}
	switch {
	case a.Sinusoid:
		e.pos = get(Weight{Name: prefix + "sinusoid", Shape: []int{a.Positions, D}, Const: sinusoid(D)})
	case a.Learned():
		e.pos = Positions(a, prefix, true, get)
	}
	e.rows, e.positions = []X{e.Table}, []X{e.pos}
	return e
}

// Positions walks a table of learned positions whose name begins with prefix; fresh says that it trains at the full rate.
func Positions[X comparable](a *Arch, prefix string, fresh bool, get Build[X]) X {
	n := a.family().names.pos + ".weight"
	return get(Weight{Name: prefix + n, Shape: []int{a.Positions + a.PosOffset(), a.HiddenSize}, Base: a.EmbedPrefix() + n,
		Std: 0.02, New: fresh, Table: true})
}

// embedStd is the spread of a fresh embedding table. Without a scale of √D the residual stream drowns the token in
// models that are trained from scratch; it is folded into the table.
func (a *Arch) embedStd() float64 {
	if !a.family().learned {
		return 0.05 * math.Sqrt(float64(a.HiddenSize)) / a.EmbedScale()
	}
	return 0.02 * math.Sqrt(float64(a.EmbedSize()))
}

// Apply embeds ids (N) at positions pos (N) -> (N, D).
func (e Embedding[X]) Apply(o op.Set[X], ids, pos *op.Ints) X {
	var none X
	x := o.Gather(ids, e.rows...)
	if e.scale != 1 {
		x = o.Scale(x, e.scale)
	}
	if e.projIn != none {
		x = o.Linear(x, e.projIn, none, kernels.None)
	}
	if e.pos != none {
		x = o.Add(x, o.Gather(pos, e.positions...))
	}
	return x
}

// Encoder folds sentences into latents.
type Encoder[X comparable] struct {
	cfg    *Config
	embed  Embedding[X]
	blocks []Block[X]
	weigh  *rowWeights[X] // nil: tokens count alike
	norm   Norm[X]
}

// NewEncoder walks the encoder's weights.
func NewEncoder[X comparable](c *Config, get Build[X]) *Encoder[X] {
	a := &c.Arch
	e := &Encoder[X]{cfg: c, embed: NewEmbedding(a, "encoder.", false, get)}
	for i := range c.EncoderLayers {
		e.blocks = append(e.blocks, NewBlock(a, BlockConfig{Prefix: layerName("encoder", i), Base: copied(a, c.EncoderCopies, i)}, newOnly(get)))
	}
	if c.LearnableAdd {
		e.weigh = newRowWeights("encoder.la", a.HiddenSize, get)
	}
	e.norm = LayerNorm("encoder.norm", a.HiddenSize, get)
	return e
}

// LayerNorm walks the weights of a fresh LayerNorm of this model's own, whatever the base's family.
func LayerNorm[X comparable](name string, d int, get Build[X]) Norm[X] {
	return Norm[X]{W: get(Weight{Name: name + ".weight", Shape: []int{d}, One: 1, New: true}),
		B: get(Weight{Name: name + ".bias", Shape: []int{d}, New: true}), eps: 1e-5}
}

// newOnly marks weights as trained at the full rate, also those that start as copies of the base's.
func newOnly[X comparable](get Build[X]) Build[X] {
	return func(w Weight) X {
		w.New = true
		return get(w)
	}
}

// Encode folds the packed sentences of f into latents (§3.1: blocks, then the sum over tokens and LayerNorm). Tokens
// of a sentence see each other and nothing else.
//
//	returns (ΣK, D), the latents of sentence s at rows f.At[s] to f.At[s+1]-1
func (e *Encoder[X]) Encode(o op.Set[X], f *EncoderFeed) X {
	x := e.embed.Apply(o, &f.IDs, &f.Seq.Pos) // (N, D)
	for i := range e.blocks {
		x = e.blocks[i].Apply(o, x, &f.Seq, nil, nil, i)
	}
	if e.weigh != nil {
		x = e.weigh.apply(o, x)
	}
	return e.norm.Apply(o, o.SegmentSum(x, &f.Pool))
}

// rowWeights multiplies every row x by the number w·x + b.
type rowWeights[X comparable] struct {
	lin         lin[X]
	plus, minus X // (D, 1) of 1 and of -1
}

// newRowWeights walks the weights; at the start every row counts as one.
func newRowWeights[X comparable](name string, d int, get Build[X]) *rowWeights[X] {
	all := func(sign string, v float32) X {
		return get(Weight{Name: name + "." + sign, Shape: []int{d, 1}, Const: func(to []float32) {
			for i := range to {
				to[i] = v
			}
		}})
	}
	return &rowWeights[X]{lin: lin[X]{W: get(Weight{Name: name + ".weight", Shape: []int{1, d}, New: true}),
		B: get(Weight{Name: name + ".bias", Shape: []int{1}, One: 1, New: true})}, plus: all("plus", 1), minus: all("minus", -1)}
}

// apply takes a product for what it is in terms of the gated unit: silu(a) - silu(-a) = a.
func (r *rowWeights[X]) apply(o op.Set[X], x X) X {
	var none X
	a := o.Linear(x, r.lin.W, r.lin.B, kernels.None) // (N, 1)
	return o.Add(o.SwiGLU(o.Linear(a, r.plus, none, kernels.None), x),
		o.Scale(o.SwiGLU(o.Linear(a, r.minus, none, kernels.None), x), -1))
}

// EncoderFeed is the geometry of one batch of sentences for the encoder.
type EncoderFeed struct {
	IDs  op.Ints // (N)
	Seq  Seq
	Pool op.Ints // (ΣK+1) first row of each latent
	At   []int32 // (S+1) first latent of each sentence
}

// Set fills the feed for sentences sent (S+1) of ids (N).
func (f *EncoderFeed) Set(c *Config, ids, sent []int32) {
	f.IDs.V, f.Seq.Pos.V, f.Pool.V, f.At = f.IDs.V[:0], f.Seq.Pos.V[:0], f.Pool.V[:0], append(f.At[:0], 0)
	sp := &f.Seq.Spans
	sp.Q, sp.KLo, sp.KHi, sp.Causal = append(sp.Q[:0], 0), sp.KLo[:0], sp.KHi[:0], false
	off := int32(c.Arch.PosOffset())
	for s := range len(sent) - 1 {
		first := int32(len(f.IDs.V))
		if c.EncoderBOS {
			f.IDs.V = append(f.IDs.V, c.Arch.BOS)
		}
		f.IDs.V = append(f.IDs.V, ids[sent[s]:sent[s+1]]...)
		end := int32(len(f.IDs.V))
		for t := range end - first {
			f.Seq.Pos.V = append(f.Seq.Pos.V, t+off)
		}
		sp.Q, sp.KLo, sp.KHi = append(sp.Q, end), append(sp.KLo, first), append(sp.KHi, end)
		n := int(end - first)
		k := c.LatentCount(n)
		for j := range k {
			f.Pool.V = append(f.Pool.V, first+int32(firstOfLatent(c, j, k, n)))
		}
		f.At = append(f.At, f.At[s]+int32(k))
	}
	f.Pool.V = append(f.Pool.V, int32(len(f.IDs.V)))
}

// firstOfLatent returns the first token t of latent j: the tokens of a sentence of n are shared out as floor(t·K/n) = j,
// or every LatentEvery tokens.
func firstOfLatent(c *Config, j, k, n int) int {
	if c.LatentEvery > 0 {
		return min(j*c.LatentEvery, n)
	}
	return (j*n + k - 1) / k
}
