package cpu

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

const hugePage = 2 << 20

// floats returns n zeros, in huge pages if they fill some: reading weights once is then up to a quarter faster.
func floats(n int) []float32 {
	f := make([]float32, n)
	if n*4 < 2*hugePage {
		return f
	}
	at := uintptr(unsafe.Pointer(unsafe.SliceData(f)))
	skip := int(-at & (hugePage - 1))
	bytes := unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(f))), 4*n)
	// Without huge pages the memory is as good, only slower, so that the error changes nothing.
	_ = unix.Madvise(bytes[skip:skip+(4*n-skip)&^(hugePage-1)], unix.MADV_HUGEPAGE)
	return f
}
