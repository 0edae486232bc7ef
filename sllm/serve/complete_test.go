package serve

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

func TestWhole(t *testing.T) {
	m := &fake{name: "m", pieces: words("Call", " me", " Ishmael", ".")}
	s := start(t, Config{}, m)
	resp, body := s.post(t, `{"model":"m","prompt":"one two","max_tokens":3,"temperature":0.5,"top_p":0.9,"top_k":7,"seed":-1,"max_sentences":2,"user":"u"}`)
	a := parse(t, body)
	if resp.StatusCode != 200 || a.Object != "text_completion" || a.Model != "m" || !strings.HasPrefix(a.ID, "cmpl-") || time.Since(time.Unix(a.Created, 0)) > time.Minute {
		t.Fatal(resp.Status, body)
	}
	if c := a.Choices[0]; len(a.Choices) != 1 || c.Text != "Call me Ishmael" || *c.Finish != "length" || c.LogProbs != nil || c.Index != 0 {
		t.Fatal(body)
	}
	if u := a.Usage; u.Prompt != 2 || u.Tokens != 3 || u.Total != 5 {
		t.Fatal(body)
	}
	want := Request{Prompt: "one two", MaxTokens: 3, MaxSentences: 2, Temperature: 0.5, TopP: 0.9, TopK: 7, Seed: 1<<64 - 1}
	if got := m.request(); got != want {
		t.Fatalf("%+v, want %+v", got, want)
	}
	// the defaults are OpenAI's; null is as not given
	_, body = s.post(t, `{"prompt":["one"],"max_tokens":null,"stream":null,"stop":null,"n":1,"best_of":1,"logit_bias":{},"suffix":"","presence_penalty":0.0,"stream_options":null}`)
	if a := parse(t, body); a.Choices[0].Text != "Call me Ishmael." || *a.Choices[0].Finish != "stop" {
		t.Fatal(body)
	}
	got := m.request()
	seed := got.Seed
	if got.Seed = 0; got != (Request{Prompt: "one", MaxTokens: 16, Temperature: 1, TopP: 1}) {
		t.Fatalf("%+v", got)
	}
	s.post(t, `{"prompt":"one","top_p":0}`)
	if got := m.request(); got.TopK != 1 || got.TopP != 1 || got.Seed == seed {
		t.Fatalf("%+v: top_p 0 must leave one token, and the seed must be another each time", got)
	}
}

func TestSeveralPrompts(t *testing.T) {
	m := &fake{name: "m", pieces: words("x", "y.")}
	s := start(t, Config{Parallel: 1}, m)
	_, body := s.post(t, `{"prompt":["a b","","c"],"echo":true}`)
	a := parse(t, body)
	if len(a.Choices) != 3 || a.Choices[0].Text != "a bxy." || a.Choices[1].Text != "xy." || a.Choices[2].Text != "cxy." || a.Choices[2].Index != 2 {
		t.Fatal(body)
	}
	if u := a.Usage; u.Prompt != 3 || u.Tokens != 6 || m.calls.Load() != 3 {
		t.Fatal(body)
	}
	chunks, _ := s.stream(t, `{"prompt":["a","b"],"stream":true}`)
	text := map[int]string{}
	ends := map[int]int{}
	for _, c := range chunks {
		text[c.Choices[0].Index] += c.Choices[0].Text
		if c.Choices[0].Finish != nil {
			ends[c.Choices[0].Index]++
		}
	}
	if text[0] != "xy." || text[1] != "xy." || ends[0] != 1 || ends[1] != 1 {
		t.Fatal(text, ends)
	}
}

func TestStream(t *testing.T) {
	m := &fake{name: "m", pieces: words("One", " two", ".", " Three", "。", " four")}
	s := start(t, Config{}, m)
	for _, c := range []struct {
		fields string
		want   []string
	}{
		{``, []string{"One", " two", ".", " Three", "。", " four", ""}},
		{`,"stream_by":"token","echo":true`, []string{"p", "One", " two", ".", " Three", "。", " four", ""}},
		{`,"stream_by":"sentence"`, []string{"One two.", " Three。", " four", ""}},
		{`,"max_tokens":4,"stream_by":"sentence"`, []string{"One two.", " Three", ""}},
		{`,"stop":"two. Th"`, []string{"One", " ", ""}},
		{`,"stop":["two. Tx","r"]`, []string{"One", " ", "two. Th", ""}},
		{`,"stop":"four!"`, []string{"One", " two", ".", " Three", "。", " ", "four", ""}},
	} {
		chunks, _ := s.stream(t, `{"prompt":"p","stream":true,"stream_options":{"include_usage":true,"include_obfuscation":false}`+c.fields+`}`)
		last := chunks[len(chunks)-1]
		if len(last.Choices) != 0 || last.Usage == nil || last.Usage.Prompt != 1 || last.Usage.Total != 1+last.Usage.Tokens {
			t.Fatalf("%s: the last chunk should have the usage: %+v", c.fields, last)
		}
		var got []string
		for i, k := range chunks[:len(chunks)-1] {
			got = append(got, k.Choices[0].Text)
			if k.ID != last.ID || k.Usage != nil || k.Object != "text_completion" || (k.Choices[0].Finish != nil) != (i == len(chunks)-2) {
				t.Fatalf("%s: chunk %d: %+v", c.fields, i, k)
			}
		}
		if strings.Join(got, "|") != strings.Join(c.want, "|") {
			t.Errorf("%s: chunks %q, want %q", c.fields, got, c.want)
		}
		// the whole answer is the stream's
		_, body := s.post(t, `{"prompt":"p"`+strings.ReplaceAll(strings.ReplaceAll(c.fields, `,"stream_by":"sentence"`, ""), `,"stream_by":"token"`, "")+`}`)
		if a := parse(t, body); a.Choices[0].Text != strings.Join(c.want, "") || *a.Choices[0].Finish != *chunks[len(chunks)-2].Choices[0].Finish {
			t.Errorf("%s: whole answer %s", c.fields, body)
		}
	}
	if chunks, _ := s.stream(t, `{"prompt":"p","stream":true}`); chunks[len(chunks)-1].Usage != nil {
		t.Error("usage that was not asked for")
	}
}

func TestStopEndsTheModel(t *testing.T) {
	m := &fake{name: "m", pieces: words("a", "b", "c", "d", "e")}
	s := start(t, Config{}, m)
	_, body := s.post(t, `{"prompt":"p","stop":["bc"],"logprobs":0}`)
	a := parse(t, body)
	if c := a.Choices[0]; c.Text != "a" || *c.Finish != "stop" || a.Usage.Tokens != 3 || len(c.LogProbs.Tokens) != 1 {
		t.Fatal(body)
	}
	if _, body := s.post(t, `{"prompt":"p","stop":[]}`); parse(t, body).Choices[0].Text != "abcde" {
		t.Fatal(body)
	}
}

func TestLogProbs(t *testing.T) {
	ps := words("One", " é", ".")
	ps = append(ps, Piece{Text: "鲸", Probs: []Token{{`bytes:\xe9\xb2`, -1}, {`bytes:\xb8`, -2}}}, Piece{Text: "z", Probs: []Token{{"z", -3}}})
	s := start(t, Config{}, &fake{name: "m", pieces: ps})
	for _, f := range []string{`"logprobs":0`, `"logprobs":1,"temperature":0`} {
		resp, body := s.post(t, `{"prompt":"p",`+f+`}`)
		if resp.StatusCode != 200 {
			t.Fatal(body)
		}
		l := parse(t, body).Choices[0].LogProbs
		if got := fmt.Sprintf("%q %v %v", l.Tokens, l.LogProbs, l.TextOffset); got != `["One" " é" "." "bytes:\\xe9\\xb2" "bytes:\\xb8" "z"] [-0.5 -1 -1.5 -1 -2 -3] [0 3 5 6 6 7]` {
			t.Fatal(got)
		}
		if top := strings.Contains(f, "1"); top != (l.Top != nil) || top && l.Top[1][" é"] != -1 {
			t.Fatal(body)
		}
		chunks, _ := s.stream(t, `{"prompt":"p","stream":true,"stream_by":"sentence",`+f+`}`)
		n := 0
		for _, c := range chunks {
			if p := c.Choices[0].LogProbs; p != nil {
				n += len(p.Tokens)
			}
		}
		if n != 6 || len(chunks[0].Choices[0].LogProbs.Tokens) != 3 {
			t.Fatalf("%d tokens in %+v", n, chunks)
		}
	}
}

// TestPieces holds whole and streamed answers against each other for texts of many kinds of characters.
func TestPieces(t *testing.T) {
	const text = "Ünïcödé — 鲸鱼。\u2028 <b>&amp;</b> \x00\x7f 👩‍🚀 end"
	var ps []Piece
	for _, r := range text {
		ps = append(ps, Piece{Text: string(r)})
	}
	s := start(t, Config{}, &fake{name: "m", pieces: ps})
	for _, stop := range []string{"", "🚀", "\u200d\U0001F680 ", "鱼。\u2028 <"} {
		b, _ := json.Marshal(stop)
		f := ""
		if stop != "" {
			f = `,"stop":` + string(b)
		}
		want, _, _ := strings.Cut(text, cmpStop(stop))
		_, body := s.post(t, `{"prompt":"p","max_tokens":100`+f+`}`)
		if got := parse(t, body).Choices[0].Text; got != want {
			t.Errorf("stop %q: %q, want %q", stop, got, want)
		}
		got := ""
		chunks, _ := s.stream(t, `{"prompt":"p","max_tokens":100,"stream":true`+f+`}`)
		for _, c := range chunks {
			if k := c.Choices[0].Text; !utf8.ValidString(k) || strings.Contains(k, "\uFFFD") {
				t.Errorf("chunk %q is not whole", k)
			}
			got += c.Choices[0].Text
		}
		if got != want {
			t.Errorf("stream, stop %q: %q, want %q", stop, got, want)
		}
	}
}

// cmpStop returns a text that never comes for an empty one.
func cmpStop(s string) string {
	if s == "" {
		return "never"
	}
	return s
}

func TestModelErrors(t *testing.T) {
	m := &fake{name: "m", pieces: words("a", "b")}
	s := start(t, Config{}, m)
	m.before = func(context.Context, Request) error {
		return &InputError{Param: "prompt", Message: "prompt is too long for this model"}
	}
	for _, body := range []string{`{"prompt":"secret words"}`, `{"prompt":"secret words","stream":true}`} {
		resp, got := s.post(t, body)
		wantError(t, resp, got, 400, "too long")
		if *parse(t, got).Error.Param != "prompt" {
			t.Fatal(got)
		}
	}
	m.before = func(context.Context, Request) error { return errors.New("disk on fire") }
	resp, got := s.post(t, `{"prompt":"secret words"}`)
	wantError(t, resp, got, 500, "the model failed")
	if strings.Contains(got, "fire") || !strings.Contains(s.log.String(), "disk on fire") {
		t.Fatal("the cause belongs into the log alone:", got, s.log)
	}
	// an error in the middle of a stream is an event, and the stream does not look finished
	m.before, m.each = nil, func(_ context.Context, i int) error {
		if i == 1 {
			return errors.New("disk on fire")
		}
		return nil
	}
	resp, got = s.post(t, `{"prompt":"secret words","stream":true}`)
	if resp.StatusCode != 200 || !strings.Contains(got, `"text":"a"`) || !strings.Contains(got, `"error":{`) || strings.Contains(got, "[DONE]") {
		t.Fatal(got)
	}
	if strings.Contains(s.log.String(), "secret") {
		t.Fatal("a prompt in the log: ", s.log)
	}
}

func TestPanicIsolation(t *testing.T) {
	m := &fake{name: "m", pieces: words("a", "b"), each: func(ctx context.Context, i int) error {
		if i == 1 {
			var p *fake
			p.name = "x"
		}
		return nil
	}}
	ok := &fake{name: "ok", pieces: words("fine")}
	s := start(t, Config{Parallel: 1}, m, ok)
	resp, body := s.post(t, `{"model":"m","prompt":"p"}`)
	wantError(t, resp, body, 500, "the model failed")
	_, body = s.post(t, `{"model":"m","prompt":"p","stream":true}`)
	if !strings.Contains(body, `"error":{`) || strings.Contains(body, "[DONE]") {
		t.Fatal(body)
	}
	if _, body := s.post(t, `{"model":"ok","prompt":"p"}`); parse(t, body).Choices[0].Text != "fine" {
		t.Fatal(body)
	}
	if l := s.log.String(); strings.Count(l, "nil pointer") != 2 || !strings.Contains(l, "Complete") {
		t.Fatal("the log should tell of two panics and where: ", l)
	}
}

// TestHandlerPanic is about a panic outside of the model's goroutine.
func TestHandlerPanic(t *testing.T) {
	s := start(t, Config{}, &fake{name: "m"})
	s.cfg.Models = append(s.cfg.Models, nil)
	resp, err := http.Get(s.url + "/v1/models")
	if err != nil {
		t.Fatal(err)
	}
	wantError(t, resp, read(t, resp), 500, "")
	if resp, err := http.Get(s.url + "/health"); err != nil || resp.StatusCode != 200 {
		t.Fatal(err)
	}
}

func TestModels(t *testing.T) {
	s := start(t, Config{}, &fake{name: "a"}, &fake{name: "b/base"})
	get := func(path string) (*http.Response, string) {
		resp, err := http.Get(s.url + path)
		if err != nil {
			t.Fatal(err)
		}
		return resp, read(t, resp)
	}
	_, body := get("/v1/models")
	var list struct {
		Object string
		Data   []struct{ ID, Object string }
	}
	if err := json.Unmarshal([]byte(body), &list); err != nil || list.Object != "list" || len(list.Data) != 2 || list.Data[1].ID != "b/base" || list.Data[0].Object != "model" {
		t.Fatal(body, err)
	}
	for _, path := range []string{"/v1/models/a", "/v1/models/b/base", "/v1/models/b%2Fbase"} {
		if resp, body := get(path); resp.StatusCode != 200 || !strings.Contains(body, `"object":"model"`) {
			t.Fatal(path, body)
		}
	}
	for _, path := range []string{"/v1/models/../../etc/passwd", "/v1/models/%2e%2e%2fetc", "/v1/models/", "/v1/models//a", "/v1/models/a%00", "/v1/models/" + strings.Repeat("x", 10000)} {
		resp, body := get(path)
		if path == "/v1/models/" {
			wantError(t, resp, body, 400, "missing")
			continue
		}
		wantError(t, resp, body, 404, "")
	}
	resp, body := s.post(t, `{"model":"../a","prompt":"p"}`)
	wantError(t, resp, body, 404, "no model")
	if a := parse(t, body); *a.Error.Code != "model_not_found" || *a.Error.Param != "model" {
		t.Fatal(body)
	}
	resp, body = s.post(t, `{"prompt":"p"}`)
	wantError(t, resp, body, 400, "model is missing")
	if strings.Contains(s.log.String(), "model=../a") {
		t.Fatal("a client's model name in the log")
	}
}

func TestTimeout(t *testing.T) {
	m := &fake{name: "m", pieces: words("a", "b", "c"), each: func(ctx context.Context, i int) error {
		if i == 2 {
			return until(t, ctx)
		}
		return nil
	}}
	s := start(t, Config{Timeout: 100 * time.Millisecond}, m)
	// what was written in the time is an answer
	resp, body := s.post(t, `{"prompt":["p","q"]}`)
	a := parse(t, body)
	if resp.StatusCode != 200 || a.Choices[0].Text != "ab" || *a.Choices[0].Finish != "length" || a.Choices[1].Text != "" || *a.Choices[1].Finish != "length" || a.Usage.Tokens != 2 {
		t.Fatal(body)
	}
	chunks, _ := s.stream(t, `{"prompt":"p","stream":true}`)
	if last := chunks[len(chunks)-1].Choices[0]; len(chunks) != 3 || *last.Finish != "length" {
		t.Fatalf("%+v", chunks)
	}
	// nothing at all is none
	m.before = func(ctx context.Context, _ Request) error { return until(t, ctx) }
	resp, body = s.post(t, `{"prompt":"p"}`)
	wantError(t, resp, body, 504, "time")
	if resp.Header.Get("X-Should-Retry") != "false" || !strings.Contains(s.log.String(), "end=timeout") {
		t.Fatal(resp.Header, s.log)
	}
}

func TestBeat(t *testing.T) {
	m := &fake{name: "m", pieces: words("a"), before: func(ctx context.Context, _ Request) error {
		time.Sleep(100 * time.Millisecond)
		return nil
	}}
	s := start(t, Config{Beat: 10 * time.Millisecond}, m)
	chunks, comments := s.stream(t, `{"prompt":"p","stream":true}`)
	if comments < 2 || chunks[0].Choices[0].Text != "a" {
		t.Fatal(comments, chunks)
	}
	m.before = func(ctx context.Context, _ Request) error {
		time.Sleep(50 * time.Millisecond)
		return refusal("prompt", "too late to be a status")
	}
	resp, body := s.post(t, `{"prompt":"p","stream":true}`)
	if resp.StatusCode != 200 || !strings.Contains(body, "too late") || strings.Contains(body, "[DONE]") {
		t.Fatal(body)
	}
}
