package kerneltest

import (
	"fmt"

	"svae/kernels"
	"svae/kernels/ref"
)

var acts = []kernels.Act{kernels.None, kernels.ReLU, kernels.GELU, kernels.GELUTanh}

// linearCall is one Linear, with or without a bias, a kept input of the activation, and packed weights.
func linearCall(N, I, O int, act kernels.Act, bias, keep, pack bool) func(*env) {
	return func(e *env) {
		xv, wv := e.normal(N*I), e.normal(O*I)
		x, w := e.in("x", xv), e.in("w", wv)
		var bv []float64
		var b, pre kernels.Buf
		if bias {
			bv = e.normal(O)
			b = e.in("b", bv)
		}
		mag := func() []float64 {
			m := make([]float64, N*O)
			ref.Linear(m, nil, abs(xv), abs(wv), abs(bv), kernels.None, N, I, O)
			return m
		}
		out := e.out("out", N*O, tolSum, mag)
		if keep {
			pre = e.out("pre", N*O, tolSum, mag)
		}
		if pack {
			e.b.Pack(w, O, I)
			defer e.b.Unpack(w)
		}
		e.b.Linear(out, pre, x, w, b, act, N, I, O)
	}
}

// linearShapes calls f with N, I, O: every row count against every width, every pair of widths at the edges of a
// microkernel, and sizes past the blocks of a cache.
func linearShapes(s *suite, f func(i, N, I, O int)) {
	n := 0
	each := func(N, I, O int) {
		if n++; !s.thin() {
			f(n, N, I, O)
		}
	}
	for _, N := range rowCounts {
		for j, I := range widths {
			each(N, I, widths[(3*j+N)%len(widths)])
		}
	}
	for _, N := range []int{1, 6, 13} {
		for _, I := range widths {
			for _, O := range widths {
				each(N, I, O)
			}
		}
	}
	for _, d := range [][3]int{{1, 2050, 33}, {7, 1025, 70}, {33, 513, 130}, {130, 300, 150}, {257, 70, 49}, {4, 0, 3}} {
		f(1, d[0], d[1], d[2])
	}
}

func testLinear(s *suite) {
	linearShapes(s, func(i, N, I, O int) {
		act, bias := acts[i/2%len(acts)], i%2 == 0
		keep := act.KeepsInput() && i%3 > 0
		label := fmt.Sprintf("Linear N=%d I=%d O=%d act=%d bias=%t keep=%t", N, I, O, act, bias, keep)
		s.check(label, linearCall(N, I, O, act, bias, keep, false))
		s.check(label+" packed", linearCall(N, I, O, act, bias, keep, true))
	})
}

func linearBackwardX(N, I, O int) func(*env) {
	return func(e *env) {
		dv, wv := e.normal(N*O), e.normal(O*I)
		dX := e.out("dX", N*I, tolSum, func() []float64 {
			m := make([]float64, N*I)
			ref.LinearBackwardX(m, abs(dv), abs(wv), N, I, O)
			return m
		})
		e.b.LinearBackwardX(dX, e.in("dOut", dv), e.in("w", wv), N, I, O)
	}
}

func linearBackwardW(N, I, O int) func(*env) {
	return func(e *env) {
		dv, xv := e.normal(N*O), e.normal(N*I)
		dW := e.out("dW", O*I, tolSum, func() []float64 {
			m := make([]float64, O*I)
			ref.LinearBackwardW(m, abs(dv), abs(xv), N, I, O)
			return m
		})
		e.b.LinearBackwardW(dW, e.in("dOut", dv), e.in("x", xv), N, I, O)
	}
}

func linearBackwardB(N, O int) func(*env) {
	return func(e *env) {
		dv := e.normal(N * O)
		dB := e.out("dB", O, tolSum, func() []float64 {
			m := make([]float64, O)
			ref.LinearBackwardB(m, abs(dv), N, O)
			return m
		})
		e.b.LinearBackwardB(dB, e.in("dOut", dv), N, O)
	}
}

func testLinearBackward(s *suite) {
	linearShapes(s, func(_, N, I, O int) {
		label := fmt.Sprintf("N=%d I=%d O=%d", N, I, O)
		s.check("LinearBackwardX "+label, linearBackwardX(N, I, O))
		s.check("LinearBackwardW "+label, linearBackwardW(N, I, O))
		s.check("LinearBackwardB "+label, linearBackwardB(N, O))
	})
	// The summed dimension of the weights' gradient is the rows: let there be many.
	s.check("LinearBackwardW N=1030", linearBackwardW(1030, 17, 9))
	s.check("LinearBackwardB N=1030", linearBackwardB(1030, 9))
}

// testPack checks that a packed weight gives the same bits as the plain one, whatever the number of rows, in the
// forward pass and in LinearBackwardX, and that nothing of it is left after Unpack.
func testPack(s *suite) {
	for _, d := range [][2]int{{1, 1}, {3, 17}, {64, 31}, {100, 64}, {1025, 33}} {
		I, O := d[0], d[1]
		for _, N := range []int{1, 2, 3, 4, 5, 7, 8, 9, 33} {
			label := fmt.Sprintf("N=%d I=%d O=%d", N, I, O)
			e := newEnv(s.b, label, 0)
			x, dOut := upload(s.b, e.normal(N*I)), upload(s.b, e.normal(N*O))
			w, other := upload(s.b, e.normal(O*I)), upload(s.b, e.normal(O*I))
			both := func() []float64 {
				out, dX := s.b.Alloc(N*O), s.b.Alloc(N*I)
				s.b.Linear(out, kernels.Buf{}, x, w, kernels.Buf{}, kernels.None, N, I, O)
				s.b.LinearBackwardX(dX, dOut, w, N, I, O)
				return append(download(s.b, out), download(s.b, dX)...)
			}
			plain := both()
			s.b.Pack(w, O, I)
			s.b.Pack(other, O, I)
			if i := differ(plain, both()); i >= 0 {
				s.fail("%s: element %d differs after Pack", label, i)
			}
			s.b.Unpack(w)
			s.b.Copy(w, other)
			fresh := both()
			if N > 0 && differ(plain, fresh) < 0 {
				s.fail("%s: the old weights are still used after Unpack", label)
			}
			s.b.Pack(w, O, I)
			if i := differ(fresh, both()); i >= 0 {
				s.fail("%s: element %d differs after the second Pack", label, i)
			}
			s.b.Unpack(w)
			s.b.Unpack(other)
		}
	}
}
