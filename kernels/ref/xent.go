package ref

import (
	"math"

	"svae/kernels"
)

// Xent computes the logits z = X·Wᵀ + B of one row at a time, the row's nats = -ln p with p = softmax(z)[target], its
// best token and its loss, and returns the sum of the losses. The loss is (1-p)^Gamma·nats (Lin et al. 2017, eq. 4),
// plain nats for Gamma = 0. Its gradient in the logits is
//
//	dz[j] = f·(softmax(z)[j] - [j = target])    f = (1-p)^Gamma - Gamma·p·(1-p)^(Gamma-1)·ln p
//
// from which DX = dz·W, DW = dzᵀ·X and DB = Σ dz, each overwritten unless absent. A row with a negative target is not
// scored: its nats, loss and gradient are 0. See kernels.Xent for the shapes.
func Xent[T kernels.Float](a *kernels.Xent) (loss float64) {
	CheckXent(a)
	x, b := host[T](a.X), host[T](a.B)
	var w []T
	narrow := a.W.DType().Narrow()
	if !narrow {
		w = host[T](a.W)
	}
	nats, dX, dW, dB := host[T](a.Nats), host[T](a.DX), host[T](a.DW), host[T](a.DB)
	D := a.D
	if dX != nil {
		clear(dX[:a.N*D])
	}
	if dW != nil {
		clear(dW[:a.V*D])
	}
	if dB != nil {
		clear(dB[:a.V])
	}
	z := make([]T, a.V)
	for n := range a.N {
		row, target := x[n*D:(n+1)*D], int(a.Targets[n])
		if !narrow {
			Linear(z, nil, row, w, b, kernels.None, 1, D, a.V)
		} else {
			LinearWeights(z, nil, row, a.W, b, kernels.None, 1, D, a.V)
		}
		best, lse := logSumExp(z)
		if a.Top != nil {
			a.Top[n] = int32(best)
		}
		if target < 0 {
			nats[n] = 0
			continue
		}
		rowNats := lse - float64(z[target])
		nats[n] = T(rowNats)
		rowLoss, f := Focal(rowNats, a.Gamma)
		loss += rowLoss
		if dX == nil && dW == nil && dB == nil {
			continue
		}
		for j := range z {
			p := math.Exp(float64(z[j]) - lse)
			if j == target {
				p = math.Expm1(-rowNats) // p - 1
			}
			z[j] = T(f * p)
		}
		for j, dz := range z {
			if dX != nil {
				axpy(dX[n*D:(n+1)*D], dz, w[j*D:(j+1)*D])
			}
			if dW != nil {
				axpy(dW[j*D:(j+1)*D], dz, row)
			}
			if dB != nil {
				dB[j] += dz
			}
		}
	}
	return loss
}

// Focal returns the loss of a row and the factor f of its gradient. With q = 1-p, the factor is q^gamma·(1 + gamma·p·r)
// for r = nats/q, which goes to 1 as p does; written so, nothing is raised to a negative power.
func Focal(nats, gamma float64) (loss, f float64) {
	if gamma == 0 {
		return nats, 1
	}
	p, q, r := math.Exp(-nats), -math.Expm1(-nats), 1.0
	if q > 0 {
		r = nats / q
	}
	weight := math.Pow(q, gamma)
	if p == 0 { // r may be infinite
		return weight * nats, weight
	}
	return weight * nats, weight * (1 + gamma*p*r)
}

// logSumExp returns the index of the largest element, the lowest of equals, and ln Σ exp(z[j]), at least every z[j].
func logSumExp[T kernels.Float](z []T) (best int, lse float64) {
	for j := range z {
		if z[j] > z[best] {
			best = j
		}
	}
	top := float64(z[best])
	var sum T
	for _, e := range z {
		sum += T(math.Exp(float64(e) - top))
	}
	return best, top + math.Log(float64(sum))
}

// CheckXent panics unless every operand has its size and every target is a token or negative, and if there are
// gradients through narrow weights.
func CheckXent(a *kernels.Xent) {
	if a.W.DType().Narrow() && !(a.DX.Absent() && a.DW.Absent() && a.DB.Absent()) {
		panic(kernels.NarrowWeights)
	}
	kernels.CheckLen(a.Nats, a.N)
	kernels.CheckLen(a.X, a.N*a.D)
	kernels.CheckLen(a.W, a.V*a.D)
	for _, o := range []struct {
		b kernels.Buf
		n int
	}{{a.B, a.V}, {a.DX, a.N * a.D}, {a.DW, a.V * a.D}, {a.DB, a.V}} {
		if !o.b.Absent() {
			kernels.CheckLen(o.b, o.n)
		}
	}
	checkIndex(len(a.Targets), a.N)
	if a.Top != nil {
		checkIndex(len(a.Top), a.N)
	}
	for _, t := range a.Targets[:a.N] {
		if int(t) >= a.V {
			panic(kernels.BadTarget)
		}
	}
}
