package sllm

import (
	"context"
	"fmt"
	"slices"

	"svae/kernels"
	"svae/kernels/op"
	"svae/vae"
)

// LMEngine generates with a token-level model, for any number of requests at once: each pass takes one token of every
// request that writes, and a piece of the prompts of those that are new.
type LMEngine struct {
	// Stops are the tokens that end a text; of the architecture's EOS alone unless set.
	Stops []int32
	// MaxBatch is how many requests run at the same time; others wait in order of arrival. Chunk is how many rows of
	// prompts a pass takes at most. Set both before the first request.
	MaxBatch, Chunk int
	// Keeper makes the KV of requests; in memory, unless set before the first request.
	Keeper Keeper

	arch   *vae.Arch
	model  *LM[op.Mat]
	eager  *op.Eager
	choose *chooser
	loop   loop[*text]
	ids    op.Ints
	seq    vae.Seq
	parts  vae.Parts
	past   vae.Past[op.Mat]
	moved  []*job[*text] // that have rows in this pass
	asking []*job[*text] // whose next token it chooses
	last   []int32       // rows, of moved
	bytes  int64         // of the layers' weights

	alone *alone
}

// text is the state of a request of an LMEngine.
type text struct {
	ids       []int32 // all tokens, BOS first
	prompt    int     // of them, not written
	inside    bool    // the last sentence has not ended
	tokens    int     // written
	sentences int
	ends      []int
	kv        vae.KV
	sampler   *vae.Sampler
}

// promptRows is how many rows of prompts a pass takes, unless an engine is told otherwise.
const promptRows = 512

// NewLMEngine returns an engine over the weights. It packs them: they must not change while the engine is in use.
func NewLMEngine(a *vae.Arch, s *vae.Store) *LMEngine {
	s.Pack()
	be := s.Backend()
	e := &LMEngine{Stops: []int32{a.EOS}, MaxBatch: maxBatch, Chunk: promptRows, Keeper: &caches{be: be}, arch: a,
		model: NewLM(a, s.Mat), eager: op.NewEager(be)}
	e.choose = newChooser(s, HeadName(a), e.model.head, op.Mat{})
	e.past = e.parts.Past(e.eager)
	e.bytes = linearBytes(s, func(b vae.Build[op.Mat]) { NewLM(a, b) }) - e.model.head.WeightBytes()
	e.loop = loop[*text]{open: e.openText, step: e.step, close: e.closeText}
	return e
}

// Generate continues a document token by token; see Engine.Generate.
func (e *LMEngine) Generate(ctx context.Context, r Request, emit func(Token) bool) (Result, error) {
	var res Result
	s := &text{sampler: vae.NewSampler(r.Sampling), inside: r.Open}
	ids := prime(r, &res)
	if e.arch.BOS >= 0 {
		s.ids = append(make([]int32, 0, cap(ids)+1), e.arch.BOS)
	}
	at := len(s.ids)
	for i, sentence := range r.Sentences {
		if at += len(sentence); i < len(r.Sentences)-1 || !r.Open {
			s.ends = append(s.ends, at)
		}
	}
	if s.ids = append(s.ids, ids...); len(s.ids) == 0 {
		s.ids = append(s.ids, 0)
	}
	if s.prompt = len(s.ids); s.prompt > e.arch.Positions {
		return res, fmt.Errorf("the prompt has %d tokens, the model %d positions (shorten the prompt)", s.prompt, e.arch.Positions)
	}
	return e.loop.generate(ctx, e.MaxBatch, r, s, res, emit)
}

func (e *LMEngine) openText(j *job[*text]) (err error) {
	s := j.state
	if s.kv, err = e.Keeper.Open(s.ids, s.ends); err == nil && s.kv.Len() >= len(s.ids) {
		err = fmt.Errorf("%w: %d rows are kept of a prompt of %d tokens", ErrInternal, s.kv.Len(), len(s.ids))
	}
	return err
}

func (e *LMEngine) closeText(j *job[*text]) {
	s := j.state
	if s.kv == nil {
		return
	}
	j.keep(s.kv)
	if k := j.res.KV; k != nil && k.Steps > 0 {
		j.kvRead = k.Scanned / int64(k.Steps) * j.steps
	}
	if j.err != nil {
		e.Keeper.Close(s.kv, nil)
		return
	}
	e.Keeper.Close(s.kv, s.ids[:s.kv.Len()])
}

// step runs the next rows of the jobs, and chooses a token for those whose rows are all there.
func (e *LMEngine) step(jobs []*job[*text]) {
	last := e.lay(jobs)
	o := e.eager
	o.Reset()
	h := e.model.Hidden(o, &e.ids, &e.seq, e.past)
	if err := o.Err(); err != nil {
		failAll(e.moved, err)
		return
	}
	e.choose.begin()
	e.asking = e.asking[:0]
	writing := int64(0)
	for i, j := range e.moved {
		s := j.state
		if err := e.parts.Err(i); err != nil {
			j.finish("", err)
			continue
		}
		if s.kv.Len() < len(s.ids) {
			continue
		}
		j.first()
		if e.full(j) {
			j.finish(Length, nil)
			continue
		}
		var banned []int32
		if j.req.IgnoreStop {
			banned = e.Stops
		}
		e.choose.add(int(last[i]), s.sampler, banned, j.req.LogProbs)
		e.asking = append(e.asking, j)
		if s.tokens > 0 {
			writing++
		}
	}
	if len(e.asking) == 0 {
		return
	}
	if err := e.choose.run(h); err != nil {
		failAll(e.asking, err)
		return
	}
	for i, j := range e.asking {
		p := &e.choose.picks[i]
		if j.state.tokens > 0 {
			j.steps++
			j.weights += e.bytes/writing + p.read
			j.kvRead += j.state.kv.Bytes()
		}
		e.wrote(j, p.id, p.prob)
	}
}

// lay sets the geometry of a pass: the last token of each job that writes, and of the prompts, in order of arrival, what
// there is room for. It returns the last row of each job that has rows, which it puts into moved.
func (e *LMEngine) lay(jobs []*job[*text]) []int32 {
	e.ids.V, e.seq.Pos.V, e.last, e.moved = e.ids.V[:0], e.seq.Pos.V[:0], e.last[:0], e.moved[:0]
	e.parts.Clear()
	room, off := max(e.Chunk, 1), int32(e.arch.PosOffset())
	for _, j := range jobs {
		s := j.state
		have := s.kv.Len()
		n := len(s.ids) - have
		if have < s.prompt {
			n = min(n, room)
			room -= n
		}
		if n == 0 {
			continue
		}
		for i := range n {
			e.seq.Pos.V = append(e.seq.Pos.V, int32(have+i)+off)
		}
		e.ids.V = append(e.ids.V, s.ids[have:have+n]...)
		e.last = append(e.last, int32(len(e.ids.V)-1))
		e.moved = append(e.moved, j)
		e.parts.Add(s.kv, n)
	}
	return e.last
}

// full says that a cap lets a job write no more.
func (e *LMEngine) full(j *job[*text]) bool {
	s, q := j.state, &j.req
	return s.tokens >= q.MaxTokens || len(s.ids) >= e.arch.Positions || q.MaxSentences > 0 && s.sentences >= q.MaxSentences && !s.inside
}

// wrote takes the token that was chosen for a job.
func (e *LMEngine) wrote(j *job[*text], id int32, prob float32) {
	s, q := j.state, &j.req
	if slices.Contains(e.Stops, id) {
		j.finish(Stopped, nil)
		return
	}
	if s.tokens++; !s.inside || s.tokens == 1 {
		s.sentences++
	}
	s.ids = append(s.ids, id)
	ends := q.Boundary != nil && q.Boundary.Push(id)
	s.inside = !ends
	j.emit(Token{ID: id, LogProb: prob, Sentence: s.sentences - 1, Ends: ends})
	if e.full(j) {
		j.finish(Length, nil)
		return
	}
	if k, ok := s.kv.(Sealer); ok && ends {
		if err := k.Seal(len(s.ids)); err != nil {
			j.finish("", err)
		}
	}
}

// alone is a sequence that Forward adds to.
type alone struct {
	eager *op.Eager
	cache *vae.Cache
	past  vae.Past[op.Mat]
	ids   op.Ints
	seq   vae.Seq
	out   []float32
}

// Forward adds tokens to a sequence that is no request, and returns the logits (V) behind the last, valid until the next
// call. It is not safe for concurrent use with itself and Reset.
func (e *LMEngine) Forward(ids []int32) ([]float32, error) {
	a := e.alone
	if a == nil {
		be := e.eager.Backend()
		a = &alone{eager: op.NewEager(be), cache: vae.NewCache(be), out: make([]float32, e.arch.VocabSize)}
		a.past = a.cache.Past(a.eager)
		e.alone = a
	}
	o := a.eager
	o.Reset()
	a.ids.V = append(a.ids.V[:0], ids...)
	a.seq.Next(a.cache.Len(), len(ids), e.arch.PosOffset())
	h := e.model.Hidden(o, &a.ids, &a.seq, a.past)
	if err := o.Err(); err != nil {
		return nil, err
	}
	l := o.Linear(h.Rows(h.R-1, h.R), e.model.head, op.Mat{}, kernels.None)
	o.Backend().Download(a.out, l.Buf)
	return a.out, o.Err()
}

// Reset forgets the sequence of Forward.
func (e *LMEngine) Reset() {
	if e.alone != nil {
		e.alone.cache.Truncate(0)
	}
}
