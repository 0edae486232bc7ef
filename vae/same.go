package vae

import (
	"fmt"
	"math"
)

// SameArch reports the first difference in what two token-level models compute of the same weights, by the key of
// config.json; nil if there is none. How a config states it does not matter: a Mistral model that is used within its window
// is a Llama model, and numbers count as the float32 that they are stored as. Dropout and token ids are left out; see
// [SameIDs].
func SameArch(a, b Arch) error {
	differ := func(key string, x, y any) error {
		return fmt.Errorf("config.json: %s is %v in one and %v in the other", key, x, y)
	}
	if x, y := a.family().kind(), b.family().kind(); x != y {
		return differ("model_type", a.ModelType, b.ModelType)
	}
	qkvA, outA, mlpA := a.biases()
	qkvB, outB, mlpB := b.biases()
	final := func(a *Arch) bool { return !a.postNorm() && !a.NoFinalNorm }
	for _, f := range []struct {
		key  string
		x, y any
	}{
		{"hidden_size", a.HiddenSize, b.HiddenSize},
		{"num_hidden_layers", a.NumLayers, b.NumLayers},
		{"num_attention_heads", a.NumHeads, b.NumHeads},
		{"num_key_value_heads", a.NumKVHeads, b.NumKVHeads},
		{"head_dim", a.HeadDim, b.HeadDim},
		{"vocab_size", a.VocabSize, b.VocabSize},
		{"max_position_embeddings", a.Positions, b.Positions},
		{"the feed-forward size", a.FFNSize(), b.FFNSize()},
		{"word_embed_proj_dim", a.EmbedSize(), b.EmbedSize()},
		{"tie_word_embeddings", a.Tied, b.Tied},
		{"the activation", a.Activation(), b.Activation()},
		{"the epsilon of the norms", float32(a.NormEps()), float32(b.NormEps())},
		{"the bias of queries, keys and values", qkvA, qkvB},
		{"the bias of attention's output", outA, outB},
		{"the bias of the feed-forward map", mlpA, mlpB},
		{"do_layer_norm_before", !a.postNorm(), !b.postNorm()},
		{"layer_norm_elementwise_affine", a.affine(), b.affine()},
		{"the final norm", final(&a), final(&b)},
		{"sinusoidal_positions", a.Sinusoid, b.Sinusoid},
	} {
		if f.x != f.y {
			return differ(f.key, f.x, f.y)
		}
	}
	if a.family().learned {
		return nil
	}
	if x, y := float32(a.RopeTheta), float32(b.RopeTheta); x != y {
		return differ("rope_theta", x, y)
	}
	by := b.RopeFactors()
	for j, x := range a.RopeFactors() {
		if y := by[j]; !(math.Abs(x/y-1) < 1e-6) {
			return differ(fmt.Sprintf("the rope scaling of pair %d", j), x, y)
		}
	}
	return nil
}

// SameIDs reports the first difference between the token ids that begin, end and pad the texts of two models.
func SameIDs(a, b Arch) error {
	for _, f := range []struct {
		key  string
		x, y int32
	}{{"bos_token_id", a.BOS, b.BOS}, {"eos_token_id", a.EOS, b.EOS}, {"pad_token_id", a.PAD, b.PAD}} {
		if x, y := max(f.x, -1), max(f.y, -1); x != y {
			return fmt.Errorf("config.json: %s is %d in one and %d in the other (-1 is none)", f.key, x, y)
		}
	}
	return nil
}

// kind is what of a family no key of a config states: its blocks, without names and defaults.
func (f family) kind() any {
	return struct {
		rms, learned, gated, qkNorm, scaled bool
		shift                               float64
		offset                              int
	}{f.rms, f.learned, f.gated, f.qkNorm, f.scaled, f.shift, f.offset}
}
