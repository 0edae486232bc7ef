package ref

import "svae/kernels"

func init() {
	kernels.Register("ref", func() (kernels.Backend, error) { return New(kernels.F32), nil })
}

// New returns the reference backend over elements of type dt.
func New(dt kernels.DType) kernels.Backend {
	if dt == kernels.F64 {
		return Backend[float64]{}
	}
	return Backend[float32]{}
}

// Backend is kernels.Backend over host slices of T. It holds nothing, so any number of goroutines may share it.
type Backend[T kernels.Float] struct{}

// Name returns "ref".
func (Backend[T]) Name() string { return "ref" }

// DType returns the element type that T stands for.
func (Backend[T]) DType() kernels.DType { return kernels.Of[T](nil).DType() }

// Alloc returns n zeros.
func (Backend[T]) Alloc(n int) kernels.Buf { return kernels.Of(make([]T, n)) }

// Upload copies all of src to the front of dst.
func (Backend[T]) Upload(dst kernels.Buf, src []float32) {
	kernels.CheckLen(dst, len(src))
	d := host[T](dst)
	for i, x := range src {
		d[i] = T(x)
	}
}

// Download fills dst from the front of src.
func (Backend[T]) Download(dst []float32, src kernels.Buf) {
	kernels.CheckLen(src, len(dst))
	s := host[T](src)
	for i := range dst {
		dst[i] = float32(s[i])
	}
}

// Zero overwrites x with zeros.
func (Backend[T]) Zero(x kernels.Buf) { clear(host[T](x)) }

// Copy copies all of src to the front of dst.
func (Backend[T]) Copy(dst, src kernels.Buf) {
	kernels.CheckLen(dst, src.Len())
	copy(host[T](dst), host[T](src))
}

// Pack does nothing: there is one layout.
func (Backend[T]) Pack(w kernels.Buf, O, I int) {}

// Unpack does nothing.
func (Backend[T]) Unpack(w kernels.Buf) {}

// Gather calls Gather, or GatherWeights for narrow ones.
func (Backend[T]) Gather(out, src kernels.Buf, idx []int32, lo, N, R, D int) {
	if src.DType().Narrow() {
		GatherWeights(host[T](out), src, idx, lo, N, R, D)
		return
	}
	Gather(host[T](out), host[T](src), idx, lo, N, R, D)
}

// ScatterAdd calls ScatterAdd.
func (Backend[T]) ScatterAdd(dSrc, dOut kernels.Buf, idx []int32, lo, N, R, D int) {
	ScatterAdd(host[T](dSrc), host[T](dOut), idx, lo, N, R, D)
}

// Linear calls Linear, or LinearWeights for narrow ones.
func (Backend[T]) Linear(out, pre, x, w, b kernels.Buf, act kernels.Act, N, I, O int) {
	if w.DType().Narrow() {
		LinearWeights(host[T](out), host[T](pre), host[T](x), w, host[T](b), act, N, I, O)
		return
	}
	Linear(host[T](out), host[T](pre), host[T](x), host[T](w), host[T](b), act, N, I, O)
}

// ActBackward calls ActBackward.
func (Backend[T]) ActBackward(dPre, dOut, saved kernels.Buf, act kernels.Act, n int) {
	ActBackward(host[T](dPre), host[T](dOut), host[T](saved), act, n)
}

// LinearBackwardX calls LinearBackwardX.
func (Backend[T]) LinearBackwardX(dX, dOut, w kernels.Buf, N, I, O int) {
	LinearBackwardX(host[T](dX), host[T](dOut), host[T](w), N, I, O)
}

// LinearBackwardW calls LinearBackwardW.
func (Backend[T]) LinearBackwardW(dW, dOut, x kernels.Buf, N, I, O int) {
	LinearBackwardW(host[T](dW), host[T](dOut), host[T](x), N, I, O)
}

// LinearBackwardB calls LinearBackwardB.
func (Backend[T]) LinearBackwardB(dB, dOut kernels.Buf, N, O int) {
	LinearBackwardB(host[T](dB), host[T](dOut), N, O)
}

// SwiGLU calls SwiGLU.
func (Backend[T]) SwiGLU(out, gate, up kernels.Buf, n int) {
	SwiGLU(host[T](out), host[T](gate), host[T](up), n)
}

// SwiGLUBackward calls SwiGLUBackward.
func (Backend[T]) SwiGLUBackward(dGate, dUp, dOut, gate, up kernels.Buf, n int) {
	SwiGLUBackward(host[T](dGate), host[T](dUp), host[T](dOut), host[T](gate), host[T](up), n)
}

// GeGLU calls GeGLU.
func (Backend[T]) GeGLU(out, gate, up kernels.Buf, n int) {
	GeGLU(host[T](out), host[T](gate), host[T](up), n)
}

// GeGLUBackward calls GeGLUBackward.
func (Backend[T]) GeGLUBackward(dGate, dUp, dOut, gate, up kernels.Buf, n int) {
	GeGLUBackward(host[T](dGate), host[T](dUp), host[T](dOut), host[T](gate), host[T](up), n)
}

// LayerNorm calls LayerNorm.
func (Backend[T]) LayerNorm(out, mean, rstd, x, w, b kernels.Buf, eps float64, N, D int) {
	LayerNorm(host[T](out), host[T](mean), host[T](rstd), host[T](x), host[T](w), host[T](b), eps, N, D)
}

// LayerNormBackward calls LayerNormBackward.
func (Backend[T]) LayerNormBackward(dX, dW, dB, dOut, x, w, mean, rstd kernels.Buf, N, D int) {
	LayerNormBackward(host[T](dX), host[T](dW), host[T](dB), host[T](dOut), host[T](x), host[T](w), host[T](mean),
		host[T](rstd), N, D)
}

// RMSNorm calls RMSNorm.
func (Backend[T]) RMSNorm(out, rstd, x, w kernels.Buf, eps float64, N, D int) {
	RMSNorm(host[T](out), host[T](rstd), host[T](x), host[T](w), eps, N, D)
}

// RMSNormBackward calls RMSNormBackward.
func (Backend[T]) RMSNormBackward(dX, dW, dOut, x, w, rstd kernels.Buf, N, D int) {
	RMSNormBackward(host[T](dX), host[T](dW), host[T](dOut), host[T](x), host[T](w), host[T](rstd), N, D)
}

// Rotary calls Rotary.
func (Backend[T]) Rotary(out, x kernels.Buf, pos []int32, freqs []float64, inverse bool, N, H, K int) {
	Rotary(host[T](out), host[T](x), pos, freqs, inverse, N, H, K)
}

// Attention calls Attention.
func (Backend[T]) Attention(a *kernels.Attention) { Attention[T](a) }

// AttentionBackward calls AttentionBackward.
func (Backend[T]) AttentionBackward(a *kernels.Attention) { AttentionBackward[T](a) }

// AttentionRanges calls AttentionRanges.
func (Backend[T]) AttentionRanges(a *kernels.Ranges) { AttentionRanges[T](a) }

// SegmentSum calls SegmentSum.
func (Backend[T]) SegmentSum(out, x kernels.Buf, at []int32, S, D int) {
	SegmentSum(host[T](out), host[T](x), at, S, D)
}

// SegmentAdd calls SegmentAdd.
func (Backend[T]) SegmentAdd(out, x, c kernels.Buf, at []int32, S, D int) {
	SegmentAdd(host[T](out), host[T](x), host[T](c), at, S, D)
}

// Add calls Add.
func (Backend[T]) Add(out, a, b kernels.Buf, n int) { Add(host[T](out), host[T](a), host[T](b), n) }

// AddScaled calls AddScaled.
func (Backend[T]) AddScaled(y kernels.Buf, alpha float64, x kernels.Buf, n int) {
	AddScaled(host[T](y), alpha, host[T](x), n)
}

// Scale calls Scale.
func (Backend[T]) Scale(y kernels.Buf, alpha float64, x kernels.Buf, n int) {
	Scale(host[T](y), alpha, host[T](x), n)
}

// Dropout calls Dropout.
func (Backend[T]) Dropout(out, x kernels.Buf, p float64, seed uint64, n int) {
	Dropout(host[T](out), host[T](x), p, seed, n)
}

// Noise calls Noise.
func (Backend[T]) Noise(out, x kernels.Buf, sigma float64, seed uint64, n int) {
	Noise(host[T](out), host[T](x), sigma, seed, n)
}

// Xent calls Xent.
func (Backend[T]) Xent(a *kernels.Xent) float64 { return Xent[T](a) }

// Top calls Top.
func (Backend[T]) Top(t *kernels.Top) { Top[T](t) }

// AdamW calls AdamW.
func (Backend[T]) AdamW(w, m, v, g kernels.Buf, p kernels.AdamW, n int) {
	AdamW(host[T](w), host[T](m), host[T](v), host[T](g), p, n)
}

// SumSquares calls SumSquares.
func (Backend[T]) SumSquares(x kernels.Buf, n int) float64 { return SumSquares(host[T](x), n) }

func host[T kernels.Float](b kernels.Buf) []T { return kernels.Host[T](b) }

// check panics unless every x holds at least n elements.
func check[T kernels.Float](n int, xs ...[]T) {
	for _, x := range xs {
		kernels.CheckLen(kernels.Of(x), n)
	}
}

// dot returns Σ a[i]·b[i].
func dot[T kernels.Float](a, b []T) (s T) {
	for i, x := range a {
		s += x * b[i]
	}
	return s
}

// axpy adds alpha·x to y.
func axpy[T kernels.Float](y []T, alpha T, x []T) {
	for i, v := range x {
		y[i] += alpha * v
	}
}
