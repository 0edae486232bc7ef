package cpu

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// counted is a job that counts its parts; part bad panics.
type counted struct {
	done []atomic.Int32
	bad  int
	slow time.Duration
}

func (c *counted) run(part int) {
	c.done[part].Add(1)
	if part == c.bad {
		panic("part")
	}
	if c.slow > 0 && part%7 == 3 {
		time.Sleep(c.slow)
	}
}

// TestPool does jobs of many callers at once, quick ones and such as outlast the time that anyone looks for their end:
// each part is done once, before do returns.
func TestPool(t *testing.T) {
	p := newPool(3)
	defer close(p.wake)
	var all sync.WaitGroup
	for c := range 4 {
		all.Go(func() {
			for i := range 200 {
				j := &counted{done: make([]atomic.Int32, 1+(i*7+c)%23), bad: -1}
				if i%50 == 0 {
					j.slow = time.Millisecond
				}
				p.do(len(j.done), j)
				for k := range j.done {
					if n := j.done[k].Load(); n != 1 {
						t.Errorf("part %d was done %d times", k, n)
					}
				}
			}
		})
	}
	all.Wait()
}

// TestPoolPanic checks that a panic in a part, on whichever goroutine, reaches the caller of do after all other parts, and
// that the pool works on.
func TestPoolPanic(t *testing.T) {
	p := newPool(2)
	defer close(p.wake)
	for i := range 300 {
		j := &counted{done: make([]atomic.Int32, 9), bad: i % 9}
		func() {
			defer func() {
				if v := recover(); v != "part" {
					t.Fatalf("recovered %v", v)
				}
			}()
			p.do(len(j.done), j)
		}()
		for k := range j.done {
			if j.done[k].Load() != 1 {
				t.Fatalf("part %d was not done", k)
			}
		}
	}
	j := &counted{done: make([]atomic.Int32, 9), bad: -1}
	p.do(9, j)
	if j.done[8].Load() != 1 {
		t.Error("the pool stands still after a panic")
	}
}

// nothing is a job without work.
type nothing struct{}

func (nothing) run(int) {}

// BenchmarkPool times jobs of no work, one after the other: what it costs to hand out parts and to wait for their end.
func BenchmarkPool(b *testing.B) {
	for _, parts := range []int{2, 16} {
		b.Run(fmt.Sprint("parts=", parts), func(b *testing.B) {
			p := newPool(2)
			defer close(p.wake)
			for b.Loop() {
				p.do(parts, nothing{})
			}
		})
	}
}
