package op

import (
	"fmt"

	"svae/kernels"
)

// Head is a vocabulary projection that Eager.Top chooses from without reading all of it: its weights W (V, D) in float32
// or bf16, its bias B (V) or none, its weights in int8, and how far those are off (2, V).
type Head struct {
	W, B, Q Mat
	Bounds  kernels.Buf
}

// NewHead rounds the weights w (V, D) of a projection, in host memory, to int8 and returns the head. b may be absent. It
// returns an error if a weight is not finite.
func NewHead(w, b Mat) (Head, error) {
	V, D := w.R, w.C
	q, scales, bounds := make([]int8, V*D), make([]float32, V), make([]float32, 2*V)
	row := make([]float32, D)
	for v := range V {
		if w.DType() == kernels.BF16 {
			kernels.WidenBF16(row, w.BF16()[v*D:(v+1)*D])
		} else {
			row = w.F32()[v*D : (v+1)*D]
		}
		if err := kernels.QuantizeInt8(q[v*D:(v+1)*D], scales[v:v+1], row, 1, D); err != nil {
			return Head{}, fmt.Errorf("op: row %d of the vocabulary head holds a NaN or an infinity", v)
		}
	}
	h := Head{W: w, B: b, Q: Mat{kernels.Int8Of(q, scales, D), V, D}, Bounds: kernels.Of(bounds)}
	kernels.HeadBounds(bounds, w.Buf, h.Q.Buf, V, D)
	return h, nil
}

// Top overwrites ids with the best token of each row of x (N, D): the arg max of Linear(x, h.W, h.B, None), the lowest id
// of equals. It returns the number of logits that had to be computed in full.
func (e *Eager) Top(ids []int32, x Mat, h *Head) (scored int) {
	if x.C != h.W.C || len(ids) != x.R {
		e.fail("op: %d best tokens wanted of rows (%d, %d) by a head of %d columns", len(ids), x.R, x.C, h.W.C)
		return 0
	}
	e.top = kernels.Top{IDs: ids, X: x.Buf, W: h.W.Buf, B: h.B.Buf, Q: h.Q.Buf, Bounds: h.Bounds, N: x.R, D: x.C, V: h.W.R}
	e.be.Top(&e.top)
	return e.top.Scored
}
