package ref

import "svae/kernels"

// Linear overwrites out = act(x·wᵀ + b). With a GELU and pre not nil, pre keeps x·wᵀ + b for ActBackward.
//
//	out, pre (N, O)    x (N, I)    w (O, I)    b (O) or nil
func Linear[T kernels.Float](out, pre, x, w, b []T, act kernels.Act, N, I, O int) {
	check(N*O, out)
	check(N*I, x)
	check(O*I, w)
	if b != nil {
		check(O, b)
	}
	keep := pre != nil && act.KeepsInput()
	if keep {
		check(N*O, pre)
	}
	for n := range N {
		for o := range O {
			s := dot(x[n*I:(n+1)*I], w[o*I:(o+1)*I])
			if b != nil {
				s += b[o]
			}
			if keep {
				pre[n*O+o] = s
			}
			out[n*O+o] = activate(s, act)
		}
	}
}

// LinearBackwardX overwrites dX = dOut·w.
//
//	dX (N, I)    dOut (N, O)    w (O, I)
func LinearBackwardX[T kernels.Float](dX, dOut, w []T, N, I, O int) {
	check(N*I, dX)
	check(N*O, dOut)
	check(O*I, w)
	clear(dX[:N*I])
	for n := range N {
		for o := range O {
			axpy(dX[n*I:(n+1)*I], dOut[n*O+o], w[o*I:(o+1)*I])
		}
	}
}

// LinearBackwardW overwrites dW = dOutᵀ·x.
//
//	dW (O, I)    dOut (N, O)    x (N, I)
func LinearBackwardW[T kernels.Float](dW, dOut, x []T, N, I, O int) {
	check(O*I, dW)
	check(N*O, dOut)
	check(N*I, x)
	clear(dW[:O*I])
	for n := range N {
		for o := range O {
			axpy(dW[o*I:(o+1)*I], dOut[n*O+o], x[n*I:(n+1)*I])
		}
	}
}

// LinearBackwardB overwrites dB with the column sums of dOut.
//
//	dB (O)    dOut (N, O)
func LinearBackwardB[T kernels.Float](dB, dOut []T, N, O int) {
	check(O, dB)
	check(N*O, dOut)
	clear(dB[:O])
	for n := range N {
		axpy(dB, 1, dOut[n*O:(n+1)*O])
	}
}
