package sllm

import (
	"testing"

	"svae/vae"
)

// TestSizes checks that published models, by their config.json, come to the number of weights that their makers state.
func TestSizes(t *testing.T) {
	for _, m := range []struct {
		name, config       string
		weights, positions int
	}{
		{"gpt2", `{"model_type":"gpt2","activation_function":"gelu_new","n_ctx":1024,"n_embd":768,"n_head":12,"n_layer":12,"n_positions":1024,
"vocab_size":50257,"bos_token_id":50256,"eos_token_id":50256,"layer_norm_epsilon":1e-05,"resid_pdrop":0.1}`, 124439808, 1024},
		{"opt-125m", `{"model_type":"opt","hidden_size":768,"num_hidden_layers":12,"num_attention_heads":12,"ffn_dim":3072,"vocab_size":50272,
"max_position_embeddings":2048,"word_embed_proj_dim":768,"do_layer_norm_before":true,"_remove_final_layer_norm":false,"activation_function":"relu",
"dropout":0.1}`, 125239296, 2048},
		{"opt-350m", `{"model_type":"opt","hidden_size":1024,"num_hidden_layers":24,"num_attention_heads":16,"ffn_dim":4096,"vocab_size":50272,
"max_position_embeddings":2048,"word_embed_proj_dim":512,"do_layer_norm_before":false,"activation_function":"relu","dropout":0.1}`, 331196416, 2048},
		{"opt-1.3b", `{"model_type":"opt","hidden_size":2048,"num_hidden_layers":24,"num_attention_heads":32,"ffn_dim":8192,"vocab_size":50272,
"max_position_embeddings":2048,"word_embed_proj_dim":2048,"do_layer_norm_before":true,"dropout":0.1}`, 1315758080, 2048},
		{"TinyLlama-1.1B", `{"model_type":"llama","hidden_size":2048,"intermediate_size":5632,"num_hidden_layers":22,"num_attention_heads":32,
"num_key_value_heads":4,"vocab_size":32000,"max_position_embeddings":2048,"rms_norm_eps":1e-05,"rope_scaling":null,"tie_word_embeddings":false}`, 1100048384, 2048},
		{"Llama-2-7b", `{"model_type":"llama","hidden_size":4096,"intermediate_size":11008,"num_hidden_layers":32,"num_attention_heads":32,
"num_key_value_heads":32,"vocab_size":32000,"max_position_embeddings":4096,"rms_norm_eps":1e-05,"pretraining_tp":1,"tie_word_embeddings":false}`, 6738415616, 4096},
		{"Llama-3.1-8B", `{"model_type":"llama","hidden_size":4096,"intermediate_size":14336,"num_hidden_layers":32,"num_attention_heads":32,
"num_key_value_heads":8,"vocab_size":128256,"max_position_embeddings":131072,"rope_theta":500000.0,"bos_token_id":128000,"eos_token_id":[128001,128008,128009],
"rope_scaling":{"factor":8.0,"low_freq_factor":1.0,"high_freq_factor":4.0,"original_max_position_embeddings":8192,"rope_type":"llama3"}}`, 8030261248, 131072},
		{"Llama-3.2-1B", `{"model_type":"llama","hidden_size":2048,"intermediate_size":8192,"num_hidden_layers":16,"num_attention_heads":32,"head_dim":64,
"num_key_value_heads":8,"vocab_size":128256,"max_position_embeddings":131072,"rope_theta":500000.0,"tie_word_embeddings":true,"bos_token_id":128000,
"eos_token_id":128001,"rope_scaling":{"factor":32.0,"low_freq_factor":1.0,"high_freq_factor":4.0,"original_max_position_embeddings":8192,"rope_type":"llama3"}}`,
			1235814400, 131072},
		{"SmolLM2-135M", `{"model_type":"llama","hidden_size":576,"intermediate_size":1536,"num_hidden_layers":30,"num_attention_heads":9,
"num_key_value_heads":3,"vocab_size":49152,"max_position_embeddings":8192,"rope_theta":100000,"rope_scaling":null,"tie_word_embeddings":true,"bos_token_id":0,
"eos_token_id":0}`, 134515008, 8192},
		{"Mistral-7B-v0.1", `{"model_type":"mistral","hidden_size":4096,"intermediate_size":14336,"num_hidden_layers":32,"num_attention_heads":32,
"num_key_value_heads":8,"vocab_size":32000,"max_position_embeddings":32768,"rope_theta":10000.0,"sliding_window":4096}`, 7241732096, 4096},
		{"Qwen2.5-0.5B", `{"model_type":"qwen2","hidden_size":896,"intermediate_size":4864,"num_hidden_layers":24,"num_attention_heads":14,
"num_key_value_heads":2,"vocab_size":151936,"max_position_embeddings":32768,"rope_theta":1000000.0,"sliding_window":32768,"max_window_layers":24,
"use_sliding_window":false,"tie_word_embeddings":true,"bos_token_id":151643,"eos_token_id":151643}`, 494032768, 32768},
		{"Qwen3-0.6B", `{"model_type":"qwen3","hidden_size":1024,"intermediate_size":3072,"num_hidden_layers":28,"num_attention_heads":16,"head_dim":128,
"num_key_value_heads":8,"vocab_size":151936,"max_position_embeddings":40960,"rope_theta":1000000,"rope_scaling":null,"sliding_window":null,
"use_sliding_window":false,"max_window_layers":28,"attention_bias":false,"tie_word_embeddings":true,"bos_token_id":151643,"eos_token_id":151645}`, 596049920, 40960},
		{"gemma-2b", `{"model_type":"gemma","hidden_size":2048,"intermediate_size":16384,"num_hidden_layers":18,"num_attention_heads":8,"head_dim":256,
"num_key_value_heads":1,"vocab_size":256000,"max_position_embeddings":8192,"hidden_act":"gelu","hidden_activation":null,"rope_theta":10000.0,
"bos_token_id":2,"eos_token_id":1,"pad_token_id":0}`, 2506172416, 8192},
	} {
		a, err := vae.ParseArch([]byte(m.config))
		if err != nil {
			t.Errorf("%s: %v", m.name, err)
			continue
		}
		n := 0
		for _, w := range lmWeights(&a) {
			n += w.Elements()
		}
		if n != m.weights || a.Positions != m.positions {
			t.Errorf("%s has %d weights and %d positions, want %d and %d", m.name, n, a.Positions, m.weights, m.positions)
		}
	}
}
