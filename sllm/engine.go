package sllm

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

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
	Boundary     vae.Boundary // ends sentences, unless the model predicts end marks; in use until Generate returns
	IgnoreStop   bool         // write until a cap, as benchmarks need
	LogProbs     bool         // fill Token.LogProb
}

// Token is one token that was written.
type Token struct {
	ID       int32
	LogProb  float32 // natural logarithm of the model's own probability, whatever the sampling; NaN unless asked for
	Sentence int     // that it belongs to, of those written, from 0
	Ends     bool    // a sentence ends after it, by the boundary rule or the cap; end marks, which come later, do not show here
}

// Result counts what a request took.
type Result struct {
	Tokens    int           `json:"tokens"`    // emitted
	Sentences int           `json:"sentences"` // emitted, the last perhaps unfinished
	Prompt    int           `json:"prompt_tokens"`
	Finish    Finish        `json:"finish_reason"`
	Prefill   time.Duration `json:"prefill_ns"` // until the first token could be chosen, waiting for other requests included
	Decode    time.Duration `json:"decode_ns"`  // from then on
	KVRows    int           `json:"kv_rows"`    // of the base's layers, at the end
	KVBytes   int64         `json:"kv_bytes"`   // keys and values of these rows

	// Per token written. A step that writes tokens of n requests counts as one n-th of its weights for each.
	WeightBytes int64 `json:"weight_bytes_per_token"`
	KVRead      int64 `json:"kv_read_bytes_per_token"` // of the base's layers and the decoder's

	// KV is what the KV of the base's layers counted, if it counts.
	KV *KVStats `json:"kv,omitempty"`
	// Of the sentences that an SLLM read, those whose latents were known from before, and all.
	LatentHits    int `json:"latent_hits,omitempty"`
	LatentLookups int `json:"latent_lookups,omitempty"`
}

// Engine generates with a sentence-level model, for any number of requests at once. It keeps two clocks. A sentence step
// encodes the sentences that were finished since the last one, and the prompts of new requests, as one packed batch and
// runs their rows through the base, each request attending to its own keys and values. A token step runs the decoders
// of all requests, each at its own place in its own sentence, as the rows of one pass.
type Engine struct {
	// MaxBatch is how many requests run at the same time; others wait in order of arrival. Set it before the first.
	MaxBatch int
	// Keeper makes the KV of the base's layers, in which every latent has a row; in memory, unless set before the first
	// request. Requests have no token ids for it: rows are never taken over from earlier ones.
	Keeper Keeper

	cfg    *Config
	model  *Model[op.Mat]
	eager  *op.Eager
	writer *vae.Writer
	choose *chooser
	known  *latentCache
	loop   loop[*story]

	mark    [1]int32 // of the end of a sentence
	slots   []*story
	reading sentenceStep
	writing []*job[*story]                         // of the token step
	bytes   struct{ sentence, begin, token int64 } // of the weights of each kind of step
}

// story is the state of a request of an Engine.
type story struct {
	text    []int32   // prompt and what was written
	read    [][]int32 // whole sentences that the base has not seen
	open    []int32   // tokens of the unfinished sentence of the prompt; nil once it is continued
	first   int       // where the sentence being written begins in text
	started bool      // the base has its first rows
	count   int       // sentences that the base has seen
	begun   bool      // a sentence is being written; else read is to be read, and the next planned
	plan    [2]int    // rows of the plans from which the next token step begins it; none when it has begun

	tokens, sentences int // written, the last perhaps unfinished
	slot              int
	kv                vae.KV
	sampler           *vae.Sampler
}

// NewEngine returns an engine over the weights. It packs them: they must not change while the engine is in use.
func NewEngine(c *Config, s *vae.Store) *Engine {
	s.Pack()
	be := s.Backend()
	e := &Engine{MaxBatch: maxBatch, Keeper: &caches{be: be}, cfg: c, model: New(c, s.Mat), eager: op.NewEager(be),
		writer: vae.NewWriter(&c.VAE, s), known: newLatentCache(be)}
	w, b := e.writer.Head()
	name, _ := vae.HeadNames(&c.VAE)
	e.choose = newChooser(s, name, w, b)
	e.mark[0] = c.VAE.Arch.EOS
	e.reading.past = e.reading.parts.Past(e.eager)
	e.weigh(s)
	e.loop = loop[*story]{open: e.openStory, step: e.step, close: e.closeStory}
	return e
}

// weigh adds up the weights that each kind of step reads.
func (e *Engine) weigh(s *vae.Store) {
	c := e.cfg
	var all, decoder, begin, dead int64
	walk := func(to *int64) vae.Build[op.Mat] {
		return func(w vae.Weight) op.Mat {
			if !w.Table && w.Const == nil {
				*to += s.Buf(w.Name).WeightBytes()
			}
			return s.Mat(w)
		}
	}
	New(c, walk(&all))
	vae.NewDecoder(&c.VAE, func(w vae.Weight) op.Mat {
		_, cross, ok := strings.Cut(w.Name, "cross_attn.")
		reads := strings.HasPrefix(cross, "k_proj") || strings.HasPrefix(cross, "q_proj")
		switch {
		case !ok:
		case c.VAE.Single() && reads: // of no effect over one latent
			walk(&dead)(w)
		case c.VAE.Single() || strings.HasPrefix(cross, "k_proj") || strings.HasPrefix(cross, "v_proj"):
			walk(&begin)(w)
		}
		return walk(&decoder)(w)
	})
	e.bytes.sentence = all - decoder
	e.bytes.begin = begin
	e.bytes.token = decoder - e.choose.w.WeightBytes() - begin - dead
}

// Generate continues a document sentence by sentence: the hidden state behind the last sentence says whether another
// follows and is the plan from which the decoder writes it; what was written is encoded and takes one step of the base.
// emit gets every token, on this goroutine; if it returns false, generation ends. Cancelling ctx ends it within a token.
// What is written does not depend on other requests. Generate is safe for concurrent use.
func (e *Engine) Generate(ctx context.Context, r Request, emit func(Token) bool) (Result, error) {
	var res Result
	s := &story{sampler: vae.NewSampler(r.Sampling), read: r.Sentences}
	if n := len(s.read); r.Open && n > 0 {
		s.read, s.open = slices.Clip(s.read[:n-1]), s.read[n-1]
	}
	s.text = prime(r, &res)
	rows := 0
	if !e.cfg.Direct {
		rows = e.cfg.startRows()
	}
	for _, ids := range s.read {
		rows += e.latents(len(ids))
	}
	if rows > e.cfg.Base.Positions {
		return res, fmt.Errorf("the prompt has %d sentences, %d rows of the base, which has %d positions (shorten the prompt)",
			len(s.read), rows, e.cfg.Base.Positions)
	}
	return e.loop.generate(ctx, e.MaxBatch, r, s, res, emit)
}

// prime returns the prompt's tokens in one and puts the boundary behind them.
func prime(r Request, res *Result) (text []int32) {
	if r.Boundary != nil {
		r.Boundary.Reset()
	}
	for _, s := range r.Sentences {
		res.Prompt += len(s)
	}
	text = make([]int32, 0, res.Prompt+min(max(r.MaxTokens, 0), 1<<12)+1)
	for _, s := range r.Sentences {
		for _, id := range s {
			if r.Boundary != nil {
				r.Boundary.Push(id)
			}
		}
		text = append(text, s...)
	}
	return text
}

// latents returns how many rows of the base a sentence of n tokens takes up.
func (e *Engine) latents(n int) int {
	if e.cfg.VAE.EncoderBOS {
		n++
	}
	return e.cfg.VAE.LatentCount(n)
}

// openStory gives a request its keys and values and its slot.
func (e *Engine) openStory(j *job[*story]) (err error) {
	s := j.state
	if s.kv, err = e.Keeper.Open(nil, nil); err != nil {
		return err
	}
	if s.slot = slices.Index(e.slots, nil); s.slot < 0 {
		s.slot = len(e.slots)
		e.slots = append(e.slots, nil)
	}
	e.slots[s.slot] = s
	return nil
}

// closeStory takes them back.
func (e *Engine) closeStory(j *job[*story]) {
	s := j.state
	if s.kv == nil {
		return
	}
	e.slots[s.slot] = nil
	j.keep(s.kv)
	e.Keeper.Close(s.kv, nil)
}

// keep notes what a KV holds at the end.
func (j *job[T]) keep(kv vae.KV) {
	j.res.KVRows, j.res.KVBytes = kv.Len(), kv.Bytes()
	if r, ok := kv.(Reporter); ok {
		s := r.Stats()
		j.res.KV = &s
	}
}
