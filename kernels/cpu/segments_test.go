package cpu

import (
	"math"
	"math/rand/v2"
	"testing"
)

// TestScoreSegments compares the assembly with its loop, to the bit, at extremes too, between guards.
func TestScoreSegments(t *testing.T) {
	r := rand.New(rand.NewPCG(9, 30))
	for _, pairs := range []int{1, 2, 3, 8, 32, 33} {
		for _, n := range []int{1, 2, 5} {
			ld, ldc := SegmentPanel*n+r.IntN(9), n+r.IntN(3)
			q, panels := make([]int16, 8*pairs), make([]int8, 2*SegmentPanel*pairs*n)
			for i := range q {
				q[i] = int16(r.IntN(1<<16) - 1<<15)
				if i%5 == 0 || pairs == 1 {
					q[i] = math.MaxInt16
				}
			}
			for i := range panels {
				panels[i] = int8(r.IntN(255) - 127)
				if i%7 == 0 {
					panels[i] = -127
				}
			}
			scales, factor, center := random(r, SegmentPanel*n), random(r, 4), random(r, 3*ldc+n)
			got, whole := inGuards(r, random(r, 3*ld+SegmentPanel*n))
			want := append([]float32(nil), got...)
			ScoreSegments(got, ld, q, panels, scales, factor, center, ldc, pairs, n)
			scoreSegmentsGo(want, ld, q, panels, scales, factor, center, ldc, pairs, n)
			checkGuards(t, "scoreSegments", got, whole)
			same(t, "scoreSegments", got, want)
		}
	}
	ScoreSegments(nil, 0, nil, nil, nil, nil, nil, 0, 1, 0)
}

// TestShares compares shares and their sum with float64.
func TestShares(t *testing.T) {
	r := rand.New(rand.NewPCG(9, 31))
	for _, n := range []int{0, 1, 7, 8, 9, 100} {
		x, w := random(r, n), random(r, n+1)
		want, sum := make([]float64, n), 0.0
		for i, v := range x {
			want[i] = math.Exp(float64(v) - 0.5)
			sum += want[i] * float64(w[i])
		}
		got := Shares(x, w, 0.5)
		if math.Abs(float64(got)-sum) > 1e-5*(1+float64(n)) {
			t.Errorf("%d: sum %v, want %v", n, got, sum)
		}
		for i, v := range want {
			if math.Abs(float64(x[i])-v) > 1e-6*v {
				t.Errorf("%d: element %d is %v, want %v", n, i, x[i], v)
			}
		}
	}
}

// TestWiden compares the widening of bytes and halves with its definition, at every length, to the bit.
func TestWiden(t *testing.T) {
	r := rand.New(rand.NewPCG(9, 33))
	for n := range 70 {
		q, h, scale := make([]int8, n), make([]uint16, n), random(r, n+1)
		for i := range q {
			q[i], h[i] = int8(r.IntN(256)-128), uint16(r.IntN(0x7f80))
		}
		want := [3][]float32{make([]float32, n), make([]float32, n), make([]float32, n)}
		for i := range q {
			want[0][i], want[1][i] = scale[i]*float32(q[i]), scale[n]*float32(q[i])
			want[2][i] = math.Float32frombits(uint32(h[i]) << 16)
		}
		for i, f := range []func([]float32){func(d []float32) { ScaleBytes(d, q, scale) },
			func(d []float32) { ScaleBytesBy(d, q, scale[n]) }, func(d []float32) { WidenHalves(d, h) }} {
			got, guarded := inGuards(r, make([]float32, n))
			f(got)
			checkGuards(t, "widen", got, guarded)
			same(t, "widen", got, want[i])
		}
	}
}
