package sllm

import (
	"fmt"
	"path/filepath"
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
var errNoGGUF = fmt.Errorf("llama.cpp has no architecture for it (write a model folder)")

// GGUF returns the header of a GGUF file that holds the model with its tokenizer, and the tensors that belong to the header:
// the rotary factors of Llama 3.1. fileType is the format's general.file_type, 0 for F32, 1 for F16, 7 for Q8_0, 32 for BF16.
func (f *Folder) GGUF(tok *tokenizer.Tokenizer, fileType uint32) ([]checkpoints.KV, []*checkpoints.Tensor, error) {
	a := &f.LM
	arch := ggufArch(a)
	switch {
	case f.Kind != KindLM:
		return nil, nil, fmt.Errorf("%s: a %s model: %w", f.Path, f.Kind, errNoGGUF)
	case arch == "":
		return nil, nil, fmt.Errorf("%s: model_type %q: %w", f.Path, a.ModelType, errNoGGUF)
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
			fs := a.RopeFactors()
			v := make([]float32, len(fs))
			for i := range fs {
				v[i] = float32(fs[i])
			}
			extra = append(extra, checkpoints.MemTensor(ropeFactors, []int{len(v)}, v))
		}
	}
	keys, values, err := tok.GGUF()
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", f.Path, err)
	}
	for i := range keys {
		kv = append(kv, checkpoints.KV{Key: keys[i], Value: padVocabulary(keys[i], values[i], a.VocabSize)})
	}
	return kv, extra, nil
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
