package vae_test

import (
	"strings"
	"testing"

	"svae/vae"
)

// TestSameArch checks that every key that changes what is computed is compared, and none that does not.
func TestSameArch(t *testing.T) {
	parse := func(family, changes string) vae.Arch {
		t.Helper()
		a, err := vae.ParseArch(with(t, family, changes))
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	const wide = `{"hidden_size":64,"num_attention_heads":32,"num_key_value_heads":8}`
	for _, c := range []struct{ familyA, a, familyB, b, want string }{
		{"llama", wide, "mistral", wide, ""},
		{"mistral", `{"sliding_window":20}`, "mistral", `{"sliding_window":null,"max_position_embeddings":20}`, ""},
		{"llama", `{"bos_token_id":null,"eos_token_id":[3,4],"pad_token_id":5}`, "llama", `{}`, ""},
		{"gpt2", `{"resid_pdrop":0.1}`, "gpt2", `{"activation_function":"gelu_pytorch_tanh"}`, ""},
		{"llama", `{"hidden_act":"swish"}`, "llama", `{"hidden_act":"silu"}`, ""},
		{"llama", `{"rms_norm_eps":9.999999747378752e-06,"rope_theta":1234567.89}`, "llama", `{"rms_norm_eps":1e-5,"rope_theta":1234567.88}`, ""},
		{"llama", `{"rope_scaling":{"type":"linear","factor":1}}`, "llama", `{}`, ""},
		{"llama", `{"rope_scaling":{"type":"llama3","factor":8,"low_freq_factor":1,"high_freq_factor":4,"original_max_position_embeddings":64}}`,
			"llama", `{"rope_scaling":{"type":"llama3","factor":8,"low_freq_factor":2,"high_freq_factor":8,"original_max_position_embeddings":128}}`, ""},

		{"llama", wide, "qwen2", wide, "the bias of queries, keys and values is false in one and true in the other"},
		{"llama", wide, "gemma", `{"tie_word_embeddings":false}`, "model_type is llama in one and gemma in the other"},
		{"opt", `{}`, "gpt2", `{}`, "model_type"},
		{"llama", `{}`, "llama", `{"hidden_size":32,"head_dim":4}`, "hidden_size is 16 in one and 32"},
		{"llama", `{}`, "llama", `{"num_hidden_layers":3}`, "num_hidden_layers"},
		{"llama", `{}`, "llama", `{"num_attention_heads":8,"head_dim":4}`, "num_attention_heads"},
		{"llama", `{}`, "llama", `{"num_key_value_heads":2}`, "num_key_value_heads"},
		{"llama", `{}`, "llama", `{"head_dim":8}`, "head_dim"},
		{"llama", `{}`, "llama", `{"vocab_size":51}`, "vocab_size"},
		{"llama", `{}`, "llama", `{"max_position_embeddings":33}`, "max_position_embeddings"},
		{"llama", `{}`, "llama", `{"intermediate_size":21}`, "the feed-forward size"},
		{"opt", `{}`, "opt", `{"word_embed_proj_dim":8}`, "word_embed_proj_dim"},
		{"llama", `{}`, "llama", `{"tie_word_embeddings":true}`, "tie_word_embeddings"},
		{"gpt2", `{}`, "gpt2", `{"activation_function":"gelu"}`, "the activation is gelu_pytorch_tanh in one and gelu in"},
		{"gpt2", `{}`, "gpt2", `{"layer_norm_epsilon":0}`, "the epsilon of the norms is 1e-05 in one and 0 in"},
		{"llama", `{}`, "llama", `{"rms_norm_eps":0}`, "the epsilon of the norms"},
		{"qwen2", `{}`, "qwen2", `{"head_dim":4}`, "head_dim"},
		{"llama", `{}`, "llama", `{"attention_bias":true}`, "the bias of queries, keys and values"},
		{"llama", `{}`, "llama", `{"mlp_bias":true}`, "the bias of the feed-forward map"},
		{"opt", `{}`, "opt", `{"do_layer_norm_before":false}`, "do_layer_norm_before"},
		{"opt", `{}`, "opt", `{"layer_norm_elementwise_affine":false}`, "layer_norm_elementwise_affine"},
		{"opt", `{}`, "opt", `{"_remove_final_layer_norm":true}`, "the final norm"},
		{"llama", `{}`, "llama", `{"rope_theta":500000}`, "rope_theta"},
		{"llama", `{}`, "llama", `{"rope_scaling":{"type":"linear","factor":2}}`, "the rope scaling of pair 0 is 1 in one and 2 in the other"},
	} {
		a, b := parse(c.familyA, c.a), parse(c.familyB, c.b)
		for range 2 {
			err := vae.SameArch(a, b)
			if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
				t.Errorf("%s %s and %s %s: %v, want %q", c.familyA, c.a, c.familyB, c.b, err, c.want)
			}
			if a, b = b, a; c.want != "" {
				c.want = c.want[:strings.IndexAny(c.want+" ", " ")]
			}
		}
	}
	a := parse("llama", `{}`)
	b := a
	if b.Sinusoid = true; vae.SameArch(a, b) == nil {
		t.Error("fixed positions are not compared")
	}
}

func TestSameIDs(t *testing.T) {
	a := vae.Arch{BOS: 1, EOS: 2, PAD: -1}
	for want, b := range map[string]vae.Arch{"": {BOS: 1, EOS: 2, PAD: -2}, "bos_token_id is 1 in one and -1 in the other": {BOS: -1, EOS: 2, PAD: -1},
		"eos_token_id": {BOS: 1, EOS: 3, PAD: -1}, "pad_token_id": {BOS: 1, EOS: 2}} {
		err := vae.SameIDs(a, b)
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}
