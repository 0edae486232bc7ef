// Package ref defines every operation of kernels.Backend in plain Go, forward and backward, over float32 and float64.
// It is slow on purpose: one loop per sum, in ascending order, in the value's own type. Other backends are tested
// against it, and it is tested against central differences in float64.
//
// Each operation is a function over slices. Backend calls them on the memory of its buffers.
package ref
