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
}

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
