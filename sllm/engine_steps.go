package sllm

import (
	"svae/kernels"
	"svae/kernels/op"
	"svae/vae"
)

// readTokens is how many tokens of sentences one sentence step takes in; longer prompts take several.
const readTokens = 4096

// sentenceStep is what a sentence step works with.
type sentenceStep struct {
	jobs  []*job[*story]
	at    []jobRows // of the jobs
	rows  []latentRows
	total int     // rows
	ids   []int32 // of the sentences to encode, packed
	sent  []int32 // (S+1) first token of each
	feed  vae.EncoderFeed
	parts vae.Parts
	past  vae.Past[op.Mat]
	seq   vae.Seq
	start op.Ints
	last  op.Ints // rows that say whether a document ends
	plans op.Ints // rows that the next sentences are planned from
	stop  []float32
}

// jobRows is the rows of one job in a sentence step: from lo to hi-1, those of its last sentence from last on.
type jobRows struct{ lo, last, hi int }

// latentRows is n rows of a sentence, or of the start of a document.
type latentRows struct {
	ids    []int32 // nil: the start
	known  op.Mat  // the rows, if they were known
	packed int     // else which of the sentences to encode it is
	n      int
}

// step takes jobs one step further: those that have sentences to read through a sentence step, then all that write
// through a token step.
func (e *Engine) step(jobs []*job[*story]) {
	e.writer.Clear()
	r := &e.reading
	r.jobs = r.jobs[:0]
	prompts := false
	for _, j := range jobs {
		if s := j.state; !s.begun {
			r.jobs = append(r.jobs, j)
			prompts = prompts || !s.started || len(s.read) > 1
		}
	}
	// Reading the base's weights pays for several sentences at once: those that are done wait until a third is.
	if len(r.jobs) > 0 && (prompts || 3*len(r.jobs) >= len(jobs)) {
		if err := e.readSentences(); err != nil {
			failAll(r.jobs, err)
		}
	}
	e.writing = e.writing[:0]
	for _, j := range jobs {
		if j.state.begun && !j.over {
			e.writing = append(e.writing, j)
		}
	}
	if len(e.writing) > 0 {
		if err := e.writeTokens(); err != nil {
			failAll(e.writing, err)
		}
	}
}

func failAll[T any](jobs []*job[T], err error) {
	for _, j := range jobs {
		j.finish("", err)
	}
}

// readSentences encodes what the jobs have to read, runs it through the base, and plans the next sentence of those that
// have read all of it.
func (e *Engine) readSentences() error {
	o, r, m := e.eager, &e.reading, e.model
	o.Reset()
	e.layRows()
	h := e.fillRows()
	if h.R > 0 {
		h = m.step(o, h, &r.seq, r.past)
	}
	if e.cfg.Direct { // row h.R stands for the start, where nothing was read yet
		r.start.V = append(r.start.V[:0], 0)
		h = concat(o, h, o.Gather(&r.start, m.start))
	}
	r.last.V, r.plans.V = r.last.V[:0], r.plans.V[:0]
	part := 0
	for i, j := range r.jobs {
		a := &r.at[i]
		if a.hi > a.lo {
			if err := r.parts.Err(part); err != nil {
				j.finish("", err)
			}
			part++
		} else if e.cfg.Direct {
			a.last, a.hi = r.total, r.total+1
		}
		if len(j.state.read) == 0 {
			r.last.V = append(r.last.V, int32(a.hi-1))
		}
	}
	if len(r.last.V) == 0 {
		return o.Err()
	}
	stop := o.Linear(o.Gather(&r.last, h), m.stop.W, m.stop.B, kernels.None)
	if err := o.Err(); err != nil {
		return err
	}
	r.stop = append(r.stop[:0], make([]float32, 2*stop.R)...)
	o.Backend().Download(r.stop, stop.Buf)
	at := 0
	for i, j := range r.jobs {
		if len(j.state.read) == 0 {
			e.next(j, r.at[i], r.stop[at:at+2])
			at += 2
		}
		j.weights += e.bytes.sentence / int64(len(r.jobs))
		j.kvRead += j.state.kv.Bytes()
	}
	if len(r.plans.V) > 0 {
		e.writer.Plans(m.Plan(o, o.Gather(&r.plans, h)))
	}
	return o.Err()
}

// concat puts rows b below rows a.
func concat(o *op.Eager, a, b op.Mat) op.Mat {
	if a.R == 0 {
		return b
	}
	out := o.New(a.R+b.R, a.C)
	o.Backend().Copy(out.Rows(0, a.R).Buf, a.Buf)
	o.Backend().Copy(out.Rows(a.R, out.R).Buf, b.Buf)
	return out
}

// layRows sets the geometry of a sentence step: which rows of the base each job adds, and what they see.
func (e *Engine) layRows() {
	r, off := &e.reading, int32(e.cfg.Base.PosOffset())
	r.at, r.rows, r.ids, r.sent = r.at[:0], r.rows[:0], r.ids[:0], append(r.sent[:0], 0)
	r.seq.Pos.V, r.total = r.seq.Pos.V[:0], 0
	r.parts.Clear()
	tokens := 0
	for _, j := range r.jobs {
		s := j.state
		a, from := jobRows{r.total, r.total, r.total}, len(r.rows)
		add := func(x latentRows) {
			a.last, a.hi = a.hi, a.hi+x.n
			r.rows = append(r.rows, x)
		}
		if !s.started && !e.cfg.Direct {
			add(latentRows{n: e.cfg.startRows()})
		}
		s.started = true
		for len(s.read) > 0 && (tokens == 0 || tokens+len(s.read[0]) <= readTokens) {
			ids := s.read[0]
			x := latentRows{ids: ids, known: e.known.get(ids), packed: len(r.sent) - 1, n: e.latents(len(ids))}
			if j.res.LatentLookups++; x.known.Absent() {
				r.ids = append(r.ids, ids...)
				r.sent = append(r.sent, int32(len(r.ids)))
			} else {
				j.res.LatentHits++
			}
			add(x)
			tokens += len(ids)
			s.read, s.count = s.read[1:], s.count+1
		}
		r.total = a.hi
		r.at = append(r.at, a)
		if a.hi > a.lo {
			e.see(s, r.rows[from:], a.hi-a.lo, off)
		}
	}
}

// see lets the new rows of one job see its earlier ones; those of a sentence see each other.
func (e *Engine) see(s *story, groups []latentRows, n int, off int32) {
	r, have := &e.reading, s.kv.Len()
	for i := range n {
		r.seq.Pos.V = append(r.seq.Pos.V, int32(have+i)+off)
	}
	sp := &r.parts.Add(s.kv, n).Spans
	if e.cfg.VAE.Single() {
		return
	}
	sp.Q, sp.KLo, sp.KHi, sp.Causal = append(sp.Q[:0], 0), sp.KLo[:0], sp.KHi[:0], false
	end := int32(0)
	for _, g := range groups {
		end += int32(g.n)
		sp.Q, sp.KLo, sp.KHi = append(sp.Q, end), append(sp.KLo, 0), append(sp.KHi, int32(have)+end)
	}
}

// fillRows encodes the sentences that are not known and returns the rows (total, D) that enter the base.
func (e *Engine) fillRows() op.Mat {
	o, r, m := e.eager, &e.reading, e.model
	var z op.Mat
	if len(r.sent) > 1 {
		r.feed.Set(&e.cfg.VAE, r.ids, r.sent)
		z = m.enter(o, m.Encoder.Encode(o, &r.feed))
		if o.Err() != nil {
			return op.Mat{}
		}
	}
	x, be := o.New(r.total, e.cfg.Base.HiddenSize), o.Backend()
	at := 0
	for _, g := range r.rows {
		from := g.known
		switch {
		case g.ids == nil:
			r.start.V = r.start.V[:0]
			for i := range g.n {
				r.start.V = append(r.start.V, int32(i))
			}
			from = o.Gather(&r.start, m.start)
		case from.Absent():
			from = z.Rows(int(r.feed.At[g.packed]), int(r.feed.At[g.packed+1]))
			e.known.put(g.ids, from)
		}
		be.Copy(x.Rows(at, at+g.n).Buf, from.Buf)
		at += g.n
	}
	return x
}

// next decides what follows the sentences that a job has read: the end, or a sentence planned from the last of its rows.
func (e *Engine) next(j *job[*story], a jobRows, stop []float32) {
	s, q := j.state, &j.req
	j.first()
	switch {
	case j.over:
	case s.count > 0 && s.open == nil && !q.IgnoreStop && s.sampler.Choose(stop) == 0:
		j.finish(Stopped, nil)
	case q.MaxSentences > 0 && s.sentences >= q.MaxSentences, s.tokens >= q.MaxTokens,
		s.kv.Len()+e.latents(e.cfg.VAE.MaxSentence) > e.cfg.Base.Positions:
		j.finish(Length, nil)
	default:
		p := &e.reading.plans
		s.plan[0] = len(p.V)
		for i := a.last; i < a.hi; i++ {
			p.V = append(p.V, int32(i))
		}
		s.plan[1] = len(p.V)
		s.first, s.begun = len(s.text)-len(s.open), true
	}
}

// writeTokens writes one token of every sentence that is being written.
func (e *Engine) writeTokens() error {
	w, v := e.writer, &e.cfg.VAE
	bytes := e.bytes.token
	for _, j := range e.writing {
		s := j.state
		if s.plan[1] > s.plan[0] {
			w.Begin(s.slot, s.plan[0], s.plan[1], s.text[:s.first], s.text[s.first:])
			s.plan, s.open = [2]int{}, nil
			bytes = e.bytes.token + e.bytes.begin
		} else {
			w.Push(s.slot, s.text[len(s.text)-1])
		}
	}
	x, err := w.Step()
	if err != nil {
		return err
	}
	e.choose.begin()
	for i, j := range e.writing {
		s := j.state
		var banned []int32
		if v.EndMark && j.req.IgnoreStop && len(s.text) == s.first {
			banned = e.mark[:]
		}
		e.choose.add(i, s.sampler, banned, j.req.LogProbs)
	}
	if err := e.choose.run(x); err != nil {
		return err
	}
	n := int64(len(e.writing))
	for i, j := range e.writing {
		p := &e.choose.picks[i]
		j.weights += bytes/n + p.read
		j.kvRead += w.Bytes(j.state.slot)
		e.wrote(j, p.id, p.prob)
	}
	return nil
}

// wrote takes the token that was chosen for a job.
func (e *Engine) wrote(j *job[*story], id int32, prob float32) {
	s, v, q := j.state, &e.cfg.VAE, &j.req
	if v.EndMark && id == v.Arch.EOS {
		if len(s.text) == s.first { // an empty sentence has no latent
			j.finish(Stopped, nil)
			return
		}
		e.endSentence(s)
		return
	}
	if s.tokens == 0 || len(s.text) == s.first {
		s.sentences++
	}
	s.text = append(s.text, id)
	s.tokens++
	j.steps++
	ends := !v.EndMark && q.Boundary != nil && q.Boundary.Push(id) || len(s.text)-s.first >= v.MaxSentence
	j.emit(Token{ID: id, LogProb: prob, Sentence: s.sentences - 1, Ends: ends})
	switch {
	case ends:
		e.endSentence(s)
		if q.IgnoreStop && s.tokens >= q.MaxTokens { // nothing could say otherwise
			j.finish(Length, nil)
		}
	case s.tokens >= q.MaxTokens:
		j.finish(Length, nil)
	}
}

// endSentence hands what was written to the next sentence step.
func (e *Engine) endSentence(s *story) {
	s.read, s.begun = append(s.read[:0:0], s.text[s.first:len(s.text):len(s.text)]), false
}
