package sllm

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"svae/checkpoints"
	"svae/data/tokenizer"
	"svae/vae"
)

// ggufTokens is a tokenizer of eight tokens, with a padding token that the tests' models do not have.
func ggufTokens(t *testing.T) *tokenizer.Tokenizer {
	t.Helper()
	w := openGGUF(t, changedGGUF(goodGGUF("llama"), ggufPAD, uint32(6)), checkpoints.FromFloat32("x", []int{1}, []float32{1}))
	files, err := tokenizer.FromGGUF(w.Values())
	if err != nil {
		t.Fatal(err)
	}
	tok, err := tokenizer.FromFiles(files)
	if err != nil {
		t.Fatal(err)
	}
	return tok
}

// ggufFolder returns a model of a config.json.
func ggufFolder(t *testing.T, config string) *Folder {
	t.Helper()
	f := &Folder{Kind: KindLM, Path: "m", Raw: []byte(config), Files: map[string][]byte{}}
	var err error
	if f.LM, err = vae.ParseArch(f.Raw); err != nil {
		t.Fatalf("%s: %v", config, err)
	}
	return f
}

// throughGGUF writes a model with random weights as a GGUF file and reads it; every weight comes back. The error is that of
// writing.
func throughGGUF(t *testing.T, f *Folder) (*Folder, map[string]any, error) {
	t.Helper()
	kv, extra, err := f.GGUF(ggufTokens(t), 0)
	if err != nil {
		return nil, nil, err
	}
	ts := randomTensors(f.Weights())
	ns := Arrange(GGUFLayout(&f.LM, f.Weights()), ts)
	for _, x := range extra {
		ns = append(ns, checkpoints.FromTensor(x))
	}
	w := openGGUF(t, kv, ns...)
	g, st, err := ReadGGUF(w, true)
	if err != nil {
		t.Fatalf("%s was written and is not read: %v", f.Raw, err)
	}
	found, err := Find(g.Weights(), st, w)
	if err != nil {
		t.Fatalf("%s was written and is not read: %v", f.Raw, err)
	}
	for name, x := range ts {
		if y := found[name]; y == nil || !slices.Equal(values(t, x), values(t, y)) {
			t.Errorf("%s: %s came back as another", f.Raw, name)
		}
	}
	return g, w.Values(), nil
}

// TestGGUFConfigs writes models of many configs as GGUF: each computes the same when it is read again, or is refused by the
// name of what the format has no place for.
func TestGGUFConfigs(t *testing.T) {
	const (
		gpt2  = `"model_type":"gpt2","n_embd":16,"n_layer":2,"n_head":4,"vocab_size":50,"n_positions":32,"bos_token_id":1,"eos_token_id":2`
		sizes = `"hidden_size":16,"num_hidden_layers":2,"num_attention_heads":4,"num_key_value_heads":2,"intermediate_size":20,"vocab_size":50,"max_position_embeddings":32,"head_dim":4`
		llama = `"model_type":"llama",` + sizes
		qwen2 = `"model_type":"qwen2",` + sizes
		qwen3 = `"model_type":"qwen3",` + sizes
	)
	llama3 := func(family string, factor, low, high, original, theta any) string {
		return fmt.Sprintf(`%s,"rope_theta":%v,"rope_scaling":{"rope_type":"llama3","factor":%v,"low_freq_factor":%v,"high_freq_factor":%v,"original_max_position_embeddings":%v}`,
			strings.Replace(family, `"head_dim":4`, `"head_dim":16`, 1), theta, factor, low, high, original)
	}
	for _, c := range []struct{ config, want string }{
		{llama, ""},
		{llama + `,"tie_word_embeddings":true`, ""},
		{llama + `,"hidden_act":"swish"`, ""},
		{llama + `,"rms_norm_eps":0`, ""},
		{llama + `,"rms_norm_eps":3e-7,"rope_theta":1234567.89`, ""},
		{llama + `,"attention_bias":true`, ""},
		{llama + `,"mlp_bias":true`, ""},
		{llama + `,"attention_bias":true,"mlp_bias":true,"rope_theta":500`, ""},
		{strings.Replace(llama, `"head_dim":4`, `"head_dim":6`, 1), ""},
		{llama + `,"rope_scaling":{"type":"linear","factor":3.3}`, ""},
		{llama3(llama, 8, 1, 4, 8192, 500000), ""},
		{llama3(llama, 32, 1, 4, 8192, 500000), ""},
		{llama3(llama, 8, 1, 4, 64, 500), ""},
		{llama3(llama, 5.5, 1, 4, 2048, 10000), ""},
		{llama3(llama, 8, 2, 8, 16384, 500000), ""}, // the same factors as the first
		{strings.Replace(llama, "llama", "mistral", 1) + `,"sliding_window":20`, ""},
		{strings.Replace(llama, "llama", "mistral", 1) + `,"sliding_window":null,"attention_bias":true`, ""},
		{qwen2, ""},
		{qwen2 + `,"tie_word_embeddings":true,"rope_theta":1e6,"attention_bias":true`, ""},
		{qwen2 + `,"rope_scaling":{"type":"linear","factor":2}`, ""},
		{qwen3, ""},
		{strings.Replace(qwen3, `,"head_dim":4`, ``, 1), ""},
		{gpt2, ""},
		{gpt2 + `,"n_inner":24,"layer_norm_epsilon":0,"activation_function":"gelu_fast"`, ""},
		{gpt2 + `,"tie_word_embeddings":false,"enable_bias":false,"do_layer_norm_before":false`, ""}, // of which two are not GPT-2's

		{llama + `,"hidden_act":"gelu_pytorch_tanh"`, `hidden_act "gelu_pytorch_tanh"`},
		{qwen2 + `,"hidden_act":"gelu_new"`, `hidden_act "gelu_pytorch_tanh"`},
		{qwen3 + `,"attention_bias":true`, "GGUF's architecture qwen3 cannot hold attention_bias (write a model folder)"},
		{gpt2 + `,"activation_function":"gelu"`, `activation_function "gelu"`},
		{gpt2 + `,"activation_function":"relu"`, `activation_function "relu"`},
		{llama + `,"rms_norm_eps":1e-60`, "rms_norm_eps 1e-60, which is no float32"},
		{llama + `,"rope_scaling":{"type":"linear","factor":1e60}`, "the rope scaling's factor 1e+60, which is no float32"},
		{llama3(llama, 8, 1, 3, 8192, 500000), "rope scaling of type llama3 (factor 8, low_freq_factor 1, high_freq_factor 3, original_max_position_embeddings 8192)"},
		{llama3(llama, 8, 1, 4, 5000, 500000), "original_max_position_embeddings 5000"},
		{llama3(qwen2, 8, 1, 4, 8192, 500000), "cannot hold rope scaling of type llama3"},
		{strings.Replace(llama, "llama", "gemma", 1), `model_type "gemma": GGUF is not written for it`},
	} {
		f := ggufFolder(t, "{"+c.config+"}")
		g, _, err := throughGGUF(t, f)
		switch {
		case c.want != "":
			if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("%s: %v, want %q", c.config, err, c.want)
			}
		case err != nil:
			t.Errorf("%s: %v", c.config, err)
		default:
			if err := vae.SameArch(f.LM, g.LM); err != nil {
				t.Errorf("%s: %v", c.config, err)
			}
			if err := vae.SameIDs(f.LM, g.LM); err != nil && !strings.Contains(c.config, "qwen") { // a null is not held for SentencePiece
				t.Errorf("%s: %v", c.config, err)
			}
		}
	}
}

// TestGGUFUnheld: what no config.json of these families says, but an Arch can.
func TestGGUFUnheld(t *testing.T) {
	for _, c := range []struct {
		change func(a *vae.Arch)
		gpt2   bool
		want   string
	}{
		{func(a *vae.Arch) { a.EnableBias = new(bool) }, true, "enable_bias false"},
		{func(a *vae.Arch) { a.PreNorm = new(bool) }, true, "do_layer_norm_before false"},
		{func(a *vae.Arch) { a.PreNorm = new(bool) }, false, "do_layer_norm_before false"},
		{func(a *vae.Arch) { a.NoFinalNorm = true }, true, "_remove_final_layer_norm"},
		{func(a *vae.Arch) { a.NormAffine = new(bool) }, true, "layer_norm_elementwise_affine false"},
		{func(a *vae.Arch) { a.EmbedDim = 8 }, true, "word_embed_proj_dim 8"},
		{func(a *vae.Arch) { a.Sinusoid = true }, true, "sinusoidal_positions"},
		{func(a *vae.Arch) { a.ModelType, a.AttnBias, a.MLPBias = "qwen2", true, true }, false, "attention_bias, mlp_bias"},
	} {
		f := &Folder{Kind: KindLM, Path: "m", LM: tinyLlama()}
		if c.gpt2 {
			f.LM = tinyGPT2()
		}
		c.change(&f.LM)
		if _, _, err := f.GGUF(ggufTokens(t), 0); err == nil || !strings.Contains(err.Error(), "cannot hold "+c.want) {
			t.Errorf("%v, want %q", err, c.want)
		}
	}
}

// TestGGUFMarks: token ids are the config's, whatever the tokenizer says, and a file names up to three ends of a text.
func TestGGUFMarks(t *testing.T) {
	const base = `"model_type":"llama","hidden_size":16,"num_hidden_layers":1,"num_attention_heads":4,"intermediate_size":20,"vocab_size":50,"max_position_embeddings":32`
	for _, c := range []struct {
		config, generation string
		want               map[string]any // of the header; nil: no such key
		stops, lost        []int32
	}{
		{`"bos_token_id":3,"eos_token_id":4,"pad_token_id":5`, ``, map[string]any{ggufBOS: 3, ggufEOS: 4, ggufPAD: 5, ggufEOT: nil, ggufEOM: nil,
			"tokenizer.ggml.add_bos_token": true}, []int32{4}, nil},
		{``, ``, map[string]any{ggufBOS: 1, ggufEOS: 2, ggufPAD: nil}, []int32{2}, nil},
		{`"bos_token_id":null,"eos_token_id":null`, ``, map[string]any{ggufBOS: nil, ggufEOS: nil, ggufPAD: nil, "tokenizer.ggml.add_bos_token": false}, []int32{2}, nil},
		{`"eos_token_id":[4,5]`, ``, map[string]any{ggufEOS: 4, ggufEOT: 5, ggufEOM: nil}, []int32{4, 5}, nil},
		{`"eos_token_id":4`, `{"eos_token_id":[4,6,5]}`, map[string]any{ggufEOS: 4, ggufEOM: 6, ggufEOT: 5}, []int32{4, 6, 5}, nil},
		{`"eos_token_id":[4,5,6,7]`, ``, map[string]any{ggufEOS: 4, ggufEOT: nil, ggufEOM: nil}, []int32{4}, []int32{5, 6, 7}},
		{`"eos_token_id":null`, `{"eos_token_id":7}`, map[string]any{ggufEOS: nil, ggufEOT: nil}, []int32{2}, []int32{7}},
	} {
		config := base
		if c.config != "" {
			config += "," + c.config
		}
		f := ggufFolder(t, "{"+config+"}")
		if c.generation != "" {
			f.Files[GenerationFile] = []byte(c.generation)
		}
		g, header, err := throughGGUF(t, f)
		if err != nil {
			t.Fatal(err)
		}
		for key, want := range c.want {
			if got := header[key]; fmt.Sprint(got) != fmt.Sprint(want) {
				t.Errorf("%s: %s is %v, want %v", c.config, key, got, want)
			}
		}
		if got, err := g.Stops(); err != nil || !slices.Equal(got, c.stops) {
			t.Errorf("%s: read again, a text ends with %v, %v, want %v", c.config, got, err, c.stops)
		}
		if got, err := f.GGUFLostStops(); err != nil || !slices.Equal(got, c.lost) {
			t.Errorf("%s: lost %v, %v, want %v", c.config, got, err, c.lost)
		}
	}
	f := ggufFolder(t, "{"+base+"}")
	f.Files[GenerationFile] = []byte("{")
	if _, _, err := f.GGUF(ggufTokens(t), 0); err == nil || !strings.Contains(err.Error(), GenerationFile) {
		t.Errorf("a broken %s: %v", GenerationFile, err)
	}
}
