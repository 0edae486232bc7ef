//go:build amd64 && !noasm

package cpu

// topBoundsAVX finds, over n > 0 ids, a multiple of 8, the largest z-e and z+e for e = slack[0]·radius + slack[1]·norm +
// slack[2]·|bias| + slack[3], without the third term if bias is nil. It returns 0 if a score or a bound is too large or
// NaN.
//
//go:noescape
func topBoundsAVX(z, radius, norm, bias *float32, n int, slack *[4]float32, r *topRange) (small int)

// topBounds is top.rangeOf for a multiple of 8 ids, unless scores or bounds are too large, which it does not judge.
func topBounds(z, radius, norm, bias []float32, slack *[4]float32) (r topRange, small bool) {
	if !haveAVX2 {
		return r, false
	}
	var b *float32
	if bias != nil {
		b = &bias[0]
	}
	small = topBoundsAVX(&z[0], &radius[0], &norm[0], b, len(z), slack, &r) != 0
	return r, small
}
