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
	packed map[*float32]panels
	turns  turnCache
}

// panels is the packed copy of a weight matrix: columns of its transpose in groups of 16.
type panels struct {
	f    []float32
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
	return &Backend{pool: shared.pools[n], packed: map[*float32]panels{}}
}

// Name returns "cpu".
func (*Backend) Name() string { return "cpu" }

// Alloc returns n zeros, in huge pages where the system has them.
func (*Backend) Alloc(n int) kernels.Buf { return kernels.Of(floats(n)) }

// Pack keeps a copy of w in panels, which Linear and Xent use until Unpack.
func (b *Backend) Pack(w kernels.Buf, O, I int) {
	kernels.CheckLen(w, O*I)
	if O*I == 0 {
		return
	}
	p := panels{floats(roundUp(O, tileCols) * I), O, I}
	b.pool.do((O+tileCols-1)/tileCols, &packing{p, w.F32()})
	b.mu.Lock()
	b.packed[(*float32)(w.Pointer())] = p
	b.mu.Unlock()
}

// Unpack drops the copy.
func (b *Backend) Unpack(w kernels.Buf) {
	b.mu.Lock()
	delete(b.packed, (*float32)(w.Pointer()))
	b.mu.Unlock()
}

// panelsOf returns the packed copy of w, or nil.
func (b *Backend) panelsOf(w []float32, O, I int) []float32 {
	b.mu.RLock()
	p := b.packed[unsafe.SliceData(w)]
	b.mu.RUnlock()
	if p.O != O || p.I != I {
		return nil
	}
	return p.f
}

// packing is the job of Pack, a panel a part.
type packing struct {
	panels
	w []float32
}

func (p *packing) run(part int) {
	j := part * tileCols
	packT(p.f[j*p.I:], p.w[j*p.I:], p.I, min(tileCols, p.O-j), p.I)
}
