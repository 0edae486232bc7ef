package op

import (
	"gorgonia.org/gorgonia"
	"gorgonia.org/tensor"

	"svae/kernels"
)

// LayerNorm implements Set.
func (g *Graph) LayerNorm(x, w, b *node, eps float64) *node {
	if g.err != nil {
		return nil
	}
	D := cols(w)
	var out, mean, rstd, dX, dW, dB slot
	fw := &fused{name: "norm", out: matShape(D)}
	fw.run = func(in []value) value {
		n := in[0].R
		o := out.mat(g, n, D)
		var bias kernels.Buf
		if len(in) > 2 {
			bias = in[2].Buf
		}
		g.be.LayerNorm(o.Buf, mean.buf(g, n), rstd.buf(g, n), in[0].Buf, in[1].Buf, bias, eps, n, D)
		return o
	}
	fw.grad = func(in gorgonia.Nodes, _, dOut *node) []*node {
		var gw, gb value
		dx := g.apply(&fused{name: "norm.back", out: matShape(D), run: func(bw []value) value {
			n := bw[0].R
			o := dX.mat(g, n, D)
			gw, gb = dW.vec(g, D), dB.vec(g, D)
			g.be.LayerNormBackward(o.Buf, gw.Buf, gb.Buf, bw[0].Buf, bw[1].Buf, bw[2].Buf, mean.buf(g, n), rstd.buf(g, n), n, D)
			return o
		}}, dOut, in[0], in[1])
		grads := []*node{dx, g.pick("norm.dw", tensor.Shape{D}, &gw, dx)}
		if len(in) > 2 {
			grads = append(grads, g.pick("norm.db", tensor.Shape{D}, &gb, dx))
		}
		return grads
	}
	if b == nil {
		return g.apply(fw, x, w)
	}
	return g.apply(fw, x, w, b)
}

// RMSNorm implements Set. A row of H groups of K columns is to the kernel H rows of K.
func (g *Graph) RMSNorm(x, w *node, shift, eps float64) *node {
	if g.err != nil {
		return nil
	}
	D, K := cols(x), cols(w)
	if D%K != 0 {
		return g.fail("op: norm of %d columns applied to rows of %d", K, D)
	}
	var out, rstd, shifted, dX, dW slot
	var ones constant
	weight := func(w value) kernels.Buf {
		if shift == 0 {
			return w.Buf
		}
		s := shifted.buf(g, K)
		ones.fill(g.be, K, float32(shift))
		g.be.Add(s, w.Buf, ones.buf, K)
		return s
	}
	fw := &fused{name: "rmsnorm", out: matShape(D)}
	fw.run = func(in []value) value {
		o := out.mat(g, in[0].R, D)
		n := o.R * (D / K)
		g.be.RMSNorm(o.Buf, rstd.buf(g, n), in[0].Buf, weight(in[1]), eps, n, K)
		return o
	}
	fw.grad = func(in gorgonia.Nodes, _, dOut *node) []*node {
		var gw value
		dx := g.apply(&fused{name: "rmsnorm.back", out: matShape(D), run: func(bw []value) value {
			o := dX.mat(g, bw[0].R, D)
			n := o.R * (D / K)
			gw = dW.vec(g, K)
			g.be.RMSNormBackward(o.Buf, gw.Buf, bw[0].Buf, bw[1].Buf, weight(bw[2]), rstd.buf(g, n), n, K)
			return o
		}}, dOut, in[0], in[1])
		return []*node{dx, g.pick("rmsnorm.dw", tensor.Shape{K}, &gw, dx)}
	}
	return g.apply(fw, x, w)
}
