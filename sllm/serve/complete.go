package serve

import (
	"context"
	"errors"
	"io"
	"math"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode/utf8"
)

// completions answers POST /v1/completions.
func (s *Server) completions(w *record, r *http.Request) error {
	body, err := s.body(w, r)
	if err != nil {
		return err
	}
	c, err := decode(body, &s.cfg)
	if err != nil {
		return err
	}
	m, err := s.find(c.model)
	if err != nil {
		return err
	}
	w.model = m.Name()
	ctx, cancel := context.WithTimeoutCause(r.Context(), s.cfg.Timeout, errDeadline)
	defer cancel()
	j := &job{call: c, model: m, more: make(chan struct{}, 1), done: make(chan struct{})}
	go s.run(ctx, j)
	out := newReply(w, c, w.model)
	err = s.follow(cancel, j, out)
	w.usage, w.waited = j.usage, j.waited
	switch {
	case err != nil || r.Context().Err() != nil && !errors.Is(context.Cause(r.Context()), errShutdown):
		w.gone, w.end = true, "gone"
	case j.err != nil:
		s.fail(w, j, out)
	default:
		out.end(j.usage)
	}
	return nil
}

// body reads the body of a request.
func (s *Server) body(w *record, r *http.Request) ([]byte, error) {
	kind, params, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if cs := params["charset"]; err != nil || kind != "application/json" || cs != "" && !strings.EqualFold(cs, "utf-8") || r.Header.Get("Content-Encoding") != "" {
		return nil, &InputError{status: http.StatusUnsupportedMediaType, code: "unsupported_media_type", Message: "the body must be plain JSON (send Content-Type: application/json)"}
	}
	tooLarge := &InputError{status: http.StatusRequestEntityTooLarge, code: "body_too_large", Message: "the body has more than the " + strconv.FormatInt(s.cfg.maxBody(), 10) + " bytes that this server takes"}
	if r.ContentLength > s.cfg.maxBody() {
		w.Header().Set("Connection", "close") // rather than read it
		return nil, tooLarge
	}
	b, err := io.ReadAll(http.MaxBytesReader(w.ResponseWriter, r.Body, s.cfg.maxBody()))
	if big := (*http.MaxBytesError)(nil); errors.As(err, &big) {
		return nil, tooLarge
	}
	if err != nil {
		w.Header().Set("Connection", "close")
		return nil, &InputError{status: http.StatusRequestTimeout, code: "body_incomplete", Message: "the body did not come whole in time"}
	}
	w.rc.SetReadDeadline(time.Time{}) // from here a read only watches whether the client goes away
	return b, nil
}

// follow hands what a job writes to the reply until the job has ended. An error says that the client takes no more.
func (s *Server) follow(cancel func(), j *job, out reply) error {
	beat := time.NewTicker(s.cfg.Beat)
	defer beat.Stop()
	for running := true; running; {
		idle := false
		select {
		case <-j.more:
		case <-j.done:
			running = false
		case <-beat.C:
			idle = true
		}
		if cs := j.take(); len(cs) > 0 {
			out.send(cs)
			beat.Reset(s.cfg.Beat)
		} else if idle {
			out.beat()
		}
		if err := out.flush(); err != nil {
			cancel()
			<-j.done
			return err
		}
	}
	return nil
}

// fail answers a job that failed.
func (s *Server) fail(w *record, j *job, out reply) {
	switch {
	case errors.Is(j.err, errFull):
		w.end = "queue full"
		w.Header().Set("Retry-After", strconv.Itoa(s.queue.retryAfter()))
	case errors.Is(j.err, errDeadline):
		w.end = "timeout"
		if j.usage.Tokens > 0 { // time is a cap like any other
			for i := range j.call.prompts[j.closed:] {
				out.send([]chunk{{index: j.closed + i, finish: Length}})
			}
			w.usage.Finish = Length
			out.end(j.usage)
			return
		}
	case errors.Is(j.err, errShutdown):
		w.end = "shutdown"
	case errors.Is(j.err, errPanic):
		w.end = "panic"
	case errors.As(j.err, new(*InputError)):
	default:
		w.end = "error"
		s.cfg.Log.Error("model failed", "model", w.model, "error", j.err.Error())
	}
	out.fail(j.err)
}

// job is a call on its way through the queue and a model. What it writes is taken by the goroutine of the request, which alone
// waits for the client; the bounds on tokens bound what lies between.
type job struct {
	call  *call
	model Model
	more  chan struct{} // there may be chunks to take
	done  chan struct{} // closed at the end; what follows may be read then

	err    error
	usage  Usage
	waited time.Duration
	closed int // choices that were finished

	mu     sync.Mutex
	chunks []chunk
}

// chunk is what is sent at a time.
type chunk struct {
	index  int // of the choice
	text   string
	probs  *logProbs
	finish Finish // of the choice's last
}

func (j *job) put(c chunk) {
	j.mu.Lock()
	j.chunks = append(j.chunks, c)
	j.mu.Unlock()
	select {
	case j.more <- struct{}{}:
	default:
	}
}

func (j *job) take() []chunk {
	j.mu.Lock()
	defer j.mu.Unlock()
	cs := j.chunks
	j.chunks = nil
	return cs
}

// run waits for a place and completes the prompts of a job, one after the other.
func (s *Server) run(ctx context.Context, j *job) {
	defer close(j.done)
	begin := time.Now()
	j.err = s.queue.enter(ctx)
	j.waited = time.Since(begin)
	if j.err != nil {
		return
	}
	begin = time.Now()
	defer func() { s.queue.leave(time.Since(begin)) }()
	defer func() {
		if v := recover(); v != nil {
			s.panicked(v)
			j.err = errPanic
		}
	}()
	for i := range j.call.prompts {
		if j.err = j.complete(ctx, i); j.err != nil {
			if ctx.Err() != nil { // whatever the model calls it
				j.err = context.Cause(ctx)
			}
			return
		}
		j.closed++
	}
}

// complete writes one choice.
func (j *job) complete(ctx context.Context, i int) error {
	r := j.call.Request
	r.Prompt = j.call.prompts[i]
	o := &output{index: i, put: j.put, stop: matcher{stops: j.call.stops}, whole: j.call.bySentence, top: j.call.probs > 0}
	if j.call.echo {
		o.write(r.Prompt)
		o.pass()
	}
	u, err := j.model.Complete(ctx, r, func(p Piece) bool {
		if ctx.Err() != nil {
			return false
		}
		return o.push(p)
	})
	j.usage.Prompt += u.Prompt
	j.usage.Tokens += u.Tokens
	if ctx.Err() != nil && err == nil && !o.stop.done && u.Finish == "" {
		err = ctx.Err()
	}
	if err != nil {
		o.end("")
		return err
	}
	j.usage.Finish = u.Finish
	if o.stop.done {
		j.usage.Finish = Stop
	}
	o.end(j.usage.Finish)
	return nil
}

// output turns the pieces of one choice into chunks.
type output struct {
	index int
	put   func(chunk)
	stop  matcher
	whole bool // a chunk is a sentence
	top   bool // logprobs list the most probable token, which is the chosen one

	text    string  // to be sent, by no stop string held back
	probs   []Token // of text and of what is held back
	starts  []mark  // (len(probs))
	pieced  mark    // the end of the pieces so far
	written int     // bytes that the stop strings let through
}

// mark is a place in the text of a choice.
type mark struct{ bytes, chars int }

// write adds text that no stop string is looked for in.
func (o *output) write(s string) {
	o.text += s
	o.written += len(s)
	o.pieced = mark{o.pieced.bytes + len(s), o.pieced.chars + utf8.RuneCountInString(s)}
}

// push adds a piece. It returns false when a stop string has ended the text.
func (o *output) push(p Piece) bool {
	if o.stop.done {
		return false
	}
	for _, t := range p.Probs {
		o.probs, o.starts = append(o.probs, t), append(o.starts, o.pieced)
	}
	o.pieced = mark{o.pieced.bytes + len(p.Text), o.pieced.chars + utf8.RuneCountInString(p.Text)}
	s := o.stop.push(p.Text)
	o.text += s
	o.written += len(s)
	if !o.whole || p.Ends {
		o.pass()
	}
	return !o.stop.done
}

// pass sends what is there.
func (o *output) pass() {
	if o.text != "" {
		o.put(chunk{index: o.index, text: o.text, probs: o.tokens(false)})
		o.text = ""
	}
}

// end sends the rest and why the choice ended, if it did.
func (o *output) end(why Finish) {
	s := o.stop.flush()
	o.text += s
	o.written += len(s)
	o.pass()
	if why != "" {
		o.put(chunk{index: o.index, probs: o.tokens(!o.stop.done), finish: why})
	}
}

// noLogProb stands for a log-probability that JSON cannot hold, as in OpenAI's answers.
const noLogProb = -9999

// tokens returns those that begin in what was let through, or all that are left.
func (o *output) tokens(all bool) *logProbs {
	n := 0
	for n < len(o.probs) && (all || o.starts[n].bytes < o.written) {
		n++
	}
	if n == 0 {
		return nil
	}
	l := &logProbs{}
	for i, t := range o.probs[:n] {
		if p := float64(t.LogProb); math.IsNaN(p) || math.IsInf(p, 0) {
			t.LogProb = noLogProb
		}
		l.Tokens, l.LogProbs, l.TextOffset = append(l.Tokens, t.Text), append(l.LogProbs, t.LogProb), append(l.TextOffset, o.starts[i].chars)
		if o.top {
			l.Top = append(l.Top, map[string]float32{t.Text: t.LogProb})
		}
	}
	o.probs, o.starts = o.probs[n:], o.starts[n:]
	return l
}
