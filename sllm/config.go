package sllm

import (
	"fmt"

	"svae/vae"
)

// Config is the architecture of a sentence-level language model.
type Config struct {
	Base vae.Arch   `json:"base"` // the token-level model whose layers it runs over latents
	VAE  vae.Config `json:"svae"`

	// LatentScale is the diagonal that the projection of latents into the base starts from: about the spread of the
	// base's token embeddings, which its layers are used to.
	LatentScale float64 `json:"latent_scale"`
	// AELoss is the weight of the reconstruction loss of each sentence from its own latents, mixed in when training.
	AELoss float64 `json:"autoencoding_loss,omitempty"`
	// Null gives every sentence the start-of-document's plan: the control that shows what latents are worth.
	Null bool `json:"null_latents,omitempty"`

	// Direct is the structure of the reference: latents enter the base's layers as they are, hidden rows are plans as they
	// are, and no start-of-document latent precedes the first sentence, whose plan is zeros.
	Direct bool `json:"direct_latents,omitempty"`
	// Attention says how the layers of an imported model saw sentences in training, if not causally: BidirectionalTrained.
	Attention string `json:"attention,omitempty"`
}

// BidirectionalTrained marks a model whose layers were trained without a causal mask, as the reference's published ones
// almost certainly were: each position saw the sentence that it had to predict. Here it runs causally.
const BidirectionalTrained = "bidirectional-trained"

// Validate reports the first field that cannot be.
func (c *Config) Validate() error {
	if err := c.Base.Validate(); err != nil {
		return err
	}
	if err := c.VAE.Validate(); err != nil {
		return err
	}
	switch {
	case c.VAE.Arch.VocabSize != c.Base.VocabSize:
		return fmt.Errorf("sllm: vocabulary %d of the autoencoder is not the base's %d", c.VAE.Arch.VocabSize, c.Base.VocabSize)
	case c.Direct && (c.VAE.Arch.HiddenSize != c.Base.HiddenSize || !c.VAE.Single()):
		return fmt.Errorf("sllm: direct_latents needs one latent a sentence of the base's hidden_size %d", c.Base.HiddenSize)
	case c.Attention != "" && c.Attention != BidirectionalTrained:
		return fmt.Errorf("sllm: attention %q is not known (known: %s)", c.Attention, BidirectionalTrained)
	case !(c.LatentScale > 0):
		return fmt.Errorf("sllm: latent_scale %v must be positive", c.LatentScale)
	case !(c.AELoss >= 0):
		return fmt.Errorf("sllm: autoencoding_loss %v must not be negative", c.AELoss)
	}
	return nil
}

// startRows returns the number of start-of-document latents.
func (c *Config) startRows() int {
	if c.VAE.LatentEvery > 0 {
		return 1
	}
	return c.VAE.Latents
}
