package kv

import (
	"cmp"
	"errors"
	"runtime"
	"slices"
	"sync"

	"svae/kernels/cpu"
)

// ours reads, besides the first and latest rows, two kinds of rows: those that the end of the prompt attended to most
// (Prior of the budget), which on real text are those that everything attends to, and segments, ranked by the softmax mass
// that it expects of each of their rows, until the budget, shared by the key heads of a layer, is full. Nothing is
// dropped: a later query may find any row.
//
// With x = q·scale, the scores x·k of a segment's rows have the mean x·µ; by Jensen's inequality exp(x·µ) is at most their
// mean exponential, and on the keys of real models it ranks segments as well as what knows their variance, for less bytes
// (doc.go). The means are kept in bytes (index). A row's share of a head's mass is exp(x·µ - c), where c is the logarithm
// of the mass of all rows: exact for those always read, estimated for the others. The rank of a segment is the sum of
// these shares over the heads of its group; so heads that spread their mass over the past get more of the budget than heads
// that look at the latest rows.
//
// With Spread, the estimate has the second cumulant: if channels are independent, scores have the variance σ² = Σ x²σ²; half
// of it is nearer the truth on the keys of real models. The logarithm of the mean exponential of n rows is then
//
//	e = x·µ + σ²/2              if σ² <= 2 ln n, the second cumulant;
//	e = x·µ + σ√(2 ln n) - ln n  else, when the largest of n scores is all there is of the sum (Derrida 1981),
//
// and at most x·µ + ‖x‖R, by the ball around the keys.
//
// Over more than FlatLimit segments it first ranks paragraphs, by their centers and how far their segments lie from them, and
// looks at the segments of the best only (rankSome). With Spread, or FlatLimit -1, it goes best first through two levels, by
// bounds: the rank of a paragraph bounds those of its segments, by the box around their means and the ball around them, each
// with the largest variances, and by the ball around its keys. What is not read is estimated, segment by segment or as a
// whole paragraph, by its mean value with the mass n·exp(x·µ), unless it is negligible.
type ours struct {
	o      Options
	layers layerStates[oursLayer]
	w      []frontier // of the key heads, for the layer at hand
}

// oursLayer is what the end of the prompt attended to.
type oursLayer struct {
	window
	heads []prior
}

func (*ours) Name() string      { return "ours" }
func (p *ours) certifies() bool { return p.o.Certify }

func (p *ours) Fork() Policy {
	return &ours{o: p.o, layers: p.layers.fork(func(l *oursLayer) *oursLayer {
		c := &oursLayer{window: l.window.fork()}
		for i := range l.heads {
			c.heads = append(c.heads, prior{ranked: l.heads[i].ranked})
		}
		return c
	})}
}

func (p *ours) layer(i int) *oursLayer {
	return p.layers.of(i, func() *oursLayer { return &oursLayer{window: window{size: p.o.Window}} })
}

// Observe is Policy's.
func (p *ours) Observe(s *Store, layer, first int, q []float32) error {
	if p.o.Prior > 0 {
		p.layer(layer).observe(first, q, s.cfg.Heads*s.cfg.HeadDim)
	}
	return nil
}

// settle ranks the rows before the window by what it attends to, as many as any budget up to most rows may read.
func (p *ours) settle(s *Store, layer int, l *oursLayer, most int) error {
	l.heads = make([]prior, s.cfg.KVHeads)
	l.fresh = false
	first := l.end - len(l.q)/(s.cfg.Heads*s.cfg.HeadDim)
	return s.eachHead(func(h int) error {
		mass := make([]float32, first)
		err := s.attentionOf(layer, h, first, l.q, func(_ int, w []float32, norm float32) { cpu.MulAdd(mass, w, norm) })
		l.heads[h].ranked = best(mass, min(most, maxPrior))
		return err
	})
}

// best returns the indices of the n largest of x or a few more, by falling value, equals by rising index.
func best(x []float32, n int) []int32 {
	var count [classes]int
	for _, v := range x {
		count[class(v)]++
	}
	least, sum := uint32(classes), 0
	for least > 0 && sum < n {
		least--
		sum += count[least]
	}
	idx := make([]int32, 0, sum)
	for i, v := range x {
		if class(v) >= least {
			idx = append(idx, int32(i))
		}
	}
	slices.SortFunc(idx, func(a, b int32) int { return cmp.Or(cmp.Compare(x[b], x[a]), cmp.Compare(a, b)) })
	return idx
}

// Select is Policy's.
func (p *ours) Select(s *Store, q Query, b Budget, sel *Selection) error {
	n := s.layers[q.Layer].rows
	budget := b.Of(n)
	sel.reset(s.cfg.KVHeads, s.cfg.Heads)
	if budget >= n || q.Layer < p.o.DenseLayers {
		sel.all(n)
		return nil
	}
	l := p.layer(q.Layer)
	if l.fresh || l.heads == nil {
		if err := p.settle(s, q.Layer, l, max(2*budget, 4096)); err != nil {
			return err
		}
	}
	p.w = sized(p.w, s.cfg.KVHeads)
	left := budget * s.cfg.KVHeads
	err := s.eachHead(func(h int) error {
		f := &p.w[h]
		f.begin(s, q, h, n, budget, p.o, b.Bounded)
		err := f.addPrior(&l.heads[h], min(int(p.o.Prior*float64(budget-p.o.Sinks-p.o.Recent)), budget-f.used))
		if err != nil {
			return err
		}
		if err := f.edges(q.Layer, h, n); err != nil {
			return err
		}
		if p.o.Spread || p.o.FlatLimit < 0 {
			f.nodes(p.o.FlatLimit)
			return nil
		}
		most := budget * p.o.Cap
		if p.o.NoAdapt {
			most = budget
		}
		most = min(most-f.used, budget*s.cfg.KVHeads)
		if s.Segments() > p.o.FlatLimit {
			f.rankSome(most)
		} else {
			f.rankAll(most)
		}
		return nil
	})
	if err != nil {
		return err
	}
	for h := range p.w {
		left -= p.w[h].used
	}
	p.search(budget, left)
	sel.rest = sized(sel.rest, len(p.w))
	err = s.eachHead(func(h int) error {
		f := &p.w[h]
		sel.Ranges[h] = f.ranges(sel.Ranges[h], n)
		f.estimate(sel.Mass[h*f.G:(h+1)*f.G], &sel.rest[h], !p.o.NoRest && !f.bare)
		return nil
	})
	for h := range p.w {
		sel.Scanned += p.w[h].scanned
	}
	return err
}

// manySegments is from how many on key heads are worth a goroutine each.
const manySegments = 128

// eachHead calls f for every key head, on the backend's workers if it has some and there is much to do, and returns the first error.
func (s *Store) eachHead(f func(h int) error) error {
	if len(s.ends) < manySegments || s.cfg.KVHeads == 1 || runtime.GOMAXPROCS(0) == 1 {
		for h := range s.cfg.KVHeads {
			if err := f(h); err != nil {
				return err
			}
		}
		return nil
	}
	errs := make([]error, s.cfg.KVHeads)
	one := func(h int) { errs[h] = f(h) }
	if b, ok := s.backend.(interface{ Parallel(int, func(int)) }); ok {
		b.Parallel(len(errs), one)
	} else {
		var wg sync.WaitGroup
		for h := range errs {
			wg.Go(func() { one(h) })
		}
		wg.Wait()
	}
	return errors.Join(errs...)
}

// search takes segments, best first, until no row is left of the budget.
func (p *ours) search(budget, left int) {
	floor, most := min(p.o.Floor, budget), budget*p.o.Cap
	if p.o.NoAdapt {
		floor, most = budget, budget
	}
	for left > 0 {
		best := -1
		for h := range p.w {
			f := &p.w[h]
			if len(f.heap) == 0 || f.used >= most {
				continue
			}
			if f.used < floor {
				best = h
				break
			}
			if best < 0 || f.heap[0].rank > p.w[best].heap[0].rank {
				best = h
			}
		}
		if best < 0 {
			return
		}
		f := &p.w[best]
		if n := f.pop(); n.parent {
			f.open(int(n.id)*paragraph, (int(n.id)+1)*paragraph)
		} else {
			left -= f.take(n, min(left, most-f.used))
		}
	}
}
