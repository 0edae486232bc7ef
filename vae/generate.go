package vae

import (
	"svae/kernels"
	"svae/kernels/op"
)

// Boundary tells where sentences end while they are written, from the tokens so far.
type Boundary interface {
	Reset()             // at the start of a document
	Push(id int32) bool // true: a sentence ends after this token
}

// Writer decodes sentences token by token, with cached keys and values. It is not safe for concurrent use.
type Writer struct {
	cfg   *Config
	dec   *Decoder[op.Mat]
	whole *op.Eager // holds what lasts for a sentence
	step  *op.Eager // holds what lasts for a token
	cache *Cache
	past  Past[op.Mat]
	mem   *Memory[op.Mat]
	feed  DecoderFeed
	out   []float32
}

// NewWriter returns a writer over the decoder's weights.
func NewWriter(c *Config, s *Store) *Writer {
	be := s.Backend()
	w := &Writer{cfg: c, dec: NewDecoder(c, s.Mat), whole: op.NewEager(be), step: op.NewEager(be),
		cache: NewCache(be), out: make([]float32, c.Arch.VocabSize)}
	w.past = w.cache.Past(w.step)
	return w
}

// Begin starts a sentence from its latents (K, D), given at most Config.Context tokens that stand before it (earlier
// ones are ignored) and the tokens with which the sentence already begins. It returns the logits (V) of the token that
// follows, valid until the next call.
func (w *Writer) Begin(latents op.Mat, before, start []int32) ([]float32, error) {
	w.whole.Reset()
	w.cache.Truncate(0)
	keep := w.whole.New(latents.R, latents.C)
	w.whole.Backend().Copy(keep.Buf, latents.Buf)
	w.mem = w.dec.Memory(keep, &w.feed)
	w.dec.Prepare(w.whole, w.mem)
	if err := w.whole.Err(); err != nil {
		return nil, err
	}
	ids := append([]int32{}, before[max(0, len(before)-w.cfg.Context):]...)
	ids = append(append(ids, w.cfg.Arch.BOS), start...)
	return w.push(ids)
}

// Push adds the token that was chosen and returns the logits of the next.
func (w *Writer) Push(id int32) ([]float32, error) { return w.push([]int32{id}) }

// Rows returns how many rows the decoder's cache holds.
func (w *Writer) Rows() int { return w.cache.Len() }

func (w *Writer) push(ids []int32) ([]float32, error) {
	w.step.Reset()
	n, m, f := w.cache.Len(), len(ids), &w.feed
	f.IDs.V = append(f.IDs.V[:0], ids...)
	f.Seq.Next(n, m, w.cfg.Arch.PosOffset())
	f.At.V = append(f.At.V[:0], 0, int32(m))
	f.Score.V = append(f.Score.V[:0], int32(m-1))
	k := int32(w.mem.Latents.R)
	f.MemSpans.Q, f.MemSpans.KLo, f.MemSpans.KHi = append(f.MemSpans.Q[:0], 0, int32(m)), append(f.MemSpans.KLo[:0], 0), append(f.MemSpans.KHi[:0], k)
	x := w.dec.Decode(w.step, f, w.mem, w.past)
	last := x.Rows(x.R-1, x.R)
	logits := w.step.Linear(last, w.dec.Head, w.dec.Bias, kernels.None)
	if err := w.step.Err(); err != nil {
		return nil, err
	}
	w.step.Backend().Download(w.out, logits.Buf)
	return w.out, nil
}

// Codec folds sentences into latents and writes them again: the round trip of the autoencoder.
type Codec struct {
	cfg    *Config
	enc    *Encoder[op.Mat]
	eager  *op.Eager
	feed   EncoderFeed
	writer *Writer
}

// NewCodec returns a codec over the weights.
func NewCodec(c *Config, s *Store) *Codec {
	return &Codec{cfg: c, enc: NewEncoder(c, s.Mat), eager: op.NewEager(s.Backend()), writer: NewWriter(c, s)}
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
	logits, err := c.writer.Begin(latents, before, nil)
	var ids []int32
	for err == nil && len(ids) < c.cfg.MaxSentence {
		id := s.Choose(logits)
		if c.cfg.EndMark && id == c.cfg.Arch.EOS {
			return ids, nil
		}
		ids = append(ids, id)
		if b != nil && b.Push(id) || len(ids) == c.cfg.MaxSentence {
			return ids, nil
		}
		logits, err = c.writer.Push(id)
	}
	return ids, err
}
