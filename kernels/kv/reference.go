package kv

import "slices"

// reference is SentenceKV as its published code behaves, written from a description of that behaviour, in float32 where
// it rounds to float16. It chooses for each query head. Positions are those among the rows it kept. What sets it apart
// from paper: scores are max-pooled; the first 32 kept rows stand for the first rows; position 32 of them, and the one 32
// from the end, are reached by no rule; a list of a sentence is cut at a cap, and a written sentence longer than the cap is
// never found again; and the token that ends a sentence and the one after it read everything kept, budget or not.
type reference struct {
	o      Options
	layers layerStates[referenceLayer]
}

type referenceLayer struct {
	window
	prompt  int
	kept    [][]int    // of each head: rows, ascending; written rows follow
	buckets [][]bucket // of each head: positions among kept
	cap     int
	begin   int // where the sentence that is written begins, among kept

	queries []float32
	count   int
}

func (*reference) Name() string { return "reference" }

func (p *reference) Fork() Policy {
	return &reference{p.o, p.layers.fork(func(l *referenceLayer) *referenceLayer {
		c := *l
		c.window, c.queries = l.window.fork(), slices.Clone(l.queries)
		c.kept, c.buckets = slices.Clone(l.kept), slices.Clone(l.buckets)
		for h := range c.kept {
			c.kept[h], c.buckets[h] = slices.Clip(c.kept[h]), slices.Clip(c.buckets[h])
		}
		return &c
	})}
}

func (p *reference) layer(i int) *referenceLayer {
	return p.layers.of(i, func() *referenceLayer { return &referenceLayer{window: window{size: p.o.Window}} })
}

func (p *reference) Observe(s *Store, layer, first int, q []float32) error {
	p.layer(layer).observe(first, q, s.cfg.Heads*s.cfg.HeadDim)
	return nil
}

// settle keeps rows of the prompt for each head and sorts them into sentences. What an earlier prompt's end dropped
// stays dropped.
func (p *reference) settle(s *Store, layer int, b Budget, l *referenceLayer) error {
	H, n := s.cfg.Heads, l.end
	mass, err := s.windowMass(layer, &l.window, H)
	if err != nil {
		return err
	}
	first := len(mass[0])
	alive := survivors{since: l.prompt}
	if l.kept != nil {
		for h := range H {
			i, _ := slices.BinarySearch(l.kept[h], l.prompt)
			alive.rows = append(alive.rows, l.kept[h][:i])
		}
	}
	keep := max(int(p.o.Keep*float64(b.Of(n)))-p.o.Window, 1)
	alive.settle(mass, p.o.Pool, keep, first)
	ends := p.sentences(s, n)
	l.prompt, l.fresh, l.count = n, false, 0
	l.queries = make([]float32, H*s.cfg.HeadDim)
	l.kept, l.buckets = make([][]int, H), make([][]bucket, H)
	for h := range H {
		rows := alive.rows[h]
		for r := first; r < n; r++ {
			rows = append(rows, r)
		}
		l.kept[h] = rows
		l.cap = max(100, 2*(len(rows)/max(len(ends), 1))+50)
		at := 0
		for _, end := range ends {
			to := at
			for to < len(rows) && rows[to] < end {
				to++
			}
			bk, err := p.bucket(s, layer, h, l, at, to)
			if err != nil {
				return err
			}
			l.buckets[h] = append(l.buckets[h], bk)
			at = to
		}
		l.begin = len(rows)
	}
	return nil
}

// sentences returns where the sentences of a prompt of n rows end.
func (*reference) sentences(s *Store, n int) []int {
	var ends []int
	for _, e := range s.ends {
		if e <= n {
			ends = append(ends, e)
		}
	}
	if k := len(ends); n > 0 && (k == 0 || ends[k-1] < n) {
		ends = append(ends, n)
	}
	return ends
}

// bucket describes positions from at to to-1 among the kept rows of a head.
func (*reference) bucket(s *Store, layer, h int, l *referenceLayer, at, to int) (bucket, error) {
	K := s.cfg.HeadDim
	if at == to {
		return bucket{mean: make([]float32, K)}, nil
	}
	b, err := s.bucketOf(layer, h*s.cfg.KVHeads/s.cfg.Heads, l.kept[h][at:to])
	if err != nil {
		return b, err
	}
	b.rows = nil
	for i := at; i < min(to, at+l.cap); i++ {
		b.rows = append(b.rows, i)
	}
	return b, nil
}

func (p *reference) Select(s *Store, q Query, b Budget, sel *Selection) error {
	l, n := p.layer(q.Layer), s.layers[q.Layer].rows
	if l.fresh || l.queries == nil {
		if err := p.settle(s, q.Layer, b, l); err != nil {
			return err
		}
	}
	for h := range l.kept {
		from := l.prompt
		if k := len(l.kept[h]); k > 0 {
			from = max(from, l.kept[h][k-1]+1)
		}
		for r := from; r < n; r++ {
			l.kept[h] = append(l.kept[h], r)
		}
	}
	for i, x := range q.Q {
		l.queries[i] += x
	}
	l.count++
	if q.Ends {
		if err := p.end(s, q.Layer, l); err != nil {
			return err
		}
	}
	sel.reset(s.cfg.Heads, s.cfg.Heads)
	for h := range l.kept {
		p.fill(s, h, b.Of(n), l, sel)
	}
	return nil
}

// end makes a bucket of the sentence that was written and forgets its queries.
func (p *reference) end(s *Store, layer int, l *referenceLayer) error {
	for h := range l.kept {
		b, err := p.bucket(s, layer, h, l, l.begin, len(l.kept[h]))
		if err != nil {
			return err
		}
		if len(l.kept[h])-l.begin > l.cap {
			b.rows = nil
		}
		l.buckets[h] = append(l.buckets[h], b)
	}
	l.begin = len(l.kept[0])
	clear(l.queries)
	l.count = 0
	return nil
}

func (p *reference) fill(s *Store, h, budget int, l *referenceLayer, sel *Selection) {
	K, kept := s.cfg.HeadDim, l.kept[h]
	N := len(kept)
	if l.count <= 1 {
		sel.Ranges[h] = fromRows(sel.Ranges[h], kept)
		return
	}
	score := make([]float64, len(l.buckets[h]))
	sel.Scanned += int64(4 * K * len(score))
	for i, bk := range l.buckets[h] {
		score[i] = dot64(l.queries[h*K:(h+1)*K], bk.mean) / float64(l.count)
	}
	allowed := make([]bool, N)
	left := budget - p.o.Sinks - p.o.Recent
	for _, i := range ranked(score) {
		for _, x := range l.buckets[h][i].rows {
			if x > p.o.Sinks && x < N-p.o.Recent && left > 0 {
				allowed[x] = true
				left--
			}
		}
	}
	for x, r := range kept {
		if allowed[x] || x < p.o.Sinks || x >= N-p.o.Recent {
			sel.Ranges[h] = extend(sel.Ranges[h], r, r+1)
		}
	}
}
