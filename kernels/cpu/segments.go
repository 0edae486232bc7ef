package cpu

import "math"

// SegmentPanel is the number of segments whose int8 means lie in a panel of ScoreSegments.
const SegmentPanel = 16

// SegmentQueries is the number of query rows that ScoreSegments takes at a time.
const SegmentQueries = 4

// ScoreSegments overwrites out with the scores of n panels of segments for four query rows: for panel p, segment j of it
// and row g,
//
//	out[g*ld+16*p+j] = (Σ over c of q[g,c]·panels[p,c,j])·scales[16*p+j]·factor[g] + center[g*ldc+p]
//
//	q (pairs, 4, 2)              two channels of four rows at a time; their sum of products must fit an int32
//	panels (n, pairs, 16, 2)     two channels of 16 segments at a time
//	scales (n, 16)    factor (4)
//
// Integers are summed exactly, so that the bits do not depend on the processor.
func ScoreSegments(out []float32, ld int, q []int16, panels []int8, scales, factor, center []float32, ldc, pairs, n int) {
	if n <= 0 {
		return
	}
	// Touched here, so that assembly reads and writes nothing else.
	_, _, _ = out[3*ld+SegmentPanel*n-1], q[8*pairs-1], panels[2*SegmentPanel*pairs*n-1]
	_, _, _ = scales[SegmentPanel*n-1], factor[3], center[3*ldc+n-1]
	scoreSegments(out, ld, q, panels, scales, factor, center, ldc, pairs, n)
}

func scoreSegmentsGo(out []float32, ld int, q []int16, panels []int8, scales, factor, center []float32, ldc, pairs, n int) {
	for p := range n {
		panel := panels[2*SegmentPanel*pairs*p:][:2*SegmentPanel*pairs]
		for g := range SegmentQueries {
			var sum [SegmentPanel]int32
			for c := range pairs {
				a, b := int32(q[8*c+2*g]), int32(q[8*c+2*g+1])
				for j := range sum {
					sum[j] += a*int32(panel[2*(SegmentPanel*c+j)]) + b*int32(panel[2*(SegmentPanel*c+j)+1])
				}
			}
			for j, s := range sum {
				i := SegmentPanel*p + j
				x := float32(float32(float32(s)*scales[i]) * factor[g])
				out[g*ld+i] = x + center[g*ldc+p]
			}
		}
	}
}

// Shares overwrites x with exp(x-shift) and returns the sum of weight·x.
func Shares(x, weight []float32, shift float32) float32 {
	if len(x) == 0 {
		return 0
	}
	n := len(x) &^ 7
	if n > 0 {
		expSum(x[:n], 1, shift)
	}
	if n < len(x) {
		var t [8]float32
		copy(t[:], x[n:])
		expSum(t[:], 1, shift)
		copy(x[n:], t[:])
	}
	return dot(weight[:len(x)], x)
}

// Largest returns the largest of x, which holds some.
func Largest(x []float32) float32 { return maximum(x) }

// MulAdd adds alpha·x to y.
func MulAdd(y, x []float32, alpha float32) { mulAdd(y, x[:len(y)], alpha) }

// ScaleBytes overwrites dst with scale·q, element by element.
func ScaleBytes(dst []float32, q []int8, scale []float32) {
	dst, scale = dst[:len(q)], scale[:len(q)]
	for i := scaleBytes(dst, q, scale); i < len(q); i++ {
		dst[i] = scale[i] * float32(q[i])
	}
}

// ScaleBytesBy overwrites dst with q times one scale.
func ScaleBytesBy(dst []float32, q []int8, scale float32) {
	dst = dst[:len(q)]
	for i := scaleBytesBy(dst, q, scale); i < len(q); i++ {
		dst[i] = scale * float32(q[i])
	}
}

// WidenHalves overwrites dst with bfloat16 elements.
func WidenHalves(dst []float32, h []uint16) {
	dst = dst[:len(h)]
	for i := widenHalves(dst, h); i < len(h); i++ {
		dst[i] = math.Float32frombits(uint32(h[i]) << 16)
	}
}

// Parallel calls f for 0 to n-1, on the workers of the backend as on the caller's goroutine, and returns when all calls did.
// f may use the backend.
func (b *Backend) Parallel(n int, f func(i int)) { b.pool.do(n, calls(f)) }

type calls func(i int)

func (f calls) run(i int) { f(i) }

// Fetch asks the processor for elements that will be read soon.
func Fetch(x []float32) {
	if len(x) > 0 {
		fetch(x, len(x), 1, len(x))
	}
}

// Lanes is the width of a row of weights of WeighRows.
const Lanes = lanes

// WeighRows adds n rows of K elements, weighed, to up to Lanes rows of out: out[g,c] += Σ p[r,g]·v[r,c], each element as one
// chain.
//
//	out (rows, K)    p (n, Lanes)    v (n, K)
func WeighRows(out, p, v []float32, n, K, rows int) {
	if haveLanes() && rows >= leastLanes && K%tileCols == 0 {
		laneValues(p, v, K, n, K, out, rows, 0)
		return
	}
	laneValuesGo(p, v, K, n, K, out, rows)
}
