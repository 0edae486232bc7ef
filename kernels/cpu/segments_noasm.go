//go:build !amd64 || noasm

package cpu

func scoreSegments(out []float32, ld int, q []int16, panels []int8, scales, factor, center []float32, ldc, pairs, n int) {
	scoreSegmentsGo(out, ld, q, panels, scales, factor, center, ldc, pairs, n)
}

func scaleBytes([]float32, []int8, []float32) int { return 0 }
func scaleBytesBy([]float32, []int8, float32) int { return 0 }
func widenHalves([]float32, []uint16) int         { return 0 }
