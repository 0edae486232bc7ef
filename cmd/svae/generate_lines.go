package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"svae/checkpoints"
	"svae/sllm"
	"svae/vae"
)

// promptLine is a line of the file of prompts.
type promptLine struct {
	ID     json.RawMessage `json:"id"`
	Prompt *string         `json:"prompt"`
}

// resultLine is a line of the file of results: the answer to the prompt in the same place.
type resultLine struct {
	ID        json.RawMessage `json:"id"`
	Prompt    string          `json:"prompt"`
	Text      string          `json:"text"`
	Finish    sllm.Finish     `json:"finish_reason"`
	Read      int             `json:"prompt_tokens"`
	Tokens    int             `json:"tokens"`
	Sentences int             `json:"sentences"`
	IDs       []int32         `json:"token_ids,omitempty"`
	LogProbs  []float64       `json:"token_logprobs,omitempty"`
	// Request is a sum over the model, the settings and the prompt, by which a run that goes on knows its own results.
	Request string `json:"request"`
}

// lines continues the prompts of a JSON Lines file, several at once.
type lines struct {
	g        *generator
	in, out  string
	sampling vae.Sampling
	limits   limits
	past     *sllm.KVOptions
	logProbs bool
	settings string // sum over the model and the settings
	batch    int
}

// isLines says that a file of prompts holds one a line.
func isLines(path string) bool { return strings.HasSuffix(path, ".jsonl") }

// generateLines answers every line of --in with one of --out.
func (g *generator) generateLines(c *cli.Context, s vae.Sampling, l limits, past *sllm.KVOptions) error {
	f := &lines{g: g, in: c.String("in"), out: c.String("out"), sampling: s, limits: l, past: past, logProbs: c.Bool("logprobs"), batch: 16}
	if f.out == "" {
		return usagef("--in %s needs --out FILE.jsonl for the results", f.in)
	}
	if c.Bool("echo") {
		return usagef("--echo has no effect on results, which hold their prompts")
	}
	var err error
	if f.settings, err = f.sum(); err != nil {
		return err
	}
	prompts, err := f.prompts()
	if err != nil {
		return err
	}
	out, done, err := f.open(prompts, c.Bool("resume"), c.Bool("force"))
	if err != nil {
		return err
	}
	begin, bar := time.Now(), newCountBar(c, "prompts")
	var total sllm.Result
	err = f.run(c.Context, prompts, done, func(r *resultLine, res sllm.Result) error {
		b, err := json.Marshal(r)
		if err == nil {
			_, err = out.Write(append(b, '\n'))
		}
		done++
		bar.set(int64(done), int64(len(prompts)))
		total.Prompt, total.Tokens, total.Sentences = total.Prompt+res.Prompt, total.Tokens+res.Tokens, total.Sentences+res.Sentences
		return err
	})
	bar.done()
	err = errors.Join(err, out.Sync(), out.Close())
	if err != nil {
		fmt.Fprintf(c.App.ErrWriter, "%d of %d results are in %s; --resume goes on\n", done, len(prompts), f.out)
		return err
	}
	if c.Bool("stats") {
		d := time.Since(begin)
		fmt.Fprintf(c.App.ErrWriter, "%d prompts of %d tokens; written: %d tokens in %d sentences, %.0f tokens/s over all\n",
			len(prompts), total.Prompt, total.Tokens, total.Sentences, float64(total.Tokens)/max(d.Seconds(), 1e-9))
	}
	return nil
}

// sum returns a sum over the model and the settings. Where the folder has a manifest, it covers the weights.
func (f *lines) sum() (string, error) {
	h := sha256.New()
	m, err := os.ReadFile(filepath.Join(f.g.folder.Path, checkpoints.ManifestName))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return "", err
	}
	fmt.Fprintf(h, "%s\n%s\n%+v %+v %v", f.g.folder.Raw, m, f.sampling, f.limits, f.logProbs)
	if p := f.past; p != nil { // where the rows lie changes nothing
		fmt.Fprintf(h, " %s %s %+v %s", p.Policy, p.Budget, p.Options, p.Type)
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// request returns what Request of a result says.
func (f *lines) request(prompt string) string {
	h := sha256.Sum256([]byte(f.settings + prompt))
	return hex.EncodeToString(h[:8])
}

// prompts reads the file of prompts.
func (f *lines) prompts() ([]promptLine, error) {
	b, err := checkpoints.ReadSmall(f.in, 1<<30)
	if err != nil {
		return nil, err
	}
	var ps []promptLine
	for n, line := range bytes.Split(bytes.TrimSuffix(bytes.TrimPrefix(b, []byte("\ufeff")), []byte("\n")), []byte("\n")) {
		var p promptLine
		if err := json.Unmarshal(line, &p); err != nil {
			return nil, fmt.Errorf("%s:%d: %w (each line holds {\"prompt\": TEXT})", f.in, n+1, err)
		}
		if p.Prompt == nil {
			return nil, fmt.Errorf("%s:%d: no \"prompt\"", f.in, n+1)
		}
		if p.ID == nil {
			p.ID = json.RawMessage(fmt.Sprint(n + 1))
		}
		ps = append(ps, p)
	}
	return ps, nil
}

// open opens the file of results behind those that it holds already and counts them.
func (f *lines) open(prompts []promptLine, resume, force bool) (*os.File, int, error) {
	flags := os.O_RDWR | os.O_CREATE
	switch {
	case force:
		flags |= os.O_TRUNC
	case !resume:
		flags |= os.O_EXCL
	}
	out, err := os.OpenFile(f.out, flags, 0o666)
	if errors.Is(err, os.ErrExist) {
		return nil, 0, fmt.Errorf("%s: exists already (--resume goes on, --force begins anew)", f.out)
	}
	if err != nil {
		return nil, 0, err
	}
	done, size, err := f.held(out, prompts)
	if err == nil {
		err = out.Truncate(size) // half a line that a kill left
	}
	if err == nil {
		_, err = out.Seek(size, io.SeekStart)
	}
	if err != nil {
		out.Close()
		return nil, 0, err
	}
	return out, done, nil
}

// held counts the results that a file holds, and the bytes of their lines.
func (f *lines) held(out io.Reader, prompts []promptLine) (done int, size int64, err error) {
	r := bufio.NewReader(out)
	for {
		line, err := r.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			return done, size, nil
		}
		var have resultLine
		switch {
		case err != nil:
			return 0, 0, err
		case json.Unmarshal(line, &have) != nil || have.Request == "":
			return 0, 0, fmt.Errorf("%s:%d: is no result (--force begins anew)", f.out, done+1)
		case done >= len(prompts) || have.Request != f.request(*prompts[done].Prompt):
			return 0, 0, fmt.Errorf("%s:%d: is of another prompt, model or setting (--force begins anew)", f.out, done+1)
		}
		done, size = done+1, size+int64(len(line))
	}
}

// answer is what became of a prompt.
type answer struct {
	line *resultLine
	res  sllm.Result
	err  error
}

// run continues the prompts from number done on, some at once, and calls put with the results in their order.
func (f *lines) run(ctx context.Context, prompts []promptLine, done int, put func(*resultLine, sllm.Result) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	waiting := make(chan chan answer, f.batch-1) // in order
	go func() {
		defer close(waiting)
		for n := done; n < len(prompts) && ctx.Err() == nil; n++ {
			a := make(chan answer, 1)
			waiting <- a
			go func() { a <- f.answer(ctx, n, prompts[n]) }()
		}
	}()
	var failed error
	for a := range waiting {
		r := <-a
		if failed == nil && r.err == nil {
			r.err = put(r.line, r.res)
		}
		if r.err != nil && failed == nil {
			failed = r.err
			cancel()
		}
	}
	if failed == nil {
		failed = ctx.Err()
	}
	return failed
}

// answer continues prompt n. Each is sampled with a seed of its own, so that equal prompts get other answers.
func (f *lines) answer(ctx context.Context, n int, p promptLine) answer {
	s := f.sampling
	s.Seed += uint64(n)
	var text strings.Builder
	line := &resultLine{ID: p.ID, Prompt: *p.Prompt, Request: f.request(*p.Prompt)}
	res, err := f.g.continued(ctx, *p.Prompt, s, f.limits, f.logProbs, &text, func(t sllm.Token) {
		if f.logProbs {
			line.IDs = append(line.IDs, t.ID)
			line.LogProbs = append(line.LogProbs, math.Round(1e6*float64(t.LogProb))/1e6)
		}
	})
	if err != nil {
		return answer{err: fmt.Errorf("%s:%d: %w", f.in, n+1, err)}
	}
	line.Text, line.Finish, line.Read, line.Tokens, line.Sentences = text.String(), res.Finish, res.Prompt, res.Tokens, res.Sentences
	return answer{line, res, nil}
}
