package train

import (
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"testing"

	"svae/checkpoints"
	"svae/data/segment"
	"svae/kernels/cpu"
	"svae/sllm"
)

// bases are config.json files of families, one of every make of block, and a tensor that a file of each must hold.
var bases = map[string]struct {
	config, tensor string
	shape          []int
}{
	"gpt2": {`{"model_type": "gpt2", "n_embd": 16, "n_layer": 2, "n_head": 2, "vocab_size": 2048, "n_positions": 200, "bos_token_id": 1, "eos_token_id": 2,
"resid_pdrop": 0.1}`, "transformer.h.1.attn.c_attn.weight", []int{16, 48}},
	"qwen2": {`{"model_type": "qwen2", "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1, "vocab_size": 2048,
"intermediate_size": 24, "max_position_embeddings": 200, "bos_token_id": 1, "eos_token_id": 2, "tie_word_embeddings": true}`,
		"model.layers.1.self_attn.k_proj.bias", []int{8}},
	"qwen3": {`{"model_type": "qwen3", "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 12,
"vocab_size": 2048, "intermediate_size": 24, "max_position_embeddings": 200, "bos_token_id": 1, "eos_token_id": 2}`,
		"model.layers.1.self_attn.q_norm.weight", []int{12}},
	"gemma": {`{"model_type": "gemma", "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 8,
"vocab_size": 2048, "intermediate_size": 24, "max_position_embeddings": 200, "bos_token_id": 1, "eos_token_id": 2}`,
		"model.layers.1.mlp.gate_proj.weight", []int{24, 16}},
	"opt": {`{"model_type": "opt", "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "ffn_dim": 24, "vocab_size": 2048,
"max_position_embeddings": 200, "bos_token_id": 1, "eos_token_id": 2, "do_layer_norm_before": false, "word_embed_proj_dim": 8}`,
		"model.decoder.project_out.weight", []int{8, 16}},
}

// TestFamilies trains every kind of model on a base of every make: each starts from all the tensors of the base that it
// names, learns, and comes out as files that can be read again, a token-level one under Hugging Face's names.
func TestFamilies(t *testing.T) {
	dir := shards(t, texts(6), segment.Config{})
	for family, b := range bases {
		src := t.TempDir()
		for name, text := range loadTokenizer(t).Files() {
			if err := os.WriteFile(filepath.Join(src, name), text, 0o666); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.WriteFile(filepath.Join(src, "config.json"), []byte(b.config), 0o666); err != nil {
			t.Fatal(err)
		}
		f, err := sllm.ReadConfig(src)
		if err != nil {
			t.Fatal(err)
		}
		c := tiny(t, LM, dir)
		if err := c.initialise(f, cpu.New(), ""); err != nil {
			t.Fatal(err)
		}
		base := writeFolder(t, f)
		for _, stage := range []Stage{LM, VAE, SLLM} {
			t.Run(family+"/"+string(stage), func(t *testing.T) {
				c := tiny(t, stage, dir)
				c.Base, c.Tokenizer, c.Steps, c.LR, c.Warmup = base, "", 30, 0.01, 1
				r := opened(t, c)
				m := r.model.folder
				copied := 0
				for _, w := range m.Store.Weights() {
					if w.Base == "" {
						continue
					}
					want, err := f.Read(w.Base)
					if err != nil || want == nil {
						t.Fatalf("%s starts from %s, which the base lacks (%v)", w.Name, w.Base, err)
					}
					if !sameBits(host(cpu.New(), m.Store.Buf(w.Name)), want) {
						t.Errorf("%s is not %s at the start", w.Name, w.Base)
					}
					copied++
				}
				if copied < len(f.Store.Weights())/2 {
					t.Errorf("%d weights are the base's, of %d", copied, len(f.Store.Weights()))
				}
				if err := r.loop(t.Context()); err != nil {
					t.Fatal(err)
				}
				end := r.summary()
				if !(end.Loss < 6.5) { // of a uniform guess: ln 2048 = 7.62
					t.Errorf("the loss is %v nats a token after %d steps", end.Loss, end.Steps)
				}
				again, err := sllm.Load(end.Model, cpu.New())
				if err != nil {
					t.Fatal(err)
				}
				if !reflect.DeepEqual(again.Arch(), m.Arch()) {
					t.Errorf("the architecture came back as %+v, was %+v", again.Arch(), m.Arch())
				}
				for _, w := range m.Store.Weights() {
					if !sameBits(host(cpu.New(), m.Store.Buf(w.Name)), host(cpu.New(), again.Store.Buf(w.Name))) {
						t.Errorf("%s came back as another", w.Name)
					}
				}
				if stage != LM {
					return
				}
				src, err := checkpoints.Open(end.Model)
				if err != nil {
					t.Fatal(err)
				}
				defer src.Close()
				if x, ok := src.Get(b.tensor); !ok || !slices.Equal(x.Shape, b.shape) {
					t.Errorf("no %s of %v among %v", b.tensor, b.shape, src.Names())
				}
			})
		}
	}
}
