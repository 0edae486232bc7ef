package vae

import (
	"fmt"
	"maps"
	"slices"

	"svae/kernels"
)

// family is what the models of one model_type have in common: what their blocks are made of, what their files call the
// weights, and what Hugging Face takes for a key that a config.json leaves out. Blocks read these features and never ask
// for the family's name.
type family struct {
	class    string // of transformers
	rms      bool   // RMSNorm instead of LayerNorm
	shift    float64
	learned  bool // a table of positions instead of rotations inside attention
	offset   int  // rows of the table before that of position 0
	gated    bool // the feed-forward map has a gate
	qkvBias  bool // whatever attention_bias says
	bias     bool // every map has one
	attnBias bool // attention_bias is a key of its config
	mlpBias  bool // mlp_bias is
	qkNorm   bool // RMSNorm of every head of queries and keys, before they are turned
	scaled   bool // embeddings are multiplied by √D
	act      string
	tied     bool
	kvHeads  int // 0: as many as heads
	headDim  int // 0: hidden_size / heads
	ids      [3]int32
	names    names
}

// names are what a family's files call the weights, without ".weight" and ".bias".
type names struct {
	root, layer, embed, pos, final                     string
	norm1, q, k, v, qNorm, kNorm, out, norm2, up, down string
	gate                                               string
}

var llamaNames = names{root: "model.", layer: "model.layers.%d.", embed: "embed_tokens", final: "model.norm",
	norm1: "input_layernorm", q: "self_attn.q_proj", k: "self_attn.k_proj", v: "self_attn.v_proj", qNorm: "self_attn.q_norm",
	kNorm: "self_attn.k_norm", out: "self_attn.o_proj", norm2: "post_attention_layernorm", gate: "mlp.gate_proj", up: "mlp.up_proj", down: "mlp.down_proj"}

var optNames = names{root: "model.decoder.", layer: "model.decoder.layers.%d.", embed: "embed_tokens", pos: "embed_positions",
	final: "model.decoder.final_layer_norm", norm1: "self_attn_layer_norm", q: "self_attn.q_proj", k: "self_attn.k_proj",
	v: "self_attn.v_proj", out: "self_attn.out_proj", norm2: "final_layer_norm", up: "fc1", down: "fc2"}

// GPT-2's files hold queries, keys and values as one map, c_attn; here they are three.
var gpt2Names = names{root: "transformer.", layer: "transformer.h.%d.", embed: "wte", pos: "wpe", final: "transformer.ln_f",
	norm1: "ln_1", q: "attn.q_proj", k: "attn.k_proj", v: "attn.v_proj", out: "attn.c_proj", norm2: "ln_2", up: "mlp.c_fc", down: "mlp.c_proj"}

var families = map[string]family{
	"gpt2": {class: "GPT2LMHeadModel", learned: true, bias: true, act: "gelu_new", tied: true, ids: [3]int32{50256, 50256, -1}, names: gpt2Names},
	"opt":  {class: "OPTForCausalLM", learned: true, offset: 2, bias: true, act: "relu", tied: true, ids: [3]int32{2, 2, 1}, names: optNames},
	"llama": {class: "LlamaForCausalLM", rms: true, gated: true, attnBias: true, mlpBias: true, act: "silu", ids: [3]int32{1, 2, -1},
		names: llamaNames},
	"mistral": {class: "MistralForCausalLM", rms: true, gated: true, act: "silu", kvHeads: 8, ids: [3]int32{1, 2, -1},
		names: llamaNames},
	"qwen2": {class: "Qwen2ForCausalLM", rms: true, gated: true, qkvBias: true, act: "silu", kvHeads: 32, ids: [3]int32{-1, -1, -1},
		names: llamaNames},
	"qwen3": {class: "Qwen3ForCausalLM", rms: true, gated: true, attnBias: true, qkNorm: true, act: "silu", kvHeads: 32, headDim: 128, ids: [3]int32{-1, -1, -1},
		names: llamaNames},
	"gemma": {class: "GemmaForCausalLM", rms: true, shift: 1, gated: true, attnBias: true, scaled: true, act: "gelu_pytorch_tanh", tied: true, kvHeads: 16, headDim: 256,
		ids: [3]int32{2, 1, 0}, names: llamaNames},
}

// Families lists the model_type values of the token-level models that can serve as a base: GPT-2; OPT of every size; Llama
// 1 to 3.3 and what is built alike, such as SmolLM2 and TinyLlama; Mistral; Qwen2 and Qwen2.5; Qwen3 without experts; Gemma 1.
var Families = slices.Sorted(maps.Keys(families))

// family returns what a's model_type stands for. Validate refuses types that are not known; to ask one of them is the
// same as to ask OPT.
func (a *Arch) family() family {
	if f, ok := families[a.ModelType]; ok {
		return f
	}
	return families["opt"]
}

// Class is the name of the family's class in transformers, as config.json's "architectures" states it.
func (a *Arch) Class() string { return a.family().class }

// biases says which maps of a block have a bias: query, key and value; the output of attention; the feed-forward maps.
func (a *Arch) biases() (qkv, out, mlp bool) {
	f := a.family()
	if f.bias {
		all := a.EnableBias == nil || *a.EnableBias
		return all, all, all
	}
	return f.qkvBias || a.AttnBias, a.AttnBias, a.MLPBias
}

// acts are the activations by the names of config.json.
var acts = map[string]kernels.Act{"relu": kernels.ReLU, "gelu": kernels.GELU, "gelu_new": kernels.GELUTanh,
	"gelu_pytorch_tanh": kernels.GELUTanh, "gelu_fast": kernels.GELUTanh}

// actName is the name of the activation.
func (a *Arch) actName() string {
	f := a.family()
	name := a.Act
	if f.gated {
		name = a.HiddenAct
	}
	if name == "" {
		name = f.act
	}
	return name
}

// act is the activation of the feed-forward map without a gate.
func (a *Arch) act() kernels.Act { return acts[a.actName()] }

// Activation is the activation of the feed-forward map, or of its gate, under one name where there are several: relu, gelu,
// gelu_pytorch_tanh or silu.
func (a *Arch) Activation() string {
	switch n := a.actName(); {
	case a.silu():
		return "silu"
	case acts[n] == kernels.GELUTanh:
		return "gelu_pytorch_tanh"
	default:
		return n
	}
}

// silu says that the gate's activation is SiLU; otherwise it is the tanh form of GELU.
func (a *Arch) silu() bool { n := a.actName(); return n == "silu" || n == "swish" }

// postNorm says that norms stand behind the residual sums (OPT-350M, the paper's encoder and decoder).
func (a *Arch) postNorm() bool { return a.PreNorm != nil && !*a.PreNorm }

// affine says that norms have weights.
func (a *Arch) affine() bool { return a.NormAffine == nil || *a.NormAffine }

// FFNSize is the size of the hidden layer of the feed-forward map.
func (a *Arch) FFNSize() int {
	if a.family().gated {
		return a.Intermediate
	}
	return a.FFNDim
}

// EmbedSize is the width of the embedding table.
func (a *Arch) EmbedSize() int {
	if a.EmbedDim > 0 {
		return a.EmbedDim
	}
	return a.HiddenSize
}

// NormEps is added to the variance inside norms.
func (a *Arch) NormEps() float64 {
	switch {
	case a.family().rms:
		return a.RMSNormEps
	case a.LayerNormEps != nil:
		return *a.LayerNormEps
	}
	return 1e-5
}

// EmbedScale multiplies embeddings (Vaswani et al. 2017, §3.4); Gemma alone has one other than 1.
func (a *Arch) EmbedScale() float64 {
	if a.family().scaled {
		return sqrt32(a.HiddenSize)
	}
	return 1
}

// Learned says that positions are rows of a table and not rotations.
func (a *Arch) Learned() bool { return a.family().learned && !a.Sinusoid }

// PosOffset is added to a position to find its row in a table of learned positions: OPT keeps two rows free.
func (a *Arch) PosOffset() int {
	if a.Sinusoid {
		return 0
	}
	return a.family().offset
}

// LayerPrefix returns the prefix of layer i of a base model's names.
func (a *Arch) LayerPrefix(i int) string { return fmt.Sprintf(a.family().names.layer, i) }

// EmbedPrefix is the prefix of the base's embedding names.
func (a *Arch) EmbedPrefix() string { return a.family().names.root }

// EmbedName is the name of the base's embedding table.
func (a *Arch) EmbedName() string { return a.EmbedPrefix() + a.family().names.embed + ".weight" }

// FinalName is the name of the base's norm behind its last layer, without ".weight".
func (a *Arch) FinalName() string { return a.family().names.final }
