package cpu

import (
	"math/bits"
	"runtime"
	"sync"
	"sync/atomic"
)

// job is work cut into numbered parts that may be done in any order, by any goroutine, at the same time.
type job interface{ run(part int) }

// pool is a set of goroutines that help the caller of do.
type pool struct {
	workers int // with the caller
	wake    chan *shift
}

// shift is one job while it is being done. It returns to the free list when the last of those that hold it lets go: a
// helper may come to it after all its parts are done.
type shift struct {
	job                 job
	parts               int32
	next, left, holders atomic.Int32
	state               atomic.Int32 // of the caller
	done                chan struct{}
	fault               atomic.Pointer[fault]
}

// The states of the caller of a shift.
const (
	working  = iota
	parked   // it waits for done
	finished // all parts are done
)

// fault is a panic in a part.
type fault struct{ value any }

var shifts = sync.Pool{New: func() any { return &shift{done: make(chan struct{}, 1)} }}

// A pass over a model is hundreds of jobs of some ten microseconds, and to wake a goroutine takes about as long. So a helper
// looks for its next job, and a caller for the end of this one, for a while before they sleep. spins is about how long a
// helper looks, callerSpins how long a caller, in pauses of the processor.
const (
	spins       = 2000
	callerSpins = 1000
)

func workers() int { return runtime.GOMAXPROCS(0) }

// newPool starts n-1 helpers.
func newPool(n int) *pool {
	p := &pool{workers: n, wake: make(chan *shift, 4*n)}
	for range p.workers - 1 {
		go p.help()
	}
	return p
}

// help does parts of one shift after the other until the pool is closed, which only tests do.
func (p *pool) help() {
	for {
		s := p.look()
		if s == nil {
			if s = <-p.wake; s == nil {
				return
			}
		}
		s.work()
		s.drop()
	}
}

// look returns the next shift if one comes soon.
func (p *pool) look() *shift {
	for range spins {
		select {
		case s := <-p.wake:
			return s
		default:
			pause()
		}
	}
	return nil
}

// do runs every part of j and returns when all of them are done. If some panicked, it panics as one of them did.
func (p *pool) do(parts int, j job) {
	helpers := min(p.workers, parts) - 1
	if helpers <= 0 {
		for i := range parts {
			j.run(i)
		}
		return
	}
	s := shifts.Get().(*shift)
	s.job, s.parts = j, int32(parts)
	s.next.Store(0)
	s.left.Store(int32(parts))
	s.state.Store(working)
	s.holders.Store(int32(helpers) + 1)
	for h := range helpers {
		select {
		case p.wake <- s:
			continue
		default: // every helper has enough to do
			s.holders.Add(int32(h - helpers))
		}
		break
	}
	s.work()
	s.wait()
	f := s.fault.Load()
	s.drop()
	if f != nil {
		panic(f.value)
	}
}

// wait returns when all parts are done.
func (s *shift) wait() {
	for range callerSpins {
		if s.state.Load() == finished {
			return
		}
		pause()
	}
	if s.state.CompareAndSwap(working, parked) {
		<-s.done
	}
}

// work does parts until none is left to begin.
func (s *shift) work() {
	for {
		i := s.next.Add(1) - 1
		if i >= s.parts {
			return
		}
		s.part(int(i))
	}
}

// part does one part. A panic waits for the others, so that none of them works on memory that its caller has given up.
func (s *shift) part(i int) {
	defer func() {
		if v := recover(); v != nil {
			s.fault.Store(&fault{v})
		}
		if s.left.Add(-1) == 0 && s.state.Swap(finished) == parked {
			s.done <- struct{}{}
		}
	}()
	s.job.run(i)
}

// drop lets go of s.
func (s *shift) drop() {
	if s.holders.Add(-1) == 0 {
		s.job = nil
		s.fault.Store(nil)
		shifts.Put(s)
	}
}

// scratch is memory for one part of a job, kept for the next that wants as much.
type scratch struct{ f []float32 }

var scratches [33]sync.Pool // by the bits of their length

// getScratch returns memory for n elements, whatever they hold.
func getScratch(n int) *scratch {
	class := bits.Len(uint(n - 1))
	if s, ok := scratches[class].Get().(*scratch); ok {
		return s
	}
	return &scratch{floats(1 << class)}
}

func (s *scratch) put() { scratches[bits.Len(uint(len(s.f)-1))].Put(s) }
