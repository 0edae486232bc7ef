package ref

import (
	"math"

	"svae/kernels"
)

// Attention overwrites a.Out and, unless absent, a.Lse with scaled dot-product attention (Vaswani et al. 2017, §3.2.1)
// of every query over the keys that a.Spans lets it see. With s[j] = Scale·(q·k[j]),
//
//	Out = Σ softmax(s)[j]·v[j]    Lse = ln Σ exp(s[j])
//
// A query that sees no key gets zeros and Lse = -Inf, the logarithm of an empty sum.
func Attention[T kernels.Float](a *kernels.Attention) {
	checkAttention(a)
	kernels.CheckLen(a.Out, a.N*a.H*a.HeadDim)
	if !a.Lse.Absent() {
		kernels.CheckLen(a.Lse, a.N*a.H)
	}
	K := a.HeadDim
	q, k, v := host[T](a.Q), host[T](a.K), host[T](a.V)
	out, lse := host[T](a.Out), host[T](a.Lse)
	s := make([]T, 0, a.M)
	visit(a, func(n, h, lo, hi int) {
		qh, oh := q[(n*a.H+h)*K:][:K], out[(n*a.H+h)*K:][:K]
		s = s[:hi-lo]
		best := math.Inf(-1)
		for j := range s {
			s[j] = T(a.Scale) * dot(qh, k[keyAt(a, lo+j, h):][:K])
			best = max(best, float64(s[j]))
		}
		var sum T
		for j := range s {
			s[j] = T(math.Exp(float64(s[j]) - best))
			sum += s[j]
		}
		clear(oh)
		for j, p := range s {
			axpy(oh, p/sum, v[keyAt(a, lo+j, h):][:K])
		}
		if lse != nil {
			lse[n*a.H+h] = T(best + math.Log(float64(sum)))
		}
	})
}

// AttentionBackward overwrites a.DQ, a.DK and a.DV. It recomputes the probabilities P from the kept Lse (Dao et al.
// 2022, appendix B.2):
//
//	dV[j] = Σ P·dOut    dS = P·(dOut·v[j] - dOut·Out)    dQ = Scale·Σ dS·k[j]    dK[j] = Scale·Σ dS·q
//
// Sums over queries run by ascending row, then head. Keys that several segments read get the sum over all of them.
func AttentionBackward[T kernels.Float](a *kernels.Attention) {
	checkAttention(a)
	K := a.HeadDim
	for _, b := range []kernels.Buf{a.Out, a.DOut, a.DQ} {
		kernels.CheckLen(b, a.N*a.H*K)
	}
	kernels.CheckLen(a.DK, a.M*a.KV*K)
	kernels.CheckLen(a.DV, a.M*a.KV*K)
	kernels.CheckLen(a.Lse, a.N*a.H)
	q, k, v := host[T](a.Q), host[T](a.K), host[T](a.V)
	out, dOut, lse := host[T](a.Out), host[T](a.DOut), host[T](a.Lse)
	dQ, dK, dV := host[T](a.DQ), host[T](a.DK), host[T](a.DV)
	clear(dQ[:a.N*a.H*K])
	clear(dK[:a.M*a.KV*K])
	clear(dV[:a.M*a.KV*K])
	scale := T(a.Scale)
	visit(a, func(n, h, lo, hi int) {
		at := (n*a.H + h) * K
		qh, dqh, doh := q[at:][:K], dQ[at:][:K], dOut[at:][:K]
		delta := dot(doh, out[at:][:K])
		for j := lo; j < hi; j++ {
			kat := keyAt(a, j, h)
			kj, vj := k[kat:][:K], v[kat:][:K]
			p := T(math.Exp(float64(scale*dot(qh, kj)) - float64(lse[n*a.H+h])))
			ds := scale * p * (dot(doh, vj) - delta)
			axpy(dV[kat:][:K], p, doh)
			axpy(dqh, ds, kj)
			axpy(dK[kat:][:K], ds, qh)
		}
	})
}

// visit calls f for every query row n and head h, in ascending order, with the key rows lo to hi-1 that it sees.
func visit(a *kernels.Attention, f func(n, h, lo, hi int)) {
	sp := a.Spans
	for s := range sp.KLo {
		lo, hi := int(sp.KLo[s]), int(sp.KHi[s])
		first, last := int(sp.Q[s]), int(sp.Q[s+1])
		for n := first; n < last; n++ {
			end := hi
			if sp.Causal {
				end = hi - (last - 1 - n)
			}
			for h := range a.H {
				f(n, h, lo, end)
			}
		}
	}
}

// keyAt returns where the key (or value) that query head h reads in row j begins.
func keyAt(a *kernels.Attention, j, h int) int { return (j*a.KV + h/(a.H/a.KV)) * a.HeadDim }

// checkAttention panics unless the operands that both passes read have their sizes.
func checkAttention(a *kernels.Attention) {
	if a.KV <= 0 || a.H%a.KV != 0 {
		panic(kernels.BadHeads)
	}
	kernels.CheckSpans(a.Spans, a.N, a.M)
	kernels.CheckLen(a.Q, a.N*a.H*a.HeadDim)
	kernels.CheckLen(a.K, a.M*a.KV*a.HeadDim)
	kernels.CheckLen(a.V, a.M*a.KV*a.HeadDim)
}
