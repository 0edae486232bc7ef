package kerneltest

import (
	"fmt"
	"math"
	"testing"

	"svae/kernels"
	"svae/kernels/ref"
)

// Gradients checks every backward operation of package ref in float64 against central differences. With the step used,
// both the truncation and the rounding of a difference are below 1e-9 of the sums here.
func Gradients(t *testing.T) {
	for _, test := range []struct {
		name string
		run  func(*testing.T, kernels.Backend)
	}{
		{"Linear", linearGradients},
		{"Gated", gatedGradients},
		{"Norms", normGradients},
		{"Rotary", rotaryGradients},
		{"Attention", attentionGradients},
		{"Rows", rowGradients},
		{"Xent", xentGradients},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(t, ref.New(kernels.F64)) })
	}
}

// param is an input of a function and its gradient as the operation under test gives it.
type param struct {
	name string
	x, d kernels.Buf
}

// differences compares the gradient of each parameter with (f(x+h) - f(x-h))/2h, at up to 60 elements of each.
func differences(t *testing.T, label string, f func() float64, params ...param) {
	t.Helper()
	const h = 1e-5
	for _, p := range params {
		x, d := kernels.Host[float64](p.x), kernels.Host[float64](p.d)
		top := 0.0
		for _, g := range d {
			top = max(top, math.Abs(g))
		}
		for i := 0; i < len(x); i += 1 + len(x)/60 {
			keep := x[i]
			x[i] = keep + h
			up := f()
			x[i] = keep - h
			down := f()
			x[i] = keep
			want := (up - down) / (2 * h)
			if diff := math.Abs(d[i] - want); !(diff <= 1e-6*(math.Abs(want)+top)+1e-9) {
				t.Errorf("%s: %s[%d] = %v, the difference quotient is %v", label, p.name, i, d[i], want)
				break
			}
		}
	}
}

// weigh returns Σ c·x, the scalar whose gradient in x is c.
func weigh(c, x kernels.Buf) (sum float64) {
	for i, v := range kernels.Host[float64](x) {
		sum += kernels.Host[float64](c)[i] * v
	}
	return sum
}

func linearGradients(t *testing.T, b kernels.Backend) {
	for _, d := range [][3]int{{1, 1, 1}, {3, 5, 2}, {7, 2, 9}} {
		for _, act := range acts {
			N, I, O := d[0], d[1], d[2]
			label := fmt.Sprintf("N=%d I=%d O=%d act=%d", N, I, O, act)
			e := newEnv(b, label, 0)
			x, w, bias, c := upload(b, e.normal(N*I)), upload(b, e.normal(O*I)), upload(b, e.normal(O)), upload(b, e.normal(N*O))
			out, pre := b.Alloc(N*O), b.Alloc(N*O)
			f := func() float64 {
				b.Linear(out, pre, x, w, bias, act, N, I, O)
				return weigh(c, out)
			}
			f()
			saved := pre
			if act == kernels.ReLU {
				saved = out
			}
			dPre, dX, dW, dB := b.Alloc(N*O), b.Alloc(N*I), b.Alloc(O*I), b.Alloc(O)
			b.ActBackward(dPre, c, saved, act, N*O)
			b.LinearBackwardX(dX, dPre, w, N, I, O)
			b.LinearBackwardW(dW, dPre, x, N, I, O)
			b.LinearBackwardB(dB, dPre, N, O)
			differences(t, label, f, param{"dX", x, dX}, param{"dW", w, dW}, param{"dB", bias, dB})
		}
	}
}

func gatedGradients(t *testing.T, b kernels.Backend) {
	const n = 40
	for _, g := range gatedOps {
		e := newEnv(b, g.name, 0)
		gate, up, c := upload(b, e.normals(n, 3)), upload(b, e.normal(n)), upload(b, e.normal(n))
		out, dGate, dUp := b.Alloc(n), b.Alloc(n), b.Alloc(n)
		f := func() float64 {
			g.forward(b, out, gate, up, n)
			return weigh(c, out)
		}
		g.backward(b, dGate, dUp, c, gate, up, n)
		differences(t, g.name, f, param{"dGate", gate, dGate}, param{"dUp", up, dUp})
	}
}

func normGradients(t *testing.T, b kernels.Backend) {
	for _, d := range [][2]int{{1, 1}, {1, 3}, {5, 8}, {3, 17}} {
		N, D := d[0], d[1]
		label := fmt.Sprintf("N=%d D=%d", N, D)
		e := newEnv(b, label, 0)
		x, w, bias, c := upload(b, e.normal(N*D)), upload(b, e.normal(D)), upload(b, e.normal(D)), upload(b, e.normal(N*D))
		out, mean, rstd := b.Alloc(N*D), b.Alloc(N), b.Alloc(N)
		dX, dW, dB := b.Alloc(N*D), b.Alloc(D), b.Alloc(D)
		layer := func() float64 {
			b.LayerNorm(out, mean, rstd, x, w, bias, eps, N, D)
			return weigh(c, out)
		}
		layer()
		b.LayerNormBackward(dX, dW, dB, c, x, w, mean, rstd, N, D)
		differences(t, "LayerNorm "+label, layer, param{"dX", x, dX}, param{"dW", w, dW}, param{"dB", bias, dB})
		rms := func() float64 {
			b.RMSNorm(out, rstd, x, w, eps, N, D)
			return weigh(c, out)
		}
		rms()
		b.RMSNormBackward(dX, dW, c, x, w, rstd, N, D)
		differences(t, "RMSNorm "+label, rms, param{"dX", x, dX}, param{"dW", w, dW})
	}
}

func rotaryGradients(t *testing.T, b kernels.Backend) {
	const N, H, K = 3, 2, 6
	e := newEnv(b, "rotary", 0)
	x, c, out, dX := upload(b, e.normal(N*H*K)), upload(b, e.normal(N*H*K)), b.Alloc(N*H*K), b.Alloc(N*H*K)
	pos := []int32{0, 7, 1000}
	f := func() float64 {
		b.Rotary(out, x, pos, rotaryFreqs(K), false, N, H, K)
		return weigh(c, out)
	}
	b.Rotary(dX, c, pos, rotaryFreqs(K), true, N, H, K)
	differences(t, "Rotary", f, param{"dX", x, dX})
}

func attentionGradients(t *testing.T, b kernels.Backend) {
	for _, h := range []heads{{1, 1, 2}, {2, 1, 5}, {4, 2, 4}, {2, 2, 8}} {
		for _, p := range spreads {
			label := fmt.Sprintf("%+v %+v", h, p)
			p.longest = min(p.longest, 6)
			a := newAttn(newEnv(b, label, 0), h, p)
			op := a.forward(b)
			op.DOut, op.DQ = upload(b, a.d), b.Alloc(len(a.q))
			op.DK, op.DV = b.Alloc(len(a.k)), b.Alloc(len(a.k))
			f := func() float64 {
				b.Attention(op)
				return weigh(op.DOut, op.Out)
			}
			f()
			b.AttentionBackward(op)
			differences(t, label, f, param{"dQ", op.Q, op.DQ}, param{"dK", op.K, op.DK}, param{"dV", op.V, op.DV})
		}
	}
}

// rowGradients checks the pairs of row operations that are each other's backward pass.
func rowGradients(t *testing.T, b kernels.Backend) {
	const N, R, S, D = 9, 4, 3, 5
	e := newEnv(b, "row pairs", 0)
	x, c, src := upload(b, e.normal(N*D)), upload(b, e.normal(N*D)), upload(b, e.normal(R*D))
	out, dSrc := b.Alloc(N*D), b.Alloc(R*D)
	idx := []int32{2, 3, 5, 3, 9, 0, 4, 3, 2}
	b.ScatterAdd(dSrc, c, idx, 2, N, R, D)
	differences(t, "Gather", func() float64 {
		b.Gather(out, src, idx, 2, N, R, D)
		return weigh(c, out)
	}, param{"dSrc", src, dSrc})

	at := []int32{0, 4, 4, N}
	sums, per, dX, dPer := b.Alloc(S*D), upload(b, e.normal(S*D)), b.Alloc(N*D), b.Alloc(S*D)
	b.SegmentAdd(dX, kernels.Buf{}, per, at, S, D)
	differences(t, "SegmentSum", func() float64 {
		b.SegmentSum(sums, x, at, S, D)
		return weigh(per, sums)
	}, param{"dX", x, dX})
	b.SegmentSum(dPer, c, at, S, D)
	differences(t, "SegmentAdd", func() float64 {
		b.SegmentAdd(out, x, per, at, S, D)
		return weigh(c, out)
	}, param{"dX", x, c}, param{"dC", per, dPer})
}

func xentGradients(t *testing.T, b kernels.Backend) {
	for _, gamma := range []float64{0, 0.5, 1, 2} {
		for _, f := range []xentForm{{N: 1, D: 1, V: 2}, {N: 4, D: 3, V: 7, bias: true}, {N: 9, D: 8, V: 33, bias: true}} {
			label := fmt.Sprintf("gamma=%v %+v", gamma, f)
			e := newEnv(b, label, 0)
			a := kernels.Xent{
				X: upload(b, e.normal(f.N*f.D)), W: upload(b, e.normal(f.V*f.D)), Nats: b.Alloc(f.N), Gamma: gamma,
				DX: b.Alloc(f.N * f.D), DW: b.Alloc(f.V * f.D), N: f.N, D: f.D, V: f.V, Targets: targets(e, f.N, f.V),
			}
			params := []param{{"dX", a.X, a.DX}, {"dW", a.W, a.DW}}
			if f.bias {
				a.B, a.DB = upload(b, e.normal(f.V)), b.Alloc(f.V)
				params = append(params, param{"dB", a.B, a.DB})
			}
			b.Xent(&a)
			loss := a
			loss.DX, loss.DW, loss.DB = kernels.Buf{}, kernels.Buf{}, kernels.Buf{}
			differences(t, label, func() float64 { return b.Xent(&loss) }, params...)
		}
	}
}
