package op

import (
	"gorgonia.org/gorgonia"
	"gorgonia.org/tensor"

	"svae/kernels"
)

type node = gorgonia.Node

var _ Set[*node] = (*Graph)(nil)

// Gather implements Set.
func (g *Graph) Gather(idx *Ints, from ...*node) *node {
	if g.err != nil {
		return nil
	}
	d := cols(from[0])
	var out slot
	rows := make([]int, len(from)) // of each source in the last run
	fw := &fused{name: "gather", out: matShape(d)}
	fw.run = func(in []value) value {
		o := out.mat(g, len(idx.V), d)
		lo := 0
		for i, f := range in {
			g.be.Gather(o.Buf, f.Buf, idx.V, lo, o.R, f.R, d)
			rows[i] = f.R
			lo += f.R
		}
		if i := outside(idx.V, lo); i >= 0 {
			g.fail("op: gather: index %d at %d is outside 0..%d", idx.V[i], i, lo-1)
		}
		return o
	}
	fw.grad = func(in gorgonia.Nodes, _, dOut *node) []*node {
		grads := make([]*node, len(in))
		for k := range in {
			var dx slot
			grads[k] = g.apply(&fused{name: "gather.back", out: in[k].Shape(), run: func(bw []value) value {
				lo := 0
				for _, r := range rows[:k] {
					lo += r
				}
				o := dx.mat(g, rows[k], d)
				g.be.Zero(o.Buf)
				g.be.ScatterAdd(o.Buf, bw[0].Buf, idx.V, lo, bw[0].R, rows[k], d)
				return o
			}}, dOut)
		}
		return grads
	}
	return g.apply(fw, from...)
}

// Linear implements Set. The gradients of x, w and b are operations of their own, so that what a frozen weight does
// not need is never computed.
func (g *Graph) Linear(x, w, b *node, act kernels.Act) *node {
	if g.err != nil {
		return nil
	}
	O, I := w.Shape()[0], cols(w)
	if cols(x) != I {
		return g.fail("op: linear map of %d columns applied to rows of %d", I, cols(x))
	}
	var out, pre, dPre, dX, dW, dB slot
	var saved kernels.Buf // what the activation's gradient needs
	fw := &fused{name: "linear", out: matShape(O)}
	fw.run = func(in []value) value {
		o := out.mat(g, in[0].R, O)
		var bias, p kernels.Buf
		if len(in) > 2 {
			bias = in[2].Buf
		}
		saved = o.Buf
		if act.KeepsInput() {
			p = pre.buf(g, o.R*O)
			saved = p
		}
		g.be.Linear(o.Buf, p, in[0].Buf, in[1].Buf, bias, act, o.R, I, O)
		return o
	}
	fw.grad = func(in gorgonia.Nodes, out, dOut *node) []*node {
		d := dOut
		if act != kernels.None {
			d = g.apply(&fused{name: "act.back", out: matShape(O), run: func(bw []value) value {
				o := dPre.mat(g, bw[0].R, O)
				g.be.ActBackward(o.Buf, bw[0].Buf, saved, act, o.R*O)
				return o
			}}, dOut, out)
		}
		grads := []*node{
			g.apply(&fused{name: "linear.dx", out: matShape(I), run: func(bw []value) value {
				o := dX.mat(g, bw[0].R, I)
				g.be.LinearBackwardX(o.Buf, bw[0].Buf, bw[1].Buf, o.R, I, O)
				return o
			}}, d, in[1]),
			g.apply(&fused{name: "linear.dw", out: tensor.Shape{O, I}, run: func(bw []value) value {
				o := dW.mat(g, O, I)
				g.be.LinearBackwardW(o.Buf, bw[0].Buf, bw[1].Buf, bw[0].R, I, O)
				return o
			}}, d, in[0])}
		if len(in) > 2 {
			grads = append(grads, g.apply(&fused{name: "linear.db", out: tensor.Shape{O}, run: func(bw []value) value {
				o := dB.vec(g, O)
				g.be.LinearBackwardB(o.Buf, bw[0].Buf, bw[0].R, O)
				return o
			}}, d))
		}
		return grads
	}
	if b == nil {
		return g.apply(fw, x, w)
	}
	return g.apply(fw, x, w, b)
}

// SwiGLU implements Set.
func (g *Graph) SwiGLU(gate, up *node) *node {
	return g.gated("swiglu", gate, up, g.be.SwiGLU, g.be.SwiGLUBackward)
}

// GeGLU implements Set.
func (g *Graph) GeGLU(gate, up *node) *node {
	return g.gated("geglu", gate, up, g.be.GeGLU, g.be.GeGLUBackward)
}

func (g *Graph) gated(name string, gate, up *node, forward func(out, gate, up kernels.Buf, n int),
	backward func(dGate, dUp, dOut, gate, up kernels.Buf, n int)) *node {
	if g.err != nil {
		return nil
	}
	f := cols(gate)
	var out, dGate, dUp slot
	var du value
	fw := &fused{name: name, out: matShape(f)}
	fw.run = func(in []value) value {
		o := out.mat(g, in[0].R, f)
		forward(o.Buf, in[0].Buf, in[1].Buf, o.R*f)
		return o
	}
	fw.grad = func(in gorgonia.Nodes, _, dOut *node) []*node {
		dg := g.apply(&fused{name: name + ".back", out: matShape(f), run: func(bw []value) value {
			o := dGate.mat(g, bw[0].R, f)
			du = dUp.mat(g, bw[0].R, f)
			backward(o.Buf, du.Buf, bw[0].Buf, bw[1].Buf, bw[2].Buf, o.R*f)
			return o
		}}, dOut, in[0], in[1])
		return []*node{dg, g.pick(name+".up", matShape(f), &du, dg)}
	}
	return g.apply(fw, gate, up)
}

// Rotary implements Set.
func (g *Graph) Rotary(x *node, pos *Ints, freqs []float64) *node {
	if g.err != nil {
		return nil
	}
	c, k := cols(x), 2*len(freqs)
	turn := func(name string, s *slot, inverse bool) *fused {
		return &fused{name: name, out: matShape(c), run: func(in []value) value {
			o := s.mat(g, in[0].R, c)
			g.be.Rotary(o.Buf, in[0].Buf, pos.V, freqs, inverse, o.R, c/k, k)
			return o
		}}
	}
	var out, dX slot
	fw := turn("rotary", &out, false)
	fw.grad = func(_ gorgonia.Nodes, _, dOut *node) []*node {
		return []*node{g.apply(turn("rotary.back", &dX, true), dOut)}
	}
	return g.apply(fw, x)
}

// Attention implements Set.
func (g *Graph) Attention(q, k, v *node, spans *kernels.Spans, h Heads) *node {
	if g.err != nil {
		return nil
	}
	var out, lse, dq, dk, dv slot
	args := func(q, k, v value) kernels.Attention {
		return kernels.Attention{Q: q.Buf, K: k.Buf, V: v.Buf, Lse: lse.buf(g, q.R*h.Query), Spans: spans,
			N: q.R, M: k.R, H: h.Query, KV: h.KV, HeadDim: h.Size, Scale: h.Scale}
	}
	fw := &fused{name: "attention", out: matShape(cols(q))}
	fw.run = func(in []value) value {
		o := out.mat(g, in[0].R, in[0].C)
		a := args(in[0], in[1], in[2])
		a.Out = o.Buf
		g.be.Attention(&a)
		return o
	}
	fw.grad = func(in gorgonia.Nodes, out, dOut *node) []*node {
		var gk, gv value
		d := g.apply(&fused{name: "attention.back", out: matShape(cols(q)), run: func(bw []value) value {
			o := dq.mat(g, bw[2].R, bw[2].C)
			gk, gv = dk.mat(g, bw[3].R, bw[3].C), dv.mat(g, bw[4].R, bw[4].C)
			a := args(bw[2], bw[3], bw[4])
			a.DOut, a.Out, a.DQ, a.DK, a.DV = bw[0].Buf, bw[1].Buf, o.Buf, gk.Buf, gv.Buf
			g.be.AttentionBackward(&a)
			return o
		}}, dOut, out, in[0], in[1], in[2])
		return []*node{d, g.pick("attention.dk", matShape(cols(k)), &gk, d), g.pick("attention.dv", matShape(cols(v)), &gv, d)}
	}
	return g.apply(fw, q, k, v)
}

// SegmentSum implements Set.
func (g *Graph) SegmentSum(x *node, at *Ints) *node {
	if g.err != nil {
		return nil
	}
	var out, dX slot
	d := cols(x)
	fw := g.segmentSum(&out, at, d)
	fw.grad = func(_ gorgonia.Nodes, _, dOut *node) []*node {
		return []*node{g.apply(&fused{name: "segment.spread", out: matShape(d), run: func(bw []value) value {
			o := dX.mat(g, int(at.V[len(at.V)-1]), d)
			g.be.SegmentAdd(o.Buf, kernels.Buf{}, bw[0].Buf, at.V, bw[0].R, d)
			return o
		}}, dOut)}
	}
	return g.apply(fw, x)
}

func (g *Graph) segmentSum(out *slot, at *Ints, d int) *fused {
	return &fused{name: "segment.sum", out: matShape(d), run: func(in []value) value {
		o := out.mat(g, len(at.V)-1, d)
		g.be.SegmentSum(o.Buf, in[0].Buf, at.V, o.R, d)
		return o
	}}
}

// SegmentAdd implements Set.
func (g *Graph) SegmentAdd(x, c *node, at *Ints) *node {
	if g.err != nil {
		return nil
	}
	var out, dC slot
	d := cols(x)
	fw := &fused{name: "segment.add", out: matShape(d)}
	fw.run = func(in []value) value {
		o := out.mat(g, in[0].R, d)
		g.be.SegmentAdd(o.Buf, in[0].Buf, in[1].Buf, at.V, in[1].R, d)
		return o
	}
	fw.grad = func(_ gorgonia.Nodes, _, dOut *node) []*node {
		return []*node{dOut, g.apply(g.segmentSum(&dC, at, d), dOut)}
	}
	return g.apply(fw, x, c)
}

// Add implements Set.
func (g *Graph) Add(a, b *node) *node {
	if g.err != nil {
		return nil
	}
	var out slot
	fw := &fused{name: "add", out: matShape(cols(a))}
	fw.run = func(in []value) value {
		o := out.mat(g, in[0].R, in[0].C)
		g.be.Add(o.Buf, in[0].Buf, in[1].Buf, o.R*o.C)
		return o
	}
	fw.grad = func(_ gorgonia.Nodes, _, dOut *node) []*node { return []*node{dOut, dOut} }
	return g.apply(fw, a, b)
}

// Scale implements Set.
func (g *Graph) Scale(x *node, by float64) *node {
	if g.err != nil {
		return nil
	}
	var out, dX slot
	d := cols(x)
	times := func(name string, s *slot) *fused {
		return &fused{name: name, out: matShape(d), run: func(in []value) value {
			o := s.mat(g, in[0].R, d)
			g.be.Scale(o.Buf, by, in[0].Buf, o.R*d)
			return o
		}}
	}
	fw := times("scale", &out)
	fw.grad = func(_ gorgonia.Nodes, _, dOut *node) []*node {
		return []*node{g.apply(times("scale.back", &dX), dOut)}
	}
	return g.apply(fw, x)
}

// Dropout implements Set.
func (g *Graph) Dropout(x *node, p float64) *node {
	if g.err != nil || p == 0 {
		return x
	}
	var out, dX slot
	d := cols(x)
	g.ids++
	salt := g.ids
	drop := func(name string, s *slot) *fused {
		return &fused{name: name, out: matShape(d), run: func(in []value) value {
			o := s.mat(g, in[0].R, d)
			g.be.Dropout(o.Buf, in[0].Buf, p, mix(g.seed, salt), o.R*d)
			return o
		}}
	}
	fw := drop("dropout", &out)
	fw.grad = func(_ gorgonia.Nodes, _, dOut *node) []*node {
		return []*node{g.apply(drop("dropout.back", &dX), dOut)}
	}
	return g.apply(fw, x)
}

// Noise implements Set.
func (g *Graph) Noise(x *node, sigma float64) *node {
	if g.err != nil || sigma == 0 {
		return x
	}
	var out slot
	d := cols(x)
	g.ids++
	salt := g.ids
	fw := &fused{name: "noise", out: matShape(d)}
	fw.run = func(in []value) value {
		o := out.mat(g, in[0].R, d)
		g.be.Noise(o.Buf, in[0].Buf, sigma, mix(g.seed, salt), o.R*d)
		return o
	}
	fw.grad = func(_ gorgonia.Nodes, _, dOut *node) []*node { return []*node{dOut} }
	return g.apply(fw, x)
}

// mix makes one seed of two numbers (the finaliser of splitmix64).
func mix(a, b uint64) uint64 {
	z := a + b*0x9e3779b97f4a7c15
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}
