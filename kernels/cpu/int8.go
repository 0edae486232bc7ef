package cpu

import (
	"sync"
	"unsafe"

	"svae/kernels"
)

const (
	i8Block   = kernels.I8Block
	int8Bytes = 64 << 10 // of the weights of a part, which several rows of x then find in the second-level cache
	int8Rows  = 128      // of x in a part
	int8Most  = 1024     // of x that are rounded at a time
	int8Few   = 8        // of x, with which weights are read as fast as memory gives them
)

// int8Linear is the product of rows of x, rounded in blocks, with int8 weights. A part is a strip of the weights' rows
// and up to int8Rows rows of x. Products are summed in integers within a block and in float32 over the blocks, in
// ascending order in each of eight lanes, whatever the rows in a kernel's hands.
type int8Linear struct {
	x       []float32
	N, I, O int
	w       []int8 // rows ld apart
	ld      int
	ws      []float32
	xq      []int16 // (N, blocks*64)
	xs      []float32
	blocks  int
	share   // of the rows of w, where x has few
	few     bool
	strip   int // rows of w in a part
	strips  int
	rounds  bool // the parts are rows of x to round
	result
}

var int8Linears = sync.Pool{New: func() any { return new(int8Linear) }}

// linearInt8 is Linear over int8 weights: r says what becomes of the product.
func (b *Backend) linearInt8(r result, x []float32, w kernels.Buf, N, I, O int) {
	if O == 0 {
		return
	}
	for N > 0 {
		n := min(N, int8Most)
		j := b.int8Of(r, x, w, n, I, O)
		s := j.round(b.pool)
		j.multiplyBy(b.pool)
		s.put()
		j.forget()
		if N -= n; N > 0 {
			x, r.c = x[n*I:], r.c[n*r.ldc:]
			if r.pre != nil {
				r.pre = r.pre[n*r.ldc:]
			}
		}
	}
}

// int8Of returns the product of N rows of x, up to int8Most, with weights w.
func (b *Backend) int8Of(r result, x []float32, w kernels.Buf, N, I, O int) *int8Linear {
	j := int8Linears.Get().(*int8Linear)
	j.result, j.x, j.N, j.I, j.O = r, x, N, I, O
	j.w, j.ws = w.Int8(I)
	j.ld, j.blocks = I, (I+i8Block-1)/i8Block
	if p := b.packedOf(w, O, I); p.q != nil {
		j.w, j.ld = p.q, j.blocks*i8Block
	}
	return j
}

// round rounds x, into the memory that it returns.
func (j *int8Linear) round(p *pool) *scratch {
	s := getScratch(max(j.N*j.blocks*(i8Block/2+1), 1))
	j.xq, j.xs = shorts(s.f)[:j.N*j.blocks*i8Block], s.f[j.N*j.blocks*i8Block/2:][:j.N*j.blocks]
	j.rounds = true
	j.split(p, j.N, j.N*j.I*4)
	j.rounds = false
	return s
}

// multiplyBy multiplies rounded rows on the pool.
func (j *int8Linear) multiplyBy(p *pool) {
	switch {
	case j.N <= int8Few && j.O*j.ld <= inlineWeights:
		j.multiplyAll(0, j.N, 0, j.O)
	case j.N <= int8Few:
		j.few = true
		j.cut(j.O, 4, 4, leastWeights/2/max(j.ld, 1), p.workers)
		p.do(len(j.ends), j)
	default:
		j.strip = max(4, min(int8Bytes/max(j.ld, 1), j.O/(4*p.workers))&^3)
		j.strips = (j.O + j.strip - 1) / j.strip
		j.split(p, j.strips*((j.N+int8Rows-1)/int8Rows), j.N*j.O*max(j.I, 1)/4)
	}
}

func (j *int8Linear) forget() {
	*j = int8Linear{share: share{j.ends[:0]}}
	int8Linears.Put(j)
}

// split runs the parts, on the caller's goroutine if the work is small.
func (j *int8Linear) split(p *pool, parts, work int) {
	if work > inlineOps {
		p.do(parts, j)
		return
	}
	for i := range parts {
		j.run(i)
	}
}

func (j *int8Linear) run(part int) {
	wide := j.blocks * i8Block
	if j.rounds {
		quantize(j.xq[part*wide:][:wide], j.xs[part*j.blocks:][:j.blocks], j.x[part*j.I:][:j.I])
		return
	}
	if j.few {
		j.runShare(j.part(part))
		return
	}
	o0, n0 := part%j.strips*j.strip, part/j.strips*int8Rows
	j.multiplyAll(n0, min(n0+int8Rows, j.N), o0, min(o0+j.strip, j.O))
}

// runShare computes columns o0 to end-1 of a product of few rows: a strip at a time, which the next row of x finds in the
// cache.
func (j *int8Linear) runShare(o0, end int) {
	strip := max(4, int8Bytes/max(j.ld, 1)&^3)
	if j.N == 1 {
		strip = j.O
	}
	for ; o0 < end; o0 += strip {
		j.multiplyAll(0, j.N, o0, min(o0+strip, end))
	}
}

// multiplyAll computes rows n0 to n1-1 of columns o0 to o1-1.
func (j *int8Linear) multiplyAll(n0, n1, o0, o1 int) {
	wide := j.blocks * i8Block
	if j.blocks == 0 {
		for n := n0; n < n1; n++ {
			clear(j.c[n*j.ldc+o0 : n*j.ldc+o1])
		}
		j.finish(n0, n1, o0, o1)
		return
	}
	// Rows whose last block would reach past the end of the weights are multiplied from a copy.
	safe := min(o1, max(o0, (len(j.w)-wide)/j.ld+1))
	if len(j.w) < wide {
		safe = o0
	}
	for n := n0; n < n1; n += 4 {
		j.multiply(n, min(4, n1-n), o0, safe)
	}
	if safe < o1 {
		j.last(n0, n1, safe, o1)
	}
	j.finish(n0, n1, o0, o1)
}

// multiply computes rows n to n+rows-1, up to four, of columns o0 to o1-1.
func (j *int8Linear) multiply(n, rows, o0, o1 int) {
	if o0 == o1 {
		return
	}
	wide := j.blocks * i8Block
	w, ws, x, xs := j.w[o0*j.ld:], j.ws[o0:o1], j.xq[n*wide:], j.xs[n*j.blocks:]
	if rows == 4 {
		dot8x4(j.c[n*j.ldc+o0:], j.ldc, w, j.ld, ws, o1-o0, x, wide, xs, j.blocks)
		return
	}
	for r := range rows {
		dot8(j.c[(n+r)*j.ldc+o0:], w, j.ld, ws, o1-o0, x[r*wide:][:wide], xs[r*j.blocks:][:j.blocks])
	}
}

// last computes columns o0 to o1-1 from copies of their weights.
func (j *int8Linear) last(n0, n1, o0, o1 int) {
	wide := j.blocks * i8Block
	s := getScratch(wide / 4)
	row := bytes(s.f)[:wide]
	for o := o0; o < o1; o++ {
		clear(row[copy(row, j.w[o*j.ld:][:j.I]):])
		for n := n0; n < n1; n++ {
			dot8(j.c[n*j.ldc+o:], row, wide, j.ws[o:o+1], 1, j.xq[n*wide:][:wide], j.xs[n*j.blocks:][:j.blocks])
		}
	}
	s.put()
}

// dot8Go overwrites out[o] = ws[o] · Σ xs[b] · (Σ w[o*ld+i]·x[i] over block b) for 0 <= o < n.
func dot8Go(out []float32, w []int8, ld int, ws []float32, n int, x []int16, xs []float32) {
	for o := range n {
		var sum float32
		for b, s := range xs {
			var part int32
			row := w[o*ld+b*i8Block:][:i8Block]
			for i, v := range x[b*i8Block:][:i8Block] {
				part += int32(v) * int32(row[i])
			}
			sum += float32(float32(part) * s)
		}
		out[o] = sum * ws[o]
	}
}

func quantizeGo(q []int16, scales, x []float32) { kernels.QuantizeBlocks(q, scales, x) }

// shorts returns the memory of f as twice as many elements of half the size.
func shorts(f []float32) []int16 {
	return unsafe.Slice((*int16)(unsafe.Pointer(unsafe.SliceData(f))), 2*len(f))
}
