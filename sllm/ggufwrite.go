package sllm

import (
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"strings"

	"svae/checkpoints"
	"svae/data/tokenizer"
	"svae/vae"
)

// ggufArch returns the architecture under which a GGUF file holds a family; "" for none.
func ggufArch(a *vae.Arch) string {
	switch a.ModelType {
	case "llama", "mistral":
		return "llama"
	case "qwen2", "qwen3", "gpt2":
		return a.ModelType
	}
	return ""
}

// ggufNames turns the ends of Hugging Face names into those of GGUF.
var ggufNames = strings.NewReplacer(
	"model.embed_tokens.", "token_embd.", "model.norm.", "output_norm.", "lm_head.", "output.", "model.layers.", "blk.",
	"input_layernorm.", "attn_norm.", "post_attention_layernorm.", "ffn_norm.",
	"self_attn.q_proj.", "attn_q.", "self_attn.k_proj.", "attn_k.", "self_attn.v_proj.", "attn_v.", "self_attn.o_proj.", "attn_output.",
	"self_attn.q_norm.", "attn_q_norm.", "self_attn.k_norm.", "attn_k_norm.",
	"mlp.gate_proj.", "ffn_gate.", "mlp.up_proj.", "ffn_up.", "mlp.down_proj.", "ffn_down.",
	"transformer.wte.", "token_embd.", "transformer.wpe.", "position_embd.", "transformer.ln_f.", "output_norm.", "transformer.h.", "blk.",
	"ln_1.", "attn_norm.", "ln_2.", "ffn_norm.", "attn.c_attn.", "attn_qkv.", "attn.c_proj.", "attn_output.", "mlp.c_fc.", "ffn_up.", "mlp.c_proj.", "ffn_down.",
)

// GGUFLayout returns how a GGUF file stores the weights of a token-level model: under its own names, all maps as (out, in),
// and for Llama the rows of queries and keys in rotary pairs.
func GGUFLayout(a *vae.Arch, ws []vae.Weight) []Stored {
	st := Layout(a, ws)
	for i := range st {
		s := &st[i]
		s.Name, s.Transposed = ggufNames.Replace(s.Name), false
		if ggufArch(a) != "llama" {
			continue
		}
		switch {
		case strings.Contains(s.Name, ".attn_q."):
			s.Pairs = a.NumHeads
		case strings.Contains(s.Name, ".attn_k."):
			s.Pairs = a.NumKVHeads
		}
	}
	return st
}

// errNoGGUF is wrapped for a model that GGUF has no architecture for.
var errNoGGUF = errors.New("GGUF is not written for it (write a model folder)")

// GGUF returns the header of a GGUF file that holds the model with its tokenizer, and the tensors that belong to the header:
// the rotary factors of Llama 3.1. fileType is the format's general.file_type, 0 for F32, 1 for F16, 7 for Q8_0, 32 for BF16.
// The error names what of the model the format has no place for.
func (f *Folder) GGUF(tok *tokenizer.Tokenizer, fileType uint32) ([]checkpoints.KV, []*checkpoints.Tensor, error) {
	a := &f.LM
	arch := ggufArch(a)
	switch {
	case f.Kind != KindLM:
		return nil, nil, fmt.Errorf("%s: %s: %w", f.Path, f.Kind.what(), errNoGGUF)
	case arch == "":
		return nil, nil, fmt.Errorf("%s: model_type %q: %w", f.Path, a.ModelType, errNoGGUF)
	}
	if bad := ggufUnheld(a, arch); len(bad) > 0 {
		return nil, nil, fmt.Errorf("%s: GGUF's architecture %s cannot hold %s (write a model folder)", f.Path, arch, strings.Join(bad, ", "))
	}
	kv := []checkpoints.KV{{Key: "general.architecture", Value: arch}, {Key: "general.name", Value: filepath.Base(f.Path)},
		{Key: "general.file_type", Value: fileType}, {Key: "general.quantization_version", Value: uint32(2)}}
	size := func(key string, n int) { kv = append(kv, checkpoints.KV{Key: arch + "." + key, Value: uint32(n)}) }
	real := func(key string, v float64) { kv = append(kv, checkpoints.KV{Key: arch + "." + key, Value: float32(v)}) }
	size("block_count", a.NumLayers)
	size("context_length", a.Positions)
	size("embedding_length", a.HiddenSize)
	size("feed_forward_length", a.FFNSize())
	size("attention.head_count", a.NumHeads)
	var extra []*checkpoints.Tensor
	if arch == "gpt2" {
		real("attention.layer_norm_epsilon", a.NormEps())
	} else {
		size("attention.head_count_kv", a.NumKVHeads)
		size("vocab_size", a.VocabSize)
		size("rope.dimension_count", a.HeadDim)
		real("attention.layer_norm_rms_epsilon", a.NormEps())
		real("rope.freq_base", a.RopeTheta)
		if a.HeadDim*a.NumHeads != a.HiddenSize || arch == "qwen3" {
			size("attention.key_length", a.HeadDim)
			size("attention.value_length", a.HeadDim)
		}
		if s := a.RopeScaling; s != nil && s.Type == "linear" {
			kv = append(kv, checkpoints.KV{Key: arch + ".rope.scaling.type", Value: "linear"})
			real("rope.scaling.factor", s.Factor)
		} else if s != nil {
			v := float32s(a.RopeFactors())
			extra = append(extra, checkpoints.MemTensor(ropeFactors, []int{len(v)}, v))
		}
	}
	words, err := f.ggufTokenizer(tok)
	return append(kv, words...), extra, err
}

func float32s(v []float64) []float32 {
	w := make([]float32, len(v))
	for i := range v {
		w[i] = float32(v[i])
	}
	return w
}

// ggufUnheld names what the architecture of a GGUF file has no key or tensor for, by the keys of config.json.
func ggufUnheld(a *vae.Arch, arch string) (bad []string) {
	add := func(is bool, format string, args ...any) {
		if is {
			bad = append(bad, fmt.Sprintf(format, args...))
		}
	}
	number := func(key string, v float64) {
		w := float64(float32(v))
		add(math.IsInf(w, 0) || w == 0 && v != 0, "%s %v, which is no float32", key, v)
	}
	no := func(b *bool) bool { return b != nil && !*b }
	if arch == "gpt2" {
		add(a.Activation() != "gelu_pytorch_tanh", "activation_function %q", a.Activation())
		add(no(a.EnableBias), "enable_bias false")
		number("layer_norm_epsilon", a.NormEps())
	} else {
		add(a.Activation() != "silu", "hidden_act %q", a.Activation())
		add(a.AttnBias && arch != "llama", "attention_bias")
		add(a.MLPBias && arch != "llama", "mlp_bias")
		number("rms_norm_eps", a.NormEps())
		number("rope_theta", a.RopeTheta)
		ropeUnheld(a, arch, add, number)
	}
	add(no(a.PreNorm), "do_layer_norm_before false")
	add(no(a.NormAffine), "layer_norm_elementwise_affine false")
	add(a.NoFinalNorm, "_remove_final_layer_norm")
	add(a.EmbedSize() != a.HiddenSize, "word_embed_proj_dim %d", a.EmbedSize())
	add(a.Sinusoid, "sinusoidal_positions")
	return bad
}

// ropeUnheld is ggufUnheld of the scaling of rotary positions. Factors are stored without the parameters that they come from,
// and only for Llama.
func ropeUnheld(a *vae.Arch, arch string, add func(bool, string, ...any), number func(string, float64)) {
	s := a.RopeScaling
	if s == nil {
		return
	}
	if s.Type == "linear" {
		number("the rope scaling's factor", s.Factor)
		return
	}
	b := *a
	got, ok := llama3Scaling(float32s(a.RopeFactors()), float64(float32(a.RopeTheta)))
	b.RopeScaling = &got
	add(arch != "llama" || !ok || vae.SameArch(*a, b) != nil, "rope scaling of type %s (factor %v, low_freq_factor %v, high_freq_factor %v, "+
		"original_max_position_embeddings %d)", s.Type, s.Factor, s.Low, s.High, s.Original)
}

// ggufTokenizer returns the entries of the tokenizer. The model's config says which tokens begin, end and pad a text.
func (f *Folder) ggufTokenizer(tok *tokenizer.Tokenizer) ([]checkpoints.KV, error) {
	a := &f.LM
	keys, values, err := tok.GGUF()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", f.Path, err)
	}
	stops, err := f.ggufStops()
	if err != nil {
		return nil, err
	}
	ids := map[string]int32{ggufBOS: a.BOS, ggufEOS: a.EOS, ggufPAD: a.PAD, ggufEOM: -1, ggufEOT: -1}
	switch len(stops) {
	case 3:
		ids[ggufEOM], ids[ggufEOT] = stops[1], stops[2]
	case 2:
		ids[ggufEOT] = stops[1]
	}
	var kv []checkpoints.KV
	for i, key := range keys {
		v := values[i]
		switch key {
		case ggufBOS, ggufEOS, ggufPAD:
			continue
		case "tokenizer.ggml.add_bos_token":
			v = v == true && a.BOS >= 0
		case "tokenizer.ggml.add_eos_token":
			v = v == true && a.EOS >= 0
		}
		kv = append(kv, checkpoints.KV{Key: key, Value: padVocabulary(key, v, a.VocabSize)})
	}
	for _, key := range []string{ggufBOS, ggufEOS, ggufEOM, ggufEOT, ggufPAD} {
		if ids[key] >= 0 {
			kv = append(kv, checkpoints.KV{Key: key, Value: uint32(ids[key])})
		}
	}
	return kv, nil
}

// ggufStops returns the tokens that end a text if a GGUF file can name them all: its eos_token_id first, and up to two more.
// Otherwise there is only the first.
func (f *Folder) ggufStops() ([]int32, error) {
	stops, err := f.Stops()
	if err != nil || f.LM.EOS < 0 {
		return nil, err
	}
	if len(stops) > 3 || len(stops) == 0 || stops[0] != f.LM.EOS {
		return []int32{f.LM.EOS}, nil
	}
	return stops, nil
}

// GGUFLostStops returns the tokens that end a text of the model, by [Folder.Stops], and that a GGUF file of it does not name.
func (f *Folder) GGUFLostStops() ([]int32, error) {
	held, err := f.ggufStops()
	if err != nil {
		return nil, err
	}
	stops, err := f.Stops()
	return slices.DeleteFunc(stops, func(id int32) bool { return slices.Contains(held, id) }), err
}

// padVocabulary makes the lists of a vocabulary as long as the model's table: with tokens that are not used.
func padVocabulary(key string, v any, n int) any {
	switch key {
	case "tokenizer.ggml.tokens":
		s := append([]string(nil), v.([]string)...)
		for i := len(s); i < n; i++ {
			s = append(s, fmt.Sprintf("[PAD%d]", i))
		}
		return s
	case "tokenizer.ggml.token_type":
		s := append([]int32(nil), v.([]int32)...)
		for len(s) < n {
			s = append(s, 5)
		}
		return s
	case "tokenizer.ggml.scores":
		s := append([]float32(nil), v.([]float32)...)
		for len(s) < n {
			s = append(s, -10000)
		}
		return s
	}
	return v
}
