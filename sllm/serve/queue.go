package serve

import (
	"context"
	"errors"
	"math"
	"sync"
	"sync/atomic"
	"time"
)

// Why a request gets no place.
var (
	errFull     = errors.New("the server is busy and its queue is full; come back later")
	errShutdown = errors.New("the server is shutting down")
	errDeadline = errors.New("the time that a request may take has passed")
)

// queue lets so many requests run at once and so many wait, first come, first served.
type queue struct {
	places  chan struct{}
	most    int64 // that may wait
	waiting atomic.Int64
	mean    atomic.Int64 // ns that a request runs, of the latest ones
	closed  chan struct{}
	close   func()
}

func newQueue(parallel, most int) *queue {
	q := &queue{places: make(chan struct{}, parallel), most: int64(most), closed: make(chan struct{})}
	q.close = sync.OnceFunc(func() { close(q.closed) })
	return q
}

// enter waits for a place. A place that becomes free goes to whoever has waited longest, since a channel serves its senders
// in order.
func (q *queue) enter(ctx context.Context) error {
	select {
	case <-q.closed:
		return errShutdown
	default:
	}
	select {
	case q.places <- struct{}{}:
		return nil
	default:
	}
	if q.waiting.Add(1) > q.most {
		q.waiting.Add(-1)
		return errFull
	}
	defer q.waiting.Add(-1)
	select {
	case q.places <- struct{}{}:
		return nil
	case <-q.closed:
		return errShutdown
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// leave gives the place back after so long.
func (q *queue) leave(ran time.Duration) {
	old := q.mean.Load()
	q.mean.Store(old + (int64(ran)-old)/8) // an estimate: two at once may lose one
	<-q.places
}

// retryAfter guesses the seconds until a place in the queue is free.
func (q *queue) retryAfter() int {
	return int(min(60, max(1, math.Ceil(time.Duration(q.mean.Load()).Seconds()/float64(cap(q.places))))))
}
