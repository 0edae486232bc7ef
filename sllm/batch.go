package sllm

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

// Requests run together: a loop, which lives only while there are any, takes all of them one step further, again and
// again. Each is read by the goroutine that called Generate, from a queue of its own: a request whose queue is full takes
// no part in steps until it has been read. The bits of a request do not depend on which others run beside it, because no
// row of a pass depends on its neighbours (see package kernels).

const (
	maxBatch  = 16 // requests that run at the same time, unless an engine is told otherwise
	queueSize = 16 // tokens that an engine may be ahead of a reader
)

// job is a request on its way. The loop alone touches all but what is said.
type job[T any] struct {
	req    Request
	res    Result // the loop's until done is closed
	err    error  // likewise
	over   bool
	tokens chan Token // to the reader; closed behind the last
	done   chan struct{}
	gone   atomic.Bool // set by the reader: it wants no more
	state  T

	prefilled time.Time // when the first token could be chosen
	steps     int64     // that wrote a token
	weights   int64     // bytes of weights that they touched, shared with the other requests of the step
	kvRead    int64     // bytes of keys and values that they read
}

// ready says that a token of the job has a place to go.
func (j *job[T]) ready() bool { return len(j.tokens) < cap(j.tokens) }

// emit hands a token to the reader, for whom there is room.
func (j *job[T]) emit(t Token) { j.tokens <- t }

// finish ends the job; err nil says why in res.Finish.
func (j *job[T]) finish(f Finish, err error) {
	if !j.over {
		j.over, j.res.Finish, j.err = true, f, err
	}
}

// first notes that the prompt is read.
func (j *job[T]) first() {
	if j.prefilled.IsZero() {
		j.prefilled = time.Now()
	}
}

// loop runs the jobs of one engine.
type loop[T any] struct {
	most  int                 // jobs that run at the same time
	open  func(*job[T]) error // before the first step of a job
	step  func([]*job[T])     // takes jobs further; none is over
	close func(*job[T])       // after the last step of a job that was opened

	mu      sync.Mutex
	waiting []*job[T] // in order of arrival
	alive   bool
	running []*job[T] // the loop's own
	now     []*job[T]
	wake    chan struct{}
}

// generate runs a request whose state is made by the caller, and reads it.
func (l *loop[T]) generate(ctx context.Context, most int, r Request, state T, res Result, emit func(Token) bool) (Result, error) {
	if err := ctx.Err(); err != nil {
		return res, err
	}
	begin := time.Now()
	j := &job[T]{req: r, res: res, state: state, tokens: make(chan Token, queueSize), done: make(chan struct{})}
	l.submit(j, most)
	emitted, sentences := 0, 0
	var stop error
	halted := false
	func() {
		defer func() { // also when emit panics
			j.gone.Store(true)
			l.kick()
		}()
		for {
			select {
			case <-ctx.Done():
				stop = ctx.Err()
				return
			case t, ok := <-j.tokens:
				if stop = ctx.Err(); !ok || stop != nil {
					return
				}
				l.kick()
				emitted, sentences = emitted+1, t.Sentence+1
				if halted = !emit(t); halted {
					return
				}
			}
		}
	}()
	<-j.done
	res = j.res
	res.Tokens, res.Sentences = emitted, sentences
	j.measure(&res, begin)
	switch {
	case halted:
		res.Finish = Halted
	case stop != nil:
		res.Finish = ""
		return res, stop
	case j.err != nil:
		res.Finish = ""
		return res, j.err
	}
	return res, nil
}

// measure fills in times and bytes.
func (j *job[T]) measure(res *Result, begin time.Time) {
	end := time.Now()
	if j.prefilled.IsZero() {
		j.prefilled = end
	}
	res.Prefill, res.Decode = j.prefilled.Sub(begin), end.Sub(j.prefilled)
	if j.steps > 0 {
		res.WeightBytes, res.KVRead = j.weights/j.steps, j.kvRead/j.steps
	}
}

// submit puts a job at the end of the queue and sees to it that the loop lives, which runs up to most jobs at once.
func (l *loop[T]) submit(j *job[T], most int) {
	l.mu.Lock()
	l.most = max(most, 1)
	l.waiting = append(l.waiting, j)
	start := !l.alive
	l.alive = true
	if l.wake == nil {
		l.wake = make(chan struct{}, 1)
	}
	l.mu.Unlock()
	if start {
		go l.run()
	}
	l.kick()
}

// kick lets a loop that found nothing to do look again.
func (l *loop[T]) kick() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// run steps until no job is left.
func (l *loop[T]) run() {
	for l.admit() {
		l.now = l.now[:0]
		for _, j := range l.running {
			if j.gone.Load() {
				j.finish(Halted, nil)
			}
			if !j.over && j.ready() {
				l.now = append(l.now, j)
			}
		}
		if len(l.now) > 0 {
			l.guard(l.now, func() { l.step(l.now) })
		}
		idle := l.sweep() == 0 && len(l.now) == 0
		if idle {
			<-l.wake
		} else {
			runtime.Gosched() // so that readers get their tokens now, not when a step next waits for its helpers
		}
	}
}

// admit starts jobs that wait, as far as there is room, and returns whether any is there.
func (l *loop[T]) admit() bool {
	l.mu.Lock()
	kept, had := l.waiting[:0], len(l.running)
	for _, j := range l.waiting {
		switch {
		case j.gone.Load():
			l.release(j)
		case len(l.running) < l.most:
			l.running = append(l.running, j)
		default:
			kept = append(kept, j)
		}
	}
	clear(l.waiting[len(kept):])
	l.waiting = kept
	l.alive = len(l.running)+len(kept) > 0
	fresh, alive := l.running[had:], l.alive
	l.mu.Unlock()
	for _, j := range fresh {
		l.guard([]*job[T]{j}, func() {
			if err := l.open(j); err != nil {
				j.finish("", err)
			}
		})
	}
	return alive
}

// guard runs f; a panic fails the jobs it worked on.
func (l *loop[T]) guard(js []*job[T], f func()) {
	defer func() {
		if p := recover(); p != nil {
			err := fmt.Errorf("%w: %v", ErrInternal, p)
			for _, j := range js {
				if j.over {
					continue
				}
				j.finish("", err)
			}
		}
	}()
	f()
}

// ErrInternal is wrapped when a step of an engine failed by a fault of the program. Later requests are not affected.
var ErrInternal = errors.New("internal error of the engine")

// sweep lets go of the jobs that are over and returns how many there were.
func (l *loop[T]) sweep() int {
	kept := l.running[:0]
	for _, j := range l.running {
		if !j.over {
			kept = append(kept, j)
			continue
		}
		l.guard([]*job[T]{j}, func() { l.close(j) })
		l.release(j)
	}
	n := len(l.running) - len(kept)
	clear(l.running[len(kept):])
	l.running = kept
	return n
}

// release tells the reader that no more will come.
func (l *loop[T]) release(j *job[T]) {
	close(j.tokens)
	close(j.done)
}
