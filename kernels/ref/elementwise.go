package ref

import "svae/kernels"

// Add overwrites out = a + b. out may be a or b.
//
//	out, a, b (n)
func Add[T kernels.Float](out, a, b []T, n int) {
	check(n, out, a, b)
	for i := range n {
		out[i] = a[i] + b[i]
	}
}

// AddScaled adds alpha·x to y.
//
//	y, x (n)
func AddScaled[T kernels.Float](y []T, alpha float64, x []T, n int) {
	check(n, y, x)
	axpy(y, T(alpha), x[:n])
}

// Scale overwrites y = alpha·x. y may be x.
//
//	y, x (n)
func Scale[T kernels.Float](y []T, alpha float64, x []T, n int) {
	check(n, y, x)
	for i := range n {
		y[i] = T(alpha) * x[i]
	}
}

// SumSquares returns Σ x², accumulated in float64.
//
//	x (n)
func SumSquares[T kernels.Float](x []T, n int) float64 {
	check(n, x)
	var s float64
	for _, e := range x[:n] {
		s += float64(e) * float64(e)
	}
	return s
}
