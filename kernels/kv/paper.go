package kv

import (
	"slices"
)

// paper is SentenceKV (arXiv 2504.00970, §3) with true first rows, one choice for each key head, and no row that can not
// be reached. Of the prompt before its last Window rows it keeps the Keep·budget rows that the window's queries attend to
// most, summed over the heads of a group. A sentence is described by the mean of its kept keys. A step compares these with
// the mean query of the sentence that it writes, q̄ (the largest q̄·µ over the heads of a group), and reads the kept rows of
// the best sentences, the last one cut, until the budget is full. Sentences written later are kept whole.
type paper struct {
	o      Options
	layers layerStates[paperLayer]
}

type paperLayer struct {
	window
	survivors
	buckets [][]bucket // of each key head
	next    int        // the first segment that has no bucket
	prompt  int        // rows of the prompt

	queries []float32 // sum of the queries of the sentence that is written (H, K)
	count   int       // of them
}

// bucket is the kept rows of a sentence, ascending, and the mean of their keys.
type bucket struct {
	mean []float32
	rows []int
}

func (*paper) Name() string { return "paper" }

func (p *paper) Fork() Policy {
	return &paper{p.o, p.layers.fork(func(l *paperLayer) *paperLayer {
		c := *l
		c.window, c.queries, c.buckets = l.window.fork(), slices.Clone(l.queries), slices.Clone(l.buckets)
		for h := range c.buckets {
			c.buckets[h] = slices.Clip(c.buckets[h])
		}
		return &c
	})}
}

func (p *paper) layer(i int) *paperLayer {
	return p.layers.of(i, func() *paperLayer { return &paperLayer{window: window{size: p.o.Window}} })
}

func (p *paper) Observe(s *Store, layer, first int, q []float32) error {
	p.layer(layer).observe(first, q, s.cfg.Heads*s.cfg.HeadDim)
	return nil
}

// settle keeps what the prompt's end attends to and makes the buckets.
func (p *paper) settle(s *Store, layer int, b Budget, l *paperLayer) error {
	mass, err := s.windowMass(layer, &l.window, s.cfg.KVHeads)
	if err != nil {
		return err
	}
	keep := int(p.o.Keep*float64(b.Of(l.end))) - p.o.Window
	l.survivors.settle(mass, 1, keep, len(mass[0]))
	l.prompt, l.fresh, l.count = l.end, false, 0
	l.queries = make([]float32, s.cfg.Heads*s.cfg.HeadDim)
	l.buckets = make([][]bucket, s.cfg.KVHeads)
	for h := range l.buckets {
		rows := slices.Clone(l.rows[h])
		for r := l.since; r < l.prompt; r++ {
			rows = append(rows, r)
		}
		l.next = 0
		for at := 0; at < len(rows); {
			for l.next < s.Segments() && s.Segment(l.next).Hi <= rows[at] {
				l.next++
			}
			end := l.prompt
			if l.next < s.Segments() {
				end = min(s.Segment(l.next).Hi, end)
			}
			n := at
			for n < len(rows) && rows[n] < end {
				n++
			}
			bk, err := s.bucketOf(layer, h, rows[at:n:n])
			if err != nil {
				return err
			}
			l.buckets[h] = append(l.buckets[h], bk)
			at = n
		}
	}
	for l.next = 0; l.next < s.Segments() && s.Segment(l.next).Hi <= l.prompt; {
		l.next++
	}
	return nil
}

func (s *Store) bucketOf(layer, h int, rows []int) (bucket, error) {
	K := s.cfg.HeadDim
	sc := s.scratch.Get().(*scratch)
	defer s.put(sc)
	keys := sc.floats(len(rows) * K)
	if err := s.Keys(keys, layer, h, fromRows(nil, rows)); err != nil {
		return bucket{}, err
	}
	return bucket{meanKey(keys, K), rows}, nil
}

// meanKey returns the mean of rows (N, K), summed in float64.
func meanKey(keys []float32, K int) []float32 {
	mean, n := make([]float32, K), len(keys)/K
	for c := range mean {
		var sum float64
		for r := range n {
			sum += float64(keys[r*K+c])
		}
		mean[c] = float32(sum / float64(max(n, 1)))
	}
	return mean
}

func dot64(a, b []float32) (s float64) {
	for i := range a {
		s += float64(a[i]) * float64(b[i])
	}
	return s
}

func (p *paper) Select(s *Store, q Query, b Budget, sel *Selection) error {
	l, n := p.layer(q.Layer), s.layers[q.Layer].rows
	if l.fresh || l.queries == nil {
		if len(l.q) == 0 { // no prompt was observed: every row is kept
			l.end = 0
		}
		if err := p.settle(s, q.Layer, b, l); err != nil {
			return err
		}
	}
	for ; l.next < s.Segments(); l.next++ {
		r := s.Segment(l.next)
		rows := make([]int, 0, r.Len())
		for i := max(r.Lo, l.prompt); i < r.Hi; i++ {
			rows = append(rows, i)
		}
		for h := range l.buckets {
			bk, err := s.bucketOf(q.Layer, h, rows)
			if err != nil {
				return err
			}
			l.buckets[h] = append(l.buckets[h], bk)
		}
	}
	for i, x := range q.Q {
		l.queries[i] += x
	}
	l.count++
	sel.reset(s.cfg.KVHeads, s.cfg.Heads)
	p.fill(s, b.Of(n), n, p.o.Full && (l.count == 1 || q.Ends), l, sel)
	if q.Ends {
		clear(l.queries)
		l.count = 0
	}
	return nil
}

// fill chooses the rows under a budget of b rows, or all that are kept.
func (p *paper) fill(s *Store, b, n int, full bool, l *paperLayer, sel *Selection) {
	if b >= n {
		sel.all(n)
		return
	}
	K, G := s.cfg.HeadDim, s.cfg.Heads/s.cfg.KVHeads
	first, last := edges(n, b, p.o.Sinks, p.o.Recent)
	for h, buckets := range l.buckets {
		score := make([]float64, len(buckets))
		sel.Scanned += int64(4 * K * len(buckets))
		for i, bk := range buckets {
			for g := range G {
				x := dot64(l.queries[(h*G+g)*K:(h*G+g+1)*K], bk.mean) / float64(l.count)
				if g == 0 || x > score[i] {
					score[i] = x
				}
			}
		}
		left := b - first - last
		if full {
			left = n
		}
		var rows []int
		for _, i := range ranked(score) {
			for _, r := range buckets[i].rows {
				if r >= first && r < n-last && left > 0 {
					rows = append(rows, r)
					left--
				}
			}
		}
		slices.Sort(rows)
		sel.Ranges[h] = fromRows(extend(sel.Ranges[h], 0, first), rows)
		sel.Ranges[h] = extend(sel.Ranges[h], n-last, n)
	}
}
