package vae

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

	"svae/kernels"
)

// Families lists the model_type values of the token-level models that can serve as a base.
var Families = []string{"llama", "opt"}

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
	Dropout    float64 `json:"dropout,omitempty"`

	// Llama
	Intermediate int     `json:"intermediate_size,omitempty"`
	RMSNormEps   float64 `json:"rms_norm_eps,omitempty"`
	RopeTheta    float64 `json:"rope_theta,omitempty"`
	HiddenAct    string  `json:"hidden_act,omitempty"`

	// OPT
	FFNDim   int    `json:"ffn_dim,omitempty"`
	EmbedDim int    `json:"word_embed_proj_dim,omitempty"`
	PreNorm  *bool  `json:"do_layer_norm_before,omitempty"`
	Act      string `json:"activation_function,omitempty"`

	// Sinusoid replaces learned positions by the fixed ones of Vaswani et al. 2017, §3.5. Only the sentence
	// autoencoder of the paper has them; no base does.
	Sinusoid bool `json:"sinusoidal_positions,omitempty"`
}

// ParseArch reads a config.json. The error wraps ErrUnknown for a model_type that is not in Families, and says what
// is wrong with the sizes otherwise.
func ParseArch(config []byte) (Arch, error) {
	a := Arch{BOS: -1, EOS: -1, PAD: -1}
	raw := map[string]json.RawMessage{}
	if err := json.Unmarshal(config, &raw); err != nil {
		return a, fmt.Errorf("config.json: %w", err)
	}
	for _, key := range []string{"bos_token_id", "eos_token_id", "pad_token_id"} {
		if v, ok := raw[key]; ok {
			if raw[key] = firstID(v); raw[key] == nil {
				delete(raw, key)
			}
		}
	}
	var unsupported struct {
		Scaling     json.RawMessage `json:"rope_scaling"`
		AttnBias    bool            `json:"attention_bias"`
		MLPBias     bool            `json:"mlp_bias"`
		RemoveFinal bool            `json:"_remove_final_layer_norm"`
		NoAffine    *bool           `json:"layer_norm_elementwise_affine"`
		NoBias      *bool           `json:"enable_bias"`
	}
	flat, err := json.Marshal(raw)
	if err == nil {
		err = json.Unmarshal(flat, &a)
	}
	if err == nil {
		err = json.Unmarshal(flat, &unsupported)
	}
	if err != nil {
		return a, fmt.Errorf("config.json: %w", err)
	}
	u := unsupported
	switch {
	case !slices.Contains(Families, a.ModelType):
		return a, fmt.Errorf("config.json: %w: model_type %q (known: %s)", ErrUnknown, a.ModelType, strings.Join(Families, ", "))
	case len(u.Scaling) > 0 && string(u.Scaling) != "null":
		return a, fmt.Errorf("config.json: %w: rope_scaling is not supported", ErrUnknown)
	case u.AttnBias || u.MLPBias:
		return a, fmt.Errorf("config.json: %w: llama with biases is not supported", ErrUnknown)
	case u.RemoveFinal || u.NoAffine != nil && !*u.NoAffine || u.NoBias != nil && !*u.NoBias:
		return a, fmt.Errorf("config.json: %w: this variant of OPT is not supported", ErrUnknown)
	}
	if _, ok := raw["tie_word_embeddings"]; !ok {
		a.Tied = a.ModelType == "opt"
	}
	a.fill()
	return a, a.Validate()
}

// firstID returns a JSON number, or the first of a list of them, or nil.
func firstID(v json.RawMessage) json.RawMessage {
	var n int64
	var list []int64
	if json.Unmarshal(v, &n) == nil && string(v) != "null" {
		return v
	}
	if json.Unmarshal(v, &list) == nil && len(list) > 0 {
		return json.RawMessage(fmt.Sprint(list[0]))
	}
	return nil
}

// fill sets what a config.json may leave out.
func (a *Arch) fill() {
	if a.NumKVHeads == 0 {
		a.NumKVHeads = a.NumHeads
	}
	if a.HeadDim == 0 && a.NumHeads > 0 {
		a.HeadDim = a.HiddenSize / a.NumHeads
	}
	if a.ModelType == "llama" {
		if a.RMSNormEps == 0 {
			a.RMSNormEps = 1e-6
		}
		if a.RopeTheta == 0 {
			a.RopeTheta = 10000
		}
	}
	if a.ModelType == "opt" && a.EmbedDim == 0 {
		a.EmbedDim = a.HiddenSize
	}
}

// Validate reports the first size that cannot be.
func (a *Arch) Validate() error {
	bad := func(key string, v any) error { return fmt.Errorf("config.json: %s %v is out of range", key, v) }
	const most = 1 << 24
	switch {
	case a.HiddenSize < 1 || a.HiddenSize > 1<<17:
		return bad("hidden_size", a.HiddenSize)
	case a.NumLayers < 1 || a.NumLayers > 1<<12:
		return bad("num_hidden_layers", a.NumLayers)
	case a.NumHeads < 1 || a.NumHeads > a.HiddenSize:
		return bad("num_attention_heads", a.NumHeads)
	case a.NumKVHeads < 1 || a.NumHeads%a.NumKVHeads != 0:
		return bad("num_key_value_heads", a.NumKVHeads)
	case a.HeadDim < 1 || a.HeadDim > 1<<14:
		return bad("head_dim", a.HeadDim)
	case a.ModelType == "opt" && a.HiddenSize != a.NumHeads*a.HeadDim:
		return fmt.Errorf("config.json: hidden_size %d is not num_attention_heads %d times a head size", a.HiddenSize, a.NumHeads)
	case a.ModelType == "llama" && a.HeadDim%2 != 0:
		return bad("head_dim (odd, with rotary positions)", a.HeadDim)
	case a.VocabSize < 1 || a.VocabSize > most:
		return bad("vocab_size", a.VocabSize)
	case a.Positions < 1 || a.Positions > most:
		return bad("max_position_embeddings", a.Positions)
	case a.ffn() < 1 || a.ffn() > most:
		return bad("feed-forward size", a.ffn())
	case a.ModelType == "llama" && a.HiddenAct != "" && a.HiddenAct != "silu":
		return bad("hidden_act", a.HiddenAct)
	case a.ModelType == "opt" && a.Act != "" && a.Act != "relu" && a.Act != "gelu":
		return bad("activation_function", a.Act)
	case a.ModelType == "opt" && (a.EmbedDim < 1 || a.EmbedDim > most):
		return bad("word_embed_proj_dim", a.EmbedDim)
	case a.Dropout < 0 || a.Dropout >= 1:
		return bad("dropout", a.Dropout)
	case math.IsNaN(a.RopeTheta) || a.RopeTheta < 0:
		return bad("rope_theta", a.RopeTheta)
	}
	for _, id := range []int32{a.BOS, a.EOS, a.PAD} {
		if int(id) >= a.VocabSize {
			return fmt.Errorf("config.json: token id %d is outside vocab_size %d", id, a.VocabSize)
		}
	}
	return nil
}

func (a *Arch) llama() bool { return a.ModelType == "llama" }

func (a *Arch) ffn() int {
	if a.llama() {
		return a.Intermediate
	}
	return a.FFNDim
}

// postNorm says that norms stand behind the residual sums (OPT-350M, the paper's encoder and decoder).
func (a *Arch) postNorm() bool { return a.PreNorm != nil && !*a.PreNorm }

// EmbedSize is the width of the embedding table.
func (a *Arch) EmbedSize() int {
	if a.llama() {
		return a.HiddenSize
	}
	return a.EmbedDim
}

func (a *Arch) eps() float64 {
	if a.llama() {
		return a.RMSNormEps
	}
	return 1e-5
}

func (a *Arch) act() kernels.Act {
	if a.Act == "gelu" {
		return kernels.GELU
	}
	return kernels.ReLU
}

// PosOffset is added to a position to find its row in a table of learned positions: OPT keeps two rows free.
func (a *Arch) PosOffset() int {
	if a.llama() || a.Sinusoid {
		return 0
	}
	return 2
}

// freqs are the rotary frequencies in radians a position (Su et al. 2021, §3.2.2).
func (a *Arch) freqs() []float64 {
	f := make([]float64, a.HeadDim/2)
	for j := range f {
		f[j] = math.Pow(a.RopeTheta, -2*float64(j)/float64(a.HeadDim))
	}
	return f
}
