package train

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"time"

	"gorgonia.org/gorgonia"

	"svae/data"
	"svae/kernels"
	"svae/kernels/op"
	"svae/sllm"
	"svae/vae"
)

// ErrInterrupted is returned by Run when its context ends: a checkpoint was written first.
var ErrInterrupted = errors.New("interrupted")

// Summary is what a finished run says of itself.
type Summary struct {
	Steps    int           `json:"steps"`
	Tokens   int64         `json:"tokens"` // scored, since the run began
	Loss     float64       `json:"loss"`   // nats a token, over the last steps
	Elapsed  time.Duration `json:"elapsed_ns"`
	Weights  int           `json:"weights"`
	Model    string        `json:"model"` // folder of the newest checkpoint
	MemBytes int64         `json:"graph_bytes"`
}

// run is the state of one training run.
type run struct {
	cfg    *Config
	model  *model
	loader *data.Loader
	opt    *optimizer
	graph  *op.Graph
	vm     *op.Machine
	state  state
	log    *logger
}

// Run trains from start, or from the newest checkpoint, to the last step. Progress goes to w.
func Run(ctx context.Context, c Config, be kernels.Backend, w io.Writer) (Summary, error) {
	if err := c.Validate(); err != nil {
		return Summary{}, err
	}
	c.drop()
	unlock, err := c.prepare()
	if err != nil {
		return Summary{}, err
	}
	defer unlock()
	r, err := open(&c, be)
	if err != nil {
		return Summary{}, err
	}
	defer r.close()
	if err := r.begin(w); err != nil {
		return Summary{}, err
	}
	err = r.loop(ctx)
	return r.summary(), err
}

// open reads the data and the weights and builds the graph, which serves every batch geometry. It writes nothing.
func open(c *Config, be kernels.Backend) (*run, error) {
	ds, err := data.Open(c.Data)
	if err != nil {
		return nil, err
	}
	r := &run{cfg: c}
	var f *sllm.Folder
	if c.Resume {
		f, err = r.state.load(c, be)
	} else {
		f, err = newFolder(c, be, ds.Meta())
		r.state.Data = ds.Meta().Identity()
	}
	if err != nil {
		return nil, err
	}
	if r.state.Data != ds.Meta().Identity() && !c.Override {
		return nil, fmt.Errorf("%s is not the data that this run began with (--override to go on all the same)", c.Data)
	}
	r.model = &model{folder: f}
	r.opt = newOptimizer(c, f.Store)
	if c.Resume {
		if err := r.state.loadOptimizer(c, r.opt); err != nil {
			return nil, err
		}
	}
	tokens, err := r.model.pieceTokens(c.Sentences, c.PieceTokens)
	if err != nil {
		return nil, err
	}
	r.loader, err = data.NewLoader(ds, data.LoaderConfig{Sentences: c.Sentences, Tokens: tokens, BatchTokens: c.BatchTokens,
		Seed: c.Seed, Shuffle: true, RandomStart: true, Context: r.model.context()}, r.state.Position)
	if err != nil {
		return nil, err
	}
	r.graph = op.NewGraph(be)
	loss := r.model.graph(r.graph, func(w vae.Weight) *gorgonia.Node {
		return r.graph.Param(w.Name, w.Shape, f.Store.Mat(w).Buf, w.Const == nil && r.opt.trainable(w.Name))
	})
	r.vm, err = r.graph.Compile(loss)
	return r, err
}

// begin makes the folder the run's. What an earlier run left there goes only now that everything could be opened.
func (r *run) begin(w io.Writer) error {
	c := r.cfg
	if !c.Resume {
		for _, name := range []string{"checkpoints", "metrics.jsonl"} {
			if err := os.RemoveAll(filepath.Join(c.Out, name)); err != nil {
				return err
			}
		}
	}
	path := filepath.Join(c.Out, configName)
	text, err := c.encode()
	if err != nil {
		return err
	}
	if old, err := os.ReadFile(path); err != nil || string(old) != string(text) {
		if err := os.WriteFile(path, text, 0o666); err != nil {
			return err
		}
	}
	r.log, err = newLogger(c, w, r.state)
	return err
}

func (r *run) close() {
	r.loader.Close()
	r.vm.Close()
	if r.log != nil {
		r.log.close()
	}
}

// loop takes the steps. When ctx ends it saves and returns ErrInterrupted.
func (r *run) loop(ctx context.Context) error {
	saved := -1
	save := func() error {
		saved = r.state.Step
		return r.save()
	}
	for r.state.Step < r.cfg.Steps {
		if ctx.Err() != nil {
			if err := save(); err != nil {
				return err
			}
			return fmt.Errorf("%w: saved step %d in %s (--resume goes on)", ErrInterrupted, r.state.Step, r.cfg.Out)
		}
		if err := r.step(); err != nil {
			return err
		}
		if n := r.cfg.SaveEvery; n > 0 && r.state.Step%n == 0 {
			if err := save(); err != nil {
				return err
			}
		}
	}
	if saved != r.state.Step && !r.isSaved() {
		return save()
	}
	return nil
}

// step takes one optimizer step: the gradients of the sum of the losses over one or more batches, divided once by the
// number of targets.
func (r *run) step() error {
	begin := time.Now()
	var nats Nats
	var bytes int64
	tokens := 0
	for i := range r.cfg.Accumulate {
		b, err := r.loader.Next()
		if err != nil {
			return err
		}
		if err := r.model.set(b, sllm.Real); err != nil {
			return err
		}
		loss, err := r.vm.Run(rand.New(rand.NewPCG(r.cfg.Seed, uint64(r.state.Step)<<20|uint64(i))).Uint64())
		if err != nil {
			return fmt.Errorf("step %d: %w", r.state.Step, err)
		}
		if math.IsNaN(loss) || math.IsInf(loss, 0) {
			return fmt.Errorf("step %d: the loss is %v%s; nothing was updated (lower --lr, or look at the batch with %s)", r.state.Step, loss, r.opt.broken(), b.Names[0])
		}
		pieces, n := r.model.cost(b)
		for _, p := range pieces {
			nats.add(p)
		}
		tokens += n
		bytes += b.SourceBytes()
		if r.cfg.Accumulate > 1 {
			r.opt.accumulate(r.vm.Grads())
		}
	}
	if tokens == 0 {
		return fmt.Errorf("step %d: the batch holds no token to predict", r.state.Step)
	}
	norm, err := r.opt.step(r.state.Step, r.vm.Grads(), tokens)
	if err != nil {
		return err
	}
	s := &r.state
	s.Step++
	s.Tokens += int64(tokens)
	s.Position = r.loader.Position()
	return r.log.step(s, nats, tokens, bytes, norm, r.cfg.LR*r.cfg.rate(s.Step-1), time.Since(begin))
}

func (r *run) summary() Summary {
	loss, _ := r.log.mean()
	return Summary{Steps: r.state.Step, Tokens: r.state.Tokens, Loss: loss, Elapsed: time.Since(r.log.begin),
		Weights: r.model.folder.Store.Elements(), Model: sllm.StepDir(r.cfg.Out, r.state.Step), MemBytes: r.graph.Bytes()}
}

// configName is the file that makes a folder a run.
const configName = "config.toml"

// prepare checks the run's folder and locks it. unlock removes a folder in which no run began.
func (c *Config) prepare() (unlock func(), err error) {
	path := filepath.Join(c.Out, configName)
	_, err = os.Stat(path)
	exists := err == nil
	switch {
	case exists && c.Resume:
		if err := c.checkResume(path); err != nil {
			return nil, err
		}
	case c.Resume:
		return nil, fmt.Errorf("%s: holds no run to resume", c.Out)
	case !exists && !empty(c.Out):
		return nil, fmt.Errorf("%s: exists and is not a run (give another --out)", c.Out)
	case exists && !c.Force:
		return nil, fmt.Errorf("%s: holds a run already (--resume goes on, --force starts over)", c.Out)
	}
	if err := os.MkdirAll(c.Out, 0o777); err != nil {
		return nil, err
	}
	lockPath := filepath.Join(c.Out, "lock")
	release, err := lock(lockPath)
	if err != nil {
		return nil, err
	}
	return func() {
		if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) {
			os.Remove(lockPath)
			os.Remove(c.Out)
		}
		release()
	}, nil
}

func (c *Config) checkResume(path string) error {
	was := Default(c.Stage)
	if err := was.ReadFile(path); err != nil {
		return err
	}
	was.drop()
	c.Base, c.Graft, c.Tokenizer = was.Base, was.Graft, was.Tokenizer // all of it is in the checkpoint
	ds := differences(&was, c)
	for _, d := range ds {
		if strings.HasPrefix(d, "model.") {
			return fmt.Errorf("%s: the run's model is another: %s (train it in another --out)", c.Out, d)
		}
	}
	if len(ds) > 0 && !c.Override {
		return fmt.Errorf("%s: the run was begun otherwise: %s (--override to go on all the same)", c.Out, strings.Join(ds, ", "))
	}
	return nil
}

func empty(dir string) bool {
	es, err := os.ReadDir(dir)
	return errors.Is(err, os.ErrNotExist) || err == nil && len(es) == 0
}
