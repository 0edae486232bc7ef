package cpu

import (
	"sync"

	"svae/kernels"
)

// rowsJob is a job over rows or over strips of columns of matrices with D columns.
type rowsJob struct {
	f         func(j *rowsJob, lo, hi int)
	out, x, c []float32
	narrow    kernels.Buf
	idx       []int32
	lo        int
	N, R, D   int
	n, each   int
}

var rowsJobs = sync.Pool{New: func() any { return new(rowsJob) }}

func (j *rowsJob) run(part int) { j.f(j, part*j.each, min((part+1)*j.each, j.n)) }

// do splits n rows of about cost elements each, runs f over them, and forgets the job.
func (j *rowsJob) do(p *pool, n, cost int, f func(j *rowsJob, lo, hi int)) {
	j.f, j.n, j.each = f, n, max(1, elementPart/max(1, cost))
	if n > 0 {
		p.do((n+j.each-1)/j.each, j)
	}
	*j = rowsJob{}
	rowsJobs.Put(j)
}

// columns splits D columns of N rows, so that a sum over rows has one order, runs f over them, and forgets the job.
func (j *rowsJob) columns(p *pool, N int, f func(j *rowsJob, lo, hi int)) {
	j.f, j.n, j.each = f, j.D, j.D
	if N*j.D > elementPart {
		j.each = columnStrip
	}
	if j.D > 0 {
		p.do((j.D+j.each-1)/j.each, j)
	}
	*j = rowsJob{}
	rowsJobs.Put(j)
}

// LinearBackwardB is kernels.Backend's.
func (b *Backend) LinearBackwardB(dB, dOut kernels.Buf, N, O int) {
	kernels.CheckLen(dB, O)
	kernels.CheckLen(dOut, N*O)
	b.pool.columnSums(dB.F32(), dOut.F32(), N, O, O, false)
}

// columnSums overwrites out with the column sums of x (N, D), whose rows begin ld elements apart, or adds them.
func (p *pool) columnSums(out, x []float32, N, D, ld int, more bool) {
	j := rowsJobs.Get().(*rowsJob)
	j.out, j.x, j.N, j.D, j.R = out, x, N, D, ld
	if !more {
		clear(out[:D])
	}
	j.columns(p, N, func(j *rowsJob, lo, hi int) {
		for n := range j.N {
			add(j.out[lo:hi], j.out[lo:hi], j.x[n*j.R+lo:n*j.R+hi])
		}
	})
}

// Gather is kernels.Backend's.
func (b *Backend) Gather(out, src kernels.Buf, idx []int32, lo, N, R, D int) {
	kernels.CheckLen(out, N*D)
	kernels.CheckLen(src, R*D)
	checkIndex(idx, N)
	j := rowsJobs.Get().(*rowsJob)
	j.out, j.idx, j.lo, j.R, j.D = out.F32(), idx, lo, R, D
	if src.DType().Narrow() {
		j.narrow = src
		j.do(b.pool, N, D, func(j *rowsJob, lo, hi int) {
			for i := lo; i < hi; i++ {
				if r := int(j.idx[i]) - j.lo; 0 <= r && r < j.R {
					widen(j.out[i*j.D:][:j.D], j.narrow, r)
				}
			}
		})
		return
	}
	j.x = src.F32()
	j.do(b.pool, N, D, func(j *rowsJob, lo, hi int) {
		for i := lo; i < hi; i++ {
			if r := int(j.idx[i]) - j.lo; 0 <= r && r < j.R {
				copy(j.out[i*j.D:][:j.D], j.x[r*j.D:])
			}
		}
	})
}

// widen overwrites out with row r of bf16 or int8 weights.
func widen(out []float32, w kernels.Buf, r int) {
	D := len(out)
	if w.DType() == kernels.BF16 {
		kernels.WidenBF16(out, w.BF16()[r*D:][:D])
		return
	}
	q, scales := w.Int8(D)
	for i, v := range q[r*D:][:D] {
		out[i] = scales[r] * float32(v)
	}
}

// ScatterAdd is kernels.Backend's. Parts are strips of columns, so that rows are added in order.
func (b *Backend) ScatterAdd(dSrc, dOut kernels.Buf, idx []int32, lo, N, R, D int) {
	kernels.CheckLen(dSrc, R*D)
	kernels.CheckLen(dOut, N*D)
	checkIndex(idx, N)
	j := rowsJobs.Get().(*rowsJob)
	j.out, j.x, j.idx, j.lo, j.N, j.R, j.D = dSrc.F32(), dOut.F32(), idx, lo, N, R, D
	j.columns(b.pool, N, func(j *rowsJob, lo, hi int) {
		for i := range j.N {
			if r := int(j.idx[i]) - j.lo; 0 <= r && r < j.R {
				to := j.out[r*j.D+lo : r*j.D+hi]
				add(to, to, j.x[i*j.D+lo:i*j.D+hi])
			}
		}
	})
}

// SegmentSum is kernels.Backend's.
func (b *Backend) SegmentSum(out, x kernels.Buf, at []int32, S, D int) {
	checkOffsets(at, S)
	kernels.CheckLen(out, S*D)
	kernels.CheckLen(x, int(at[S])*D)
	j := rowsJobs.Get().(*rowsJob)
	j.out, j.x, j.idx, j.D = out.F32(), x.F32(), at, D
	j.do(b.pool, S, D*(1+int(at[S])/max(1, S)), func(j *rowsJob, lo, hi int) {
		for s := lo; s < hi; s++ {
			sum := j.out[s*j.D:][:j.D]
			clear(sum)
			for i := int(j.idx[s]); i < int(j.idx[s+1]); i++ {
				add(sum, sum, j.x[i*j.D:][:j.D])
			}
		}
	})
}

// SegmentAdd is kernels.Backend's.
func (b *Backend) SegmentAdd(out, x, c kernels.Buf, at []int32, S, D int) {
	checkOffsets(at, S)
	if at[0] != 0 {
		panic(kernels.BadIndex)
	}
	kernels.CheckLen(out, int(at[S])*D)
	checkKept(x, int(at[S])*D)
	kernels.CheckLen(c, S*D)
	j := rowsJobs.Get().(*rowsJob)
	j.out, j.x, j.c, j.idx, j.D = out.F32(), x.F32(), c.F32(), at, D
	j.do(b.pool, S, D*(1+int(at[S])/max(1, S)), func(j *rowsJob, lo, hi int) {
		for s := lo; s < hi; s++ {
			c := j.c[s*j.D:][:j.D]
			for i := int(j.idx[s]); i < int(j.idx[s+1]); i++ {
				if j.x == nil {
					copy(j.out[i*j.D:], c)
				} else {
					add(j.out[i*j.D:][:j.D], j.x[i*j.D:][:j.D], c)
				}
			}
		}
	})
}

// checkOffsets panics unless at holds S+1 row numbers in order.
func checkOffsets(at []int32, S int) {
	checkIndex(at, S+1)
	for s, row := range at[:S+1] {
		if row < 0 || s > 0 && row < at[s-1] {
			panic(kernels.BadIndex)
		}
	}
}

// checkIndex panics unless idx holds at least n elements.
func checkIndex(idx []int32, n int) {
	if len(idx) < n {
		panic(kernels.ShortIndex)
	}
}
