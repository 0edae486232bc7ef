package kernels

import (
	"math"
	"testing"
)

func TestRoundBF16(t *testing.T) {
	inf, nan := float32(math.Inf(1)), float32(math.NaN())
	for _, c := range []struct{ x, want float32 }{
		{0, 0}, {1, 1}, {-1.5, -1.5}, {inf, inf}, {-inf, -inf}, {nan, nan},
		{1 + 0x1p-8, 1},                    // a tie goes to the even
		{1 + 3*0x1p-8, 1 + 0x1p-6},         // either way
		{1 + 0x1p-8 + 0x1p-20, 1 + 0x1p-7}, // above the tie
		{math.MaxFloat32, inf},
		{math.Float32frombits(0x7f800001), nan}, // a NaN whose bits are all in the half that is lost
		{0x1p-133, 0x1p-133}, {0x1p-149, 0},
	} {
		var h [1]uint16
		var got [1]float32
		RoundBF16(h[:], []float32{c.x})
		WidenBF16(got[:], h[:])
		if math.Float32bits(got[0]) != math.Float32bits(c.want) && (got[0] == got[0] || c.want == c.want) {
			t.Errorf("%g becomes %g, want %g", c.x, got[0], c.want)
		}
	}
}

func TestQuantizeInt8(t *testing.T) {
	w := []float32{127, -127, 0.5, 1.5, 0, 0, 0, 0, 0x1p-120, 0, 0, -0x1p-140}
	q, scales := make([]int8, 12), make([]float32, 3)
	if err := QuantizeInt8(q, scales, w, 3, 4); err != nil {
		t.Fatal(err)
	}
	want := []int8{127, -127, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0}
	for i, v := range want {
		if q[i] != v {
			t.Errorf("element %d becomes %d, want %d", i, q[i], v)
		}
	}
	if scales[0] != 1 || scales[1] != 0 || scales[2] != 0 {
		t.Errorf("scales %v, want 1, 0 and 0", scales)
	}
	for _, bad := range []float64{math.NaN(), math.Inf(1), math.Inf(-1)} {
		w[6] = float32(bad)
		if err := QuantizeInt8(q, scales, w, 3, 4); err == nil {
			t.Errorf("%v is rounded to int8", bad)
		}
	}
}

// TestNarrowBuf checks slices of int8 rows, which take their scales along, and what is refused.
func TestNarrowBuf(t *testing.T) {
	b := Int8Of([]int8{1, 2, 3, 4, 5, 6}, []float32{10, 20, 30}, 2)
	q, scales := b.Slice(2, 6).Int8(2)
	if len(q) != 4 || q[0] != 3 || len(scales) != 2 || scales[0] != 20 {
		t.Errorf("rows 1 and 2 are %v with scales %v", q, scales)
	}
	if n := b.WeightBytes(); n != 18 {
		t.Errorf("6 weights and 3 scales take %d bytes", n)
	}
	for want, f := range map[string]func(){
		badSlice:      func() { b.Slice(1, 4) },
		badScales:     func() { Int8Of(make([]int8, 6), make([]float32, 2), 2) },
		badWidth:      func() { b.Int8(3) },
		badType:       func() { b.BF16() },
		NarrowWeights: func() { b.F32() },
	} {
		func() {
			defer func() {
				if got := recover(); got != want {
					t.Errorf("panic %v, want %q", got, want)
				}
			}()
			f()
		}()
	}
}
