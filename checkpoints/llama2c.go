package checkpoints

import (
	"encoding/binary"
	"fmt"
)

// llama2c is the header of a file of llama2.c: seven int32. Version 0 has nothing else; it writes a negative vocab_size when
// the output has weights of its own. Version 1 has a magic number and its version in front, whether the output shares the
// embedding's weights behind, and zeros up to 256 bytes.
type llama2c struct {
	dim, hidden, layers, heads, kvHeads, vocab, context int
	shared                                              bool
	version                                             int
}

const (
	llama2cMagic  = 0x616b3432 // "ak42"
	llama2cHeader = 28         // bytes of version 0
	llama2cPadded = 256        // bytes of version 1 and 2
)

// isLlama2C tells a file of llama2.c. Version 0 has no magic number: its header must make sense, and the file be exactly as
// long as it says.
func isLlama2C(b []byte) bool {
	if len(b) >= 8 && binary.LittleEndian.Uint32(b) == llama2cMagic {
		return true
	}
	h, ok := llama2cV0(b)
	if !ok {
		return false
	}
	n, ok := h.size()
	return ok && n == len(b)
}

func llama2cV0(b []byte) (llama2c, bool) {
	if len(b) < llama2cHeader {
		return llama2c{}, false
	}
	h := llama2cNumbers(b)
	if h.shared = h.vocab > 0; !h.shared {
		h.vocab = -h.vocab
	}
	return h, h.problem() == ""
}

func llama2cNumbers(b []byte) llama2c {
	n := func(i int) int { return int(int32(binary.LittleEndian.Uint32(b[4*i:]))) }
	return llama2c{dim: n(0), hidden: n(1), layers: n(2), heads: n(3), kvHeads: n(4), vocab: n(5), context: n(6)}
}

// problem says what is wrong with the numbers, "" when they make sense.
func (h llama2c) problem() string {
	for _, n := range []struct {
		name     string
		v, limit int
	}{
		{"dim", h.dim, 1 << 20}, {"hidden_dim", h.hidden, 1 << 24}, {"n_layers", h.layers, 1 << 12}, {"n_heads", h.heads, 1 << 16},
		{"n_kv_heads", h.kvHeads, 1 << 16}, {"vocab_size", h.vocab, 1 << 24}, {"seq_len", h.context, 1 << 26},
	} {
		if n.v < 1 || n.v > n.limit {
			return fmt.Sprintf("%s is %d (want 1 to %d)", n.name, n.v, n.limit)
		}
	}
	switch {
	case h.heads%h.kvHeads != 0:
		return fmt.Sprintf("n_heads %d is no multiple of n_kv_heads %d", h.heads, h.kvHeads)
	case h.dim%(2*h.heads) != 0:
		return fmt.Sprintf("dim %d is no even multiple of n_heads %d", h.dim, h.heads)
	}
	return ""
}

// weight is one kind of tensor: one for each layer, or a single one.
type llama2cWeight struct {
	name   string // under which Hugging Face's Llama has it, %d for the layer
	layers int
	shape  []int
	heads  int // whose rows are rotary pairs, 0 for none
}

// weights lists the tensors in the order of the file. An empty name stands for tables that are computed anew.
func (h llama2c) weights() []llama2cWeight {
	d, kv, l := h.dim, h.dim/h.heads*h.kvHeads, h.layers
	layer := func(name string, heads int, shape ...int) llama2cWeight {
		return llama2cWeight{"model.layers.%d." + name + ".weight", l, shape, heads}
	}
	embed := llama2cWeight{"model.embed_tokens.weight", 0, []int{h.vocab, d}, 0}
	norms := []llama2cWeight{layer("input_layernorm", 0, d), layer("post_attention_layernorm", 0, d)}
	attention := []llama2cWeight{
		layer("self_attn.q_proj", h.heads, d, d), layer("self_attn.k_proj", h.kvHeads, kv, d),
		layer("self_attn.v_proj", 0, kv, d), layer("self_attn.o_proj", 0, d, d),
	}
	mlp := []llama2cWeight{
		layer("mlp.gate_proj", 0, h.hidden, d), layer("mlp.down_proj", 0, d, h.hidden), layer("mlp.up_proj", 0, h.hidden, d),
	}
	norm := llama2cWeight{"model.norm.weight", 0, []int{d}, 0}
	var ws []llama2cWeight
	if h.version == 0 {
		ws = append(append([]llama2cWeight{embed, norms[0]}, attention...), norms[1])
		ws = append(append(ws, mlp...), norm, llama2cWeight{"", 0, []int{h.context, d / h.heads}, 0}) // cosines, then sines
	} else {
		ws = append(append(append(norms, norm, embed), attention...), mlp...)
	}
	if !h.shared {
		ws = append(ws, llama2cWeight{"lm_head.weight", 0, []int{h.vocab, d}, 0})
	}
	return ws
}

// header returns the bytes before the first tensor.
func (h llama2c) header() int {
	if h.version == 0 {
		return llama2cHeader
	}
	return llama2cPadded
}

// size returns the bytes of the whole file; false when it exceeds an int.
func (h llama2c) size() (int, bool) {
	total := h.header()
	for _, w := range h.weights() {
		n, ok := product(append([]int{4, max(w.layers, 1)}, w.shape...)...)
		if !ok || n > maxInt-total {
			return 0, false
		}
		total += n
	}
	return total, true
}

// readLlama2C reads a file of llama2.c, version 0 or 1, all float32. Tensors get the names and the order of rows of Hugging
// Face's Llama.
func readLlama2C(w *Weights, m *mapping) error {
	h, err := llama2cOf(m.data)
	if err != nil {
		return err
	}
	w.format = "llama2.c"
	w.values = map[string]any{
		"dim": int64(h.dim), "hidden_dim": int64(h.hidden), "n_layers": int64(h.layers), "n_heads": int64(h.heads),
		"n_kv_heads": int64(h.kvHeads), "vocab_size": int64(h.vocab), "seq_len": int64(h.context),
	}
	for k, v := range w.values {
		w.meta[k] = valueText(v)
	}
	at := h.header()
	for _, kind := range h.weights() {
		n, _ := product(append([]int{4}, kind.shape...)...)
		for i := range max(kind.layers, 1) {
			name := kind.name
			if kind.layers > 0 {
				name = fmt.Sprintf(name, i)
			}
			t := &Tensor{Name: name, DType: F32, TypeName: F32.String(), Shape: kind.shape, File: m.path, Offset: int64(at),
				m: m, storage: m.data[at : at+n : at+n]}
			at += n
			if kind.heads > 0 {
				t = t.HalfRows(kind.heads)
			}
			if name != "" {
				w.tensors[name] = t
			}
		}
	}
	return nil
}

// llama2cOf reads and checks the header.
func llama2cOf(b []byte) (llama2c, error) {
	if binary.LittleEndian.Uint32(b) != llama2cMagic {
		h, _ := llama2cV0(b)
		return h, nil // isLlama2C has checked it
	}
	if len(b) < llama2cPadded {
		return llama2c{}, formatf("llama2.c header of %d bytes is cut (copy the file again)", len(b))
	}
	version := int(int32(binary.LittleEndian.Uint32(b[4:])))
	switch version {
	case 1:
	case 2:
		return llama2c{}, formatf("llama2.c version 2, of int8 groups, is not supported (export the model with --version 0 or 1)")
	default:
		return llama2c{}, formatf("llama2.c version %d is unknown (export the model with --version 0 or 1)", version)
	}
	h := llama2cNumbers(b[8:])
	h.version, h.shared = version, b[8+llama2cHeader] != 0
	if problem := h.problem(); problem != "" {
		return llama2c{}, formatf("llama2.c header: %s", problem)
	}
	n, ok := h.size()
	if !ok || n != len(b) {
		return llama2c{}, formatf("llama2.c header asks for a file of %d bytes, it has %d: it is damaged (copy it again)", n, len(b))
	}
	return h, nil
}
