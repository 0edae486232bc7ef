package ref

import (
	"math"

	"svae/kernels"
)

// activate returns act(x). A NaN stays a NaN, whatever the activation.
func activate[T kernels.Float](x T, act kernels.Act) T {
	switch act {
	case kernels.ReLU:
		return max(x, 0)
	case kernels.GELU:
		return T(float64(x) * phi(float64(x)))
	case kernels.GELUTanh:
		g, _ := geluTanh(float64(x))
		return T(g)
	}
	return x
}

// phi returns Φ(x), the normal distribution function. Erfc keeps its digits where 1+Erf would cancel.
func phi(x float64) float64 { return 0.5 * math.Erfc(-x/math.Sqrt2) }

// geluTanh returns the tanh form of GELU and its derivative. 0.5·(1 + tanh(u)) is sigmoid(2u), which keeps its digits where
// the sum would cancel.
func geluTanh(x float64) (y, slope float64) {
	const c, cubic = 2 * 0.7978845608028654, 0.044715 // 2·√(2/π)
	s := sigmoid(c * (x + cubic*x*x*x))
	if y = x * s; s*(1-s) == 0 { // far out, where the powers of x may be infinite
		return y, s
	}
	return y, s + y*(1-s)*c*(1+3*cubic*x*x)
}

// ActBackward overwrites dPre = dOut·act'(saved): the step of ReLU (Nair & Hinton 2010) read off its output, the
// derivative Φ(x) + x·φ(x) of GELU (Hendrycks & Gimpel 2016, §2) or that of its tanh form at the kept input. None copies dOut and does not read
// saved. dPre may be dOut.
//
//	dPre, dOut, saved (n)
func ActBackward[T kernels.Float](dPre, dOut, saved []T, act kernels.Act, n int) {
	check(n, dPre, dOut)
	if act == kernels.None {
		copy(dPre[:n], dOut)
		return
	}
	check(n, saved)
	for i := range n {
		switch x := float64(saved[i]); {
		case act == kernels.GELU:
			density := math.Exp(-0.5*x*x) / math.Sqrt(2*math.Pi)
			dPre[i] = dOut[i] * T(phi(x)+x*density)
		case act == kernels.GELUTanh:
			_, slope := geluTanh(x)
			dPre[i] = dOut[i] * T(slope)
		case x > 0:
			dPre[i] = dOut[i]
		default:
			dPre[i] = 0
		}
	}
}

// SwiGLU overwrites out = silu(gate)·up with silu(x) = x/(1+exp(-x)) (Shazeer 2020, eq. 6).
//
//	out, gate, up (n)
func SwiGLU[T kernels.Float](out, gate, up []T, n int) {
	check(n, out, gate, up)
	for i := range n {
		g := float64(gate[i])
		out[i] = T(g*sigmoid(g)) * up[i]
	}
}

// SwiGLUBackward overwrites dGate = dOut·up·silu'(gate) and dUp = dOut·silu(gate).
//
//	dGate, dUp, dOut, gate, up (n)
func SwiGLUBackward[T kernels.Float](dGate, dUp, dOut, gate, up []T, n int) {
	check(n, dGate, dUp, dOut, gate, up)
	for i := range n {
		g := float64(gate[i])
		s := sigmoid(g)
		dGate[i] = dOut[i] * up[i] * T(s*(1+g*(1-s)))
		dUp[i] = dOut[i] * T(g*s)
	}
}

// GeGLU overwrites out = gelu(gate)·up with the tanh form of GELU (Shazeer 2020, eq. 6).
//
//	out, gate, up (n)
func GeGLU[T kernels.Float](out, gate, up []T, n int) {
	check(n, out, gate, up)
	for i := range n {
		g, _ := geluTanh(float64(gate[i]))
		out[i] = T(g) * up[i]
	}
}

// GeGLUBackward overwrites dGate = dOut·up·gelu'(gate) and dUp = dOut·gelu(gate).
//
//	dGate, dUp, dOut, gate, up (n)
func GeGLUBackward[T kernels.Float](dGate, dUp, dOut, gate, up []T, n int) {
	check(n, dGate, dUp, dOut, gate, up)
	for i := range n {
		g, slope := geluTanh(float64(gate[i]))
		dGate[i] = dOut[i] * up[i] * T(slope)
		dUp[i] = dOut[i] * T(g)
	}
}

func sigmoid(x float64) float64 { return 1 / (1 + math.Exp(-x)) }
