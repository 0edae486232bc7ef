package op

import (
	"fmt"
	"slices"

	"svae/kernels"
)

// Mat is a matrix of R rows and C columns in a backend's memory. A vector has one row. The zero Mat is absent.
type Mat struct {
	kernels.Buf
	R, C int
}

// Rows returns rows i to j-1 of m, sharing memory.
func (m Mat) Rows(i, j int) Mat { return Mat{m.Slice(i*m.C, j*m.C), j - i, m.C} }

// Eager computes the operations of Set at once, without a graph. What it returns lives in an arena and is valid until
// Reset; after the first passes of a shape nothing is allocated. It is not safe for concurrent use: give each
// goroutine its own over the same weights.
type Eager struct {
	be    kernels.Backend
	arena []kernels.Buf
	used  int
	err   error
	nats  kernels.Buf
	ones  constant
	top   kernels.Top
	att   kernels.Attention
	joint kernels.Joint // or nil
	maps  [3]kernels.LinearMap
}

var (
	_ Set[Mat]   = (*Eager)(nil)
	_ Joint[Mat] = (*Eager)(nil)
)

// NewEager returns a Set over buffers of a backend.
func NewEager(be kernels.Backend) *Eager {
	e := &Eager{be: be}
	e.joint, _ = be.(kernels.Joint)
	return e
}

// Backend returns the backend that computes.
func (e *Eager) Backend() kernels.Backend { return e.be }

// Reset gives the arena's memory back: every Mat returned so far becomes invalid. It clears the error.
func (e *Eager) Reset() { e.used, e.err = 0, nil }

// Err returns the first failure since Reset.
func (e *Eager) Err() error { return e.err }

// New returns an uninitialised matrix in the arena.
func (e *Eager) New(r, c int) Mat {
	n := r * c
	if e.used == len(e.arena) {
		e.arena = append(e.arena, kernels.Buf{})
	}
	b := &e.arena[e.used]
	e.used++
	if b.Absent() || b.Len() < n {
		*b = e.be.Alloc(max(n+n/4, 16))
	}
	return Mat{b.Slice(0, n), r, c}
}

// Bytes returns the memory that the arena holds.
func (e *Eager) Bytes() int64 {
	var n int64
	for _, b := range e.arena {
		n += int64(b.Len() * b.DType().Size())
	}
	return n
}

func (e *Eager) fail(format string, a ...any) Mat {
	if e.err == nil {
		e.err = fmt.Errorf(format, a...)
	}
	return Mat{}
}

// Gather implements Set.
func (e *Eager) Gather(idx *Ints, from ...Mat) Mat {
	total, d := 0, from[0].C
	for _, f := range from {
		if f.C != d {
			return e.fail("op: gather from matrices of %d and %d columns", d, f.C)
		}
		total += f.R
	}
	if i := outside(idx.V, total); i >= 0 {
		return e.fail("op: gather: index %d at %d is outside 0..%d", idx.V[i], i, total-1)
	}
	out := e.New(len(idx.V), d)
	lo := 0
	for _, f := range from {
		e.be.Gather(out.Buf, f.Buf, idx.V, lo, out.R, f.R, d)
		lo += f.R
	}
	return out
}

// outside returns where the first index stands that is not in 0..n-1, or -1.
func outside(idx []int32, n int) int {
	return slices.IndexFunc(idx, func(i int32) bool { return i < 0 || int(i) >= n })
}

// Linear implements Set.
func (e *Eager) Linear(x, w, b Mat, act kernels.Act) Mat {
	if x.C != w.C {
		return e.fail("op: linear map of %d columns applied to rows of %d", w.C, x.C)
	}
	out := e.New(x.R, w.R)
	e.be.Linear(out.Buf, kernels.Buf{}, x.Buf, w.Buf, b.Buf, act, x.R, w.C, w.R)
	return out
}

// Linear2 implements Joint.
func (e *Eager) Linear2(x, w0, b0, w1, b1 Mat) (y0, y1 Mat) {
	if e.joint == nil || x.C != w0.C || x.C != w1.C {
		return e.Linear(x, w0, b0, kernels.None), e.Linear(x, w1, b1, kernels.None)
	}
	y0, y1 = e.New(x.R, w0.R), e.New(x.R, w1.R)
	e.maps[0] = kernels.LinearMap{Out: y0.Buf, W: w0.Buf, B: b0.Buf, O: w0.R}
	e.maps[1] = kernels.LinearMap{Out: y1.Buf, W: w1.Buf, B: b1.Buf, O: w1.R}
	e.joint.Linears(e.maps[:2], x.Buf, x.R, x.C)
	return y0, y1
}

// Linear3 implements Joint.
func (e *Eager) Linear3(x, w0, b0, w1, b1, w2, b2 Mat) (y0, y1, y2 Mat) {
	if e.joint == nil || x.C != w0.C || x.C != w1.C || x.C != w2.C {
		return e.Linear(x, w0, b0, kernels.None), e.Linear(x, w1, b1, kernels.None), e.Linear(x, w2, b2, kernels.None)
	}
	y0, y1, y2 = e.New(x.R, w0.R), e.New(x.R, w1.R), e.New(x.R, w2.R)
	e.maps[0] = kernels.LinearMap{Out: y0.Buf, W: w0.Buf, B: b0.Buf, O: w0.R}
	e.maps[1] = kernels.LinearMap{Out: y1.Buf, W: w1.Buf, B: b1.Buf, O: w1.R}
	e.maps[2] = kernels.LinearMap{Out: y2.Buf, W: w2.Buf, B: b2.Buf, O: w2.R}
	e.joint.Linears(e.maps[:], x.Buf, x.R, x.C)
	return y0, y1, y2
}

// SwiGLU implements Set.
func (e *Eager) SwiGLU(gate, up Mat) Mat {
	out := e.New(gate.R, gate.C)
	e.be.SwiGLU(out.Buf, gate.Buf, up.Buf, gate.R*gate.C)
	return out
}

// GeGLU implements Set.
func (e *Eager) GeGLU(gate, up Mat) Mat {
	out := e.New(gate.R, gate.C)
	e.be.GeGLU(out.Buf, gate.Buf, up.Buf, gate.R*gate.C)
	return out
}

// LayerNorm implements Set.
func (e *Eager) LayerNorm(x, w, b Mat, eps float64) Mat {
	out := e.New(x.R, x.C)
	e.be.LayerNorm(out.Buf, kernels.Buf{}, kernels.Buf{}, x.Buf, w.Buf, b.Buf, eps, x.R, x.C)
	return out
}

// RMSNorm implements Set.
func (e *Eager) RMSNorm(x, w Mat, shift, eps float64) Mat {
	if w.C == 0 || x.C%w.C != 0 {
		return e.fail("op: norm of %d columns applied to rows of %d", w.C, x.C)
	}
	out := e.New(x.R, x.C)
	if shift != 0 {
		w = e.shift(w, shift)
	}
	e.be.RMSNorm(out.Buf, kernels.Buf{}, x.Buf, w.Buf, eps, x.R*(x.C/w.C), w.C)
	return out
}

// shift returns w with the same number added to all elements.
func (e *Eager) shift(w Mat, by float64) Mat {
	out := e.New(w.R, w.C)
	e.ones.fill(e.be, w.C, float32(by))
	e.be.Add(out.Buf, w.Buf, e.ones.buf, w.C)
	return out
}

// Rotary implements Set.
func (e *Eager) Rotary(x Mat, pos *Ints, freqs []float64) Mat {
	if len(pos.V) != x.R {
		return e.fail("op: %d positions for %d rows", len(pos.V), x.R)
	}
	out := e.New(x.R, x.C)
	k := 2 * len(freqs)
	e.be.Rotary(out.Buf, x.Buf, pos.V, freqs, false, x.R, x.C/k, k)
	return out
}

// Attention implements Set.
func (e *Eager) Attention(q, k, v Mat, spans *kernels.Spans, h Heads) Mat {
	out := e.New(q.R, q.C)
	e.att = kernels.Attention{Out: out.Buf, Q: q.Buf, K: k.Buf, V: v.Buf, Spans: spans,
		N: q.R, M: k.R, H: h.Query, KV: h.KV, HeadDim: h.Size, Scale: h.Scale}
	e.be.Attention(&e.att)
	return out
}

// SegmentSum implements Set.
func (e *Eager) SegmentSum(x Mat, at *Ints) Mat {
	out := e.New(len(at.V)-1, x.C)
	e.be.SegmentSum(out.Buf, x.Buf, at.V, out.R, x.C)
	return out
}

// SegmentAdd implements Set.
func (e *Eager) SegmentAdd(x, c Mat, at *Ints) Mat {
	out := e.New(x.R, x.C)
	e.be.SegmentAdd(out.Buf, x.Buf, c.Buf, at.V, c.R, x.C)
	return out
}

// Scale implements Set.
func (e *Eager) Scale(x Mat, by float64) Mat {
	out := e.New(x.R, x.C)
	e.be.Scale(out.Buf, by, x.Buf, x.R*x.C)
	return out
}

// Add implements Set.
func (e *Eager) Add(a, b Mat) Mat {
	out := e.New(a.R, a.C)
	e.be.Add(out.Buf, a.Buf, b.Buf, a.R*a.C)
	return out
}

// Dropout implements Set: in inference nothing is dropped.
func (e *Eager) Dropout(x Mat, _ float64) Mat { return x }

// Noise implements Set: in inference there is none.
func (e *Eager) Noise(x Mat, _ float64) Mat { return x }

// Xent implements Set. The result holds no value; the loss stands in t.
func (e *Eager) Xent(x, w, b Mat, t *Targets) Mat {
	a := xentArgs(t, x, w, b)
	if a == nil {
		return e.fail("op: %d targets for %d rows", len(t.IDs), x.R)
	}
	if e.nats.Absent() || e.nats.Len() < x.R {
		e.nats = e.be.Alloc(max(x.R, 1))
	}
	a.Nats = e.nats.Slice(0, x.R)
	t.Loss = e.be.Xent(a)
	download(e.be, t, a.Nats)
	return Mat{}
}

// Sum implements Set. The losses stand in their Targets.
func (e *Eager) Sum([]float64, ...Mat) Mat { return Mat{} }

// xentArgs returns the operands of the fused loss, or nil if there is not one target a row. It sizes t.Top.
func xentArgs(t *Targets, x, w, b Mat) *kernels.Xent {
	if len(t.IDs) != x.R {
		return nil
	}
	a := &kernels.Xent{X: x.Buf, W: w.Buf, B: b.Buf, Targets: t.IDs, Gamma: t.Gamma, N: x.R, D: x.C, V: w.R}
	if t.Best {
		t.Top = resize(t.Top, x.R)
		a.Top = t.Top
	}
	return a
}

// download copies the row nats into t.
func download(be kernels.Backend, t *Targets, nats kernels.Buf) {
	n := nats.Len()
	t.Nats = resize(t.Nats, n)
	if nats.DType() == kernels.F64 {
		copy(t.Nats, kernels.Host[float64](nats))
		return
	}
	tmp := make([]float32, n)
	be.Download(tmp, nats)
	for i, v := range tmp {
		t.Nats[i] = float64(v)
	}
}

// constant is a vector whose elements are all the same.
type constant struct {
	buf kernels.Buf
	v   float32
}

// fill makes c at least n elements of v.
func (c *constant) fill(be kernels.Backend, n int, v float32) {
	if c.buf.Len() >= n && c.v == v {
		return
	}
	s := make([]float32, n)
	for i := range s {
		s[i] = v
	}
	c.buf, c.v = be.Alloc(n), v
	be.Upload(c.buf, s)
}

func resize[T any](s []T, n int) []T {
	if cap(s) < n {
		return make([]T, n)
	}
	return s[:n]
}
