package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/openai/openai-go"
	"github.com/openai/openai-go/option"
)

// child is a server in a process of its own.
type child struct {
	url string
	cmd *exec.Cmd

	mu  sync.Mutex
	log bytes.Buffer
	eof chan struct{}
}

var servingAt = regexp.MustCompile(` at (http://\S+)/v1 `)

// serving starts svae serve on a free port.
func serving(t *testing.T, args ...string) *child {
	t.Helper()
	c := &child{cmd: exec.Command("svae", append([]string{"serve", "--addr", "127.0.0.1:0"}, args...)...), eof: make(chan struct{})}
	r, err := c.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.cmd.Process.Kill() })
	ready := make(chan string, 1)
	go func() {
		defer close(c.eof)
		for sc := bufio.NewScanner(r); sc.Scan(); {
			c.mu.Lock()
			fmt.Fprintln(&c.log, sc.Text())
			c.mu.Unlock()
			if m := servingAt.FindStringSubmatch(sc.Text()); m != nil {
				ready <- m[1]
			}
		}
	}()
	select {
	case c.url = <-ready:
	case <-c.eof:
		t.Fatal("svae serve ended: ", c.text())
	case <-time.After(time.Minute):
		t.Fatal("svae serve does not begin: ", c.text())
	}
	return c
}

func (c *child) text() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.log.String()
}

// interrupt sends a signal and returns the exit code.
func (c *child) interrupt(t *testing.T, s os.Signal) int {
	t.Helper()
	if err := c.cmd.Process.Signal(s); err != nil {
		t.Fatal(err)
	}
	<-c.eof
	c.cmd.Wait()
	return c.cmd.ProcessState.ExitCode()
}

// demoBase converts the demo's base model and returns its folder.
func demoBase(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "base")
	svae(t, "convert", filepath.Join("demo", "base"), dir)
	return dir
}

// svae runs a command and returns its standard output.
func svae(t *testing.T, args ...string) string {
	t.Helper()
	var out, msg bytes.Buffer
	cmd := exec.Command("svae", args...)
	cmd.Stdout, cmd.Stderr = &out, &msg
	if err := cmd.Run(); err != nil {
		t.Fatalf("svae %q: %v: %s", args, err, &msg)
	}
	return out.String()
}

// TestServe talks to a server as OpenAI's own client does, and compares what it says with svae generate.
func TestServe(t *testing.T) {
	base := demoBase(t)
	key := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(key, []byte("sk-0123456789abcdef\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := serving(t, "--api-key-file", key, base, "again="+base)
	ctx := t.Context()
	client := openai.NewClient(option.WithBaseURL(s.url+"/v1"), option.WithAPIKey("sk-0123456789abcdef"), option.WithMaxRetries(0))

	page, err := client.Models.List(ctx)
	if err != nil || len(page.Data) != 2 || page.Data[0].ID != "base" || page.Data[1].ID != "again" {
		t.Fatalf("%+v, %v", page, err)
	}
	if m, err := client.Models.Get(ctx, "again"); err != nil || m.ID != "again" {
		t.Fatalf("%+v, %v", m, err)
	}

	prompts := []string{"Call me Ishmael.", "The whale", "", "It was a dark night. The captain said that", "Nantucket! Take out your map and look at it."}
	want := map[string]string{}
	for _, p := range prompts {
		want[p] = strings.TrimSuffix(svae(t, "generate", "--model", base, "--prompt", p, "--max-tokens", "40"), "\n")
	}
	params := func(p string) openai.CompletionNewParams {
		return openai.CompletionNewParams{Model: "base", Prompt: openai.CompletionNewParamsPromptUnion{OfString: openai.String(p)}, MaxTokens: openai.Int(40),
			Temperature: openai.Float(0), StreamOptions: openai.ChatCompletionStreamOptionsParam{IncludeUsage: openai.Bool(true)}}
	}
	stream := func(p string, extra ...option.RequestOption) (chunks []string, finish string, tokens int64, err error) {
		st := client.Completions.NewStreaming(ctx, params(p), extra...)
		for st.Next() {
			c := st.Current()
			for _, k := range c.Choices {
				if k.Text != "" {
					chunks = append(chunks, k.Text)
				}
				finish += string(k.FinishReason)
			}
			tokens += c.Usage.CompletionTokens
		}
		return chunks, finish, tokens, st.Err()
	}
	// all at once, token by token and sentence by sentence
	var wg sync.WaitGroup
	for _, p := range prompts {
		wg.Go(func() {
			chunks, finish, tokens, err := stream(p)
			if got := strings.Join(chunks, ""); err != nil || got != want[p] || finish != "length" || tokens != 40 {
				t.Errorf("%q: %q, want %q; %s, %d tokens, %v", p, got, want[p], finish, tokens, err)
			}
			if len(chunks) < 20 {
				t.Errorf("%q: only %d chunks", p, len(chunks))
			}
		})
		wg.Go(func() {
			chunks, _, _, err := stream(p, option.WithJSONSet("stream_by", "sentence"))
			if got := strings.Join(chunks, ""); err != nil || got != want[p] || len(chunks) > 12 {
				t.Errorf("by sentences, %q: %q, want %q; %v", p, chunks, want[p], err)
			}
		})
	}
	wg.Wait()

	// whole, with log-probabilities; and a stop string that lies across tokens
	whole := params(prompts[0])
	whole.StreamOptions = openai.ChatCompletionStreamOptionsParam{}
	whole.Logprobs = openai.Int(1)
	got, err := client.Completions.New(ctx, whole)
	if err != nil {
		t.Fatal(err)
	}
	l := got.Choices[0].Logprobs
	if got.Choices[0].Text != want[prompts[0]] || got.Usage.CompletionTokens != 40 || len(l.Tokens) != 40 || strings.Join(l.Tokens, "") != got.Choices[0].Text || len(l.TopLogprobs) != 40 {
		t.Fatalf("%+v", got)
	}
	for i, p := range l.TokenLogprobs {
		if p > 0 || p < -20 {
			t.Errorf("token %d has the log-probability %v", i, p)
		}
	}
	text := want[prompts[0]]
	whole.Stop.OfString = openai.String(text[30:40])
	whole.Logprobs = openai.CompletionNewParams{}.Logprobs
	at := strings.Index(text, text[30:40])
	if got, err = client.Completions.New(ctx, whole); err != nil || got.Choices[0].Text != text[:at] || got.Choices[0].FinishReason != "stop" {
		t.Fatalf("%+v, %v", got, err)
	}
	// seeds are honoured
	whole.Stop.OfString = openai.CompletionNewParamsStopUnion{}.OfString
	whole.Temperature, whole.Seed = openai.Float(1), openai.Int(7)
	a, err1 := client.Completions.New(ctx, whole)
	b, err2 := client.Completions.New(ctx, whole)
	if err := errors.Join(err1, err2); err != nil || a.Choices[0].Text != b.Choices[0].Text {
		t.Fatal(a, b, err)
	}
	if g := strings.TrimSuffix(svae(t, "generate", "--model", base, "--prompt", prompts[0], "--max-tokens", "40", "--temperature", "1", "--seed", "7"), "\n"); g != a.Choices[0].Text {
		t.Fatalf("the server drew %q, svae generate %q", a.Choices[0].Text, g)
	}

	// refusals reach the client as its own errors
	for status, change := range map[int]func(*openai.CompletionNewParams) []option.RequestOption{
		400: func(p *openai.CompletionNewParams) []option.RequestOption { p.N = openai.Int(2); return nil },
		401: func(*openai.CompletionNewParams) []option.RequestOption {
			return []option.RequestOption{option.WithAPIKey("sk-wrong")}
		},
		404: func(p *openai.CompletionNewParams) []option.RequestOption { p.Model = "gpt-x"; return nil },
	} {
		p := params("x")
		p.StreamOptions = openai.ChatCompletionStreamOptionsParam{}
		opts := change(&p)
		var e *openai.Error
		if _, err := client.Completions.New(ctx, p, opts...); !errors.As(err, &e) || e.StatusCode != status || e.Message == "" || e.Type == "" {
			t.Errorf("want %d: %v", status, err)
		}
	}
	long := params(strings.Repeat("The sea was white. ", 2000))
	long.StreamOptions = openai.ChatCompletionStreamOptionsParam{}
	var e *openai.Error
	if _, err := client.Completions.New(ctx, long); !errors.As(err, &e) || e.StatusCode != 400 || e.Param != "prompt" || !strings.Contains(e.Message, "leaves no room") {
		t.Errorf("a prompt longer than the model's positions: %v", err)
	}

	if code := s.interrupt(t, syscall.SIGTERM); code != 0 {
		t.Errorf("exit code %d: %s", code, s.text())
	}
	log := s.text()
	if n := strings.Count(log, "msg=request"); n < 20 || !strings.Contains(log, "model=base prompt_tokens=") || !strings.Contains(log, "status=401") {
		t.Errorf("%d requests in the log: %s", n, log)
	}
	for _, secret := range []string{"Ishmael", "whale", "0123456789", "sk-"} {
		if strings.Contains(log, secret) {
			t.Errorf("%q is in the log", secret)
		}
	}
}

// TestServeSentences serves a sentence-level model and its base from one bundle.
func TestServeSentences(t *testing.T) {
	dir := t.TempDir()
	in := func(name string) string { return filepath.Join(dir, name) }
	if err := errors.Join(os.WriteFile(in("corpus.jsonl"), corpus(40), 0o666), tokenizers(dir)); err != nil {
		t.Fatal(err)
	}
	svae(t, "data", "build", "--tokenizer", in("tok"), "--out", in("sh"), in("corpus.jsonl"))
	svae(t, "train", "lm", "--tokenizer", in("tok"), "--data", in("sh"), "--out", in("lm"), "--steps", "3", "--warmup", "1", "--batch-tokens", "128", "--hidden-size", "16", "--layers", "2", "--heads", "2", "--kv-heads", "1", "--ffn", "32")
	svae(t, "train", "sllm", "--base", in("lm"), "--data", in("sh"), "--out", in("sllm"), "--steps", "3", "--warmup", "1", "--batch-tokens", "128")
	svae(t, "export", "--model", in("sllm"), "--with-base", in("lm"), "--out", in("bundle"))
	s := serving(t, "--grace", "1ms", in("bundle"))
	post := func(body string) string {
		resp, err := http.Post(s.url+"/v1/completions", "application/json", strings.NewReader(body))
		if err != nil {
			t.Error(err)
			return ""
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		if err != nil || resp.StatusCode != 200 {
			t.Errorf("%s: %s, %v", resp.Status, b, err)
		}
		return string(b)
	}
	for model, folder := range map[string]string{"bundle": "sllm", "bundle/base": "lm"} {
		const prompt = "The whale said. The old man"
		want := strings.TrimSuffix(svae(t, "generate", "--model", in(folder), "--prompt", prompt, "--max-tokens", "30", "--max-sentences", "4"), "\n")
		var got struct{ Choices []struct{ Text string } }
		body := post(`{"model":"` + model + `","prompt":"` + prompt + `","max_tokens":30,"max_sentences":4,"temperature":0}`)
		if err := json.Unmarshal([]byte(body), &got); err != nil || got.Choices[0].Text != want {
			t.Errorf("%s: %s, want %q; %v", model, body, want, err)
		}
	}
	// a client that goes away, and one that is cut when the server ends
	long := `{"model":"bundle","prompt":[` + strings.Repeat(`"The whale said. The old man",`, 31) + `"The sea"],"max_tokens":4096,"temperature":2,"stream":true}`
	begin := func() *http.Response {
		resp, err := http.Post(s.url+"/v1/completions", "application/json", strings.NewReader(long))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(resp.Body, make([]byte, 100)); err != nil {
			t.Fatal(err)
		}
		return resp
	}
	begin().Body.Close()
	for end := time.Now().Add(20 * time.Second); !strings.Contains(s.text(), "status=200") || !strings.Contains(s.text(), "end=gone"); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the server does not see that its client is gone: ", s.text())
		}
	}
	cut := begin()
	defer cut.Body.Close()
	tail := make(chan string, 1)
	go func() {
		b, _ := io.ReadAll(cut.Body)
		tail <- string(b)
	}()
	if code := s.interrupt(t, os.Interrupt); code != exitInterrupted || !strings.HasSuffix(s.text(), "svae: interrupted\n") {
		t.Errorf("exit code %d: %s", code, s.text())
	}
	if b := <-tail; !strings.Contains(b, "shutting down") || strings.Contains(b, "[DONE]") {
		t.Errorf("the stream that was cut ends with %q", b[max(0, len(b)-300):])
	}
}
