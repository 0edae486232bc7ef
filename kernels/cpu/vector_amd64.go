//go:build amd64 && !noasm

package cpu

// The functions of vector_amd64.s compute the loops of vector.go that bear their names, for n > 0, a multiple of 8.
// The last elements of other lengths go through the same instructions, in vectors of eight filled up with zeros, so that
// the value of an element does not depend on where it stands.

//go:noescape
func addAVX(out, a, b *float32, n int)

func add(out, a, b []float32) {
	if !haveAVX2 {
		addGo(out, a, b)
		return
	}
	n := len(out) &^ 7
	if n > 0 {
		addAVX(&out[0], &a[0], &b[0], n)
	}
	if n == len(out) {
		return
	}
	var tOut [8]float32
	tA := tail(a, n, len(out))
	tB := tail(b, n, len(out))
	addAVX(&tOut[0], &tA[0], &tB[0], 8)
	copy(out[n:], tOut[:])
}

//go:noescape
func mulAddAVX(y, x *float32, alpha float32, n int)

func mulAdd(y, x []float32, alpha float32) {
	if !haveAVX2 {
		mulAddGo(y, x, alpha)
		return
	}
	n := len(y) &^ 7
	if n > 0 {
		mulAddAVX(&y[0], &x[0], alpha, n)
	}
	if n == len(y) {
		return
	}
	tY := tail(y, n, len(y))
	tX := tail(x, n, len(y))
	mulAddAVX(&tY[0], &tX[0], alpha, 8)
	copy(y[n:], tY[:])
}

//go:noescape
func scaleAVX(y, x *float32, alpha float32, n int)

func scale(y, x []float32, alpha float32) {
	if !haveAVX2 {
		scaleGo(y, x, alpha)
		return
	}
	n := len(y) &^ 7
	if n > 0 {
		scaleAVX(&y[0], &x[0], alpha, n)
	}
	if n == len(y) {
		return
	}
	var tY [8]float32
	tX := tail(x, n, len(y))
	scaleAVX(&tY[0], &tX[0], alpha, 8)
	copy(y[n:], tY[:])
}

//go:noescape
func reluAVX(out, x *float32, n int)

func relu(out, x []float32) {
	if !haveAVX2 {
		reluGo(out, x)
		return
	}
	n := len(out) &^ 7
	if n > 0 {
		reluAVX(&out[0], &x[0], n)
	}
	if n == len(out) {
		return
	}
	var tOut [8]float32
	tX := tail(x, n, len(out))
	reluAVX(&tOut[0], &tX[0], 8)
	copy(out[n:], tOut[:])
}

//go:noescape
func reluBackAVX(dx, dy, y *float32, n int)

func reluBack(dx, dy, y []float32) {
	if !haveAVX2 {
		reluBackGo(dx, dy, y)
		return
	}
	n := len(dx) &^ 7
	if n > 0 {
		reluBackAVX(&dx[0], &dy[0], &y[0], n)
	}
	if n == len(dx) {
		return
	}
	var tDx [8]float32
	tDy := tail(dy, n, len(dx))
	tY := tail(y, n, len(dx))
	reluBackAVX(&tDx[0], &tDy[0], &tY[0], 8)
	copy(dx[n:], tDx[:])
}

//go:noescape
func geluAVX(out, x *float32, n int)

func gelu(out, x []float32) {
	if !haveAVX2 {
		geluGo(out, x)
		return
	}
	n := len(out) &^ 7
	if n > 0 {
		geluAVX(&out[0], &x[0], n)
	}
	if n == len(out) {
		return
	}
	var tOut [8]float32
	tX := tail(x, n, len(out))
	geluAVX(&tOut[0], &tX[0], 8)
	copy(out[n:], tOut[:])
}

//go:noescape
func geluBackAVX(dx, dy, x *float32, n int)

func geluBack(dx, dy, x []float32) {
	if !haveAVX2 {
		geluBackGo(dx, dy, x)
		return
	}
	n := len(dx) &^ 7
	if n > 0 {
		geluBackAVX(&dx[0], &dy[0], &x[0], n)
	}
	if n == len(dx) {
		return
	}
	var tDx [8]float32
	tDy := tail(dy, n, len(dx))
	tX := tail(x, n, len(dx))
	geluBackAVX(&tDx[0], &tDy[0], &tX[0], 8)
	copy(dx[n:], tDx[:])
}

//go:noescape
func geluTanhAVX(out, x *float32, n int)

func geluTanh(out, x []float32) {
	if !haveAVX2 {
		geluTanhGo(out, x)
		return
	}
	n := len(out) &^ 7
	if n > 0 {
		geluTanhAVX(&out[0], &x[0], n)
	}
	if n == len(out) {
		return
	}
	var tOut [8]float32
	tX := tail(x, n, len(out))
	geluTanhAVX(&tOut[0], &tX[0], 8)
	copy(out[n:], tOut[:])
}

//go:noescape
func geluTanhBackAVX(dx, dy, x *float32, n int)

func geluTanhBack(dx, dy, x []float32) {
	if !haveAVX2 {
		geluTanhBackGo(dx, dy, x)
		return
	}
	n := len(dx) &^ 7
	if n > 0 {
		geluTanhBackAVX(&dx[0], &dy[0], &x[0], n)
	}
	if n == len(dx) {
		return
	}
	var tDx [8]float32
	tDy := tail(dy, n, len(dx))
	tX := tail(x, n, len(dx))
	geluTanhBackAVX(&tDx[0], &tDy[0], &tX[0], 8)
	copy(dx[n:], tDx[:])
}

//go:noescape
func gegluAVX(out, gate, up *float32, n int)

func geglu(out, gate, up []float32) {
	if !haveAVX2 {
		gegluGo(out, gate, up)
		return
	}
	n := len(out) &^ 7
	if n > 0 {
		gegluAVX(&out[0], &gate[0], &up[0], n)
	}
	if n == len(out) {
		return
	}
	var tOut [8]float32
	tGate := tail(gate, n, len(out))
	tUp := tail(up, n, len(out))
	gegluAVX(&tOut[0], &tGate[0], &tUp[0], 8)
	copy(out[n:], tOut[:])
}

//go:noescape
func gegluBackAVX(dGate, dUp, dOut, gate, up *float32, n int)

func gegluBack(dGate, dUp, dOut, gate, up []float32) {
	if !haveAVX2 {
		gegluBackGo(dGate, dUp, dOut, gate, up)
		return
	}
	n := len(dGate) &^ 7
	if n > 0 {
		gegluBackAVX(&dGate[0], &dUp[0], &dOut[0], &gate[0], &up[0], n)
	}
	if n == len(dGate) {
		return
	}
	var tDgate [8]float32
	var tDup [8]float32
	tDout := tail(dOut, n, len(dGate))
	tGate := tail(gate, n, len(dGate))
	tUp := tail(up, n, len(dGate))
	gegluBackAVX(&tDgate[0], &tDup[0], &tDout[0], &tGate[0], &tUp[0], 8)
	copy(dGate[n:], tDgate[:])
	copy(dUp[n:], tDup[:len(dGate)-n])
}

//go:noescape
func swigluAVX(out, gate, up *float32, n int)

func swiglu(out, gate, up []float32) {
	if !haveAVX2 {
		swigluGo(out, gate, up)
		return
	}
	n := len(out) &^ 7
	if n > 0 {
		swigluAVX(&out[0], &gate[0], &up[0], n)
	}
	if n == len(out) {
		return
	}
	var tOut [8]float32
	tGate := tail(gate, n, len(out))
	tUp := tail(up, n, len(out))
	swigluAVX(&tOut[0], &tGate[0], &tUp[0], 8)
	copy(out[n:], tOut[:])
}

//go:noescape
func swigluBackAVX(dGate, dUp, dOut, gate, up *float32, n int)

func swigluBack(dGate, dUp, dOut, gate, up []float32) {
	if !haveAVX2 {
		swigluBackGo(dGate, dUp, dOut, gate, up)
		return
	}
	n := len(dGate) &^ 7
	if n > 0 {
		swigluBackAVX(&dGate[0], &dUp[0], &dOut[0], &gate[0], &up[0], n)
	}
	if n == len(dGate) {
		return
	}
	var tDgate [8]float32
	var tDup [8]float32
	tDout := tail(dOut, n, len(dGate))
	tGate := tail(gate, n, len(dGate))
	tUp := tail(up, n, len(dGate))
	swigluBackAVX(&tDgate[0], &tDup[0], &tDout[0], &tGate[0], &tUp[0], 8)
	copy(dGate[n:], tDgate[:])
	copy(dUp[n:], tDup[:len(dGate)-n])
}

//go:noescape
func normBackXAVX(dx, dy, x, w *float32, mean, rstd, avg, proj float32, n int)

func normBackX(dx, dy, x, w []float32, mean, rstd, avg, proj float32) {
	if !haveAVX2 {
		normBackXGo(dx, dy, x, w, mean, rstd, avg, proj)
		return
	}
	n := len(dx) &^ 7
	if n > 0 {
		normBackXAVX(&dx[0], &dy[0], &x[0], &w[0], mean, rstd, avg, proj, n)
	}
	if n == len(dx) {
		return
	}
	var tDx [8]float32
	tDy := tail(dy, n, len(dx))
	tX := tail(x, n, len(dx))
	tW := tail(w, n, len(dx))
	normBackXAVX(&tDx[0], &tDy[0], &tX[0], &tW[0], mean, rstd, avg, proj, 8)
	copy(dx[n:], tDx[:])
}

//go:noescape
func normBackWAVX(dw, dy, x *float32, mean, rstd float32, n int)

func normBackW(dw, dy, x []float32, mean, rstd float32) {
	if !haveAVX2 {
		normBackWGo(dw, dy, x, mean, rstd)
		return
	}
	n := len(dw) &^ 7
	if n > 0 {
		normBackWAVX(&dw[0], &dy[0], &x[0], mean, rstd, n)
	}
	if n == len(dw) {
		return
	}
	tDw := tail(dw, n, len(dw))
	tDy := tail(dy, n, len(dw))
	tX := tail(x, n, len(dw))
	normBackWAVX(&tDw[0], &tDy[0], &tX[0], mean, rstd, 8)
	copy(dw[n:], tDw[:])
}

//go:noescape
func slopeAVX(p, dp *float32, delta, scale float32, n int)

func slope(p, dp []float32, delta, scale float32) {
	if !haveAVX2 {
		slopeGo(p, dp, delta, scale)
		return
	}
	n := len(p) &^ 7
	if n > 0 {
		slopeAVX(&p[0], &dp[0], delta, scale, n)
	}
	if n == len(p) {
		return
	}
	tP := tail(p, n, len(p))
	tDp := tail(dp, n, len(p))
	slopeAVX(&tP[0], &tDp[0], delta, scale, 8)
	copy(dp[n:], tDp[:len(p)-n])
}

//go:noescape
func turnAVX(re, im, a, b, cos, sin *float32, n int)

func turn(re, im, a, b, cos, sin []float32) {
	if !haveAVX2 {
		turnGo(re, im, a, b, cos, sin)
		return
	}
	n := len(re) &^ 7
	if n > 0 {
		turnAVX(&re[0], &im[0], &a[0], &b[0], &cos[0], &sin[0], n)
	}
	if n == len(re) {
		return
	}
	var tRe [8]float32
	var tIm [8]float32
	tA := tail(a, n, len(re))
	tB := tail(b, n, len(re))
	tCos := tail(cos, n, len(re))
	tSin := tail(sin, n, len(re))
	turnAVX(&tRe[0], &tIm[0], &tA[0], &tB[0], &tCos[0], &tSin[0], 8)
	copy(re[n:], tRe[:])
	copy(im[n:], tIm[:len(re)-n])
}

// tail returns elements i to j-1 of x, at most eight, filled up with zeros.
func tail(x []float32, i, j int) (t [8]float32) {
	copy(t[:], x[i:j])
	return t
}
