package vae

import (
	"fmt"
)

// Config is the architecture of a sentence autoencoder.
type Config struct {
	Arch          Arch  `json:"arch"` // of the blocks, and the vocabulary; NumLayers is the base's
	EncoderLayers int   `json:"encoder_layers"`
	DecoderLayers int   `json:"decoder_layers"`
	EncoderCopies []int `json:"encoder_copies,omitempty"` // base layers that the encoder's start from; others start fresh
	DecoderCopies []int `json:"decoder_copies,omitempty"`

	Latents     int `json:"latents"`                // K of every sentence, unless LatentEvery > 0
	LatentEvery int `json:"latent_every,omitempty"` // K = ceil(tokens/LatentEvery)
	Context     int `json:"context,omitempty"`      // raw tokens before the sentence that the decoder sees

	EndMark    bool `json:"end_mark,omitempty"`    // the decoder predicts the end of a sentence as the token EOS
	EncoderBOS bool `json:"encoder_bos,omitempty"` // the encoder's sentence begins with BOS, as the reference's
	UntiedHead bool `json:"untied_head,omitempty"` // a head of its own with a bias, not the decoder's embeddings
	CrossQK    bool `json:"cross_qk,omitempty"`    // keep the reference's dead query and key maps at K = 1
	// LearnableAdd weighs every token by a linear map of its row before the sum over a sentence, as an option of the
	// reference does. The weights are not normalised.
	LearnableAdd bool `json:"learnable_add,omitempty"`

	Gamma       float64 `json:"focal_gamma,omitempty"`  // exponent of the focal loss; 0: cross-entropy
	Noise       float64 `json:"latent_noise,omitempty"` // σ of the noise on the latents in training
	MaxSentence int     `json:"max_sentence_tokens"`    // most tokens of a sentence, in text and when writing
}

// Default returns the autoencoder that starts from a base: one encoder layer copied from its first, two decoder layers
// copied from its upper half, one latent a sentence.
func Default(base Arch) Config {
	base.Dropout = 0
	return Config{Arch: base, EncoderLayers: 1, DecoderLayers: 2, EncoderCopies: []int{0},
		DecoderCopies: UpperLayers(base.NumLayers, 2), Latents: 1, MaxSentence: 64}
}

// UpperLayers returns the layers of a base of the given depth that a decoder of n layers starts from: its last, and
// others a quarter of the depth apart below it. (First and last, the obvious choice, costs 1.8 % more bits per byte over
// a base of 8 layers; see train/RUNS.md.)
func UpperLayers(depth, n int) []int {
	ls := make([]int, n)
	for i := range ls {
		ls[i] = max(0, depth-1-(n-1-i)*max(1, depth/4))
	}
	return ls
}

// Layout returns the paper's layout in the base's blocks: one fresh encoder and one fresh decoder layer.
func Layout(base Arch) Config {
	c := Default(base)
	c.DecoderLayers, c.EncoderCopies, c.DecoderCopies = 1, nil, nil
	return c
}

// Paper returns the paper's own autoencoder (§3.1; sizes from its released configuration H1): post-norm ReLU blocks of
// feed-forward size 2D with fixed positions, focal loss with γ = 2, predicted end marks, nothing taken from the base
// but sizes and vocabulary.
func Paper(base Arch) Config {
	no := false
	a := Arch{ModelType: "opt", HiddenSize: base.HiddenSize, NumLayers: base.NumLayers, NumHeads: base.NumHeads,
		VocabSize: base.VocabSize, Positions: 66, BOS: base.BOS, EOS: base.EOS, PAD: base.PAD, FFNDim: 2 * base.HiddenSize,
		EmbedDim: base.HiddenSize, PreNorm: &no, Act: "relu", Sinusoid: true, Dropout: 0.1}
	a.fill()
	return Config{Arch: a, EncoderLayers: 1, DecoderLayers: 1, Latents: 1, EndMark: true, EncoderBOS: true,
		UntiedHead: true, CrossQK: true, Gamma: 2, MaxSentence: 64}
}

// Validate reports the first field that cannot be.
func (c *Config) Validate() error {
	if err := c.Arch.Validate(); err != nil {
		return err
	}
	for _, f := range []struct {
		name      string
		v, lo, hi int
	}{
		{"encoder_layers", c.EncoderLayers, 1, 64}, {"decoder_layers", c.DecoderLayers, 1, 64},
		{"latents", c.Latents, 1, 64}, {"latent_every", c.LatentEvery, 0, 1 << 12}, {"context", c.Context, 0, 1 << 12},
		{"max_sentence_tokens", c.MaxSentence, 1, 1 << 12},
	} {
		if f.v < f.lo || f.v > f.hi {
			return fmt.Errorf("vae: %s %d is not in %d..%d", f.name, f.v, f.lo, f.hi)
		}
	}
	for _, l := range append(append([]int{}, c.EncoderCopies...), c.DecoderCopies...) {
		if l < 0 || l >= c.Arch.NumLayers {
			return fmt.Errorf("vae: layer %d to copy is not in the base's 0..%d", l, c.Arch.NumLayers-1)
		}
	}
	switch {
	case len(c.EncoderCopies) > c.EncoderLayers || len(c.DecoderCopies) > c.DecoderLayers:
		return fmt.Errorf("vae: more layers to copy than there are")
	case c.Arch.BOS < 0:
		return fmt.Errorf("vae: the base has no bos_token_id, which begins every sentence of the decoder")
	case c.EndMark && c.Arch.EOS < 0:
		return fmt.Errorf("vae: the base has no eos_token_id, which end_mark needs")
	case !c.Single() && c.Arch.HiddenSize%c.Arch.NumHeads != 0:
		return fmt.Errorf("vae: num_attention_heads %d do not divide hidden_size %d, as attention to several latents wants", c.Arch.NumHeads, c.Arch.HiddenSize)
	case c.Gamma < 0 || c.Noise < 0:
		return fmt.Errorf("vae: focal_gamma and latent_noise must not be negative")
	case c.Arch.Learned() && c.Context+c.MaxSentence+1 > c.Arch.Positions:
		return fmt.Errorf("vae: context %d and max_sentence_tokens %d exceed the base's %d positions", c.Context, c.MaxSentence, c.Arch.Positions)
	}
	return nil
}

// LatentCount returns K for a sentence of n tokens.
func (c *Config) LatentCount(n int) int {
	if c.LatentEvery > 0 {
		return max(1, (n+c.LatentEvery-1)/c.LatentEvery)
	}
	return c.Latents
}

// Single says that every sentence has one latent, so that cross-attention is a constant.
func (c *Config) Single() bool { return c.Latents == 1 && c.LatentEvery == 0 }

// crossLatents is what BlockConfig.Latents wants to know.
func (c *Config) crossLatents() int {
	if c.Single() {
		return 1
	}
	return 2
}
