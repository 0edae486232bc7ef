package vae

import (
	"fmt"

	"svae/kernels"
	"svae/kernels/op"
)

// Boundary tells where sentences end while they are written, from the tokens so far.
type Boundary interface {
	Reset()             // at the start of a document
	Push(id int32) bool // true: a sentence ends after this token
}

// Writer decodes the sentences of several texts at the same time, token by token, with cached keys and values. Each text
// has a slot, a small number. Begin and Push say what the next pass, Step, takes in: a new sentence, or one more token of
// the one being written. What a slot gets depends on nothing that other slots do, to the bit. A Writer is not safe for
// concurrent use.
type Writer struct {
	cfg   *Config
	dec   *Decoder[op.Mat]
	whole *op.Eager // holds what a pass needs of new sentences
	step  *op.Eager // holds what lasts for a pass
	slots []slot
	parts Parts
	past  Past[op.Mat]

	begun   []begun // sentences that the next pass begins
	latents op.Mat  // of them
	fresh   Memory[op.Mat]
	order   []int // slots of the next pass
	feed    DecoderFeed
	at      op.Ints
	mem     Memory[op.Mat]
	kept    []layerMemory[op.Mat] // of all slots: rows of c, or stride rows of k and of v a slot
	stride  int
}

// slot is what the Writer knows of one text.
type slot struct {
	kv      *Cache
	latents int     // of its sentence
	ids     []int32 // rows of the next pass
}

// begun is a sentence whose latents are rows lo to hi-1 of Writer.latents.
type begun struct{ slot, lo, hi int }

// NewWriter returns a writer over the decoder's weights.
func NewWriter(c *Config, s *Store) *Writer {
	be := s.Backend()
	w := &Writer{cfg: c, dec: NewDecoder(c, s.Mat), whole: op.NewEager(be), step: op.NewEager(be)}
	w.past = w.parts.Past(w.step)
	w.kept = make([]layerMemory[op.Mat], len(w.dec.blocks))
	w.mem.At = &w.at
	if !c.Single() {
		w.mem.Spans = &w.feed.MemSpans
	}
	return w
}

// Head returns the map from the rows of Step to logits; bias is absent from most.
func (w *Writer) Head() (weight, bias op.Mat) { return w.dec.Head, w.dec.Bias }

// Clear forgets what Begin and Push said since the last Step.
func (w *Writer) Clear() {
	for _, s := range w.order {
		w.slots[s].ids = w.slots[s].ids[:0]
	}
	w.order, w.begun, w.latents = w.order[:0], w.begun[:0], op.Mat{}
}

// Plans gives the latents (ΣK, D) of the sentences that Begin starts in the next pass. They must last until Step.
func (w *Writer) Plans(latents op.Mat) { w.latents = latents }

// Begin starts a sentence in a slot: from rows lo to hi-1 of the latents that Plans gave, at most Config.Context tokens
// that stand before it (earlier ones are ignored) and the tokens with which the sentence already begins.
func (w *Writer) Begin(slot, lo, hi int, before, start []int32) {
	s := w.slot(slot)
	s.kv.Truncate(0)
	s.latents = hi - lo
	s.ids = append(s.ids[:0], before[max(0, len(before)-w.cfg.Context):]...)
	s.ids = append(append(s.ids, w.cfg.Arch.BOS), start...)
	w.begun = append(w.begun, begun{slot, lo, hi})
	w.order = append(w.order, slot)
}

// Push adds the token that was chosen to the sentence of a slot.
func (w *Writer) Push(slot int, id int32) {
	s := w.slot(slot)
	s.ids = append(s.ids[:0], id)
	w.order = append(w.order, slot)
}

func (w *Writer) slot(i int) *slot {
	for len(w.slots) <= i {
		w.slots = append(w.slots, slot{kv: NewCache(w.step.Backend())})
	}
	return &w.slots[i]
}

// Rows returns how many rows the cache of a slot holds.
func (w *Writer) Rows(slot int) int { return w.slot(slot).kv.Len() }

// Bytes returns the memory of the keys and values of a slot.
func (w *Writer) Bytes(slot int) int64 { return w.slot(slot).kv.Bytes() }

// Step runs the rows that Begin and Push asked for in one pass and returns for each call of them, in turn, the row of
// which Head makes the logits of the token that follows. The rows are valid until the next Step.
func (w *Writer) Step() (op.Mat, error) {
	defer w.Clear()
	w.whole.Reset()
	w.step.Reset()
	if err := w.prepare(); err != nil {
		return op.Mat{}, err
	}
	w.lay()
	x := w.dec.embed.Apply(w.step, &w.feed.IDs, &w.feed.Seq.Pos)
	for i := range w.dec.blocks {
		x = w.dec.blocks[i].Apply(w.step, x, &w.feed.Seq, &w.mem, w.past, i)
	}
	if x.R > len(w.order) {
		x = w.step.Gather(&w.feed.Score, x)
	}
	return Project(w.step, w.dec.norm.Apply(w.step, x), w.dec.projOut), w.step.Err()
}

// prepare computes what the layers keep of the sentences that begin, all at once, and stores it under their slots.
func (w *Writer) prepare() error {
	if len(w.begun) == 0 {
		return nil
	}
	most, last := 1, 0
	for _, b := range w.begun {
		most, last = max(most, b.hi-b.lo), max(last, b.slot)
		if b.lo < 0 || b.hi <= b.lo || b.hi > w.latents.R {
			return fmt.Errorf("vae: latents %d to %d of %d for a sentence", b.lo, b.hi, w.latents.R)
		}
	}
	if w.cfg.Single() && most > 1 {
		return fmt.Errorf("vae: %d latents for a sentence of a decoder that takes one", most)
	}
	w.grow(last+1, most)
	be := w.whole.Backend()
	w.fresh = Memory[op.Mat]{Latents: w.latents, At: w.mem.At, Spans: w.mem.Spans, layer: w.fresh.layer[:0]}
	for i := range w.dec.blocks {
		m := w.dec.blocks[i].prepare(w.whole, &w.fresh, i)
		for _, b := range w.begun {
			for _, p := range [...]struct{ to, from op.Mat }{{w.kept[i].c, m.c}, {w.kept[i].k, m.k}, {w.kept[i].v, m.v}} {
				if !p.from.Absent() {
					at := b.slot * w.stride
					be.Copy(p.to.Rows(at, at+b.hi-b.lo).Buf, p.from.Rows(b.lo, b.hi).Buf)
				}
			}
		}
	}
	return w.whole.Err()
}

// grow makes room for what is kept of so many slots with so many latents each.
func (w *Writer) grow(slots, latents int) {
	had := 0
	if m := w.kept[0]; w.stride > 0 {
		had = max(m.c.R, m.k.R) / w.stride
	}
	if slots <= had && latents <= w.stride {
		return
	}
	slots, stride := max(slots, min(2*had, 64), had), max(latents, w.stride)
	be, D := w.whole.Backend(), w.cfg.Arch.HiddenSize
	bigger := func(old op.Mat) op.Mat {
		m := op.Mat{Buf: be.Alloc(slots * stride * D), R: slots * stride, C: D}
		for s := range had {
			be.Copy(m.Rows(s*stride, s*stride+w.stride).Buf, old.Rows(s*w.stride, (s+1)*w.stride).Buf)
		}
		return m
	}
	for i := range w.kept {
		if m := &w.kept[i]; w.cfg.Single() {
			m.c = bigger(m.c)
		} else {
			m.k, m.v = bigger(m.k), bigger(m.v)
		}
	}
	w.stride = stride
}

// lay sets the geometry of the pass, and what its rows see of the latents.
func (w *Writer) lay() {
	f, off := &w.feed, int32(w.cfg.Arch.PosOffset())
	f.IDs.V, f.Seq.Pos.V, f.Score.V, w.at.V = f.IDs.V[:0], f.Seq.Pos.V[:0], f.Score.V[:0], append(w.at.V[:0], 0)
	ms := &f.MemSpans
	ms.Q, ms.KLo, ms.KHi = append(ms.Q[:0], 0), ms.KLo[:0], ms.KHi[:0]
	w.parts.Clear()
	neighbours := true
	for i, n := range w.order {
		s := &w.slots[n]
		have := s.kv.Len()
		for j := range s.ids {
			f.Seq.Pos.V = append(f.Seq.Pos.V, int32(have+j)+off)
		}
		f.IDs.V = append(f.IDs.V, s.ids...)
		end := int32(len(f.IDs.V))
		f.Score.V, w.at.V = append(f.Score.V, end-1), append(w.at.V, end)
		ms.Q, ms.KLo, ms.KHi = append(ms.Q, end), append(ms.KLo, int32(n*w.stride)), append(ms.KHi, int32(n*w.stride+s.latents))
		w.parts.Add(s.kv, len(s.ids))
		neighbours = neighbours && n == w.order[0]+i
	}
	w.mem.layer = append(w.mem.layer[:0], w.kept...)
	if !w.cfg.Single() || len(w.order) == 0 {
		return
	}
	for i := range w.mem.layer { // the constants of the slots of this pass, in its order
		m := &w.mem.layer[i]
		if first := w.order[0]; neighbours {
			m.c = m.c.Rows(first, first+len(w.order))
			continue
		}
		c := w.step.New(len(w.order), m.c.C)
		for j, n := range w.order {
			w.step.Backend().Copy(c.Rows(j, j+1).Buf, m.c.Rows(n, n+1).Buf)
		}
		m.c = c
	}
}

// Codec folds sentences into latents and writes them again: the round trip of the autoencoder.
type Codec struct {
	cfg    *Config
	enc    *Encoder[op.Mat]
	eager  *op.Eager
	feed   EncoderFeed
	writer *Writer
	logits []float32
}

// NewCodec returns a codec over the weights.
func NewCodec(c *Config, s *Store) *Codec {
	return &Codec{cfg: c, enc: NewEncoder(c, s.Mat), eager: op.NewEager(s.Backend()), writer: NewWriter(c, s),
		logits: make([]float32, c.Arch.VocabSize)}
}

// Encode folds packed sentences into latents (ΣK, D) and returns with them the first latent of each sentence (S+1).
// Both are valid until the next call.
func (c *Codec) Encode(ids, sent []int32) (op.Mat, []int32, error) {
	c.eager.Reset()
	c.feed.Set(c.cfg, ids, sent)
	z := c.enc.Encode(c.eager, &c.feed)
	return z, c.feed.At, c.eager.Err()
}

// Decode writes the sentence that latents (K, D) stand for, free-running: until b ends it, or the end mark where the
// model predicts one, or MaxSentence tokens. b must be where the sentence begins; nil is no rule.
func (c *Codec) Decode(latents op.Mat, before []int32, b Boundary, s *Sampler) ([]int32, error) {
	w := c.writer
	w.Clear()
	w.Plans(latents)
	w.Begin(0, 0, latents.R, before, nil)
	var ids []int32
	for len(ids) < c.cfg.MaxSentence {
		x, err := w.Step()
		if err != nil {
			return ids, err
		}
		if err := c.logitsOf(x); err != nil {
			return ids, err
		}
		id := s.Choose(c.logits)
		if c.cfg.EndMark && id == c.cfg.Arch.EOS {
			return ids, nil
		}
		ids = append(ids, id)
		if b != nil && b.Push(id) {
			break
		}
		w.Push(0, id)
	}
	return ids, nil
}

// logitsOf computes the logits of one row of the writer.
func (c *Codec) logitsOf(x op.Mat) error {
	o := c.writer.step
	l := o.Linear(x, c.writer.dec.Head, c.writer.dec.Bias, kernels.None)
	if err := o.Err(); err != nil {
		return err
	}
	o.Backend().Download(c.logits, l.Buf)
	return nil
}
