package vae

import (
	"math"

	"svae/kernels"
	"svae/kernels/op"
)

// lin is a linear map; B may be absent.
type lin[X comparable] struct{ W, B X }

// Norm is LayerNorm or RMSNorm, by the base's family; W absent means no norm.
type Norm[X comparable] struct {
	W, B  X
	rms   bool
	shift float64 // added to W of RMSNorm
	eps   float64
}

// Apply normalises rows x (N, D), or with W (K) each head of rows x (N, H·K).
func (n Norm[X]) Apply(o op.Set[X], x X) X {
	var none X
	switch {
	case n.W == none:
		return x
	case n.rms:
		return o.RMSNorm(x, n.W, n.shift, n.eps)
	}
	return o.LayerNorm(x, n.W, n.B, n.eps)
}

// Block is one transformer layer of the base's family: self-attention, optionally cross-attention to the latents of a
// sentence, and the feed-forward map, each with its residual sum.
type Block[X comparable] struct {
	arch             *Arch
	freqs            []float64
	norm1, norm2     Norm[X]
	normX            Norm[X] // of the cross-attention
	normQ, normK     Norm[X] // of the heads of queries and keys; absent but in Qwen3
	q, k, v, out     lin[X]
	xq, xk, xv, xout lin[X] // cross-attention; xv.W absent without one
	up, gate, down   lin[X] // gate.W absent without one
}

// BlockConfig says where a block's weights come from.
type BlockConfig struct {
	Prefix  string // of its names, with the final dot
	Base    string // prefix of the base's layer that it copies at the start; "" for none
	Latents int    // latents that it attends to in cross-attention; 0 for no cross-attention
	// QK keeps the query and key maps of a cross-attention over one latent, and the norm before them, which have no
	// effect, because the reference's files hold them.
	QK bool
}

// NewBlock walks the weights of one layer.
func NewBlock[X comparable](a *Arch, c BlockConfig, get Build[X]) Block[X] {
	w, f := walker[X]{a, c, get}, a.family()
	n := f.names
	qkv, out, mlp := a.biases()
	b := Block[X]{arch: a}
	D, E := a.HiddenSize, a.NumHeads*a.HeadDim
	KE, F := a.NumKVHeads*a.HeadDim, a.FFNSize()
	if !f.learned {
		b.freqs = a.freqs()
	}
	b.norm1 = w.norm(n.norm1, D, true)
	b.q, b.k, b.v = w.lin(n.q, E, D, 1, qkv), w.lin(n.k, KE, D, 1, qkv), w.lin(n.v, KE, D, 1, qkv)
	if f.qkNorm {
		b.normQ, b.normK = w.norm(n.qNorm, a.HeadDim, true), w.norm(n.kNorm, a.HeadDim, true)
	}
	b.out = w.lin(n.out, D, E, residual, out)
	b.norm2 = w.norm(n.norm2, D, true)
	if f.gated {
		b.gate = w.lin(n.gate, F, D, 1, mlp)
	}
	b.up, b.down = w.lin(n.up, F, D, 1, mlp), w.lin(n.down, D, F, residual, mlp)
	if c.Latents > 0 {
		if c.Latents > 1 || c.QK {
			b.xq, b.xk = w.cross("q_proj", 1), w.cross("k_proj", 1)
		}
		b.xv = w.cross("v_proj", 1)
		b.xout = w.cross("out_proj", 0) // starts at zero: a new residual branch
		if c.Latents > 1 || a.postNorm() || c.QK {
			b.normX = w.norm("cross_attn_layer_norm", D, false)
		}
	}
	return b
}

// residual scales the start of maps that write into the residual stream.
const residual = 0.4

// walker asks for the weights of one block.
type walker[X comparable] struct {
	a   *Arch
	c   BlockConfig
	get Build[X]
}

func (w walker[X]) weight(name string, std, one float64, base bool, shape ...int) X {
	d := Weight{Name: w.c.Prefix + name, Shape: shape, Std: std, One: one, New: !base || w.c.Base == ""}
	if base && w.c.Base != "" {
		d.Base = w.c.Base + name
	}
	return w.get(d)
}

func (w walker[X]) lin(name string, out, in int, gain float64, bias bool) lin[X] {
	std := 0.8 * gain / math.Sqrt(float64(in))
	l := lin[X]{W: w.weight(name+".weight", std, 0, true, out, in)}
	if bias {
		l.B = w.weight(name+".bias", 0, 0, true, out)
	}
	return l
}

// cross is a map of the cross-attention: with a bias in every family, never from the base.
func (w walker[X]) cross(name string, gain float64) lin[X] {
	D := w.a.HiddenSize
	return lin[X]{
		W: w.weight("cross_attn."+name+".weight", gain/math.Sqrt(float64(D)), 0, false, D, D),
		B: w.weight("cross_attn."+name+".bias", 0, 0, false, D),
	}
}

func (w walker[X]) norm(name string, d int, base bool) Norm[X] {
	t := Weight{Name: w.c.Prefix + name, New: !base || w.c.Base == ""}
	if base && w.c.Base != "" {
		t.Base = w.c.Base + name
	}
	return newNorm(w.a, d, t, w.get)
}

// newNorm walks the weights of a norm of d columns of the base's family, whose names begin as t's do.
func newNorm[X comparable](a *Arch, d int, t Weight, get Build[X]) Norm[X] {
	f := a.family()
	part := func(name string, one float64) X {
		w := t
		w.Name, w.Shape, w.One = t.Name+name, []int{d}, one
		if t.Base != "" {
			w.Base = t.Base + name
		}
		return get(w)
	}
	n := Norm[X]{rms: f.rms, shift: f.shift, eps: a.NormEps()}
	if !a.affine() {
		t.Const = ones
	}
	if n.W = part(".weight", 1-f.shift); !f.rms && a.affine() {
		n.B = part(".bias", 0)
	}
	return n
}

func ones(v []float32) {
	for i := range v {
		v[i] = 1
	}
}

// Seq is the geometry of rows that attend to one another.
type Seq struct {
	Pos   op.Ints       // position of each row, plus Arch.PosOffset
	Spans kernels.Spans // what each row sees
}

// Memory is what the rows of a decoder know of the sentence: its latents. The parts that depend on the layer but not
// on the row are computed once and kept.
type Memory[X comparable] struct {
	Latents X              // (S·K, D)
	At      *op.Ints       // K = 1: offsets of each sentence's rows
	Spans   *kernels.Spans // K > 1: latents that each sentence's rows see

	layer []layerMemory[X]
}

type layerMemory[X comparable] struct{ c, k, v X }

// Past computes the self-attention of a layer for a caller that keeps keys and values between passes: queries q (N, H·K)
// attend to what is kept and to the new rows k, v (N, KV·K), which are kept from then on. Training has none: rows attend
// to one another, as seq says.
type Past[X comparable] func(layer int, q, k, v X, seq *Seq, h op.Heads) X

// Apply runs the block over rows x (N, D). mem is nil without cross-attention, past nil without a cache; layer counts
// the blocks of one stack from 0.
func (b *Block[X]) Apply(o op.Set[X], x X, seq *Seq, mem *Memory[X], past Past[X], layer int) X {
	post := b.arch.postNorm()
	sum := func(x, y X, n Norm[X]) X {
		if p := b.arch.Dropout; p > 0 {
			y = o.Dropout(y, p)
		}
		if s := o.Add(x, y); post {
			return n.Apply(o, s)
		} else {
			return s
		}
	}
	pre := func(n Norm[X], x X) X {
		if post {
			return x
		}
		return n.Apply(o, x)
	}
	x = sum(x, b.selfAttention(o, pre(b.norm1, x), seq, past, layer), b.norm1)
	var none X
	if b.xv.W != none && mem != nil {
		x = b.crossAttention(o, x, mem, layer)
	}
	h := pre(b.norm2, x)
	if b.gate.W != none {
		gate, up := linear2(o, h, b.gate, b.up)
		if b.arch.silu() {
			h = o.SwiGLU(gate, up)
		} else {
			h = o.GeGLU(gate, up)
		}
	} else {
		h = o.Linear(h, b.up.W, b.up.B, b.arch.act())
	}
	return sum(x, o.Linear(h, b.down.W, b.down.B, kernels.None), b.norm2)
}

func (b *Block[X]) selfAttention(o op.Set[X], x X, seq *Seq, past Past[X], layer int) X {
	q, k, v := linear3(o, x, b.q, b.k, b.v)
	q, k = b.normQ.Apply(o, q), b.normK.Apply(o, k)
	if b.freqs != nil {
		q, k = o.Rotary(q, &seq.Pos, b.freqs), o.Rotary(k, &seq.Pos, b.freqs)
	}
	var a X
	if h := b.arch.heads(b.arch.NumKVHeads); past != nil {
		a = past(layer, q, k, v, seq, h)
	} else {
		a = o.Attention(q, k, v, &seq.Spans, h)
	}
	return o.Linear(a, b.out.W, b.out.B, kernels.None)
}

// linear2 applies two maps to the same rows.
func linear2[X comparable](o op.Set[X], x X, a, b lin[X]) (X, X) {
	if j, ok := o.(op.Joint[X]); ok {
		return j.Linear2(x, a.W, a.B, b.W, b.B)
	}
	return o.Linear(x, a.W, a.B, kernels.None), o.Linear(x, b.W, b.B, kernels.None)
}

// linear3 applies three maps to the same rows.
func linear3[X comparable](o op.Set[X], x X, a, b, c lin[X]) (X, X, X) {
	if j, ok := o.(op.Joint[X]); ok {
		return j.Linear3(x, a.W, a.B, b.W, b.B, c.W, c.B)
	}
	return o.Linear(x, a.W, a.B, kernels.None), o.Linear(x, b.W, b.B, kernels.None), o.Linear(x, c.W, c.B, kernels.None)
}

func (a *Arch) heads(kv int) op.Heads {
	return op.Heads{Query: a.NumHeads, KV: kv, Size: a.HeadDim, Scale: 1 / math.Sqrt(float64(a.HeadDim))}
}

// prepare computes the part of a memory that depends on the layer but not on the row. Over one latent the softmax is 1,
// so that cross-attention is a constant of the sentence, W_o(W_v·z + b_v) + b_o.
func (b *Block[X]) prepare(o op.Set[X], mem *Memory[X], layer int) layerMemory[X] {
	for len(mem.layer) <= layer {
		mem.layer = append(mem.layer, layerMemory[X]{})
	}
	m := &mem.layer[layer]
	var none X
	switch {
	case m.c != none || m.k != none:
	case mem.Spans == nil:
		m.c = o.Linear(o.Linear(mem.Latents, b.xv.W, b.xv.B, kernels.None), b.xout.W, b.xout.B, kernels.None)
	default:
		m.k = o.Linear(mem.Latents, b.xk.W, b.xk.B, kernels.None)
		m.v = o.Linear(mem.Latents, b.xv.W, b.xv.B, kernels.None)
	}
	return *m
}

// crossAttention adds what the rows read from the latents of their sentence.
func (b *Block[X]) crossAttention(o op.Set[X], x X, mem *Memory[X], layer int) X {
	m, post := b.prepare(o, mem, layer), b.arch.postNorm()
	var y X
	if mem.Spans == nil {
		y = o.SegmentAdd(x, m.c, mem.At)
	} else {
		h := x
		if !post {
			h = b.normX.Apply(o, x)
		}
		size := b.arch.HiddenSize / b.arch.NumHeads
		q := o.Linear(h, b.xq.W, b.xq.B, kernels.None)
		a := o.Attention(q, m.k, m.v, mem.Spans, op.Heads{Query: b.arch.NumHeads, KV: b.arch.NumHeads,
			Size: size, Scale: 1 / math.Sqrt(float64(size))})
		y = o.Add(x, o.Linear(a, b.xout.W, b.xout.B, kernels.None))
	}
	if post {
		y = b.normX.Apply(o, y)
	}
	return y
}
