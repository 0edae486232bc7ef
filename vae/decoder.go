package vae

import (
	"fmt"
	"math"

	"svae/kernels"
	"svae/kernels/op"
)

// Decoder writes sentences from latents.
type Decoder[X comparable] struct {
	cfg     *Config
	embed   Embedding[X]
	blocks  []Block[X]
	norm    Norm[X] // the base's final norm; absent after post-norm blocks
	projOut X       // (E, D), OPT-350M
	Head    X       // (V, E); (V, D) with a bias
	Bias    X       // (V), of an untied head
}

func layerName(part string, i int) string { return fmt.Sprintf("%s.layers.%d.", part, i) }

// copied returns the prefix of the base layer that layer i starts from.
func copied(a *Arch, copies []int, i int) string {
	if i < len(copies) {
		return a.LayerPrefix(copies[i])
	}
	return ""
}

// NewDecoder walks the decoder's weights.
func NewDecoder[X comparable](c *Config, get Build[X]) *Decoder[X] {
	a := &c.Arch
	tied := !c.UntiedHead && (a.Tied || a.Sinusoid)
	d := &Decoder[X]{cfg: c, embed: NewEmbedding(a, "decoder.", tied, get)}
	for i := range c.DecoderLayers {
		d.blocks = append(d.blocks, NewBlock(a, BlockConfig{Prefix: layerName("decoder", i), Base: copied(a, c.DecoderCopies, i),
			Latents: c.crossLatents(), QK: c.CrossQK}, newOnly(get)))
	}
	d.norm = FinalNorm(a, "decoder.norm", newOnly(get))
	width := a.HiddenSize
	if !c.UntiedHead {
		width, d.projOut = a.EmbedSize(), ProjectOut(a, "decoder.", get)
	}
	d.Head = d.embed.Table
	if !tied {
		base := ""
		if !c.UntiedHead {
			base = "lm_head.weight"
		}
		d.Head = get(Weight{Name: "decoder.lm_head.weight", Shape: []int{a.VocabSize, width}, Base: base,
			Std: 1 / math.Sqrt(float64(a.HiddenSize)), New: true})
	}
	if c.UntiedHead {
		d.Bias = get(Weight{Name: "decoder.lm_head.bias", Shape: []int{a.VocabSize}, New: true})
	}
	return d
}

// FinalNorm walks the norm behind the last block, in the base's family; post-norm stacks have none.
func FinalNorm[X comparable](a *Arch, name string, get Build[X]) Norm[X] {
	if a.postNorm() || a.NoFinalNorm {
		return Norm[X]{}
	}
	return newNorm(a, a.HiddenSize, Weight{Name: name, Base: a.FinalName()}, get)
}

// ProjectOut walks the map from the hidden size to the width of the head, where they differ.
func ProjectOut[X comparable](a *Arch, prefix string, get Build[X]) X {
	var none X
	if a.EmbedSize() == a.HiddenSize {
		return none
	}
	return get(Weight{Name: prefix + "project_out.weight", Shape: []int{a.EmbedSize(), a.HiddenSize},
		Base: a.EmbedPrefix() + "project_out.weight", Std: 1 / math.Sqrt(float64(a.HiddenSize)), New: true})
}

// Memory wraps latents (ΣK, D) for the rows of f.
func (d *Decoder[X]) Memory(latents X, f *DecoderFeed) *Memory[X] {
	m := &Memory[X]{Latents: latents, At: &f.At}
	if !d.cfg.Single() {
		m.Spans = &f.MemSpans
	}
	return m
}

// Prepare computes what the memory holds for every layer, so that later calls need only the rows.
func (d *Decoder[X]) Prepare(o op.Set[X], m *Memory[X]) {
	for i := range d.blocks {
		d.blocks[i].prepare(o, m, i)
	}
}

// Decode runs the packed rows of f: tokens of a sentence, each seeing those before it and the sentence's latents (§3.1).
//
//	returns the scored rows (N, E) or (N, D), ready for the head
func (d *Decoder[X]) Decode(o op.Set[X], f *DecoderFeed, m *Memory[X], past Past[X]) X {
	x := d.embed.Apply(o, &f.IDs, &f.Seq.Pos)
	for i := range d.blocks {
		x = d.blocks[i].Apply(o, x, &f.Seq, m, past, i)
	}
	if d.cfg.Context > 0 {
		x = o.Gather(&f.Score, x)
	}
	return Project(o, d.norm.Apply(o, x), d.projOut)
}

// Project applies the map of ProjectOut, if there is one.
func Project[X comparable](o op.Set[X], x, w X) X {
	var none X
	if w == none {
		return x
	}
	return o.Linear(x, w, none, kernels.None)
}

// Loss returns the sum of the losses of f's targets, given the sentences' latents.
func (d *Decoder[X]) Loss(o op.Set[X], f *DecoderFeed, latents X) X {
	return o.Xent(d.Decode(o, f, d.Memory(latents, f), nil), d.Head, d.Bias, &f.Targets)
}

// DecoderFeed is the geometry of one batch of sentences for the decoder. A sentence's rows are up to Context tokens
// that stand before it, BOS, and its tokens but the last (with end marks: all), each row predicting the next token.
type DecoderFeed struct {
	IDs      op.Ints // (N) rows
	Seq      Seq
	At       op.Ints       // (S+1) first row of each sentence
	MemSpans kernels.Spans // latents that each sentence's rows see
	Score    op.Ints       // rows that predict a token of the sentence
	Targets  op.Targets    // of these
}

// Set fills the feed.
//
//	ids (N) tokens    sent (S+1) first token of each sentence    doc (B+1) first sentence of each piece
//	before (B) tokens before each piece, or nil    latAt (S+1) first latent of each sentence
func (f *DecoderFeed) Set(c *Config, ids, sent, doc []int32, before [][]int32, latAt []int32) {
	f.begin(c)
	b, cut := 0, 0
	if !c.EndMark {
		cut = 1
	}
	for s := range len(sent) - 1 {
		for int(doc[b+1]) <= s {
			b++
		}
		first := len(f.IDs.V)
		if c.Context > 0 {
			f.context(c, ids[sent[doc[b]]:sent[s]], before, b)
		}
		bos := len(f.IDs.V)
		toks := ids[sent[s]:sent[s+1]]
		f.IDs.V = append(append(f.IDs.V, c.Arch.BOS), toks[:len(toks)-cut]...)
		f.Targets.IDs = append(f.Targets.IDs, toks...)
		if c.EndMark {
			f.Targets.IDs = append(f.Targets.IDs, c.Arch.EOS)
		}
		for i := bos; i < len(f.IDs.V); i++ {
			f.Score.V = append(f.Score.V, int32(i))
		}
		f.end(c, first, latAt[s], latAt[s+1])
	}
}

func (f *DecoderFeed) begin(c *Config) {
	f.IDs.V, f.Seq.Pos.V, f.At.V = f.IDs.V[:0], f.Seq.Pos.V[:0], append(f.At.V[:0], 0)
	f.Score.V, f.Targets.IDs = f.Score.V[:0], f.Targets.IDs[:0]
	f.Targets.Gamma = c.Gamma
	for _, sp := range []*kernels.Spans{&f.Seq.Spans, &f.MemSpans} {
		sp.Q, sp.KLo, sp.KHi = append(sp.Q[:0], 0), sp.KLo[:0], sp.KHi[:0]
	}
	f.Seq.Spans.Causal = true
}

// context adds the raw tokens before a sentence: those of its piece, and before them those before the piece.
func (f *DecoderFeed) context(c *Config, piece []int32, before [][]int32, b int) {
	if n := c.Context - len(piece); n > 0 && before != nil {
		t := before[b]
		f.IDs.V = append(f.IDs.V, t[max(0, len(t)-n):]...)
	}
	f.IDs.V = append(f.IDs.V, piece[max(0, len(piece)-c.Context):]...)
}

// end closes the rows of a sentence that began at row first.
func (f *DecoderFeed) end(c *Config, first int, latLo, latHi int32) {
	n, off := int32(len(f.IDs.V)), int32(c.Arch.PosOffset())
	for t := range n - int32(first) {
		f.Seq.Pos.V = append(f.Seq.Pos.V, t+off)
	}
	f.At.V = append(f.At.V, n)
	sp := &f.Seq.Spans
	sp.Q, sp.KLo, sp.KHi = append(sp.Q, n), append(sp.KLo, int32(first)), append(sp.KHi, n)
	sp = &f.MemSpans
	sp.Q, sp.KLo, sp.KHi = append(sp.Q, n), append(sp.KLo, latLo), append(sp.KHi, latHi)
}
