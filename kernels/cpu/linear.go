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
	g := gemms.Get().(*gemm)
	if act.KeepsInput() && !pre.Absent() {
		kernels.CheckLen(pre, N*O)
		g.pre = pre.F32()
	}
	g.m, g.n, g.k = N, O, I
	g.a, g.rs, g.cs = x.F32(), I, 1
	g.b, g.ldb, g.bT = w.F32(), I, true
	if p := b.panelsOf(g.b, O, I); p != nil {
		g.b, g.packed = p, true
	}
	g.c, g.ldc = out.F32(), O
	g.bias, g.act = bias.F32(), act
	b.pool.multiply(g)
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
