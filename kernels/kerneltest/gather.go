package kerneltest

import (
	"fmt"
	"math"

	"svae/kernels/ref"
)

// ids returns N numbers around the range [lo, lo+R), some outside it when lo > 0.
func ids(e *env, lo, N, R int) []int32 {
	idx := make([]int32, N)
	for i := range idx {
		idx[i] = int32(lo + e.IntN(R))
		if lo > 0 && e.IntN(3) == 0 {
			idx[i] = int32(e.IntN(2*lo + 2*R))
		}
	}
	return idx
}

func gather(lo, N, R, D int) func(*env) {
	return func(e *env) {
		out := e.inout("out", e.normal(N*D), tolCopy, nil)
		e.b.Gather(out, e.in("src", e.normal(R*D)), ids(e, lo, N, R), lo, N, R, D)
	}
}

func scatterAdd(lo, N, R, D int) func(*env) {
	return func(e *env) {
		sv, dv, idx := e.normal(R*D), e.normal(N*D), ids(e, lo, N, R)
		dSrc := e.inout("dSrc", sv, tolSum, func() []float64 {
			m := abs(sv)
			ref.ScatterAdd(m, abs(dv), idx, lo, N, R, D)
			return m
		})
		e.b.ScatterAdd(dSrc, e.in("dOut", dv), idx, lo, N, R, D)
	}
}

// gatherShapes calls f with a first id, N, R, D.
func gatherShapes(s *suite, f func(label string, lo, N, R, D int)) {
	for _, N := range rowCounts {
		for _, D := range widths {
			for _, r := range [][2]int{{0, 1}, {0, 9}, {5, 4}, {3, 1000}} {
				if lo, R := r[0], r[1]; !s.thin() {
					f(fmt.Sprintf("lo=%d N=%d R=%d D=%d", lo, N, R, D), lo, N, R, D)
				}
			}
		}
	}
	f("many", 2, 3000, 700, 10)
}

func testGather(s *suite) {
	gatherShapes(s, func(label string, lo, N, R, D int) { s.check("Gather "+label, gather(lo, N, R, D)) })
}

// testScatterAdd also checks the order: a float32 sum that depends on it must come out as by ascending rows.
func testScatterAdd(s *suite) {
	gatherShapes(s, func(label string, lo, N, R, D int) { s.check("ScatterAdd "+label, scatterAdd(lo, N, R, D)) })
	big := math.Exp2(60) // swallows 1 in either type
	dSrc := upload(s.b, []float64{0})
	s.b.ScatterAdd(dSrc, upload(s.b, []float64{1, big, -big, 3}), []int32{0, 0, 0, 0}, 0, 4, 1, 1)
	if got := download(s.b, dSrc)[0]; got != 3 {
		s.fail("ScatterAdd of 1, 2⁶⁰, -2⁶⁰, 3 = %v, want 3 by ascending rows", got)
	}
}

// testMemory checks the memory functions: zeros from Alloc, copies there and back, and slices.
func testMemory(s *suite) {
	for _, n := range lengths {
		if i := differ(download(s.b, s.b.Alloc(n)), make([]float64, n)); i >= 0 {
			s.fail("Alloc(%d): element %d is not zero", n, i)
		}
		e := newEnv(s.b, fmt.Sprint("memory", n), 0)
		v, u := e.normal(n+3), e.normal(n+3)
		a, b := upload(s.b, v), upload(s.b, u)
		s.b.Copy(b.Slice(1, n+1), a.Slice(2, n+2))
		copy(u[1:n+1], v[2:n+2])
		s.b.Zero(a.Slice(1, n+1))
		clear(v[1 : n+1])
		if i := differ(download(s.b, a), v); i >= 0 {
			s.fail("Zero of %d: element %d is %v, want %v", n, i, download(s.b, a)[i], v[i])
		}
		if i := differ(download(s.b, b), u); i >= 0 {
			s.fail("Copy of %d: element %d is %v, want %v", n, i, download(s.b, b)[i], u[i])
		}
	}
}
