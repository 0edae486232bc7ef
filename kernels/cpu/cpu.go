package cpu

import (
	"sync"
	"unsafe"

	"svae/kernels"
	"svae/kernels/ref"
)

func init() {
	kernels.Register("cpu", func() (kernels.Backend, error) { return New(), nil })
}

// Backend is kernels.Backend over host memory in float32. Any number of goroutines may share it. Operations that it does
// not speed up are those of the reference, which it embeds.
type Backend struct {
	ref.Backend[float32]
	pool *pool

	mu     sync.RWMutex
	packed map[unsafe.Pointer]panels
	turns  turnCache
}

// panels is the packed copy of a weight matrix: columns of its transpose in groups of 16; of int8 weights, rows filled up
// to whole blocks.
type panels struct {
	f    []float32
	h    []uint16
	q    []int8
	O, I int
}

var shared struct {
	sync.Mutex
	pools map[int]*pool
}

// New returns a backend whose workers are as many as GOMAXPROCS is now. Backends of one number share their workers.
func New() kernels.Backend {
	shared.Lock()
	defer shared.Unlock()
	n := workers()
	if shared.pools == nil {
		shared.pools = map[int]*pool{}
	}
	if shared.pools[n] == nil {
		shared.pools[n] = newPool(n)
	}
	return &Backend{pool: shared.pools[n], packed: map[unsafe.Pointer]panels{}}
}

// Name returns "cpu".
func (*Backend) Name() string { return "cpu" }

// Alloc returns n zeros, in huge pages where the system has them.
func (*Backend) Alloc(n int) kernels.Buf { return kernels.Of(floats(n)) }

// Pack keeps a copy of w, in huge pages and in panels (of int8 weights, in rows), which Linear and Xent use until Unpack,
// without reading w again.
func (b *Backend) Pack(w kernels.Buf, O, I int) {
	kernels.CheckLen(w, O*I)
	if O*I == 0 {
		return
	}
	p := panels{O: O, I: I}
	cols := roundUp(O, tileCols)
	j := packing{}
	switch w.DType() {
	case kernels.BF16:
		p.h, j.h = halves(floats(cols * I / 2))[:cols*I], w.BF16()
	case kernels.I8:
		wide := roundUp(I, i8Block)
		p.q = bytes(floats((O*wide + 3) / 4))[:O*wide]
		j.q, _ = w.Int8(I)
	default:
		p.f, j.f = floats(cols*I), w.F32()
	}
	j.to = p
	b.pool.do(cols/tileCols, &j)
	b.mu.Lock()
	b.packed[w.Pointer()] = p
	b.mu.Unlock()
}

// Unpack drops the copy.
func (b *Backend) Unpack(w kernels.Buf) {
	b.mu.Lock()
	delete(b.packed, w.Pointer())
	b.mu.Unlock()
}

// packedOf returns the packed copy of w, or nothing.
func (b *Backend) packedOf(w kernels.Buf, O, I int) panels {
	b.mu.RLock()
	p := b.packed[w.Pointer()]
	b.mu.RUnlock()
	if p.O != O || p.I != I {
		return panels{}
	}
	return p
}

// packing is the job of Pack, 16 rows of the weights a part.
type packing struct {
	to panels
	f  []float32
	h  []uint16
	q  []int8
}

func (p *packing) run(part int) {
	j, I := part*tileCols, p.to.I
	n := min(tileCols, p.to.O-j)
	switch {
	case p.h != nil:
		packTBF16(p.to.h[j*I:], p.h[j*I:], I, n, I, 2*tileCols*I)
	case p.q != nil:
		wide := roundUp(I, i8Block)
		for o := j; o < j+n; o++ {
			copy(p.to.q[o*wide:], p.q[o*I:(o+1)*I])
		}
	default:
		packT(p.to.f[j*I:], p.f[j*I:], I, n, I)
	}
}

// bytes returns the memory of f as int8s.
func bytes(f []float32) []int8 {
	return unsafe.Slice((*int8)(unsafe.Pointer(unsafe.SliceData(f))), 4*len(f))
}
