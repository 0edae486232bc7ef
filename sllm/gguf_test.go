package sllm

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"svae/checkpoints"
	"svae/vae"
)

// TestGGUFRefused: headers of models that would compute something else are refused by name, and broken ones by key.
func TestGGUFRefused(t *testing.T) {
	table := checkpoints.FromFloat32("token_embd.weight", []int{8, 4}, make([]float32, 32))
	good := map[string]any{"general.architecture": "llama", "llama.block_count": uint32(1), "llama.context_length": uint32(16), "llama.embedding_length": uint32(4),
		"llama.feed_forward_length": uint32(8), "llama.attention.head_count": uint32(2), "llama.attention.layer_norm_rms_epsilon": float32(1e-5),
		"tokenizer.ggml.model": "llama", "tokenizer.ggml.tokens": []string{"<unk>", "<s>", "</s>", "a", "b", "c", "d", "e"},
		"tokenizer.ggml.scores": make([]float32, 8), "tokenizer.ggml.token_type": []int32{2, 3, 3, 1, 1, 1, 1, 1}}
	for _, c := range []struct {
		key     string
		value   any // nil removes the key
		want    string
		unknown bool
	}{
		{"general.architecture", "mamba", `general.architecture "mamba" (known of GGUF: gpt2, llama, qwen2, qwen3)`, true},
		{"general.architecture", nil, `general.architecture ""`, true},
		{"llama.expert_count", uint32(8), "a mixture of experts", true},
		{"llama.rope.scaling.type", "yarn", "rope.scaling.type is yarn, want none or linear", false},
		{"llama.rope.dimension_count", uint32(1), "1 of 2 columns of a head are rotated", true},
		{"llama.attention.value_length", uint32(1), "", false}, // without a key length it says nothing
		{"llama.attention.key_length", uint32(3), "head_dim", false},
		{"llama.block_count", nil, "llama.block_count is <nil>, want a number", false},
		{"llama.block_count", "one", "llama.block_count is one, want a number", false},
		{"llama.attention.head_count", uint32(0), "num_attention_heads", false},
		{"llama.attention.head_count_kv", []int32{2, 1}, "want the same for every layer", false},
		{"llama.context_length", float32(1.5), "want a size", false},
		{"llama.feed_forward_length", uint32(1 << 31), "want a size", false},
	} {
		var kv []checkpoints.KV
		for k, v := range good {
			if k != c.key {
				kv = append(kv, checkpoints.KV{Key: k, Value: v})
			}
		}
		if c.value != nil {
			kv = append(kv, checkpoints.KV{Key: c.key, Value: c.value})
		}
		var b bytes.Buffer
		if err := checkpoints.WriteGGUF(&b, kv, []checkpoints.Named{table}); err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(t.TempDir(), "m.gguf")
		if err := os.WriteFile(path, b.Bytes(), 0o666); err != nil {
			t.Fatal(err)
		}
		w, err := checkpoints.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		_, _, err = ReadGGUF(w)
		w.Close()
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
