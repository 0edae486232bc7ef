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
	done                chan struct{}
}

var shifts = sync.Pool{New: func() any { return &shift{done: make(chan struct{}, 1)} }}

func workers() int { return runtime.GOMAXPROCS(0) }

// newPool starts n-1 helpers.
func newPool(n int) *pool {
	p := &pool{workers: n, wake: make(chan *shift, 4*n)}
	for range p.workers - 1 {
		go func() {
			for s := range p.wake {
				s.work()
				s.drop()
			}
		}()
	}
	return p
}

// do runs every part of j and returns when all of them are done.
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
	<-s.done
	s.drop()
}

// work does parts until none is left to begin.
func (s *shift) work() {
	for {
		i := s.next.Add(1) - 1
		if i >= s.parts {
			return
		}
		s.job.run(int(i))
		if s.left.Add(-1) == 0 {
			s.done <- struct{}{}
		}
	}
}

// drop lets go of s.
func (s *shift) drop() {
	if s.holders.Add(-1) == 0 {
		s.job = nil
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
