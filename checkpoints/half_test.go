package checkpoints

import (
	"math"
	"testing"
)

// TestHalfExact compares all patterns of both types with their definition, and rounds each back to itself.
func TestHalfExact(t *testing.T) {
	for i := range 1 << 16 {
		h := uint16(i)
		check(t, h, F16ToF32(h), F32ToF16(F16ToF32(h)), 5, 10)
		check(t, h, BF16ToF32(h), F32ToBF16(BF16ToF32(h)), 8, 7)
	}
}

// check compares f with what pattern h of a format of exp and frac bits means, and back with h.
func check(t *testing.T, h uint16, f float32, back uint16, exp, frac int) {
	t.Helper()
	e := int(h>>frac) & (1<<exp - 1)
	m := float64(h & (1<<frac - 1))
	bias := 1<<(exp-1) - 1
	var want float64
	switch {
	case e == 1<<exp-1 && m != 0:
		if f == f || back&(1<<15) != h&(1<<15) || math.Signbit(float64(f)) != (h>>15 == 1) || back&(1<<frac-1) == 0 {
			t.Errorf("%04x: NaN became %v, then %04x", h, f, back)
		}
		return
	case e == 1<<exp-1:
		want = math.Inf(1)
	case e == 0:
		want = math.Ldexp(m, 1-bias-frac)
	default:
		want = math.Ldexp(m+float64(int(1)<<frac), e-bias-frac)
	}
	if h>>15 == 1 {
		want = math.Copysign(want, -1)
	}
	if math.Float64bits(float64(f)) != math.Float64bits(want) || back != h {
		t.Errorf("%04x: %v then %04x, want %v", h, f, back, want)
	}
}

// TestHalfRounding looks at every gap between neighbours: its middle goes to the even one, and the float32 on either side of
// the middle to the nearer one.
func TestHalfRounding(t *testing.T) {
	for _, c := range []struct {
		name string
		inf  uint16
		to32 func(uint16) float32
		to16 func(float32) uint16
		top  float32 // what the pattern of infinity would be as a number
	}{
		{"F16", 0x7c00, F16ToF32, F32ToF16, 65536},
		{"BF16", 0x7f80, BF16ToF32, F32ToBF16, float32(math.Inf(1))},
	} {
		for h := uint16(0); h < c.inf; h++ {
			lo, hi := float64(c.to32(h)), float64(c.to32(h+1))
			if h+1 == c.inf {
				hi = math.Min(float64(c.top), 0x1p128)
			}
			mid := float32((lo + hi) / 2)
			if float64(mid) != (lo+hi)/2 {
				t.Fatalf("%s %04x: the middle is not a float32", c.name, h)
			}
			inf := float32(math.Inf(1))
			for _, sign := range []uint16{0, 0x8000} {
				s := float32(1)
				if sign != 0 {
					s = -1
				}
				if got := c.to16(s * mid); got != sign|(h+h&1) {
					t.Errorf("%s: middle after %04x gives %04x", c.name, h, got)
				}
				if got := c.to16(s * math.Nextafter32(mid, 0)); got != sign|h {
					t.Errorf("%s: below the middle after %04x gives %04x", c.name, h, got)
				}
				if got := c.to16(s * math.Nextafter32(mid, inf)); got != sign|(h+1) {
					t.Errorf("%s: above the middle after %04x gives %04x", c.name, h, got)
				}
			}
		}
	}
}

// TestRoundOnce: float64 goes to the half types in one rounding. Through float32, a value just above a middle would first
// become the middle, and then go to the even side.
func TestRoundOnce(t *testing.T) {
	for _, c := range []struct {
		x    float64
		f16  uint16
		bf16 uint16
	}{
		{1 + 0x1p-11, 0x3c00, 0x3f80},           // the middle for F16
		{1 + 0x1p-11 + 0x1p-50, 0x3c01, 0x3f80}, // just above
		{1 + 3*0x1p-11 - 0x1p-50, 0x3c01, 0x3f80},
		{1 + 0x1p-8 + 0x1p-50, 0x3c04, 0x3f81},
		{-1 - 0x1p-11 - 0x1p-50, 0xbc01, 0xbf80},
		{0x1p-25 + 0x1p-70, 0x0001, 0x3300},
		{65520 - 0x1p-30, 0x7bff, 0x4780},
		{0, 0, 0},
		{math.Inf(-1), 0xfc00, 0xff80},
	} {
		f := oddF32(c.x)
		if g, h := F32ToF16(f), F32ToBF16(f); g != c.f16 || h != c.bf16 {
			t.Errorf("%v: %04x %04x, want %04x %04x", c.x, g, h, c.f16, c.bf16)
		}
	}
	if f := oddF32(math.NaN()); f == f {
		t.Errorf("NaN became %v", f)
	}
}
