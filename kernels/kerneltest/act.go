package kerneltest

import (
	"fmt"
	"math"

	"svae/kernels"
)

// lengths are element counts around vector widths, and one past the size that a backend splits among threads.
var lengths = []int{0, 1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 33, 64, 100, 1000, 4099}

func actBackward(act kernels.Act, n int) func(*env) {
	return func(e *env) {
		dv, sv := e.normal(n), e.normals(n, 2)
		if act == kernels.ReLU {
			for i, x := range sv {
				sv[i] = max(x, 0)
			}
		}
		dPre := e.out("dPre", n, tolAct, func() []float64 { return abs(dv) })
		e.b.ActBackward(dPre, e.in("dOut", dv), e.in("saved", sv), act, n)
	}
}

func testActBackward(s *suite) {
	for _, act := range acts {
		for _, n := range lengths {
			s.check(fmt.Sprintf("ActBackward act=%d n=%d", act, n), actBackward(act, n))
		}
	}
}

// gatedOp is the feed-forward map's product of an activated gate and another map.
type gatedOp struct {
	name     string
	forward  func(b kernels.Backend, out, gate, up kernels.Buf, n int)
	backward func(b kernels.Backend, dGate, dUp, dOut, gate, up kernels.Buf, n int)
}

var gatedOps = []gatedOp{
	{"SwiGLU", kernels.Backend.SwiGLU, kernels.Backend.SwiGLUBackward},
	{"GeGLU", kernels.Backend.GeGLU, kernels.Backend.GeGLUBackward},
}

func (g gatedOp) call(n int) func(*env) {
	return func(e *env) {
		gv, uv := e.normals(n, 3), e.normal(n)
		out := e.out("out", n, tolAct, func() []float64 { return siluMag(gv, uv) })
		g.forward(e.b, out, e.in("gate", gv), e.in("up", uv), n)
	}
}

func (g gatedOp) back(n int) func(*env) {
	return func(e *env) {
		gv, uv, dv := e.normals(n, 3), e.normal(n), e.normal(n)
		dGate := e.out("dGate", n, tolAct, func() []float64 {
			m := times(dv, uv)
			for i, g := range gv {
				m[i] *= 1 + math.Abs(g)
			}
			return m
		})
		dUp := e.out("dUp", n, tolAct, func() []float64 { return siluMag(gv, dv) })
		g.backward(e.b, dGate, dUp, e.in("dOut", dv), e.in("gate", gv), e.in("up", uv), n)
	}
}

func testGated(s *suite) {
	for _, g := range gatedOps {
		for _, n := range lengths {
			s.check(fmt.Sprintf("%s n=%d", g.name, n), g.call(n))
			s.check(fmt.Sprintf("%sBackward n=%d", g.name, n), g.back(n))
		}
	}
}

// siluMag returns |u|·(1 + |silu(g)|).
func siluMag(g, u []float64) []float64 {
	m := make([]float64, len(g))
	for i := range m {
		m[i] = math.Abs(u[i]) * (1 + math.Abs(g[i])/(1+math.Exp(-g[i])))
	}
	return m
}

// times returns |a·b|, element by element.
func times(a, b []float64) []float64 {
	m := make([]float64, len(a))
	for i := range m {
		m[i] = math.Abs(a[i] * b[i])
	}
	return m
}
