package cpu

import "math"

// A panel of bf16 weights holds, for each k, the 16 columns in pairs, so that a shift and a mask widen them in order:
// element 16*k+2*j is column j and element 16*k+2*j+1 column j+8.

// pairAt returns where column j stands in a row of a panel.
func pairAt(j int) int { return j%8*2 + j/8 }

// kernelBF16Go is kernelGo over a panel of bf16 pairs.
func kernelBF16Go(rows, kc int, a []float32, rs, cs int, b []uint16, c []float32, ldc, mode int) {
	for i := range rows {
		var sum [tileCols]float32
		row := (*[tileCols]float32)(c[i*ldc:])
		if mode == modeFrom {
			sum = *row
		}
		for k := range kc {
			x, y := a[i*rs+k*cs], (*[tileCols]uint16)(b[k*tileCols:])
			for j := range sum {
				sum[j] += float32(x * math.Float32frombits(uint32(y[pairAt(j)])<<16))
			}
		}
		if mode == modeAdd {
			for j := range sum {
				sum[j] += row[j]
			}
		}
		*row = sum
	}
}

// kernelRowBF16Go is kernelBF16Go for one row of A, dense, and four panels of B that lie ps elements apart.
func kernelRowBF16Go(kc int, a []float32, b []uint16, ps int, c []float32, mode int) {
	for p := range 4 {
		kernelBF16Go(1, kc, a, kc, 1, b[p*ps:], c[p*tileCols:], tileCols, mode)
	}
}

// packTBF16Go turns up to 16 rows of src into a panel. Columns past the last row are left as they are.
func packTBF16Go(dst, src []uint16, ld, rows, n int) {
	for r := range rows {
		at := pairAt(r)
		for k, x := range src[r*ld:][:n] {
			dst[k*tileCols+at] = x
		}
	}
}
