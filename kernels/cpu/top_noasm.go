//go:build !amd64 || noasm

package cpu

func topBounds(z, radius, norm, bias []float32, slack *[4]float32) (r topRange, small bool) {
	return r, false
}
