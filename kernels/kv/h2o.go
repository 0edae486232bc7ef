package kv

import (
	"slices"

	"svae/kernels"
)

// h2o keeps, for each key head, the latest half of the budget and the rows with the largest sum of attention weights so
// far (Zhang et al. 2023, §4). What is dropped is gone.
type h2o struct {
	o      Options
	layers layerStates[h2oLayer]
}

type h2oLayer struct {
	sum   [][]float64 // of each key head, of each row
	alive [][]int     // of each key head, ascending
	seen  int         // rows that alive has been offered
}

func (*h2o) Name() string { return "h2o" }

func (p *h2o) Fork() Policy {
	return &h2o{p.o, p.layers.fork(func(l *h2oLayer) *h2oLayer {
		c := &h2oLayer{seen: l.seen}
		for h := range l.sum {
			c.sum, c.alive = append(c.sum, slices.Clone(l.sum[h])), append(c.alive, slices.Clone(l.alive[h]))
		}
		return c
	})}
}

func (p *h2o) layer(s *Store, i int) *h2oLayer {
	return p.layers.of(i, func() *h2oLayer {
		return &h2oLayer{sum: make([][]float64, s.cfg.KVHeads), alive: make([][]int, s.cfg.KVHeads)}
	})
}

func (p *h2o) Observe(s *Store, layer, first int, q []float32) error {
	l, n := p.layer(s, layer), first+len(q)/(s.cfg.Heads*s.cfg.HeadDim)
	for h := range l.sum {
		l.sum[h] = sized(l.sum[h], max(n, len(l.sum[h])))
		sum := l.sum[h]
		err := s.attentionOf(layer, h, first, q, func(_ int, w []float32, norm float32) {
			for i, x := range w {
				sum[i] += float64(x * norm)
			}
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (p *h2o) Select(s *Store, q Query, b Budget, sel *Selection) error {
	l, n := p.layer(s, q.Layer), s.layers[q.Layer].rows
	sel.reset(s.cfg.KVHeads, s.cfg.Heads)
	budget := b.Of(n)
	for h := range l.alive {
		l.sum[h] = sized(l.sum[h], max(n, len(l.sum[h])))
		for r := l.seen; r < n; r++ {
			l.alive[h] = append(l.alive[h], r)
		}
		l.alive[h] = evict(l.alive[h], l.sum[h], budget)
		sel.Ranges[h] = fromRows(sel.Ranges[h], l.alive[h])
		if err := p.accumulate(s, q, h, l, sel.Ranges[h]); err != nil {
			return err
		}
		sel.Scanned += int64(4 * s.cfg.HeadDim * len(l.alive[h]))
	}
	l.seen = n
	if budget >= n && rowsOf(sel.Ranges[0]) == n {
		sel.all(n)
	}
	return nil
}

// evict keeps budget rows: the latest half, and of the others those with the largest sum.
func evict(alive []int, sum []float64, budget int) []int {
	if len(alive) <= budget {
		return alive
	}
	latest := (budget + 1) / 2
	old := alive[:len(alive)-latest]
	score := make([]float64, len(old))
	for i, r := range old {
		score[i] = sum[r]
	}
	keep := ranked(score)[:budget-latest]
	slices.Sort(keep)
	kept := make([]int, 0, budget)
	for _, i := range keep {
		kept = append(kept, old[i])
	}
	return append(kept, alive[len(alive)-latest:]...)
}

// accumulate adds the weights of a step's query on the rows that are left.
func (p *h2o) accumulate(s *Store, q Query, h int, l *h2oLayer, rs []Range) error {
	K, G, M := s.cfg.HeadDim, s.cfg.Heads/s.cfg.KVHeads, rowsOf(rs)
	sc := s.scratch.Get().(*scratch)
	defer s.put(sc)
	keys, scores := sc.floats(M*K), sc.floats(G*M)
	if err := s.Keys(keys, q.Layer, h, rs); err != nil {
		return err
	}
	s.backend.Linear(kernels.Of(scores), kernels.Buf{}, kernels.Of(q.Q[h*G*K:(h+1)*G*K]), kernels.Of(keys), kernels.Buf{},
		kernels.None, G, K, M)
	for g := range G {
		w := scores[g*M : (g+1)*M]
		s.softmax(w)
		for i, r := range l.alive[h] {
			l.sum[h][r] += float64(w[i])
		}
	}
	return nil
}
