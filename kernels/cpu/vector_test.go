package cpu

import (
	"math"
	"math/rand/v2"
	"testing"
)

const guard = 12345

// inGuards copies x into the middle of a longer slice, at any alignment, and returns it and the whole.
func inGuards(r *rand.Rand, x []float32) (inner, whole []float32) {
	at := 8 + r.IntN(8)
	whole = make([]float32, at+len(x)+8)
	for i := range whole {
		whole[i] = guard
	}
	inner = whole[at : at+len(x)]
	copy(inner, x)
	return inner, whole
}

// checkGuards fails if anything but n elements in the middle of whole, from at on, changed.
func checkGuards(t *testing.T, name string, inner, whole []float32) {
	t.Helper()
	at := len(whole) - len(inner) - 8
	for i, v := range whole {
		if (i < at || i >= at+len(inner)) && v != guard {
			t.Fatalf("%s wrote beside its output, at %d of %d", name, i-at, len(inner))
		}
	}
}

// TestVectors compares every element-wise function with its loop, over lengths and alignments, and one element at a time
// with itself: its value may not depend on where the element stands.
func TestVectors(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for _, f := range []struct {
		name         string
		outs, ins    int
		tol          float64
		fast, simple func(o, i [][]float32)
	}{
		{"add", 1, 2, 0, func(o, i [][]float32) { add(o[0], i[0], i[1]) }, func(o, i [][]float32) { addGo(o[0], i[0], i[1]) }},
		{"mulAdd", 1, 1, 1e-6, func(o, i [][]float32) { mulAdd(o[0], i[0], 0.7) }, func(o, i [][]float32) { mulAddGo(o[0], i[0], 0.7) }},
		{"scale", 1, 1, 0, func(o, i [][]float32) { scale(o[0], i[0], 0.7) }, func(o, i [][]float32) { scaleGo(o[0], i[0], 0.7) }},
		{"relu", 1, 1, 0, func(o, i [][]float32) { relu(o[0], i[0]) }, func(o, i [][]float32) { reluGo(o[0], i[0]) }},
		{"reluBack", 1, 2, 0, func(o, i [][]float32) { reluBack(o[0], i[0], i[1]) },
			func(o, i [][]float32) { reluBackGo(o[0], i[0], i[1]) }},
		{"gelu", 1, 1, 1e-6, func(o, i [][]float32) { gelu(o[0], i[0]) }, func(o, i [][]float32) { geluGo(o[0], i[0]) }},
		{"geluBack", 1, 2, 1e-6, func(o, i [][]float32) { geluBack(o[0], i[0], i[1]) },
			func(o, i [][]float32) { geluBackGo(o[0], i[0], i[1]) }},
		{"geluTanh", 1, 1, 1e-6, func(o, i [][]float32) { geluTanh(o[0], i[0]) }, func(o, i [][]float32) { geluTanhGo(o[0], i[0]) }},
		{"geluTanhBack", 1, 2, 1e-6, func(o, i [][]float32) { geluTanhBack(o[0], i[0], i[1]) },
			func(o, i [][]float32) { geluTanhBackGo(o[0], i[0], i[1]) }},
		{"geglu", 1, 2, 1e-6, func(o, i [][]float32) { geglu(o[0], i[0], i[1]) },
			func(o, i [][]float32) { gegluGo(o[0], i[0], i[1]) }},
		{"gegluBack", 2, 3, 1e-6, func(o, i [][]float32) { gegluBack(o[0], o[1], i[0], i[1], i[2]) },
			func(o, i [][]float32) { gegluBackGo(o[0], o[1], i[0], i[1], i[2]) }},
		{"swiglu", 1, 2, 1e-6, func(o, i [][]float32) { swiglu(o[0], i[0], i[1]) },
			func(o, i [][]float32) { swigluGo(o[0], i[0], i[1]) }},
		{"swigluBack", 2, 3, 1e-6, func(o, i [][]float32) { swigluBack(o[0], o[1], i[0], i[1], i[2]) },
			func(o, i [][]float32) { swigluBackGo(o[0], o[1], i[0], i[1], i[2]) }},
		{"normBackX", 1, 3, 1e-6, func(o, i [][]float32) { normBackX(o[0], i[0], i[1], i[2], 0.1, 1.3, 0.2, 0.3) },
			func(o, i [][]float32) { normBackXGo(o[0], i[0], i[1], i[2], 0.1, 1.3, 0.2, 0.3) }},
		{"normBackW", 1, 2, 1e-6, func(o, i [][]float32) { normBackW(o[0], i[0], i[1], 0.1, 1.3) },
			func(o, i [][]float32) { normBackWGo(o[0], i[0], i[1], 0.1, 1.3) }},
		{"slope", 1, 1, 1e-6, func(o, i [][]float32) { slope(i[0], o[0], 0.4, 0.7) },
			func(o, i [][]float32) { slopeGo(i[0], o[0], 0.4, 0.7) }},
		{"turn", 2, 4, 1e-6, func(o, i [][]float32) { turn(o[0], o[1], i[0], i[1], i[2], i[3]) },
			func(o, i [][]float32) { turnGo(o[0], o[1], i[0], i[1], i[2], i[3]) }},
		{"adamw", 3, 1, 1e-6, func(o, i [][]float32) { adamw(o[0], o[1], o[2], i[0], &testAdam) },
			func(o, i [][]float32) { adamwGo(o[0], o[1], o[2], i[0], &testAdam) }},
	} {
		for n := range 70 {
			var fast, wholes, simple, before, ins [][]float32
			for range f.outs {
				x := random(r, n)
				if f.name == "adamw" { // v is not negative
					for i := range x {
						x[i] = float32(math.Abs(float64(x[i])))
					}
				}
				inner, whole := inGuards(r, x)
				fast, wholes = append(fast, inner), append(wholes, whole)
				simple, before = append(simple, append([]float32(nil), x...)), append(before, append([]float32(nil), x...))
			}
			for range f.ins {
				inner, _ := inGuards(r, random(r, n))
				ins = append(ins, inner)
			}
			f.fast(fast, ins)
			f.simple(simple, ins)
			for k := range fast {
				checkGuards(t, f.name, fast[k], wholes[k])
				for i, want := range simple[k] {
					if d := math.Abs(float64(fast[k][i] - want)); !(d <= f.tol*(1+math.Abs(float64(want)))) {
						t.Fatalf("%s of %d: output %d, element %d is %g, want %g", f.name, n, k, i, fast[k][i], want)
					}
				}
			}
			for i := range n {
				one, in := make([][]float32, f.outs), make([][]float32, f.ins)
				for k := range one {
					one[k] = []float32{before[k][i]}
				}
				for k := range in {
					in[k] = ins[k][i : i+1]
				}
				f.fast(one, in)
				for k := range one {
					same(t, f.name, one[k], fast[k][i:i+1])
				}
			}
		}
	}
}

var testAdam = adam{scale: 0.5, decay: 0.99, b1: 0.9, c1: 0.1, b2: 0.95, c2: 0.05, step: 0.01, root: 1.5, eps: 1e-8}

// TestSums compares the sums with their loops, over lengths and alignments, with numbers that would show beside them.
func TestSums(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	for n := 1; n < 300; n += 1 + n/40 {
		x, _ := inGuards(r, random(r, n))
		y, _ := inGuards(r, random(r, n))
		w, _ := inGuards(r, random(r, n))
		check := func(name string, got, want float32) {
			t.Helper()
			if d := math.Abs(float64(got - want)); !(d <= 1e-6*float64(1+n)) {
				t.Errorf("%s of %d is %g, want %g", name, n, got, want)
			}
		}
		check("sum", sum(x), sumGo(x))
		check("dot", dot(x, y), dotGo(x, y))
		check("spread", spread(x, 0.3), spreadGo(x, 0.3))
		check("sumSquares", float32(sumSquares(x)), float32(sumSquaresGo(x)))
		if got, want := maximum(x), maxGo(x); got != want {
			t.Errorf("maximum of %d is %g, want %g", n, got, want)
		}
		s, p := normSums(x, y, w, 0.2, 0.9)
		s1, p1 := normSumsGo(x, y, w, 0.2, 0.9)
		check("normSums", s, s1)
		check("normSums", p, p1)
		for _, b := range [][]float32{nil, random(r, n)} {
			out, whole := inGuards(r, make([]float32, n))
			want := make([]float32, n)
			norm(out, x, w, b, 0.2, 0.9)
			normGo(want, x, w, b, 0.2, 0.9)
			checkGuards(t, "norm", out, whole)
			for i := range out {
				check("norm", out[i], want[i])
			}
		}
	}
}

// TestExp checks exp over the whole range of float32: within 2e-7 of the true value, within one unit where the result is
// subnormal, exact at the ends.
func TestExp(t *testing.T) {
	var x, y [8]float32
	for b := uint64(0); b < 1<<32; b += 8 * 40_009 {
		for i := range x {
			x[i] = math.Float32frombits(uint32(b + uint64(i)*40_009))
		}
		checkExp(t, &x, &y)
	}
	inf := float32(math.Inf(1))
	for _, v := range []float32{0, float32(math.Copysign(0, -1)), inf, -inf, float32(math.NaN()), 1e-45, -1e-45, 1e-38, 88.72283, 88.72284,
		89, 128, -87.3, -87.4, -103.2, -103.97, -103.98, -104, -150, 3e38, -3e38, 0.34657, -0.34658} {
		for i := range x {
			x[i] = v
		}
		checkExp(t, &x, &y)
	}
	for v := float32(-105); v < 90; v += 0.0137 {
		for i := range x {
			x[i] = v + float32(i)*0.0017
		}
		checkExp(t, &x, &y)
	}
}

func checkExp(t *testing.T, x, y *[8]float32) {
	t.Helper()
	*y = *x
	expSum(y[:], 1, 0)
	for i, v := range x {
		want := math.Exp(float64(v))
		got := float64(y[i])
		switch {
		case v != v:
			if got == got {
				t.Fatalf("exp(NaN) is %g", got)
			}
		case want > math.MaxFloat32*(1+1e-7):
			if !math.IsInf(got, 1) {
				t.Fatalf("exp(%g) is %g, want +Inf", v, got)
			}
		case math.Abs(got-want) > 2e-7*want+1.5e-45:
			t.Fatalf("exp(%g) is %g, want %g", v, got, want)
		}
	}
}

// TestExpSum checks that the sum is that of the elements, in eight lanes, and that -Inf adds nothing.
func TestExpSum(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 8))
	for n := 8; n <= 256; n += 8 {
		x, whole := inGuards(r, random(r, n))
		x[r.IntN(n)] = float32(math.Inf(-1))
		got := expSum(x, 0.5, 1)
		checkGuards(t, "expSum", x, whole)
		if want := sumGo(x); got != want {
			t.Errorf("sum of %d exponentials is %g, want %g", n, got, want)
		}
		longer := append(append([]float32(nil), x...), make([]float32, 16)...)
		for i := range longer {
			longer[i] = float32(math.Log(float64(longer[i])))
		}
		short := append([]float32(nil), longer[:n]...)
		if a, b := expSum(longer, 1, 0), expSum(short, 1, 0); a != b {
			t.Errorf("sum of %d exponentials is %g with zeros behind, %g without", n, a, b)
		}
	}
}
