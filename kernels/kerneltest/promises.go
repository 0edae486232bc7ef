package kerneltest

import (
	"fmt"
	"math"
	"runtime"
	"sync"
	"testing"

	"svae/kernels"
)

// call is one call of one operation with all its operands.
type call struct {
	name string
	run  func(*env)
}

// calls returns one call of every operation. Large ones are past the sizes that a backend may split among threads.
func (s *suite) calls(large bool) []call {
	N, I, O, D, V, n := 5, 3, 7, 6, 9, 11
	h, p := heads{4, 2, 6}, spread{6, 4, true, false}
	if large {
		N, I, O, D, V, n = 130, 150, 130, 90, 400, 40_001
		h, p = heads{4, 2, 32}, spread{16, 24, true, false}
	}
	return []call{
		{"Gather", gather(0, N, O, D)},
		{"ScatterAdd", scatterAdd(0, N, O, D)},
		{"Linear", linearCall(N, I, O, kernels.GELU, true, true, false)},
		{"Linear of one row", linearCall(1, I*O, N, kernels.None, true, false, false)},
		{"Linear of bf16 weights", linearWeights(kernels.BF16, N, I, O, kernels.GELU, true, true, false)},
		{"Linear of int8 weights", linearWeights(kernels.I8, N, I, O, kernels.GELU, true, true, false)},
		{"Linear of one row, bf16", linearWeights(kernels.BF16, 1, I*O, N, kernels.None, true, false, false)},
		{"Linear of one row, int8", linearWeights(kernels.I8, 1, I*O, N, kernels.None, true, false, false)},
		{"Gather of bf16 weights", gatherWeights(kernels.BF16, 0, N, O, D)},
		{"Gather of int8 weights", gatherWeights(kernels.I8, 0, N, O, D)},
		{"Xent of int8 weights", xentWeights(kernels.I8, N, D, V)},
		{"LinearBackwardX", linearBackwardX(N, I, O)},
		{"LinearBackwardW", linearBackwardW(N, I, O)},
		{"LinearBackwardB", linearBackwardB(N, O)},
		{"ActBackward", actBackward(kernels.GELU, n)},
		{"ActBackward of the tanh form", actBackward(kernels.GELUTanh, n)},
		{"SwiGLU", gatedOps[0].call(n)},
		{"SwiGLUBackward", gatedOps[0].back(n)},
		{"GeGLU", gatedOps[1].call(n)},
		{"GeGLUBackward", gatedOps[1].back(n)},
		{"LayerNorm", layerNorm(N, D, true, true)},
		{"LayerNormBackward", layerNormBackward(N, D, 0)},
		{"RMSNorm", rmsNorm(N, D, true)},
		{"RMSNormBackward", rmsNormBackward(N, D, 0)},
		{"Rotary", rotary(N, h.H, h.K, false)},
		{"Attention of segments", attention(h, p, true)},
		{"AttentionBackward of segments", attentionBackward(h, p, s.ref)},
		{"AttentionRanges", attentionRanges(h, N, 3*N, -1, true)},
		{"SegmentSum", segmentSum(0, N, 5, D)},
		{"SegmentAdd", segmentAdd(N, 5, D, false)},
		{"Add", add(n)},
		{"AddScaled", addScaled(n)},
		{"Scale", scale(n)},
		{"Dropout", dropout(0.2, 9, n)},
		{"Noise", noise(0.5, 9, n)},
		{"Xent", xent(xentForm{N, D, V, 2, true, 0}, 2)},
		{"Top", topCall(2, V, D)},
		{"AdamW", adamW(adam, n)},
		{"SumSquares", sumSquares(n)},
	}
}

// testThreads checks that the number of threads changes no bit: backends opened before and after the change.
func testThreads(s *suite) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(0))
	calls := s.calls(true)
	first := make([]*env, len(calls))
	counts := []int{1, 4, 2}
	if testing.Short() {
		counts = counts[:2]
	}
	for _, procs := range counts {
		runtime.GOMAXPROCS(procs)
		for k, b := range []kernels.Backend{s.b, s.open()} {
			for i, c := range calls {
				e := s.run(b, c.name, 0, c.run)
				if first[i] == nil {
					first[i] = e
				}
				s.sameBits(fmt.Sprintf("%s, GOMAXPROCS=%d, backend %d", c.name, procs, k), first[i], e)
			}
		}
	}
	for i, c := range calls {
		want := s.run(s.ref, c.name, 0, c.run)
		for k, o := range want.operands {
			if !o.kept {
				s.near(c.name, o, first[i].operands[k].got)
			}
		}
	}
}

// testConcurrent checks that calls on disjoint buffers may run at the same time.
func testConcurrent(s *suite) {
	calls := append(s.calls(false), call{"Linear packed", linearCall(33, 64, 50, kernels.ReLU, true, false, true)})
	const workers, turns = 4, 3
	var envs [workers][turns][]*env
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for t := range turns {
				for i := range calls {
					c := calls[(i+w*7)%len(calls)]
					e := newEnv(s.b, c.name, w)
					c.run(e)
					envs[w][t] = append(envs[w][t], e)
				}
			}
		})
	}
	wg.Wait()
	for w := range workers {
		for t := range turns {
			for i, e := range envs[w][t] {
				c := calls[(i+w*7)%len(calls)]
				e.finish(s, c.name)
				s.sameBits(c.name+", in parallel", s.run(s.b, c.name, 0, c.run), e)
			}
		}
	}
}

// testOverlap checks that an output that may be an input gives the same bits there.
func testOverlap(s *suite) {
	const H, K = 3, 10
	for _, n := range []int{0, 30, 60, 990, 3000} {
		e := newEnv(s.b, fmt.Sprint("overlap", n), 0)
		xv, yv, pos := e.normal(n), e.normal(n), make([]int32, n/(H*K))
		for i := range pos {
			pos[i] = int32(i)
		}
		y := upload(s.b, yv)
		for name, f := range map[string]func(out, x kernels.Buf){
			"Rotary":      func(out, x kernels.Buf) { s.b.Rotary(out, x, pos, rotaryFreqs(K), false, len(pos), H, K) },
			"Rotary back": func(out, x kernels.Buf) { s.b.Rotary(out, x, pos, rotaryFreqs(K), true, len(pos), H, K) },
			"Add a":       func(out, x kernels.Buf) { s.b.Add(out, x, y, n) },
			"Add b":       func(out, x kernels.Buf) { s.b.Add(out, y, x, n) },
			"Add both":    func(out, x kernels.Buf) { s.b.Add(out, x, x, n) },
			"Scale":       func(out, x kernels.Buf) { s.b.Scale(out, 0.7, x, n) },
			"Dropout":     func(out, x kernels.Buf) { s.b.Dropout(out, x, 0.4, 11, n) },
			"Noise":       func(out, x kernels.Buf) { s.b.Noise(out, x, 0.4, 11, n) },
			"None":        func(out, x kernels.Buf) { s.b.ActBackward(out, x, y, kernels.None, n) },
			"ReLU":        func(out, x kernels.Buf) { s.b.ActBackward(out, x, y, kernels.ReLU, n) },
			"GELU":        func(out, x kernels.Buf) { s.b.ActBackward(out, x, y, kernels.GELU, n) },
			"GELUTanh":    func(out, x kernels.Buf) { s.b.ActBackward(out, x, y, kernels.GELUTanh, n) },
		} {
			apart, x := s.b.Alloc(n), upload(s.b, xv)
			f(apart, x)
			f(x, x)
			want, got := download(s.b, apart), download(s.b, x)
			if i := differ(want, got); i >= 0 {
				s.fail("%s n=%d: element %d is %v in place and %v apart", name, n, i, got[i], want[i])
			}
		}
	}
}

// testExtremes compares with the measure where exp leaves float32's range and softmax has one winner.
func testExtremes(s *suite) {
	far := []float64{0, 1e-30, 1e-6, 0.5, 3, 5.5, 9, 20, 60, 87, 88, 89, 103, 105, 200, 1e4, 1e30}
	for _, x := range far[1:] {
		far = append(far, -x)
	}
	n := len(far)
	ones := make([]float64, n)
	for i := range far {
		far[i], ones[i] = round(far[i]), 1
	}
	mag := func() []float64 { return siluMag(far, ones) }
	for _, g := range gatedOps {
		s.check(g.name+" of extremes", func(e *env) {
			g.forward(e.b, e.out("out", n, tolAct, mag), e.in("gate", far), e.in("up", ones), n)
		})
		s.check(g.name+"Backward of extremes", func(e *env) {
			dGate := e.out("dGate", n, tolAct, func() []float64 { return ones })
			dUp := e.out("dUp", n, tolAct, mag)
			g.backward(e.b, dGate, dUp, e.in("dOut", ones), e.in("gate", far), e.in("up", ones), n)
		})
	}
	for _, act := range acts {
		s.check("ActBackward of extremes", func(e *env) {
			dPre := e.out("dPre", n, tolAct, func() []float64 { return ones })
			e.b.ActBackward(dPre, e.in("dOut", ones), e.in("saved", far), act, n)
		})
		s.check("Linear of extremes", func(e *env) {
			out := e.out("out", n, tolAct, func() []float64 { return siluMag(abs(far), ones) })
			e.b.Linear(out, kernels.Buf{}, e.in("x", far), e.in("w", []float64{1}), kernels.Buf{}, act, n, 1, 1)
		})
	}
	for _, by := range []float64{30, 1000} {
		s.check(fmt.Sprint("Attention to one key, ", by), func(e *env) {
			a := newAttn(e, heads{2, 1, 8}, spread{6, 9, false, false})
			for i := range a.q {
				a.q[i] = round(by * a.q[i])
			}
			op := a.forward(e.b)
			op.Q = e.in("q", a.q)
			op.Out = e.out("out", len(a.q), tolAttn, func() []float64 { m, _ := a.forwardMags(); return m })
			op.Lse = e.out("lse", a.N*a.H, tolAttn, func() []float64 { _, m := a.forwardMags(); return m })
			e.b.Attention(op)
		})
	}
	for _, gamma := range []float64{0, 0.5, 2} {
		for _, width := range []float64{0, 40, 2000} {
			f := xentForm{9, 17, 33, gamma, true, 0}
			s.check(fmt.Sprintf("Xent %+v, logits of %v", f, width), xent(f, width))
		}
	}
}

// testNaN checks that a NaN stays one: training finds it in the loss and in the gradients.
func testNaN(s *suite) {
	const n = 19
	none := kernels.Buf{}
	for _, at := range []int{0, 7, n - 1} {
		e := newEnv(s.b, "nan", 0)
		xv := e.normal(n)
		xv[at] = math.NaN()
		x, y, out := upload(s.b, xv), upload(s.b, e.normal(n)), s.b.Alloc(n)
		one := upload(s.b, []float64{1})
		expect := func(name string, v []float64, all bool) {
			for i, z := range v {
				if (all || i == at) && !math.IsNaN(z) {
					s.fail("%s: NaN in element %d, but element %d is %v", name, at, i, z)
					return
				}
			}
		}
		for _, act := range acts {
			s.b.Linear(out, none, x, one, none, act, n, 1, 1)
			expect(fmt.Sprint("Linear act=", act), download(s.b, out), false)
			s.b.ActBackward(out, x, y, act, n)
			if act != kernels.ReLU { // which may hide it behind a zero
				expect(fmt.Sprint("ActBackward act=", act), download(s.b, out), false)
			}
		}
		for _, g := range gatedOps {
			g.forward(s.b, out, x, y, n)
			expect(g.name+" gate", download(s.b, out), false)
			g.forward(s.b, out, y, x, n)
			expect(g.name+" up", download(s.b, out), false)
		}
		s.b.LayerNorm(out, none, none, x, y, none, eps, 1, n)
		expect("LayerNorm", download(s.b, out), true)
		s.b.RMSNorm(out, none, x, y, eps, 1, n)
		expect("RMSNorm", download(s.b, out), true)
		w, m, v := upload(s.b, e.normal(n)), s.b.Alloc(n), s.b.Alloc(n)
		s.b.AdamW(w, m, v, x, adam, n)
		expect("AdamW", download(s.b, w), false)
		a := &kernels.Attention{
			Out: out, Q: x, K: y, V: y, N: 1, M: 1, H: 1, KV: 1, HeadDim: n, Scale: 1,
			Spans: &kernels.Spans{Q: []int32{0, 1}, KLo: []int32{0}, KHi: []int32{1}},
		}
		s.b.Attention(a)
		expect("Attention query", download(s.b, out), true)
		xe := &kernels.Xent{
			Nats: s.b.Alloc(1), DX: out, X: x, W: upload(s.b, e.normal(2*n)), Targets: []int32{1}, N: 1, D: n, V: 2,
		}
		if loss := s.b.Xent(xe); !math.IsNaN(loss) || !math.IsNaN(download(s.b, xe.Nats)[0]) {
			s.fail("Xent: NaN in element %d, but the loss is %v, the nats %v", at, loss, download(s.b, xe.Nats)[0])
		}
		expect("Xent dX", download(s.b, out), true)
	}
}
