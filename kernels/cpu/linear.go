package cpu

import "svae/kernels"

// Linear is kernels.Backend's.
func (b *Backend) Linear(out, pre, x, w, bias kernels.Buf, act kernels.Act, N, I, O int) {
	kernels.CheckLen(out, N*O)
	kernels.CheckLen(x, N*I)
	kernels.CheckLen(w, O*I)
	if !bias.Absent() {
		kernels.CheckLen(bias, O)
	}
	r := result{c: out.F32(), ldc: O, bias: bias.F32(), act: act}
	if act.KeepsInput() && !pre.Absent() {
		kernels.CheckLen(pre, N*O)
		r.pre = pre.F32()
	}
	b.linear(r, x.F32(), w, N, I, O)
}

// linear computes x·wᵀ for weights of any type, packed or not.
func (b *Backend) linear(r result, x []float32, w kernels.Buf, N, I, O int) {
	if w.DType() == kernels.I8 {
		b.linearInt8(r, x, w, N, I, O)
		return
	}
	g := b.gemmOf(r, x, w, N, I, O)
	if 0 < N && N <= fewRows && I > 0 && O > 0 && (g.packed || g.h != nil) {
		b.pool.multiplyFew(g)
		return
	}
	b.pool.multiply(g)
}

// gemmOf returns the product x·wᵀ for float32 or bf16 weights, packed or not.
func (b *Backend) gemmOf(r result, x []float32, w kernels.Buf, N, I, O int) *gemm {
	g := gemms.Get().(*gemm)
	g.m, g.n, g.k = N, O, I
	g.a, g.rs, g.cs = x, I, 1
	g.ldb, g.bT, g.result = I, true, r
	p := b.packedOf(w, O, I)
	g.b, g.h, g.packed = p.f, p.h, p.f != nil || p.h != nil
	switch {
	case g.packed:
	case w.DType() == kernels.BF16:
		g.h = w.BF16()
	default:
		g.b = w.F32()
	}
	return g
}

// LinearBackwardX is kernels.Backend's.
func (b *Backend) LinearBackwardX(dX, dOut, w kernels.Buf, N, I, O int) {
	kernels.CheckLen(dX, N*I)
	kernels.CheckLen(dOut, N*O)
	kernels.CheckLen(w, O*I)
	g := gemms.Get().(*gemm)
	g.m, g.n, g.k = N, I, O
	g.a, g.rs, g.cs = dOut.F32(), O, 1
	g.b, g.ldb = w.F32(), I
	g.c, g.ldc = dX.F32(), I
	b.pool.multiply(g)
}

// LinearBackwardW is kernels.Backend's.
func (b *Backend) LinearBackwardW(dW, dOut, x kernels.Buf, N, I, O int) {
	kernels.CheckLen(dW, O*I)
	kernels.CheckLen(dOut, N*O)
	kernels.CheckLen(x, N*I)
	g := gemms.Get().(*gemm)
	g.m, g.n, g.k = O, I, N
	g.a, g.rs, g.cs = dOut.F32(), 1, O
	g.b, g.ldb = x.F32(), I
	g.c, g.ldc = dW.F32(), I
	b.pool.multiply(g)
}
