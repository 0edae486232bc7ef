package ref

import "svae/kernels"

// Gather copies rows: out[i] = src[idx[i]-lo] for every i with lo <= idx[i] < lo+R. Other rows of out are kept, so that
// two tables that share one range of ids fill one output.
//
//	out (N, D)    src (R, D)    idx (N)
func Gather[T kernels.Float](out, src []T, idx []int32, lo, N, R, D int) {
	check(N*D, out)
	check(R*D, src)
	checkIndex(len(idx), N)
	for i := range N {
		if r := int(idx[i]) - lo; 0 <= r && r < R {
			copy(out[i*D:(i+1)*D], src[r*D:(r+1)*D])
		}
	}
}

// ScatterAdd is the backward pass of Gather. It adds rows, in ascending order of i: dSrc[idx[i]-lo] += dOut[i] for every
// i with lo <= idx[i] < lo+R.
//
//	dSrc (R, D)    dOut (N, D)    idx (N)
func ScatterAdd[T kernels.Float](dSrc, dOut []T, idx []int32, lo, N, R, D int) {
	check(R*D, dSrc)
	check(N*D, dOut)
	checkIndex(len(idx), N)
	for i := range N {
		if r := int(idx[i]) - lo; 0 <= r && r < R {
			axpy(dSrc[r*D:(r+1)*D], 1, dOut[i*D:(i+1)*D])
		}
	}
}

// checkIndex panics unless a slice that is not a Buf holds at least n elements.
func checkIndex(have, n int) {
	if have < n {
		panic(kernels.ShortIndex)
	}
}
