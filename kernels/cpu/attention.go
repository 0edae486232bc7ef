package cpu

import (
	"math"
	"sync"

	"svae/kernels"
)

// Sizes of the blocks of attention. A row's bits depend on keyBlock and no other of them: its keys come in blocks of
// keyBlock from the first it sees, and the softmax of each block, computed by itself, is merged with that of those before it
// (Milakov & Gimelshein 2018).
const (
	keyBlock   = 512
	queryBlock = 48  // rows of scores that are there at the same time
	querySpan  = 144 // rows of a part, unless the segment is not much longer
)

// attention is the job of both passes. It is cut into parts that no two of write the same rows.
type attention struct {
	*kernels.Attention
	q, k, v, out, lse, dQ, dK, dV, dOut []float32
	backward                            bool
	ranges                              *kernels.Ranges   // of AttentionRanges
	dense                               kernels.Attention // its sizes
	keyRuns, valueRuns                  [][]float32       // of AttentionRuns
	runs                                []int
	partials                            []float32    // of steps
	steps                               []step       // queries whose heads are lanes
	blocks                              []stepBlocks // parts of them, besides parts
	parts                               []attentionPart
	sq, sk, group                       int // elements of a row of q, of k; query heads of a key head
}

// attentionPart is some key heads with the queries from first to last-1 of a segment (forward), or one with all the
// queries of the segments from first to last-1 (backward).
type attentionPart struct{ head, heads, segment, first, last int }

var attentions = sync.Pool{New: func() any { return new(attention) }}

// Attention is kernels.Backend's.
func (b *Backend) Attention(a *kernels.Attention) {
	j := newAttention(a)
	kernels.CheckLen(a.Out, a.N*j.sq)
	if !a.Lse.Absent() {
		kernels.CheckLen(a.Lse, a.N*a.H)
	}
	work := 0
	for s := range a.Spans.KLo {
		n, m := int(a.Spans.Q[s+1]-a.Spans.Q[s]), int(a.Spans.KHi[s]-a.Spans.KLo[s])
		work += n * (m + 1) * j.sq
		if n == 1 && j.inLanes() {
			j.addStep(b.pool, s)
			continue
		}
		span := querySpan
		if n < 2*querySpan {
			span = max(n, 1)
		}
		heads := 1
		if n == 1 && a.HeadDim%tileCols == 0 { // a step reads whole rows of keys, as far as the workers share them
			heads = a.KV
			if m*j.sq > inlineOps {
				heads = (a.KV + b.pool.workers - 1) / b.pool.workers
			}
		}
		for first := 0; first < n; first += span {
			for h := 0; h < a.KV; h += heads {
				j.parts = append(j.parts, attentionPart{h, min(heads, a.KV-h), s, first, min(first+span, n)})
			}
		}
	}
	j.do(b.pool, work)
}

// newAttention checks the operands that both passes read.
func newAttention(a *kernels.Attention) *attention {
	if a.KV <= 0 || a.H%a.KV != 0 {
		panic(kernels.BadHeads)
	}
	sq, sk := a.H*a.HeadDim, a.KV*a.HeadDim
	kernels.CheckSpans(a.Spans, a.N, a.M)
	kernels.CheckLen(a.Q, a.N*sq)
	kernels.CheckLen(a.K, a.M*sk)
	kernels.CheckLen(a.V, a.M*sk)
	j := attentions.Get().(*attention)
	*j = attention{
		Attention: a, q: a.Q.F32(), k: a.K.F32(), v: a.V.F32(), out: a.Out.F32(), lse: a.Lse.F32(),
		parts: j.parts[:0], steps: j.steps[:0], blocks: j.blocks[:0], sq: sq, sk: sk, group: a.H / a.KV,
	}
	return j
}

// do runs the parts, on the caller's goroutine if the work is small, and forgets the operands.
func (j *attention) do(p *pool, work int) {
	var partials *scratch
	if n := j.partialFloats(); n > 0 {
		partials = getScratch(n)
		j.partials = partials.f
	}
	if parts := len(j.blocks) + len(j.parts); work > inlineOps {
		p.do(parts, j)
	} else {
		for i := range parts {
			j.run(i)
		}
	}
	j.finishSteps(p)
	if partials != nil {
		partials.put()
	}
	*j = attention{parts: j.parts[:0], steps: j.steps[:0], blocks: j.blocks[:0]}
	attentions.Put(j)
}

func (j *attention) run(i int) {
	if i < len(j.blocks) {
		j.runBlocks(j.blocks[i])
		return
	}
	i -= len(j.blocks)
	switch p := j.parts[i]; {
	case j.backward:
		j.runBackward(p)
	case j.ranges != nil:
		j.runRanges(p)
	case j.runs != nil:
		j.runTiles(p)
	case p.last-p.first == 1 && j.HeadDim%tileCols == 0:
		j.runStep(p)
	default:
		j.runForward(p)
	}
}

// rows are query rows whose elements lie stride apart, all of one head over rising queries, or of one query over the
// heads of a group. at is where the first begins in q, as in out.
type rows struct {
	at, stride, n int
	lse, lseStep  int // where the first has its Lse
	seen, step    int // keys that the first sees, and how many more each next one
}

// eachRows calls f for the rows of a part, in runs of up to queryBlock.
func (j *attention) eachRows(head, segment, first, last int, f func(r rows, index int)) {
	K, sp := j.HeadDim, j.Spans
	n, m := int(sp.Q[segment+1]-sp.Q[segment]), int(sp.KHi[segment]-sp.KLo[segment])
	if last-first == 1 {
		row := int(sp.Q[segment]) + first
		r := rows{row*j.sq + head*j.group*K, K, j.group, row*j.H + head*j.group, 1, m, 0}
		if sp.Causal {
			r.seen = m - n + first + 1
		}
		f(r, 0)
		return
	}
	index := 0
	for g := range j.group {
		for i := first; i < last; i += queryBlock {
			row := int(sp.Q[segment]) + i
			h := head*j.group + g
			r := rows{row*j.sq + h*K, j.sq, min(queryBlock, last-i), row*j.H + h, j.H, m, 0}
			if sp.Causal {
				r.seen, r.step = m-n+i+1, 1
			}
			f(r, index)
			index += r.n
		}
	}
}

// forwardState is the scratch of a part of the forward pass.
type forwardState struct {
	keys, values, scores []float32
	best, sum            []float32 // of every row: the largest scaled score yet, and Σ exp(score - best)
	part                 []float32 // outputs of a block that is not the first, by rows of K elements
	partBest, partSum    []float32 // and their best and sum
	valueStep, valueLead int       // elements between rows, and between panels, of values
	from, n              int       // the block of keys
}

func (j *attention) runForward(p attentionPart) {
	K, sp := j.HeadDim, j.Spans
	lo, m := int(sp.KLo[p.segment]), int(sp.KHi[p.segment]-sp.KLo[p.segment])
	if sp.Causal {
		m += p.last - int(sp.Q[p.segment+1]-sp.Q[p.segment])
	}
	count := max((p.last-p.first)*j.group, 1)
	wide := roundUp(K, tileCols)
	block := min(keyBlock, roundUp(max(m, 1), tileCols))
	s := getScratch(2*block*wide + queryBlock*block + 4*count + tileRows*K + max(j.group-queryBlock, 0)*block)
	defer s.put()
	var st forwardState
	f := s.f
	st.keys, f = f[:block*wide], f[block*wide:]
	st.values, f = f[:block*wide], f[block*wide:]
	st.best, f = f[:count], f[count:]
	st.sum, f = f[:count], f[count:]
	st.partBest, f = f[:count], f[count:]
	st.partSum, f = f[:count], f[count:]
	st.part, st.scores = f[:tileRows*K], f[tileRows*K:]
	packed := st.values
	for st.from = 0; st.from == 0 || st.from < m; st.from += keyBlock {
		st.n = min(keyBlock, m-st.from)
		at := (lo+st.from)*j.sk + p.head*K
		for i := 0; i < st.n; i += tileCols {
			if ahead := i + 2*tileCols; ahead+tileCols <= st.n {
				fetch(j.k[at+ahead*j.sk:], j.sk, tileCols, K)
			}
			packT(st.keys[i*K:], j.k[at+i*j.sk:], j.sk, min(tileCols, st.n-i), K)
		}
		if count < tileRows && K%tileCols == 0 && st.n > 0 {
			st.values, st.valueStep, st.valueLead = j.v[at:], j.sk, tileCols
		} else {
			st.values, st.valueStep, st.valueLead = packed, tileCols, tileCols*max(st.n, 0)
			if st.n > 0 {
				packN(packed, j.v[at:], j.sk, K, st.n)
			}
		}
		j.eachRows(p.head, p.segment, p.first, p.last, func(r rows, index int) { j.forwardBlock(&st, r, index, block) })
	}
	j.eachRows(p.head, p.segment, p.first, p.last, func(r rows, index int) { j.finish(&st, r, index) })
}

// forwardBlock takes one block of keys into account for some rows.
func (j *attention) forwardBlock(st *forwardState, r rows, index, block int) {
	K := j.HeadDim
	if st.from == 0 {
		for i := range r.n {
			clear(j.out[r.at+i*r.stride:][:K])
		}
	}
	for i := 0; i < r.n; i += tileRows {
		n := min(tileRows, r.n-i)
		seen := min(r.seen+(i+n-1)*r.step-st.from, st.n) // by the last
		if seen <= 0 {
			continue
		}
		q := j.q[r.at+i*r.stride:]
		for c := 0; c < seen; c += tileCols {
			kernel(n, K, q, r.stride, 1, st.keys[c*K:], tileCols, st.scores[i*block+c:], block, modeSet)
		}
		for a := i; a < i+n; a++ {
			if seen := min(r.seen+a*r.step-st.from, st.n); seen > 0 {
				j.softmax(st, st.scores[a*block:], seen, index+a)
			}
		}
		if st.from == 0 {
			j.weigh(st, r, i, n, block, j.out[r.at+i*r.stride:], r.stride)
			continue
		}
		clear(st.part)
		j.weigh(st, r, i, n, block, st.part, K)
		for a := i; a < i+n; a++ {
			if r.seen+a*r.step > st.from {
				st.merge(index+a, j.out[r.at+a*r.stride:][:K], st.part[(a-i)*K:][:K])
			}
		}
	}
}

// softmax turns the first seen of a row's scores into exp(score - best), best being the largest of them.
func (j *attention) softmax(st *forwardState, s []float32, seen, row int) {
	factor := float32(j.Scale)
	if !(factor > 0) {
		scale(s[:seen], s[:seen], factor)
		factor = 1
	}
	best := factor * maximum(s[:seen])
	wide := roundUp(seen, 8)
	for i := seen; i < wide; i++ {
		s[i] = float32(math.Inf(-1))
	}
	sum := expSum(s[:wide], factor, best)
	if st.from == 0 {
		st.best[row], st.sum[row] = best, sum
		return
	}
	st.partBest[row], st.partSum[row] = best, sum
}

// merge adds what a block gave a row to what the blocks before it did.
func (st *forwardState) merge(row int, out, part []float32) {
	mergeBlocks(&st.best[row], &st.sum[row], out, st.partBest[row], st.partSum[row], part)
}

// mergeBlocks adds the softmax over more keys to that over some: the sums are Σ exp(score - best), out and part the values
// weighed by exp(score - best).
func mergeBlocks(best, sum *float32, out []float32, partBest, partSum float32, part []float32) {
	if partBest > *best {
		shrink := float32(math.Exp(float64(*best - partBest)))
		scale(out, out, shrink)
		add(out, out, part)
		*best, *sum = partBest, float32(*sum*shrink)+partSum
		return
	}
	shrink := float32(math.Exp(float64(partBest - *best)))
	mulAdd(out, part, shrink)
	*sum += float32(partSum * shrink)
}

// weigh adds the values of a block, weighed by rows i to i+n-1 of the scores, to rows of to that lie ld elements apart. Every term is added to
// the chain of its row in ascending order of the keys, those that only some rows see one by one, so that no row takes
// in a key that it does not see, not even with weight 0.
func (j *attention) weigh(st *forwardState, r rows, i, n, block int, to []float32, ld int) {
	K := j.HeadDim
	common := max(0, min(r.seen+i*r.step-st.from, st.n))
	last := min(r.seen+(i+n-1)*r.step-st.from, st.n)
	for c := 0; c < K; c += tileCols {
		v := st.values[c/tileCols*st.valueLead:]
		out := to[c:]
		if n == 1 && c+rowCols <= K && common > 0 {
			kernelRow(common, st.scores[i*block:], v, st.valueLead, st.valueStep, out, modeFrom)
			c += rowCols - tileCols
			continue
		}
		if common > 0 {
			product(n, common, st.scores[i*block:], block, 1, v, st.valueStep, out, ld, K-c, modeFrom)
		}
		for t := common; t < last; t++ {
			a := max(0, t+1-(r.seen+i*r.step-st.from)) // the first row that sees key t
			product(n-a, 1, st.scores[(i+a)*block+t:], block, 1, v[t*st.valueStep:], st.valueStep, out[a*ld:], ld, K-c,
				modeFrom)
		}
	}
}

// product is kernel for cols columns of C, of which it takes the first 16.
func product(rows, kc int, a []float32, rs, cs int, b []float32, bs int, c []float32, ldc, cols, mode int) {
	if cols >= tileCols {
		kernel(rows, kc, a, rs, cs, b, bs, c, ldc, mode)
		return
	}
	narrow(rows, kc, a, rs, cs, b, bs, c, ldc, cols, mode)
}

// finish divides the outputs of some rows by their sums.
func (j *attention) finish(st *forwardState, r rows, index int) {
	for i := range r.n {
		lse := math.Inf(-1)
		if r.seen+i*r.step > 0 {
			sum := st.sum[index+i]
			out := j.out[r.at+i*r.stride:][:j.HeadDim]
			scale(out, out, 1/sum)
			lse = float64(st.best[index+i]) + math.Log(float64(sum))
		}
		if j.lse != nil {
			j.lse[r.lse+i*r.lseStep] = float32(lse)
		}
	}
}
