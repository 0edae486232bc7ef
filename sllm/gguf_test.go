package sllm

import (
	"bytes"
	"errors"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"svae/checkpoints"
	"svae/vae"
)

// goodGGUF is the header of a small model.
func goodGGUF(arch string) map[string]any {
	epsilon := ".attention.layer_norm_rms_epsilon"
	if arch == "gpt2" {
		epsilon = ".attention.layer_norm_epsilon"
	}
	return map[string]any{"general.architecture": arch, arch + ".block_count": uint32(1), arch + ".context_length": uint32(16),
		arch + ".embedding_length": uint32(4), arch + ".feed_forward_length": uint32(8), arch + ".attention.head_count": uint32(2), arch + epsilon: float32(1e-5),
		"tokenizer.ggml.model": "llama", "tokenizer.ggml.tokens": []string{"<unk>", "<s>", "</s>", "a", "b", "c", "d", "e"},
		"tokenizer.ggml.scores": make([]float32, 8), "tokenizer.ggml.token_type": []int32{2, 3, 3, 1, 1, 1, 1, 1}}
}

// changedGGUF returns a header with one value changed, added or, by nil, left out.
func changedGGUF(header map[string]any, key string, value any) (kv []checkpoints.KV) {
	for k, v := range header {
		if k != key {
			kv = append(kv, checkpoints.KV{Key: k, Value: v})
		}
	}
	if value != nil {
		kv = append(kv, checkpoints.KV{Key: key, Value: value})
	}
	return kv
}

// openGGUF writes a file and opens it.
func openGGUF(t *testing.T, kv []checkpoints.KV, ts ...checkpoints.Named) *checkpoints.Weights {
	t.Helper()
	var b bytes.Buffer
	if err := checkpoints.WriteGGUF(&b, kv, ts); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "m.gguf")
	if err := os.WriteFile(path, b.Bytes(), 0o666); err != nil {
		t.Fatal(err)
	}
	return openWeights(t, path)
}

// TestGGUFRefused: headers of models that would compute something else are refused by name, and broken ones by key.
func TestGGUFRefused(t *testing.T) {
	table := checkpoints.FromFloat32("token_embd.weight", []int{8, 4}, make([]float32, 32))
	good := goodGGUF("llama")
	for _, c := range []struct {
		key     string
		value   any // nil removes the key
		want    string
		unknown bool
	}{
		{"general.architecture", "mamba", `general.architecture "mamba" (known of GGUF: gpt2, llama, qwen2, qwen3)`, true},
		{"general.architecture", nil, `general.architecture ""`, true},
		{"llama.expert_count", uint32(8), "a mixture of experts", true},
		{"llama.rope.scaling.type", "yarn", `rope.scaling.type "yarn" (known: none, linear)`, true},
		{"llama.rope.scaling.type", uint32(1), `rope.scaling.type "1"`, true},
		{"llama.attention.scale", float32(0.5), "llama.attention.scale is 0.5", true},
		{"llama.attention.scale", float32(1 / math.Sqrt2), "", false}, // that of heads of two columns
		{"llama.attention.clamp_kqv", float32(8), "llama.attention.clamp_kqv is 8", true},
		{"llama.attention.clamp_kqv", float32(0), "", false},
		{"llama.attention.max_alibi_bias", float32(8), "llama.attention.max_alibi_bias is 8", true},
		{"llama.attention.causal", false, "llama.attention.causal is false", true},
		{"llama.attention.causal", true, "", false},
		{"llama.logit_scale", float32(0.25), "llama.logit_scale is 0.25", true},
		{"llama.residual_scale", float32(0.25), "llama.residual_scale is 0.25", true},
		{"llama.embedding_scale", float32(12), "llama.embedding_scale is 12", true},
		{"llama.embedding_scale", float32(1), "", false},
		{"llama.final_logit_softcapping", float32(30), "llama.final_logit_softcapping is 30", true},
		{"llama.attn_logit_softcapping", float32(50), "llama.attn_logit_softcapping is 50", true},
		{"llama.pooling_type", uint32(3), "llama.pooling_type is 3", true},
		{"llama.pooling_type", uint32(0), "", false},
		{"llama.rope.scaling.attn_factor", float32(1.2), "llama.rope.scaling.attn_factor is 1.2", true},
		{"llama.rope.dimension_sections", []int32{1, 1, 0, 0}, "llama.rope.dimension_sections is [1 1 0 0]", true},
		{"llama.attention.layer_norm_rms_epsilon", nil, "llama.attention.layer_norm_rms_epsilon is missing, want a number", false},
		{"llama.attention.layer_norm_rms_epsilon", float32(math.Inf(1)), "llama.attention.layer_norm_rms_epsilon is +Inf, want a number", false},
		{"llama.rope.dimension_count", uint32(1), "1 of 2 columns of a head are rotated", true},
		{"llama.attention.value_length", uint32(1), "", false}, // without a key length it says nothing
		{"llama.attention.key_length", uint32(3), "head_dim", false},
		{"llama.block_count", nil, "llama.block_count is missing, want a number", false},
		{"llama.block_count", "one", "llama.block_count is one, want a number", false},
		{"llama.attention.head_count", uint32(0), "num_attention_heads", false},
		{"llama.attention.head_count_kv", []int32{2, 1}, "want the same for every layer", false},
		{"llama.context_length", float32(1.5), "want a size", false},
		{"llama.feed_forward_length", uint32(1 << 31), "want a size", false},
	} {
		w := openGGUF(t, changedGGUF(good, c.key, c.value), table)
		path := w.Files()[0]
		_, _, err := ReadGGUF(w, true)
		if c.want == "" {
			if err != nil {
				t.Errorf("%s %v: %v", c.key, c.value, err)
			}
			continue
		}
		if err == nil || !strings.Contains(err.Error(), c.want) || errors.Is(err, vae.ErrUnknown) != c.unknown || !strings.HasPrefix(err.Error(), path) {
			t.Errorf("%s %v: %v, want %q (unknown: %v)", c.key, c.value, err, c.want, c.unknown)
		}
	}
}

// TestGGUFTensors: what a file holds says which maps have a bias and what rotary positions are divided by.
func TestGGUFTensors(t *testing.T) {
	of := func(name string, v ...float32) checkpoints.Named {
		return checkpoints.FromFloat32(name, []int{len(v)}, v)
	}
	table := checkpoints.FromFloat32("token_embd.weight", []int{8, 4}, make([]float32, 32))
	linear := func(a *vae.Arch, factor float64) bool {
		return a.RopeScaling != nil && *a.RopeScaling == vae.RopeScaling{Type: "linear", Factor: factor}
	}
	for i, c := range []struct {
		arch   string
		key    string
		value  any
		tensor checkpoints.Named
		ok     func(a *vae.Arch) bool
		want   string // in the error
	}{
		{"llama", "", nil, of("x", 1), func(a *vae.Arch) bool { return !a.AttnBias && !a.MLPBias && a.RopeScaling == nil && a.HeadDim == 2 }, ""},
		{"llama", "", nil, of("blk.0.attn_v.bias", 1), func(a *vae.Arch) bool { return a.AttnBias && !a.MLPBias }, ""},
		{"llama", "", nil, of("blk.0.attn_output.bias", 1), func(a *vae.Arch) bool { return a.AttnBias && !a.MLPBias }, ""},
		{"llama", "", nil, of("blk.0.ffn_up.bias", 1), func(a *vae.Arch) bool { return !a.AttnBias && a.MLPBias }, ""},
		{"qwen2", "", nil, of("blk.0.attn_q.bias", 1), func(a *vae.Arch) bool { return !a.AttnBias }, ""},
		{"qwen2", "", nil, of("blk.0.attn_output.bias", 1), nil, "blk.0.attn_output.bias in a model of architecture qwen2"},
		{"qwen2", "", nil, of("blk.0.ffn_down.bias", 1), nil, "blk.0.ffn_down.bias in a model of architecture qwen2"},
		{"qwen3", "", nil, of("blk.0.attn_q.bias", 1), nil, "blk.0.attn_q.bias in a model of architecture qwen3"},
		{"qwen3", "", nil, of("x", 1), func(a *vae.Arch) bool { return a.HeadDim == 2 }, ""},
		{"llama", "llama.rope.scaling.factor", float32(2.5), of("x", 1), func(a *vae.Arch) bool { return linear(a, 2.5) }, ""},
		{"qwen2", "qwen2.rope.scaling.factor", float32(3.3), of("x", 1), func(a *vae.Arch) bool { return linear(a, 3.3) }, ""},
		{"llama", "llama.rope.scale_linear", float32(4), of("x", 1), func(a *vae.Arch) bool { return linear(a, 4) }, ""},
		{"llama", "llama.rope.scaling.factor", float32(1), of("x", 1), func(a *vae.Arch) bool { return a.RopeScaling == nil }, ""},
		{"llama", "llama.rope.scaling.factor", float32(0), of("x", 1), func(a *vae.Arch) bool { return a.RopeScaling == nil }, ""},
		{"llama", "llama.rope.scaling.type", "none", of(ropeFactors, 1), func(a *vae.Arch) bool { return a.RopeScaling.Factor == 8 }, ""},
		{"llama", "llama.rope.scaling.factor", float32(2), of(ropeFactors, 8), nil, "rope_freqs.weight beside linear rope scaling"},
		{"llama", "", nil, of(ropeFactors, 8, 8), nil, "rope_freqs.weight is [2], want 1 factors"},
		{"llama", "", nil, of(ropeFactors, 0.5), nil, "the factors of rope_freqs.weight are not Llama 3's"},
		{"qwen2", "", nil, of(ropeFactors, 8), nil, "rope_freqs.weight in a model of architecture qwen2"},
		{"gpt2", "", nil, of(ropeFactors, 8), nil, "rope_freqs.weight in a model of architecture gpt2"},
		{"gpt2", "gpt2.attention.layer_norm_epsilon", nil, of("x", 1), nil, "gpt2.attention.layer_norm_epsilon is missing, want a number"},
		{"gpt2", "gpt2.attention.layer_norm_epsilon", float32(0), of("x", 1), func(a *vae.Arch) bool { return a.NormEps() == 0 }, ""},
		// Token ids: llama.cpp's of a SentencePiece vocabulary where the file has none, and further ends of a text.
		{"qwen2", "", nil, of("x", 1), func(a *vae.Arch) bool { return a.BOS == 1 && a.EOS == 2 && a.PAD == -1 }, ""},
		{"llama", ggufBOS, uint32(5), of("x", 1), func(a *vae.Arch) bool { return a.BOS == 5 && a.EOS == 2 }, ""},
	} {
		w := openGGUF(t, changedGGUF(goodGGUF(c.arch), c.key, c.value), table, c.tensor)
		f, _, err := ReadGGUF(w, true)
		switch {
		case c.ok == nil && (err == nil || !strings.Contains(err.Error(), c.want)):
			t.Errorf("%d: %v, want %q", i, err, c.want)
		case c.ok != nil && (err != nil || !c.ok(&f.LM)):
			t.Errorf("%d: %s %s %v %s: %+v, %v", i, c.arch, c.key, c.value, c.tensor.Name, f, err)
		}
	}
}
