package kv

import (
	"container/list"
	"fmt"
	"hash/crc32"
	"os"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"
)

// Pool holds the full blocks of any number of stores in two tiers. As long as the blocks fit into its bytes, all lie in
// RAM. From then on the least recently used ones are written to a file, once, and read back by pread when a step wants
// them; a block read stays in RAM as any other. Any number of goroutines may use a pool.
type Pool struct {
	limit int64 // bytes of blocks in RAM; 0 for no limit
	path  string

	mu       sync.Mutex
	resident list.List // *block, latest use first; of a pool with a limit alone
	file     *os.File
	end      int64
	holes    map[int][]int64    // free places of the file, by words
	spare    map[int][][]uint32 // memory of evicted blocks, by words; bounded by what one eviction frees
	stats    PoolStats
	closed   bool

	jobs    chan *block
	workers sync.WaitGroup
}

// PoolStats counts what a pool holds and what it did.
type PoolStats struct {
	RAMBytes, FileBytes     int64 // of blocks, now; a block may lie in both
	Hits, Misses            int64 // blocks asked for by a step that did, or did not, lie in RAM
	BytesRead, BytesWritten int64
	Prefetched              int64 // blocks read ahead of the step that wants them
	Stall                   time.Duration
}

// block is 64 rows of one head. words and what follows it are guarded by the pool's mutex if the pool has a limit.
type block struct {
	pool    *Pool
	refs    atomic.Int32
	size    int // in words
	words   []uint32
	pins    int
	at      int64 // place in the file; -1 if never written
	sum     uint32
	loading chan struct{}
	elem    *list.Element
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// NewPool returns a pool that keeps up to limit bytes of blocks in RAM (0 for no limit) and the others in the file at
// path, which is created when first needed and removed by Close. An empty path stands for a file in the system's
// temporary folder.
func NewPool(limit int64, path string) *Pool {
	return &Pool{limit: max(limit, 0), path: path, holes: map[int][]int64{}, spare: map[int][][]uint32{}}
}

// Stats returns the counters.
func (p *Pool) Stats() PoolStats {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.stats
}

// Close ends read-ahead and removes the file. Blocks that lie only there are gone: close the stores first.
func (p *Pool) Close() error {
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return nil
	}
	p.closed = true
	if p.jobs != nil {
		close(p.jobs)
	}
	p.mu.Unlock()
	p.workers.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.file == nil {
		return nil
	}
	err := p.file.Close()
	if e := os.Remove(p.file.Name()); err == nil {
		err = e
	}
	p.file = nil
	return err
}

// add takes in a new block with one reference.
func (p *Pool) add(words []uint32) (*block, error) {
	b := &block{pool: p, size: len(words), words: words, at: -1}
	b.refs.Store(1)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stats.RAMBytes += 4 * int64(b.size)
	if p.limit == 0 {
		return b, nil
	}
	b.elem = p.resident.PushFront(b)
	return b, p.shrink()
}

// memory returns words for a block to be encoded into, or read into.
func (p *Pool) memory(n int) []uint32 {
	if p.limit > 0 {
		p.mu.Lock()
		defer p.mu.Unlock()
		if s := p.spare[n]; len(s) > 0 {
			p.spare[n] = s[:len(s)-1]
			return s[len(s)-1]
		}
	}
	// Behind a 64-bit word, so that every view of the words is aligned.
	w := make([]uint64, (n+1)/2)
	return unsafe.Slice((*uint32)(unsafe.Pointer(unsafe.SliceData(w))), n)
}

// acquire returns the words of a block, which stay where they are until unpin.
func (p *Pool) acquire(b *block) ([]uint32, error) {
	if p.limit == 0 {
		return b.words, nil
	}
	return p.pin(b, false)
}

// pin is acquire for a pool with a limit; ahead says that no step waits for the block.
func (p *Pool) pin(b *block, ahead bool) ([]uint32, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !ahead {
		if b.words != nil {
			p.stats.Hits++
		} else {
			p.stats.Misses++
			begin := time.Now()
			defer func() { p.stats.Stall += time.Since(begin) }()
		}
	}
	for b.words == nil {
		if wait := b.loading; wait != nil {
			p.mu.Unlock()
			<-wait
			p.mu.Lock()
			continue
		}
		if err := p.load(b); err != nil {
			return nil, err
		}
		if ahead {
			p.stats.Prefetched++
		}
	}
	b.pins++
	p.resident.MoveToFront(b.elem)
	if err := p.shrink(); err != nil {
		b.pins--
		return nil, err
	}
	return b.words, nil
}

// load reads a block from the file. It is called, and returns, with the mutex held, but reads without.
func (p *Pool) load(b *block) error {
	if p.file == nil || b.at < 0 {
		return fmt.Errorf("read cached rows: %w", ErrClosed)
	}
	f, ready := p.file, make(chan struct{})
	b.loading = ready
	p.mu.Unlock()
	words := p.memory(b.size)
	_, err := f.ReadAt(asBytes(words), b.at)
	if err == nil && crc32.Checksum(asBytes(words), castagnoli) != b.sum {
		err = fmt.Errorf("the checksum differs: someone else wrote to the file")
	}
	p.mu.Lock()
	b.loading = nil
	close(ready)
	if err != nil {
		return fmt.Errorf("read cached rows of %s at %d: %w", f.Name(), b.at, err)
	}
	p.stats.BytesRead += 4 * int64(b.size)
	p.stats.RAMBytes += 4 * int64(b.size)
	b.words, b.elem = words, p.resident.PushFront(b)
	return nil
}

func (p *Pool) unpin(b *block) {
	if p.limit == 0 {
		return
	}
	p.mu.Lock()
	b.pins--
	p.mu.Unlock()
}

// shrink moves the least recently used blocks out of RAM until the limit holds. Blocks in use stay.
func (p *Pool) shrink() error {
	for e := p.resident.Back(); e != nil && p.stats.RAMBytes > p.limit; {
		b := e.Value.(*block)
		e = e.Prev()
		if b.pins > 0 {
			continue
		}
		if b.at < 0 {
			if err := p.spill(b); err != nil {
				return err
			}
		}
		p.drop(b)
	}
	return nil
}

// drop forgets the words of a block.
func (p *Pool) drop(b *block) {
	if len(p.spare[b.size]) < 64 {
		p.spare[b.size] = append(p.spare[b.size], b.words)
	}
	p.stats.RAMBytes -= 4 * int64(b.size)
	p.resident.Remove(b.elem)
	b.words, b.elem = nil, nil
}

// spill writes a block to the file.
func (p *Pool) spill(b *block) error {
	if p.closed {
		return fmt.Errorf("write cached rows: %w", ErrClosed)
	}
	if p.file == nil {
		if err := p.open(); err != nil {
			return err
		}
	}
	at := p.end
	holes := p.holes[b.size]
	if n := len(holes); n > 0 {
		at = holes[n-1]
	}
	data := asBytes(b.words)
	if _, err := p.file.WriteAt(data, at); err != nil {
		return fmt.Errorf("write cached rows: %w (free some space, or allow more RAM)", err)
	}
	if n := len(holes); n > 0 {
		p.holes[b.size] = holes[:n-1]
	} else {
		p.end += int64(len(data))
	}
	b.at, b.sum = at, crc32.Checksum(data, castagnoli)
	p.stats.BytesWritten += int64(len(data))
	p.stats.FileBytes += int64(len(data))
	return nil
}

func (p *Pool) open() (err error) {
	if p.path == "" {
		p.file, err = os.CreateTemp("", "svae-kv-")
	} else {
		p.file, err = os.OpenFile(p.path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	}
	if err != nil {
		return fmt.Errorf("open the file for cached rows: %w", err)
	}
	return nil
}

// retain adds a reference.
func (b *block) retain() *block {
	b.refs.Add(1)
	return b
}

// release drops a reference, and the block with the last one.
func (b *block) release() {
	if b.refs.Add(-1) > 0 {
		return
	}
	p := b.pool
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.limit == 0 {
		p.stats.RAMBytes -= 4 * int64(b.size)
		return
	}
	if b.words != nil {
		p.drop(b)
	}
	if b.at >= 0 {
		p.holes[b.size] = append(p.holes[b.size], b.at)
		p.stats.FileBytes -= 4 * int64(b.size)
		b.at = -1
	}
}

// prefetch asks for a block to be read soon, if it is not in RAM. It never waits: what the queue has no room for is left
// to the step that wants it.
func (p *Pool) prefetch(b *block) {
	if p.limit == 0 {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if b.words != nil || b.loading != nil || p.closed {
		return
	}
	if p.jobs == nil {
		p.jobs = make(chan *block, 1024)
		p.workers.Add(1)
		go p.readAhead()
	}
	select {
	case p.jobs <- b.retain():
	default:
		b.refs.Add(-1)
	}
}

// readAhead reads what prefetch asked for. An error shows again when a step wants the block.
func (p *Pool) readAhead() {
	defer p.workers.Done()
	for b := range p.jobs {
		if b.refs.Load() > 1 {
			if _, err := p.pin(b, true); err == nil {
				p.unpin(b)
			}
		}
		b.release()
	}
}
