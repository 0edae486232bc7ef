package cpu

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"svae/kernels"
)

func random(r *rand.Rand, n int) []float32 {
	f := make([]float32, n)
	for i := range f {
		f[i] = float32(r.NormFloat64())
	}
	return f
}

// TestGemm compares every orientation, packed or not, with sums in float64.
func TestGemm(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	b := New().(*Backend)
	for _, s := range [][3]int{{1, 1, 1}, {1, 64, 64}, {1, 300, 130}, {2, 16, 16}, {5, 7, 17}, {6, 256, 16}, {7, 257, 33}, {8, 600, 70}, {13, 31, 5},
		{61, 130, 200}, {130, 520, 97}, {300, 40, 330}, {400, 300, 900}} {
		N, I, O := s[0], s[1], s[2]
		t.Run(fmt.Sprintf("%dx%dx%d", N, I, O), func(t *testing.T) {
			x, w, bias := random(r, N*I), random(r, O*I), random(r, O)
			dOut := random(r, N*O)
			out, want := make([]float32, N*O), make([]float64, N*O)
			for n := range N {
				for o := range O {
					s := float64(bias[o])
					for i := range I {
						s += float64(x[n*I+i]) * float64(w[o*I+i])
					}
					want[n*O+o] = s
				}
			}
			b.Linear(kernels.Of(out), kernels.Buf{}, kernels.Of(x), kernels.Of(w), kernels.Of(bias), kernels.None, N, I, O)
			near(t, "linear", out, want, I)
			b.Pack(kernels.Of(w), O, I)
			again := make([]float32, N*O)
			b.Linear(kernels.Of(again), kernels.Buf{}, kernels.Of(x), kernels.Of(w), kernels.Of(bias), kernels.None, N, I, O)
			b.Unpack(kernels.Of(w))
			same(t, "packed", again, out)
			for n := range N {
				row := make([]float32, O)
				b.Linear(kernels.Of(row), kernels.Buf{}, kernels.Of(x[n*I:]), kernels.Of(w), kernels.Of(bias), kernels.None, 1, I, O)
				same(t, "row alone", row, out[n*O:(n+1)*O])
			}
			dX, wantX := make([]float32, N*I), make([]float64, N*I)
			dW, wantW := make([]float32, O*I), make([]float64, O*I)
			for n := range N {
				for o := range O {
					for i := range I {
						wantX[n*I+i] += float64(dOut[n*O+o]) * float64(w[o*I+i])
						wantW[o*I+i] += float64(dOut[n*O+o]) * float64(x[n*I+i])
					}
				}
			}
			b.LinearBackwardX(kernels.Of(dX), kernels.Of(dOut), kernels.Of(w), N, I, O)
			near(t, "dX", dX, wantX, O)
			b.LinearBackwardW(kernels.Of(dW), kernels.Of(dOut), kernels.Of(x), N, I, O)
			near(t, "dW", dW, wantW, N)
		})
	}
}

func near(t *testing.T, what string, got []float32, want []float64, k int) {
	t.Helper()
	tol := 2e-6 * (1 + math.Sqrt(float64(k)))
	for i := range want {
		if d := math.Abs(float64(got[i]) - want[i]); !(d <= tol*(1+math.Abs(want[i]))) {
			t.Fatalf("%s: element %d is %g, want %g", what, i, got[i], want[i])
		}
	}
}

func same(t *testing.T, what string, got, want []float32) {
	t.Helper()
	for i := range want {
		if math.Float32bits(got[i]) != math.Float32bits(want[i]) {
			t.Fatalf("%s: element %d is %g, want %g to the bit", what, i, got[i], want[i])
		}
	}
}
