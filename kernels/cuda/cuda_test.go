//go:build !gpu || !cgo

package cuda

import (
	"errors"
	"strings"
	"testing"

	"svae/kernels"
)

// TestNotBuilt: a binary without GPU support, with or without -tags gpu, says so and how to build one.
func TestNotBuilt(t *testing.T) {
	be, err := kernels.Open("cuda")
	if be != nil || !errors.Is(err, kernels.ErrNotBuilt) || !strings.Contains(err.Error(), "rebuild with CGO_ENABLED=1 and -tags gpu") {
		t.Fatalf("opened %v, error %v", be, err)
	}
}
