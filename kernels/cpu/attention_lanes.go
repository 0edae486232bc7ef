package cpu

import (
	"math"
	"sync"
)

// lanes is how many query heads of a key head are taken at the same time where each has a lane of a vector: keys and
// values are then read as they lie. Fewer than leastLanes leave most of a vector unused.
const (
	lanes      = 8
	leastLanes = 3
)

// laneRows is how many keys go by one call of a kernel, and laneValueRows how many values.
const (
	laneRows      = 12
	laneValueRows = 16
)

// laneAhead is how many bytes ahead of those at hand rows are asked for, for rows of up to laneWide bytes, some of which
// together fit a cache of the first level.
const (
	laneAhead = 16 << 10
	laneWide  = 1 << 10
)

// laneFetch is how many rows ahead scattered rows are asked for.
const laneFetch = 48

// inLanes says whether the heads of a group may be lanes.
func (j *attention) inLanes() bool {
	return haveLanes() && j.group >= leastLanes && j.group <= lanes && j.HeadDim%tileCols == 0 && float32(j.Scale) > 0
}

// laneHead is one key head and the query heads of its group, at a block of keys. Every sum has the chains that runForward
// gives it.
type laneHead struct {
	q, p      []float32 // queries (K, 8); scores, then their exponentials (block, 8)
	most      [lanes]float32
	best, sum [lanes]float32
}

// laneHeads are those of a part, and what hands out their keys and values.
type laneHeads struct {
	heads  []laneHead
	runs   [2]runTiles
	ranges [2]rangeTiles
}

var laneHeadsPool = sync.Pool{New: func() any { return new(laneHeads) }}

func newLanes() *laneHeads { return laneHeadsPool.Get().(*laneHeads) }

// prepare makes heads key heads ready for blocks of up to block keys. Their queries begin at j.q[at], their memory at f.
func (l *laneHeads) prepare(j *attention, heads, at, block int, f []float32) {
	K := j.HeadDim
	if cap(l.heads) < heads {
		l.heads = make([]laneHead, heads)
	}
	l.heads = l.heads[:heads]
	for h := range l.heads {
		x := &l.heads[h]
		x.q, f = f[:lanes*K], f[lanes*K:]
		x.p, f = f[:lanes*block], f[lanes*block:]
		clear(x.q)
		for g := range j.group {
			for c, v := range j.q[at+(h*j.group+g)*K:][:K] {
				x.q[c*lanes+g] = v
			}
		}
	}
}

// laneFloats is the memory that prepare wants.
func (j *attention) laneFloats(heads, block int) int { return heads * lanes * (j.HeadDim + block) }

func (l *laneHeads) put() {
	clear(l.heads)
	l.runs, l.ranges = [2]runTiles{}, [2]rangeTiles{}
	laneHeadsPool.Put(l)
}

// begin forgets the scores of the last block.
func (x *laneHead) begin() {
	for g := range x.most {
		x.most[g] = float32(math.Inf(-1))
	}
}

// softmax turns the scores of n keys into exp(score - best).
func (x *laneHead) softmax(factor float32, n int) {
	wide := roundUp(n, lanes)
	for i := n * lanes; i < wide*lanes; i++ {
		x.p[i] = float32(math.Inf(-1))
	}
	for g, m := range x.most {
		x.best[g] = factor * m
	}
	laneShares(x.p[:wide*lanes], factor, &x.best, &x.sum)
}

// step is a query in a row of lanes a key head: of m keys from row lo on. Its blocks are computed by themselves, by any
// worker, and then merged in order: block i leaves its outputs, H rows of K elements, its bests and its sums at
// partials.f[at+i*H*(K+2)].
type step struct {
	rows
	lo, m, at int
}

// stepBlocks is blocks lo to hi-1 of a step.
type stepBlocks struct{ step, lo, hi int }

// addStep makes the only query of a segment a step, and cuts it into parts.
func (j *attention) addStep(p *pool, segment int) {
	sp, K := j.Spans, j.HeadDim
	row, lo := int(sp.Q[segment]), int(sp.KLo[segment])
	m := int(sp.KHi[segment]) - lo
	at, blocks := 0, (m+keyBlock-1)/keyBlock
	if n := len(j.steps); n > 0 {
		last := j.steps[n-1]
		at = last.at + (last.m+keyBlock-1)/keyBlock*j.H*(K+2)
	}
	j.steps = append(j.steps, step{rows{row * j.sq, K, j.H, row * j.H, 1, m, 0}, lo, m, at})
	each := max(1, min(16, blocks/(4*p.workers)))
	for b := 0; b < blocks; b += each {
		j.blocks = append(j.blocks, stepBlocks{len(j.steps) - 1, b, min(b+each, blocks)})
	}
}

// runBlocks computes some blocks of a step, all heads side by side, so that keys and values are read in the order they lie
// in.
func (j *attention) runBlocks(p stepBlocks) {
	K, st := j.HeadDim, &j.steps[p.step]
	block := min(keyBlock, roundUp(st.m, lanes))
	s := getScratch(j.laneFloats(j.KV, block))
	l := newLanes()
	l.prepare(j, j.KV, st.rows.at, block, s.f)
	ahead := 0
	if 4*j.sk <= laneWide {
		ahead = laneAhead
	}
	for b := p.lo; b < p.hi; b++ {
		from := b * keyBlock
		n, at := min(keyBlock, st.m-from), (st.lo+from)*j.sk
		part := j.partials[st.at+b*j.H*(K+2):][:j.H*(K+2)]
		clear(part[:j.H*K])
		for h := range l.heads {
			l.heads[h].begin()
		}
		for t := 0; t < n; t += laneRows {
			rows := min(laneRows, n-t)
			if ahead == 0 && t+2*laneRows <= n {
				fetch(j.k[at+(t+laneRows)*j.sk:], j.sk, laneRows, j.sk)
			}
			for h := range l.heads {
				x := &l.heads[h]
				laneScores(x.q, j.k[at+t*j.sk+h*K:], j.sk, rows, K, x.p[t*lanes:], &x.most, ahead+4*h*K*(rows-1))
			}
		}
		for h := range l.heads {
			x := &l.heads[h]
			x.softmax(float32(j.Scale), n)
			copy(part[j.H*K+h*j.group:][:j.group], x.best[:])
			copy(part[j.H*(K+1)+h*j.group:][:j.group], x.sum[:])
		}
		for t := 0; t < n; t += laneValueRows {
			rows := min(laneValueRows, n-t)
			if ahead == 0 && t+2*laneValueRows <= n {
				fetch(j.v[at+(t+laneValueRows)*j.sk:], j.sk, laneValueRows, j.sk)
			}
			for h := range l.heads {
				x := &l.heads[h]
				laneValues(x.p[t*lanes:], j.v[at+t*j.sk+h*K:], j.sk, rows, K, part[h*j.group*K:], j.group, ahead+4*h*K*(rows-1))
			}
		}
	}
	l.put()
	s.put()
}

// partialFloats is the memory of the blocks of all steps.
func (j *attention) partialFloats() int {
	n := len(j.steps)
	if n == 0 {
		return 0
	}
	last := j.steps[n-1]
	return last.at + (last.m+keyBlock-1)/keyBlock*j.H*(j.HeadDim+2)
}

// mergeInline is how many blocks are merged without other workers.
const mergeInline = 64

// finishSteps merges the blocks of every step.
func (j *attention) finishSteps(p *pool) {
	for i := range j.steps {
		st := &j.steps[i]
		if st.m <= mergeInline*keyBlock {
			j.mergeHeads(st, 0, j.H)
			continue
		}
		p.do(j.KV, mergeJob{j, st})
	}
}

// mergeJob merges the blocks of a step; a part is the heads of a group.
type mergeJob struct {
	j  *attention
	st *step
}

func (m mergeJob) run(part int) { m.j.mergeHeads(m.st, part*m.j.group, m.j.group) }

// mergeHeads merges the blocks of n heads from first on.
func (j *attention) mergeHeads(st *step, first, n int) {
	K, H := j.HeadDim, j.H
	r := st.rows
	r.at, r.lse, r.n = r.at+first*K, r.lse+first, n
	out := j.out[r.at:][:n*K]
	if st.m == 0 {
		clear(out)
		j.finish(nil, r, 0)
		return
	}
	// Of every block: outputs from first*K on, bests from H*K+first on, sums from H*(K+1)+first on.
	f := j.partials[st.at:]
	copy(out, f[first*K:])
	all := forwardState{best: f[H*K+first:][:n], sum: f[H*(K+1)+first:][:n]}
	for from := keyBlock; from < st.m; from += keyBlock {
		f := j.partials[st.at+from/keyBlock*H*(K+2):]
		for h := range n {
			mergeBlocks(&all.best[h], &all.sum[h], out[h*K:][:K], f[H*K+first+h], f[H*(K+1)+first+h], f[(first+h)*K:][:K])
		}
	}
	j.finish(&all, r, 0)
}

// laneTiles hands out the next rows of a list of keys or values: tile returns n rows and the elements between them, fetch
// asks for the n rows after those that were asked for, or as many as there are.
type laneTiles interface {
	tile(n int) (x []float32, ld int)
	fetch(n int)
}

// runLaneTiles computes the heads of a key head for m keys that keys and values hand out.
func (j *attention) runLaneTiles(l *laneHeads, r rows, m int, keys, values laneTiles) {
	K, block := j.HeadDim, min(keyBlock, roundUp(max(m, 1), lanes))
	s := getScratch(j.laneFloats(1, block) + j.group*K + 2*lanes)
	defer s.put()
	l.prepare(j, 1, r.at, block, s.f)
	x, f := &l.heads[0], s.f[j.laneFloats(1, block):]
	st := forwardState{best: f[:lanes], sum: f[lanes : 2*lanes], partBest: x.best[:], partSum: x.sum[:], part: f[2*lanes:][:j.group*K]}
	out := j.out[r.at:][:j.group*K]
	clear(out)
	keys.fetch(laneFetch)
	for from := 0; from < m; from += keyBlock {
		n := min(keyBlock, m-from)
		x.begin()
		for t := 0; t < n; t += laneRows {
			rows := min(laneRows, n-t)
			k, ld := keys.tile(rows)
			keys.fetch(rows)
			laneScores(x.q, k, ld, rows, K, x.p[t*lanes:], &x.most, 0)
		}
		if from == 0 {
			values.fetch(laneFetch)
		}
		x.softmax(float32(j.Scale), n)
		to := out
		if from == 0 {
			copy(st.best, x.best[:])
			copy(st.sum, x.sum[:])
		} else {
			to = st.part
			clear(to)
		}
		for t := 0; t < n; t += laneValueRows {
			rows := min(laneValueRows, n-t)
			v, ld := values.tile(rows)
			values.fetch(rows)
			laneValues(x.p[t*lanes:], v, ld, rows, K, to, j.group, 0)
		}
		if from > 0 {
			for g := range j.group {
				st.merge(g, out[g*K:][:K], to[g*K:][:K])
			}
		}
	}
	j.finish(&st, r, 0)
}

// laneScoresGo, laneSharesGo and laneValuesGo are the loops of attention_amd64.s.
func laneScoresGo(q, k []float32, ld, n, K int, out []float32, most *[lanes]float32) {
	for r := range n {
		for g := range lanes {
			var s float32
			for c := range K {
				s += float32(q[c*lanes+g] * k[r*ld+c])
			}
			out[r*lanes+g] = s
			most[g] = max(most[g], s)
		}
	}
}

func laneSharesGo(x []float32, scale float32, shift, sum *[lanes]float32) {
	var by [lanes][8]float32
	for i := range x {
		g, r := i%lanes, i/lanes
		x[i] = float32(math.Exp(float64(float32(scale*x[i]) - shift[g])))
		by[g][r%8] += x[i]
	}
	for g := range by {
		sum[g] = sum8(&by[g])
	}
}

func laneValuesGo(p, v []float32, ld, n, K int, out []float32, group int) {
	for r := range n {
		for g := range group {
			for c := range K {
				out[g*K+c] += float32(p[r*lanes+g] * v[r*ld+c])
			}
		}
	}
}
