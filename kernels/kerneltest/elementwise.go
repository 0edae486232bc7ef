package kerneltest

import (
	"fmt"
	"math"

	"svae/kernels"
	"svae/kernels/ref"
)

func add(n int) func(*env) {
	return func(e *env) {
		out := e.out("out", n, tolOne, nil)
		e.b.Add(out, e.in("a", e.normal(n)), e.in("b", e.normal(n)), n)
	}
}

func addScaled(n int) func(*env) {
	return func(e *env) {
		yv, xv := e.normal(n), e.normal(n)
		y := e.inout("y", yv, tolOne, func() []float64 {
			m := abs(yv)
			ref.AddScaled(m, 0.3, abs(xv), n)
			return m
		})
		e.b.AddScaled(y, -0.3, e.in("x", xv), n)
	}
}

func scale(n int) func(*env) {
	return func(e *env) {
		xv := e.normal(n)
		e.b.Scale(e.out("y", n, tolOne, func() []float64 { return abs(xv) }), 0.3, e.in("x", xv), n)
	}
}

func testElementwise(s *suite) {
	for _, n := range lengths {
		label := fmt.Sprintf(" n=%d", n)
		s.check("Add"+label, add(n))
		s.check("AddScaled"+label, addScaled(n))
		s.check("Scale"+label, scale(n))
	}
}

// peer returns the reference in the backend's own type.
func (s *suite) peer() kernels.Backend { return ref.New(s.b.DType()) }

func dropout(p float64, seed uint64, n int) func(*env) {
	return func(e *env) {
		e.b.Dropout(e.out("out", n, tolOne, nil), e.in("x", e.normal(n)), p, seed, n)
	}
}

// testDropout checks that the same elements fall as in the reference, with the same values, about p of them.
func testDropout(s *suite) {
	for _, n := range lengths {
		for _, p := range []float64{0, 0.1, 0.5, 0.9} {
			label := fmt.Sprintf("Dropout p=%v n=%d", p, n)
			s.check(label, dropout(p, 7, n))
			got, want := s.run(s.b, label, 0, dropout(p, 7, n)), s.run(s.peer(), label, 0, dropout(p, 7, n))
			for i, x := range want.operands[0].got {
				if y := got.operands[0].got[i]; x != y {
					s.fail("%s: out[%d] = %v, want exactly %v", label, i, y, x)
					break
				}
			}
		}
	}
	const n, p = 20000, 0.3
	ones := make([]float64, n)
	for i := range ones {
		ones[i] = 1
	}
	kept := func(seed uint64) (at []float64, count float64) {
		out := s.b.Alloc(n)
		s.b.Dropout(out, upload(s.b, ones), p, seed, n)
		for _, x := range download(s.b, out) {
			at = append(at, min(x, 1))
			count += min(x, 1)
		}
		return at, count
	}
	a, count := kept(1)
	if d := count - n*(1-p); math.Abs(d) > 4*math.Sqrt(n*p*(1-p)) {
		s.fail("Dropout kept %v of %d, want about %v", count, n, n*(1-p))
	}
	b, _ := kept(2)
	both := 0.0
	for i := range a {
		both += a[i] * b[i]
	}
	if d := both - n*(1-p)*(1-p); math.Abs(d) > 4*math.Sqrt(n*0.25) {
		s.fail("Dropout kept %v of %d under both of two seeds, want about %v", both, n, n*(1-p)*(1-p))
	}
	out := s.b.Alloc(n)
	s.b.Dropout(out, upload(s.b, ones), 1, 1, n)
	if i := differ(download(s.b, out), make([]float64, n)); i >= 0 {
		s.fail("Dropout p=1: element %d is kept", i)
	}
}

func noise(sigma float64, seed uint64, n int) func(*env) {
	return func(e *env) {
		xv := e.normal(n)
		e.b.Noise(e.out("out", n, tolOne, func() []float64 {
			m := make([]float64, n)
			for i := range m {
				m[i] = math.Abs(xv[i]) + sigma*math.Abs(ref.Normal(seed, i))
			}
			return m
		}), e.in("x", xv), sigma, seed, n)
	}
}

// testNoise compares with the reference and checks the first two moments of what it drew.
func testNoise(s *suite) {
	for _, n := range lengths {
		s.check(fmt.Sprintf("Noise n=%d", n), noise(0.7, 3, n))
	}
	const n, sigma = 20000, 2
	out := s.b.Alloc(n)
	s.b.Noise(out, s.b.Alloc(n), sigma, 5, n)
	var sum, squares float64
	for _, x := range download(s.b, out) {
		sum += x
		squares += x * x
	}
	if mean := sum / n; math.Abs(mean) > 4*sigma/math.Sqrt(n) {
		s.fail("Noise has mean %v, want about 0", mean)
	}
	if v := squares / n / sigma / sigma; math.Abs(v-1) > 4*math.Sqrt(2.0/n) {
		s.fail("Noise has variance %v sigma², want about 1", v)
	}
}
