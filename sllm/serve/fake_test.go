package serve

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// fake is a Model that says what it is told to.
type fake struct {
	name    string
	pieces  []Piece
	finish  Finish
	calls   atomic.Int64
	running atomic.Int64
	most    atomic.Int64 // that ran at once
	// before runs first, each before every piece. An error ends the request.
	before func(ctx context.Context, r Request) error
	each   func(ctx context.Context, i int) error

	mu   sync.Mutex
	last Request
}

func (f *fake) Name() string { return f.name }

func (f *fake) Complete(ctx context.Context, r Request, emit func(Piece) bool) (u Usage, err error) {
	f.calls.Add(1)
	n := f.running.Add(1)
	defer f.running.Add(-1)
	f.most.Store(max(f.most.Load(), n))
	f.mu.Lock()
	f.last = r
	f.mu.Unlock()
	u.Prompt = len(strings.Fields(r.Prompt))
	if f.before != nil {
		if err := f.before(ctx, r); err != nil {
			return u, err
		}
	}
	for i, p := range f.pieces {
		if f.each != nil {
			if err := f.each(ctx, i); err != nil {
				return u, err
			}
		}
		if u.Tokens >= r.MaxTokens {
			u.Finish = Length
			return u, nil
		}
		if !r.LogProbs {
			p.Probs = nil
		}
		u.Tokens++
		if !emit(p) {
			return u, nil
		}
	}
	u.Finish = f.finish
	if u.Finish == "" {
		u.Finish = Stop
	}
	return u, nil
}

func (f *fake) request() Request {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.last
}

// words returns a piece for each text; a sentence ends with "." and "。".
func words(texts ...string) []Piece {
	ps := make([]Piece, len(texts))
	for i, s := range texts {
		ps[i] = Piece{Text: s, Probs: []Token{{s, -float32(i+1) / 2}}, Ends: strings.HasSuffix(s, ".") || strings.HasSuffix(s, "。")}
	}
	return ps
}

// until waits for ctx, and fails the test if it does not end.
func until(t *testing.T, ctx context.Context) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(20 * time.Second):
		t.Error("the context of a request did not end")
		return context.DeadlineExceeded
	}
}

// eventually waits until ok is true.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s: did not happen", what)
		}
	}
}

// running is a server that runs on a port of its own.
type running struct {
	*Server
	url  string
	addr string
	log  *logged
	stop context.CancelFunc // begins the shutdown
	end  chan error         // nil or an error when it has ended
	cut  atomic.Bool
}

// logged keeps what is logged.
type logged struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logged) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// start serves until the test ends.
func start(t *testing.T, cfg Config, models ...Model) *running {
	t.Helper()
	r := &running{log: &logged{}, end: make(chan error, 1)}
	cfg.Models, cfg.Log = models, slog.New(slog.NewTextHandler(r.log, nil))
	s, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ln, err := Listen(t.Context(), "127.0.0.1:0", false)
	if err != nil {
		t.Fatal(err)
	}
	r.Server, r.addr = s, ln.Addr().String()
	r.url = "http://" + r.addr
	var ctx context.Context
	ctx, r.stop = context.WithCancel(context.Background())
	go func() {
		cut, err := s.Serve(ctx, ln)
		r.cut.Store(cut)
		r.end <- err
		close(r.end)
	}()
	t.Cleanup(func() {
		r.stop()
		select {
		case <-r.end:
		case <-time.After(20 * time.Second):
			t.Error("the server does not end")
		}
	})
	return r
}

// post sends a completion request and returns the whole answer.
func (r *running) post(t *testing.T, body string) (*http.Response, string) {
	t.Helper()
	resp, err := http.Post(r.url+"/v1/completions", "application/json", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	return resp, read(t, resp)
}

func read(t *testing.T, resp *http.Response) string {
	t.Helper()
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// answer is a completion as a client sees it.
type answer struct {
	ID, Object, Model string
	Created           int64
	Choices           []struct {
		Text     string
		Index    int
		LogProbs *struct {
			Tokens     []string
			LogProbs   []float32            `json:"token_logprobs"`
			Top        []map[string]float32 `json:"top_logprobs"`
			TextOffset []int                `json:"text_offset"`
		}
		Finish *string `json:"finish_reason"`
	}
	Usage *struct {
		Prompt int `json:"prompt_tokens"`
		Tokens int `json:"completion_tokens"`
		Total  int `json:"total_tokens"`
	}
	Error *struct {
		Message, Type string
		Param, Code   *string
	}
}

func parse(t *testing.T, body string) (a answer) {
	t.Helper()
	if err := json.Unmarshal([]byte(body), &a); err != nil {
		t.Fatalf("%v in %q", err, body)
	}
	return a
}

// wantError checks that an answer is an error in OpenAI's shape.
func wantError(t *testing.T, resp *http.Response, body string, status int, text string) {
	t.Helper()
	if resp.StatusCode != status || resp.Header.Get("Content-Type") != "application/json" {
		t.Fatalf("status %s, %s, want %d: %s", resp.Status, resp.Header.Get("Content-Type"), status, body)
	}
	a := parse(t, body)
	if a.Error == nil || a.Error.Type == "" || !strings.Contains(a.Error.Message, text) {
		t.Fatalf("error %s, want %q in it", body, text)
	}
	if strings.ContainsAny(a.Error.Message, "\n\x1b") {
		t.Fatalf("error %q is not one plain line", a.Error.Message)
	}
}

// events reads a stream of server-sent events strictly: data lines with a blank line behind each, and comments.
func events(r io.Reader) (data []string, comments int, err error) {
	sc := bufio.NewScanner(r)
	sc.Buffer(nil, 1<<24)
	open := false
	for sc.Scan() {
		line := sc.Text()
		switch {
		case line == "" && open:
			open = false
		case strings.HasPrefix(line, "data: ") && !open:
			data, open = append(data, line[6:]), true
		case strings.HasPrefix(line, ":") && !open:
			comments++
		default:
			return data, comments, fmt.Errorf("line %q in the stream", line)
		}
	}
	return data, comments, sc.Err()
}

// stream sends a request for a stream and returns its chunks, without the final [DONE].
func (r *running) stream(t *testing.T, body string) (chunks []answer, comments int) {
	t.Helper()
	resp, err := http.Post(r.url+"/v1/completions", "application/json", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != 200 || resp.Header.Get("Content-Type") != "text/event-stream" {
		t.Fatalf("%s: %s", resp.Status, read(t, resp))
	}
	data, comments, err := events(resp.Body)
	if err != nil || len(data) == 0 || data[len(data)-1] != "[DONE]" {
		t.Fatalf("the stream ends with %q, %v", data, err)
	}
	for _, d := range data[:len(data)-1] {
		chunks = append(chunks, parse(t, d))
	}
	return chunks, comments
}

// raw opens a connection and sends text as it is.
func (r *running) raw(t *testing.T, text string) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", r.addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(20 * time.Second))
	if _, err := io.WriteString(c, text); err != nil {
		t.Fatal(err)
	}
	return c
}
