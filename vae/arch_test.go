package vae_test

import (
	"encoding/json"
	"errors"
	"math"
	"reflect"
	"strings"
	"testing"

	"svae/vae"
)

// The smallest config.json of each family, with all that it must state.
var configs = map[string]string{
	"gpt2":    `{"model_type":"gpt2","n_embd":16,"n_layer":2,"n_head":4,"vocab_size":50,"n_positions":32}`,
	"opt":     `{"model_type":"opt","hidden_size":16,"num_hidden_layers":2,"num_attention_heads":4,"ffn_dim":20,"vocab_size":50,"max_position_embeddings":32}`,
	"llama":   `{"model_type":"llama","hidden_size":16,"num_hidden_layers":2,"num_attention_heads":4,"intermediate_size":20,"vocab_size":50,"max_position_embeddings":32}`,
	"mistral": `{"model_type":"mistral","hidden_size":64,"num_hidden_layers":2,"num_attention_heads":8,"intermediate_size":20,"vocab_size":50,"max_position_embeddings":32}`,
	"qwen2":   `{"model_type":"qwen2","hidden_size":64,"num_hidden_layers":2,"num_attention_heads":32,"intermediate_size":20,"vocab_size":50,"max_position_embeddings":32}`,
	"qwen3":   `{"model_type":"qwen3","hidden_size":64,"num_hidden_layers":2,"num_attention_heads":32,"intermediate_size":20,"vocab_size":50,"max_position_embeddings":32}`,
	"gemma":   `{"model_type":"gemma","hidden_size":64,"num_hidden_layers":2,"num_attention_heads":16,"intermediate_size":20,"vocab_size":50,"max_position_embeddings":32}`,
}

// with returns a config.json with some keys set or, by null, unset.
func with(t *testing.T, family, changes string) []byte {
	t.Helper()
	m := map[string]json.RawMessage{}
	for _, s := range []string{configs[family], changes} {
		if err := json.Unmarshal([]byte(s), &m); err != nil {
			t.Fatal(err)
		}
	}
	b, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestDefaults checks that what a config.json leaves out is what transformers takes for it.
func TestDefaults(t *testing.T) {
	if len(configs) != len(vae.Families) {
		t.Fatalf("%d families, want %d", len(vae.Families), len(configs))
	}
	for family, want := range map[string]vae.Arch{
		"gpt2": {HiddenSize: 16, NumHeads: 4, NumKVHeads: 4, HeadDim: 4, Positions: 32, Tied: true, BOS: -1, EOS: -1, PAD: -1, FFNDim: 64},
		"opt":  {HiddenSize: 16, NumHeads: 4, NumKVHeads: 4, HeadDim: 4, Positions: 32, Tied: true, BOS: 2, EOS: 2, PAD: 1, FFNDim: 20, EmbedDim: 16},
		"llama": {HiddenSize: 16, NumHeads: 4, NumKVHeads: 4, HeadDim: 4, Positions: 32, BOS: 1, EOS: 2, PAD: -1, Intermediate: 20, RMSNormEps: 1e-6,
			RopeTheta: 10000},
		"mistral": {HiddenSize: 64, NumHeads: 8, NumKVHeads: 8, HeadDim: 8, Positions: 32, BOS: 1, EOS: 2, PAD: -1, Intermediate: 20, RMSNormEps: 1e-6,
			RopeTheta: 10000},
		"qwen2": {HiddenSize: 64, NumHeads: 32, NumKVHeads: 32, HeadDim: 2, Positions: 32, BOS: -1, EOS: -1, PAD: -1, Intermediate: 20, RMSNormEps: 1e-6,
			RopeTheta: 10000},
		"qwen3": {HiddenSize: 64, NumHeads: 32, NumKVHeads: 32, HeadDim: 128, Positions: 32, BOS: -1, EOS: -1, PAD: -1, Intermediate: 20, RMSNormEps: 1e-6,
			RopeTheta: 10000},
		"gemma": {HiddenSize: 64, NumHeads: 16, NumKVHeads: 16, HeadDim: 256, Positions: 32, Tied: true, BOS: 2, EOS: 1, PAD: 0, Intermediate: 20,
			RMSNormEps: 1e-6, RopeTheta: 10000},
	} {
		want.ModelType, want.NumLayers, want.VocabSize = family, 2, 50
		got, err := vae.ParseArch([]byte(configs[family]))
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %+v, %v, want %+v", family, got, err, want)
		}
	}
}

// gpt2 is the smallest GPT-2.
func gpt2() vae.Arch {
	a, err := vae.ParseArch([]byte(configs["gpt2"]))
	if err != nil {
		panic(err)
	}
	return a
}

// TestVariants checks keys that change what is computed.
func TestVariants(t *testing.T) {
	for _, c := range []struct {
		family, changes string
		ok              func(a *vae.Arch) bool
	}{
		{"mistral", `{"sliding_window":20}`, func(a *vae.Arch) bool { return a.Positions == 20 && a.Windowed() }},
		{"mistral", `{"sliding_window":32}`, func(a *vae.Arch) bool { return a.Positions == 32 && !a.Windowed() }},
		{"mistral", `{"sliding_window":null}`, func(a *vae.Arch) bool { return a.Positions == 32 && !a.Windowed() }},
		{"mistral", `{"max_position_embeddings":9000}`, func(a *vae.Arch) bool { return a.Positions == 4096 && a.Windowed() }},
		{"qwen2", `{"use_sliding_window":true,"sliding_window":32}`, func(a *vae.Arch) bool { return a.Positions == 32 }},
		{"qwen2", `{"use_sliding_window":true,"sliding_window":8,"max_window_layers":2}`, func(a *vae.Arch) bool { return a.Positions == 32 }},
		{"qwen2", `{"use_sliding_window":false,"sliding_window":8}`, func(a *vae.Arch) bool { return a.Positions == 32 }},
		{"gpt2", `{"n_inner":null,"reorder_and_upcast_attn":true}`, func(a *vae.Arch) bool { return a.FFNSize() == 64 }},
		{"gpt2", `{"scale_attn_by_inverse_layer_idx":true,"n_layer":1}`, func(a *vae.Arch) bool { return a.NumLayers == 1 }},
		{"gpt2", `{"bos_token_id":7,"eos_token_id":[8,9],"pad_token_id":null}`, func(a *vae.Arch) bool { return a.BOS == 7 && a.EOS == 8 && a.PAD == -1 }},
		{"llama", `{"bos_token_id":null,"pad_token_id":-1}`, func(a *vae.Arch) bool { return a.BOS == -1 && a.PAD == -1 }},
		{"llama", `{"rope_theta":500000.0,"rope_scaling":null}`, func(a *vae.Arch) bool { return a.RopeTheta == 500000 && a.RopeScaling == nil }},
		{"llama", `{"rope_parameters":{"rope_theta":500.0,"rope_type":"default"}}`, func(a *vae.Arch) bool { return a.RopeTheta == 500 && a.RopeScaling == nil }},
		{"llama", `{"rope_scaling":{"type":"linear","factor":4}}`,
			func(a *vae.Arch) bool { return *a.RopeScaling == vae.RopeScaling{Type: "linear", Factor: 4} }},
		{"llama", `{"rope_scaling":{"rope_type":"llama3","factor":8.0,"low_freq_factor":1,"high_freq_factor":4}}`, func(a *vae.Arch) bool {
			return *a.RopeScaling == vae.RopeScaling{Type: "llama3", Factor: 8, Low: 1, High: 4, Original: 32}
		}},
		{"gemma", `{"hidden_act":"gelu"}`, func(a *vae.Arch) bool { return a.HiddenAct == "gelu_pytorch_tanh" }},
		{"gemma", `{"hidden_act":"gelu","hidden_activation":"gelu_pytorch_tanh"}`, func(a *vae.Arch) bool { return a.EmbedScale() == 8 }},
		{"gemma", `{"hidden_activation":"gelu"}`, func(a *vae.Arch) bool { return a.HiddenAct == "" && a.Activation() == "gelu_pytorch_tanh" }},
		// An epsilon of 0 is one.
		{"llama", `{"rms_norm_eps":0}`, func(a *vae.Arch) bool { return a.NormEps() == 0 }},
		{"llama", `{"rms_norm_eps":null}`, func(a *vae.Arch) bool { return a.NormEps() == 1e-6 }},
		{"gpt2", `{"layer_norm_epsilon":0.0}`, func(a *vae.Arch) bool { return a.NormEps() == 0 }},
		{"gpt2", `{"layer_norm_epsilon":null}`, func(a *vae.Arch) bool { return a.NormEps() == 1e-5 }},
		// Keys of another family are not read.
		{"opt", `{"layer_norm_epsilon":0.5,"n_embd":99,"n_inner":99,"resid_pdrop":0.5}`,
			func(a *vae.Arch) bool { return a.NormEps() == 1e-5 && a.FFNSize() == 20 && a.Dropout == 0 }},
		{"gpt2", `{"do_layer_norm_before":false,"_remove_final_layer_norm":true,"enable_bias":false,"word_embed_proj_dim":8,"ffn_dim":99,"dropout":0.5}`,
			func(a *vae.Arch) bool {
				return a.EmbedSize() == 16 && a.FFNSize() == 64 && vae.SameArch(*a, gpt2()) == nil
			}},
		{"mistral", `{"attention_bias":true,"mlp_bias":true}`, func(a *vae.Arch) bool { return !a.AttnBias && !a.MLPBias }},
		{"qwen2", `{"attention_bias":true,"mlp_bias":true}`, func(a *vae.Arch) bool { return !a.AttnBias && !a.MLPBias }},
		{"qwen3", `{"attention_bias":true,"mlp_bias":true}`, func(a *vae.Arch) bool { return a.AttnBias && !a.MLPBias }},
		{"gemma", `{"attention_bias":true,"mlp_bias":true}`, func(a *vae.Arch) bool { return a.AttnBias && !a.MLPBias }},
		{"llama", `{"attention_bias":true,"mlp_bias":true}`, func(a *vae.Arch) bool { return a.AttnBias && a.MLPBias }},
		{"llama", `{"hidden_activation":"relu"}`, func(a *vae.Arch) bool { return a.Activation() == "silu" }},
	} {
		a, err := vae.ParseArch(with(t, c.family, c.changes))
		if err != nil || !c.ok(&a) {
			t.Errorf("%s with %s: %+v, %v", c.family, c.changes, a, err)
		}
	}
}

// TestBadConfigs checks that what cannot be is refused in one line that names the key.
func TestBadConfigs(t *testing.T) {
	for _, c := range []struct{ family, changes, want string }{
		{"llama", `{"hidden_size":0}`, "hidden_size 0 is out of range"},
		{"llama", `{"hidden_size":null}`, "hidden_size 0 is out of range"},
		{"llama", `{"hidden_size":-16}`, "hidden_size -16 is out of range"},
		{"llama", `{"hidden_size":2147483648}`, "hidden_size 2147483648 is out of range"},
		{"llama", `{"hidden_size":1e99}`, "hidden_size is 1e99, want a whole number"},
		{"llama", `{"hidden_size":"16"}`, `hidden_size is "16", want a whole number`},
		{"llama", `{"hidden_size":[16]}`, `hidden_size is [16], want a whole number`},
		{"llama", `{"hidden_size":16.5}`, `hidden_size is 16.5, want a whole number`},
		{"gpt2", `{"n_embd":"a long text that would fill more than one line"}`, `n_embd is "a long text that would fill more tha..., want a whole number`},
		{"llama", `{"num_attention_heads":0}`, "num_attention_heads 0 is out of range"},
		{"llama", `{"num_attention_heads":-4}`, "num_attention_heads -4 is out of range"},
		{"llama", `{"num_attention_heads":3}`, "num_attention_heads 3 do not divide hidden_size 16"},
		{"gpt2", `{"n_head":3}`, "num_attention_heads 3 do not divide hidden_size 16"},
		{"opt", `{"num_attention_heads":32}`, "num_attention_heads 32 is out of range"},
		{"llama", `{"num_key_value_heads":3}`, "num_key_value_heads 3 do not divide num_attention_heads 4"},
		{"llama", `{"num_key_value_heads":-1}`, "num_key_value_heads -1 do not divide num_attention_heads 4"},
		{"mistral", `{"num_attention_heads":4}`, "num_key_value_heads 8 do not divide num_attention_heads 4"},
		{"llama", `{"head_dim":-2}`, "head_dim -2 is out of range"},
		{"llama", `{"head_dim":5}`, "head_dim (odd, with rotary positions) 5 is out of range"},
		{"llama", `{"num_hidden_layers":0}`, "num_hidden_layers 0 is out of range"},
		{"llama", `{"num_hidden_layers":2147483648}`, "num_hidden_layers 2147483648 is out of range"},
		{"llama", `{"vocab_size":0}`, "vocab_size 0 is out of range"},
		{"llama", `{"vocab_size":2147483647}`, "vocab_size 2147483647 is out of range"},
		{"llama", `{"max_position_embeddings":0}`, "max_position_embeddings 0 is out of range"},
		{"llama", `{"intermediate_size":0}`, "feed-forward size 0 is out of range"},
		{"opt", `{"ffn_dim":-1}`, "feed-forward size -1 is out of range"},
		{"opt", `{"word_embed_proj_dim":-1}`, "word_embed_proj_dim -1 is out of range"},
		{"opt", `{"dropout":1}`, "dropout 1 is out of range"},
		{"opt", `{"activation_function":"tanh"}`, `activation_function "tanh" is not known (known: relu, gelu, gelu_new)`},
		{"llama", `{"hidden_act":"relu"}`, `hidden_act "relu" is not known (known: silu, gelu_pytorch_tanh)`},
		{"llama", `{"hidden_act":7}`, "hidden_act is 7, want a text"},
		{"llama", `{"tie_word_embeddings":"yes"}`, `tie_word_embeddings is "yes", want true or false`},
		{"llama", `{"rms_norm_eps":-1}`, "epsilon of the norms -1 is out of range"},
		{"llama", `{"rope_theta":-1}`, "rope_theta -1 is out of range"},
		{"llama", `{"rope_theta":0}`, "rope_theta 0 is out of range"},
		{"opt", `{"hidden_size":null,"n_embd":16}`, "hidden_size 0 is out of range"},
		{"llama", `{"rope_theta":1e300}`, "rope_theta 1e+300 is out of range"},
		{"llama", `{"eos_token_id":50}`, "token id 50 is outside vocab_size 50"},
		{"llama", `{"eos_token_id":2147483648}`, "eos_token_id 2147483648 is out of range"},
		{"llama", `{"eos_token_id":"s"}`, `eos_token_id is "s", want a token id or a list of them`},
		{"llama", `{"rope_scaling":7}`, "rope_scaling is 7, want an object"},
		{"llama", `{"rope_scaling":{"rope_type":"linear","factor":"2"}}`, `factor is "2", want a number`},
		{"llama", `{"rope_scaling":{"rope_type":"linear"}}`, "factor 0 of the rope scaling is out of range"},
		{"llama", `{"rope_scaling":{"rope_type":"llama3","factor":8,"low_freq_factor":4,"high_freq_factor":4}}`,
			"low_freq_factor 4 and high_freq_factor 4 of the rope scaling are out of range"},
		{"llama", `{"rope_scaling":{"rope_type":"llama3","factor":8,"low_freq_factor":1,"high_freq_factor":4,"original_max_position_embeddings":-1}}`,
			"original_max_position_embeddings -1 of the rope scaling is out of range"},
		{"mistral", `{"sliding_window":-1}`, "sliding_window -1 is out of range"},
	} {
		_, err := vae.ParseArch(with(t, c.family, c.changes))
		if want := "config.json: " + c.want; err == nil || err.Error() != want {
			t.Errorf("%s with %s: %v, want %s", c.family, c.changes, err, want)
		}
		if errors.Is(err, vae.ErrUnknown) {
			t.Errorf("%s with %s: %v wraps ErrUnknown", c.family, c.changes, err)
		}
	}
	for text, want := range map[string]string{
		"":                           "offset 0: unexpected end of JSON input",
		"[]":                         "is not a JSON object",
		"null":                       "is not a JSON object",
		"{\"model_type\":[1,\n\n2]}": "model_type is [1,2], want a text",
		`{"model_type":7}`:           "model_type is 7, want a text",
		`{"hidden_size":16,}`:        "offset 19: invalid character '}' looking for beginning of object key string",
		`{"a":1,"b":2,"a":1}`:        `offset 16: the key "a" stands twice`,
		`{"b":{"a":1,"a":2}}`:        `offset 15: the key "a" stands twice`,
		`{"b":[{"a":1},1,"a"]}`:      `unknown architecture: model_type "" (known: gemma, gpt2, llama, mistral, opt, qwen2, qwen3)`,
		`{"model_type":"gemma2","hidden_size":"x"}`: `unknown architecture: model_type "gemma2" (known: gemma, gpt2, llama, mistral, opt, qwen2, qwen3)`,
	} {
		if _, err := vae.ParseArch([]byte(text)); err == nil || err.Error() != "config.json: "+want {
			t.Errorf("%s: %v, want %s", text, err, want)
		}
	}
	double := strings.Replace(configs["llama"], `"hidden_size":16`, `"hidden_size":16,"hidden_size":8`, 1)
	if _, err := vae.ParseArch([]byte(double)); err == nil || !strings.Contains(err.Error(), `the key "hidden_size" stands twice`) {
		t.Errorf("a key that stands twice: %v", err)
	}
}

// TestUnknownVariants checks that what would compute something else is refused by name.
func TestUnknownVariants(t *testing.T) {
	for _, c := range []struct{ family, changes, want string }{
		{"llama", `{"model_type":"gemma3"}`, "model_type \"gemma3\""},
		{"llama", `{"rope_scaling":{"type":"dynamic","factor":2}}`, `rope scaling of type "dynamic"`},
		{"qwen2", `{"rope_scaling":{"type":"yarn","factor":4}}`, `rope scaling of type "yarn"`},
		{"qwen3", `{"rope_parameters":{"rope_type":"longrope","factor":4}}`, `rope scaling of type "longrope"`},
		{"llama", `{"rope_parameters":{"full_attention":{"rope_type":"default"}}}`, "rope_parameters that differ from layer to layer"},
		{"llama", `{"partial_rotary_factor":0.5}`, "partial_rotary_factor 0.5"},
		{"qwen2", `{"use_sliding_window":true,"sliding_window":8,"max_window_layers":1}`, "use_sliding_window with a window of 8 and 32 positions"},
		{"qwen3", `{"use_sliding_window":true,"sliding_window":8,"layer_types":["full_attention","sliding_attention"]}`, "use_sliding_window"},
		{"gpt2", `{"scale_attn_by_inverse_layer_idx":true}`, "scale_attn_by_inverse_layer_idx"},
		{"gpt2", `{"scale_attn_weights":false}`, "scale_attn_weights is false"},
		{"gpt2", `{"add_cross_attention":true}`, "add_cross_attention"},
		{"gemma", `{"use_bidirectional_attention":true}`, "use_bidirectional_attention"},
	} {
		_, err := vae.ParseArch(with(t, c.family, c.changes))
		if !errors.Is(err, vae.ErrUnknown) || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s with %s: %v, want %s", c.family, c.changes, err, c.want)
		}
	}
}

// TestArchJSON checks that an architecture comes back from the config.json of our own folders.
func TestArchJSON(t *testing.T) {
	for _, family := range vae.Families {
		a, err := vae.ParseArch([]byte(configs[family]))
		if err != nil {
			t.Fatal(err)
		}
		no, eps := false, 0.0
		a.EnableBias, a.NormAffine, a.NoFinalNorm, a.Window, a.LayerNormEps = &no, &no, true, 7, &eps
		a.RopeScaling = &vae.RopeScaling{Type: "llama3", Factor: 8, Low: 1, High: 4, Original: 64}
		b, err := json.Marshal(a)
		if err != nil {
			t.Fatal(err)
		}
		var back vae.Arch
		if err := json.Unmarshal(b, &back); err != nil || !reflect.DeepEqual(back, a) {
			t.Errorf("%s: %+v came back as %+v (%v)", family, a, back, err)
		}
	}
}

// TestRopeFactors checks Llama 3.1's by its own numbers: a pair whose wavelength is below 8192/4 turns as before, one above
// 8192 by an eighth, one between by a blend.
func TestRopeFactors(t *testing.T) {
	a := vae.Arch{HeadDim: 128, RopeTheta: 500000, RopeScaling: &vae.RopeScaling{Type: "llama3", Factor: 8, Low: 1, High: 4, Original: 8192}}
	f := a.RopeFactors()
	for j, v := range f {
		wave := 2 * math.Pi * math.Pow(500000, 2*float64(j)/128)
		blend := (8192/wave - 1) / 3
		want := 1 / ((1-blend)/8 + blend)
		switch {
		case wave < 2048:
			want = 1
		case wave > 8192:
			want = 8
		}
		if math.Abs(v-want) > 1e-12 {
			t.Errorf("pair %d of wavelength %.0f is slowed by %v, want %v", j, wave, v, want)
		}
	}
	if f[0] != 1 || f[63] != 8 || !(f[32] > 1 && f[32] < 8) {
		t.Errorf("factors %v", f)
	}
}

// FuzzParseArch checks that no config.json brings the program down, and that one that is accepted has sizes that can be.
func FuzzParseArch(f *testing.F) {
	for _, c := range configs {
		f.Add([]byte(c))
	}
	f.Add([]byte(`{"model_type":"llama","rope_scaling":{"type":[]},"head_dim":null,"bos_token_id":[1,2]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		a, err := vae.ParseArch(b)
		if err != nil {
			if strings.ContainsAny(err.Error(), "\n\r") {
				t.Errorf("an error of several lines: %q", err)
			}
			return
		}
		if a.HiddenSize < 1 || a.NumHeads%a.NumKVHeads != 0 || a.HeadDim < 1 || a.FFNSize() < 1 || a.Positions < 1 || len(a.RopeFactors()) != a.HeadDim/2 {
			t.Errorf("%+v is accepted", a)
		}
		if err := a.Validate(); err != nil {
			t.Errorf("accepted, and then: %v", err)
		}
	})
}
