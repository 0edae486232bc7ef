package vae

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"strings"
)

// ParseArch reads a config.json, as any version of transformers from 4 to 5 writes it. Of each family those keys are read
// that transformers reads. It must state the sizes: those of the hidden rows and of the feed-forward map (but GPT-2's, which
// is four times as large), of layers, heads, vocabulary and positions. For other keys that it leaves out it means what
// transformers takes for them, but for dropout, which is none then. A key that is null is left out.
//
// The error wraps ErrUnknown for a model_type that is not in Families and for a variant that would compute something else;
// otherwise it says which key is wrong.
func ParseArch(config []byte) (Arch, error) {
	a := Arch{}
	if err := CheckJSON(config); err != nil {
		return a, fmt.Errorf("config.json: %w", err)
	}
	k := keys{}
	if err := json.Unmarshal(config, &k.raw); err != nil || k.raw == nil {
		return a, errors.New("config.json: is not a JSON object")
	}
	k.text(&a.ModelType, "model_type")
	if _, known := families[a.ModelType]; !known && k.err == nil {
		return a, a.Validate()
	}
	f := a.family()
	k.sizes(&a, f)
	k.marks(&a, f)
	k.rope(&a)
	k.unsupported(&a)
	if k.err != nil {
		return a, k.err
	}
	a.fill()
	return a, a.Validate()
}

// CheckJSON refuses a text that is not one JSON value, and one that names a key of an object twice, of which programs take
// the first or the last as they like.
func CheckJSON(b []byte) error {
	if err := json.Unmarshal(b, new(any)); err != nil {
		if e := (*json.SyntaxError)(nil); errors.As(err, &e) {
			return fmt.Errorf("offset %d: %w", e.Offset, err)
		}
		return err
	}
	type object struct {
		seen map[string]bool // nil for a list
		key  bool            // a key comes next
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	var open []object
	for {
		t, err := d.Token()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if s, ok := t.(string); ok && len(open) > 0 && open[len(open)-1].key {
			o := &open[len(open)-1]
			if o.seen[s] {
				return fmt.Errorf("offset %d: the key %q stands twice", d.InputOffset(), s)
			}
			o.seen[s], o.key = true, false
			continue
		}
		switch t {
		case json.Delim('{'):
			open = append(open, object{seen: map[string]bool{}, key: true})
			continue
		case json.Delim('['):
			open = append(open, object{})
			continue
		case json.Delim('}'), json.Delim(']'):
			open = open[:len(open)-1]
		}
		if n := len(open); n > 0 && open[n-1].seen != nil {
			open[n-1].key = true
		}
	}
}

// keys reads the values of a config.json by their exact names. The first error is kept; null is as good as nothing.
type keys struct {
	raw map[string]json.RawMessage
	err error
}

// get returns the value of the first of names that is there, and its name.
func (k *keys) get(names ...string) (json.RawMessage, string) {
	for _, n := range names {
		if v, ok := k.raw[n]; ok && string(v) != "null" {
			return v, n
		}
	}
	return nil, ""
}

// read decodes the value of the first of names that is there; want says in an error what it should be.
func (k *keys) read(dst any, want string, names ...string) bool {
	v, name := k.get(names...)
	if v == nil {
		return false
	}
	if err := json.Unmarshal(v, dst); err != nil {
		k.fail("%s is %s, want %s", name, clip(v), want)
		return false
	}
	return true
}

func (k *keys) fail(format string, args ...any) {
	if k.err == nil {
		k.err = fmt.Errorf("config.json: "+format, args...)
	}
}

// refuse says that the model is of a variant that is not known.
func (k *keys) refuse(format string, args ...any) {
	k.fail("%w: "+format, append([]any{ErrUnknown}, args...)...)
}

// clip returns the beginning of a JSON value, in one line.
func clip(v []byte) string {
	var b bytes.Buffer
	if json.Compact(&b, v) != nil || b.Len() > 40 {
		b.Truncate(min(b.Len(), 37))
		b.WriteString("...")
	}
	return strings.ToValidUTF8(b.String(), "")
}

func (k *keys) text(dst *string, names ...string)  { k.read(dst, "a text", names...) }
func (k *keys) flag(dst *bool, names ...string)    { k.read(dst, "true or false", names...) }
func (k *keys) real(dst *float64, names ...string) { k.read(dst, "a number", names...) }

func (k *keys) size(dst *int, names ...string) {
	var n int64
	if !k.read(&n, "a whole number", names...) {
		return
	}
	if *dst = int(n); n < math.MinInt32 || n > math.MaxInt32 { // as on machines of 32 bits
		_, name := k.get(names...)
		k.fail("%s %d is out of range", name, n)
	}
}

// optional reads a flag whose absence is not false.
func (k *keys) optional(dst **bool, name string) {
	var b bool
	if k.read(&b, "true or false", name) {
		*dst = &b
	}
}

// sizes reads what the blocks are made of.
func (k *keys) sizes(a *Arch, f family) {
	size := func(dst *int, name, gpt2 string) {
		if a.ModelType == "gpt2" { // transformers takes the others' names as well
			k.size(dst, name, gpt2)
		} else {
			k.size(dst, name)
		}
	}
	size(&a.HiddenSize, "hidden_size", "n_embd")
	size(&a.NumLayers, "num_hidden_layers", "n_layer")
	size(&a.NumHeads, "num_attention_heads", "n_head")
	size(&a.Positions, "max_position_embeddings", "n_positions")
	k.size(&a.VocabSize, "vocab_size")
	if _, there := k.raw["num_key_value_heads"]; !there {
		a.NumKVHeads = f.kvHeads
	}
	a.HeadDim = f.headDim
	switch a.ModelType {
	case "opt":
		k.text(&a.Act, "activation_function")
		k.real(&a.Dropout, "dropout")
		k.size(&a.FFNDim, "ffn_dim")
		k.optional(&a.PreNorm, "do_layer_norm_before")
		k.optional(&a.EnableBias, "enable_bias")
		k.optional(&a.NormAffine, "layer_norm_elementwise_affine")
		k.flag(&a.NoFinalNorm, "_remove_final_layer_norm")
		k.size(&a.EmbedDim, "word_embed_proj_dim")
	case "gpt2":
		k.text(&a.Act, "activation_function")
		k.real(&a.Dropout, "resid_pdrop")
		a.FFNDim = 4 * a.HiddenSize
		k.size(&a.FFNDim, "n_inner")
		if eps := 0.0; k.read(&eps, "a number", "layer_norm_epsilon") {
			a.LayerNormEps = &eps
		}
	default:
		k.gated(a)
	}
}

// gated reads what the blocks of Llama and its kin are made of.
func (k *keys) gated(a *Arch) {
	k.size(&a.NumKVHeads, "num_key_value_heads")
	k.size(&a.HeadDim, "head_dim")
	k.size(&a.Intermediate, "intermediate_size")
	a.RMSNormEps = 1e-6
	k.real(&a.RMSNormEps, "rms_norm_eps")
	k.text(&a.HiddenAct, "hidden_act")
	f := a.family()
	if f.attnBias {
		k.flag(&a.AttnBias, "attention_bias")
	}
	if f.mlpBias {
		k.flag(&a.MLPBias, "mlp_bias")
	}
	if a.ModelType == "gemma" && a.HiddenAct == "gelu" { // its first files say so and mean the tanh form
		a.HiddenAct = f.act
	}
}

// marks reads the token ids, of a list of them the first, and whether the head is the embedding table.
func (k *keys) marks(a *Arch, f family) {
	a.Tied = f.tied
	k.flag(&a.Tied, "tie_word_embeddings")
	for i, m := range []struct {
		dst  *int32
		name string
	}{{&a.BOS, "bos_token_id"}, {&a.EOS, "eos_token_id"}, {&a.PAD, "pad_token_id"}} {
		*m.dst = -1
		if _, there := k.raw[m.name]; !there && int(f.ids[i]) < a.VocabSize {
			*m.dst = f.ids[i]
		}
		v, _ := k.get(m.name)
		if v == nil {
			continue
		}
		var list []int64
		if json.Unmarshal(v, &list) != nil {
			list = make([]int64, 1)
			k.read(&list[0], "a token id or a list of them", m.name)
		}
		switch {
		case len(list) == 0 || list[0] < 0:
			*m.dst = -1
		case list[0] > math.MaxInt32:
			k.fail("%s %d is out of range", m.name, list[0])
		default:
			*m.dst = int32(list[0])
		}
	}
}

// rope reads the rotary base and scaling: rope_theta and rope_scaling as transformers 4 writes them, rope_parameters as 5.
func (k *keys) rope(a *Arch) {
	if a.family().learned {
		return
	}
	p := keys{}
	k.read(&p.raw, "an object", "rope_parameters", "rope_scaling")
	a.RopeTheta = 10000
	k.real(&a.RopeTheta, "rope_theta")
	p.real(&a.RopeTheta, "rope_theta")
	part := 1.0
	k.real(&part, "partial_rotary_factor")
	p.real(&part, "partial_rotary_factor")
	kind := "default"
	p.text(&kind, "rope_type", "type")
	s := RopeScaling{Type: kind}
	p.real(&s.Factor, "factor")
	if kind == "llama3" {
		p.real(&s.Low, "low_freq_factor")
		p.real(&s.High, "high_freq_factor")
		s.Original = a.Positions
		k.size(&s.Original, "original_max_position_embeddings")
		p.size(&s.Original, "original_max_position_embeddings")
	}
	if kind != "default" {
		a.RopeScaling = &s
	}
	switch {
	case p.err != nil:
		k.fail("%s", strings.TrimPrefix(p.err.Error(), "config.json: "))
	case part != 1:
		k.refuse("partial_rotary_factor %v", part)
	case p.raw["full_attention"] != nil || p.raw["sliding_attention"] != nil:
		k.refuse("rope_parameters that differ from layer to layer")
	}
}

// unsupported refuses what would change the result and is not computed here, and limits positions to a sliding window.
func (k *keys) unsupported(a *Arch) {
	on := func(name string) (b bool) {
		k.flag(&b, name)
		return b
	}
	if q := k.raw["quantization_config"]; q != nil && string(q) != "null" {
		k.refuse("quantization_config: quantised weights are not read (give the model they were made from)")
	}
	switch a.ModelType {
	case "gpt2":
		weighted := true
		if k.flag(&weighted, "scale_attn_weights"); !weighted {
			k.refuse("scale_attn_weights is false")
		}
		if on("scale_attn_by_inverse_layer_idx") && a.NumLayers > 1 {
			k.refuse("scale_attn_by_inverse_layer_idx")
		}
		if on("add_cross_attention") {
			k.refuse("add_cross_attention")
		}
	case "gemma":
		if on("use_bidirectional_attention") {
			k.refuse("use_bidirectional_attention")
		}
	case "mistral":
		window := 0
		if _, there := k.raw["sliding_window"]; !there {
			window = 4096
		}
		if k.size(&window, "sliding_window"); window < 0 {
			k.fail("sliding_window %d is out of range", window)
		}
		if window > 0 && window < a.Positions {
			a.Window, a.Positions = window, window
		}
	case "qwen2", "qwen3":
		window, from := 4096, 28
		k.size(&window, "sliding_window")
		k.size(&from, "max_window_layers")
		var layers []string
		k.read(&layers, "a list of texts", "layer_types")
		slides := layers == nil && from < a.NumLayers || strings.Contains(strings.Join(layers, " "), "sliding")
		if on("use_sliding_window") && slides && window < a.Positions {
			k.refuse("use_sliding_window with a window of %d and %d positions", window, a.Positions)
		}
	}
}
