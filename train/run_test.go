package train

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"svae/data/segment"
	"svae/kernels/cpu"
	"svae/sllm"
)

// metrics reads a run's metrics.jsonl.
func metrics(t *testing.T, run string) []Metrics {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(run, "metrics.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	var ms []Metrics
	for line := range bytes.Lines(b) {
		var m Metrics
		if err := json.Unmarshal(line, &m); err != nil {
			t.Fatal(err)
		}
		ms = append(ms, m)
	}
	return ms
}

// stopAfter is a writer that ends a context when a step line has been written to it, and on the following lines.
type stopAfter struct{ stop func() }

func (s stopAfter) Write(p []byte) (int, error) {
	s.stop()
	return len(p), nil
}

// TestResume: a run that is interrupted after its first step and resumed has the weights, moments and metrics of one
// that is not, to the bit, for every kind of model, over the edge of an epoch, with random numbers and several batches a
// step.
func TestResume(t *testing.T) {
	dir := shards(t, texts(6), segment.Config{})
	base := newBase(t, tiny(t, LM, dir))
	for _, k := range []struct {
		name   string
		stage  Stage
		change func(*Config)
	}{
		{"lm", LM, func(c *Config) { c.Tokenizer, c.Base = "", base }},
		{"vae", VAE, func(c *Config) { c.Model.Noise, c.Model.LatentEvery = 0.1, 5 }},
		{"sllm", SLLM, func(c *Config) { c.Model.Noise, c.Accumulate, c.Model.Context = 0.1, 2, 4 }},
		{"frozen", SLLM, func(c *Config) { c.BaseLR = 0 }},
	} {
		t.Run(k.name, func(t *testing.T) {
			c := tiny(t, k.stage, dir)
			c.Base, c.Steps = base, 8
			k.change(&c)
			whole := c
			whole.Out += "-whole"
			if _, err := Run(t.Context(), whole, cpu.New(), io.Discard); err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			sum, err := Run(ctx, c, cpu.New(), stopAfter{cancel})
			if !errors.Is(err, ErrInterrupted) || sum.Steps != 1 {
				t.Fatalf("after %d steps: %v", sum.Steps, err)
			}
			mustContain(t, err, "saved step 1", "--resume goes on")
			c.Resume = true
			if sum, err = Run(t.Context(), c, cpu.New(), io.Discard); err != nil || sum.Steps != 8 {
				t.Fatalf("after %d steps: %v", sum.Steps, err)
			}
			for _, name := range []string{"model.safetensors", optimizerFile} {
				a, err := os.ReadFile(filepath.Join(sllm.StepDir(whole.Out, 8), name))
				if err != nil {
					t.Fatal(err)
				}
				b, err := os.ReadFile(filepath.Join(sllm.StepDir(c.Out, 8), name))
				if err != nil {
					t.Fatal(err)
				}
				if !bytes.Equal(a, b) {
					t.Errorf("%s differs", name)
				}
			}
			a, b := metrics(t, whole.Out), metrics(t, c.Out)
			for i := range a {
				a[i].TokensSec, b[i].TokensSec = 0, 0
			}
			if !slices.Equal(a, b) {
				t.Errorf("metrics are\n%+v, want\n%+v", b, a)
			}
			if math.Abs(sum.Loss-mean(a)) > 1e-12 {
				t.Errorf("the summary's loss is %v, want the mean %v over all steps", sum.Loss, mean(a))
			}
		})
	}
}

func mean(ms []Metrics) float64 {
	var nats float64
	tokens := 0
	for _, m := range ms {
		nats += m.Nats.Total()
		tokens += m.Tokens
	}
	return nats / float64(tokens)
}

// TestThreads: the number of threads changes no bit.
func TestThreads(t *testing.T) {
	dir := shards(t, texts(8), segment.Config{})
	base := newBase(t, tiny(t, LM, dir))
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(0))
	var want []byte
	for _, n := range []int{1, 2, 4} {
		runtime.GOMAXPROCS(n)
		c := tiny(t, SLLM, dir)
		c.Base, c.BatchTokens = base, 400
		if _, err := Run(t.Context(), c, cpu.New(), io.Discard); err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(filepath.Join(sllm.StepDir(c.Out, c.Steps), "model.safetensors"))
		if err != nil {
			t.Fatal(err)
		}
		if want == nil {
			want = got
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%d threads give other weights than 1", n)
		}
	}
}

func TestLock(t *testing.T) {
	c := tiny(t, LM, shards(t, texts(2), segment.Config{}))
	opened(t, c)
	_, err := Run(t.Context(), c, cpu.New(), io.Discard)
	mustContain(t, err, c.Out, "holds a run already")
	c.Force = true
	_, err = Run(t.Context(), c, cpu.New(), io.Discard)
	mustContain(t, err, c.Out, "another process trains in this folder")
}

func TestDifferences(t *testing.T) {
	a := Default(SLLM)
	b := a
	b.Out, b.Data, b.SaveEvery, b.Keep, b.Resume = "x", "y", 3, 4, true // change nothing that is computed
	if ds := differences(&a, &b); len(ds) != 0 {
		t.Errorf("differences %q, want none", ds)
	}
	b.LR, b.Model.Latents, b.Seed = 0.5, 3, 9
	want := []string{"seed: 1 -> 9", "model.latents: 1 -> 3", "lr: 0.003 -> 0.5"}
	if ds := differences(&a, &b); !slices.Equal(ds, want) {
		t.Errorf("differences %q, want %q", ds, want)
	}
}

func TestResumeRefuses(t *testing.T) {
	dir, other := shards(t, texts(4), segment.Config{}), shards(t, texts(5), segment.Config{})
	c := tiny(t, LM, dir)
	c.Steps = 2
	if _, err := Run(t.Context(), c, cpu.New(), io.Discard); err != nil {
		t.Fatal(err)
	}
	c.Resume = true
	changed := c
	changed.LR = 0.1
	_, err := Run(t.Context(), changed, cpu.New(), io.Discard)
	mustContain(t, err, "lr: 0.003 -> 0.1", "--override")
	moved := c
	moved.Data = other
	_, err = Run(t.Context(), moved, cpu.New(), io.Discard)
	mustContain(t, err, other, "is not the data that this run began with", "--override")
	more := c
	more.Steps, more.Override = 4, true
	if sum, err := Run(t.Context(), more, cpu.New(), io.Discard); err != nil || sum.Steps != 4 {
		t.Fatalf("%d steps: %v", sum.Steps, err)
	}

	// metrics.jsonl is a by-product: without it the run goes on, and no zeros are written in its place
	if err := os.Remove(filepath.Join(c.Out, "metrics.jsonl")); err != nil {
		t.Fatal(err)
	}
	more.Steps = 5
	if _, err := Run(t.Context(), more, cpu.New(), io.Discard); err != nil {
		t.Fatal(err)
	}
	if ms := metrics(t, c.Out); len(ms) != 1 || ms[0].Step != 5 {
		t.Errorf("metrics are %+v, want those of step 5", ms)
	}

	// one flipped bit
	path := filepath.Join(sllm.StepDir(c.Out, 5), "model.safetensors")
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	b[len(b)/2] ^= 1
	if err := os.WriteFile(path, b, 0o666); err != nil {
		t.Fatal(err)
	}
	_, err = Run(t.Context(), more, cpu.New(), io.Discard)
	mustContain(t, err, path, "remove it to go on from "+sllm.StepDir(c.Out, 4))
}

// TestValidate: every value that cannot be is refused by name before anything is opened.
func TestValidate(t *testing.T) {
	good := func(s Stage) Config {
		c := Default(s)
		c.Data, c.Out, c.Base = "d", "o", "b"
		return c
	}
	for _, s := range []Stage{VAE, LM, SLLM} {
		c := good(s)
		if err := c.Validate(); err != nil {
			t.Errorf("%s: %v", s, err)
		}
	}
	for name, change := range map[string]func(*Config){
		"steps": func(c *Config) { c.Steps = 0 }, "batch-tokens": func(c *Config) { c.BatchTokens = -1 }, "lr": func(c *Config) { c.LR = math.Inf(1) },
		"base-lr": func(c *Config) { c.BaseLR = -1 }, "beta1": func(c *Config) { c.Beta1 = 1 }, "beta2": func(c *Config) { c.Beta2 = math.NaN() },
		"keep": func(c *Config) { c.Keep = 0 }, "min-lr": func(c *Config) { c.MinLR = 2 }, "clip": func(c *Config) { c.Clip = -1 },
		"encoder-layers": func(c *Config) { c.Model.EncoderLayers = -1 }, "decoder-layers": func(c *Config) { c.Model.DecoderLayers = 0 },
		"latents": func(c *Config) { c.Model.Latents = 0 }, "latent-every": func(c *Config) { c.Model.LatentEvery = -1 },
		"context": func(c *Config) { c.Model.Context = -1 }, "focal-gamma": func(c *Config) { c.Model.Gamma = -1 },
		"latent-noise": func(c *Config) { c.Model.Noise = math.NaN() }, "autoencoding-loss": func(c *Config) { c.Model.AELoss = -1 },
		"--out": func(c *Config) { c.Out = "" }, "--data": func(c *Config) { c.Data = "" }, "--base": func(c *Config) { c.Base = "" },
		"--tokenizer": func(c *Config) { c.Tokenizer = "t" }, "stage": func(c *Config) { c.Stage = "gan" },
	} {
		c := good(SLLM)
		change(&c)
		if err := c.Validate(); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: error %v", name, err)
		}
	}
	for _, name := range Presets() {
		c := good(VAE)
		if err := c.Apply(name); err != nil {
			t.Fatal(err)
		}
		if err := c.Validate(); err != nil {
			t.Errorf("preset %s: %v", name, err)
		}
	}
}
