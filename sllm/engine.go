package sllm

import (
	"context"
	"fmt"
	"math"
	"slices"
	"time"

	"svae/kernels"
	"svae/kernels/op"
	"svae/vae"
)

var negInf = float32(math.Inf(-1))

// Finish says why generation ended.
type Finish string

// The reasons.
const (
	Stopped Finish = "stop"   // the model ended the document
	Length  Finish = "length" // a cap on tokens, sentences or positions
	Halted  Finish = "halt"   // the caller wanted no more
)

// Request is what to continue and how far.
type Request struct {
	Sentences    [][]int32 // of the prompt, in order; may be empty
	Open         bool      // the last sentence of the prompt is not finished: it is continued
	MaxTokens    int       // tokens to write
	MaxSentences int       // sentences to write; 0: no cap
	Sampling     vae.Sampling
	Boundary     vae.Boundary // ends sentences, unless the model predicts end marks
	IgnoreStop   bool         // write until a cap, as benchmarks need
}

// Result counts what a request took.
type Result struct {
	Tokens    int           `json:"tokens"`    // written
	Sentences int           `json:"sentences"` // written, the last perhaps unfinished
	Prompt    int           `json:"prompt_tokens"`
	Finish    Finish        `json:"finish_reason"`
	Prefill   time.Duration `json:"prefill_ns"`
	Decode    time.Duration `json:"decode_ns"`
	KVBytes   int64         `json:"kv_bytes"` // keys and values of the base's layers at the end
}

// Engine generates with a sentence-level model. It is not safe for concurrent use.
type Engine struct {
	cfg    *Config
	model  *Model[op.Mat]
	eager  *op.Eager
	writer *vae.Writer
	cache  *vae.Cache
	past   vae.Past[op.Mat]
	feed   Feed
	stop   []float32
}

// NewEngine returns an engine over the weights. It packs them: they must not change while the engine is in use.
func NewEngine(c *Config, s *vae.Store) *Engine {
	s.Pack()
	be := s.Backend()
	e := &Engine{cfg: c, model: New(c, s.Mat), eager: op.NewEager(be), writer: vae.NewWriter(&c.VAE, s),
		cache: vae.NewCache(be), stop: make([]float32, 2)}
	e.past = e.cache.Past(e.eager)
	return e
}

// Generate continues a document sentence by sentence: the hidden state behind the last sentence says whether another
// follows and is the plan from which the decoder writes it; what was written is encoded and takes one step of the base.
// emit gets every token as it is chosen; if it returns false, generation ends. Cancelling ctx ends it within a token.
func (e *Engine) Generate(ctx context.Context, r Request, emit func(id int32) bool) (Result, error) {
	begin := time.Now()
	sampler := vae.NewSampler(r.Sampling)
	done, open := r.Sentences, []int32(nil)
	if n := len(done); r.Open && n > 0 {
		done, open = done[:n-1], done[n-1]
	}
	var res Result
	text := prime(r, &res)
	e.cache.Truncate(0)
	h, err := e.prefill(done)
	res.Prefill = time.Since(begin)
	begin = time.Now()
	for count := len(done); err == nil && res.Finish == ""; count++ {
		if count > 0 && open == nil && !r.IgnoreStop && e.stops(h, sampler) {
			res.Finish = Stopped
			break
		}
		if r.MaxSentences > 0 && res.Sentences == r.MaxSentences || e.full() {
			res.Finish = Length
			break
		}
		first := len(text) - len(open)
		if text, err = e.sentence(ctx, r, h, text, first, sampler, emit, &res); err != nil || res.Finish != "" {
			break
		}
		open = nil
		h, err = e.step(text[first:])
	}
	res.Decode, res.KVBytes = time.Since(begin), e.cache.Bytes()
	return res, err
}

// prime returns the prompt's tokens in one and puts the boundary behind them.
func prime(r Request, res *Result) (text []int32) {
	if r.Boundary != nil {
		r.Boundary.Reset()
	}
	for _, s := range r.Sentences {
		for _, id := range s {
			if r.Boundary != nil {
				r.Boundary.Push(id)
			}
		}
		text = append(text, s...)
	}
	res.Prompt = len(text)
	return text
}

// prefill runs the whole sentences of the prompt as one packed batch and returns the last group's hidden rows.
func (e *Engine) prefill(done [][]int32) (op.Mat, error) {
	var ids []int32
	sent := []int32{0}
	for _, s := range done {
		ids = append(ids, s...)
		sent = append(sent, int32(len(ids)))
	}
	f := &e.feed
	e.eager.Reset()
	f.Enc.Set(&e.cfg.VAE, ids, sent)
	f.rows(e.cfg, []int32{0, int32(len(done))})
	if n := len(f.Rows.V); n > e.cfg.Base.Positions {
		return op.Mat{}, fmt.Errorf("the prompt has %d sentences, %d rows of the base, which has %d positions (shorten the prompt)", len(done), n, e.cfg.Base.Positions)
	}
	x := e.model.start
	if e.cfg.Direct && len(done) == 0 {
		return x, nil
	}
	if len(done) > 0 {
		z := e.model.Encoder.Encode(e.eager, &f.Enc)
		x = e.eager.Gather(&f.Rows, e.model.start, e.model.enter(e.eager, z))
	}
	h := e.model.step(e.eager, x, &f.Seq, e.past)
	if err := e.eager.Err(); err != nil {
		return h, err
	}
	g := f.group[len(f.group)-2:]
	return h.Rows(int(g[0]), int(g[1])), nil
}

// step encodes one sentence and runs its rows through the base.
func (e *Engine) step(ids []int32) (op.Mat, error) {
	f, o, m := &e.feed, e.eager, e.model
	o.Reset()
	f.Enc.Set(&e.cfg.VAE, ids, []int32{0, int32(len(ids))})
	z := m.Encoder.Encode(o, &f.Enc)
	f.Seq.Next(e.cache.Len(), z.R, e.cfg.Base.PosOffset())
	f.Seq.Spans.Causal = e.cfg.VAE.Single()
	h := m.step(o, m.enter(o, z), &f.Seq, e.past)
	return h, o.Err()
}

// stops says whether the document ends behind the last sentence.
func (e *Engine) stops(h op.Mat, s *vae.Sampler) bool {
	l := e.eager.Linear(h.Rows(h.R-1, h.R), e.model.stop.W, e.model.stop.B, kernels.None)
	e.eager.Backend().Download(e.stop, l.Buf)
	return s.Choose(e.stop) == 0
}

// full says that the base has no position left for another sentence.
func (e *Engine) full() bool {
	return e.cache.Len()+e.cfg.VAE.LatentCount(e.cfg.VAE.MaxSentence) > e.cfg.Base.Positions
}

// sentence writes one sentence from hidden rows h. Its tokens begin at text[first:], where those of an unfinished
// sentence already stand.
func (e *Engine) sentence(ctx context.Context, r Request, h op.Mat, text []int32, first int, s *vae.Sampler, emit func(int32) bool, res *Result) ([]int32, error) {
	v, before := &e.cfg.VAE, res.Tokens
	end := []int32{v.Arch.EOS}
	logits, err := e.writer.Begin(e.model.Plan(e.eager, h), text[:first], text[first:])
	for ; err == nil; logits, err = e.writer.Push(text[len(text)-1]) {
		if err = ctx.Err(); err != nil {
			break
		}
		if res.Tokens >= r.MaxTokens {
			res.Finish = Length
			break
		}
		empty := len(text) == first
		var banned []int32
		if v.EndMark && r.IgnoreStop && empty {
			banned = end
		}
		id := choose(logits, banned, s)
		if v.EndMark && id == v.Arch.EOS {
			if empty { // an empty sentence has no latent
				res.Finish = Stopped
			}
			break
		}
		text = append(text, id)
		if res.Tokens == before {
			res.Sentences++
		}
		res.Tokens++
		if !emit(id) {
			res.Finish = Halted
			break
		}
		if !v.EndMark && r.Boundary != nil && r.Boundary.Push(id) || len(text)-first >= v.MaxSentence {
			break
		}
	}
	return text, err
}

// LMEngine generates with a token-level model. It is not safe for concurrent use.
type LMEngine struct {
	// Stops are the tokens that end a text; of the architecture's EOS alone unless set.
	Stops []int32

	arch  *vae.Arch
	model *LM[op.Mat]
	eager *op.Eager
	cache *vae.Cache
	past  vae.Past[op.Mat]
	ids   op.Ints
	seq   vae.Seq
	out   []float32
}

// NewLMEngine returns an engine over the weights. It packs them: they must not change while the engine is in use.
func NewLMEngine(a *vae.Arch, s *vae.Store) *LMEngine {
	s.Pack()
	e := &LMEngine{Stops: []int32{a.EOS}, arch: a, model: NewLM(a, s.Mat), eager: op.NewEager(s.Backend()), cache: vae.NewCache(s.Backend()),
		out: make([]float32, a.VocabSize)}
	e.past = e.cache.Past(e.eager)
	return e
}

// Forward adds tokens to the sequence and returns the logits (V) behind the last, valid until the next call.
func (e *LMEngine) Forward(ids []int32) ([]float32, error) {
	o := e.eager
	o.Reset()
	e.ids.V = append(e.ids.V[:0], ids...)
	e.seq.Next(e.cache.Len(), len(ids), e.arch.PosOffset())
	h := e.model.Hidden(o, &e.ids, &e.seq, e.past)
	if err := o.Err(); err != nil {
		return nil, err
	}
	l := o.Linear(h.Rows(h.R-1, h.R), e.model.head, op.Mat{}, kernels.None)
	o.Backend().Download(e.out, l.Buf)
	return e.out, o.Err()
}

// Reset forgets the sequence.
func (e *LMEngine) Reset() { e.cache.Truncate(0) }

// Generate continues a document token by token; see Engine.Generate.
func (e *LMEngine) Generate(ctx context.Context, r Request, emit func(id int32) bool) (Result, error) {
	begin := time.Now()
	var res Result
	sampler := vae.NewSampler(r.Sampling)
	text := prime(r, &res)
	if e.arch.BOS >= 0 {
		text = append([]int32{e.arch.BOS}, text...)
	}
	if len(text) == 0 {
		text = []int32{0}
	}
	e.Reset()
	if len(text) > e.arch.Positions {
		return res, fmt.Errorf("the prompt has %d tokens, the model %d positions (shorten the prompt)", len(text), e.arch.Positions)
	}
	logits, err := e.Forward(text)
	res.Prefill = time.Since(begin)
	begin = time.Now()
	var banned []int32
	if r.IgnoreStop {
		banned = e.Stops
	}
	for inside := r.Open; err == nil; {
		if err = ctx.Err(); err != nil {
			break
		}
		if res.Tokens >= r.MaxTokens || e.cache.Len() >= e.arch.Positions || r.MaxSentences > 0 && res.Sentences == r.MaxSentences && !inside {
			res.Finish = Length
			break
		}
		id := choose(logits, banned, sampler)
		if slices.Contains(e.Stops, id) {
			res.Finish = Stopped
			break
		}
		res.Tokens++
		if !inside || res.Tokens == 1 {
			res.Sentences++
		}
		inside = r.Boundary == nil || !r.Boundary.Push(id)
		if !emit(id) {
			res.Finish = Halted
			break
		}
		logits, err = e.Forward([]int32{id})
	}
	res.Decode, res.KVBytes = time.Since(begin), e.cache.Bytes()
	return res, err
}

// choose samples a token that is not banned.
func choose(logits []float32, banned []int32, s *vae.Sampler) int32 {
	for _, id := range banned {
		if id >= 0 {
			logits[id] = negInf
		}
	}
	return s.Choose(logits)
}
