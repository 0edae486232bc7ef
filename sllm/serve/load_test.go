package serve

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// TestDisconnect sends clients away while they wait, before the first token and after it, and looks for what they leave.
func TestDisconnect(t *testing.T) {
	m := &fake{name: "m", pieces: words("a", "b")}
	var ended sync.WaitGroup
	m.each = func(ctx context.Context, i int) error {
		if i < 1 {
			return nil
		}
		defer ended.Done()
		return until(t, ctx)
	}
	s := start(t, Config{Parallel: 2, Queue: 100}, m)
	before := runtime.NumGoroutine()
	for i := range 30 {
		ended.Add(1)
		ctx, cancel := context.WithCancel(t.Context())
		req, _ := http.NewRequestWithContext(ctx, "POST", s.url+"/v1/completions", strings.NewReader(fmt.Sprintf(`{"prompt":"p","stream":%v}`, i%2 == 0)))
		req.Header.Set("Content-Type", "application/json")
		if i%2 == 0 {
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := resp.Body.Read(make([]byte, 1)); err != nil {
				t.Fatal(err)
			}
			cancel()
			resp.Body.Close()
		} else {
			calls := m.calls.Load()
			go func() {
				eventually(t, "the model is called", func() bool { return m.calls.Load() > calls })
				cancel()
			}()
			if _, err := http.DefaultClient.Do(req); !errors.Is(err, context.Canceled) {
				t.Fatal(err)
			}
		}
		ended.Wait()
	}
	// in the queue: the model is never called
	ended.Add(2)
	var hold [2]context.CancelFunc
	var running sync.WaitGroup
	do := func(ctx context.Context) {
		req, _ := http.NewRequestWithContext(ctx, "POST", s.url+"/v1/completions", strings.NewReader(`{"prompt":"p"}`))
		req.Header.Set("Content-Type", "application/json")
		if resp, err := http.DefaultClient.Do(req); err == nil {
			resp.Body.Close()
		}
	}
	for i := range hold {
		var ctx context.Context
		ctx, hold[i] = context.WithCancel(t.Context())
		running.Go(func() { do(ctx) })
	}
	eventually(t, "two run", func() bool { return m.running.Load() == 2 })
	calls := m.calls.Load()
	ctx, cancel := context.WithCancel(t.Context())
	for range 20 {
		running.Go(func() { do(ctx) })
	}
	eventually(t, "twenty wait", func() bool { return s.queue.waiting.Load() == 20 })
	cancel()
	eventually(t, "none waits", func() bool { return s.queue.waiting.Load() == 0 })
	for _, c := range hold {
		c()
	}
	running.Wait()
	ended.Wait()
	if m.calls.Load() != calls {
		t.Fatal("a client that was gone was served")
	}
	http.DefaultClient.CloseIdleConnections()
	eventually(t, "all goroutines end", func() bool { return runtime.NumGoroutine() <= before+2 && len(s.queue.places) == 0 })
	if l := s.log.String(); strings.Count(l, "status=499") < 15 || strings.Contains(l, "panic") {
		t.Fatal(l)
	}
}

func TestQueue(t *testing.T) {
	release := make(chan struct{})
	m := &fake{name: "m", pieces: words("a"), before: func(ctx context.Context, r Request) error {
		if r.Prompt == "hold" {
			<-release
		}
		return nil
	}}
	s := start(t, Config{Parallel: 2, Queue: 3}, m)
	var wg sync.WaitGroup
	for range 5 {
		wg.Go(func() {
			if _, body := s.post(t, `{"prompt":"hold"}`); parse(t, body).Choices[0].Text != "a" {
				t.Error(body)
			}
		})
	}
	eventually(t, "two run and three wait", func() bool { return m.running.Load() == 2 && s.queue.waiting.Load() == 3 })
	for _, body := range []string{`{"prompt":"p"}`, `{"prompt":"p","stream":true}`} {
		resp, got := s.post(t, body)
		wantError(t, resp, got, 429, "queue is full")
		if resp.Header.Get("Retry-After") == "" {
			t.Fatal("no Retry-After")
		}
	}
	if resp, err := http.Get(s.url + "/health"); err != nil || resp.StatusCode != 200 {
		t.Fatal("a full queue is no reason to look ill: ", err)
	}
	close(release)
	wg.Wait()
	if m.most.Load() > 2 || s.queue.waiting.Load() != 0 {
		t.Fatal("more ran at once than allowed: ", m.most.Load())
	}
	if _, body := s.post(t, `{"prompt":"p"}`); parse(t, body).Choices[0].Text != "a" {
		t.Fatal(body)
	}
}

// TestQueueOrder checks that whoever waits longest is next.
func TestQueueOrder(t *testing.T) {
	q := newQueue(1, 10)
	if err := q.enter(t.Context()); err != nil {
		t.Fatal(err)
	}
	order := make(chan int, 10)
	for i := range 10 {
		go func() {
			if q.enter(t.Context()) == nil {
				order <- i
				q.leave(0)
			}
		}()
		eventually(t, "one more waits", func() bool { return q.waiting.Load() == int64(i+1) })
		time.Sleep(2 * time.Millisecond) // from the count to the channel
	}
	q.leave(40 * time.Second)
	for i := range 10 {
		if got := <-order; got != i {
			t.Fatalf("place %d went to %d", i, got)
		}
	}
	if n := newQueue(4, 0).retryAfter(); n != 1 {
		t.Fatal(n)
	}
}

// TestSlowReader checks that a client that does not read is cut off, while others are served and its place is free at once.
func TestSlowReader(t *testing.T) {
	long := strings.Repeat("x", 1<<20)
	m := &fake{name: "m", finish: Stop}
	for range 64 {
		m.pieces = append(m.pieces, Piece{Text: long})
	}
	ok := &fake{name: "ok", pieces: words("fine")}
	s := start(t, Config{Parallel: 1, Write: 300 * time.Millisecond}, m, ok)
	body := `{"model":"m","prompt":"p","max_tokens":100,"stream":true}`
	c := s.raw(t, fmt.Sprintf("POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", len(body), body))
	eventually(t, "the model has ended", func() bool { return m.calls.Load() == 1 && m.running.Load() == 0 })
	begin := time.Now()
	if _, got := s.post(t, `{"model":"ok","prompt":"p"}`); parse(t, got).Choices[0].Text != "fine" || time.Since(begin) > 5*time.Second {
		t.Fatal(got, time.Since(begin))
	}
	eventually(t, "the slow one is cut off", func() bool { return strings.Contains(s.log.String(), "end=gone") })
	got, _ := io.ReadAll(c)
	if strings.Contains(string(got), "[DONE]") || len(got) > 64<<20 {
		t.Fatal("the stream looks finished")
	}
}

// TestSlowloris checks that connections that send nothing, or half a header, are closed for a new one when there are too many,
// and that one that is answered is not.
func TestSlowloris(t *testing.T) {
	release := make(chan struct{})
	m := &fake{name: "m", pieces: words("a"), before: func(context.Context, Request) error { <-release; return nil }}
	s := start(t, Config{MaxConns: 8}, m)
	answered := make(chan string)
	go func() {
		_, body := s.post(t, `{"prompt":"p"}`)
		answered <- body
	}()
	eventually(t, "the model runs", func() bool { return m.running.Load() == 1 })
	var cs []net.Conn
	for i := range 30 {
		cs = append(cs, s.raw(t, []string{"", "GET /health HTTP/1.1\r\nHost: loc"}[i%2]))
	}
	if resp, body := s.exchange(t, "GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"); resp.StatusCode != 200 {
		t.Fatal(body)
	}
	for i, c := range cs[:20] {
		if n, err := c.Read(make([]byte, 1)); n != 0 || err == nil {
			t.Fatalf("connection %d is still open", i)
		}
	}
	close(release)
	if body := <-answered; parse(t, body).Choices[0].Text != "a" {
		t.Fatal(body)
	}
}

// TestDeadlines checks that a connection with half a header, half a body or nothing does not stay for ever, and that the time
// for the body is no bound on the answer.
func TestDeadlines(t *testing.T) {
	m := &fake{name: "m", pieces: words("a"), before: func(ctx context.Context, _ Request) error {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(400 * time.Millisecond):
			return nil
		}
	}}
	const most = 200 * time.Millisecond
	s := start(t, Config{Header: most, Body: most, Idle: most}, m)
	const post = "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 14\r\n\r\n"
	var all sync.WaitGroup
	for text, want := range map[string]string{
		"":                                "",
		"GET /health HTTP/1.1\r\nHost: l": "",
		"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n":                         "200 OK",
		"GET /health HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\nx": "200 OK",
		post + `{"prompt"`:        "408 Request Timeout",
		post + `{"prompt":"p"}`:   "200 OK",
		post + `{"prompt":"p"}xx`: "200 OK",
	} {
		begin := time.Now()
		c := s.raw(t, text)
		all.Go(func() {
			b, err := io.ReadAll(c)
			if errors.Is(err, syscall.ECONNRESET) {
				err = nil
			}
			if took := time.Since(begin); err != nil || took < most/2 || took > 10*time.Second || !strings.HasPrefix(string(b), strings.TrimSuffix("HTTP/1.1 "+want, "HTTP/1.1 ")) {
				t.Errorf("%.60q: after %v: %q, %v", text, took, b, err)
			}
		})
	}
	all.Wait()
}

func TestShutdown(t *testing.T) {
	release := make(chan struct{})
	m := &fake{name: "m", pieces: words("a", "b"), each: func(ctx context.Context, i int) error {
		if i == 1 {
			<-release
		}
		return nil
	}}
	s := start(t, Config{Parallel: 1, Queue: 1, Grace: 20 * time.Second}, m)
	type result struct {
		status int
		body   string
	}
	results := make(chan result, 2)
	for i := range 2 {
		go func() {
			resp, body := s.post(t, `{"prompt":"p"}`)
			results <- result{resp.StatusCode, body}
		}()
		if i == 0 {
			eventually(t, "one runs", func() bool { return m.running.Load() == 1 })
		}
	}
	eventually(t, "one waits", func() bool { return s.queue.waiting.Load() == 1 })
	s.stop()
	if r := <-results; r.status != 503 || !strings.Contains(r.body, "shutting down") {
		t.Fatal("the one that waits should be turned away: ", r)
	}
	eventually(t, "nothing is accepted", func() bool {
		c, err := net.Dial("tcp", s.addr)
		if err == nil {
			c.Close()
		}
		return err != nil
	})
	close(release)
	if r := <-results; r.status != 200 || parse(t, r.body).Choices[0].Text != "ab" {
		t.Fatal("the one that runs should finish: ", r)
	}
	if err := <-s.end; err != nil || s.cut.Load() {
		t.Fatal(err, s.cut.Load())
	}
}

func TestShutdownCuts(t *testing.T) {
	m := &fake{name: "m", pieces: words("a", "b"), each: func(ctx context.Context, i int) error {
		if i == 1 {
			return until(t, ctx)
		}
		return nil
	}}
	s := start(t, Config{Grace: 50 * time.Millisecond}, m)
	bodies := make(chan string, 2)
	for _, req := range []string{`{"prompt":"p"}`, `{"prompt":"p","stream":true}`} {
		go func() {
			resp, body := s.post(t, req)
			bodies <- resp.Status + body
		}()
	}
	eventually(t, "two run", func() bool { return m.running.Load() == 2 })
	s.stop()
	for range 2 {
		b := <-bodies
		if !strings.Contains(b, "shutting down") || strings.Contains(b, "[DONE]") || !strings.HasPrefix(b, "503") && !strings.Contains(b, `"text":"a"`) {
			t.Fatal(b)
		}
	}
	if err := <-s.end; err != nil || !s.cut.Load() {
		t.Fatal(err, s.cut.Load())
	}
}
