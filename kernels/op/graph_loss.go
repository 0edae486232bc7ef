package op

import (
	"gorgonia.org/gorgonia"
	"gorgonia.org/tensor"
)

// Xent implements Set. The kernel computes the gradients together with the loss, since the logits are gone afterwards;
// the backward operations hand them on, scaled by the gradient that comes in.
func (g *Graph) Xent(x, w, b *node, t *Targets) *node {
	if g.err != nil {
		return nil
	}
	V, D := w.Shape()[0], cols(w)
	if cols(x) != D {
		return g.fail("op: head of %d columns applied to rows of %d", D, cols(x))
	}
	var nats, dX, dW, dB slot
	var gx, gw, gb value
	train, bias := !g.frozen[w], b != nil && !g.frozen[b]
	fw := &fused{name: "xent", fixed: []bool{false, !train}}
	if b != nil {
		fw.fixed = append(fw.fixed, !bias)
	}
	fw.run = func(in []value) value {
		var bb Mat
		if len(in) > 2 {
			bb = in[2].Mat
		}
		a := xentArgs(t, in[0].Mat, in[1].Mat, bb)
		if a == nil {
			g.fail("op: %d targets for %d rows", len(t.IDs), in[0].R)
			return value{}
		}
		a.Nats = nats.buf(g, a.N)
		gx = dX.mat(g, a.N, D)
		a.DX = gx.Buf
		if train {
			gw = dW.mat(g, V, D)
			a.DW = gw.Buf
		}
		if bias {
			gb = dB.vec(g, V)
			a.DB = gb.Buf
		}
		t.Loss = g.be.Xent(a)
		download(g.be, t, a.Nats)
		return value{s: t.Loss}
	}
	fw.grad = func(in gorgonia.Nodes, loss, dLoss *node) []*node {
		grads := []*node{g.scaled("xent.dx", matShape(D), &gx, loss, dLoss)}
		if train {
			grads = append(grads, g.scaled("xent.dw", tensor.Shape{V, D}, &gw, loss, dLoss))
		} else {
			grads = append(grads, nil)
		}
		if len(in) > 2 {
			if bias {
				grads = append(grads, g.scaled("xent.db", tensor.Shape{V}, &gb, loss, dLoss))
			} else {
				grads = append(grads, nil)
			}
		}
		return grads
	}
	if b == nil {
		return g.apply(fw, x, w)
	}
	return g.apply(fw, x, w, b)
}

// scaled multiplies what the loss has left in v by the gradient of the loss, in place.
func (g *Graph) scaled(name string, out tensor.Shape, v *value, loss, dLoss *node) *node {
	return g.apply(&fused{name: name, out: out, run: func(in []value) value {
		if in[1].s != 1 {
			g.be.Scale(v.Buf, in[1].s, v.Buf, v.R*v.C)
		}
		return *v
	}}, loss, dLoss)
}

// Sum implements Set.
func (g *Graph) Sum(weights []float64, losses ...*node) *node {
	if g.err != nil {
		return nil
	}
	fw := &fused{name: "sum"}
	fw.run = func(in []value) value {
		var s float64
		for i, v := range in {
			s += weights[i] * v.s
		}
		return value{s: s}
	}
	fw.grad = func(in gorgonia.Nodes, _, dOut *node) []*node {
		grads := make([]*node, len(in))
		for i := range in {
			grads[i] = g.apply(&fused{name: "sum.back", run: func(bw []value) value { return value{s: weights[i] * bw[0].s} }}, dOut)
		}
		return grads
	}
	return g.apply(fw, losses...)
}
