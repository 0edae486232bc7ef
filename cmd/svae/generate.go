package main

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"svae/data"
	"svae/data/tokenizer"
	"svae/kernels"
	"svae/sllm"
	"svae/vae"
)

func generateCommand() *cli.Command {
	return &cli.Command{
		Name:  "generate",
		Usage: "continue a prompt, by sentences (SLLM) or tokens (LM), or pass it through an autoencoder",
		Description: `Text streams to the standard output as it is written. Example:

   svae generate --model run --prompt "Call me Ishmael." --max-sentences 5 --stats

Many prompts at once, {"id": ..., "prompt": TEXT} a line; what was written when it is interrupted stays and --resume goes on:

   svae generate --model run --in prompts.jsonl --out results.jsonl --logprobs`,
		Flags: append([]cli.Flag{
			&cli.StringFlag{Name: "model", Usage: "model `FOLDER` or run"},
			&cli.StringFlag{Name: "prompt", Usage: "`TEXT` to continue"},
			&cli.StringFlag{Name: "in", Usage: "`FILE` to continue, without its last line break; - is the standard input; a .jsonl file holds a prompt a line"},
			&cli.StringFlag{Name: "out", Usage: "`FILE` to write the text to, instead of the standard output; of a .jsonl file, a result a line"},
			&cli.BoolFlag{Name: "resume", Usage: "go on with an --out of results that ends early"},
			&cli.BoolFlag{Name: "force", Usage: "begin an --out of results anew"},
			&cli.BoolFlag{Name: "logprobs", Usage: "results hold the tokens and their log-probabilities"},
			&cli.Float64Flag{Name: "temperature", Usage: "0 takes the most probable token"},
			&cli.IntFlag{Name: "top-k", Usage: "choose among the k most probable tokens; 0: all"},
			&cli.Float64Flag{Name: "top-p", Usage: "choose among the most probable tokens that reach p together; 0: all"},
			&cli.Uint64Flag{Name: "seed", Usage: "of the choice", Value: 1},
			&cli.IntFlag{Name: "max-tokens", Usage: "most tokens to write", Value: 200},
			&cli.IntFlag{Name: "max-sentences", Usage: "most sentences to write; 0: no limit"},
			&cli.IntFlag{Name: "max-bytes", Usage: "most bytes to write; 0: no limit"},
			&cli.BoolFlag{Name: "ignore-stop", Usage: "write until a limit"},
			&cli.BoolFlag{Name: "echo", Usage: "print the prompt first"},
			&cli.BoolFlag{Name: "stats", Usage: "print counts and speed to the error stream"},
			&cli.StringFlag{Name: "device", Usage: "cpu or cuda", Value: "cpu"},
		}, kvFlags()...),
		Action: generate,
	}
}

// generator continues text with a model of any kind.
type generator struct {
	folder *sllm.Folder
	codec  *data.Codec
	tok    *tokenizer.Tokenizer
	engine interface {
		Generate(context.Context, sllm.Request, func(sllm.Token) bool) (sllm.Result, error)
	}
}

func newGenerator(path string, be kernels.Backend) (*generator, error) {
	f, err := sllm.Load(path, be)
	if err != nil {
		return nil, err
	}
	return generatorOf(f)
}

// generatorOf returns a generator over a model that is open.
func generatorOf(f *sllm.Folder) (*generator, error) {
	g := &generator{folder: f}
	var err error
	if g.codec, err = codecOf(f); err != nil {
		return nil, err
	}
	if g.tok, err = loadTokenizer(f); err != nil {
		return nil, err
	}
	switch f.Kind {
	case sllm.KindLM:
		e := sllm.NewLMEngine(&f.LM, f.Store)
		if e.Stops, err = f.Stops(); err != nil {
			return nil, err
		}
		g.engine = e
	case sllm.KindSLLM:
		g.engine = sllm.NewEngine(&f.SLLM, f.Store)
	}
	return g, nil
}

// limits are the caps that a caller sets.
type limits struct {
	tokens, sentences, bytes int
	ignoreStop               bool
}

// run continues a prompt and writes whole characters to w as they come.
func (g *generator) run(ctx context.Context, prompt string, s vae.Sampling, l limits, w io.Writer) (sllm.Result, error) {
	return g.continued(ctx, prompt, s, l, false, w, func(sllm.Token) {})
}

// continued is run for a caller that wants to see the tokens, with their probabilities if asked for.
func (g *generator) continued(ctx context.Context, prompt string, s vae.Sampling, l limits, logProbs bool, w io.Writer, see func(sllm.Token)) (sllm.Result, error) {
	r := sllm.Request{Sentences: g.codec.Sentences([]byte(prompt)), MaxTokens: l.tokens, MaxSentences: l.sentences, Sampling: s,
		IgnoreStop: l.ignoreStop, Boundary: g.codec.NewEnds(), LogProbs: logProbs}
	r.Open = g.open(r.Sentences)
	stream, out := g.tok.NewStream(), &capped{w: w, left: l.bytes, limited: l.bytes > 0}
	for _, sentence := range r.Sentences { // so that what follows joins on
		for _, id := range sentence {
			stream.Push(id)
		}
	}
	res, err := g.engine.Generate(ctx, r, func(t sllm.Token) bool {
		see(t)
		return out.write(stream.Push(t.ID))
	})
	out.write(stream.Flush())
	if err == nil {
		err = out.err
	}
	return res, err
}

// open says that the last sentence of a prompt has not ended by the rule.
func (g *generator) open(sentences [][]int32) bool {
	ends := g.codec.NewEnds()
	whole := true
	for _, s := range sentences {
		for _, id := range s {
			whole = ends.Push(id)
		}
	}
	if f := g.folder; f.Kind == sllm.KindSLLM && f.SLLM.VAE.EndMark {
		return false
	}
	return !whole
}

// capped writes text up to a number of bytes, never a part of a character.
type capped struct {
	w       io.Writer
	left    int
	limited bool
	full    bool
	err     error
}

// write returns false when nothing more may come.
func (c *capped) write(s string) bool {
	if c.full || c.err != nil {
		return false
	}
	if c.limited && len(s) > c.left {
		n := 0
		for i := range s { // the starts of characters
			if i <= c.left {
				n = i
			}
		}
		s, c.full = s[:n], true
	}
	c.left -= len(s)
	_, c.err = io.WriteString(c.w, s)
	return c.err == nil && !c.full
}

func generate(c *cli.Context) error {
	if err := cmp.Or(noArgs(c), require(c, "model")); err != nil {
		return err
	}
	s := vae.Sampling{Temperature: c.Float64("temperature"), TopK: c.Int("top-k"), TopP: c.Float64("top-p"), Seed: c.Uint64("seed")}
	if err := s.Validate(); err != nil {
		return usageError{err}
	}
	for _, name := range []string{"top-k", "top-p", "seed"} {
		if s.Temperature == 0 && c.IsSet(name) {
			return usagef("--%s has no effect without a --temperature above 0", name)
		}
	}
	l := limits{c.Int("max-tokens"), c.Int("max-sentences"), c.Int("max-bytes"), c.Bool("ignore-stop")}
	if l.tokens < 1 || l.tokens > 1<<20 || l.sentences < 0 || l.bytes < 0 {
		return usagef("--max-tokens must be in 1..%d, --max-sentences and --max-bytes not negative", 1<<20)
	}
	many := isLines(c.String("in"))
	for _, name := range []string{"resume", "force", "logprobs"} {
		if c.IsSet(name) && !many {
			return usagef("--%s is for prompts in a .jsonl file (--in)", name)
		}
	}
	prompt, err := "", error(nil)
	if !many {
		prompt, err = readPrompt(c)
	} else if c.IsSet("prompt") {
		err = usagef("--prompt and --in exclude each other")
	}
	if err != nil {
		return err
	}
	be, err := kernels.Open(c.String("device"))
	if err != nil {
		return err
	}
	g, err := newGenerator(c.String("model"), be)
	if err != nil {
		return err
	}
	warnAbout(c, g.folder)
	past, err := kvOptions(c)
	if err != nil {
		return err
	}
	discard, err := g.keepBy(past, be)
	if err != nil {
		return err
	}
	defer discard()
	if g.engine == nil {
		for _, name := range []string{"max-tokens", "max-sentences", "max-bytes", "ignore-stop", "echo", "out"} {
			if c.IsSet(name) {
				return usagef("--%s has no effect on an autoencoder, which writes each sentence of the prompt again", name)
			}
		}
		if many {
			return usagef("an autoencoder takes a --prompt or a text, not a file of prompts")
		}
		return g.roundTrip(c, prompt, s)
	}
	if many {
		return g.generateLines(c, s, l, past)
	}
	var file bytes.Buffer
	w := c.App.Writer
	if c.String("out") != "" {
		w = &file
	}
	if c.Bool("echo") {
		io.WriteString(w, prompt)
	}
	res, err := g.run(c.Context, prompt, s, l, w)
	if err == nil || res.Tokens > 0 {
		fmt.Fprintln(w)
	}
	if path := c.String("out"); path != "" && err == nil {
		err = os.WriteFile(path, file.Bytes(), 0o666)
	}
	if err == nil && c.Bool("stats") {
		printStats(c.App.ErrWriter, res)
	}
	return err
}

func printStats(w io.Writer, r sllm.Result) {
	rate := func(n int, d time.Duration) float64 { return float64(n) / max(d.Seconds(), 1e-9) }
	fmt.Fprintf(w, "prompt: %d tokens, %.0f tokens/s; written: %d tokens in %d sentences, %.0f tokens/s; %d bytes of keys and values; finish: %s\n",
		r.Prompt, rate(r.Prompt, r.Prefill), r.Tokens, r.Sentences, rate(r.Tokens, r.Decode), r.KVBytes, r.Finish)
	fmt.Fprintf(w, "a token reads %.1f MB of weights and %.3f MB of keys and values", float64(r.WeightBytes)/1e6, float64(r.KVRead)/1e6)
	if r.LatentLookups > 0 {
		fmt.Fprintf(w, "; latents: %d of %d sentences known from before", r.LatentHits, r.LatentLookups)
	}
	fmt.Fprintln(w)
	printKVStats(w, r.KV)
}

func readPrompt(c *cli.Context) (string, error) {
	path := c.String("in")
	const most = 64 << 20
	var b []byte
	var err error
	switch {
	case path != "" && c.IsSet("prompt"):
		return "", usagef("--prompt and --in exclude each other")
	case path == "":
		return c.String("prompt"), nil
	case path == "-":
		b, err = io.ReadAll(io.LimitReader(os.Stdin, most+1))
	default:
		b, err = os.ReadFile(path)
	}
	if err == nil && len(b) > most {
		err = fmt.Errorf("%s: the prompt is longer than %d bytes", path, most)
	}
	return strings.TrimSuffix(string(b), "\n"), err
}

// roundTrip prints every sentence of the prompt as the autoencoder writes it again.
func (g *generator) roundTrip(c *cli.Context, prompt string, s vae.Sampling) error {
	sentences := g.codec.Sentences([]byte(prompt))
	if len(sentences) == 0 {
		return usagef("an autoencoder needs a --prompt to pass through")
	}
	g.folder.Store.Pack()
	codec, sampler := vae.NewCodec(&g.folder.SVAE, g.folder.Store), vae.NewSampler(s)
	var text []int32
	exact := 0
	for _, want := range sentences {
		z, at, err := codec.Encode(want, []int32{0, int32(len(want))})
		if err != nil {
			return err
		}
		var ends vae.Boundary
		if !g.folder.SVAE.EndMark { // else the decoder itself must end the sentence
			ends = g.codec.NewEnds()
		}
		got, err := codec.Decode(z.Rows(0, int(at[1])), text, ends, sampler)
		if err != nil {
			return err
		}
		a, b := string(g.tok.Decode(want)), string(g.tok.Decode(got))
		if a == b {
			exact++
		}
		fmt.Fprintf(c.App.Writer, "< %s\n> %s\n", oneLine(a), oneLine(b))
		text = append(text, want...)
	}
	if c.Bool("stats") {
		fmt.Fprintf(c.App.ErrWriter, "%d of %d sentences came back exactly\n", exact, len(sentences))
	}
	return nil
}

func oneLine(s string) string {
	return strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\n", "⏎")
}
