package cpu

import (
	"math"
	"slices"
	"sync"

	"svae/kernels"
)

// A table of turns holds the cosines and sines of positions below turnRows, computed in float64. Positions from there on
// are computed every time.
const (
	turnRows   = 1 << 15
	turnTables = 8 // sets of frequencies that a backend remembers
)

// turns is a table for one set of frequencies: K/2 cosines, then K/2 sines a position. It never changes once made.
type turns struct {
	freqs []float64
	rows  int
	f     []float32
}

// turnCache holds the latest tables.
type turnCache struct {
	sync.RWMutex
	tables []*turns
}

// get returns a table for positions 0 to rows-1, or to turnRows-1 if that is less.
func (c *turnCache) get(freqs []float64, rows int) *turns {
	rows = min(rows, turnRows)
	c.RLock()
	for _, t := range c.tables {
		if t.rows >= rows && slices.Equal(t.freqs, freqs) {
			c.RUnlock()
			return t
		}
	}
	c.RUnlock()
	t := &turns{slices.Clone(freqs), min(max(2*rows, 64), turnRows), nil}
	half := len(freqs)
	t.f = make([]float32, 2*half*t.rows)
	for pos := range t.rows {
		fillTurns(t.f[2*half*pos:][:2*half], freqs, pos)
	}
	c.Lock()
	defer c.Unlock()
	c.tables = slices.DeleteFunc(c.tables, func(o *turns) bool { return o.rows <= t.rows && slices.Equal(o.freqs, freqs) })
	if len(c.tables) == turnTables {
		c.tables = slices.Delete(c.tables, 0, 1)
	}
	c.tables = append(c.tables, t)
	return t
}

// fillTurns computes the cosines, then the sines, of one position.
func fillTurns(f []float32, freqs []float64, pos int) {
	for i, w := range freqs {
		sin, cos := math.Sincos(float64(pos) * w)
		f[i], f[len(freqs)+i] = float32(cos), float32(sin)
	}
}

// rotaryJob is the job of Rotary.
type rotaryJob struct {
	out, x        []float32
	pos           []int32
	freqs         []float64
	table         *turns
	inverse       bool
	N, H, K, each int
}

var rotaryJobs = sync.Pool{New: func() any { return new(rotaryJob) }}

// Rotary is kernels.Backend's.
func (b *Backend) Rotary(out, x kernels.Buf, pos []int32, freqs []float64, inverse bool, N, H, K int) {
	if K%2 != 0 {
		panic(kernels.BadHeadSize)
	}
	kernels.CheckLen(out, N*H*K)
	kernels.CheckLen(x, N*H*K)
	checkIndex(pos, N)
	if len(freqs) < K/2 {
		panic(kernels.ShortIndex)
	}
	if N*H*K == 0 {
		return
	}
	last := slices.Max(pos[:N])
	j := rotaryJobs.Get().(*rotaryJob)
	*j = rotaryJob{out.F32(), x.F32(), pos, freqs[:K/2], b.turns.get(freqs[:K/2], int(last)+1), inverse, N, H, K,
		max(1, elementPart/(H*K))}
	b.pool.do((N+j.each-1)/j.each, j)
	*j = rotaryJob{}
	rotaryJobs.Put(j)
}

func (j *rotaryJob) run(part int) {
	half := j.K / 2
	s := getScratch(j.K)
	defer s.put()
	for n := part * j.each; n < min((part+1)*j.each, j.N); n++ {
		row := s.f[:j.K]
		if pos := int(j.pos[n]); 0 <= pos && pos < j.table.rows {
			row = j.table.f[j.K*pos:][:j.K]
		} else {
			fillTurns(row, j.freqs, pos)
		}
		cos, sin := row[:half], row[half:]
		for h := range j.H {
			at := (n*j.H + h) * j.K
			re, im := j.x[at:][:half], j.x[at+half:][:half]
			outRe, outIm := j.out[at:][:half], j.out[at+half:][:half]
			if j.inverse { // the turn of (im, re) is the inverse of that of (re, im)
				turn(outIm, outRe, im, re, cos, sin)
			} else {
				turn(outRe, outIm, re, im, cos, sin)
			}
		}
	}
}
