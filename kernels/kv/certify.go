package kv

import (
	"container/heap"
	"math"
)

// cover is the search of widen for one key head: nodes that cover all rows not read, with bounds on their mass.
type cover struct {
	f     *frontier
	nodes []covered
	limit []float64 // ln of the mass that may be missing, of each head of the group
}

// covered is a node with ln of a bound on the mass of its rows that are not read, for each head of the group.
type covered struct {
	id     int
	parent bool
	bound  []float64
	worst  float64 // the largest bound over its limit
}

// bounds returns, for entries lo to hi-1, a bound on the score of any of their keys (G, hi-lo): the box's or the ball's,
// whichever is less, and what rounding may add.
func (f *frontier) bounds(t *summaries, lo, hi int) []float32 {
	n, G, K := hi-lo, f.G, f.K
	box, mean := make([]float32, G*n), make([]float32, G*n)
	if n == 0 {
		return box
	}
	f.linear(box, f.sign, t.box.f[2*lo*K:2*hi*K], 2*K, n)
	f.linear(mean, f.x, t.mean.f[lo*K:hi*K], K, n)
	for g, x := range f.norm {
		for i := range n {
			info := t.info.row(lo + i)
			b := min(box[g*n+i], mean[g*n+i]+x*info[infoRadius])
			box[g*n+i] = b + f.slack(x, info[infoNorm], 0)
		}
	}
	return box
}

// unread returns how many rows of a segment are not read.
func (f *frontier) unread(i int) int { return f.free(i, false) - f.taken[i] }

// add appends the nodes lo to hi-1 that hold rows which are not read.
func (c *cover) add(lo, hi int, parent bool) {
	f, t := c.f, &c.f.hd.seg
	if parent {
		t = &f.hd.par
	}
	b := f.bounds(t, lo, hi)
	for i := lo; i < hi; i++ {
		rows := f.free(i, parent)
		if !parent {
			rows -= f.taken[i]
		}
		if rows <= 0 {
			continue
		}
		n := covered{id: i, parent: parent, bound: make([]float64, f.G), worst: math.Inf(-1)}
		for g := range f.G {
			n.bound[g] = math.Log(float64(rows)) + float64(b[g*(hi-lo)+i-lo])
			n.worst = max(n.worst, n.bound[g]-c.limit[g])
		}
		heap.Push(c, n)
	}
}

// Len, Less, Swap, Push and Pop are heap.Interface's: the node that may be missing most comes first.
func (c *cover) Len() int           { return len(c.nodes) }
func (c *cover) Less(i, j int) bool { return c.nodes[i].worst > c.nodes[j].worst }
func (c *cover) Swap(i, j int)      { c.nodes[i], c.nodes[j] = c.nodes[j], c.nodes[i] }
func (c *cover) Push(x any)         { c.nodes = append(c.nodes, x.(covered)) }
func (c *cover) Pop() any {
	last := len(c.nodes) - 1
	n := c.nodes[last]
	c.nodes = c.nodes[:last]
	return n
}

// missing returns ln of the sum of the bounds, for head g of the group.
func (c *cover) missing(g int) float64 {
	best := math.Inf(-1)
	for i := range c.nodes {
		best = max(best, c.nodes[i].bound[g])
	}
	if math.IsInf(best, 0) || math.IsNaN(best) {
		return best
	}
	var sum float64
	for i := range c.nodes {
		sum += math.Exp(c.nodes[i].bound[g] - best)
	}
	return best + math.Log(sum)*(1+1e-12) + 1e-12*math.Abs(best)
}

// widen is widener's. A read row only adds to the mass that is known, so that what holds for lse holds for the wider
// selection.
func (p *ours) widen(s *Store, q Query, lse []float32, eps float64, sel *Selection) (bool, error) {
	n, wider := s.layers[q.Layer].rows, false
	if len(sel.Ranges) == 0 || rowsOf(sel.Ranges[0]) == n && math.IsInf(sel.Missing[0], -1) {
		return false, nil
	}
	for h := range p.w {
		f := &p.w[h]
		if f.bare { // only under a budget that is not bounded
			continue
		}
		c := cover{f: f, limit: make([]float64, f.G)}
		for g := range f.G {
			z := float64(lse[h*f.G+g])
			c.limit[g] = z - 1e-5*(10+math.Abs(z)) + math.Log(eps/(1-eps))
		}
		before := f.used
		c.cover(eps < 1)
		for g := range f.G {
			sel.Missing[h*f.G+g] = c.missing(g)
		}
		if f.used > before {
			wider = true
			sel.Ranges[h] = f.ranges(sel.Ranges[h][:0], n)
			f.remain(&c, sel.Mass[h*f.G:(h+1)*f.G], &sel.rest[h], !p.o.NoRest)
		}
	}
	return wider, nil
}

// cover gathers the nodes and, if more may be read, opens paragraphs and reads segments until the limits hold.
func (c *cover) cover(more bool) {
	f := c.f
	S, P := f.hd.seg.len(), f.hd.par.len()
	c.add(0, P, true)
	c.add(P*paragraph, S, false)
	c.openRead()
	for more && len(c.nodes) > 0 {
		if c.holds() {
			return
		}
		// Recounting costs as much as reading some: pop a fair part before the next look.
		for range max(len(c.nodes)/16, 1) {
			if len(c.nodes) == 0 {
				return
			}
			n := heap.Pop(c).(covered)
			if n.parent {
				c.add(n.id*paragraph, (n.id+1)*paragraph, false)
				continue
			}
			rows := f.unread(n.id)
			if f.taken[n.id] == 0 {
				f.chosen = append(f.chosen, n.id)
			}
			f.taken[n.id] += rows
			f.used += rows
		}
	}
}

// openRead opens the paragraphs of which some segments are read: their bound would count those twice.
func (c *cover) openRead() {
	open := map[int]bool{}
	for _, i := range c.f.chosen {
		open[i/paragraph] = true
	}
	var shut []covered
	var opened []int
	for _, n := range c.nodes {
		if n.parent && open[n.id] {
			opened = append(opened, n.id)
		} else {
			shut = append(shut, n)
		}
	}
	c.nodes = shut
	heap.Init(c)
	for _, id := range opened {
		c.add(id*paragraph, (id+1)*paragraph, false)
	}
}

// holds says that what may be missing is within the limits.
func (c *cover) holds() bool {
	for g, limit := range c.limit {
		if !(c.missing(g) <= limit) {
			return false
		}
	}
	return true
}

// remain is estimate for the nodes that cover what is not read.
func (f *frontier) remain(c *cover, share []float32, rest *remainder, want bool) {
	rest.reset()
	rest.base = append(rest.base, f.total...)
	for g := range share {
		share[g] = 1
	}
	for _, n := range c.nodes {
		t, rows := &f.hd.seg, f.free(n.id, n.parent)
		if n.parent {
			t = &f.hd.par
		} else {
			rows -= f.taken[n.id]
		}
		f.est, f.low = f.est[:0], f.low[:0]
		f.score(t, n.id, n.id+1)
		ln := logInt(rows)
		var most float32
		for g := range f.G {
			m := expf(ln + f.est[g] - f.total[g])
			share[g] = max(share[g]-m, 0)
			most = max(most, m)
		}
		if !want || most < negligible {
			continue
		}
		for g := range f.G {
			rest.mass = append(rest.mass, expf(ln+f.low[g]-f.total[g]))
		}
		rest.val = append(rest.val, t.val.row(n.id)...)
	}
}
