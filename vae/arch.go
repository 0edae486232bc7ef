package vae

import (
	"errors"
	"fmt"
	"math"
	"strings"
)

// ErrUnknown is wrapped when a config.json names an architecture that is not known.
var ErrUnknown = errors.New("unknown architecture")

// Arch is the architecture of a token-level transformer, as its Hugging Face config.json states it. JSON keys are
// Hugging Face's. The encoder and the decoder of a sentence autoencoder are made of the same blocks.
type Arch struct {
	ModelType  string  `json:"model_type"`
	HiddenSize int     `json:"hidden_size"`
	NumLayers  int     `json:"num_hidden_layers"`
	NumHeads   int     `json:"num_attention_heads"`
	NumKVHeads int     `json:"num_key_value_heads,omitempty"`
	HeadDim    int     `json:"head_dim,omitempty"`
	VocabSize  int     `json:"vocab_size"`
	Positions  int     `json:"max_position_embeddings"`
	Tied       bool    `json:"tie_word_embeddings"`
	BOS        int32   `json:"bos_token_id"`
	EOS        int32   `json:"eos_token_id"`
	PAD        int32   `json:"pad_token_id"`
	Dropout    float64 `json:"dropout,omitempty"` // of the residual branches

	// Llama, Mistral, Qwen and Gemma
	Intermediate int          `json:"intermediate_size,omitempty"`
	RMSNormEps   float64      `json:"rms_norm_eps,omitempty"`
	RopeTheta    float64      `json:"rope_theta,omitempty"`
	RopeScaling  *RopeScaling `json:"rope_scaling,omitempty"`
	HiddenAct    string       `json:"hidden_act,omitempty"`
	AttnBias     bool         `json:"attention_bias,omitempty"`
	MLPBias      bool         `json:"mlp_bias,omitempty"`
	// Window is how many tokens back a layer of Mistral sees, where that is less than the context. Positions is then no
	// larger, since up to there a sliding window changes nothing; see Windowed.
	Window int `json:"sliding_window,omitempty"`

	// OPT and GPT-2
	FFNDim       int      `json:"ffn_dim,omitempty"`
	EmbedDim     int      `json:"word_embed_proj_dim,omitempty"`
	PreNorm      *bool    `json:"do_layer_norm_before,omitempty"`
	Act          string   `json:"activation_function,omitempty"`
	EnableBias   *bool    `json:"enable_bias,omitempty"`
	NormAffine   *bool    `json:"layer_norm_elementwise_affine,omitempty"`
	NoFinalNorm  bool     `json:"_remove_final_layer_norm,omitempty"`
	LayerNormEps *float64 `json:"layer_norm_epsilon,omitempty"` // nil is 1e-5

	// Sinusoid replaces learned positions by the fixed ones of Vaswani et al. 2017, §3.5. Only the sentence
	// autoencoder of the paper has them; no base does.
	Sinusoid bool `json:"sinusoidal_positions,omitempty"`
}

// maxSize bounds the sizes that a config.json may state.
const maxSize = 1 << 24

// fill sets the sizes that follow from others.
func (a *Arch) fill() {
	if a.NumKVHeads == 0 {
		a.NumKVHeads = a.NumHeads
	}
	if a.HeadDim == 0 && a.NumHeads > 0 && a.HiddenSize%a.NumHeads == 0 {
		a.HeadDim = a.HiddenSize / a.NumHeads
	}
	if a.ModelType == "opt" && a.EmbedDim == 0 {
		a.EmbedDim = a.HiddenSize
	}
}

// Windowed says that Positions is the length of a sliding window and not of the context that the model was trained at:
// its layers would see the last Positions tokens of a longer text, which is not done here.
func (a *Arch) Windowed() bool { return a.Window > 0 && a.Window == a.Positions }

// Validate reports the first size that cannot be.
func (a *Arch) Validate() error {
	if _, ok := families[a.ModelType]; !ok {
		return fmt.Errorf("config.json: %w: model_type %q (known: %s)", ErrUnknown, a.ModelType, strings.Join(Families, ", "))
	}
	f := a.family()
	bad := func(key string, v any) error { return fmt.Errorf("config.json: %s %v is out of range", key, v) }
	switch {
	case a.HiddenSize < 1 || a.HiddenSize > 1<<17:
		return bad("hidden_size", a.HiddenSize)
	case a.NumLayers < 1 || a.NumLayers > 1<<12:
		return bad("num_hidden_layers", a.NumLayers)
	case a.NumHeads < 1 || a.NumHeads > a.HiddenSize:
		return bad("num_attention_heads", a.NumHeads)
	case a.NumKVHeads < 1 || a.NumHeads%a.NumKVHeads != 0:
		return fmt.Errorf("config.json: num_key_value_heads %d do not divide num_attention_heads %d", a.NumKVHeads, a.NumHeads)
	case a.HeadDim == 0 || f.learned && a.HiddenSize != a.NumHeads*a.HeadDim:
		return fmt.Errorf("config.json: num_attention_heads %d do not divide hidden_size %d", a.NumHeads, a.HiddenSize)
	case a.HeadDim < 1 || a.HeadDim > 1<<14:
		return bad("head_dim", a.HeadDim)
	case f.learned && a.NumKVHeads != a.NumHeads:
		return bad("num_key_value_heads", a.NumKVHeads)
	case !f.learned && a.HeadDim%2 != 0:
		return bad("head_dim (odd, with rotary positions)", a.HeadDim)
	case a.VocabSize < 1 || a.VocabSize > maxSize:
		return bad("vocab_size", a.VocabSize)
	case a.Positions < 1 || a.Positions > maxSize:
		return bad("max_position_embeddings", a.Positions)
	case a.FFNSize() < 1 || a.FFNSize() > maxSize:
		return bad("feed-forward size", a.FFNSize())
	case a.EmbedDim < 0 || a.EmbedDim > maxSize:
		return bad("word_embed_proj_dim", a.EmbedDim)
	}
	return a.validateRest(f)
}

// validateRest is Validate behind the sizes.
func (a *Arch) validateRest(f family) error {
	bad := func(key string, v any) error { return fmt.Errorf("config.json: %s %v is out of range", key, v) }
	_, plain := acts[a.actName()]
	eps := a.NormEps()
	switch {
	case f.gated && !a.silu() && (!plain || a.actName() == "relu" || a.actName() == "gelu"):
		return fmt.Errorf("config.json: hidden_act %q is not known (known: silu, gelu_pytorch_tanh)", a.actName())
	case !f.gated && !plain:
		return fmt.Errorf("config.json: activation_function %q is not known (known: relu, gelu, gelu_new)", a.actName())
	case !(a.Dropout >= 0 && a.Dropout < 1):
		return bad("dropout", a.Dropout)
	case !f.learned && !(a.RopeTheta > 0 && a.RopeTheta <= math.MaxFloat32):
		return bad("rope_theta", a.RopeTheta)
	case !(eps >= 0 && eps < 1):
		return bad("epsilon of the norms", eps)
	case a.Window < 0 || a.Window > maxSize:
		return bad("sliding_window", a.Window)
	}
	if err := a.RopeScaling.validate(); err != nil {
		return err
	}
	for _, id := range []int32{a.BOS, a.EOS, a.PAD} {
		if int(id) >= a.VocabSize {
			return fmt.Errorf("config.json: token id %d is outside vocab_size %d", id, a.VocabSize)
		}
	}
	return nil
}
