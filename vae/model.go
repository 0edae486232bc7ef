package vae

import "svae/kernels/op"

// Model is the sentence autoencoder: both halves, trained to reconstruct each sentence alone.
type Model[X comparable] struct {
	Encoder *Encoder[X]
	Decoder *Decoder[X]
}

// New walks the weights of an autoencoder.
func New[X comparable](c *Config, get Build[X]) *Model[X] {
	return &Model[X]{NewEncoder(c, get), NewDecoder(c, get)}
}

// Feed is the geometry of one batch for both halves.
type Feed struct {
	Enc EncoderFeed
	Dec DecoderFeed
}

// Set fills the feed; see DecoderFeed.Set.
func (f *Feed) Set(c *Config, ids, sent, doc []int32, before [][]int32) {
	f.Enc.Set(c, ids, sent)
	f.Dec.Set(c, ids, sent, doc, before, f.Enc.At)
}

// Loss returns the sum of the reconstruction losses over the batch's target tokens (§3.2).
func (m *Model[X]) Loss(o op.Set[X], f *Feed) X {
	z := o.Noise(m.Encoder.Encode(o, &f.Enc), m.Encoder.cfg.Noise)
	return m.Decoder.Loss(o, &f.Dec, z)
}
