package cpu

import (
	"math"
	"sync"

	"svae/kernels"
	"svae/kernels/ref"
)

// A chunk of logits has chunkRows rows, or fewer so that it does not exceed chunkBytes.
const (
	chunkRows  = 240
	chunkBytes = 64 << 20
	sumBlock   = 1024 // exponentials summed in float32 before they go into a float64
)

// xent is the job of the softmax of a chunk, a row a part.
type xent struct {
	*kernels.Xent
	z       []float32 // logits, then their gradients (rows, V)
	nats    []float32
	losses  []float64
	first   int // row of the chunk's first
	z0      int // elements between rows of z
	slopes  bool
	buffers []float64
}

var xents = sync.Pool{New: func() any { return new(xent) }}

// Xent is kernels.Backend's. A chunk of rows at a time: logits; in their place, gradients; DX from those; DW and DB,
// added up over the chunks in order.
func (b *Backend) Xent(a *kernels.Xent) (loss float64) {
	ref.CheckXent(a)
	j := xents.Get().(*xent)
	buffers := j.buffers
	x, dX, dW, dB := a.X.F32(), a.DX.F32(), a.DW.F32(), a.DB.F32()
	var w []float32 // not read without gradients
	if dX != nil {
		w = a.W.F32()
	}
	j.Xent, j.nats, j.slopes = a, a.Nats.F32(), dX != nil || dW != nil || dB != nil
	j.z0 = roundUp(a.V, 8)
	rows := max(tileRows, min(chunkRows, chunkBytes/(4*j.z0)/tileRows*tileRows))
	if cap(buffers) < rows {
		buffers = make([]float64, rows)
	}
	s := getScratch(min(rows, max(a.N, 1)) * j.z0)
	j.z = s.f
	if a.N == 0 { // clear of nil does nothing
		clear(dW[:min(len(dW), a.V*a.D)])
		clear(dB[:min(len(dB), a.V)])
	}
	for j.first = 0; j.first < a.N; j.first += rows {
		n := min(rows, a.N-j.first)
		j.losses = buffers[:n]
		b.logits(j, x, n)
		if n*a.V > elementPart {
			b.pool.do(n, j)
		} else {
			for i := range n {
				j.run(i)
			}
		}
		for _, l := range j.losses {
			loss += l
		}
		b.slopes(j, x, w, dX, dW, dB, n)
	}
	s.put()
	*j = xent{buffers: buffers}
	xents.Put(j)
	return loss
}

// logits computes those of n rows.
func (b *Backend) logits(j *xent, x []float32, n int) {
	b.linear(result{c: j.z, ldc: j.z0, bias: j.B.F32()}, x[j.first*j.D:], j.W, n, j.D, j.V)
}

// slopes turns the gradients of the logits of n rows into those of x, w and the bias, those that are wanted.
func (b *Backend) slopes(j *xent, x, w, dX, dW, dB []float32, n int) {
	if dX != nil {
		g := gemms.Get().(*gemm)
		g.m, g.n, g.k = n, j.D, j.V
		g.a, g.rs, g.cs = j.z, j.z0, 1
		g.b, g.ldb = w, j.D
		g.c, g.ldc = dX[j.first*j.D:], j.D
		b.pool.multiply(g)
	}
	if dW != nil {
		g := gemms.Get().(*gemm)
		g.m, g.n, g.k = j.V, j.D, n
		g.a, g.rs, g.cs = j.z, 1, j.z0
		g.b, g.ldb = x[j.first*j.D:], j.D
		g.c, g.ldc, g.add = dW, j.D, j.first > 0
		b.pool.multiply(g)
	}
	if dB != nil {
		b.pool.columnSums(dB, j.z, n, j.V, j.z0, j.first > 0)
	}
}

// run does the softmax of one row.
func (j *xent) run(i int) {
	n, z := j.first+i, j.z[i*j.z0:][:j.V]
	target := int(j.Targets[n])
	best, block := maximum(z[:min(sumBlock, len(z))]), 0
	for k := sumBlock; k < len(z); k += sumBlock {
		if m := maximum(z[k:min(k+sumBlock, len(z))]); m > best {
			best, block = m, k
		}
	}
	if j.Top != nil {
		top := block
		for top < len(z)-1 && z[top] != best {
			top++
		}
		j.Top[n] = int32(top)
	}
	if target < 0 {
		j.nats[n], j.losses[i] = 0, 0
		clear(z)
		return
	}
	at := float64(z[target])
	sum := j.exponentials(j.z[i*j.z0:][:j.z0], best)
	nats := float64(best) - at + math.Log(sum)
	j.nats[n] = float32(nats)
	var factor float64
	j.losses[i], factor = ref.Focal(nats, j.Gamma)
	if !j.slopes {
		return
	}
	scale(z, z, float32(factor/sum))
	z[target] = float32(factor * math.Expm1(-nats))
}

// exponentials overwrites a row of logits, filled up to a multiple of eight, with exp(z - best) and returns the sum.
func (j *xent) exponentials(z []float32, best float32) (sum float64) {
	for k := j.V; k < len(z); k++ {
		z[k] = float32(math.Inf(-1))
	}
	for ; len(z) > sumBlock; z = z[sumBlock:] {
		sum += float64(expSum(z[:sumBlock], 1, best))
	}
	return sum + float64(expSum(z, 1, best))
}
