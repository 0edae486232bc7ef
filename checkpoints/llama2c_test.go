package checkpoints

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// l2c makes the seven numbers of a llama2.c header.
func l2c(n ...int32) string {
	s := ""
	for _, x := range n {
		s += u32(uint32(x))
	}
	return s
}

// llama2cFile makes a file of n float32 behind a header; they count up.
func llama2cFile(header string, n int) []byte {
	v := make([]float32, n)
	for i := range v {
		v[i] = float32(i)
	}
	return append([]byte(header), f32bytes(v)...)
}

// A small model: dim 8, hidden 6, 2 layers, 2 heads, 1 for keys and values, 5 tokens, 3 positions. A layer has a norm, q, k,
// v, o, a norm, and the three matrices of the MLP.
const (
	tinyLayer  = 8 + 64 + 32 + 32 + 64 + 8 + 3*48
	tinyRest   = 5*8 + 8 // embedding, last norm
	tinyTables = 3 * 4   // rotary tables of version 0
	tinyHead   = 5 * 8   // when not shared
	tinyAll    = 2*tinyLayer + tinyRest
)

func tinyV1(shared byte, version uint32) string {
	h := u32(llama2cMagic) + u32(version) + l2c(8, 6, 2, 2, 1, 5, 3) + string([]byte{shared})
	return h + times(256-len(h), "\x00")
}

// TestLlama2C reads the small model in both versions: names, places and the order of rows.
func TestLlama2C(t *testing.T) {
	layer := func(i int) []string {
		var names []string
		for _, s := range []string{"input_layernorm", "mlp.down_proj", "mlp.gate_proj", "mlp.up_proj", "post_attention_layernorm",
			"self_attn.k_proj", "self_attn.o_proj", "self_attn.q_proj", "self_attn.v_proj"} {
			names = append(names, fmt.Sprintf("model.layers.%d.%s.weight", i, s))
		}
		return names
	}
	names := slices.Concat([]string{"model.embed_tokens.weight"}, layer(0), layer(1), []string{"model.norm.weight"})
	for name, c := range map[string]struct {
		file                      []byte
		head, embed, norm, k1, w2 int // where tensors begin, in elements; -1 for no head
	}{
		// 0: embedding 40, norms 16, q 128, k 64, v 64, o 128, norms 16, w1 96, w2 96, w3 96, norm 8, tables 12, head 40
		"v0 shared": {llama2cFile(l2c(8, 6, 2, 2, 1, 5, 3), tinyAll+tinyTables), -1, 0, 744, 216, 552},
		"v0":        {llama2cFile(l2c(8, 6, 2, 2, 1, -5, 3), tinyAll+tinyTables+tinyHead), 764, 0, 744, 216, 552},
		// 1: norms 16, norms 16, norm 8, embedding 40, q 128, k 64, v 64, o 128, w1 96, w2 96, w3 96, head 40
		"v1 shared": {llama2cFile(tinyV1(1, 1), tinyAll), -1, 40, 32, 240, 560},
		"v1":        {llama2cFile(tinyV1(0, 1), tinyAll+tinyHead), 752, 40, 32, 240, 560},
	} {
		t.Run(name, func(t *testing.T) {
			w := open(t, put(t, "model.bin", c.file))
			want := names
			if c.head >= 0 {
				want = append([]string{"lm_head.weight"}, names...)
				if got := floats(t, get(t, w, "lm_head.weight")); got[0] != float32(c.head) || len(got) != 40 {
					t.Errorf("head begins with %v", got[0])
				}
			}
			if !slices.Equal(w.Names(), want) || w.Format() != "llama2.c" {
				t.Errorf("%s: %q", w.Format(), w.Names())
			}
			if v := w.Values(); v["vocab_size"] != int64(5) || v["hidden_dim"] != int64(6) || v["seq_len"] != int64(3) || len(v) != 7 || w.Metadata()["n_kv_heads"] != "1" {
				t.Errorf("values %v", v)
			}
			for name, at := range map[string]int{"model.embed_tokens.weight": c.embed, "model.norm.weight": c.norm, "model.layers.0.mlp.down_proj.weight": c.w2} {
				if got := floats(t, get(t, w, name))[0]; got != float32(at) {
					t.Errorf("%s begins with %v, want %d", name, got, at)
				}
			}
			k := floats(t, get(t, w, "model.layers.1.self_attn.k_proj.weight")) // 4 rows of 8: 0 2 1 3
			for i, row := range []int{0, 2, 1, 3} {
				if got := k[8*i]; got != float32(c.k1+8*row) {
					t.Errorf("row %d of k begins with %v, want %d", i, got, c.k1+8*row)
				}
			}
			if x := get(t, w, "model.layers.0.mlp.down_proj.weight"); !slices.Equal(x.Shape, []int{8, 6}) {
				t.Errorf("down_proj %v", x.Shape)
			}
		})
	}
}

func TestLlama2CFaults(t *testing.T) {
	good := tinyV1(1, 1)
	for name, c := range map[string]struct {
		file []byte
		want string
	}{
		"version 2":      {llama2cFile(tinyV1(1, 2), 100), "llama2.c version 2, of int8 groups, is not supported (export the model with --version 0 or 1)"},
		"version 3":      {llama2cFile(tinyV1(1, 3), 100), "llama2.c version 3 is unknown"},
		"version -1":     {llama2cFile(tinyV1(1, 1<<32-1), 100), "llama2.c version -1 is unknown"},
		"cut header":     {[]byte(good[:100]), "llama2.c header of 100 bytes is cut"},
		"cut":            {llama2cFile(good, tinyAll-1), "llama2.c header asks for a file of 3264 bytes, it has 3260: it is damaged"},
		"long":           {llama2cFile(good, tinyAll+1), "it has 3268"},
		"no head":        {llama2cFile(tinyV1(0, 1), tinyAll), "asks for a file"},
		"dim 0":          {llama2cFile(u32(llama2cMagic)+u32(1)+l2c(0, 6, 2, 2, 1, 5, 3)+times(220, "\x00"), tinyAll), "dim is 0 (want 1 to 1048576)"},
		"heads":          {llama2cFile(u32(llama2cMagic)+u32(1)+l2c(8, 6, 2, 3, 2, 5, 3)+times(220, "\x00"), tinyAll), "n_heads 3 is no multiple of n_kv_heads 2"},
		"odd head":       {llama2cFile(u32(llama2cMagic)+u32(1)+l2c(9, 6, 2, 3, 3, 5, 3)+times(220, "\x00"), tinyAll), "dim 9 is no even multiple of n_heads 3"},
		"huge":           {llama2cFile(u32(llama2cMagic)+u32(1)+l2c(1<<20, 1<<24, 1<<12, 1, 1, 1<<24, 1)+times(220, "\x00"), tinyAll), "asks for a file"},
		"negative":       {llama2cFile(u32(llama2cMagic)+u32(1)+l2c(8, 6, -2, 2, 1, 5, 3)+times(220, "\x00"), tinyAll), "n_layers is -2"},
		"v0 cut":         {llama2cFile(l2c(8, 6, 2, 2, 1, 5, 3), tinyAll+tinyTables-1), "neither safetensors nor"},
		"v0 long":        {llama2cFile(l2c(8, 6, 2, 2, 1, 5, 3), tinyAll+tinyTables+1), "neither safetensors nor"},
		"v0 implausible": {llama2cFile(l2c(8, 6, 2, 2, 0, 5, 3), tinyAll+tinyTables), "neither safetensors nor"},
		"v0 no vocab":    {llama2cFile(l2c(8, 6, 2, 2, 1, 0, 3), tinyAll+tinyTables), "neither safetensors nor"},
	} {
		t.Run(name, func(t *testing.T) { fails(t, put(t, "model.bin", c.file), c.want) })
	}
}

// TestLlama2CReal: the real models equal their Hugging Face forms, bit for bit.
func TestLlama2CReal(t *testing.T) {
	root := os.Getenv("SVAE_TESTDATA")
	if root == "" {
		t.Skip("SVAE_TESTDATA is not set")
	}
	for dir, file := range map[string]string{"stories260K": "stories260K.bin", "babyllama-105": "model5000.bin"} {
		dir = filepath.Join(root, "models", dir)
		bin, hf := open(t, need(t, filepath.Join(dir, file))), open(t, need(t, filepath.Join(dir, "hf/model.safetensors")))
		sameWeights(t, bin, hf)
		for _, name := range bin.Names() { // piece by piece
			a, b := get(t, bin, name), get(t, hf, name)
			if !bytes.Equal(written(t, FromTensor(a)), written(t, FromTensor(b))) || !sameFloats(floats(t, a), floats(t, b)) {
				t.Errorf("%s differs", name)
			}
		}
	}
}
