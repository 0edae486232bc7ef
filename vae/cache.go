package vae

import (
	"svae/kernels"
	"svae/kernels/op"
)

// KV keeps the keys and values of one sequence, layer by layer, in the order of its rows, and attends to them.
type KV interface {
	Len() int     // rows that every layer has
	Bytes() int64 // of the rows kept, in every tier

	// Attend adds rows k, v (N, KV·K) to a layer and overwrites out (N, H·K) with the attention of q (N, H·K). spans
	// counts queries from the first of q and keys from the first row kept.
	Attend(out, q, k, v op.Mat, layer int, spans *kernels.Spans, h op.Heads) error
}

// Cache is the KV that keeps every row in memory and attends to all that the spans name.
type Cache struct {
	be     kernels.Backend
	layers []kvRows
	args   kernels.Attention
}

var _ KV = (*Cache)(nil)

type kvRows struct {
	k, v kernels.Buf
	n, c int // rows, columns
}

// NewCache returns an empty cache.
func NewCache(be kernels.Backend) *Cache { return &Cache{be: be} }

// Len returns the number of rows kept.
func (c *Cache) Len() int {
	if len(c.layers) == 0 {
		return 0
	}
	return c.layers[0].n
}

// Bytes returns the memory of the rows kept.
func (c *Cache) Bytes() int64 {
	var n int64
	for _, l := range c.layers {
		n += int64(2 * l.n * l.c * c.be.DType().Size())
	}
	return n
}

// Truncate keeps the first n rows.
func (c *Cache) Truncate(n int) {
	for i := range c.layers {
		c.layers[i].n = min(c.layers[i].n, n)
	}
}

// Attend implements KV.
func (c *Cache) Attend(out, q, k, v op.Mat, layer int, spans *kernels.Spans, h op.Heads) error {
	k, v = c.Append(layer, k, v)
	c.args = kernels.Attention{Out: out.Buf, Q: q.Buf, K: k.Buf, V: v.Buf, Spans: spans,
		N: q.R, M: k.R, H: h.Query, KV: h.KV, HeadDim: h.Size, Scale: h.Scale}
	c.be.Attention(&c.args)
	return nil
}

// Past returns the Past that keeps rows in c and computes in o.
func (c *Cache) Past(o *op.Eager) Past[op.Mat] {
	return func(layer int, q, k, v op.Mat, seq *Seq, h op.Heads) op.Mat {
		out := o.New(q.R, q.C)
		c.Attend(out, q, k, v, layer, &seq.Spans, h) // a cache in memory cannot fail
		return out
	}
}

// Append adds rows to a layer and returns all of them.
func (c *Cache) Append(layer int, k, v op.Mat) (op.Mat, op.Mat) {
	for len(c.layers) <= layer {
		c.layers = append(c.layers, kvRows{c: k.C})
	}
	l := &c.layers[layer]
	n := (l.n + k.R) * l.c
	if l.k.Len() < n {
		grow := func(old kernels.Buf) kernels.Buf {
			b := c.be.Alloc(max(2*n, 64*l.c))
			if l.n > 0 {
				c.be.Copy(b.Slice(0, l.n*l.c), old.Slice(0, l.n*l.c))
			}
			return b
		}
		l.k, l.v = grow(l.k), grow(l.v)
	}
	c.be.Copy(l.k.Slice(l.n*l.c, n), k.Buf)
	c.be.Copy(l.v.Slice(l.n*l.c, n), v.Buf)
	l.n += k.R
	return op.Mat{Buf: l.k.Slice(0, n), R: l.n, C: l.c}, op.Mat{Buf: l.v.Slice(0, n), R: l.n, C: l.c}
}

// Part is the rows of one sequence in a pass over the rows of several.
type Part struct {
	KV    KV
	Rows  int           // of the pass that are new rows of this sequence
	Spans kernels.Spans // what they see: queries count from the first of them, keys from the first row that KV keeps
	Err   error         // what KV failed with in this pass; then the rows mean nothing
}

// Parts is the sequences of a pass, in the order of its rows. The rows of one change nothing in those of another.
type Parts struct{ list []Part }

// Clear begins another pass.
func (p *Parts) Clear() { p.list = p.list[:0] }

// Add appends m new rows of the sequence that kv keeps, each of which sees all before it and itself. The Part that it
// returns is valid until the next call.
func (p *Parts) Add(kv KV, m int) *Part {
	n := len(p.list)
	if n < cap(p.list) {
		p.list = p.list[:n+1]
	} else {
		p.list = append(p.list, Part{})
	}
	t := &p.list[n]
	t.KV, t.Rows, t.Err = kv, m, nil
	sp := &t.Spans
	sp.Q, sp.KLo, sp.KHi, sp.Causal = append(sp.Q[:0], 0, int32(m)), append(sp.KLo[:0], 0), append(sp.KHi[:0], int32(kv.Len()+m)), true
	return t
}

// Err returns what the KV of sequence i failed with.
func (p *Parts) Err(i int) error { return p.list[i].Err }

// Past returns the Past of a pass over the parts, which computes in o. A failure of one KV is kept in its Part and leaves
// the others alone.
func (p *Parts) Past(o *op.Eager) Past[op.Mat] {
	return func(layer int, q, k, v op.Mat, _ *Seq, h op.Heads) op.Mat {
		out := o.New(q.R, q.C)
		lo := 0
		for i := range p.list {
			t := &p.list[i]
			hi := lo + t.Rows
			if t.Err == nil {
				t.Err = t.KV.Attend(out.Rows(lo, hi), q.Rows(lo, hi), k.Rows(lo, hi), v.Rows(lo, hi), layer, &t.Spans, h)
			}
			if t.Err != nil {
				o.Backend().Zero(out.Rows(lo, hi).Buf)
			}
			lo = hi
		}
		return out
	}
}

// Next sets seq to m new rows that follow the n rows of one sequence already cached: positions n, n+1, ..., each row
// seeing all before it and itself.
func (s *Seq) Next(n, m, offset int) {
	s.Pos.V = s.Pos.V[:0]
	for i := range m {
		s.Pos.V = append(s.Pos.V, int32(n+i+offset))
	}
	sp := &s.Spans
	sp.Q, sp.KLo, sp.KHi, sp.Causal = append(sp.Q[:0], 0, int32(m)), append(sp.KLo[:0], 0), append(sp.KHi[:0], int32(n+m)), true
}
