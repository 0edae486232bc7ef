package sllm

import (
	"encoding/json"
	"fmt"
	"path/filepath"

	"svae/checkpoints"
	"svae/vae"
)

// ReadLlama2C makes the config.json of the model in a file of llama2.c from its header. The format holds no tokenizer.
func ReadLlama2C(w *checkpoints.Weights) (*Folder, error) {
	v, path := w.Values(), w.Files()[0]
	_, untied := w.Get("lm_head.weight")
	raw, err := json.MarshalIndent(map[string]any{
		"architectures": []string{"LlamaForCausalLM"}, "model_type": "llama", "hidden_act": "silu", "rms_norm_eps": 1e-5, "rope_theta": 10000.0,
		"hidden_size": v["dim"], "intermediate_size": v["hidden_dim"], "num_hidden_layers": v["n_layers"], "num_attention_heads": v["n_heads"],
		"num_key_value_heads": v["n_kv_heads"], "vocab_size": v["vocab_size"], "max_position_embeddings": v["seq_len"],
		"tie_word_embeddings": !untied, "bos_token_id": 1, "eos_token_id": 2, "torch_dtype": "float32",
	}, "", "  ")
	if err != nil {
		return nil, err
	}
	f := &Folder{Kind: KindLM, Path: filepath.Dir(path), Raw: append(raw, '\n'), Files: map[string][]byte{}}
	if f.LM, err = vae.ParseArch(f.Raw); err != nil {
		return nil, fmt.Errorf("%s: the llama2.c header gives no valid config: %w", path, err)
	}
	return f, nil
}
