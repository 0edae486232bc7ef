//go:build gpu && !cgo

// Package cuda is the seam to NVIDIA GPUs. This binary was built with -tags gpu but without cgo, through which the CUDA
// driver is called: it holds nothing but the error that says so.
package cuda

import (
	"fmt"

	"svae/kernels"
)

func init() { kernels.Register("cuda", Open) }

// Open returns an error that wraps kernels.ErrNotBuilt and says how to build for a GPU.
func Open() (kernels.Backend, error) {
	return nil, fmt.Errorf("device \"cuda\": %w: -tags gpu had no cgo (rebuild with CGO_ENABLED=1 and -tags gpu, or use --device cpu)", kernels.ErrNotBuilt)
}
