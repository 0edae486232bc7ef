package cpu

import "svae/kernels"

// AttentionRanges is kernels.Backend's. A part is a key head of a query row. The keys of its list come in blocks of
// keyBlock and tiles of 16, as if they lay one after the other, so that every sum has the chains of runStep.
func (b *Backend) AttentionRanges(a *kernels.Ranges) {
	kernels.CheckRanges(a)
	j := attentions.Get().(*attention)
	*j = attention{
		ranges: a, parts: j.parts[:0], steps: j.steps[:0], blocks: j.blocks[:0],
		q: a.Q.F32(), k: a.K.F32(), v: a.V.F32(), out: a.Out.F32(), lse: a.Lse.F32(),
		sq: a.H * a.HeadDim, sk: a.KV * a.HeadDim, group: a.H / a.KV,
	}
	j.dense = kernels.Attention{N: a.N, M: a.M, H: a.H, KV: a.KV, HeadDim: a.HeadDim, Scale: a.Scale}
	j.Attention = &j.dense
	work := 0
	for n := range a.N {
		for g := range a.KV {
			j.parts = append(j.parts, attentionPart{head: g, first: n})
		}
	}
	for i := a.At[0]; i < a.At[a.N*a.KV]; i++ {
		work += int(a.Hi[i]-a.Lo[i]) * j.group * a.HeadDim
	}
	j.do(b.pool, work)
}

// cursor is a place in a list of ranges: the next row, and the last one's end, of the range before next.
type cursor struct {
	lo, hi        []int32 // the ranges to come
	row, end, all int     // all: rows left, these included
}

func newCursor(lo, hi []int32) cursor {
	c := cursor{lo: lo, hi: hi}
	for i := range lo {
		c.all += int(hi[i] - lo[i])
	}
	return c
}

// run takes up to n rows that lie one after the other, n > 0, and returns the first and their number, 0 at the end.
func (c *cursor) run(n int) (row, rows int) {
	for c.row == c.end {
		if len(c.lo) == 0 {
			return 0, 0
		}
		c.row, c.end = int(c.lo[0]), int(c.hi[0])
		c.lo, c.hi = c.lo[1:], c.hi[1:]
	}
	row, rows = c.row, min(n, c.end-c.row)
	c.row += rows
	c.all -= rows
	return row, rows
}

// tile returns the next n <= 16 rows of x, of which those of a key head begin at element head: where they lie, if they
// lie one after the other and whole rows may be read there, else from a copy in to, wide elements apart.
func (c *cursor) tile(x []float32, sk, head, K, n int, to []float32, wide int) (rows []float32, ld int) {
	row, have := c.run(n)
	if have == n && wide == K {
		return x[row*sk+head:], sk
	}
	for at := 0; ; {
		for i := range have {
			copy(to[(at+i)*wide:][:K], x[(row+i)*sk+head:])
		}
		if at += have; at == n {
			return to, wide
		}
		row, have = c.run(n - at)
	}
}

// fetch asks for the next n rows or as many as there are, and goes on to the row after them.
func (c *cursor) fetch(x []float32, sk, head, K, n int) {
	for n > 0 {
		row, have := c.run(n)
		if have == 0 {
			return
		}
		fetch(x[row*sk+head:], sk, have, K)
		n -= have
	}
}

// rangeTiles is laneTiles for the rows of ranges.
type rangeTiles struct {
	cursor
	ahead       cursor
	x           []float32
	sk, head, K int
	copied      []float32
}

func (t *rangeTiles) tile(n int) ([]float32, int) {
	return t.cursor.tile(t.x, t.sk, t.head, t.K, n, t.copied, t.K)
}

func (t *rangeTiles) fetch(n int) { t.ahead.fetch(t.x, t.sk, t.head, t.K, n) }

// runRanges computes the query heads of a key head of one query row.
func (j *attention) runRanges(p attentionPart) {
	K, a, each := j.HeadDim, j.ranges, evenRows(j.group)
	at := p.first*a.KV + p.head
	next := newCursor(a.Lo[a.At[at]:a.At[at+1]], a.Hi[a.At[at]:a.At[at+1]])
	m, head, wide := next.all, p.head*K, roundUp(K, tileCols)
	r := rows{p.first*j.sq + p.head*j.group*K, K, j.group, p.first*j.H + p.head*j.group, 1, m, 0}
	if j.inLanes() {
		s, l := getScratch(laneValueRows*K), newLanes()
		l.ranges = [2]rangeTiles{{next, next, j.k, j.sk, head, K, s.f}, {next, next, j.v, j.sk, head, K, s.f}}
		j.runLaneTiles(l, r, m, &l.ranges[0], &l.ranges[1])
		l.put()
		s.put()
		return
	}
	block := min(keyBlock, roundUp(max(m, 1), tileCols))
	s := getScratch(2*tileCols*wide + j.group*(block+K+4))
	defer s.put()
	var st forwardState
	var copied []float32
	f := s.f
	st.keys, f = f[:tileCols*wide], f[tileCols*wide:]
	copied, f = f[:tileCols*wide], f[tileCols*wide:]
	st.rows(f, j.group, K)
	clear(j.out[r.at:][:j.group*K])
	for st.from = 0; st.from < m; st.from += keyBlock {
		st.n = min(keyBlock, m-st.from)
		keys, values := next, next
		for t := 0; t < st.n; t += tileCols {
			n := min(tileCols, st.n-t)
			x, ld := keys.tile(j.k, j.sk, head, K, n, copied, K)
			ahead := keys
			ahead.fetch(j.k, j.sk, head, K, min(tileCols, st.n-t-n))
			packT(st.keys, x, ld, n, K)
			for i := 0; i < j.group; i += each {
				kernel(min(each, j.group-i), K, j.q[r.at+i*K:], K, 1, st.keys, tileCols, st.scores[i*block+t:], block, modeSet)
			}
		}
		for i := range j.group {
			j.softmax(&st, st.scores[i*block:], st.n, i)
		}
		out := st.target(j.out[r.at:][:j.group*K])
		for t := 0; t < st.n; t += tileCols {
			n := min(tileCols, st.n-t)
			x, ld := values.tile(j.v, j.sk, head, K, n, copied, wide)
			ahead := values
			ahead.fetch(j.v, j.sk, head, K, min(tileCols, st.n-t-n))
			j.rangeValues(&st, out, x, ld, t, n, block)
		}
		st.mergeAll(j.out[r.at:][:j.group*K], K)
		next = values
	}
	j.finish(&st, r, 0)
}

// rangeValues adds n weighed values, rows of x that lie ld elements apart, to out, a row a query head.
func (j *attention) rangeValues(st *forwardState, out, x []float32, ld, t, n, block int) {
	K, each := j.HeadDim, evenRows(j.group)
	for i := 0; i < j.group; i += each {
		c := 0
		for ; j.group == 1 && c+rowCols <= K; c += rowCols {
			kernelRow(n, st.scores[t:], x[c:], tileCols, ld, out[c:], modeFrom)
		}
		for ; c < K; c += tileCols {
			product(min(each, j.group-i), n, st.scores[i*block+t:], block, 1, x[c:], ld, out[i*K+c:], K, K-c, modeFrom)
		}
	}
}
