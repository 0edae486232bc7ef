//go:build !amd64 || noasm

package cpu

// waste keeps the loop of pause from being left out.
var waste uint32

// pause lets some tens of nanoseconds go by.
func pause() {
	x := waste
	for range 32 {
		x = x*1664525 + 1013904223
	}
	if x == 0 {
		waste++
	}
}
