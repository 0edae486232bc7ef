package kv

import "slices"

// snapkv keeps, of the rows before the last Window of the prompt, those that the window attends to most, after
// max-pooling (Li et al. 2024, §4), summed over the heads of a group. Later rows are all kept, and take their places from
// the budget of the earlier ones, the least first.
type snapkv struct {
	o      Options
	layers layerStates[snapLayer]
}

type snapLayer struct {
	window
	survivors
	best [][]int
}

func (*snapkv) Name() string { return "snapkv" }

func (p *snapkv) Fork() Policy {
	return &snapkv{p.o, p.layers.fork(func(l *snapLayer) *snapLayer {
		c := *l
		c.window = l.window.fork()
		return &c
	})}
}

func (p *snapkv) layer(i int) *snapLayer {
	return p.layers.of(i, func() *snapLayer { return &snapLayer{window: window{size: p.o.Window}} })
}

func (p *snapkv) Observe(s *Store, layer, first int, q []float32) error {
	p.layer(layer).observe(first, q, s.cfg.Heads*s.cfg.HeadDim)
	return nil
}

func (p *snapkv) Select(s *Store, q Query, b Budget, sel *Selection) error {
	l, n := p.layer(q.Layer), s.layers[q.Layer].rows
	if l.fresh {
		mass, err := s.windowMass(q.Layer, &l.window, s.cfg.KVHeads)
		if err != nil {
			return err
		}
		first := 0
		if len(mass) > 0 {
			first = len(mass[0])
		}
		l.best = l.settle(mass, p.o.Pool, b.Of(l.end)-p.o.Window, first)
		l.fresh = false
	}
	sel.reset(s.cfg.KVHeads, s.cfg.Heads)
	rows := b.Of(n)
	if rows >= n {
		sel.all(n)
		return nil
	}
	last := min(n-l.since, rows)
	for i := range sel.Ranges {
		if last < rows && l.best != nil {
			keep := slices.Clone(l.best[i][:min(rows-last, len(l.best[i]))])
			slices.Sort(keep)
			sel.Ranges[i] = fromRows(sel.Ranges[i], keep)
		}
		sel.Ranges[i] = extend(sel.Ranges[i], n-last, n)
	}
	return nil
}
