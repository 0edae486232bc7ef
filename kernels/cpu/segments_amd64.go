//go:build amd64 && !noasm

package cpu

// scoreSegmentsAVX computes scoreSegmentsGo.
//
//go:noescape
func scoreSegmentsAVX(out *float32, ld int, q *int16, panels *int8, scales, factor, center *float32, ldc, pairs, n int)

func scoreSegments(out []float32, ld int, q []int16, panels []int8, scales, factor, center []float32, ldc, pairs, n int) {
	if !haveAVX2 {
		scoreSegmentsGo(out, ld, q, panels, scales, factor, center, ldc, pairs, n)
		return
	}
	scoreSegmentsAVX(&out[0], ld, &q[0], &panels[0], &scales[0], &factor[0], &center[0], ldc, pairs, n)
}

// scaleBytesAVX, scaleBytesByAVX and widenHalvesAVX compute ScaleBytes, ScaleBytesBy and WidenHalves for n > 0, a multiple
// of 8.
//
//go:noescape
func scaleBytesAVX(dst *float32, q *int8, scale *float32, n int)

//go:noescape
func scaleBytesByAVX(dst *float32, q *int8, scale float32, n int)

//go:noescape
func widenHalvesAVX(dst *float32, h *uint16, n int)

func scaleBytes(dst []float32, q []int8, scale []float32) int {
	n := len(q) &^ 7
	if !haveAVX2 || n == 0 {
		return 0
	}
	scaleBytesAVX(&dst[0], &q[0], &scale[0], n)
	return n
}

func scaleBytesBy(dst []float32, q []int8, scale float32) int {
	n := len(q) &^ 7
	if !haveAVX2 || n == 0 {
		return 0
	}
	scaleBytesByAVX(&dst[0], &q[0], scale, n)
	return n
}

func widenHalves(dst []float32, h []uint16) int {
	n := len(h) &^ 7
	if !haveAVX2 || n == 0 {
		return 0
	}
	widenHalvesAVX(&dst[0], &h[0], n)
	return n
}
