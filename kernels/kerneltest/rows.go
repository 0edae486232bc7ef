package kerneltest

import (
	"fmt"
	"math"
	"testing"

	"svae/kernels"
)

// rowOp is an operation whose output rows depend on the same rows of its inputs alone.
type rowOp struct {
	name     string
	in, out  []int // widths of the rows
	positive bool  // inputs are not negative
	run      func(rows []int, in, out []kernels.Buf)
}

// rowOps returns every such operation on the backend under test. Rows are numbers below N.
func rowOps(s *suite, N int) []rowOp {
	e := newEnv(s.b, "rows", 0)
	var ops []rowOp
	for _, d := range [][2]int{{1, 1}, {3, 17}, {64, 31}, {100, 64}, {1025, 33}, {2, 300}} {
		ops = append(ops, linearRows(s, e, d[0], d[1])...)
	}
	for _, D := range []int{1, 3, 8, 17, 64, 100, 513} {
		ops = append(ops, normRowOps(s, e, D)...)
		ops = append(ops, elementRows(s, D)...)
	}
	for _, f := range []xentForm{{D: 17, V: 1}, {D: 64, V: 33, gamma: 2}, {D: 5, V: 1000}, {D: 300, V: 70}} {
		ops = append(ops, xentRows(s, e, f, N))
	}
	pos := make([]int32, N)
	for i := range pos {
		pos[i] = e.Int32N(1000)
	}
	for _, h := range []heads{{1, 1, 2}, {3, 3, 6}, {2, 2, 64}} {
		ops = append(ops, rowOp{fmt.Sprintf("Rotary %+v", h), []int{h.H * h.K}, []int{h.H * h.K}, false,
			func(rows []int, in, out []kernels.Buf) {
				s.b.Rotary(out[0], in[0], pick(pos, rows), rotaryFreqs(h.K), false, len(rows), h.H, h.K)
			}})
	}
	return ops
}

func linearRows(s *suite, e *env, I, O int) (ops []rowOp) {
	w, b := upload(s.b, e.normal(O*I)), upload(s.b, e.normal(O))
	for _, act := range acts {
		for _, pack := range []bool{false, true} {
			ops = append(ops, rowOp{fmt.Sprintf("Linear I=%d O=%d act=%d pack=%t", I, O, act, pack), []int{I}, []int{O}, false,
				func(rows []int, in, out []kernels.Buf) {
					if pack {
						s.b.Pack(w, O, I)
						defer s.b.Unpack(w)
					}
					s.b.Linear(out[0], kernels.Buf{}, in[0], w, b, act, len(rows), I, O)
				}})
		}
	}
	for _, dt := range narrows {
		w, _ := e.weights("w", dt, O, I)
		for _, pack := range []bool{false, true} {
			ops = append(ops, rowOp{fmt.Sprintf("Linear I=%d O=%d dtype=%d pack=%t", I, O, dt, pack), []int{I}, []int{O}, false,
				func(rows []int, in, out []kernels.Buf) {
					if pack {
						s.b.Pack(w, O, I)
						defer s.b.Unpack(w)
					}
					s.b.Linear(out[0], kernels.Buf{}, in[0], w, b, kernels.None, len(rows), I, O)
				}})
		}
	}
	return append(ops, rowOp{fmt.Sprintf("LinearBackwardX I=%d O=%d", I, O), []int{O}, []int{I}, false,
		func(rows []int, in, out []kernels.Buf) { s.b.LinearBackwardX(out[0], in[0], w, len(rows), I, O) }})
}

func normRowOps(s *suite, e *env, D int) []rowOp {
	w, b := upload(s.b, e.normal(D)), upload(s.b, e.normal(D))
	none := kernels.Buf{}
	return []rowOp{
		{fmt.Sprint("LayerNorm D=", D), []int{D}, []int{D, 1, 1}, false, func(rows []int, in, out []kernels.Buf) {
			s.b.LayerNorm(out[0], out[1], out[2], in[0], w, b, eps, len(rows), D)
		}},
		{fmt.Sprint("LayerNormBackward D=", D), []int{D, D, 1, 1}, []int{D}, false, func(rows []int, in, out []kernels.Buf) {
			s.b.LayerNormBackward(out[0], none, none, in[0], in[1], w, in[2], in[3], len(rows), D)
		}},
		{fmt.Sprint("RMSNorm D=", D), []int{D}, []int{D, 1}, false, func(rows []int, in, out []kernels.Buf) {
			s.b.RMSNorm(out[0], out[1], in[0], w, eps, len(rows), D)
		}},
		{fmt.Sprint("RMSNormBackward D=", D), []int{D, D, 1}, []int{D}, false, func(rows []int, in, out []kernels.Buf) {
			s.b.RMSNormBackward(out[0], none, in[0], in[1], w, in[2], len(rows), D)
		}},
	}
}

// elementRows are the element-wise operations: an element in the tail of a vector loop must come out as one in its body.
func elementRows(s *suite, D int) []rowOp {
	op := func(name string, ins, outs int, run func(n int, in, out []kernels.Buf)) rowOp {
		widths := func(n int) []int {
			w := make([]int, n)
			for i := range w {
				w[i] = D
			}
			return w
		}
		return rowOp{fmt.Sprint(name, " D=", D), widths(ins), widths(outs), name == "AdamW",
			func(rows []int, in, out []kernels.Buf) { run(len(rows)*D, in, out) }}
	}
	var ops []rowOp
	for _, act := range acts {
		ops = append(ops, op(fmt.Sprintf("ActBackward act=%d", act), 2, 1, func(n int, in, out []kernels.Buf) {
			s.b.ActBackward(out[0], in[0], in[1], act, n)
		}))
	}
	for _, g := range gatedOps {
		ops = append(ops, op(g.name, 2, 1, func(n int, in, out []kernels.Buf) { g.forward(s.b, out[0], in[0], in[1], n) }),
			op(g.name+"Backward", 3, 2, func(n int, in, out []kernels.Buf) {
				g.backward(s.b, out[0], out[1], in[0], in[1], in[2], n)
			}))
	}
	return append(ops,
		op("Add", 2, 1, func(n int, in, out []kernels.Buf) { s.b.Add(out[0], in[0], in[1], n) }),
		op("AddScaled", 2, 1, func(n int, in, out []kernels.Buf) {
			s.b.Copy(out[0], in[0])
			s.b.AddScaled(out[0], 0.3, in[1], n)
		}),
		op("Scale", 1, 1, func(n int, in, out []kernels.Buf) { s.b.Scale(out[0], 0.3, in[0], n) }),
		op("AdamW", 4, 3, func(n int, in, out []kernels.Buf) {
			for i := range out {
				s.b.Copy(out[i], in[i])
			}
			p := adam
			p.Step = 3
			s.b.AdamW(out[0], out[1], out[2], in[3], p, n)
		}))
}

func xentRows(s *suite, e *env, f xentForm, N int) rowOp {
	w, b := upload(s.b, e.normals(f.V*f.D, 0.3)), upload(s.b, e.normal(f.V))
	all := targets(e, N, f.V)
	return rowOp{fmt.Sprintf("Xent %+v", f), []int{f.D}, []int{1, f.D}, false, func(rows []int, in, out []kernels.Buf) {
		s.b.Xent(&kernels.Xent{
			Nats: out[0], DX: out[1], X: in[0], W: w, B: b, Targets: pick(all, rows), Gamma: f.gamma,
			N: len(rows), D: f.D, V: f.V,
		})
	}}
}

func pick(v []int32, rows []int) []int32 {
	p := make([]int32, len(rows))
	for i, r := range rows {
		p[i] = v[r]
	}
	return p
}

// testRows checks that a row's result is the same to the bit whatever other rows the batch holds: alone, in batches of
// other sizes, in another order, and among rows of NaN.
func testRows(s *suite) {
	const N = 70
	all := make([]int, N)
	for i := range all {
		all[i] = i
	}
	var batches [][]int
	for _, row := range []int{0, 13, N - 1} {
		batches = append(batches, []int{row})
	}
	for _, n := range []int{2, 3, 4, 5, 6, 7, 8, 9, 12, 13, 33} {
		batches = append(batches, all[11:11+n])
	}
	back := make([]int, N-1)
	for i := range back {
		back[i] = N - 1 - i
	}
	batches = append(batches, back)
	if testing.Short() {
		batches = batches[:7]
	}
	for _, op := range rowOps(s, N) {
		e := newEnv(s.b, op.name, 0)
		in := make([][]float64, len(op.in))
		for k, w := range op.in {
			in[k] = e.normal(N * w)
			if op.positive {
				in[k] = abs(in[k])
			}
		}
		whole := s.runRows(op, all, in, -1)
		for i, rows := range batches {
			s.sameRows(op, whole, s.runRows(op, rows, in, -1), rows, fmt.Sprint("in a batch of ", len(rows), ", ", i))
		}
		s.sameRows(op, whole, s.runRows(op, all, in, 37), all, "among NaN")
	}
}

// runRows runs an operation on some rows of its inputs. With keep >= 0 all other rows become NaN.
func (s *suite) runRows(op rowOp, rows []int, in [][]float64, keep int) [][]float64 {
	var ins, outs []kernels.Buf
	for k, w := range op.in {
		v := make([]float64, 1+len(rows)%5, 1+len(rows)%5+len(rows)*w) // some alignment
		lead := len(v)
		for _, r := range rows {
			for i := range w {
				x := in[k][r*w+i]
				if keep >= 0 && r != keep {
					x = math.NaN()
				}
				v = append(v, x)
			}
		}
		ins = append(ins, upload(s.b, v).Slice(lead, len(v)))
	}
	for _, w := range op.out {
		outs = append(outs, s.b.Alloc(1+len(rows)*w).Slice(1, 1+len(rows)*w))
	}
	op.run(rows, ins, outs)
	got := make([][]float64, len(outs))
	for k, b := range outs {
		got[k] = download(s.b, b)
	}
	return got
}

// sameRows compares the rows of a part with the same rows of the whole. Rows that are NaN in the part do not count.
func (s *suite) sameRows(op rowOp, whole, part [][]float64, rows []int, where string) {
	s.Helper()
	for k, w := range op.out {
		for at, r := range rows {
			for i := range w {
				x, y := whole[k][r*w+i], part[k][at*w+i]
				if where == "among NaN" && r != 37 {
					continue
				}
				if !same(x, y) {
					s.fail("%s: output %d, row %d, element %d is %v in the whole batch and %v %s", op.name, k, r, i, x, y, where)
					return
				}
			}
		}
	}
}
