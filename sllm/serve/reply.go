package serve

import (
	"bytes"
	"cmp"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"time"
)

// statusGone is what the log says when the client went away first, as nginx does.
const statusGone = 499

// errorBody is how OpenAI reports an error.
type errorBody struct {
	Message string  `json:"message"`
	Type    string  `json:"type"`
	Param   *string `json:"param"`
	Code    *string `json:"code"`
}

// explain returns the status and the body of an error. What is not meant for clients stays in the log.
func explain(err error) (int, errorBody) {
	var input *InputError
	code := func(s string) *string { return &s }
	switch {
	case errors.As(err, &input):
		e := errorBody{Message: input.Message, Type: "invalid_request_error"}
		if input.Param != "" {
			e.Param = &input.Param
		}
		if input.code != "" {
			e.Code = &input.code
		}
		return cmp.Or(input.status, http.StatusBadRequest), e
	case errors.Is(err, errFull):
		return http.StatusTooManyRequests, errorBody{Message: err.Error(), Type: "rate_limit_error", Code: code("queue_full")}
	case errors.Is(err, errShutdown):
		return http.StatusServiceUnavailable, errorBody{Message: err.Error(), Type: "server_error", Code: code("shutting_down")}
	case errors.Is(err, errDeadline):
		return http.StatusGatewayTimeout, errorBody{Message: err.Error(), Type: "server_error", Code: code("timeout")}
	}
	return http.StatusInternalServerError, errorBody{Message: "the model failed; the server's log says why", Type: "server_error", Code: code("internal_error")}
}

func sendError(w *record, err error) {
	status, body := explain(err)
	if status == http.StatusGatewayTimeout { // a client that tries again at once would double the load
		w.Header().Set("X-Should-Retry", "false")
	}
	sendJSON(w, status, map[string]errorBody{"error": body})
}

// sendJSON writes a whole answer. It does not report a client that is gone.
func sendJSON(w *record, status int, v any) error {
	b := encode(v)
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(b)))
	w.WriteHeader(status)
	w.Write(b)
	return nil
}

// encode returns v as one line of JSON and its line break.
func encode(v any) []byte {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil { // of our own types, without NaN
		panic(err)
	}
	return b.Bytes()
}

// completion is OpenAI's answer, whole or a part of a stream.
type completion struct {
	ID      string   `json:"id"`
	Object  string   `json:"object"`
	Created int64    `json:"created"`
	Model   string   `json:"model"`
	Choices []choice `json:"choices"`
	Usage   any      `json:"usage,omitempty"`
}

type choice struct {
	Text         string    `json:"text"`
	Index        int       `json:"index"`
	LogProbs     *logProbs `json:"logprobs"`
	FinishReason *Finish   `json:"finish_reason"`
}

// logProbs are the tokens of a choice, or of a part of it.
type logProbs struct {
	Tokens     []string             `json:"tokens"`
	LogProbs   []float32            `json:"token_logprobs"`
	Top        []map[string]float32 `json:"top_logprobs"` // null unless asked for
	TextOffset []int                `json:"text_offset"`  // where each begins in the choice's text, in characters
}

type usageObject struct {
	Prompt int `json:"prompt_tokens"`
	Tokens int `json:"completion_tokens"`
	Total  int `json:"total_tokens"`
}

// reply sends the chunks of a job to the client as they come, or all at once.
type reply interface {
	send([]chunk)
	beat()        // a sign of life while there is nothing to send
	flush() error // an error says that the client does not take the answer
	end(Usage)    // all went well
	fail(error)
}

// newReply returns the reply that a call asks for.
func newReply(w *record, c *call, model string) reply {
	var id [12]byte
	rand.Read(id[:])
	head := completion{ID: "cmpl-" + hex.EncodeToString(id[:]), Object: "text_completion", Created: time.Now().Unix(), Model: model}
	if c.stream {
		return &stream{w: w, head: head, usage: c.usage}
	}
	d := &document{w: w, head: head, finish: make([]Finish, len(c.prompts))}
	d.head.Choices = make([]choice, len(c.prompts))
	for i := range d.head.Choices {
		d.head.Choices[i].Index = i
	}
	return d
}

// document is an answer in one piece.
type document struct {
	w      *record
	head   completion
	text   [maxPrompts]bytes.Buffer
	finish []Finish
}

func (d *document) send(cs []chunk) {
	for _, c := range cs {
		d.text[c.index].WriteString(c.text)
		if l := &d.head.Choices[c.index].LogProbs; *l == nil {
			*l = c.probs
		} else if p := c.probs; p != nil {
			(*l).Tokens, (*l).LogProbs = append((*l).Tokens, p.Tokens...), append((*l).LogProbs, p.LogProbs...)
			(*l).Top, (*l).TextOffset = append((*l).Top, p.Top...), append((*l).TextOffset, p.TextOffset...)
		}
		if c.finish != "" {
			d.finish[c.index] = c.finish
			d.head.Choices[c.index].FinishReason = &d.finish[c.index]
		}
	}
}

func (d *document) beat()        {}
func (d *document) flush() error { return nil }

func (d *document) end(u Usage) {
	for i := range d.head.Choices {
		d.head.Choices[i].Text = d.text[i].String()
	}
	d.head.Usage = usageObject{u.Prompt, u.Tokens, u.Prompt + u.Tokens}
	sendJSON(d.w, http.StatusOK, &d.head)
}

func (d *document) fail(err error) { sendError(d.w, err) }

// stream is an answer as server-sent events. Its header is sent with the first of them, so that an error before it still has a
// status of its own.
type stream struct {
	w     *record
	head  completion
	usage bool
	buf   []byte // events to send
	begun bool
}

// event adds an event.
func (s *stream) event(v any) {
	s.buf = append(s.buf, "data: "...)
	s.buf = append(append(s.buf, encode(v)...), '\n')
}

func (s *stream) send(cs []chunk) {
	for _, c := range cs {
		part := s.head
		part.Choices = []choice{{Text: c.text, Index: c.index, LogProbs: c.probs}}
		if c.finish != "" {
			part.Choices[0].FinishReason = &c.finish
		}
		if s.usage {
			part.Usage = json.RawMessage("null")
		}
		s.event(&part)
	}
}

// beat adds a comment. No blank line follows it, which some clients take for an empty event.
func (s *stream) beat() { s.buf = append(s.buf, ": waiting\n"...) }

func (s *stream) flush() error {
	if len(s.buf) == 0 {
		return nil
	}
	if !s.begun {
		s.begun = true
		s.w.Header().Set("Content-Type", "text/event-stream")
		s.w.Header().Set("X-Accel-Buffering", "no") // proxies pass it on as it comes
	}
	_, err := s.w.Write(s.buf)
	s.buf = s.buf[:0]
	return cmp.Or(err, s.w.rc.Flush())
}

func (s *stream) end(u Usage) {
	if s.usage {
		last := s.head
		last.Choices, last.Usage = []choice{}, usageObject{u.Prompt, u.Tokens, u.Prompt + u.Tokens}
		s.event(&last)
	}
	s.buf = append(s.buf, "data: [DONE]\n\n"...)
	s.flush()
}

func (s *stream) fail(err error) {
	if !s.begun {
		s.buf = nil
		sendError(s.w, err)
		return
	}
	_, body := explain(err)
	s.event(map[string]errorBody{"error": body})
	s.flush()
}
