package kerneltest

import (
	"fmt"
	"math"

	"svae/kernels"
	"svae/kernels/ref"
)

var narrows = []kernels.DType{kernels.BF16, kernels.I8}

// weights makes an input of O rows of I weights of a narrow type, in host memory, and returns the values that they have.
func (e *env) weights(name string, dt kernels.DType, O, I int) (kernels.Buf, []float64) {
	f := make([]float32, O*I)
	for i := range f {
		f[i] = float32(e.NormFloat64())
	}
	values := make([]float64, O*I)
	at, end := margin+1+(e.shift+3*len(e.operands))%7, O*I
	o := &operand{name: name, kept: true, at: at, n: O * I}
	e.operands = append(e.operands, o)
	if e.short == len(e.operands) {
		end -= I
	}
	if dt == kernels.BF16 {
		whole := make([]uint16, at+O*I+margin)
		for i := range whole {
			whole[i] = 0x7fc0 // NaN
		}
		kernels.RoundBF16(whole[at:], f)
		kernels.WidenBF16(values, whole[at:at+O*I])
		o.read = func() []float64 {
			v := make([]float64, len(whole))
			for i, h := range whole {
				v[i] = float64(h)
			}
			return v
		}
		o.before = o.read()
		return kernels.BF16Of(whole[at : at+end]), values
	}
	whole, scales := make([]int8, at+O*I+margin), make([]float32, O+2*margin)
	for i := range whole {
		whole[i] = -128
	}
	for i := range scales {
		scales[i] = float32(math.NaN())
	}
	if err := kernels.QuantizeInt8(whole[at:], scales[margin:], f, O, I); err != nil {
		panic(err)
	}
	for i := range values {
		values[i] = float64(scales[margin+i/I] * float32(whole[at+i]))
	}
	o.read = func() []float64 {
		v := make([]float64, len(whole), len(whole)+len(scales))
		for i, q := range whole {
			v[i] = float64(q)
		}
		for _, s := range scales {
			v = append(v, float64(s))
		}
		return v
	}
	o.before = o.read()
	rows := O
	if I > 0 {
		rows = end / I
	}
	return kernels.Int8Of(whole[at:at+end], scales[margin:margin+rows], I), values
}

// blocked returns rows of x as Linear over int8 weights rounds them.
func blocked(x []float64, N, I int) []float64 {
	out, row := make([]float64, N*I), make([]float32, I)
	blocks := (I + kernels.I8Block - 1) / kernels.I8Block
	q, scales := make([]int16, blocks*kernels.I8Block), make([]float32, blocks)
	for n := range N {
		for i := range row {
			row[i] = float32(x[n*I+i])
		}
		kernels.QuantizeBlocks(q, scales, row)
		for i := range row {
			out[n*I+i] = float64(scales[i/kernels.I8Block]) * float64(q[i])
		}
	}
	return out
}

func linearWeights(dt kernels.DType, N, I, O int, act kernels.Act, bias, keep, pack bool) func(*env) {
	return func(e *env) {
		xv := e.normal(N * I)
		x := e.in("x", xv)
		w, wv := e.weights("w", dt, O, I)
		var bv []float64
		var b, pre kernels.Buf
		if bias {
			bv = e.normal(O)
			b = e.in("b", bv)
		}
		mag := func() []float64 {
			m, seen := make([]float64, N*O), xv
			if dt == kernels.I8 {
				seen = blocked(xv, N, I)
			}
			ref.Linear(m, nil, abs(seen), abs(wv), abs(bv), kernels.None, N, I, O)
			return m
		}
		out := e.out("out", N*O, tolSum, mag)
		if keep {
			pre = e.out("pre", N*O, tolSum, mag)
		}
		if pack {
			e.b.Pack(w, O, I)
			defer e.b.Unpack(w)
		}
		e.b.Linear(out, pre, x, w, b, act, N, I, O)
	}
}

func gatherWeights(dt kernels.DType, lo, N, R, D int) func(*env) {
	return func(e *env) {
		out := e.inout("out", e.normal(N*D), tolCopy, nil)
		src, _ := e.weights("src", dt, R, D)
		e.b.Gather(out, src, ids(e, lo, N, R), lo, N, R, D)
	}
}

func xentWeights(dt kernels.DType, N, D, V int) func(*env) {
	return func(e *env) {
		w, _ := e.weights("w", dt, V, D)
		nats := e.out("nats", N, tolXent, func() []float64 {
			m := make([]float64, N)
			for i := range m {
				m[i] = float64(10 + D)
			}
			return m
		})
		loss := e.b.Xent(&kernels.Xent{Nats: nats, X: e.in("x", e.normal(N*D)), W: w, Targets: targets(e, N, V), N: N, D: D, V: V})
		e.scalar("loss", loss, tolXent, func() []float64 { return []float64{float64(N * (10 + D))} })
	}
}

func testWeights(s *suite) {
	for _, dt := range narrows {
		linearShapes(s, func(i, N, I, O int) {
			act, bias := acts[i/2%len(acts)], i%2 == 0
			keep := act.KeepsInput() && i%3 > 0
			label := fmt.Sprintf("Linear dtype=%d N=%d I=%d O=%d act=%d bias=%t keep=%t", dt, N, I, O, act, bias, keep)
			s.check(label, linearWeights(dt, N, I, O, act, bias, keep, false))
			s.check(label+" packed", linearWeights(dt, N, I, O, act, bias, keep, true))
		})
		s.check(fmt.Sprint("Linear of many rows, dtype=", dt), linearWeights(dt, 2050, 70, 9, kernels.GELU, true, true, false))
		for _, d := range [][4]int{{0, 3, 5, 7}, {4, 9, 6, 64}, {2, 1, 3, 100}, {0, 0, 1, 1}, {1, 5, 4, 0}} {
			s.check(fmt.Sprint("Gather dtype=", dt, d), gatherWeights(dt, d[0], d[1], d[2], d[3]))
		}
		s.check(fmt.Sprint("Xent dtype=", dt), xentWeights(dt, 9, 70, 33))
		s.widened(dt)
	}
	s.exact()
}

// widened checks that Gather, and Linear over bf16, give what the same values in float32 give, to the bit.
func (s *suite) widened(dt kernels.DType) {
	for _, d := range [][3]int{{1, 768, 130}, {5, 300, 33}, {7, 64, 64}, {13, 17, 5}, {130, 513, 200}} {
		N, I, O := d[0], d[1], d[2]
		label := fmt.Sprint("dtype ", dt, d)
		e := newEnv(s.b, label, 0)
		w, values := e.weights("w", dt, O, I)
		x, out, want, wide := upload(s.b, e.normal(N*I)), s.b.Alloc(N*O), s.b.Alloc(N*O), upload(s.b, values)
		rows, all := s.b.Alloc(O*I), make([]int32, O)
		for i := range all {
			all[i] = int32(i)
		}
		s.b.Gather(rows, w, all, 0, O, O, I)
		if i := differ(download(s.b, rows), download(s.b, wide)); i >= 0 {
			s.fail("%s: element %d of the table is not what it stands for", label, i)
		}
		if dt != kernels.BF16 {
			continue
		}
		s.b.Linear(want, kernels.Buf{}, x, wide, kernels.Buf{}, kernels.None, N, I, O)
		for _, pack := range []bool{false, true} {
			if pack {
				s.b.Pack(w, O, I)
			}
			s.b.Linear(out, kernels.Buf{}, x, w, kernels.Buf{}, kernels.None, N, I, O)
			if i := differ(download(s.b, out), download(s.b, want)); i >= 0 {
				s.fail("%s: element %d is not that of the widened weights, packed %t", label, i, pack)
			}
		}
		s.b.Unpack(w)
	}
}

// exact checks products of int8 weights whose every term is a whole number, at the ends of the range too: nothing may
// saturate, overflow or be rounded.
func (s *suite) exact() {
	for _, I := range []int{1, 63, 64, 65, 128, 200, 320} {
		for fill, pick := range map[string]func(e *env) (w int8, x float64){
			"most":   func(*env) (int8, float64) { return 127, 127 },
			"least":  func(*env) (int8, float64) { return -127, 127 },
			"lower":  func(*env) (int8, float64) { return -128, -127 },
			"both":   func(e *env) (int8, float64) { return int8(127 - 254*e.IntN(2)), float64(127 - 254*e.IntN(2)) },
			"random": func(e *env) (int8, float64) { return int8(e.IntN(256) - 128), float64(e.IntN(255) - 127) },
		} {
			const N, O = 7, 9
			e := newEnv(s.b, fmt.Sprint("exact", fill, I), 0)
			w, x, want := make([]int8, O*I), make([]float64, N*I), make([]float64, N*O)
			for i := range w {
				w[i], _ = pick(e)
			}
			for i := range x {
				if _, x[i] = pick(e); i%I%kernels.I8Block == 0 {
					x[i] = 127 // the scale of the block is 1
				}
			}
			for n := range N {
				for o := range O {
					for i := range I {
						want[n*O+o] += x[n*I+i] * float64(w[o*I+i])
					}
				}
			}
			ones := make([]float32, O)
			for i := range ones {
				ones[i] = 1
			}
			out := s.b.Alloc(N * O)
			for n := 1; n <= N; n++ {
				s.b.Linear(out, kernels.Buf{}, upload(s.b, x), kernels.Int8Of(w, ones, I), kernels.Buf{}, kernels.None, n, I, O)
				if i := differ(download(s.b, out)[:n*O], want[:n*O]); i >= 0 {
					s.fail("int8 %s, %d rows of %d: element %d is %v, want %v", fill, n, I, i, download(s.b, out)[i], want[i])
				}
			}
		}
	}
}

// testNarrow checks that a NaN or an infinity in x stays in its row, and that gradients never meet narrow weights.
func testNarrow(s *suite) {
	const N, I, O = 6, 150, 10
	none := kernels.Buf{}
	for _, dt := range narrows {
		e := newEnv(s.b, fmt.Sprint("narrow", dt), 0)
		w, _ := e.weights("w", dt, O, I)
		for _, bad := range []float64{math.NaN(), math.Inf(1), math.Inf(-1)} {
			xv := e.normal(N * I)
			xv[2*I+100] = bad
			out := s.b.Alloc(N * O)
			s.b.Linear(out, none, upload(s.b, xv), w, none, kernels.None, N, I, O)
			for i, y := range download(s.b, out) {
				if finite := !math.IsNaN(y) && !math.IsInf(y, 0); finite == (i/O == 2) {
					s.fail("dtype %d: %v in row 2, but row %d holds %v", dt, bad, i/O, y)
					break
				}
			}
		}
		x := func(n int) kernels.Buf { return s.b.Alloc(n) }
		for name, f := range map[string]func(){
			"LinearBackwardX": func() { s.b.LinearBackwardX(x(N*I), x(N*O), w, N, I, O) },
			"LinearBackwardW": func() { s.b.LinearBackwardW(w, x(N*O), x(N*I), N, I, O) },
			"Linear's x":      func() { s.b.Linear(x(O), none, w, x(I), none, kernels.None, O, I, 1) },
			"ScatterAdd":      func() { s.b.ScatterAdd(w, x(I), []int32{0}, 0, 1, O, I) },
			"AdamW":           func() { s.b.AdamW(w, x(I), x(I), x(I), adam, I) },
			"SumSquares":      func() { s.b.SumSquares(w, I) },
			"RMSNorm":         func() { s.b.RMSNorm(x(I), none, x(I), w, eps, 1, I) },
			"Upload":          func() { s.b.Upload(w, make([]float32, I)) },
			"Download":        func() { s.b.Download(make([]float32, I), w) },
			"Zero":            func() { s.b.Zero(w) },
			"Copy":            func() { s.b.Copy(x(O*I), w) },
			"Xent": func() {
				s.b.Xent(&kernels.Xent{Nats: x(1), DX: x(I), X: x(I), W: w, Targets: []int32{0}, N: 1, D: I, V: O})
			},
			"Xent's DW": func() {
				s.b.Xent(&kernels.Xent{Nats: x(1), DW: x(O * I), X: x(I), W: w, Targets: []int32{0}, N: 1, D: I, V: O})
			},
		} {
			s.panics(fmt.Sprint(name, ", dtype ", dt), kernels.NarrowWeights, f)
		}
	}
}
