package sllm

import (
	"svae/kernels/op"
	"svae/vae"
)

// Latents says which plans the decoder is given: the right ones, or others, to see what they are worth.
type Latents int

// The plans that a decoder can be given.
const (
	Real     Latents = iota
	None             // that of the start of the document, which knows nothing
	Shuffled         // that of the same place in another piece of the batch
)

// Feed is the geometry of one batch of pieces of documents. For a piece of n sentences the backbone has n+1 groups of
// rows: the start latents and each sentence's; group j predicts sentence j, the last one the end of the document. In the
// reference's structure (Config.Direct) the first group has no rows, and row 0 of Plan's sources stands for it.
type Feed struct {
	Enc      vae.EncoderFeed
	Dec      vae.DecoderFeed
	AE       vae.DecoderFeed // reconstruction, if the model trains with it
	Rows     op.Ints         // backbone rows, out of the start latents and all sentences' latents
	Seq      vae.Seq
	Plan     op.Ints // backbone rows that are the memory of each sentence, in turn
	StopRows op.Ints // backbone rows that predict whether another sentence follows
	Stop     op.Targets

	group []int32 // first backbone row of each group, all pieces in turn, and the end
	memAt []int32
}

// Set fills the feed.
//
//	ids (N)    sent (S+1) first token of each sentence    doc (B+1) first sentence of each piece
//	ends (B) the piece ends where its document ends    before (B) tokens before each piece, or nil
func (f *Feed) Set(c *Config, ids, sent, doc []int32, ends []bool, before [][]int32, which Latents) {
	f.Enc.Set(&c.VAE, ids, sent)
	f.rows(c, doc)
	if c.Null {
		which = None
	}
	f.plans(c.Direct, doc, which)
	f.Dec.Set(&c.VAE, ids, sent, doc, before, f.memAt)
	if c.AELoss > 0 {
		f.AE.Set(&c.VAE, ids, sent, doc, before, f.Enc.At)
	}
	f.Stop.Gamma = c.VAE.Gamma // the paper's focal loss is of both losses, §3.3
	f.stops(doc, ends)
}

// rows lays out the backbone's rows: causal over sentences, the rows of one sentence seeing each other.
func (f *Feed) rows(c *Config, doc []int32) {
	start, off := int32(c.startRows()), int32(c.Base.PosOffset())
	sp := &f.Seq.Spans
	sp.Q, sp.KLo, sp.KHi = append(sp.Q[:0], 0), sp.KLo[:0], sp.KHi[:0]
	sp.Causal = c.VAE.Single()
	f.Rows.V, f.Seq.Pos.V, f.group = f.Rows.V[:0], f.Seq.Pos.V[:0], f.group[:0]
	for b := range len(doc) - 1 {
		first := int32(len(f.Rows.V))
		group := func(lo, hi int32) {
			f.group = append(f.group, int32(len(f.Rows.V)))
			for r := lo; r < hi; r++ {
				f.Seq.Pos.V = append(f.Seq.Pos.V, int32(len(f.Rows.V))-first+off)
				f.Rows.V = append(f.Rows.V, r)
			}
			if end := int32(len(f.Rows.V)); !sp.Causal {
				sp.Q, sp.KLo, sp.KHi = append(sp.Q, end), append(sp.KLo, first), append(sp.KHi, end)
			}
		}
		if c.Direct {
			group(0, 0)
		} else {
			group(0, start)
		}
		for s := doc[b]; s < doc[b+1]; s++ {
			group(start+f.Enc.At[s], start+f.Enc.At[s+1])
		}
		if end := int32(len(f.Rows.V)); sp.Causal {
			sp.Q, sp.KLo, sp.KHi = append(sp.Q, end), append(sp.KLo, first), append(sp.KHi, end)
		}
	}
	f.group = append(f.group, int32(len(f.Rows.V)))
}

// plans chooses the memory of every sentence. Piece b's groups begin at index doc[b]+b.
func (f *Feed) plans(direct bool, doc []int32, which Latents) {
	f.Plan.V, f.memAt = f.Plan.V[:0], append(f.memAt[:0], 0)
	pieces := len(doc) - 1
	for b := range pieces {
		for j := range int(doc[b+1] - doc[b]) {
			from, at := b, j
			switch {
			case which == None:
				at = 0
			case which == Shuffled && pieces > 1:
				from = (b + 1) % pieces
				at = j % int(doc[from+1]-doc[from])
			case which == Shuffled: // one piece alone: that of an earlier sentence, which has not seen this one
				at = j / 2
			}
			g := int(doc[from]) + from + at
			switch lo, hi := f.group[g], f.group[g+1]; {
			case direct && lo == hi:
				f.Plan.V = append(f.Plan.V, 0)
			case direct:
				f.Plan.V = append(f.Plan.V, lo+1)
			default:
				for r := lo; r < hi; r++ {
					f.Plan.V = append(f.Plan.V, r)
				}
			}
			f.memAt = append(f.memAt, int32(len(f.Plan.V)))
		}
	}
}

// stops sets what the last row of each sentence's group predicts: 1, another sentence follows, or 0, the document ends.
// Where a document was cut nothing is known and nothing is scored.
func (f *Feed) stops(doc []int32, ends []bool) {
	f.StopRows.V, f.Stop.IDs = f.StopRows.V[:0], f.Stop.IDs[:0]
	for b := range len(doc) - 1 {
		n := doc[b+1] - doc[b]
		for j := int32(1); j <= n; j++ {
			t := int32(1)
			if j == n {
				if t = 0; !ends[b] {
					t = -1
				}
			}
			f.StopRows.V = append(f.StopRows.V, f.group[int(doc[b])+b+int(j)+1]-1)
			f.Stop.IDs = append(f.Stop.IDs, t)
		}
	}
}
