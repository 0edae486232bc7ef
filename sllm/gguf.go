package sllm

import (
	"encoding/json"
	"fmt"
	"maps"
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
// the file stores the model's weights. Without vocabulary it leaves the tokenizer out. The error wraps vae.ErrUnknown for an
// architecture that is not known.
func ReadGGUF(w *checkpoints.Weights, vocabulary bool) (*Folder, []Stored, error) {
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
	if vocabulary {
		if f.Files, err = tokenizer.FromGGUF(w.Values()); err != nil {
			return nil, nil, fmt.Errorf("%s: %w (svae convert takes another with --tokenizer)", path, err)
		}
	}
	return f, GGUFLayout(&f.LM, f.Weights()), nil
}

// ggufHeader reads typed values; the first that is missing or of the wrong type is kept.
type ggufHeader struct {
	values  map[string]any
	arch    string
	headDim int
	err     error
}

func (h *ggufHeader) fail(key, want string) {
	if h.err == nil {
		if v, ok := h.values[key]; ok {
			h.err = fmt.Errorf("the GGUF header's %s is %v, want %s", key, v, want)
		} else {
			h.err = fmt.Errorf("the GGUF header's %s is missing, want %s", key, want)
		}
	}
}

// refuse says that the model is of a variant that is not known.
func (h *ggufHeader) refuse(format string, args ...any) {
	if h.err == nil {
		h.err = fmt.Errorf("%w: "+format, append([]any{vae.ErrUnknown}, args...)...)
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
		if !math.IsNaN(v) && !math.IsInf(v, 0) {
			return v
		}
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
		known := slices.Sorted(maps.Keys(ggufFamilies))
		return nil, fmt.Errorf("%w: general.architecture %q (known of GGUF: %s)", vae.ErrUnknown, h.arch, strings.Join(known, ", "))
	}
	table, ok := w.Get("token_embd.weight")
	if !ok || len(table.Shape) != 2 {
		return nil, fmt.Errorf("no token_embd.weight: the file holds a vocabulary or an adapter, not a model")
	}
	_, untied := w.Get("output.weight")
	a := vae.Arch{ModelType: family}
	c := map[string]any{"model_type": family, "architectures": []string{a.Class()}, "vocab_size": table.Shape[0], "tie_word_embeddings": !untied}
	h.marks(c)
	if h.size("expert_count", 0) > 0 {
		h.refuse("a mixture of experts")
	}
	if _, ok := w.Get(ropeFactors); ok && h.arch != "llama" {
		h.refuse("%s in a model of architecture %s", ropeFactors, h.arch)
	}
	if family == "gpt2" {
		h.gpt2(c)
	} else {
		h.gated(c)
		h.biases(w, c)
		h.rope(w, c)
	}
	h.unread()
	return c, h.err
}

// The keys of token ids.
const (
	ggufBOS = "tokenizer.ggml.bos_token_id"
	ggufEOS = "tokenizer.ggml.eos_token_id"
	ggufEOT = "tokenizer.ggml.eot_token_id" // these two end a text as well
	ggufEOM = "tokenizer.ggml.eom_token_id"
	ggufPAD = "tokenizer.ggml.padding_token_id"
)

// marks sets the token ids. Where there are none, llama.cpp takes 1 and 2 for a SentencePiece vocabulary.
func (h *ggufHeader) marks(c map[string]any) {
	for key, name := range map[string]string{"bos_token_id": ggufBOS, "eos_token_id": ggufEOS, "pad_token_id": ggufPAD} {
		c[key] = h.values[name]
	}
	if h.values["tokenizer.ggml.model"] == "llama" && c["vocab_size"].(int) > 2 {
		for key, id := range map[string]int64{"bos_token_id": 1, "eos_token_id": 2} {
			if c[key] == nil {
				c[key] = id
			}
		}
	}
	ends := []any{c["eos_token_id"]}
	for _, name := range []string{ggufEOM, ggufEOT} {
		if id, ok := h.values[name].(int64); ok && ends[0] != nil && ends[0] != any(id) {
			ends = append(ends, id)
		}
	}
	if len(ends) > 1 {
		c["eos_token_id"] = ends
	}
}

// gpt2 sets what a GPT-2 is made of.
func (h *ggufHeader) gpt2(c map[string]any) {
	c["n_embd"], c["n_layer"], c["n_head"] = h.size("embedding_length"), h.size("block_count"), h.size("attention.head_count")
	c["n_positions"], c["n_inner"] = h.size("context_length"), h.size("feed_forward_length")
	c["layer_norm_epsilon"], c["activation_function"] = float32(h.number("attention.layer_norm_epsilon")), "gelu_new"
	h.headDim = c["n_embd"].(int) / max(c["n_head"].(int), 1)
}

// gated sets what a Llama or one of its kin is made of.
func (h *ggufHeader) gated(c map[string]any) {
	heads := h.size("attention.head_count")
	c["hidden_size"], c["num_hidden_layers"], c["num_attention_heads"] = h.size("embedding_length"), h.size("block_count"), heads
	c["num_key_value_heads"] = h.size("attention.head_count_kv", float64(heads))
	c["intermediate_size"], c["hidden_act"] = h.size("feed_forward_length"), "silu"
	c["rms_norm_eps"] = float32(h.number("attention.layer_norm_rms_epsilon"))
	c["max_position_embeddings"] = h.size("context_length")
	if n := h.size("attention.sliding_window", 0); n > 0 {
		c["max_position_embeddings"] = min(n, h.size("context_length"))
	}
	h.headDim = c["hidden_size"].(int) / max(heads, 1)
	if dim := h.size("attention.key_length", 0); dim > 0 {
		c["head_dim"], h.headDim = dim, dim
		if v := h.size("attention.value_length", float64(dim)); v != dim {
			h.fail(h.arch+".attention.value_length", "the key length")
		}
	} else if h.arch == "qwen3" { // whose config.json would mean 128
		c["head_dim"] = h.headDim
	}
	if n := h.size("rope.dimension_count", float64(h.headDim)); n != h.headDim {
		h.refuse("%d of %d columns of a head are rotated", n, h.headDim)
	}
}

// biases sets which maps have one, by the tensors that are there. Llama alone may have some, or none.
func (h *ggufHeader) biases(w *checkpoints.Weights, c map[string]any) {
	has := func(names ...string) string {
		for _, n := range names {
			name := "blk.0." + n + ".bias"
			if _, ok := w.Get(name); ok {
				return name
			}
		}
		return ""
	}
	in, out, mlp := has("attn_q", "attn_k", "attn_v"), has("attn_output"), has("ffn_gate", "ffn_up", "ffn_down")
	switch {
	case h.arch == "llama":
		c["attention_bias"], c["mlp_bias"] = in+out != "", mlp != ""
	case h.arch == "qwen3" && in != "":
		h.refuse("%s in a model of architecture %s", in, h.arch)
	case out != "":
		h.refuse("%s in a model of architecture %s", out, h.arch)
	case mlp != "":
		h.refuse("%s in a model of architecture %s", mlp, h.arch)
	}
}

// rope sets rope_theta and rope_scaling. A factor without a type is linear, as llama.cpp takes it. Llama 3.1's scaling is
// stored as the tensor of the factors that it comes to.
func (h *ggufHeader) rope(w *checkpoints.Weights, c map[string]any) {
	theta := float32(h.number("rope.freq_base", 10000))
	c["rope_theta"] = theta
	kind, factor := "linear", h.number("rope.scaling.factor", h.number("rope.scale_linear", 0))
	if v, ok := h.values[h.arch+".rope.scaling.type"]; ok {
		kind = fmt.Sprint(v)
	}
	switch {
	case kind != "linear" && kind != "none":
		h.refuse("%s.rope.scaling.type %q (known: none, linear)", h.arch, kind)
	case kind == "none" || factor == 0 || factor == 1:
		kind = "none"
	default:
		c["rope_scaling"] = map[string]any{"rope_type": "linear", "factor": float32(factor)}
	}
	t, ok := w.Get(ropeFactors)
	switch {
	case !ok || h.err != nil:
		return
	case kind == "linear":
		h.refuse("%s beside linear rope scaling", ropeFactors)
		return
	case t.Len() != h.headDim/2:
		h.err = fmt.Errorf("%s is %v, want %d factors", ropeFactors, t.Shape, h.headDim/2)
		return
	}
	got := make([]float32, t.Len())
	if h.err = t.Float32(got); h.err != nil {
		return
	}
	scaling, ok := llama3Scaling(got, float64(theta))
	if !ok {
		h.refuse("the factors of %s are not Llama 3's", ropeFactors)
	}
	c["rope_scaling"] = scaling
}

// llama3Scaling returns a scaling of Llama 3 whose factors are the given ones, which are the product of other programs'
// float32. Files do not hold its parameters; all that was published has these limits of wavelengths.
func llama3Scaling(got []float32, theta float64) (best vae.RopeScaling, ok bool) {
	if len(got) == 0 {
		return best, false
	}
	const rounding = 1e-5
	least, top := rounding, float64(max(slices.Max(got), 1))
	for _, original := range []int{8192, 1 << 5, 1 << 6, 1 << 7, 1 << 8, 1 << 9, 1 << 10, 1 << 11, 1 << 12, 1 << 14, 1 << 15, 1 << 16, 1 << 17} {
		for _, factor := range []float64{8, 32, 4, 2, 16, 64, top} { // 3.1 and 3.3, 3.2, others
			s := vae.RopeScaling{Type: "llama3", Factor: factor, Low: 1, High: 4, Original: original}
			a := vae.Arch{HeadDim: 2 * len(got), RopeTheta: theta, RopeScaling: &s}
			off := 0.0
			for j, by := range a.RopeFactors() {
				if d := math.Abs(float64(got[j])/by - 1); !(d <= off) {
					off = d
				}
			}
			if off < least {
				best, least, ok = s, off, true
			}
		}
	}
	return best, ok
}

// ropeFactors is the tensor that divides the rotary frequencies.
const ropeFactors = "rope_freqs.weight"

// ggufNeutral are keys of an architecture that change what is computed and that are not read, with the values that change
// nothing.
var ggufNeutral = []struct {
	key    string
	values []any
}{
	{"attention.clamp_kqv", []any{0.0}}, {"attention.max_alibi_bias", []any{0.0}}, {"attention.causal", []any{true}},
	{"attention.output_scale", []any{0.0, 1.0}}, {"attention.value_scale", []any{0.0, 1.0}}, {"attention.temperature_scale", []any{0.0}},
	{"attention.shared_kv_layers", []any{0.0}}, {"logit_scale", []any{0.0, 1.0}}, {"residual_scale", []any{0.0, 1.0}},
	{"embedding_scale", []any{0.0, 1.0}}, {"final_logit_softcapping", []any{0.0}}, {"attn_logit_softcapping", []any{0.0}},
	{"pooling_type", []any{0.0, -1.0}}, {"use_parallel_residual", []any{false}}, {"hidden_activation", []any{"silu", "swish"}},
	{"rope.scaling.attn_factor", []any{0.0, 1.0}}, {"rope.scaling.yarn_ext_factor", []any{0.0, -1.0}}, {"rope.dimension_sections", nil},
	{"nextn_predict_layers", []any{0.0}},
}

// unread refuses values that would change what is computed.
func (h *ggufHeader) unread() {
	for _, n := range ggufNeutral {
		v := h.values[h.arch+"."+n.key]
		if i, ok := v.(int64); ok {
			v = float64(i)
		}
		if v != nil && !slices.Contains(n.values, v) {
			h.refuse("%s.%s is %v", h.arch, n.key, v)
		}
	}
	if s := h.number("attention.scale", 0); s != 0 && !(math.Abs(s*math.Sqrt(float64(h.headDim))-1) < 1e-6) {
		h.refuse("%s.attention.scale is %v", h.arch, s)
	}
}
