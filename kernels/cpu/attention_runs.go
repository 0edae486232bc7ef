package cpu

import (
	"fmt"

	"svae/kernels"
)

// AttentionRuns overwrites out with attention of one query over keys and values that lie in pieces of memory, and lse,
// unless nil, with the log-sum-exp of its scaled scores.
//
//	out, q (H, K)           lse (H)
//	keys[i], values[i]      a run of rows of K elements
//	at (L+1)                list l, that of heads l·H/L and following, is the runs at[l] to at[l+1]-1
//
// The bits are those of Attention over the rows of a list one after the other. A head whose list is empty gets zeros and
// -Inf. It panics on sizes that do not fit.
func (b *Backend) AttentionRuns(out, lse, q []float32, keys, values [][]float32, at []int, H, K int, scale float64) {
	L := len(at) - 1
	switch {
	case L <= 0 || H%L != 0:
		panic(kernels.BadHeads)
	case len(out) < H*K || len(q) < H*K || lse != nil && len(lse) < H || at[L] > len(keys) || at[L] > len(values):
		panic(fmt.Sprintf("cpu: %d heads of %d elements, %d runs: an operand is too short", H, K, at[L]))
	}
	j := attentions.Get().(*attention)
	*j = attention{parts: j.parts[:0], steps: j.steps[:0], blocks: j.blocks[:0], q: q, out: out, lse: lse, sq: H * K, sk: K,
		group: H / L, keyRuns: keys, valueRuns: values, runs: at}
	j.dense = kernels.Attention{N: 1, H: H, KV: L, HeadDim: K, Scale: scale}
	j.Attention = &j.dense
	work := 0
	for l := range L {
		j.parts = append(j.parts, attentionPart{head: l})
	}
	for i := at[0]; i < at[L]; i++ {
		if len(keys[i])%K != 0 || len(keys[i]) != len(values[i]) {
			panic(fmt.Sprintf("cpu: run %d of %d key and %d value elements", i, len(keys[i]), len(values[i])))
		}
		work += len(keys[i]) * j.group
	}
	j.do(b.pool, work)
}

// runCursor is a place in runs of rows: the rest of the first, and the next ones.
type runCursor struct {
	row  []float32
	next [][]float32
	all  int // rows left
}

func newRunCursor(runs [][]float32, K int) runCursor {
	c := runCursor{next: runs}
	for _, r := range runs {
		c.all += len(r) / K
	}
	return c
}

// tile returns the next n rows: where they lie, if they lie one after the other and wide is K, or copies, wide elements
// apart.
func (c *runCursor) tile(n, K int, to []float32, wide int) ([]float32, int) {
	if len(c.row) >= n*K && wide == K {
		x := c.row
		c.row = x[n*K:]
		return x, K
	}
	for i := 0; i < n; {
		for len(c.row) == 0 {
			c.row, c.next = c.next[0], c.next[1:]
		}
		m := min(n-i, len(c.row)/K)
		if i == 0 && m == n && wide == K {
			x := c.row
			c.row = x[n*K:]
			return x, K
		}
		if wide == K {
			copy(to[i*K:(i+m)*K], c.row)
		} else {
			for r := range m {
				copy(to[(i+r)*wide:][:K], c.row[r*K:])
			}
		}
		i += m
		c.row = c.row[m*K:]
	}
	return to, wide
}

// fetch asks for the next n rows or as many as there are, and goes on to the row after them.
func (c *runCursor) fetch(n, K int) {
	for n > 0 {
		for len(c.row) == 0 {
			if len(c.next) == 0 {
				return
			}
			c.row, c.next = c.next[0], c.next[1:]
		}
		m := min(n, len(c.row)/K)
		fetch(c.row, K, m, K)
		n -= m
		c.row = c.row[m*K:]
	}
}

// runTiles is laneTiles for the rows of runs.
type runTiles struct {
	runCursor
	ahead  runCursor
	K      int
	copied []float32
}

func (t *runTiles) tile(n int) ([]float32, int) { return t.runCursor.tile(n, t.K, t.copied, t.K) }
func (t *runTiles) fetch(n int)                 { t.ahead.fetch(n, t.K) }

// runTiles computes the heads of a list of runs, with the chains of runStep.
func (j *attention) runTiles(p attentionPart) {
	K, each, wide := j.HeadDim, evenRows(j.group), roundUp(j.HeadDim, tileCols)
	lo, hi := j.runs[p.head], j.runs[p.head+1]
	keys, values := newRunCursor(j.keyRuns[lo:hi], K), newRunCursor(j.valueRuns[lo:hi], K)
	m := keys.all
	r := rows{p.head * j.group * K, K, j.group, p.head * j.group, 1, m, 0}
	if j.inLanes() {
		s, l := getScratch(laneValueRows*K), newLanes()
		l.runs = [2]runTiles{{keys, keys, K, s.f}, {values, values, K, s.f}}
		j.runLaneTiles(l, r, m, &l.runs[0], &l.runs[1])
		l.put()
		s.put()
		return
	}
	block := min(keyBlock, roundUp(max(m, 1), tileCols))
	s := getScratch((tileCols+valueRows)*wide + j.group*(block+K+4))
	defer s.put()
	var st forwardState
	f := s.f
	st.keys, f = f[:tileCols*wide], f[tileCols*wide:]
	copied := f[:valueRows*wide]
	f = f[valueRows*wide:]
	st.rows(f, j.group, K)
	clear(j.out[r.at:][:j.group*K])
	for st.from = 0; st.from < m; st.from += keyBlock {
		st.n = min(keyBlock, m-st.from)
		for t := 0; t < st.n; t += tileCols {
			n := min(tileCols, st.n-t)
			x, _ := keys.tile(n, K, copied, K)
			ahead := keys
			ahead.fetch(tileCols, K)
			packT(st.keys, x, K, n, K)
			for i := 0; i < j.group; i += each {
				kernel(min(each, j.group-i), K, j.q[r.at+i*K:], K, 1, st.keys, tileCols, st.scores[i*block+t:], block, modeSet)
			}
		}
		for i := range j.group {
			j.softmax(&st, st.scores[i*block:], st.n, i)
		}
		out := st.target(j.out[r.at:][:j.group*K])
		for t := 0; t < st.n; t += valueRows {
			n := min(valueRows, st.n-t)
			x, ld := values.tile(n, K, copied, wide)
			ahead := values
			ahead.fetch(valueRows, K)
			j.rangeValues(&st, out, x, ld, t, n, block)
		}
		st.mergeAll(j.out[r.at:][:j.group*K], K)
	}
	j.finish(&st, r, 0)
}
