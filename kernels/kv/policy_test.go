package kv

import (
	"math"
	"runtime"
	"slices"
	"testing"

	"svae/kernels/cpu"
)

func policy(t testing.TB, name string, o Options) Policy {
	t.Helper()
	p, err := NewPolicy(name, o)
	must(t, err)
	return p
}

// run takes a prompt of n rows in pieces of chunk rows, then steps to the end of the sequence, and returns the outputs and
// what each step read.
func (s *sequence) run(t testing.TB, st *Store, p Policy, b Budget, n, chunk int) (outs [][]float32, sels [][][]Range) {
	t.Helper()
	s.prompt(t, st, p, 0, n, chunk)
	r, err := NewReader(st, p, b)
	must(t, err)
	for at := n; at < s.N; at++ {
		o, sel := s.step(t, r, at)
		outs, sels = append(outs, o...), append(sels, sel...)
	}
	return outs, sels
}

func (s *sequence) prompt(t testing.TB, st *Store, p Policy, lo, hi, chunk int) {
	t.Helper()
	w := s.cfg.Heads * s.cfg.HeadDim
	for at := lo; at < hi; at += chunk {
		to := min(at+chunk, hi)
		s.append(t, st, at, to)
		for l := range s.cfg.Layers {
			must(t, p.Observe(st, l, at, s.q[l][at*w:to*w]))
		}
	}
}

func (s *sequence) step(t testing.TB, r *Reader, at int) (outs [][]float32, sels [][][]Range) {
	t.Helper()
	w := s.cfg.KVHeads * s.cfg.HeadDim
	_, ends := slices.BinarySearch(s.bounds, at+1)
	for l := range s.cfg.Layers {
		must(t, r.Store.Append(l, s.k[l][at*w:(at+1)*w], s.v[l][at*w:(at+1)*w]))
		out := make([]float32, s.cfg.Heads*s.cfg.HeadDim)
		rep, err := r.Step(out, Query{Layer: l, Q: s.query(l, at), Ends: ends})
		must(t, err)
		read := int64(rep.Rows*float64(rep.Lists)+0.5) * int64(4*blockWords(s.cfg.Type, s.cfg.HeadDim)) / 64
		if rep.Rows != r.sel.Rows() || rep.Lists != len(r.sel.Ranges) || rep.Bytes != read || rep.Scanned < 0 {
			t.Fatalf("report %+v", rep)
		}
		outs = append(outs, out)
		var sel [][]Range
		for _, rs := range r.sel.Ranges {
			sel = append(sel, slices.Clone(rs))
		}
		sels = append(sels, sel)
	}
	if ends {
		must(t, r.Store.Seal(at+1))
	} else {
		must(t, r.Store.Split(at+1))
	}
	return outs, sels
}

func sameOutputs(t testing.TB, a, b [][]float32) {
	t.Helper()
	if len(a) != len(b) || len(a) == 0 {
		t.Fatalf("%d and %d outputs", len(a), len(b))
	}
	for i := range a {
		if !sameBits(a[i], b[i]) {
			t.Fatalf("output %d of %d differs", i, len(a))
		}
	}
}

func forPolicies(t *testing.T, f func(t *testing.T, name string)) {
	for _, name := range Policies {
		t.Run(name, func(t *testing.T) { f(t, name) })
	}
}

// TestWholeBudget: a budget of all rows gives the bits of dense attention. The published code's behaviour has rows that it
// never reaches.
func TestWholeBudget(t *testing.T) {
	forPolicies(t, func(t *testing.T, name string) {
		for _, typ := range []Type{F32, BF16, I8} {
			cfg := geometry
			cfg.Type = typ
			for _, n := range []int{1, 31, 32, 33, 400} {
				seq := newSequence(cfg, 8, n+40)
				dense, _ := seq.run(t, seq.store(t, nil, 0), policy(t, "dense", Options{}), Budget{Exact: true}, n, n)
				got, _ := seq.run(t, seq.store(t, nil, 0), policy(t, name, Options{}), Budget{Percent: 100}, n, n)
				if name == "reference" {
					if n == 400 && slices.EqualFunc(dense, got, sameBits) {
						t.Fatal("the published code's behaviour equals dense attention")
					}
					continue
				}
				sameOutputs(t, dense, got)
				if n == 33 {
					got, _ = seq.run(t, seq.store(t, nil, 0), policy(t, name, Options{}), Budget{Exact: true}, n, n)
					sameOutputs(t, dense, got)
				}
			}
		}
	})
}

// TestBudget: no policy reads more than it may, at any length of the prompt, with and without sentences, and however
// small the budget.
func TestBudget(t *testing.T) {
	forPolicies(t, func(t *testing.T, name string) {
		if name == "dense" || name == "reference" {
			t.Skip("does not keep to a budget by definition")
		}
		for _, budget := range []int{1, 2, 16, 64, 150} {
			for _, n := range []int{1, 31, 32, 33, 64, 300} {
				for kind, bounds := range map[string][]int{"none": {}, "all": upTo(n + 30), "some": nil} {
					seq := newSequence(geometry, 9, n+30)
					if bounds != nil {
						seq.bounds = bounds
					}
					_, sels := seq.run(t, seq.store(t, nil, 0), policy(t, name, Options{}), Budget{Rows: budget}, n, n)
					for i, sel := range sels {
						rows, at := 0, n+i/2
						for _, rs := range sel {
							must(t, checkRanges(rs, at+1))
							rows += rowsOf(rs)
							if len(rs) == 0 || rs[len(rs)-1].Hi != at+1 {
								t.Fatalf("budget %d, %d rows, sentences %s: row %d does not see itself: %v", budget, n, kind, at, rs)
							}
						}
						if most := 2 * min(budget, at+1); rows > most {
							t.Fatalf("budget %d, %d rows, sentences %s: row %d reads %d rows", budget, n, kind, at, rows)
						}
						if want := 2 * min(budget, at+1); name == "ours" && kind == "some" && rows < want-2*64 {
							t.Fatalf("budget %d: row %d reads %d rows only", budget, at, rows)
						}
					}
				}
			}
		}
	})
}

func upTo(n int) []int {
	x := make([]int, n)
	for i := range x {
		x[i] = i + 1
	}
	return x
}

// TestPolicyChunks: a prompt in pieces gives what it gives at once.
func TestPolicyChunks(t *testing.T) {
	forPolicies(t, func(t *testing.T, name string) {
		seq := newSequence(geometry, 10, 330)
		want, _ := seq.run(t, seq.store(t, nil, 0), policy(t, name, Options{}), Budget{Rows: 70}, 300, 300)
		for _, chunk := range []int{1, 17, 64, 299} {
			got, _ := seq.run(t, seq.store(t, nil, 0), policy(t, name, Options{}), Budget{Rows: 70}, 300, chunk)
			sameOutputs(t, want, got)
		}
	})
}

// TestPolicyFork: forks of a reader in the middle of decoding go on as it does, and do not disturb each other.
func TestPolicyFork(t *testing.T) {
	forPolicies(t, func(t *testing.T, name string) {
		seq, other := newSequence(geometry, 11, 400), newSequence(geometry, 12, 400)
		want, _ := seq.run(t, seq.store(t, nil, 0), policy(t, name, Options{}), Budget{Rows: 80}, 300, 300)
		st, p := seq.store(t, nil, 0), policy(t, name, Options{})
		seq.prompt(t, st, p, 0, 300, 300)
		r, err := NewReader(st, p, Budget{Rows: 80})
		must(t, err)
		var got [][]float32
		for at := 300; at < 350; at++ {
			o, _ := seq.step(t, r, at)
			got = append(got, o...)
		}
		a, b := r.Fork(), r.Fork()
		for at := 350; at < 400; at++ {
			other.step(t, a, at)
			o, _ := seq.step(t, b, at)
			got = append(got, o...)
		}
		sameOutputs(t, want, got)
		got = got[:100]
		for at := 350; at < 400; at++ {
			o, _ := seq.step(t, r, at)
			got = append(got, o...)
		}
		sameOutputs(t, want, got)
		must(t, a.Store.Close())
		must(t, b.Store.Close())
	})
}

// TestThreads: the number of threads changes no bit.
func TestThreads(t *testing.T) {
	forPolicies(t, func(t *testing.T, name string) {
		seq := newSequence(geometry, 13, 640)
		run := func(threads int) [][]float32 {
			defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(threads))
			st, err := New(seq.cfg, cpu.New(), nil)
			must(t, err)
			out, _ := seq.run(t, st, policy(t, name, Options{FlatLimit: -1}), Budget{Percent: 20}, 600, 600)
			return out
		}
		sameOutputs(t, run(1), run(4))
	})
}

// TestTwoTurns: rows that a policy dropped at the end of the first prompt stay dropped after a second one; policies that
// keep everything may come back to them.
func TestTwoTurns(t *testing.T) {
	for name, final := range map[string]bool{"h2o": true, "snapkv": true, "paper": true, "reference": true, "quest": false, "ours": false} {
		seq := newSequence(geometry, 14, 760)
		b := Budget{Rows: 90}
		o := Options{Keep: 1}
		st, p := seq.store(t, nil, 0), policy(t, name, o)
		seq.prompt(t, st, p, 0, 500, 500)
		r, err := NewReader(st, p, b)
		must(t, err)
		read := func(sels [][][]Range, upTo int) map[[3]int]bool {
			m := map[[3]int]bool{}
			for i, sel := range sels {
				for h, rs := range sel {
					for _, x := range rs {
						for row := x.Lo; row < min(x.Hi, upTo); row++ {
							m[[3]int{i % 2, h, row}] = true
						}
					}
				}
			}
			return m
		}
		_, sels := seq.step(t, r, 500) // all that is kept can be read at the first step, or is read by then
		for at := 501; at < 520; at++ {
			_, s := seq.step(t, r, at)
			sels = append(sels, s...)
		}
		before := read(sels, 460)
		seq.prompt(t, st, p, 520, 740, 100)
		var later [][][]Range
		for at := 740; at < 760; at++ {
			_, s := seq.step(t, r, at)
			later = append(later, s...)
		}
		fresh := 0
		for k := range read(later, 460) {
			if !before[k] && k[2] >= 32 {
				fresh++
			}
		}
		switch {
		case name == "h2o" || name == "snapkv" || name == "reference":
			if fresh > 0 {
				t.Errorf("%s: %d rows came back", name, fresh)
			}
		case !final && fresh == 0:
			t.Errorf("%s: no other row was read after a second prompt", name)
		}
	}
}

// truth returns, for each head, the log-sum-exp of the rows read and of the others, and dense attention, in float64.
func truth(t testing.TB, st *Store, layer int, q []float32, ranges [][]Range) (in, out []float64, dense [][]float64) {
	t.Helper()
	n, K, H := st.Rows(layer), st.cfg.HeadDim, st.cfg.Heads
	k, v := make([]float32, n*K), make([]float32, n*K)
	for h := range H {
		must(t, st.gather(k, v, layer, h*st.cfg.KVHeads/H, []Range{{0, n}}))
		z, best := make([]float64, n), math.Inf(-1)
		for i := range z {
			z[i] = dot64(q[h*K:(h+1)*K], k[i*K:(i+1)*K]) * st.cfg.Scale
			best = max(best, z[i])
		}
		read := make([]bool, n)
		for _, r := range ranges[h*len(ranges)/H] {
			for i := r.Lo; i < r.Hi; i++ {
				read[i] = true
			}
		}
		var a, b float64
		o := make([]float64, K)
		for i := range z {
			e := math.Exp(z[i] - best)
			if read[i] {
				a += e
			} else {
				b += e
			}
			for c := range o {
				o[c] += e * float64(v[i*K+c])
			}
		}
		for c := range o {
			o[c] /= a + b
		}
		in, out, dense = append(in, best+math.Log(a)), append(out, best+math.Log(b)), append(dense, o)
	}
	return in, out, dense
}

// TestPaperFull: with Full, the token that ends a sentence and the one after it read all that is kept, and only they.
func TestPaperFull(t *testing.T) {
	seq := newSequence(geometry, 23, 420)
	seq.bounds = []int{100, 200, 300, 405, 412}
	_, sels := seq.run(t, seq.store(t, nil, 0), policy(t, "paper", Options{Full: true, Keep: 2}), Budget{Rows: 100}, 400, 400)
	for i, sel := range sels {
		at := 400 + i/2
		full := slices.Contains([]int{400, 404, 405, 411, 412}, at)
		for _, rs := range sel {
			if n := rowsOf(rs); full != (n > 100) || full && n < 200 || !full && n != 100 {
				t.Fatalf("row %d reads %d rows", at, n)
			}
		}
	}
}

// TestScanned: two levels look at less than all summaries.
func TestScanned(t *testing.T) {
	const n = 8000
	seq := newTopics(geometry, 19, n, 0.99, 0.3)
	st := seq.store(t, nil, n)
	var bytes [2]int64
	for i, flat := range []int{-1, 1 << 20} {
		r, err := NewReader(st, policy(t, "ours", Options{FlatLimit: flat, Floor: 1, Spread: true}), Budget{Rows: 150})
		must(t, err)
		for at := n - 40; at < n; at++ {
			rep, err := r.Step(make([]float32, 96), Query{Q: seq.query(0, at)})
			must(t, err)
			bytes[i] += rep.Scanned
		}
	}
	if bytes[0] == 0 || bytes[0] >= bytes[1] {
		t.Fatalf("two levels read %d bytes, one reads %d", bytes[0], bytes[1])
	}
	t.Logf("two levels read %d bytes, one reads %d", bytes[0], bytes[1])
}

func TestReaderRefuses(t *testing.T) {
	st, err := New(geometry, cpu.New(), nil)
	must(t, err)
	if _, err := NewReader(st, policy(t, "quest", Options{}), Budget{Bounded: true, Eps: 0.1, Percent: 10}); err == nil {
		t.Error("a bounded budget for a policy without bounds was accepted")
	}
	if _, err := NewReader(st, policy(t, "ours", Options{}), Budget{}); err == nil {
		t.Error("an empty budget was accepted")
	}
	for _, name := range Policies {
		r, err := NewReader(st, policy(t, name, Options{}), Budget{Rows: 10})
		must(t, err)
		if _, err := r.Step(make([]float32, 96), Query{Q: make([]float32, 96)}); err == nil {
			t.Errorf("%s: an empty store was read", name)
		}
	}
	if _, err := NewPolicy("best", Options{}); err == nil {
		t.Error("an unknown policy was accepted")
	}
	if _, err := NewPolicy("ours", Options{Recent: -1}); err == nil {
		t.Error("options out of range were accepted")
	}
}
