package cpu

import (
	"math"
	"sync"

	"svae/kernels"
)

// normJob is a pass of LayerNorm or RMSNorm, which is LayerNorm with mean 0 and no bias. Its parts are runs of rows, or
// strips of columns for the gradients of the weights, whose sums over rows thus have one order.
type normJob struct {
	f                                      func(j *normJob, lo, hi int)
	out, mean, rstd, x, w, b, dw, db, dOut []float32
	eps                                    float64
	rms                                    bool
	D, n, each                             int // n rows or columns, each of them a part
	rows                                   int // that a strip of columns has
}

var normJobs = sync.Pool{New: func() any { return new(normJob) }}

func (j *normJob) run(part int) { j.f(j, part*j.each, min((part+1)*j.each, j.n)) }

// share splits n rows of D elements into parts worth waking a helper for, and runs them.
func (j *normJob) share(p *pool, N int, f func(j *normJob, lo, hi int)) {
	j.f, j.n, j.each = f, N, max(1, elementPart/max(1, j.D))
	if N > 0 {
		p.do((N+j.each-1)/j.each, j)
	}
}

// strips splits the columns of N rows, and runs them.
func (j *normJob) strips(p *pool, N int, f func(j *normJob, lo, hi int)) {
	j.f, j.n, j.each, j.rows = f, j.D, j.D, N
	if N*j.D > elementPart {
		j.each = columnStrip
	}
	if j.D > 0 {
		p.do((j.D+j.each-1)/j.each, j)
	}
}

const columnStrip = 128

func (j *normJob) done() {
	*j = normJob{}
	normJobs.Put(j)
}

// LayerNorm is kernels.Backend's.
func (b *Backend) LayerNorm(out, mean, rstd, x, w, bias kernels.Buf, eps float64, N, D int) {
	checkKept(mean, N)
	checkKept(bias, D)
	b.norm(&normJob{mean: mean.F32(), b: bias.F32()}, out, rstd, x, w, eps, N, D)
}

// RMSNorm is kernels.Backend's.
func (b *Backend) RMSNorm(out, rstd, x, w kernels.Buf, eps float64, N, D int) {
	b.norm(&normJob{rms: true}, out, rstd, x, w, eps, N, D)
}

func (b *Backend) norm(with *normJob, out, rstd, x, w kernels.Buf, eps float64, N, D int) {
	kernels.CheckLen(out, N*D)
	kernels.CheckLen(x, N*D)
	kernels.CheckLen(w, D)
	checkKept(rstd, N)
	j := normJobs.Get().(*normJob)
	*j = *with
	j.out, j.rstd, j.x, j.w, j.eps, j.D = out.F32(), rstd.F32(), x.F32(), w.F32(), eps, D
	j.share(b.pool, N, (*normJob).forward)
	j.done()
}

func (j *normJob) forward(lo, hi int) {
	D := j.D
	for n := lo; n < hi; n++ {
		row := j.x[n*D:][:D]
		var mean float32
		if !j.rms {
			mean = sum(row) / float32(D)
		}
		rstd := float32(1 / math.Sqrt(float64(spread(row, mean)/float32(D))+j.eps))
		norm(j.out[n*D:][:D], row, j.w, j.b, mean, rstd)
		if j.mean != nil {
			j.mean[n] = mean
		}
		if j.rstd != nil {
			j.rstd[n] = rstd
		}
	}
}

// LayerNormBackward is kernels.Backend's.
func (b *Backend) LayerNormBackward(dX, dW, dB, dOut, x, w, mean, rstd kernels.Buf, N, D int) {
	kernels.CheckLen(mean, N)
	checkKept(dB, D)
	b.normBackward(&normJob{mean: mean.F32(), db: dB.F32()}, dX, dW, dOut, x, w, rstd, N, D)
}

// RMSNormBackward is kernels.Backend's.
func (b *Backend) RMSNormBackward(dX, dW, dOut, x, w, rstd kernels.Buf, N, D int) {
	b.normBackward(&normJob{rms: true}, dX, dW, dOut, x, w, rstd, N, D)
}

func (b *Backend) normBackward(with *normJob, dX, dW, dOut, x, w, rstd kernels.Buf, N, D int) {
	kernels.CheckLen(dOut, N*D)
	kernels.CheckLen(x, N*D)
	kernels.CheckLen(w, D)
	kernels.CheckLen(rstd, N)
	checkKept(dX, N*D)
	checkKept(dW, D)
	j := normJobs.Get().(*normJob)
	*j = *with
	j.out, j.dw, j.dOut, j.rstd, j.x, j.w, j.D = dX.F32(), dW.F32(), dOut.F32(), rstd.F32(), x.F32(), w.F32(), D
	if j.out != nil {
		j.share(b.pool, N, (*normJob).backward)
	}
	if j.dw != nil || j.db != nil {
		j.strips(b.pool, N, (*normJob).weights)
	}
	j.done()
}

// stats returns what the forward pass kept of row n.
func (j *normJob) stats(n int) (mean, rstd float32) {
	if j.mean != nil {
		mean = j.mean[n]
	}
	return mean, j.rstd[n]
}

func (j *normJob) backward(lo, hi int) {
	D := j.D
	for n := lo; n < hi; n++ {
		mean, rstd := j.stats(n)
		dy, x := j.dOut[n*D:][:D], j.x[n*D:][:D]
		avg, proj := normSums(dy, x, j.w[:D], mean, rstd)
		if j.rms {
			avg = 0
		}
		normBackX(j.out[n*D:][:D], dy, x, j.w[:D], mean, rstd, avg/float32(D), proj/float32(D))
	}
}

// weights sums the gradients of columns lo to hi-1 of w and b over all rows.
func (j *normJob) weights(lo, hi int) {
	if j.dw != nil {
		clear(j.dw[lo:hi])
	}
	if j.db != nil {
		clear(j.db[lo:hi])
	}
	for n := range j.rows {
		at := n * j.D
		dy := j.dOut[at+lo : at+hi]
		if j.dw != nil {
			mean, rstd := j.stats(n)
			normBackW(j.dw[lo:hi], dy, j.x[at+lo:at+hi], mean, rstd)
		}
		if j.db != nil {
			add(j.db[lo:hi], j.db[lo:hi], dy)
		}
	}
}

// checkKept panics if an optional operand is there and holds fewer than n elements.
func checkKept(x kernels.Buf, n int) {
	if !x.Absent() {
		kernels.CheckLen(x, n)
	}
}
