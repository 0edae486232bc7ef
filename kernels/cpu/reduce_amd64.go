//go:build amd64 && !noasm

package cpu

// Sums, rows and updates of vector_amd64.s: as in vector_amd64.go, for n > 0, a multiple of 8.

//go:noescape
func expSumAVX(x *float32, scale, shift float32, n int) float32

// expSum is expSumGo for a multiple of 8 elements.
func expSum(x []float32, scale, shift float32) float32 {
	if !haveAVX2 {
		return expSumGo(x, scale, shift)
	}
	return expSumAVX(&x[0], scale, shift, len(x))
}

//go:noescape
func maxAVX(x *float32, n int) float32

func maximum(x []float32) float32 {
	n := len(x) &^ 7
	if !haveAVX2 || n == 0 {
		return maxGo(x)
	}
	m := maxAVX(&x[0], n)
	if n < len(x) {
		m = max(m, maxGo(x[n:]))
	}
	return m
}

//go:noescape
func sumAVX(x *float32, n int) float32

func sum(x []float32) float32 {
	n := len(x) &^ 7
	if !haveAVX2 || n == 0 {
		return sumGo(x)
	}
	return sumAVX(&x[0], n) + sumGo(x[n:])
}

//go:noescape
func dotAVX(a, b *float32, n int) float32

func dot(a, b []float32) float32 {
	n := len(a) &^ 7
	if !haveAVX2 || n == 0 {
		return dotGo(a, b)
	}
	return dotAVX(&a[0], &b[0], n) + dotGo(a[n:], b[n:])
}

//go:noescape
func spreadAVX(x *float32, mean float32, n int) float32

func spread(x []float32, mean float32) float32 {
	n := len(x) &^ 7
	if !haveAVX2 || n == 0 {
		return spreadGo(x, mean)
	}
	return spreadAVX(&x[0], mean, n) + spreadGo(x[n:], mean)
}

//go:noescape
func normAVX(out, x, w *float32, mean, rstd float32, n int)

//go:noescape
func normBiasAVX(out, x, w, b *float32, mean, rstd float32, n int)

func norm(out, x, w, b []float32, mean, rstd float32) {
	n := len(out) &^ 7
	switch {
	case !haveAVX2 || n == 0:
		normGo(out, x, w, b, mean, rstd)
		return
	case b != nil:
		normBiasAVX(&out[0], &x[0], &w[0], &b[0], mean, rstd, n)
		b = b[n:]
	default:
		normAVX(&out[0], &x[0], &w[0], mean, rstd, n)
	}
	normGo(out[n:], x[n:], w[n:], b, mean, rstd)
}

//go:noescape
func normSumsAVX(dy, x, w *float32, mean, rstd float32, n int) (sum, proj float32)

func normSums(dy, x, w []float32, mean, rstd float32) (sum, proj float32) {
	n := len(dy) &^ 7
	if !haveAVX2 || n == 0 {
		return normSumsGo(dy, x, w, mean, rstd)
	}
	sum, proj = normSumsAVX(&dy[0], &x[0], &w[0], mean, rstd, n)
	s, p := normSumsGo(dy[n:], x[n:], w[n:], mean, rstd)
	return sum + s, proj + p
}

//go:noescape
func adamwAVX(w, m, v, grad *float32, scale, decay, b1, c1, b2, c2, step, root, eps float32, n int)

func adamw(w, m, v, g []float32, p *adam) {
	if !haveAVX2 {
		adamwGo(w, m, v, g, p)
		return
	}
	n := len(w) &^ 7
	if n > 0 {
		adamwAVX(&w[0], &m[0], &v[0], &g[0], p.scale, p.decay, p.b1, p.c1, p.b2, p.c2, p.step, p.root, p.eps, n)
	}
	if n == len(w) {
		return
	}
	tw, tm, tv, tg := tail(w, n, len(w)), tail(m, n, len(w)), tail(v, n, len(w)), tail(g, n, len(w))
	adamwAVX(&tw[0], &tm[0], &tv[0], &tg[0], p.scale, p.decay, p.b1, p.c1, p.b2, p.c2, p.step, p.root, p.eps, 8)
	copy(w[n:], tw[:])
	copy(m[n:len(w)], tm[:])
	copy(v[n:len(w)], tv[:])
}

//go:noescape
func sumSquaresAVX(x *float32, n int) float64

func sumSquares(x []float32) float64 {
	n := len(x) &^ 7
	if !haveAVX2 || n == 0 {
		return sumSquaresGo(x)
	}
	return sumSquaresAVX(&x[0], n) + sumSquaresGo(x[n:])
}
