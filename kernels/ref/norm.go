package ref

import (
	"math"

	"svae/kernels"
)

// LayerNorm overwrites out = (x - mean)·rstd·w + b row by row (Ba et al. 2016, §3), with rstd = 1/√(var + eps) of the
// biased variance. mean and rstd are kept for the backward pass unless nil.
//
//	out, x (N, D)    mean, rstd (N) or nil    w (D)    b (D) or nil
func LayerNorm[T kernels.Float](out, mean, rstd, x, w, b []T, eps float64, N, D int) {
	check(N*D, out, x)
	check(D, w)
	if b != nil {
		check(D, b)
	}
	checkKept(mean, N)
	checkKept(rstd, N)
	for n := range N {
		row, y := x[n*D:(n+1)*D], out[n*D:(n+1)*D]
		var m, v T
		for _, e := range row {
			m += e
		}
		m /= T(D)
		for _, e := range row {
			v += (e - m) * (e - m)
		}
		r := T(1 / math.Sqrt(float64(v/T(D))+eps))
		for d, e := range row {
			y[d] = (e - m) * r * w[d]
			if b != nil {
				y[d] += b[d]
			}
		}
		if mean != nil {
			mean[n] = m
		}
		if rstd != nil {
			rstd[n] = r
		}
	}
}

// LayerNormBackward overwrites the gradients of LayerNorm, each unless nil. With x̂ = (x - mean)·rstd and g = dOut·w,
//
//	dX = rstd·(g - avg(g) - x̂·avg(g·x̂))    dW = Σ dOut·x̂ over rows    dB = Σ dOut over rows
//
//	dX, dOut, x (N, D)    dW, dB, w (D)    mean, rstd (N), as kept by LayerNorm
func LayerNormBackward[T kernels.Float](dX, dW, dB, dOut, x, w, mean, rstd []T, N, D int) {
	check(N*D, dOut, x)
	check(D, w)
	check(N, mean, rstd)
	checkKept(dX, N*D)
	checkKept(dW, D)
	checkKept(dB, D)
	if dW != nil {
		clear(dW[:D])
	}
	if dB != nil {
		clear(dB[:D])
	}
	for n := range N {
		row, dy := x[n*D:(n+1)*D], dOut[n*D:(n+1)*D]
		m, r := mean[n], rstd[n]
		var avg, proj T
		for d, e := range row {
			g, xhat := dy[d]*w[d], (e-m)*r
			avg += g
			proj += g * xhat
			if dW != nil {
				dW[d] += dy[d] * xhat
			}
			if dB != nil {
				dB[d] += dy[d]
			}
		}
		avg, proj = avg/T(D), proj/T(D)
		if dX == nil {
			continue
		}
		for d, e := range row {
			dX[n*D+d] = r * (dy[d]*w[d] - avg - (e-m)*r*proj)
		}
	}
}

// RMSNorm overwrites out = x·rstd·w row by row, with rstd = 1/√(avg(x²) + eps) (Zhang & Sennrich 2019, eq. 4). rstd is
// kept for the backward pass unless nil.
//
//	out, x (N, D)    rstd (N) or nil    w (D)
func RMSNorm[T kernels.Float](out, rstd, x, w []T, eps float64, N, D int) {
	check(N*D, out, x)
	check(D, w)
	checkKept(rstd, N)
	for n := range N {
		row := x[n*D : (n+1)*D]
		r := T(1 / math.Sqrt(float64(dot(row, row)/T(D))+eps))
		for d, e := range row {
			out[n*D+d] = e * r * w[d]
		}
		if rstd != nil {
			rstd[n] = r
		}
	}
}

// RMSNormBackward overwrites the gradients of RMSNorm, each unless nil. With x̂ = x·rstd and g = dOut·w,
//
//	dX = rstd·(g - x̂·avg(g·x̂))    dW = Σ dOut·x̂ over rows
//
//	dX, dOut, x (N, D)    dW, w (D)    rstd (N), as kept by RMSNorm
func RMSNormBackward[T kernels.Float](dX, dW, dOut, x, w, rstd []T, N, D int) {
	check(N*D, dOut, x)
	check(D, w)
	check(N, rstd)
	checkKept(dX, N*D)
	checkKept(dW, D)
	if dW != nil {
		clear(dW[:D])
	}
	for n := range N {
		row, dy := x[n*D:(n+1)*D], dOut[n*D:(n+1)*D]
		r := rstd[n]
		var proj T
		for d, e := range row {
			proj += dy[d] * w[d] * e * r
			if dW != nil {
				dW[d] += dy[d] * e * r
			}
		}
		proj /= T(D)
		if dX == nil {
			continue
		}
		for d, e := range row {
			dX[n*D+d] = r * (dy[d]*w[d] - e*r*proj)
		}
	}
}

// checkKept panics if an optional operand is there and holds fewer than n elements.
func checkKept[T kernels.Float](x []T, n int) {
	if x != nil {
		check(n, x)
	}
}
