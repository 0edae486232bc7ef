package cpu

import "sync"

// share cuts units into parts for workers that read memory side by side: large ones first, so that each is read in one go,
// and small ones last, so that none of the workers waits long for the others, even where they are not equally fast.
type share struct{ ends []int32 }

// cut cuts n units into parts of whole blocks of units, and what blocks there are more than each worker gets alike into
// multiples of fine, at least of least units.
func (s *share) cut(n, block, fine, least, workers int) {
	s.ends = s.ends[:0]
	even := n / (block * workers) * (block * workers)
	least = roundUp(max(least, fine), fine)
	for at := 0; at < n; {
		size := least
		if at < even {
			size = min(max((even-at)*2/(3*workers)/block*block, block, roundUp(least, block)), even-at)
		}
		at = min(at+size, n)
		s.ends = append(s.ends, int32(at))
	}
}

// part returns the units of a part.
func (s *share) part(i int) (lo, hi int) {
	if i > 0 {
		lo = int(s.ends[i-1])
	}
	return lo, int(s.ends[i])
}

// few is a product of few rows with weights that are read once: its parts are shares of the columns of C.
type few struct {
	*gemm
	cols share
}

var fews = sync.Pool{New: func() any { return new(few) }}

func (f *few) run(part int) {
	j0, j1 := f.cols.part(part)
	f.runShare(j0, j1)
}

// runShare computes columns j0 to j1-1 of a product of few rows.
func (g *gemm) runShare(j0, j1 int) {
	if g.packed {
		g.runFew(0, g.m, j0, j1)
	} else {
		g.runFewRows(0, g.m, j0, j1)
	}
}

// Weights of a part: below leastWeights bytes a part is not worth its start, and below inlineWeights all of a product stay
// on the caller's goroutine.
const (
	leastWeights  = 32 << 10
	inlineWeights = 48 << 10
)

// multiplyFew runs g, a product of few rows whose weights are packed or bf16 and whose rows lie dense, and forgets it.
func (p *pool) multiplyFew(g *gemm) {
	bytes := 4 * g.k
	if g.h != nil {
		bytes = 2 * g.k
	}
	if g.n*bytes <= inlineWeights {
		g.runShare(0, g.n)
	} else {
		f := fews.Get().(*few)
		block := tileCols
		if g.m == 1 && g.packed {
			block = rowCols
		}
		f.gemm = g
		f.cols.cut(g.n, block, tileCols, leastWeights/bytes, p.workers)
		p.do(len(f.cols.ends), f)
		f.gemm = nil
		fews.Put(f)
	}
	*g = gemm{}
	gemms.Put(g)
}
