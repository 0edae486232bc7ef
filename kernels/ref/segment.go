package ref

import "svae/kernels"

// SegmentSum overwrites out[s] = Σ x[i] for at[s] <= i < at[s+1], in ascending order. An empty segment gets zeros.
//
//	out (S, D)    x (at[S], D)    at (S+1)
func SegmentSum[T kernels.Float](out, x []T, at []int32, S, D int) {
	checkOffsets(at, S)
	check(S*D, out)
	check(int(at[S])*D, x)
	for s := range S {
		sum := out[s*D : (s+1)*D]
		clear(sum)
		for i := int(at[s]); i < int(at[s+1]); i++ {
			axpy(sum, 1, x[i*D:(i+1)*D])
		}
	}
}

// SegmentAdd overwrites out[i] = x[i] + c[s] for the segment s of row i. With x nil it spreads c alone, which is the
// backward pass of SegmentSum.
//
//	out (N, D)    x (N, D) or nil    c (S, D)    at (S+1), at[0] = 0, at[S] = N
func SegmentAdd[T kernels.Float](out, x, c []T, at []int32, S, D int) {
	checkOffsets(at, S)
	if at[0] != 0 {
		panic(kernels.BadIndex)
	}
	check(int(at[S])*D, out)
	checkKept(x, int(at[S])*D)
	check(S*D, c)
	for s := range S {
		for i := int(at[s]); i < int(at[s+1]); i++ {
			for d := range D {
				y := c[s*D+d]
				if x != nil {
					y = x[i*D+d] + y
				}
				out[i*D+d] = y
			}
		}
	}
}

// checkOffsets panics unless at holds S+1 row numbers in order.
func checkOffsets(at []int32, S int) {
	checkIndex(len(at), S+1)
	for s, row := range at[:S+1] {
		if row < 0 || s > 0 && row < at[s-1] {
			panic(kernels.BadIndex)
		}
	}
}
