package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/urfave/cli/v2"

	"svae/data/tokenizer"
	"svae/kernels"
	"svae/sllm"
	"svae/sllm/serve"
	"svae/vae"
)

func serveCommand() *cli.Command {
	return &cli.Command{
		Name:      "serve",
		Usage:     "continue prompts over HTTP, as OpenAI's completions do",
		ArgsUsage: "MODEL...",
		Description: `MODEL is a bundle, a model folder or a training run; NAME=MODEL calls it NAME, else it is called as its folder is. The base in a
bundle is NAME/base. Requests run side by side. Examples:

   svae serve bundle
   svae serve --addr 0.0.0.0:8080 --api-key-file key --allow-host models.example.org story=run base

   curl http://127.0.0.1:8080/v1/completions -H 'Content-Type: application/json' \
      -d '{"model": "bundle", "prompt": "Call me", "max_tokens": 50, "stream": true, "stream_by": "sentence"}'

POST /v1/completions takes model, prompt, max_tokens, temperature, top_p, seed, stop, stream, stream_options, echo and logprobs, and
beside OpenAI's fields top_k, max_sentences and stream_by (token or sentence). GET /v1/models lists the models, GET /health says
that the server runs. A field that it does not have is refused. Each request is one line on the error stream, without its text.

An address that other machines can reach needs a key, which clients send as "Authorization: Bearer KEY". Requests must name the
server as localhost, by the address they came to, or by an --allow-host. Put a proxy in front for TLS.

Ctrl-C or SIGTERM ends it: running requests may finish within --grace, and it exits with 0; with 130 if some had to be cut.`,
		Flags: append([]cli.Flag{
			&cli.StringFlag{Name: "addr", Usage: "`HOST:PORT` to listen on; port 0 takes a free one", Value: "127.0.0.1:8080"},
			&cli.StringSliceFlag{Name: "allow-host", Usage: "`NAME` that requests may use for this server; may be repeated"},
			&cli.StringFlag{Name: "api-key-file", Usage: "`FILE` with the key that clients must send"},
			&cli.BoolFlag{Name: "insecure", Usage: "serve other machines without a key"},
			&cli.IntFlag{Name: "parallel", Usage: "requests that run at once", Value: 8},
			&cli.IntFlag{Name: "queue", Usage: "requests that may wait beside them", Value: 64},
			&cli.IntFlag{Name: "max-tokens", Usage: "most tokens that a request may ask for", Value: 4096},
			&cli.IntFlag{Name: "max-prompt", Usage: "most `BYTES` of a request's prompts", Value: 512 << 10},
			&cli.DurationFlag{Name: "timeout", Usage: "most time that a request may take, waiting included", Value: 10 * time.Minute},
			&cli.DurationFlag{Name: "grace", Usage: "time that running requests get at the end", Value: 10 * time.Second},
			&cli.StringFlag{Name: "device", Usage: "cpu or cuda", Value: "cpu"},
		}, kvFlags()...),
		Action: serveModels,
	}
}

func serveModels(c *cli.Context) error {
	cfg, err := serveConfig(c)
	if err != nil {
		return err
	}
	ln, err := serve.Listen(c.Context, c.String("addr"), cfg.Key != "" || c.Bool("insecure"))
	if err != nil {
		if errors.Is(err, serve.ErrReachable) {
			return usagef("%w (give --api-key-file, or --insecure if whoever reaches it may use it)", err)
		}
		return err
	}
	defer ln.Close()
	be, err := kernels.Open(c.String("device"))
	if err != nil {
		return err
	}
	past, err := kvOptions(c)
	if err != nil {
		return err
	}
	for _, arg := range c.Args().Slice() {
		ms, err := servedModels(c, arg, be, past)
		if err != nil {
			return err
		}
		for _, m := range ms {
			defer m.discard()
			cfg.Models = append(cfg.Models, m)
		}
	}
	s, err := serve.New(cfg)
	if err != nil {
		return usageError{err}
	}
	var names []string
	for _, m := range cfg.Models {
		names = append(names, printable(m.Name()))
	}
	fmt.Fprintf(c.App.ErrWriter, "serving %s at http://%s/v1 (Ctrl-C ends)\n", strings.Join(names, ", "), ln.Addr())
	cut, err := s.Serve(c.Context, ln)
	if err == nil && cut {
		err = context.Canceled
	}
	return err
}

// serveConfig reads the flags.
func serveConfig(c *cli.Context) (serve.Config, error) {
	cfg := serve.Config{Hosts: c.StringSlice("allow-host"), Parallel: c.Int("parallel"), Queue: c.Int("queue"), MaxTokens: c.Int("max-tokens"),
		MaxPrompt: c.Int("max-prompt"), Timeout: c.Duration("timeout"), Grace: c.Duration("grace"),
		Log: slog.New(slog.NewTextHandler(c.App.ErrWriter, nil))}
	if !c.Args().Present() {
		return cfg, usagef("no model to serve (%s --help)", c.Command.HelpName)
	}
	for _, name := range []string{"parallel", "max-tokens", "max-prompt"} {
		if c.Int(name) < 1 {
			return cfg, usagef("--%s must be at least 1", name)
		}
	}
	if cfg.Queue < 0 || cfg.MaxTokens > 1<<20 || cfg.MaxPrompt > 64<<20 {
		return cfg, usagef("--queue must not be negative, --max-tokens at most %d, --max-prompt at most %d", 1<<20, 64<<20)
	}
	if cfg.Timeout <= 0 || cfg.Grace <= 0 {
		return cfg, usagef("--timeout and --grace must be above 0")
	}
	host, _, err := net.SplitHostPort(c.String("addr"))
	if err != nil {
		return cfg, usagef("--addr: %w (write HOST:PORT)", err)
	}
	if ip := net.ParseIP(host); host != "" && !strings.Contains(host, "%") && (ip == nil || !ip.IsUnspecified()) {
		cfg.Hosts = append(cfg.Hosts, host)
	}
	if path := c.String("api-key-file"); path != "" {
		cfg.Key, err = readKey(path)
	}
	return cfg, err
}

// readKey reads an API key from a file.
func readKey(path string) (string, error) {
	const least, most = 16, 1024
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, most+3))
	if err != nil {
		return "", err
	}
	key := strings.TrimRight(string(b), "\r\n")
	if len(key) < least || len(key) > most || strings.ContainsFunc(key, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return "", fmt.Errorf("%s: a key is one line of %d to %d printable ASCII characters without spaces", path, least, most)
	}
	return key, nil
}

// servedModels opens what an argument names: one model, or all of a bundle. Token-level ones keep their past as past says.
func servedModels(c *cli.Context, arg string, be kernels.Backend, past *sllm.KVOptions) ([]*served, error) {
	name, path, named := strings.Cut(arg, "=")
	if _, err := os.Stat(arg); err == nil || !named {
		whole, err := filepath.Abs(arg)
		if err != nil {
			return nil, err
		}
		name, path = filepath.Base(whole), arg
	}
	folders, err := openFolders(path, be)
	if err != nil {
		return nil, err
	}
	var ms []*served
	for i, f := range folders {
		warnAbout(c, f)
		g, err := generatorOf(f)
		if err != nil {
			return nil, err
		}
		if g.engine == nil {
			return nil, fmt.Errorf("%s: an autoencoder alone continues no text (serve a model that svae train sllm made with it)", f.Path)
		}
		switch e := g.engine.(type) { // the server's queue is the only one
		case *sllm.Engine:
			e.MaxBatch = c.Int("parallel")
		case *sllm.LMEngine:
			e.MaxBatch = c.Int("parallel")
		}
		m := &served{name: name, g: g, discard: func() error { return nil }}
		if f.Kind == sllm.KindLM {
			if m.discard, err = g.keepBy(past, be); err != nil {
				return nil, err
			}
		}
		if i > 0 {
			m.name += "/" + filepath.Base(f.Path)
		}
		ms = append(ms, m)
	}
	return ms, nil
}

// openFolders opens a model folder, or all models of a bundle so that they share what is equal.
func openFolders(path string, be kernels.Backend) ([]*sllm.Folder, error) {
	switch _, err := os.Lstat(filepath.Join(path, sllm.BundleFile)); {
	case err == nil:
		b, err := sllm.OpenBundle(path, be)
		if err != nil {
			return nil, err
		}
		return b.Models, nil
	case !errors.Is(err, fs.ErrNotExist):
		return nil, err
	}
	f, err := sllm.Load(path, be)
	return []*sllm.Folder{f}, err
}

// served is a model as the server sees it.
type served struct {
	name    string
	g       *generator
	discard func() error // ends what keeps its past
}

func (m *served) Name() string { return m.name }

// Complete continues a prompt; see serve.Model.
func (m *served) Complete(ctx context.Context, r serve.Request, emit func(serve.Piece) bool) (serve.Usage, error) {
	g := m.g
	q := sllm.Request{Sentences: g.codec.Sentences([]byte(r.Prompt)), MaxTokens: r.MaxTokens, MaxSentences: r.MaxSentences, LogProbs: r.LogProbs,
		Sampling: vae.Sampling{Temperature: r.Temperature, TopK: r.TopK, TopP: r.TopP, Seed: r.Seed}, Boundary: g.codec.NewEnds()}
	q.Open = g.open(q.Sentences)
	if err := m.fits(q); err != nil {
		return serve.Usage{}, err
	}
	p := &pieces{g: g, stream: g.tok.NewStream(), probs: r.LogProbs, emit: emit}
	for _, s := range q.Sentences { // so that what follows joins on
		for _, id := range s {
			p.stream.Push(id)
		}
	}
	res, err := g.engine.Generate(ctx, q, p.push)
	u := serve.Usage{Prompt: res.Prompt, Tokens: res.Tokens}
	switch res.Finish {
	case sllm.Stopped:
		u.Finish = serve.Stop
	case sllm.Length:
		u.Finish = serve.Length
	}
	if err == nil && u.Finish != "" {
		p.end()
	}
	return u, err
}

// fits refuses a prompt that leaves the model no position to write at.
func (m *served) fits(r sllm.Request) error {
	f, n := m.g.folder, 0
	if f.Kind == sllm.KindSLLM {
		v := &f.SLLM.VAE
		if !f.SLLM.Direct {
			n = v.LatentCount(0) // the start of a document
		}
		for i, s := range r.Sentences {
			if i < len(r.Sentences)-1 || !r.Open {
				n += v.LatentCount(len(s))
			}
		}
		if n+v.LatentCount(v.MaxSentence) > f.Arch().Positions {
			return &serve.InputError{Param: "prompt", Message: fmt.Sprintf("prompt has %d sentences, which leaves no room in the %d positions of the model", len(r.Sentences), f.Arch().Positions)}
		}
		return nil
	}
	for _, s := range r.Sentences {
		n += len(s)
	}
	if f.Arch().BOS >= 0 {
		n++
	}
	if n >= f.Arch().Positions {
		return &serve.InputError{Param: "prompt", Message: fmt.Sprintf("prompt has %d tokens, which leaves no room in the %d positions of the model", n, f.Arch().Positions)}
	}
	return nil
}

// pieces turns tokens into text of whole characters.
type pieces struct {
	g      *generator
	stream *tokenizer.Stream
	probs  bool
	emit   func(serve.Piece) bool

	next     serve.Piece // from tokens without a whole character yet
	sentence int         // of the latest token
	ended    bool        // it ended that sentence
}

func (p *pieces) push(t sllm.Token) bool {
	if t.Sentence > p.sentence && !p.ended { // by an end mark, which is no token of the text
		p.next.Ends = true
		if !p.send() {
			return false
		}
	}
	p.sentence, p.ended = t.Sentence, t.Ends
	p.next.Text += p.stream.Push(t.ID)
	p.next.Ends = p.next.Ends || t.Ends
	if p.probs {
		p.next.Probs = append(p.next.Probs, serve.Token{Text: tokenText(p.g.tok.Piece(t.ID)), LogProb: t.LogProb})
	}
	return p.next.Text == "" || p.send()
}

// end sends what is left, characters that will never be whole included.
func (p *pieces) end() {
	if p.next.Text += p.stream.Flush(); p.next.Text != "" || p.next.Ends || len(p.next.Probs) > 0 {
		p.send()
	}
}

func (p *pieces) send() bool {
	out := p.next
	p.next = serve.Piece{}
	return p.emit(out)
}

// tokenText is how OpenAI shows a token.
func tokenText(b []byte) string {
	if utf8.Valid(b) {
		return string(b)
	}
	var s strings.Builder
	s.WriteString("bytes:")
	for _, c := range b {
		fmt.Fprintf(&s, "\\x%02x", c)
	}
	return s.String()
}
