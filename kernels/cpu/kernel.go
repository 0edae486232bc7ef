package cpu

// The tile of C that one call of a kernel computes, and the length of the chains it sums in.
const (
	tileRows = 6
	tileCols = 16
	rowCols  = 4 * tileCols // of kernelRow
	blockK   = 256          // terms of one chain of fused multiply-adds; the chains of an element are then added in order
)

// What a kernel does with C.
const (
	modeSet  = 0 // C = chain
	modeFrom = 1 // C = chain that starts at C
	modeAdd  = 2 // C = C + chain
)

// kernelGo computes up to 6 rows of 16 columns of C from A·B. The terms of every element form one chain, in ascending
// order, whatever the number of rows.
//
//	A[i,k] = a[i*rs+k*cs]    B[k,j] = b[k*bs+j]    C[i,j] = c[i*ldc+j]    0 <= i < rows, 0 <= k < kc, 0 <= j < 16
func kernelGo(rows, kc int, a []float32, rs, cs int, b []float32, bs int, c []float32, ldc, mode int) {
	for i := range rows {
		var sum [tileCols]float32
		row := (*[tileCols]float32)(c[i*ldc:])
		if mode == modeFrom {
			sum = *row
		}
		for k := range kc {
			x := a[i*rs+k*cs]
			for j, y := range (*[tileCols]float32)(b[k*bs:]) {
				sum[j] += float32(x * y)
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

// kernelRowGo is kernelGo for one row of A, dense, and four panels of B that lie ps elements apart.
func kernelRowGo(kc int, a, b []float32, ps, bs int, c []float32, mode int) {
	for p := range 4 {
		kernelGo(1, kc, a, kc, 1, b[p*ps:], bs, c[p*tileCols:], tileCols, mode)
	}
}

// packTGo turns up to 16 rows of src into a panel: dst[16*k+r] = src[r*ld+k] for 0 <= k < n. Columns of the panel past
// the last row hold finite or other numbers that nothing reads.
func packTGo(dst, src []float32, ld, rows, n int) {
	for r := range rows {
		for k, x := range src[r*ld:][:n] {
			dst[k*tileCols+r] = x
		}
	}
}

// packNGo copies cols columns of n rows of src into panels: dst[16*((j/16)*n+k)+j%16] = src[k*ld+j]. The missing columns
// of the last panel hold whatever they held.
func packNGo(dst, src []float32, ld, cols, n int) {
	for j := 0; j < cols; j += tileCols {
		for k := range n {
			copy(dst[j*n+k*tileCols:][:tileCols], src[k*ld+j:k*ld+min(j+tileCols, cols)])
		}
	}
}

// packAGo copies rows columns of n rows of src, which are rows of A transposed, into groups of six:
// dst[6*((r/6)*n+k)+r%6] = src[k*ld+r]. The last group has room for six too.
func packAGo(dst, src []float32, ld, rows, n int) {
	for r := 0; r < rows; r += tileRows {
		for k := range n {
			copy(dst[r*n+k*tileRows:][:tileRows], src[k*ld+r:k*ld+min(r+tileRows, rows)])
		}
	}
}

// packRGo lays rows of n elements of src, which are rows of A, out in groups of six: dst[6*((r/6)*n+k)+r%6] =
// src[r*ld+k]. The last group has room for six too, and behind it there are packRSlack elements that may change.
func packRGo(dst, src []float32, ld, rows, n int) {
	for r := range rows {
		to := dst[r/tileRows*tileRows*n+r%tileRows:]
		for k, x := range src[r*ld:][:n] {
			to[k*tileRows] = x
		}
	}
}

const packRSlack = 2
