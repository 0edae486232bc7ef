package kv

import (
	"slices"

	"svae/kernels"
)

// quest cuts the rows into pages and reads those whose box around the keys allows the largest score (Tang et al. 2024,
// §3.2), the largest over the heads of a group. The page of the latest row is always read.
type quest struct {
	o      Options
	layers layerStates[questLayer]
}

type questLayer struct {
	pages []table // of each key head: largest, smallest element of each channel (2K)
	full  int     // rows in full blocks when the pages were last brought up to date
}

func (*quest) Name() string { return "quest" }

func (*quest) Observe(*Store, int, int, []float32) error { return nil }

func (p *quest) Fork() Policy {
	return &quest{p.o, p.layers.fork(func(l *questLayer) *questLayer {
		c := &questLayer{full: l.full}
		for i := range l.pages {
			c.pages = append(c.pages, l.pages[i].fork())
		}
		return c
	})}
}

func (p *quest) Select(s *Store, q Query, b Budget, sel *Selection) error {
	K, G, n := s.cfg.HeadDim, s.cfg.Heads/s.cfg.KVHeads, s.layers[q.Layer].rows
	sel.reset(s.cfg.KVHeads, s.cfg.Heads)
	budget := b.Of(n)
	l := p.layers.of(q.Layer, func() *questLayer {
		l := &questLayer{}
		for range s.cfg.KVHeads {
			l.pages = append(l.pages, table{width: 2 * K})
		}
		return l
	})
	pages := (n - 1) / p.o.Page // full ones, without that of the latest row
	for h := range l.pages {
		if err := p.build(s, q.Layer, h, l, pages); err != nil {
			return err
		}
	}
	l.full = n / blockRows * blockRows
	tail := n - pages*p.o.Page
	if budget >= n || q.Layer < p.o.DenseLayers {
		sel.all(n)
		return nil
	}
	sc := s.scratch.Get().(*scratch)
	defer s.put(sc)
	x, scores := sc.floats(G*2*K), sc.floats(G*pages)
	for h := range l.pages {
		if tail >= budget || pages == 0 {
			sel.Ranges[h] = extend(sel.Ranges[h], n-budget, n)
			continue
		}
		signs(x, q.Q[h*G*K:(h+1)*G*K], K)
		s.backend.Linear(kernels.Of(scores), kernels.Buf{}, kernels.Of(x), kernels.Of(l.pages[h].f), kernels.Buf{}, kernels.None, G,
			2*K, pages)
		sel.Scanned += int64(8 * K * pages)
		best := scores[:pages]
		for g := 1; g < G; g++ {
			for i, x := range scores[g*pages : (g+1)*pages] {
				best[i] = max(best[i], x)
			}
		}
		chosen := ranked(best)[:min((budget-tail)/p.o.Page, pages)]
		slices.Sort(chosen)
		for _, i := range chosen {
			sel.Ranges[h] = extend(sel.Ranges[h], i*p.o.Page, (i+1)*p.o.Page)
		}
		sel.Ranges[h] = extend(sel.Ranges[h], n-tail, n)
	}
	return nil
}

// build brings the boxes of the pages up to date.
func (p *quest) build(s *Store, layer, h int, l *questLayer, pages int) error {
	K, P, t := s.cfg.HeadDim, p.o.Page, &l.pages[h]
	t.truncate(pages)
	have := t.rows()
	if s.cfg.Type == I8 && l.full < s.layers[layer].rows/blockRows*blockRows {
		have = min(have, l.full/P) // rows from there on have been rounded
	}
	keys := make([]float32, P*K)
	for i := have; i < pages; i++ {
		if err := s.Keys(keys, layer, h, []Range{{i * P, (i + 1) * P}}); err != nil {
			return err
		}
		box := t.set(i)
		copy(box, keys[:K])
		copy(box[K:], keys[:K])
		for r := 1; r < P; r++ {
			for c, x := range keys[r*K : (r+1)*K] {
				box[c], box[K+c] = max(box[c], x), min(box[K+c], x)
			}
		}
	}
	return nil
}

// signs writes the positive parts of each row of q (G, K), then the negative ones: times a box, that is the largest q·k
// of a key in it.
//
//	x (G, 2K)
func signs(x, q []float32, K int) {
	for g := range len(q) / K {
		row := x[g*2*K : (g+1)*2*K]
		for c, v := range q[g*K : (g+1)*K] {
			row[c], row[K+c] = max(v, 0), min(v, 0)
		}
	}
}
