package kv

import (
	"math/bits"
	"slices"
)

// maxPrior bounds how many rows of a head a prior ranks.
const maxPrior = 1 << 16

// prior is the rows of a head that the end of the prompt attended to, best first, and those of them that a budget reads.
type prior struct {
	ranked []int32
	rows   []int // those read, ascending
	bits   []uint64
	before []int32 // rows in bits before each word

	n, first, tail int // what rows was made for

	keys []float32 // of rows (len(rows), K); the first kept of them lie in full blocks and never change
	kept int

	// Rows of each segment that are not always read, as of the last step: of a store that was cut so often, and before
	// the row that the last step's latest rows began with.
	free       []float32
	cuts, edge int

	paragraphs []float32 // the same of each paragraph, but those from the edge on
	spreads    []float32 // of each paragraph: infoSpread
	parCuts    int
	parEdge    int
}

// choose reads the n best rows between first and tail-1, and says whether they may be others than before.
func (p *prior) choose(n, first, tail int) bool {
	n = max(n, 0)
	if p.bits != nil && p.n == n && p.first == first && (p.tail == tail || p.last() < min(p.tail, tail)) {
		return false
	}
	p.n, p.first, p.tail, p.rows = n, first, tail, p.rows[:0]
	for _, r := range p.ranked {
		if len(p.rows) == n {
			break
		}
		if int(r) >= first && int(r) < tail {
			p.rows = append(p.rows, int(r))
		}
	}
	slices.Sort(p.rows)
	words := (p.last()+1)/64 + 1
	p.bits, p.before = sized(p.bits, words), sized(p.before, words)
	clear(p.bits)
	for _, r := range p.rows {
		p.bits[r/64] |= 1 << (r % 64)
	}
	var sum int32
	for i, w := range p.bits {
		p.before[i] = sum
		sum += int32(bits.OnesCount64(w))
	}
	return true
}

// last returns the last row read, or -1.
func (p *prior) last() int {
	if len(p.rows) == 0 {
		return -1
	}
	return p.rows[len(p.rows)-1]
}

// count returns how many rows from lo to hi-1 are read.
func (p *prior) count(lo, hi int) int { return p.upTo(hi) - p.upTo(lo) }

func (p *prior) upTo(r int) int {
	if r/64 >= len(p.bits) {
		return len(p.rows)
	}
	return int(p.before[r/64]) + bits.OnesCount64(p.bits[r/64]&(1<<(r%64)-1))
}

// addPrior reads up to n rows of p besides the first and the latest.
func (f *frontier) addPrior(p *prior, n int) error {
	f.prior = p
	changed := p.choose(n, f.first, f.tail)
	f.used += len(p.rows)
	if !changed {
		return nil
	}
	p.free, p.paragraphs = p.free[:0], p.paragraphs[:0]
	p.kept, _ = slices.BinarySearch(p.rows, len(f.hd.blocks)*blockRows)
	p.keys = sized(p.keys, len(p.rows)*f.K)
	for i, r := range p.rows[:p.kept] {
		if err := f.s.read(p.keys[i*f.K:(i+1)*f.K], nil, f.hd, r, r+1); err != nil {
			p.bits = nil // choose again
			return err
		}
	}
	return f.s.keepHot(f.hd, p.rows)
}

// freeRows brings p.free up to date for the step at hand and returns it.
func (f *frontier) freeRows(S int) []float32 {
	p := f.prior
	if p.cuts != f.s.cuts || len(p.free) > S {
		p.free, p.cuts = p.free[:0], f.s.cuts
	}
	from, _ := slices.BinarySearch(f.s.ends[:len(p.free)], min(p.edge, f.tail)+1)
	p.free, p.edge = sized(p.free, S), f.tail
	for i := from; i < S; i++ {
		p.free[i] = float32(f.free(i, false))
	}
	return p.free
}

// freeParagraphs is freeRows for the first P paragraphs, and brings f.spreads up to date.
func (f *frontier) freeParagraphs(P int) []float32 {
	p := f.prior
	if p.parCuts != f.s.cuts || len(p.paragraphs) > P {
		p.paragraphs, p.parCuts = p.paragraphs[:0], f.s.cuts
	}
	from := len(p.paragraphs)
	for edge := min(p.parEdge, f.tail); from > 0 && f.s.ends[from*paragraph-1] > edge; {
		from--
	}
	p.paragraphs, p.parEdge = sized(p.paragraphs, P), f.tail
	p.spreads = sized(p.spreads, P)
	for i := from; i < P; i++ {
		p.paragraphs[i] = float32(f.free(i, true))
		p.spreads[i] = f.hd.par.info.row(i)[infoSpread]
	}
	f.spreads = p.spreads
	return p.paragraphs
}
