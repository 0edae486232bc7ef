package kv

import (
	"math"
	"slices"

	"svae/kernels"
	"svae/kernels/cpu"
)

// frontier is the search for one key head. Its heap and what was taken cover every row outside the edges.
type frontier struct {
	s    *Store
	hd   *head
	G, K int

	x, half, sign []float32 // x (G, K); x²/2; positive and negative parts (G, 2K)
	norm          []float32 // ‖x‖ (G)

	first, tail int       // rows before first and from tail on are always read
	prior       *prior    // and these between
	edge        []float32 // their log-sum-exp (G)
	total       []float32 // c (G)

	heap                  []node
	est, low              []float32 // e and x·µ of node i: est[i*G+g]
	share                 []float32 // exp(e - c) of it
	taken                 []int     // rows of each segment that are read, from the first that is not always read
	chosen                []int     // segments of which some are, in any order
	used                  int       // rows read
	scanned               int64     // bytes of summaries and keys looked at
	meanOnly              bool      // variances count as 0
	bare                  bool      // rows that have no summary are not read: nothing is known of them
	fresh                 []node
	rs                    []Range
	sum                   []float32 // of flat: 1/Σ exp(est - shift) (G); shift and the part of Σ that is in segments follow
	flat                  bool      // est and share are laid out as flat does
	rank                  []float32 // of flat
	wide                  int       // of flat: elements of a row of est
	shift                 []float32
	inside                []float32
	others                []int32   // of flat: elements of a row that may be worth an estimate if they are not read
	opened                []int32   // of flat: paragraphs whose segments are looked at, ascending
	closed                []int32   // and those that count as a whole
	freeOf                []float32 // of flat: rows, not always read, of each element of a row of est
	left                  []float32 // and of those the ones that are not read
	reads                 []node    // of flat: the nodes taken, each once
	openFree              []float32
	closedFree            []float32 // rows of closed
	par                   []float32 // scores of closed (G, C), then their shares
	outer                 []float32 // ranks of closed
	spreads, boost, order []float32 // scratch of rankSome
	q                     []int16
	factor                []float32
	ones                  []float32
	center                []float32
	mean                  []float32 // scratch of nodes
	quad                  []float32
	box, big              []float32
}

// node is a segment, or a paragraph that is not opened.
type node struct {
	rank   float32
	id     int32
	est    int32 // index into est
	parent bool
}

func (a node) before(b node) bool {
	switch {
	case a.rank != b.rank:
		return a.rank > b.rank
	case a.parent != b.parent:
		return a.parent
	}
	return a.id < b.id
}

func (f *frontier) push(n node) {
	f.heap = append(f.heap, n)
	i := len(f.heap) - 1
	for i > 0 && f.heap[i].before(f.heap[(i-1)/2]) {
		f.heap[i], f.heap[(i-1)/2] = f.heap[(i-1)/2], f.heap[i]
		i = (i - 1) / 2
	}
}

// heapify orders a heap whose nodes were appended as they came.
func (f *frontier) heapify() {
	for i := len(f.heap)/2 - 1; i >= 0; i-- {
		f.sink(i)
	}
}

// sink moves node i down to where it belongs.
func (f *frontier) sink(i int) {
	for {
		c := 2*i + 1
		if c >= len(f.heap) {
			return
		}
		if c+1 < len(f.heap) && f.heap[c+1].before(f.heap[c]) {
			c++
		}
		if !f.heap[c].before(f.heap[i]) {
			return
		}
		f.heap[i], f.heap[c] = f.heap[c], f.heap[i]
		i = c
	}
}

func (f *frontier) pop() node {
	top, last := f.heap[0], len(f.heap)-1
	f.heap[0] = f.heap[last]
	f.heap = f.heap[:last]
	f.sink(0)
	return top
}

// begin prepares the search for key head h: x and its relatives, and which rows are always read. Open rows are among
// them, as they have no summary, unless the budget has no room for them.
func (f *frontier) begin(s *Store, q Query, h, n, budget int, o Options, bounded bool) {
	f.s, f.hd, f.K, f.G = s, &s.layers[q.Layer].heads[h], s.cfg.HeadDim, s.cfg.Heads/s.cfg.KVHeads
	G, K := f.G, f.K
	f.x, f.half, f.sign = sized(f.x, G*K), sized(f.half, G*K), sized(f.sign, 2*G*K)
	f.norm, f.edge, f.total = sized(f.norm, G), sized(f.edge, G), sized(f.total, G)
	for i, v := range q.Q[h*G*K : (h+1)*G*K] {
		f.x[i] = v * float32(s.cfg.Scale)
		f.half[i] = f.x[i] * f.x[i] / 2
	}
	signs(f.sign, f.x, K)
	for g := range G {
		f.norm[g] = up(math.Sqrt(norm2(f.x[g*K : (g+1)*K])))
	}
	var last int
	f.first, last = edges(n, budget, o.Sinks, o.Recent)
	f.tail, f.bare, f.meanOnly, f.flat = n-last, false, !o.Spread, false
	if open := s.Sealed(); f.tail > open {
		if bounded || n-open <= budget-f.first {
			f.tail = max(open, f.first)
		} else {
			f.bare = true
		}
	}
	f.used, f.prior, f.scanned = f.first+n-f.tail, &prior{}, 0
	f.heap, f.est, f.low = f.heap[:0], f.est[:0], f.low[:0]
	for _, i := range f.chosen {
		if i < len(f.taken) {
			f.taken[i] = 0
		}
	}
	f.reads = f.reads[:0]
	f.chosen, f.taken = f.chosen[:0], sized(f.taken, s.Segments())
}

// edges computes the mass of the rows that are always read. Their bytes count with those of the rows read.
func (f *frontier) edges(layer, h, n int) error {
	p := f.prior
	rs := extend(extend(f.rs[:0], 0, f.first), f.tail, n)
	f.rs = rs
	M, kept, sc := rowsOf(rs), len(p.rows), f.s.scratch.Get().(*scratch)
	defer f.s.put(sc)
	for i := p.kept; i < kept; i++ {
		if err := f.s.read(p.keys[i*f.K:(i+1)*f.K], nil, f.hd, p.rows[i], p.rows[i]+1); err != nil {
			return err
		}
	}
	keys, scores, known := sc.floats(M*f.K), sc.floats(M*f.G), sc.floats(kept*f.G)
	if err := f.s.Keys(keys, layer, h, rs); err != nil {
		return err
	}
	scanned := f.scanned
	f.linear(scores, f.x, keys, f.K, M)
	f.linear(known, f.x, p.keys, f.K, kept)
	f.scanned = scanned
	f.ones = sized(f.ones, max(M, kept))
	for i := range f.ones {
		f.ones[i] = 1
	}
	for g := range f.G {
		a, b := scores[g*M:(g+1)*M], known[g*kept:(g+1)*kept]
		best := float32(math.Inf(-1))
		if M > 0 {
			best = cpu.Largest(a)
		}
		if kept > 0 {
			best = max(best, cpu.Largest(b))
		}
		if f.edge[g] = best; !math.IsInf(float64(best), 0) {
			f.edge[g] += logf(cpu.Shares(a, f.ones, best) + cpu.Shares(b, f.ones, best))
		}
	}
	return nil
}

// linear overwrites out (G, O) with x·wᵀ.
func (f *frontier) linear(out, x, w []float32, I, O int) {
	if O == 0 {
		return
	}
	f.scanned += int64(4 * I * O)
	f.s.backend.Linear(kernels.Of(out), kernels.Buf{}, kernels.Of(x), kernels.Of(w), kernels.Buf{}, kernels.None, f.G, I, O)
}

// nodes fills the heap: with all segments if they are few, else with the paragraphs, and the segments of none.
func (f *frontier) nodes(flat int) {
	S, P := f.hd.seg.len(), f.hd.par.len()
	if S <= flat {
		P = 0
	}
	singles := f.score(&f.hd.seg, P*paragraph, S)
	parents := f.score(&f.hd.par, 0, P) // last: rankParents reads what it leaves behind
	f.addUp(P, parents, S, singles)
	f.rankParents(P, parents)
	f.rankSegments(P*paragraph, S, singles)
	f.heapify()
}

// addUp computes c from the rows that are always read and the estimates of P paragraphs and of the segments after them.
func (f *frontier) addUp(P, parents, S, singles int) {
	G := f.G
	copy(f.total, f.edge)
	for g := range G {
		for i := parents; i < parents+P; i++ {
			f.total[g] = max(f.total[g], f.est[i*G+g])
		}
		for i := singles; i < singles+S-P*paragraph; i++ {
			f.total[g] = max(f.total[g], f.est[i*G+g])
		}
	}
	f.sum, f.share = sized(f.sum, G), sized(f.share, len(f.est))
	for g := range G {
		f.sum[g] = expf(f.edge[g] - f.total[g])
	}
	add := func(rows, at int) {
		for g, c := range f.total {
			e := expf(f.est[at*G+g] - c)
			f.share[at*G+g] = e
			f.sum[g] += float32(rows) * e
		}
	}
	for i := range P {
		add(f.free(i, true), parents+i)
	}
	for i := P * paragraph; i < S; i++ {
		add(f.free(i, false), singles+i-P*paragraph)
	}
	for g := range G {
		f.total[g] += logf(f.sum[g])
		f.sum[g] = 1 / f.sum[g]
	}
	for i := 0; i < len(f.share); i += G {
		for g, x := range f.sum {
			f.share[i+g] *= x
		}
	}
}

// free returns how many rows of a segment or paragraph are not always read.
func (f *frontier) free(i int, parent bool) int {
	lo, hi := f.span(i, parent)
	if lo >= hi {
		return 0
	}
	return hi - lo - f.prior.count(lo, hi)
}

// span returns the rows of a segment or paragraph that lie between the edges; there are none if lo >= hi.
func (f *frontier) span(i int, parent bool) (lo, hi int) {
	r := Range{}
	if parent {
		r.Lo, r.Hi = f.s.Segment(i*paragraph).Lo, f.s.ends[(i+1)*paragraph-1]
	} else {
		r = f.s.Segment(i)
	}
	return max(r.Lo, f.first), min(r.Hi, f.tail)
}

// score appends e and x·µ of entries lo to hi-1 and returns where the first is. It leaves x·µ and the second cumulants in
// f.mean and f.quad (G, hi-lo).
func (f *frontier) score(t *summaries, lo, hi int) int {
	at, n, G, K := len(f.est)/f.G, hi-lo, f.G, f.K
	if n <= 0 {
		return at
	}
	f.mean, f.quad = sized(f.mean, G*n), sized(f.quad, G*n)
	f.linear(f.mean, f.x, t.mean.f[lo*K:hi*K], K, n)
	if f.meanOnly {
		clear(f.quad)
	} else {
		f.linear(f.quad, f.half, t.vari.f[lo*K:hi*K], K, n)
	}
	f.est, f.low = sized(f.est, (at+n)*G), sized(f.low, (at+n)*G)
	for i := range n {
		info := t.info.row(lo + i)
		ln := logInt(int(info[infoCount]))
		e, low := f.est[(at+i)*G:(at+i+1)*G], f.low[(at+i)*G:(at+i+1)*G]
		for g := range G {
			m := f.mean[g*n+i]
			e[g], low[g] = m+min(spread(f.quad[g*n+i], ln), f.norm[g]*info[infoRadius]), m
		}
	}
	return at
}

// correlated is how much of Σ x²σ² is left of the variance of scores, as channels are not independent: measured on
// the keys of SmolLM2-135M over English prose, where 1/2 ranks and estimates better than 1 and than 0.
const correlated = 0.5

// spread returns what the variance of n scores adds to the logarithm of their mean exponential, given Σ x²σ²/2 and ln n.
// It rises with both arguments.
func spread(half, ln float32) float32 {
	half *= correlated
	if half <= ln {
		return half
	}
	return 2*float32(math.Sqrt(float64(half*ln))) - ln
}

// rankSegments appends segments lo to hi-1, whose first e is at est, to the heap, which is none until heapify.
func (f *frontier) rankSegments(lo, hi, est int) {
	for i := lo; i < hi; i++ {
		if f.free(i, false) == 0 {
			continue
		}
		var rank float32
		for _, x := range f.share[(est+i-lo)*f.G : (est+i-lo+1)*f.G] {
			rank += x
		}
		f.heap = append(f.heap, node{rank: rank, id: int32(i), est: int32(est + i - lo)})
	}
}

// rankParents appends the first P paragraphs, ranked by a bound on the ranks of their segments.
func (f *frontier) rankParents(P, est int) {
	if P == 0 {
		return
	}
	G, K := f.G, f.K
	f.box, f.big = sized(f.box, G*P), sized(f.big, G*P)
	f.linear(f.box, f.sign, f.hd.rank.f[:2*P*K], 2*K, P)
	if f.meanOnly {
		clear(f.big)
	} else {
		f.linear(f.big, f.half, f.hd.wide.f[:P*K], K, P)
	}
	for i := range P {
		if f.free(i, true) == 0 {
			continue
		}
		info := f.hd.par.info.row(i)
		ln := logInt(int(info[infoMost]))
		var rank float32
		for g, c := range f.total {
			x, m, wide := f.norm[g], f.mean[g*P+i], f.big[g*P+i]
			e := min(min(f.box[g*P+i], m+x*info[infoSpread])+spread(wide, ln), m+x*info[infoRadius])
			rank += expf(e + f.slack(x, info[infoNorm], wide) - c)
		}
		f.heap = append(f.heap, node{rank * (1 + 1e-5), int32(i), int32(est + i), true})
	}
}

// slack is at least what rounding may add to a sum of 2K products of x and a vector of the norm given, and to a second
// cumulant: each of its terms is off by at most 2K+8 times 2⁻²⁴, and Σ|x·k| <= ‖x‖·‖k‖; both sides of a comparison err.
func (f *frontier) slack(x, norm, quad float32) float32 {
	return float32(2*f.K+8) * 0x1p-22 * (x*norm + quad)
}

// open puts the segments lo to hi-1 of a paragraph into the heap.
func (f *frontier) open(lo, hi int) {
	at, est := len(f.heap), f.score(&f.hd.seg, lo, hi)
	f.share = sized(f.share, len(f.est))
	for i := est * f.G; i < len(f.est); i++ {
		f.share[i] = expf(f.est[i] - f.total[i%f.G])
	}
	f.rankSegments(lo, hi, est)
	fresh := append(f.fresh[:0], f.heap[at:]...)
	f.heap, f.fresh = f.heap[:at], fresh
	for _, n := range fresh {
		f.push(n)
	}
}

// take reads up to most rows of a segment and returns how many; what is left stays in the heap's place of it.
func (f *frontier) take(n node, most int) int {
	i := int(n.id)
	rows := min(f.free(i, false)-f.taken[i], most)
	if f.taken[i] == 0 {
		f.chosen, f.reads = append(f.chosen, i), append(f.reads, node{id: n.id, est: n.est})
	}
	f.taken[i] += rows
	f.used += rows
	if f.taken[i] < f.free(i, false) {
		f.push(n)
	}
	return rows
}

// ranges appends what is read, in ascending order.
func (f *frontier) ranges(rs []Range, n int) []Range {
	rs = extend(rs, 0, f.first)
	slices.Sort(f.chosen)
	heavy := f.prior.rows
	for _, i := range f.chosen {
		lo, hi := f.span(i, false)
		if f.taken[i] < f.free(i, false) { // the first taken rows that are not always read
			hi = lo
			for left := f.taken[i]; left > 0; hi++ {
				left -= 1 - f.prior.count(hi, hi+1)
			}
		}
		for len(heavy) > 0 && heavy[0] < lo {
			rs = extend(rs, heavy[0], heavy[0]+1)
			heavy = heavy[1:]
		}
		for len(heavy) > 0 && heavy[0] < hi {
			heavy = heavy[1:]
		}
		rs = extend(rs, lo, hi)
	}
	return extend(fromRows(rs, heavy), f.tail, n)
}
