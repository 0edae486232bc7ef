package kv

import (
	"math"

	"svae/kernels/cpu"
)

// rankAll scores every segment by its mean, and fills the heap with those that a search for at most most rows may come
// to. It is nodes with rankSegments for few segments, without variances, in passes over rows of scores.
func (f *frontier) rankAll(most int) {
	S, G := f.hd.seg.len(), f.G
	f.flat = true
	f.scoreAll(S)
	free := f.freeRows(S)
	f.shift, f.sum, f.inside = sized(f.shift, G), sized(f.sum, G), sized(f.inside, G)
	f.rank = sized(f.rank, S)
	clear(f.rank)
	for g := range G {
		row := f.est[g*f.wide : g*f.wide+S]
		c := f.edge[g]
		if S > 0 {
			c = max(c, cpu.Largest(row))
		}
		f.shift[g] = c
		f.inside[g] = cpu.Shares(row, free, c)
		sum := f.inside[g] + expf(f.edge[g]-c)
		f.total[g], f.sum[g] = c+logf(sum), 1/sum
		cpu.MulAdd(f.rank, row, f.sum[g])
	}
	f.gather(free, f.rank, most)
	f.heapify()
}

// scoreAll overwrites f.est with x·µ of S segments, wide elements a row.
func (f *frontier) scoreAll(S int) {
	G, K, P := f.G, f.K, S/paragraph
	groups := (G + cpu.SegmentQueries - 1) / cpu.SegmentQueries
	rows := groups * cpu.SegmentQueries
	f.wide = S
	f.est = sized(f.est, rows*S)
	f.q, f.factor, f.center = sized(f.q, rows*2*pairs(K)), sized(f.factor, rows), sized(f.center, rows*P)
	wholeRows(f.q, f.factor, f.x, G, K)
	x := &f.hd.index
	f.linear(f.center[:G*P], f.x, x.center.f[:P*K], K, P)
	for i := range groups {
		g := i * cpu.SegmentQueries
		cpu.ScoreSegments(f.est[g*S:], S, f.q[g*2*pairs(K):], x.panels(), x.scale.f, f.factor[g:], f.center[g*P:], P, pairs(K), P)
	}
	f.scanned += int64(P * (2*paragraph*pairs(K) + 4*paragraph))
	if n := S - P*paragraph; n > 0 {
		f.mean = sized(f.mean, G*n)
		f.linear(f.mean, f.x, f.hd.seg.mean.f[P*paragraph*K:S*K], K, n)
		for g := range G {
			copy(f.est[g*S+P*paragraph:(g+1)*S], f.mean[g*n:(g+1)*n])
		}
	}
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
				f.heap = append(f.heap, node{rank: x, id: int32(i), est: int32(i)})
			}
		}
	}
}

// estimateFlat is estimate after rankAll.
func (f *frontier) estimateFlat(share []float32, rest *remainder, want bool) {
	G, K := f.G, f.K
	copy(rest.base, f.shift)
	for g := range G {
		lost := f.inside[g]
		for _, i := range f.chosen {
			lost -= float32(f.taken[i]) * f.est[g*f.wide+i]
		}
		share[g] = 1 - min(max(lost*f.sum[g], 0), 1)
		if f.bare {
			share[g] = float32(math.NaN())
		}
	}
	if !want {
		return
	}
	for _, i := range f.others {
		rows := f.prior.free[i] - float32(f.taken[i])
		if rows <= 0 || rows*f.rank[i] < negligible {
			continue
		}
		var most float32
		for g := range G {
			most = max(most, rows*f.est[g*f.wide+int(i)]*f.sum[g])
		}
		if most < negligible {
			continue
		}
		for g := range G {
			rest.mass = append(rest.mass, rows*f.est[g*f.wide+int(i)])
		}
		rest.val = append(rest.val, f.hd.seg.val.row(int(i))...)
		f.scanned += int64(4 * K)
	}
}
