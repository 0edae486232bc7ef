package sllm

import (
	"math"

	"svae/kernels"
	"svae/kernels/op"
	"svae/vae"
)

// chooser makes tokens of the rows behind a model's last layer.
type chooser struct {
	w, b    op.Mat   // the vocabulary projection, as it is stored
	sampled op.Mat   // what sampling reads: w, or the int8 copy where all linear maps are int8
	top     *op.Head // nil: greedy choices read all of w too
	vocab   int

	eager  *op.Eager
	picks  []pick
	some   op.Ints
	ids    []int32
	group  []int
	logits []float32
}

// pick asks for a token of one row.
type pick struct {
	row     int
	sampler *vae.Sampler
	banned  []int32 // tokens that must not come
	logProb bool

	id   int32   // the answer
	prob float32 // its logarithm, or NaN
	read int64   // bytes of weights that it took, shared with the rows beside it
}

// newChooser returns a chooser over the projection w, whose weight has that name, and its bias.
func newChooser(s *vae.Store, name string, w, b op.Mat) *chooser {
	c := &chooser{w: w, b: b, sampled: w, top: s.Head(name), vocab: w.R, eager: op.NewEager(s.Backend()), logits: make([]float32, w.R)}
	if c.top != nil && holdsInt8(s) {
		c.sampled = c.top.Q
	}
	return c
}

// holdsInt8 says that linear maps of a store are held in int8.
func holdsInt8(s *vae.Store) bool {
	for _, w := range s.Weights() {
		if s.Buf(w.Name).DType() == kernels.I8 {
			return true
		}
	}
	return false
}

// linearBytes adds up the weights of a walk that passes read as a whole: all but looked-up tables.
func linearBytes(s *vae.Store, walk func(vae.Build[op.Mat])) int64 {
	var n int64
	walk(func(w vae.Weight) op.Mat {
		if !w.Table && w.Const == nil {
			n += s.Buf(w.Name).WeightBytes()
		}
		return s.Mat(w)
	})
	return n
}

// begin forgets the picks of the last step.
func (c *chooser) begin() { c.picks = c.picks[:0] }

// add asks for a token of a row.
func (c *chooser) add(row int, s *vae.Sampler, banned []int32, logProb bool) {
	c.picks = append(c.picks, pick{row: row, sampler: s, banned: banned, logProb: logProb})
}

// run answers all picks of rows x (N, D). The greedy choice is exact: that of all logits of the projection as it is stored.
func (c *chooser) run(x op.Mat) error {
	c.eager.Reset()
	c.greedy(x)
	c.read(x, c.w, func(p *pick) bool { return p.id < 0 && p.sampler.Greedy() })
	c.read(x, c.sampled, func(p *pick) bool { return p.id < 0 })
	return c.eager.Err()
}

// greedy answers the picks that need no logits but those of a few candidates.
func (c *chooser) greedy(x op.Mat) {
	c.collect(func(p *pick) bool {
		p.id, p.prob = -1, float32(math.NaN())
		return c.top != nil && p.sampler.Greedy() && !p.logProb
	})
	n := len(c.group)
	if n == 0 {
		return
	}
	if cap(c.ids) < n {
		c.ids = make([]int32, max(n, maxBatch))
	}
	ids := c.ids[:n]
	scored := c.eager.Top(ids, c.rowsOf(x), c.top)
	read := (c.top.Q.WeightBytes() + int64(scored)*c.w.WeightBytes()/int64(c.vocab)) / int64(n)
	for i, g := range c.group {
		p := &c.picks[g]
		p.id, p.read = ids[i], read
		for _, b := range p.banned {
			if b == p.id {
				p.id = -1 // the best of the others takes all logits
			}
		}
	}
}

// read answers picks from all logits of a projection.
func (c *chooser) read(x, w op.Mat, wanted func(*pick) bool) {
	c.collect(wanted)
	n := len(c.group)
	if n == 0 {
		return
	}
	l := c.eager.Linear(c.rowsOf(x), w, c.b, kernels.None)
	if c.eager.Err() != nil {
		return
	}
	for i, g := range c.group {
		p := &c.picks[g]
		c.eager.Backend().Download(c.logits, l.Rows(i, i+1).Buf)
		var norm float64
		if p.logProb {
			norm = logSum(c.logits)
		}
		p.id = choose(c.logits, p.banned, p.sampler)
		p.read += w.WeightBytes() / int64(n)
		if p.logProb {
			p.prob = float32(float64(c.logits[p.id]) - norm)
		}
	}
}

// collect sets the group to the picks that f names.
func (c *chooser) collect(f func(*pick) bool) {
	c.group = c.group[:0]
	for i := range c.picks {
		if f(&c.picks[i]) {
			c.group = append(c.group, i)
		}
	}
}

// rowsOf returns the rows of x that the group asks about, in its order.
func (c *chooser) rowsOf(x op.Mat) op.Mat {
	c.some.V = c.some.V[:0]
	lo := c.picks[c.group[0]].row
	dense := true
	for i, g := range c.group {
		r := c.picks[g].row
		c.some.V = append(c.some.V, int32(r))
		dense = dense && r == lo+i
	}
	if dense {
		return x.Rows(lo, lo+len(c.group))
	}
	return c.eager.Gather(&c.some, x)
}

// logSum returns ln Σ exp(logits).
func logSum(logits []float32) float64 {
	top := logits[0]
	for _, v := range logits {
		top = max(top, v)
	}
	var sum float64
	for _, v := range logits {
		sum += math.Exp(float64(v) - float64(top))
	}
	return math.Log(sum) + float64(top)
}

// choose samples a token that is not banned.
func choose(logits []float32, banned []int32, s *vae.Sampler) int32 {
	for _, id := range banned {
		if id >= 0 {
			logits[id] = negInf
		}
	}
	return s.Choose(logits)
}
