package cpu

import (
	"testing"

	"svae/kernels/kerneltest"
)

func TestSuite(t *testing.T) { kerneltest.Suite(t, New) }
