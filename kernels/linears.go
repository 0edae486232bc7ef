package kernels

// LinearMap is one of several linear maps of the same rows: Out = X·Wᵀ + B.
//
//	Out (N, O)    W (O, I)    B (O) or absent
type LinearMap struct {
	Out, W, B Buf
	O         int
}

// Joint is a Backend that computes several linear maps of the same rows together. The results are those of Linear without
// an activation, to the bit; for few rows, whose time goes into reading weights, it is faster.
type Joint interface {
	// Linears overwrites the Out of every map of x (N, I).
	Linears(maps []LinearMap, x Buf, N, I int)
}
