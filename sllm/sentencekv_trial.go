package sllm

import (
	"cmp"
	"fmt"
	"math"

	"svae/kernels"
	"svae/kernels/kv"
	"svae/kernels/op"
	"svae/vae"
)

// KVTrial runs one text through a token-level model under several ways to read the past, side by side. The prompt is
// computed once, since all ways attend to it in full; then every token passes in one row for each way, all of them
// through the weights at the same time. Each way computes what it would alone, to the bit.
type KVTrial struct {
	arch   *vae.Arch
	model  *LM[op.Mat]
	eager  *op.Eager
	ways   []*trialWay
	bases  []*trialBase
	past   vae.Past[op.Mat]
	err    error
	ids    op.Ints
	seq    vae.Seq
	one    kernels.Spans
	logits []float32
}

// trialWay is one way: a row of every step.
type trialWay struct {
	k    *SentenceKV
	rows *sentenceRows
	base *trialBase
}

// trialBase keeps the prompt in one element type, cut in one way.
type trialBase struct {
	k    *SentenceKV
	rows *sentenceRows
}

// NewKVTrial returns a trial of these ways. It packs the weights. Prefix and tiers of the options are not used.
func NewKVTrial(a *vae.Arch, s *vae.Store, ways []KVOptions) (*KVTrial, error) {
	s.Pack()
	t := &KVTrial{arch: a, model: NewLM(a, s.Mat), eager: op.NewEager(s.Backend()), logits: make([]float32, len(ways)*a.VocabSize)}
	bases := map[kv.Config]*trialBase{}
	for _, o := range ways {
		o.Prefix, o.RAM, o.File = 0, 0, ""
		c := o.Store(a.NumLayers, a.NumHeads, a.NumKVHeads, a.HeadDim)
		b := bases[c]
		if b == nil {
			k, err := NewSentenceKV(a, s.Backend(), "", KVOptions{Policy: "dense", Budget: kv.Budget{Exact: true}, Type: o.Type,
				Segment: c.MaxSegment, Shortest: c.MinSegment})
			if err != nil {
				return nil, err
			}
			b = &trialBase{k: k}
			bases[c], t.bases = b, append(t.bases, b)
		}
		k, err := NewSentenceKV(a, s.Backend(), "", o)
		if err != nil {
			return nil, err
		}
		t.ways = append(t.ways, &trialWay{k: k, base: b})
	}
	return t, nil
}

// Prefill begins a text: it reads ids, of which sentences end before the rows of ends, chunk rows at a time. Ends beyond
// them tell where the sentences end that Step reads.
func (t *KVTrial) Prefill(ids []int32, ends []int, chunk int) error {
	t.reset()
	if len(ids) == 0 || len(ids) >= t.arch.Positions {
		return fmt.Errorf("trial of %d tokens, the model has %d positions", len(ids), t.arch.Positions)
	}
	policies := make([]kv.Policy, len(t.ways))
	for i, w := range t.ways {
		var err error
		if policies[i], err = kv.NewPolicy(w.k.o.Policy, w.k.o.Options); err != nil {
			return err
		}
	}
	for _, b := range t.bases {
		c, err := b.k.Open(ids, ends)
		if err != nil {
			return err
		}
		b.rows = c.(*sentenceRows)
		for i, w := range t.ways {
			if w.base == b {
				b.rows.observers = append(b.rows.observers, policies[i])
			}
		}
		for at := 0; at < len(ids); at += chunk {
			if err := t.forward(ids[at:min(at+chunk, len(ids))], b.rows); err != nil {
				return err
			}
		}
	}
	for i, w := range t.ways {
		x, err := w.k.rows(w.base.rows.store.Fork(), policies[i], len(ids), ends)
		if err != nil {
			return err
		}
		w.rows = x
	}
	return nil
}

// forward passes rows of one sequence.
func (t *KVTrial) forward(ids []int32, x *sentenceRows) error {
	t.eager.Reset()
	t.ids.V = append(t.ids.V[:0], ids...)
	t.seq.Next(x.Len(), len(ids), t.arch.PosOffset())
	t.err = nil
	t.model.Hidden(t.eager, &t.ids, &t.seq, func(layer int, q, k, v op.Mat, seq *vae.Seq, h op.Heads) op.Mat {
		out := t.eager.New(q.R, q.C)
		t.err = cmp.Or(t.err, x.Attend(out, q, k, v, layer, &seq.Spans, h))
		return out
	})
	return cmp.Or(t.err, t.eager.Err())
}

// Step reads one more token and overwrites nats with what the one that follows it costs under each way.
func (t *KVTrial) Step(id, next int32, nats []float64) error {
	o, n := t.eager, len(t.ways)
	o.Reset()
	t.ids.V, t.seq.Pos.V = t.ids.V[:0], t.seq.Pos.V[:0]
	rows := t.ways[0].rows.Len()
	for range t.ways {
		t.ids.V, t.seq.Pos.V = append(t.ids.V, id), append(t.seq.Pos.V, int32(rows+t.arch.PosOffset()))
	}
	t.one = kernels.Spans{Q: append(t.one.Q[:0], 0, 1), KLo: append(t.one.KLo[:0], 0), KHi: append(t.one.KHi[:0], int32(rows+1)), Causal: true}
	if t.past == nil {
		t.past = t.each
	}
	t.err = nil
	h := t.model.Hidden(o, &t.ids, &t.seq, t.past)
	l := o.Linear(h, t.model.head, op.Mat{}, kernels.None)
	if err := cmp.Or(t.err, o.Err()); err != nil {
		return err
	}
	o.Backend().Download(t.logits, l.Buf)
	V := len(t.logits) / n
	for i := range t.ways {
		nats[i] = cost(t.logits[i*V:(i+1)*V], next)
	}
	return nil
}

// each lets the row of every way attend to that way's past.
func (t *KVTrial) each(layer int, q, k, v op.Mat, _ *vae.Seq, h op.Heads) op.Mat {
	out := t.eager.New(q.R, q.C)
	for i, w := range t.ways {
		t.err = cmp.Or(t.err, w.rows.Attend(out.Rows(i, i+1), q.Rows(i, i+1), k.Rows(i, i+1), v.Rows(i, i+1), layer, &t.one, h))
	}
	return out
}

// cost returns -ln softmax(logits)[id].
func cost(logits []float32, id int32) float64 {
	best := logits[0]
	for _, x := range logits {
		best = max(best, x)
	}
	var sum float64
	for _, x := range logits {
		sum += math.Exp(float64(x - best))
	}
	return math.Log(sum) - float64(logits[id]-best)
}

// KVUse is what the steps of a way read, on average over layers and steps.
type KVUse struct {
	Steps  int
	Rows   float64 // for each key head
	Past   float64 // rows that there were
	Bytes  float64 // of keys and values a step, all layers
	Index  float64 // bytes that the choice read besides, a step, all layers
	Missed float64 // estimate of the softmax mass that the rows miss; NaN without one
	Delta  float64 // certified bound of it; 1 without one
}

// Use returns what way i read since Prefill.
func (t *KVTrial) Use(i int) KVUse {
	u := &t.ways[i].rows.use
	n := float64(max(u.steps, 1))
	all := n * float64(t.arch.NumLayers)
	r := KVUse{Steps: u.steps, Rows: u.rows / all, Past: u.past / all, Bytes: float64(u.bytes) / n, Index: float64(u.scanned) / n,
		Missed: math.NaN(), Delta: u.delta / all}
	if u.estimates > 0 {
		r.Missed = u.estimate / float64(u.estimates)
	}
	return r
}

func (t *KVTrial) reset() {
	for _, w := range t.ways {
		if w.rows != nil {
			w.k.Close(w.rows, nil)
			w.rows = nil
		}
	}
	for _, b := range t.bases {
		if b.rows != nil {
			b.k.Close(b.rows, nil)
			b.rows = nil
		}
	}
}

// Close gives the memory back.
func (t *KVTrial) Close() error {
	t.reset()
	var err error
	for _, w := range t.ways {
		err = cmp.Or(err, w.k.Discard())
	}
	for _, b := range t.bases {
		err = cmp.Or(err, b.k.Discard())
	}
	return err
}
