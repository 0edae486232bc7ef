//go:build gpu && cgo

// Package cuda is the seam to NVIDIA GPUs. A binary holds it only if it was built with CGO_ENABLED=1 and -tags gpu, which
// needs a C compiler and the CUDA headers. So far it finds the devices; the operations do not run on them yet.
package cuda

import (
	"errors"
	"fmt"

	"gorgonia.org/cu"

	"svae/kernels"
)

func init() { kernels.Register("cuda", Open) }

// ErrNoKernels says that a device is there but that nothing runs on it yet.
var ErrNoKernels = errors.New("this version computes nothing on a GPU")

// Open looks for the first device and returns an error that names it.
func Open() (kernels.Backend, error) {
	n, err := cu.NumDevices()
	if err != nil {
		return nil, fmt.Errorf("cuda: %w", err)
	}
	if n == 0 {
		return nil, errors.New("cuda: no device (use --device cpu)")
	}
	d, err := cu.GetDevice(0)
	if err != nil {
		return nil, fmt.Errorf("cuda: %w", err)
	}
	name, err := d.Name()
	if err != nil {
		return nil, fmt.Errorf("cuda: %w", err)
	}
	return nil, fmt.Errorf("cuda: %s: %w (use --device cpu)", name, ErrNoKernels)
}
