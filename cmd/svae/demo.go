package main

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"svae/data"
	"svae/data/segment"
	"svae/data/tokenizer"
	"svae/kernels"
	"svae/sllm"
	"svae/train"
	"svae/vae"
)

// demoFiles are the corpus and the base model of the demo; see demo/ORIGIN.md.
//
//go:embed demo/moby-dick.jsonl.gz demo/base
var demoFiles embed.FS

// scale is how long the demo trains. The step counts are fixed, so that a scale gives the same figures everywhere.
type scale struct {
	Name     string `json:"name"`
	VAE      int    `json:"vae_steps"`
	LM       int    `json:"lm_steps"` // of the base continued, and of the sentence-level model: the same tokens
	Batch    int    `json:"batch_tokens"`
	MaxBytes int64  `json:"max_eval_bytes"` // 0: all held-out text
	Write    int    `json:"write_tokens"`   // when measuring speed
}

// scales, slowest machine first.
var scales = []scale{
	{"tiny", 12, 40, 1024, 30000, 60},
	{"small", 100, 200, 1024, 0, 200},
	{"full", 800, 600, 1024, 0, 400},
}

func demoCommand() *cli.Command {
	return &cli.Command{
		Name:  "demo",
		Usage: "the whole job on a real book: build, convert, train, splice, measure, write",
		Description: `The book and a small base model lie inside this program. A one-second timing picks how long to train; --scale overrides it.
Everything that is made lies in the folder --out. Example:

   svae demo --out demo-out`,
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "out", Usage: "`FOLDER` to write", Value: "demo-out"},
			&cli.StringFlag{Name: "scale", Usage: "auto, tiny, small or full", Value: "auto"},
			&cli.BoolFlag{Name: "force", Usage: "replace an earlier demo"},
		},
		Action: demo,
	}
}

// demoRun is the state of one demo.
type demoRun struct {
	ctx    context.Context
	w      io.Writer
	dir    string
	scale  scale
	be     kernels.Backend
	begin  time.Time
	report report
}

func demo(c *cli.Context) error {
	if err := noArgs(c); err != nil {
		return err
	}
	d := &demoRun{ctx: c.Context, w: c.App.Writer, dir: c.String("out"), begin: time.Now()}
	var err error
	if d.be, err = kernels.Open("cpu"); err != nil {
		return err
	}
	if d.scale, err = d.pick(c.String("scale")); err != nil {
		return err
	}
	if err := d.clear(c.Bool("force")); err != nil {
		return err
	}
	for _, stage := range []func() error{d.convertBase, d.firstWords, d.build, d.trainVAE, d.trainLM, d.trainSLLM, d.measure, d.write, d.runtime, d.finish} {
		if err := stage(); err != nil {
			return err
		}
	}
	return nil
}

// demoMark is the file that tells a demo's folder from any other.
const demoMark = ".svae-demo"

// clear makes the demo's folder. It replaces what an earlier demo left there, if force allows it, and nothing else.
func (d *demoRun) clear(force bool) error {
	es, err := os.ReadDir(d.dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if len(es) > 0 {
		if _, err := os.Stat(d.path(demoMark)); err != nil {
			return fmt.Errorf("%s: is not empty and no demo made it (give another --out)", d.dir)
		}
		if !force {
			return fmt.Errorf("%s: holds a demo already (--force replaces it)", d.dir)
		}
		for _, name := range demoParts {
			if err := os.RemoveAll(d.path(name)); err != nil {
				return err
			}
		}
	}
	return errors.Join(os.MkdirAll(d.dir, 0o777), os.WriteFile(d.path(demoMark), nil, 0o666))
}

// demoParts are what a demo writes.
var demoParts = []string{"base-pytorch", "base", "moby-dick.jsonl.gz", "shards", "vae", "base-continued", "sllm", "bundle", "report.json", "report.md", "losses.png", "prompt.txt", "long.txt"}

func (d *demoRun) path(name ...string) string {
	return filepath.Join(append([]string{d.dir}, name...)...)
}

func (d *demoRun) say(format string, a ...any) {
	fmt.Fprintf(d.w, "\n[%4.0fs] "+format+"\n", append([]any{time.Since(d.begin).Seconds()}, a...)...)
}

// command prints the command line that does by hand what comes next.
func (d *demoRun) command(format string, a ...any) { fmt.Fprintf(d.w, "  $ svae "+format+"\n", a...) }

// pick chooses the scale by timing a matrix product.
func (d *demoRun) pick(name string) (scale, error) {
	speed := gemmSpeed(d.be, time.Second)
	d.report.GFLOPS = speed
	if name == "auto" {
		name = "full"
		switch {
		case speed < 15:
			name = "tiny"
		case speed < 50:
			name = "small"
		}
	}
	for _, s := range scales {
		if s.Name == name {
			fmt.Fprintf(d.w, "svae demo: this machine multiplies matrices at %.0f GFLOP/s. Steps of the autoencoder and of each language model, by --scale:", speed)
			for _, t := range scales {
				fmt.Fprintf(d.w, " %s %d and %d;", t.Name, t.VAE, t.LM)
			}
			fmt.Fprintf(d.w, " this is %q.\n", s.Name)
			return s, nil
		}
	}
	return scale{}, usagef("scale %q is not known (use auto, tiny, small or full)", name)
}

// gemmSpeed returns the GFLOP/s of a product of the size that training has.
func gemmSpeed(be kernels.Backend, budget time.Duration) float64 {
	const n, i, o = 1024, 256, 512
	x, w, y := be.Alloc(n*i), be.Alloc(o*i), be.Alloc(n*o)
	best := 0.0
	for end := time.Now().Add(budget); time.Now().Before(end); {
		t := time.Now()
		be.Linear(y, kernels.Buf{}, x, w, kernels.Buf{}, kernels.None, n, i, o)
		best = max(best, 2*n*i*o/time.Since(t).Seconds()/1e9)
	}
	return best
}

// convertBase unpacks the base's PyTorch checkpoint and converts it.
func (d *demoRun) convertBase() error {
	src := d.path("base-pytorch")
	err := fs.WalkDir(demoFiles, "demo/base", func(p string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		b, err := demoFiles.ReadFile(p)
		if err != nil {
			return err
		}
		dst := filepath.Join(src, strings.TrimPrefix(p, "demo/base/"))
		return errors.Join(os.MkdirAll(filepath.Dir(dst), 0o777), os.WriteFile(dst, b, 0o666))
	})
	if err != nil {
		return err
	}
	d.say("Convert the base, a small Llama trained on State of the Union addresses, from its PyTorch checkpoint")
	d.command("convert %s %s", src, d.path("base"))
	return convertFolder(d.ctx, src, d.path("base"))
}

// firstWords shows that the base works.
func (d *demoRun) firstWords() error {
	g, err := newGenerator(d.path("base"), d.be)
	if err != nil {
		return err
	}
	defer g.folder.Store.Unpack()
	d.say("What the base writes")
	d.command("generate --model %s --prompt %q --echo --temperature 0.8 --max-tokens 50", d.path("base"), demoGreeting)
	fmt.Fprint(d.w, "  "+demoGreeting)
	_, err = g.run(d.ctx, demoGreeting, vae.Sampling{Temperature: 0.8, Seed: 1}, limits{tokens: 50}, indent{d.w})
	fmt.Fprintln(d.w)
	return err
}

const (
	demoGreeting = "Fellow-citizens of the Senate and House of Representatives:"
	demoPrompt   = "The old whaleman looked out over the sea, and for a long time he said nothing."
)

// demoGreedy is how the demo writes where only the time counts.
var demoGreedy = vae.Sampling{Seed: 1}

// indent moves text to the right under its heading.
type indent struct{ w io.Writer }

func (i indent) Write(p []byte) (int, error) {
	_, err := io.WriteString(i.w, strings.ReplaceAll(string(p), "\n", "\n  "))
	return len(p), err
}

// build turns the book into shards, chapters held out by a hash of their ids.
func (d *demoRun) build() error {
	src := d.path("moby-dick.jsonl.gz")
	b, err := demoFiles.ReadFile("demo/moby-dick.jsonl.gz")
	if err == nil {
		err = os.WriteFile(src, b, 0o666)
	}
	if err != nil {
		return err
	}
	tok, err := tokenizer.Load(d.path("base"))
	if err != nil {
		return err
	}
	d.say("Build shards of Moby-Dick, a book that the base has not seen; one chapter is one document")
	d.command("data build --tokenizer %s --holdout %g --out %s %s", d.path("base"), demoHoldout, d.path("shards"), src)
	r, err := data.Build(d.ctx, data.BuildConfig{Inputs: []string{src}, Out: d.path("shards"), Holdout: demoHoldout, Tokenizer: tok,
		TokenizerName: "base", Segment: segment.Config{}})
	if err != nil {
		return err
	}
	d.report.Train, d.report.Heldout = r.Train, r.Heldout
	fmt.Fprintf(d.w, "  train: %d chapters, %d sentences, %d tokens; held out: %d chapters, %d sentences, %d tokens, %d bytes\n",
		r.Train.Documents, r.Train.Sentences, r.Train.Tokens, r.Heldout.Documents, r.Heldout.Sentences, r.Heldout.Tokens, r.Heldout.Bytes)
	return nil
}

const demoHoldout = 0.08

// stage trains one model and prints the command that does the same.
func (d *demoRun) stage(s train.Stage, title, out string, steps int, change func(*train.Config)) error {
	c := train.Default(s)
	c.Data, c.Out, c.Base, c.Steps, c.BatchTokens, c.SaveEvery = d.path("shards", "train"), d.path(out), d.path("base"), steps, d.scale.Batch, 0
	c.Warmup = min(c.Warmup, steps/4)
	extra := ""
	if change != nil {
		change(&c)
	}
	if s == train.LM {
		extra = fmt.Sprintf(" --lr %g --base-lr %g", c.LR, c.BaseLR)
	}
	d.say("%s", title)
	d.command("train %s --base %s --data %s --out %s --steps %d --batch-tokens %d --warmup %d --save-every 0%s", s, c.Base, c.Data, c.Out, c.Steps, c.BatchTokens, c.Warmup, extra)
	sum, err := train.Run(d.ctx, c, d.be, indentLines{d.w})
	if err != nil {
		return err
	}
	d.report.Runs = append(d.report.Runs, runReport{Name: out, Summary: sum, Seconds: sum.Elapsed.Seconds()})
	return nil
}

// indentLines moves whole lines to the right.
type indentLines struct{ w io.Writer }

func (i indentLines) Write(p []byte) (int, error) {
	_, err := fmt.Fprintf(i.w, "  %s", p)
	return len(p), err
}

func (d *demoRun) trainVAE() error {
	if err := d.stage(train.VAE, "Train the sentence autoencoder, which starts from the base", "vae", d.scale.VAE, nil); err != nil {
		return err
	}
	f, err := sllm.Load(d.path("vae"), d.be)
	if err != nil {
		return err
	}
	ds, codec, err := d.heldout(f)
	if err != nil {
		return err
	}
	d.command("eval recon --model %s --data %s --limit %d", d.path("vae"), d.path("shards", "heldout"), demoRecon)
	r, err := train.Recon(d.ctx, f, ds, codec.NewEnds(), demoRecon, nil)
	d.report.Recon = r
	for _, b := range append(r.Lengths, r.All) {
		if b.Sentences > 0 {
			fmt.Fprintf(d.w, "  exact, written freely: %5.1f %% of %d sentences of %s tokens\n", 100*b.Share, b.Sentences, b.Tokens)
		}
	}
	return err
}

const demoRecon = 300

func (d *demoRun) trainLM() error {
	return d.stage(train.LM, "Continue the base on the same tokens: the fair baseline", "base-continued", d.scale.LM, nil)
}

func (d *demoRun) trainSLLM() error {
	return d.stage(train.SLLM, "Splice an encoder and a decoder, made of the base's own layers, into the base and train the sentence-level model\n"+
		"       on the same tokens as the baseline (--vae "+d.path("vae")+" would splice the trained autoencoder, which has seen more)", "sllm", d.scale.LM, nil)
}

// heldout opens the held-out shards for a model.
func (d *demoRun) heldout(f *sllm.Folder) (*data.Dataset, *data.Codec, error) {
	ds, err := data.Open(d.path("shards", "heldout"))
	if err == nil {
		err = openScored(f, ds)
	}
	if err != nil {
		return nil, nil, err
	}
	codec, err := codecOf(f)
	return ds, codec, err
}
