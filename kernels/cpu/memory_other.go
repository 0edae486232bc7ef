//go:build !linux

package cpu

// floats returns n zeros.
func floats(n int) []float32 { return make([]float32, n) }
