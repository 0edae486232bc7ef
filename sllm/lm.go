package sllm

import (
	"math"

	"svae/kernels/op"
	"svae/vae"
)

// LM is the token-level language model: the base, and the fair baseline.
type LM[X comparable] struct {
	arch     *vae.Arch
	embed    vae.Embedding[X]
	backbone *Backbone[X]
	projOut  X
	head     X
}

// NewLM walks the weights of a token-level model, under its Hugging Face names.
func NewLM[X comparable](a *vae.Arch, get vae.Build[X]) *LM[X] {
	m := &LM[X]{arch: a, embed: vae.NewEmbedding(a, a.EmbedPrefix(), a.Tied, get), backbone: NewBackbone(a, get)}
	m.projOut = vae.ProjectOut(a, a.EmbedPrefix(), get)
	m.head = m.embed.Table
	if !a.Tied {
		m.head = get(vae.Weight{Name: "lm_head.weight", Base: "lm_head.weight", Shape: []int{a.VocabSize, a.EmbedSize()},
			Std: 1 / math.Sqrt(float64(a.HiddenSize))})
	}
	return m
}

// Hidden returns the rows (N, E) that the head reads.
func (m *LM[X]) Hidden(o op.Set[X], ids *op.Ints, seq *vae.Seq, past vae.Past[X]) X {
	x := m.embed.Apply(o, ids, &seq.Pos)
	return vae.Project(o, m.backbone.Run(o, x, seq, past), m.projOut)
}

// Loss returns the sum of the losses of the feed's targets.
func (m *LM[X]) Loss(o op.Set[X], f *LMFeed) X {
	var none X
	return o.Xent(m.Hidden(o, &f.IDs, &f.Seq, nil), m.head, none, &f.Targets)
}

// LMFeed is the geometry of one batch of pieces for the token-level model: BOS and the tokens of each piece, each row
// predicting the next token and, where the document ends, EOS.
type LMFeed struct {
	IDs     op.Ints
	Seq     vae.Seq
	Targets op.Targets
	At      []int32 // (B+1) first row of each piece
}

// Set fills the feed; see Feed.Set. A model without BOS begins with the piece's first token, which is not scored; one
// without EOS does not score ends.
func (f *LMFeed) Set(a *vae.Arch, ids, sent, doc []int32, ends []bool) {
	f.IDs.V, f.Targets.IDs, f.Seq.Pos.V, f.At = f.IDs.V[:0], f.Targets.IDs[:0], f.Seq.Pos.V[:0], append(f.At[:0], 0)
	sp := &f.Seq.Spans
	sp.Q, sp.KLo, sp.KHi, sp.Causal = append(sp.Q[:0], 0), sp.KLo[:0], sp.KHi[:0], true
	for b := range len(doc) - 1 {
		first := int32(len(f.IDs.V))
		toks := ids[sent[doc[b]]:sent[doc[b+1]]]
		if a.BOS >= 0 {
			f.IDs.V = append(f.IDs.V, a.BOS)
		} else {
			f.IDs.V, toks = append(f.IDs.V, toks[0]), toks[1:]
		}
		f.Targets.IDs = append(f.Targets.IDs, toks...)
		switch {
		case ends[b] && a.EOS >= 0:
			f.IDs.V, f.Targets.IDs = append(f.IDs.V, toks...), append(f.Targets.IDs, a.EOS)
		case len(toks) > 0:
			f.IDs.V = append(f.IDs.V, toks[:len(toks)-1]...)
		default: // nothing to predict: the row stands alone
			f.Targets.IDs = append(f.Targets.IDs, -1)
		}
		end := int32(len(f.IDs.V))
		for t := range end - first {
			f.Seq.Pos.V = append(f.Seq.Pos.V, t+int32(a.PosOffset()))
		}
		sp.Q, sp.KLo, sp.KHi = append(sp.Q, end), append(sp.KLo, first), append(sp.KHi, end)
		f.At = append(f.At, end)
	}
}
