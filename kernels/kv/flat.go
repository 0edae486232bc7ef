package kv

import (
	"math"

	"svae/kernels/cpu"
)

// rankAll scores every segment by its mean, and fills the heap with those that a search for at most most rows may come
// to. It is nodes with rankSegments for few segments, without variances, in passes over rows of scores.
func (f *frontier) rankAll(most int) {
	S := f.hd.seg.len()
	P := S / paragraph
	f.opened = f.opened[:0]
	for p := range P {
		f.opened = append(f.opened, int32(p))
	}
	f.closed = f.closed[:0]
	f.beginFlat()
	f.scoreOpened(S)
	f.rankOpened(S, f.freeRows(S), most)
}

// beginFlat rounds x for scores of bytes, and multiplies it with the centers of all paragraphs: center (G, P).
func (f *frontier) beginFlat() {
	G, K, P := f.G, f.K, f.hd.index.center.rows()
	rows := roundUp(G, cpu.SegmentQueries)
	f.flat = true
	f.q, f.factor, f.center = sized(f.q, rows*2*pairs(K)), sized(f.factor, rows), sized(f.center, rows*P)
	wholeRows(f.q, f.factor, f.x, G, K)
	f.linear(f.center[:G*P], f.x, f.hd.index.center.f[:P*K], K, P)
}

func roundUp(n, by int) int { return (n + by - 1) / by * by }

// scoreOpened overwrites f.est with x·µ of the segments of the opened paragraphs, and of those after the last paragraph:
// wide elements a row.
func (f *frontier) scoreOpened(S int) {
	G, K, P := f.G, f.K, f.hd.index.center.rows()
	rows, tail := roundUp(G, cpu.SegmentQueries), S-P*paragraph
	f.wide = len(f.opened)*paragraph + tail
	f.est = sized(f.est, rows*f.wide)
	x := &f.hd.index
	width := 2 * paragraph * pairs(K)
	for i := 0; i < len(f.opened); {
		p, n := int(f.opened[i]), 1
		for i+n < len(f.opened) && int(f.opened[i+n]) == p+n {
			n++
		}
		if next := i + n; next < len(f.opened) { // it lies elsewhere
			cpu.Fetch(x.q.row(int(f.opened[next])))
		}
		for g := 0; g < rows; g += cpu.SegmentQueries {
			cpu.ScoreSegments(f.est[g*f.wide+i*paragraph:], f.wide, f.q[g*2*pairs(K):], x.panels()[p*width:], x.scale.f[p*paragraph:],
				f.factor[g:], f.center[g*P+p:], P, pairs(K), n)
		}
		i += n
	}
	f.scanned += int64(len(f.opened) * (width + 4*paragraph))
	if tail > 0 {
		f.mean = sized(f.mean, G*tail)
		f.linear(f.mean, f.x, f.hd.seg.mean.f[P*paragraph*K:S*K], K, tail)
		for g := range G {
			copy(f.est[(g+1)*f.wide-tail:(g+1)*f.wide], f.mean[g*tail:(g+1)*tail])
		}
	}
}

// rankOpened ranks the segments whose scores scoreOpened left, free rows each, and the closed paragraphs, for a search for
// at most most rows.
func (f *frontier) rankOpened(S int, free []float32, most int) {
	G, n, C := f.G, f.wide, len(f.closed)
	f.shift, f.sum, f.inside = sized(f.shift, G), sized(f.sum, G), sized(f.inside, G)
	f.rank, f.outer = sized(f.rank, n), sized(f.outer, C)
	clear(f.rank)
	clear(f.outer)
	for g := range G {
		row, par := f.est[g*n:(g+1)*n], f.par[g*C:(g+1)*C]
		c := f.edge[g]
		if n > 0 {
			c = max(c, cpu.Largest(row))
		}
		if C > 0 {
			c = max(c, cpu.Largest(par))
		}
		f.shift[g] = c
		f.inside[g] = cpu.Shares(row, free, c) + cpu.Shares(par, f.closedFree, c)
		sum := f.inside[g] + expf(f.edge[g]-c)
		f.total[g], f.sum[g] = c+logf(sum), 1/sum
		cpu.MulAdd(f.rank, row, f.sum[g])
		cpu.MulAdd(f.outer, par, f.sum[g])
	}
	f.freeOf = free
	f.gather(free, f.rank, most)
	f.heapify()
}

// segmentAt returns the segment that element i of a row of est is of.
func (f *frontier) segmentAt(i int) int {
	if k := i / paragraph; k < len(f.opened) {
		return int(f.opened[k])*paragraph + i%paragraph
	}
	return i - len(f.opened)*paragraph + f.hd.index.center.rows()*paragraph
}

// Ranks are sorted into classes by their leading bits: eight classes to a power of two.
const (
	classShift = 20
	classes    = 1 << (31 - classShift)
)

func class(x float32) uint32 { return math.Float32bits(x) >> classShift & (classes - 1) }

// gather puts the segments into the heap that come first, as many as hold most rows or more, and notes the others that may
// be worth an estimate.
func (f *frontier) gather(free, rank []float32, most int) {
	var rows [classes]float32
	for i, x := range rank {
		rows[class(x)] += free[i]
	}
	least, sum := uint32(classes), 0
	for least > 0 && sum < most {
		least--
		sum += int(rows[least])
	}
	f.others = f.others[:0]
	for i, x := range rank {
		if n := free[i]; n > 0 && (class(x) >= least || n*x >= negligible) {
			f.others = append(f.others, int32(i))
			if class(x) >= least {
				f.heap = append(f.heap, node{rank: x, id: int32(f.segmentAt(i)), est: int32(i)})
			}
		}
	}
}

// estimateFlat is estimate after rankOpened.
func (f *frontier) estimateFlat(share []float32, rest *remainder, want bool) {
	G, K := f.G, f.K
	copy(rest.base, f.shift)
	left := f.freeOf
	f.left = append(f.left[:0], left...)
	for _, n := range f.reads {
		f.left[n.est] -= float32(f.taken[n.id])
	}
	for g := range G {
		lost := f.inside[g]
		for _, n := range f.reads {
			lost -= float32(f.taken[n.id]) * f.est[g*f.wide+int(n.est)]
		}
		share[g] = 1 - min(max(lost*f.sum[g], 0), 1)
		if f.bare {
			share[g] = float32(math.NaN())
		}
	}
	if !want {
		return
	}
	// What is worth an estimate is found first, so that its mean values, which lie anywhere, are on their way.
	many := 0
	for _, i := range f.others {
		if f.left[i]*f.rank[i] >= negligible {
			f.others[many] = i
			many++
			cpu.Fetch(f.hd.seg.val.row(f.segmentAt(int(i))))
		}
	}
	f.others = f.others[:many]
	for _, i := range f.others {
		for g := range G {
			rest.mass = append(rest.mass, f.left[i]*f.est[g*f.wide+int(i)])
		}
		rest.val = append(rest.val, f.hd.seg.val.row(f.segmentAt(int(i)))...)
	}
	C := len(f.closed)
	for i, p := range f.closed {
		if f.closedFree[i]*f.outer[i] < negligible {
			continue
		}
		many++
		for g := range G {
			rest.mass = append(rest.mass, f.closedFree[i]*f.par[g*C+i])
		}
		rest.val = append(rest.val, f.hd.par.val.row(int(p))...)
	}
	f.scanned += int64(4 * K * many)
}
