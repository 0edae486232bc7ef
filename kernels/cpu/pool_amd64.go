//go:build !noasm

package cpu

// pause lets the processor rest for some tens of nanoseconds: a hint that this is a loop which waits.
//
//go:noescape
func pause()
