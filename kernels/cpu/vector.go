package cpu

import "math"

// The loops of vector_amd64.s, for other processors. All vectors of a call are as long as the first.

func addGo(out, a, b []float32) {
	for i := range out {
		out[i] = a[i] + b[i]
	}
}

func mulAddGo(y, x []float32, alpha float32) {
	for i := range y {
		y[i] += float32(alpha * x[i])
	}
}

func scaleGo(y, x []float32, alpha float32) {
	for i := range y {
		y[i] = alpha * x[i]
	}
}

func reluGo(out, x []float32) {
	for i := range out {
		out[i] = max(x[i], 0)
	}
}

func reluBackGo(dx, dy, y []float32) {
	for i := range dx {
		d := dy[i]
		if !(y[i] > 0) {
			d = 0
		}
		dx[i] = d
	}
}

func geluGo(out, x []float32) {
	for i := range out {
		v := float64(x[i])
		out[i] = float32(v * phi(v))
	}
}

func geluBackGo(dx, dy, x []float32) {
	for i := range dx {
		v := float64(x[i])
		dx[i] = dy[i] * float32(phi(v)+v*math.Exp(-0.5*v*v)/math.Sqrt(2*math.Pi))
	}
}

// phi is the normal distribution function.
func phi(x float64) float64 { return 0.5 * math.Erfc(-x/math.Sqrt2) }

func geluTanhGo(out, x []float32) {
	for i := range out {
		v := float64(x[i])
		out[i] = float32(v * gate(v))
	}
}

func geluTanhBackGo(dx, dy, x []float32) {
	for i := range dx {
		_, slope := geluSlope(x[i])
		dx[i] = dy[i] * slope
	}
}

// The tanh form of GELU is x·sigmoid(geluC·x·(1 + geluCubic·x²)).
const (
	geluC     = 1.5957691216057308 // 2·√(2/π)
	geluCubic = 0.044715
	geluFar   = 12 // beyond it the sigmoid is 0 or 1 in float32
)

// gate returns what the tanh form of GELU multiplies x by.
func gate(x float64) float64 { return sigmoid(geluC * x * (1 + geluCubic*x*x)) }

// geluSlope returns the tanh form of GELU and its derivative.
func geluSlope(x float32) (y, slope float32) {
	v := float64(x)
	s := gate(v)
	near := min(max(v, -geluFar), geluFar)
	return float32(v * s), float32(s + near*s*(1-s)*geluC*(1+3*geluCubic*near*near))
}

func gegluGo(out, gate, up []float32) {
	for i := range out {
		y, _ := geluSlope(gate[i])
		out[i] = y * up[i]
	}
}

func gegluBackGo(dGate, dUp, dOut, gate, up []float32) {
	for i := range dGate {
		y, slope := geluSlope(gate[i])
		d, u := dOut[i], up[i]
		dGate[i] = d * u * slope
		dUp[i] = d * y
	}
}

func swigluGo(out, gate, up []float32) {
	for i := range out {
		g := float64(gate[i])
		out[i] = float32(g*sigmoid(g)) * up[i]
	}
}

func swigluBackGo(dGate, dUp, dOut, gate, up []float32) {
	for i := range dGate {
		g := float64(gate[i])
		s := sigmoid(g)
		d, u := dOut[i], up[i]
		dGate[i] = d * u * float32(s*(1+g*(1-s)))
		dUp[i] = d * float32(g*s)
	}
}

func sigmoid(x float64) float64 { return 1 / (1 + math.Exp(-x)) }

// expSumGo overwrites x[i] with exp(scale·x[i] - shift) and returns the sum, added up in eight lanes.
func expSumGo(x []float32, scale, shift float32) float32 {
	var lanes [8]float32
	for i := range x {
		x[i] = float32(math.Exp(float64(float32(scale*x[i]) - shift)))
		lanes[i%8] += x[i]
	}
	return sum8(&lanes)
}

// sum8 adds the lanes as SUM8 of vector_amd64.s does.
func sum8(l *[8]float32) float32 {
	return ((l[0] + l[4]) + (l[2] + l[6])) + ((l[1] + l[5]) + (l[3] + l[7]))
}

func maxGo(x []float32) float32 {
	m := x[0]
	for _, v := range x {
		if v > m {
			m = v
		}
	}
	return m
}

func sumGo(x []float32) float32 {
	var lanes [8]float32
	for i, v := range x {
		lanes[i%8] += v
	}
	return sum8(&lanes)
}

func dotGo(a, b []float32) float32 {
	var lanes [8]float32
	for i, v := range a {
		lanes[i%8] += float32(v * b[i])
	}
	return sum8(&lanes)
}

// spreadGo returns Σ (x[i]-mean)².
func spreadGo(x []float32, mean float32) float32 {
	var lanes [8]float32
	for i, v := range x {
		lanes[i%8] += float32((v - mean) * (v - mean))
	}
	return sum8(&lanes)
}

// normGo overwrites out = (x-mean)·rstd·w + b; b may be nil.
func normGo(out, x, w, b []float32, mean, rstd float32) {
	for i := range out {
		out[i] = (x[i] - mean) * rstd * w[i]
		if b != nil {
			out[i] += b[i]
		}
	}
}

// normSumsGo returns Σ g and Σ g·x̂ for g = dy·w and x̂ = (x-mean)·rstd.
func normSumsGo(dy, x, w []float32, mean, rstd float32) (sum, proj float32) {
	var a, b [8]float32
	for i := range dy {
		g := dy[i] * w[i]
		a[i%8] += g
		b[i%8] += float32(g * ((x[i] - mean) * rstd))
	}
	return sum8(&a), sum8(&b)
}

// normBackXGo overwrites dx = rstd·(dy·w - avg - x̂·proj).
func normBackXGo(dx, dy, x, w []float32, mean, rstd, avg, proj float32) {
	for i := range dx {
		g, xhat := dy[i]*w[i]-avg, (x[i]-mean)*rstd
		dx[i] = (g - xhat*proj) * rstd
	}
}

// normBackWGo adds dy·x̂ to dw.
func normBackWGo(dw, dy, x []float32, mean, rstd float32) {
	for i := range dw {
		dw[i] += float32(dy[i] * ((x[i] - mean) * rstd))
	}
}

// slopeGo overwrites dp = (dp-delta)·p·scale, the gradient of the scores of a softmax row.
func slopeGo(p, dp []float32, delta, scale float32) {
	for i := range dp {
		dp[i] = (dp[i] - delta) * p[i] * scale
	}
}

// turnGo overwrites re = a·cos - b·sin and im = b·cos + a·sin. re and im may be a and b.
func turnGo(re, im, a, b, cos, sin []float32) {
	for i := range re {
		x, y := a[i], b[i]
		re[i] = float32(x*cos[i]) - float32(y*sin[i])
		im[i] = float32(y*cos[i]) + float32(x*sin[i])
	}
}

// adam is an update of kernels.AdamW as its loop wants it: step and root hold the corrections of the bias.
type adam struct{ scale, decay, b1, c1, b2, c2, step, root, eps float32 }

func adamwGo(w, m, v, g []float32, p *adam) {
	for i := range w {
		d := g[i] * p.scale
		m[i] = float32(p.b1*m[i]) + float32(p.c1*d)
		v[i] = float32(p.b2*v[i]) + float32(p.c2*float32(d*d))
		root := float32(math.Sqrt(float64(v[i])))
		w[i] = float32(w[i]*p.decay) - float32(p.step*m[i])/(float32(root*p.root)+p.eps)
	}
}

func sumSquaresGo(x []float32) (s float64) {
	for _, v := range x {
		s += float64(v) * float64(v)
	}
	return s
}
