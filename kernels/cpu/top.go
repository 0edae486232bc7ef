package cpu

import (
	"math"
	"sync"

	"svae/kernels"
)

const (
	topStrip = 256 // ids that share a range
	topParts = 16  // strips of a part
	topRows  = 8   // of X at a time
	topBatch = 64  // candidates whose logits are computed at a time
)

// top is the job of looking through the int8 scores of some rows of X: it finds the best lower and the best upper bound of
// each strip of ids.
type top struct {
	*kernels.Top
	z            []float32 // int8 scores (rows, V)
	bounds, bias []float32
	slack        [topRows][4]float32
	lower, upper []float32 // (rows, strips)
	strips       int
	ids          []int32 // candidates
}

var tops = sync.Pool{New: func() any { return new(top) }}

// Top is kernels.Backend's. All rows have an int8 score; of those that may be the best, the logit is computed as Linear
// does.
func (b *Backend) Top(t *kernels.Top) {
	kernels.CheckTop(t)
	t.Scored = 0
	j := tops.Get().(*top)
	j.Top, j.bounds, j.bias = t, t.Bounds.F32(), t.B.F32()
	j.strips = (t.V + topStrip - 1) / topStrip
	x, scores := t.X.F32(), t.Scores.F32()
	s := getScratch(topRows * (t.V + 2*j.strips))
	j.z = s.f[:topRows*t.V]
	j.lower = s.f[topRows*t.V:][:topRows*j.strips]
	j.upper = s.f[topRows*(t.V+j.strips):][:topRows*j.strips]
	for first := 0; first < t.N; first += topRows {
		n := min(topRows, t.N-first)
		b.linearInt8(result{c: j.z, ldc: t.V, bias: j.bias}, x[first*t.D:], t.Q, n, t.D, t.V)
		for i := range n {
			j.measure(i, x[(first+i)*t.D:][:t.D])
		}
		b.pool.do(n*j.parts(), j)
		for i := range n {
			best, score := b.choose(j, i, x[(first+i)*t.D:][:t.D])
			t.IDs[first+i] = best
			if scores != nil {
				scores[first+i] = score
			}
		}
	}
	s.put()
	*j = top{ids: j.ids[:0]}
	tops.Put(j)
}

// measure sets the slack of row i of the scores.
func (j *top) measure(i int, x []float32) {
	blocks := (j.D + i8Block - 1) / i8Block
	s := getScratch(max(1, blocks*(i8Block/2+1)))
	q, scales := shorts(s.f)[:blocks*i8Block], s.f[blocks*i8Block/2:][:blocks]
	quantize(q, scales, x)
	r := &j.slack[i]
	r[0], r[1], r[2], r[3] = j.Slack(kernels.RowNorms(x, q, scales))
	s.put()
}

// bound returns how far the score z of id v may be from its logit, infinity if nothing is known.
func (j *top) bound(slack *[4]float32, z float32, v int) float32 {
	e := slack[0]*j.bounds[v] + slack[1]*j.bounds[j.V+v] + slack[3]
	if j.bias != nil {
		e += slack[2] * float32(math.Abs(float64(j.bias[v])))
	}
	if e < kernels.TopBound && -kernels.TopScore < z && z < kernels.TopScore {
		return e
	}
	return float32(math.Inf(1))
}

func (j *top) parts() int { return (j.strips + topParts - 1) / topParts }

// run finds the best bounds of some strips of a row.
func (j *top) run(part int) {
	i, first := part/j.parts(), part%j.parts()*topParts
	for strip := first; strip < min(first+topParts, j.strips); strip++ {
		r := j.rangeOf(i, strip*topStrip, min((strip+1)*topStrip, j.V))
		j.lower[i*j.strips+strip], j.upper[i*j.strips+strip] = r.lower, r.upper
	}
}

// rangeOf returns the best bounds of ids lo to hi-1.
func (j *top) rangeOf(i, lo, hi int) topRange {
	z, slack := j.z[i*j.V:][:j.V], j.slack[i]
	r := topRange{float32(math.Inf(-1)), float32(math.Inf(-1))}
	from := lo
	if n := (hi - lo) &^ 7; n > 0 {
		var bias []float32
		if j.bias != nil {
			bias = j.bias[lo:]
		}
		if fast, ok := topBounds(z[lo:lo+n], j.bounds[lo:], j.bounds[j.V+lo:], bias, &slack); ok {
			r, from = fast, lo+n
		}
	}
	for v := from; v < hi; v++ {
		e := j.bound(&slack, z[v], v)
		if e > math.MaxFloat32 {
			r.upper = e
			continue
		}
		r.lower = max(r.lower, z[v]-e)
		r.upper = max(r.upper, z[v]+e)
	}
	return r
}

// topRange is the best lower and the best upper bound of some ids.
type topRange struct{ lower, upper float32 }

// choose returns the best id of row i and its logit.
func (b *Backend) choose(j *top, i int, x []float32) (best int32, score float32) {
	lower, upper := j.lower[i*j.strips:][:j.strips], j.upper[i*j.strips:][:j.strips]
	least := maximum(lower)
	z := j.z[i*j.V:][:j.V]
	j.ids = j.ids[:0]
	for s, u := range upper {
		if u < least {
			continue
		}
		for v := s * topStrip; v < min((s+1)*topStrip, j.V); v++ {
			if e := j.bound(&j.slack[i], z[v], v); e > math.MaxFloat32 || z[v]+e >= least {
				j.ids = append(j.ids, int32(v))
			}
		}
	}
	j.Scored += len(j.ids)
	best = -1
	s := getScratch(topBatch * (j.D + 1))
	defer s.put()
	rows, logits := s.f[topBatch:][:topBatch*j.D], s.f[:topBatch]
	for ids := j.ids; len(ids) > 0; ids = ids[min(topBatch, len(ids)):] {
		n := min(topBatch, len(ids))
		b.logitsOf(j, logits[:n], rows, x, ids[:n])
		for k, c := range logits[:n] {
			if best < 0 || c > score {
				best, score = ids[k], c
			}
		}
	}
	return best, score
}

// logitsOf computes the logits of some ids, from copies of their weights.
func (b *Backend) logitsOf(j *top, out, rows, x []float32, ids []int32) {
	D, narrow := j.D, j.W.DType().Narrow()
	for k, v := range ids {
		if row := rows[k*D:][:D]; narrow {
			widen(row, j.W, int(v))
		} else {
			copy(row, j.W.F32()[int(v)*D:])
		}
	}
	g := gemms.Get().(*gemm)
	g.m, g.n, g.k = 1, len(ids), D
	g.a, g.rs, g.cs = x, D, 1
	g.b, g.ldb, g.bT = rows, D, true
	g.c, g.ldc = out, len(ids)
	b.pool.multiply(g)
	for k, v := range ids {
		if j.bias != nil {
			out[k] += j.bias[v]
		}
	}
}
