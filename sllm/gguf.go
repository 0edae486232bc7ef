package sllm

import (
	"encoding/json"
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"strings"

	"svae/checkpoints"
	"svae/data/tokenizer"
	"svae/vae"
)

// ggufFamilies maps the architectures of GGUF files to the families of Hugging Face configs that they hold. Mistral and
// SmolLM2 are stored as llama.
var ggufFamilies = map[string]string{"llama": "llama", "qwen2": "qwen2", "qwen3": "qwen3", "gpt2": "gpt2"}

// ReadGGUF makes the config.json and the tokenizer of a Hugging Face folder from the header of a GGUF file, and says how
// the file stores the model's weights. The error wraps vae.ErrUnknown for an architecture that is not known.
func ReadGGUF(w *checkpoints.Weights) (*Folder, []Stored, error) {
	path := w.Files()[0]
	h := ggufHeader{values: w.Values()}
	config, err := h.config(w)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", path, err)
	}
	f := &Folder{Kind: KindLM, Path: filepath.Dir(path), Files: map[string][]byte{}}
	if f.Raw, err = json.MarshalIndent(config, "", "  "); err != nil {
		return nil, nil, err
	}
	f.Raw = append(f.Raw, '\n')
	if f.LM, err = vae.ParseArch(f.Raw); err != nil {
		return nil, nil, fmt.Errorf("%s: the GGUF header gives no valid config: %w", path, err)
	}
	if f.Files, err = tokenizer.FromGGUF(w.Values()); err != nil {
		return nil, nil, fmt.Errorf("%s: %w", path, err)
	}
	return f, GGUFLayout(&f.LM, f.Weights()), nil
}

// ggufHeader reads typed values; the first that is missing or of the wrong type is kept.
type ggufHeader struct {
	values map[string]any
	arch   string
	err    error
}

func (h *ggufHeader) fail(key, want string) {
	if h.err == nil {
		h.err = fmt.Errorf("the GGUF header's %s is %v, want %s", key, h.values[key], want)
	}
}

// number returns a number of the architecture; without a default one that is missing is an error.
func (h *ggufHeader) number(key string, or ...float64) float64 {
	switch v := h.values[h.arch+"."+key].(type) {
	case int64:
		return float64(v)
	case uint64:
		return float64(v)
	case float64:
		return v
	case []int64: // one for each layer
		if len(v) > 0 && !slices.ContainsFunc(v, func(n int64) bool { return n != v[0] }) {
			return float64(v[0])
		}
		h.fail(h.arch+"."+key, "the same for every layer")
		return 0
	case nil:
		if len(or) > 0 {
			return or[0]
		}
	}
	h.fail(h.arch+"."+key, "a number")
	return 0
}

func (h *ggufHeader) size(key string, or ...float64) int {
	v := h.number(key, or...)
	if v != math.Trunc(v) || v < 0 || v > math.MaxInt32 {
		h.fail(h.arch+"."+key, "a size")
		return 0
	}
	return int(v)
}

// config returns the keys of the config.json of the same model.
func (h *ggufHeader) config(w *checkpoints.Weights) (map[string]any, error) {
	h.arch, _ = h.values["general.architecture"].(string)
	family, ok := ggufFamilies[h.arch]
	if !ok {
		known := []string{}
		for a := range ggufFamilies {
			known = append(known, a)
		}
		slices.Sort(known)
		return nil, fmt.Errorf("%w: general.architecture %q (known of GGUF: %s)", vae.ErrUnknown, h.arch, strings.Join(known, ", "))
	}
	table, ok := w.Get("token_embd.weight")
	if !ok || len(table.Shape) != 2 {
		return nil, fmt.Errorf("no token_embd.weight: the file holds a vocabulary or an adapter, not a model")
	}
	_, untied := w.Get("output.weight")
	heads := h.size("attention.head_count")
	c := map[string]any{"model_type": family, "vocab_size": table.Shape[0], "tie_word_embeddings": !untied,
		"max_position_embeddings": h.size("context_length")}
	for key, name := range map[string]string{"bos_token_id": "bos_token_id", "eos_token_id": "eos_token_id", "pad_token_id": "padding_token_id"} {
		if id, ok := h.values["tokenizer.ggml."+name]; ok {
			c[key] = id
		}
	}
	if family == "gpt2" {
		c["architectures"] = []string{"GPT2LMHeadModel"}
		c["n_embd"], c["n_layer"], c["n_head"] = h.size("embedding_length"), h.size("block_count"), heads
		c["n_positions"], c["n_inner"] = h.size("context_length"), h.size("feed_forward_length")
		c["layer_norm_epsilon"], c["activation_function"] = h.number("attention.layer_norm_epsilon", 1e-5), "gelu_new"
		delete(c, "max_position_embeddings")
		return c, h.err
	}
	c["architectures"] = []string{map[string]string{"llama": "LlamaForCausalLM", "qwen2": "Qwen2ForCausalLM", "qwen3": "Qwen3ForCausalLM"}[family]}
	c["hidden_size"], c["num_hidden_layers"], c["num_attention_heads"] = h.size("embedding_length"), h.size("block_count"), heads
	c["num_key_value_heads"] = h.size("attention.head_count_kv", float64(heads))
	c["intermediate_size"], c["hidden_act"] = h.size("feed_forward_length"), "silu"
	c["rms_norm_eps"], c["rope_theta"] = float32(h.number("attention.layer_norm_rms_epsilon", 1e-6)), h.number("rope.freq_base", 10000)
	if dim := h.size("attention.key_length", 0); dim > 0 {
		c["head_dim"] = dim
		if v := h.size("attention.value_length", float64(dim)); v != dim {
			h.fail(h.arch+".attention.value_length", "the key length")
		}
	}
	size := 0
	if heads > 0 {
		size = h.size("embedding_length") / heads
	}
	if dim, ok := c["head_dim"].(int); ok {
		size = dim
	}
	if n := h.size("rope.dimension_count", float64(size)); n != size {
		return nil, fmt.Errorf("%w: %d of %d columns of a head are rotated", vae.ErrUnknown, n, size)
	}
	if n := h.size("attention.sliding_window", 0); n > 0 {
		c["max_position_embeddings"] = min(n, h.size("context_length"))
	}
	if h.size("expert_count", 0) > 0 {
		return nil, fmt.Errorf("%w: a mixture of experts", vae.ErrUnknown)
	}
	h.rope(w, c)
	return c, h.err
}

// rope sets rope_scaling. Llama 3.1's is stored as the tensor of the factors that it comes to.
func (h *ggufHeader) rope(w *checkpoints.Weights, c map[string]any) {
	kind, _ := h.values[h.arch+".rope.scaling.type"].(string)
	switch kind {
	case "", "none":
	case "linear":
		c["rope_scaling"] = map[string]any{"rope_type": "linear", "factor": h.number("rope.scaling.factor")}
	default:
		h.fail(h.arch+".rope.scaling.type", "none or linear")
		return
	}
	t, ok := w.Get(ropeFactors)
	if !ok {
		return
	}
	got := make([]float32, t.Len())
	if err := t.Float32(got); err != nil {
		h.err = err
		return
	}
	theta, _ := c["rope_theta"].(float64)
	for _, factor := range []float64{8, 32, 4, 2, 16, 64} { // 3.1 and 3.3, 3.2, others
		scaling := vae.RopeScaling{Type: "llama3", Factor: factor, Low: 1, High: 4, Original: 8192}
		a := vae.Arch{HeadDim: 2 * len(got), RopeTheta: theta, RopeScaling: &scaling}
		if slices.EqualFunc(got, a.RopeFactors(), func(x float32, y float64) bool { return math.Abs(float64(x)/y-1) < 1e-5 }) {
			c["rope_scaling"] = scaling
			return
		}
	}
	h.err = fmt.Errorf("%w: the factors of %s are not Llama 3's", vae.ErrUnknown, ropeFactors)
}

// ropeFactors is the tensor that divides the rotary frequencies.
const ropeFactors = "rope_freqs.weight"
