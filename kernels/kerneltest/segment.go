package kerneltest

import (
	"fmt"

	"svae/kernels"
	"svae/kernels/ref"
)

// offsets returns S+1 row numbers from first on, with empty segments among them.
func offsets(e *env, first, S, longest int) []int32 {
	at := make([]int32, S+1)
	at[0] = int32(first)
	for i := range S {
		at[i+1] = at[i]
		if e.IntN(4) > 0 {
			at[i+1] += e.Int32N(int32(longest) + 1)
		}
	}
	return at
}

func segmentSum(first, S, longest, D int) func(*env) {
	return func(e *env) {
		at := offsets(e, first, S, longest)
		xv := e.normal(int(at[S]) * D)
		out := e.out("out", S*D, tolSum, func() []float64 {
			m := make([]float64, S*D)
			ref.SegmentSum(m, abs(xv), at, S, D)
			return m
		})
		e.b.SegmentSum(out, e.in("x", xv), at, S, D)
	}
}

func segmentAdd(S, longest, D int, spread bool) func(*env) {
	return func(e *env) {
		at := offsets(e, 0, S, longest)
		N := int(at[S])
		cv := e.normal(S * D)
		var x kernels.Buf
		var xv []float64
		if !spread {
			xv = e.normal(N * D)
			x = e.in("x", xv)
		}
		out := e.out("out", N*D, tolOne, func() []float64 {
			m := make([]float64, N*D)
			ref.SegmentAdd(m, abs(xv), abs(cv), at, S, D)
			return m
		})
		e.b.SegmentAdd(out, x, e.in("c", cv), at, S, D)
	}
}

func testSegments(s *suite) {
	for _, S := range rowCounts {
		for _, D := range widths {
			label := fmt.Sprintf("S=%d D=%d", S, D)
			if !s.thin() {
				s.check("SegmentSum "+label, segmentSum(S%3, S, 9, D))
				s.check("SegmentAdd "+label, segmentAdd(S, 9, D, false))
				s.check("SegmentAdd spread "+label, segmentAdd(S, 9, D, true))
			}
		}
	}
	s.check("SegmentSum long", segmentSum(0, 3, 1500, 17))
}
