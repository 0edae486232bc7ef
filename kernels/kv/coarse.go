package kv

import (
	"math"
	"slices"

	"svae/kernels/cpu"
)

// A step that looks only at the segments of some paragraphs opens coarseLimit of them, or one of coarseShare, or those that
// hold about coarseRows times the rows that it may read, whichever is most.
const (
	coarseLimit = 128
	coarseShare = 8
	coarseRows  = 4
)

// spreadShare is how much of the bound on the scores of a paragraph's segments counts when paragraphs are ranked: none of
// them is above x·center + ‖x‖·max ‖µ - center‖, and on the keys of real models the best of sixteen is about a third of
// the way there.
const spreadShare = 1.0 / 3

// rankSome is rankAll for the segments of the most promising paragraphs. The others count as a whole: by their number of rows
// and the score of their center.
func (f *frontier) rankSome(most int) {
	S, G, P := f.hd.seg.len(), f.G, f.hd.par.len()
	open := min(max(coarseLimit, P/coarseShare, coarseRows*max(most, 0)*P/f.s.ends[S-1]), P)
	f.beginFlat()
	rows := f.freeParagraphs(P)
	f.outer, f.par = sized(f.outer, P), sized(f.par, P)
	clear(f.outer)
	for g := range G {
		x := f.norm[g] * spreadShare
		row := f.center[g*P : (g+1)*P]
		for p, c := range row {
			f.par[p] = c + x*f.spreads[p]
		}
		shift := max(cpu.Largest(f.par), f.edge[g])
		f.boost = append(f.boost[:0], f.par...)
		sum := cpu.Shares(f.boost, rows, shift) + expf(f.edge[g]-shift)
		cpu.MulAdd(f.outer, f.boost, 1/sum)
	}
	f.openBest(open, P, rows)
	C := len(f.closed)
	f.par, f.closedFree = sized(f.par, G*C), sized(f.closedFree, C)
	for i, p := range f.closed {
		f.closedFree[i] = rows[p]
		for g := range G {
			f.par[g*C+i] = f.center[g*P+int(p)]
		}
	}
	f.scoreOpened(S)
	all := f.freeRows(S)
	f.openFree = sized(f.openFree, f.wide)
	for i, p := range f.opened {
		copy(f.openFree[i*paragraph:(i+1)*paragraph], all[int(p)*paragraph:])
	}
	copy(f.openFree[len(f.opened)*paragraph:], all[P*paragraph:S])
	f.rankOpened(S, f.openFree, most)
}

// openBest opens the paragraphs of the largest f.outer, equals by rising number, and closes the others that have rows.
func (f *frontier) openBest(n, P int, rows []float32) {
	f.order = sized(f.order, P)
	for i := range f.order {
		f.order[i] = f.outer[i]
		if rows[i] == 0 {
			f.order[i] = -1
		}
	}
	copy(f.outer, f.order)
	least := nthLargest(f.order, n)
	above := 0
	for _, x := range f.outer[:P] {
		if x > least {
			above++
		}
	}
	f.opened, f.closed = f.opened[:0], f.closed[:0]
	for i, x := range f.outer[:P] {
		switch {
		case x > least || x == least && above < n && x >= 0:
			if x == least {
				above++
			}
			f.opened = append(f.opened, int32(i))
		case rows[i] > 0:
			f.closed = append(f.closed, int32(i))
		}
	}
}

// nthLargest returns the n-th largest of x, whose order it changes; NaN counts as the smallest.
func nthLargest(x []float32, n int) float32 {
	for i, v := range x {
		if v != v {
			x[i] = float32(math.Inf(-1))
		}
	}
	lo, hi, k := 0, len(x)-1, n-1
	if k >= len(x) {
		return float32(math.Inf(-1))
	}
	for hi-lo > 32 {
		a, b, c := x[lo], x[(lo+hi)/2], x[hi]
		pivot := max(min(a, b), min(max(a, b), c))
		i, j := lo, hi
		for i <= j {
			for x[i] > pivot {
				i++
			}
			for x[j] < pivot {
				j--
			}
			if i <= j {
				x[i], x[j] = x[j], x[i]
				i, j = i+1, j-1
			}
		}
		switch {
		case k <= j:
			hi = j
		case k >= i:
			lo = i
		default:
			return x[k]
		}
	}
	part := x[lo : hi+1]
	slices.Sort(part)
	return part[len(part)-1-(k-lo)]
}
