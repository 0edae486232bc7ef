package cpu

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
)

// TestKernel compares the kernels with their loop, over rows, strides, lengths and modes, between guards.
func TestKernel(t *testing.T) {
	r := rand.New(rand.NewPCG(9, 1))
	for rows := 1; rows <= tileRows; rows++ {
		for _, kc := range []int{0, 1, 2, 3, 4, 5, 7, 8, 63, 256} {
			for mode := modeSet; mode <= modeAdd; mode++ {
				rs, cs := kc+3, 1
				if (rows+kc)%2 == 0 {
					rs, cs = 1, rows+2
				}
				bs, ldc := tileCols+kc%3*5, tileCols+mode*7
				a, _ := inGuards(r, random(r, tileRows*(kc+8)*8))
				b, _ := inGuards(r, random(r, (kc+1)*bs+tileCols))
				before := random(r, (rows-1)*ldc+tileCols)
				c, whole := inGuards(r, before)
				want := append([]float32(nil), before...)
				kernel(rows, kc, a, rs, cs, b, bs, c, ldc, mode)
				kernelGo(rows, kc, a, rs, cs, b, bs, want, ldc, mode)
				name := fmt.Sprintf("kernel of %d rows, %d terms, mode %d", rows, kc, mode)
				checkGuards(t, name, c, whole)
				compare(t, name, c, want, kc)
				for i := range rows { // a row alone gives the same bits
					one := append([]float32(nil), before[i*ldc:][:tileCols]...)
					kernel(1, kc, a[i*rs:], rs, cs, b, bs, one, ldc, mode)
					same(t, name, one, c[i*ldc:][:tileCols])
				}
			}
		}
	}
}

// TestKernelRow compares the kernel of one row with that of one panel, to the bit.
func TestKernelRow(t *testing.T) {
	r := rand.New(rand.NewPCG(9, 2))
	for _, kc := range []int{0, 1, 2, 3, 4, 5, 31, 64} {
		for mode := modeSet; mode <= modeAdd; mode++ {
			for _, s := range [][2]int{{tileCols * (kc + 1), tileCols}, {tileCols, 100}} {
				ps, bs := s[0], s[1]
				a, _ := inGuards(r, random(r, kc+1))
				b, _ := inGuards(r, random(r, 4*ps+(kc+1)*bs))
				before := random(r, rowCols)
				c, whole := inGuards(r, before)
				kernelRow(kc, a, b, ps, bs, c, mode)
				checkGuards(t, "kernelRow", c, whole)
				for p := range 4 {
					one := append([]float32(nil), before[p*tileCols:][:tileCols]...)
					kernel(1, kc, a, kc, 1, b[p*ps:], bs, one, tileCols, mode)
					same(t, fmt.Sprintf("kernelRow of %d terms, mode %d", kc, mode), c[p*tileCols:][:tileCols], one)
				}
			}
		}
	}
}

func compare(t *testing.T, name string, got, want []float32, k int) {
	t.Helper()
	for i := range want {
		if d := math.Abs(float64(got[i] - want[i])); !(d <= 1e-6*(2+math.Sqrt(float64(k)))*(1+math.Abs(float64(want[i])))) {
			t.Fatalf("%s: element %d is %g, want %g", name, i, got[i], want[i])
		}
	}
}

// TestPack compares the packing with its loops, element by element, between guards.
func TestPack(t *testing.T) {
	r := rand.New(rand.NewPCG(9, 3))
	for _, n := range []int{1, 2, 7, 8, 9, 16, 33} {
		for width := 1; width <= 50; width++ {
			ld := width + n + r.IntN(5)
			src, _ := inGuards(r, random(r, max(n, width)*ld))
			run := func(name string, size int, fast, simple func(dst []float32)) {
				t.Helper()
				got, whole := inGuards(r, make([]float32, size))
				want := make([]float32, size)
				fast(got)
				simple(want)
				checkGuards(t, name, got, whole)
				for i, v := range want {
					if v != 0 && got[i] != v {
						t.Fatalf("%s of %d by %d: element %d is %g, want %g", name, width, n, i, got[i], v)
					}
				}
			}
			if width <= tileCols {
				run("packT", tileCols*n, func(d []float32) { packT(d, src, ld, width, n) },
					func(d []float32) { packTGo(d, src, ld, width, n) })
			}
			run("packN", roundUp(width, tileCols)*n, func(d []float32) { packN(d, src, ld, width, n) },
				func(d []float32) { packNGo(d, src, ld, width, n) })
			run("packR", roundUp(width, tileRows)*n+packRSlack, func(d []float32) { packR(d, src, ld, width, n) },
				func(d []float32) { packRGo(d, src, ld, width, n) })
			run("packA", roundUp(width, tileRows)*n, func(d []float32) { packA(d, src, ld, width, n) },
				func(d []float32) { packAGo(d, src, ld, width, n) })
		}
	}
}
