//go:build !gpu

// Package cuda is the seam to NVIDIA GPUs. It holds nothing in a binary built without -tags gpu; kernels.Open then says so.
package cuda
