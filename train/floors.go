package train

import (
	"context"
	"fmt"
	"math"

	"svae/data"
)

// Floor is what Result.Kind says of a model without layers.
const Floor = "floor"

// Floors scores two models without layers, counted on one data set, on another: a unigram, and a bigram with
// interpolated Witten-Bell smoothing (Witten & Bell 1991; Chen & Goodman 1996, §2.5). They predict the ends of documents
// as a token-level model does. A base above the bigram makes every comparison void.
func Floors(ctx context.Context, counted, scored *data.Dataset, c EvalConfig) (unigram, bigram Result, err error) {
	if a, b := counted.Meta().TokenizerFingerprint, scored.Meta().TokenizerFingerprint; a != b {
		return unigram, bigram, fmt.Errorf("%s was built with another tokenizer than %s (build both with that of the model)", counted.Dir(), scored.Dir())
	}
	tell := c.Progress
	if tell == nil {
		tell = func(int64, int64) {}
	}
	n := newNgram(counted.Meta().VocabSize)
	behind, all := int64(0), counted.Meta().Bytes+c.total(scored)
	for d, err := range counted.Documents() {
		if err != nil {
			return unigram, bigram, err
		}
		n.count(d.IDs)
		for _, v := range d.SentenceBytes {
			behind += int64(v)
		}
		tell(behind, all)
	}
	c.Progress = func(done, _ int64) { tell(behind+done, all) }
	c.BatchTokens = max(c.BatchTokens, 1)
	us := &scorer{cfg: c, res: Result{Model: "unigram", Kind: Floor}}
	bs := &scorer{cfg: c, res: Result{Model: "bigram (Witten-Bell)", Kind: Floor}}
	err = batches(ctx, scored, c, 0, func(b *data.Batch) error {
		u, w := make([]Nats, b.Pieces()), make([]Nats, b.Pieces())
		for p := range u {
			n.score(b.IDs[b.Sent[b.Doc[p]]:b.Sent[b.Doc[p+1]]], b.End[p], &u[p], &w[p])
		}
		us.add(b, u)
		bs.add(b, w)
		return nil
	})
	if err != nil {
		return unigram, bigram, err
	}
	if unigram, err = us.finish(); err != nil {
		return unigram, bigram, err
	}
	bigram, err = bs.finish()
	return unigram, bigram, err
}

// ngram counts tokens and pairs. The mark of a document's ends is one more token.
type ngram struct {
	vocab int
	one   []int64
	total int64
	types int
	pair  map[int64]int64
	after []int64 // pairs that begin with a token
	kinds []int64 // different ones
}

func newNgram(vocab int) *ngram {
	return &ngram{vocab: vocab + 1, one: make([]int64, vocab+1), pair: map[int64]int64{}, after: make([]int64, vocab+1), kinds: make([]int64, vocab+1)}
}

func (n *ngram) count(ids []int32) {
	mark := n.vocab - 1
	prev := mark
	add := func(id int) {
		if n.one[id]++; n.one[id] == 1 {
			n.types++
		}
		n.total++
		key := int64(prev)*int64(n.vocab) + int64(id)
		if n.pair[key]++; n.pair[key] == 1 {
			n.kinds[prev]++
		}
		n.after[prev]++
		prev = id
	}
	for _, id := range ids {
		add(int(id))
	}
	add(mark)
}

func (n *ngram) p1(id int) float64 {
	t := float64(max(1, n.types))
	return (float64(n.one[id]) + t/float64(n.vocab)) / (float64(n.total) + t)
}

func (n *ngram) p2(prev, id int) float64 {
	t := float64(n.kinds[prev])
	if t == 0 {
		return n.p1(id)
	}
	c := n.pair[int64(prev)*int64(n.vocab)+int64(id)]
	return (float64(c) + t*n.p1(id)) / (float64(n.after[prev]) + t)
}

func (n *ngram) score(ids []int32, end bool, u, w *Nats) {
	mark := n.vocab - 1
	prev := mark
	for _, id := range ids {
		u.Tokens -= math.Log(n.p1(int(id)))
		w.Tokens -= math.Log(n.p2(prev, int(id)))
		prev = int(id)
	}
	if end {
		u.Ends = -math.Log(n.p1(mark))
		w.Ends = -math.Log(n.p2(prev, mark))
	}
}
