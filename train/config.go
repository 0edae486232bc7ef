// Package train trains the models of svae: the sentence autoencoder, the token-level model and the sentence-level model,
// by one loop over one gorgonia graph that serves every batch geometry. A run is a folder that holds its resolved
// configuration, its metrics and checkpoints from which it resumes to the bit.
package train

import (
	"bytes"
	"fmt"
	"math"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/BurntSushi/toml"
)

// Stage is what is trained.
type Stage string

// The stages.
const (
	VAE  Stage = "vae"
	LM   Stage = "lm"
	SLLM Stage = "sllm"
)

// Config is everything that determines a run. It is stored in the run's folder as config.toml. The tag "stages" lists the
// stages in which a value has an effect; without it, that is all.
type Config struct {
	Stage     Stage  `toml:"stage"`
	Preset    string `toml:"preset" flag:"preset" help:"default, paper-layout (one fresh layer each way) or paper (the paper's recipe but for its learning rates, made for 300,000 steps and more: --lr 1.28e-5 of vae, 1e-6 of sllm)"`
	Data      string `toml:"data" flag:"data" help:"'FOLDER' of shards that svae data build wrote"`
	Out       string `toml:"out" flag:"out" help:"'FOLDER' of the run"`
	Base      string `toml:"base" flag:"base" help:"model 'FOLDER' to start from"`
	Graft     string `toml:"vae" flag:"vae" stages:"sllm" help:"trained autoencoder ('FOLDER') to splice into a sentence-level model"`
	Tokenizer string `toml:"tokenizer" flag:"tokenizer" stages:"lm" help:"'FOLDER' of the tokenizer, for a token-level model from scratch"`
	Seed      uint64 `toml:"seed" flag:"seed" help:"of all random numbers"`

	Model Model `toml:"model"`

	Steps       int     `toml:"steps" flag:"steps" help:"optimizer steps"`
	BatchTokens int     `toml:"batch_tokens" flag:"batch-tokens" help:"most tokens of a packed batch"`
	Accumulate  int     `toml:"accumulate" flag:"accumulate" help:"batches whose gradients make one step"`
	Sentences   int     `toml:"sentences" flag:"sentences" help:"most sentences of a piece of a document"`
	PieceTokens int     `toml:"piece_tokens" flag:"piece-tokens" help:"most tokens of a piece; 0: no limit"`
	LR          float64 `toml:"lr" flag:"lr" help:"peak learning rate of new weights (an untied embedding table of a spread over 0.05 learns faster in proportion)"`
	BaseLR      float64 `toml:"base_lr" flag:"base-lr" stages:"lm sllm" help:"learning rate of weights that are the base's, as a factor of --lr; 0 freezes them"`
	Warmup      int     `toml:"warmup" flag:"warmup" help:"steps to the peak of the learning rate, at most a quarter of all"`
	MinLR       float64 `toml:"min_lr" flag:"min-lr" help:"last learning rate, as a factor of the peak"`
	Beta1       float64 `toml:"beta1" flag:"beta1" help:"AdamW β1"`
	Beta2       float64 `toml:"beta2" flag:"beta2" help:"AdamW β2"`
	Eps         float64 `toml:"eps" flag:"eps" help:"AdamW ε"`
	WeightDecay float64 `toml:"weight_decay" flag:"weight-decay" help:"AdamW weight decay"`
	Clip        float64 `toml:"clip" flag:"clip" help:"largest norm of the gradient; 0: no limit"`

	SaveEvery int `toml:"save_every" flag:"save-every" help:"steps between checkpoints; 0: only at the end"`
	Keep      int `toml:"keep" flag:"keep" help:"checkpoints to keep"`

	Resume   bool `toml:"-" flag:"resume" help:"go on from the newest checkpoint"`
	Override bool `toml:"-" flag:"override" help:"resume though the configuration or the data differ"`
	Force    bool `toml:"-" flag:"force" help:"replace an existing run"`
}

// Model chooses the architecture, where the stage leaves a choice.
type Model struct {
	// of the autoencoder
	EncoderLayers int     `toml:"encoder_layers,omitempty" flag:"encoder-layers" stages:"vae sllm" help:"layers of the encoder"`
	DecoderLayers int     `toml:"decoder_layers,omitempty" flag:"decoder-layers" stages:"vae sllm" help:"layers of the decoder"`
	DecoderCopies string  `toml:"decoder_copies" flag:"decoder-copies" stages:"vae sllm" help:"base layers that the decoder's start from, such as 0,7; empty: the default choice"`
	Fresh         bool    `toml:"fresh_layers" flag:"fresh-layers" stages:"vae sllm" help:"start the autoencoder's layers at random, not as copies of the base's"`
	PaperBlocks   bool    `toml:"paper_blocks" flag:"paper-blocks" stages:"vae sllm" help:"the paper's post-norm blocks, fixed positions and untied head"`
	Latents       int     `toml:"latents,omitempty" flag:"latents" stages:"vae sllm" help:"latents of a sentence (K)"`
	LatentEvery   int     `toml:"latent_every" flag:"latent-every" stages:"vae sllm" help:"one latent for every N tokens, instead of --latents; 0: off"`
	Context       int     `toml:"context" flag:"context" stages:"vae sllm" help:"raw tokens before the sentence that the decoder sees"`
	Gamma         float64 `toml:"focal_gamma" flag:"focal-gamma" stages:"vae sllm" help:"exponent of the focal loss, of tokens and of the stop flag; 0: cross-entropy"`
	Noise         float64 `toml:"latent_noise" flag:"latent-noise" stages:"vae sllm" help:"σ of the noise on latents in training"`
	// of the sentence-level model
	AELoss float64 `toml:"autoencoding_loss" flag:"autoencoding-loss" stages:"sllm" help:"weight of the reconstruction loss mixed into sentence-level training"`
	Null   bool    `toml:"null_latents" flag:"null-latents" stages:"sllm" help:"train the control whose decoder gets no plan"`
	// of a token-level model from scratch: a Llama
	HiddenSize int `toml:"hidden_size,omitempty" flag:"hidden-size" stages:"lm" help:"of a model from scratch"`
	NumLayers  int `toml:"num_hidden_layers,omitempty" flag:"layers" stages:"lm" help:"of a model from scratch"`
	NumHeads   int `toml:"num_attention_heads,omitempty" flag:"heads" stages:"lm" help:"of a model from scratch"`
	NumKVHeads int `toml:"num_key_value_heads,omitempty" flag:"kv-heads" stages:"lm" help:"of a model from scratch"`
	FFNDim     int `toml:"ffn_dim,omitempty" flag:"ffn" stages:"lm" help:"feed-forward size of a model from scratch"`
	Positions  int `toml:"max_position_embeddings,omitempty" flag:"positions" stages:"lm" help:"longest sequence of a model from scratch"`
}

// Default returns the configuration of a stage before presets and flags.
func Default(s Stage) Config {
	return Config{Stage: s, Preset: "default", Seed: 1, Steps: 1000, BatchTokens: 1024, Accumulate: 1, Sentences: 20, LR: 3e-3, BaseLR: 0.5,
		Warmup: 40, MinLR: 0.04, Beta1: 0.9, Beta2: 0.98, Eps: 1e-8, WeightDecay: 0.01, Clip: 1, SaveEvery: 500, Keep: 2,
		Model: Model{EncoderLayers: 1, DecoderLayers: 2, Latents: 1, HiddenSize: 128, NumLayers: 8, NumHeads: 4, NumKVHeads: 4,
			FFNDim: 344, Positions: 1024}}
}

// presets change the default.
var presets = map[string]func(*Config){
	"default": func(*Config) {},
	"paper-layout": func(c *Config) {
		c.Model.DecoderLayers, c.Model.Fresh = 1, true
	},
	// The paper's own recipe: its blocks, focal loss with γ = 2 on tokens and, in the sentence-level model, on the stop flag,
	// end marks, one autoencoder layer each way (H1), 64 sentences a document, AdamW with its defaults. Its learning rates
	// (1.28e-5 for 300,000 steps of the autoencoder, 1e-6 for 1,600,000 of the sentence-level model) would do nothing in the
	// few steps of the default, which therefore keeps its own; set them with --lr for such a run. The reference code also
	// averages weights over steps and drops a stop loss below 0.01; neither is done here.
	"paper": func(c *Config) {
		c.Model.DecoderLayers, c.Model.PaperBlocks, c.Model.Gamma = 1, true, 2
		c.Sentences, c.BaseLR, c.Beta2 = 64, 1, 0.999
	},
}

// Presets returns the names of the presets.
func Presets() []string { return []string{"default", "paper-layout", "paper"} }

// Apply sets a preset.
func (c *Config) Apply(preset string) error {
	f, ok := presets[preset]
	if !ok {
		return fmt.Errorf("preset %q is not known (use %s)", preset, strings.Join(Presets(), ", "))
	}
	c.Preset = preset
	f(c)
	return nil
}

// Validate reports the first value that cannot be, before anything is opened.
func (c *Config) Validate() error {
	switch {
	case c.Stage != VAE && c.Stage != LM && c.Stage != SLLM:
		return fmt.Errorf("stage %q is not known (use vae, lm or sllm)", c.Stage)
	case c.Data == "":
		return fmt.Errorf("no data given (--data SHARDS; svae data build makes them)")
	case c.Out == "":
		return fmt.Errorf("no folder for the run given (--out RUN)")
	case c.Stage != LM && c.Base == "":
		return fmt.Errorf("no base given (--base DIR, a model folder; svae convert makes one)")
	case c.Base == "" && c.Tokenizer == "":
		return fmt.Errorf("a model from scratch needs a tokenizer (--tokenizer DIR)")
	case c.Base != "" && c.Tokenizer != "":
		return fmt.Errorf("--tokenizer is for a model from scratch; with --base the tokenizer is the base's")
	case c.Graft != "" && c.Stage != SLLM:
		return fmt.Errorf("--vae is for the sentence-level model only")
	}
	return inRange(append(c.Model.ranges(c.Stage, c.Base == ""), []bound{
		{"steps", float64(c.Steps), 1, 1e9}, {"batch-tokens", float64(c.BatchTokens), 1, 1 << 24}, {"accumulate", float64(c.Accumulate), 1, 1 << 16},
		{"sentences", float64(c.Sentences), 1, 1 << 16}, {"piece-tokens", float64(c.PieceTokens), 0, 1 << 24}, {"lr", c.LR, 1e-12, 1},
		{"base-lr", c.BaseLR, 0, 1000}, {"warmup", float64(c.Warmup), 0, 1e9}, {"min-lr", c.MinLR, 0, 1}, {"beta1", c.Beta1, 0, 1 - 1e-9},
		{"beta2", c.Beta2, 0, 1 - 1e-9}, {"eps", c.Eps, 1e-30, 1}, {"weight-decay", c.WeightDecay, 0, 10}, {"clip", c.Clip, 0, 1e9},
		{"save-every", float64(c.SaveEvery), 0, 1e9}, {"keep", float64(c.Keep), 1, 1e6},
	}...))
}

// bound is a value by the name of its flag and the least and the greatest that it may be.
type bound struct {
	name      string
	v, lo, hi float64
}

// ranges returns the bounds of the values that a stage uses. What one value means for another is checked with the model.
func (m *Model) ranges(s Stage, scratch bool) []bound {
	switch {
	case s == LM && scratch:
		return []bound{{"hidden-size", float64(m.HiddenSize), 1, 1 << 17}, {"layers", float64(m.NumLayers), 1, 1 << 12}, {"heads", float64(m.NumHeads), 1, 1 << 17},
			{"kv-heads", float64(m.NumKVHeads), 1, 1 << 17}, {"ffn", float64(m.FFNDim), 1, 1 << 24}, {"positions", float64(m.Positions), 1, 1 << 24}}
	case s == LM:
		return nil
	}
	return []bound{{"encoder-layers", float64(m.EncoderLayers), 1, 64}, {"decoder-layers", float64(m.DecoderLayers), 1, 64}, {"latents", float64(m.Latents), 1, 64},
		{"latent-every", float64(m.LatentEvery), 0, 1 << 12}, {"context", float64(m.Context), 0, 1 << 12}, {"focal-gamma", m.Gamma, 0, 100},
		{"latent-noise", m.Noise, 0, 100}, {"autoencoding-loss", m.AELoss, 0, 1e6}}
}

func inRange(bs []bound) error {
	for _, b := range bs {
		if !(b.v >= b.lo && b.v <= b.hi) {
			return fmt.Errorf("%s %s is not in %s..%s", b.name, number(b.v), number(b.lo), number(b.hi))
		}
	}
	return nil
}

// number writes whole numbers without an exponent.
func number(v float64) string {
	if v == math.Trunc(v) && math.Abs(v) < 1e15 {
		return strconv.FormatFloat(v, 'f', 0, 64)
	}
	return strconv.FormatFloat(v, 'g', -1, 64)
}

// drop sets to zero what has no effect: the choices of other stages, and the sizes of a model from scratch where there is
// a base.
func (c *Config) drop() {
	m := reflect.ValueOf(&c.Model).Elem()
	for i := range m.NumField() {
		stages := m.Type().Field(i).Tag.Get("stages")
		if stages != "" && !slices.Contains(strings.Fields(stages), string(c.Stage)) {
			m.Field(i).SetZero()
		}
	}
	if c.Base != "" {
		m := &c.Model
		m.HiddenSize, m.NumLayers, m.NumHeads, m.NumKVHeads, m.FFNDim, m.Positions = 0, 0, 0, 0, 0, 0
	}
}

// encode returns config.toml.
func (c *Config) encode() ([]byte, error) {
	var b bytes.Buffer
	err := toml.NewEncoder(&b).Encode(c)
	return b.Bytes(), err
}

// ReadFile overlays a TOML file; a key that is not known is an error.
func (c *Config) ReadFile(path string) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	return c.ReadText(path, string(text))
}

// ReadText overlays TOML that came from path.
func (c *Config) ReadText(path, text string) error {
	md, err := toml.Decode(text, c)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	if u := md.Undecoded(); len(u) > 0 {
		return fmt.Errorf("%s: unknown key %q", path, u[0].String())
	}
	return nil
}

// differences lists the values that two configurations do not share, as "key: old -> new". Values that do not change
// what is computed up to a step are left out.
func differences(old, now *Config) []string {
	free := map[string]bool{"out": true, "save_every": true, "keep": true, "data": true, "base": true, "vae": true, "tokenizer": true}
	var ds []string
	var walk func(prefix string, a, b reflect.Value)
	walk = func(prefix string, a, b reflect.Value) {
		for i := range a.NumField() {
			name, _, _ := strings.Cut(a.Type().Field(i).Tag.Get("toml"), ",")
			switch x, y := a.Field(i), b.Field(i); {
			case name == "-" || prefix == "" && free[name]:
			case x.Kind() == reflect.Struct:
				walk(prefix+name+".", x, y)
			case x.Interface() != y.Interface():
				ds = append(ds, fmt.Sprintf("%s%s: %v -> %v", prefix, name, x, y))
			}
		}
	}
	walk("", reflect.ValueOf(*old), reflect.ValueOf(*now))
	return ds
}
