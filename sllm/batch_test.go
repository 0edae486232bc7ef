package sllm

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"svae/kernels"
	"svae/kernels/cpu"
	"svae/kernels/op"
	"svae/vae"
	"svae/vae/vaetest"
)

// generating is an engine of either kind.
type generating interface {
	Generate(context.Context, Request, func(Token) bool) (Result, error)
}

// answer is what a request gave.
type answer struct {
	tokens []Token
	probs  []uint32 // bits of the tokens' log-probabilities
	finish Finish
}

func (a answer) equal(b answer) bool {
	ids := func(x answer) (s []Token) {
		for _, t := range x.tokens {
			t.LogProb = 0
			s = append(s, t)
		}
		return s
	}
	return slices.Equal(ids(a), ids(b)) && slices.Equal(a.probs, b.probs) && a.finish == b.finish
}

// ask runs one request.
func ask(t *testing.T, e generating, r Request) (answer, Result) {
	t.Helper()
	var a answer
	res, err := e.Generate(t.Context(), r, func(tok Token) bool {
		a.tokens = append(a.tokens, tok)
		a.probs = append(a.probs, math.Float32bits(tok.LogProb))
		return true
	})
	if err != nil {
		t.Error(err)
	}
	if res.Tokens != len(a.tokens) || len(a.tokens) > 0 && res.Sentences != a.tokens[len(a.tokens)-1].Sentence+1 {
		t.Errorf("%d tokens emitted, %+v", len(a.tokens), res)
	}
	a.finish = res.Finish
	return a, res
}

// differentRequests are n requests that have little in common.
func differentRequests(n int) []Request {
	r := rand.New(rand.NewPCG(3, 9))
	var all []Request
	for i := range n {
		q := Request{MaxTokens: 5 + 7*i%23, Boundary: fives{}, LogProbs: i%3 != 0, IgnoreStop: i%2 == 0, Open: i%4 == 1 || i%4 == 2}
		for range i % 5 {
			q.Sentences = append(q.Sentences, randomTokens(r, 1+r.IntN(6)))
		}
		switch i % 4 {
		case 1:
			q.Sampling = vae.Sampling{Temperature: 0.8, Seed: uint64(i)}
		case 2:
			q.Sampling = vae.Sampling{Temperature: 1.3, TopK: 9, Seed: uint64(i)}
		case 3:
			q.Sampling = vae.Sampling{Temperature: 1, TopP: 0.7, Seed: uint64(i)}
		}
		if i == 5 {
			q.MaxSentences = 2
		}
		all = append(all, q)
	}
	return all
}

// eachEngine runs a test on an engine of every kind of model, made anew by every call of build. Weights are held in
// float32, and of some models in bf16 and in int8 too, with what makes greedy choices cheap.
func eachEngine(t *testing.T, f func(t *testing.T, build func() generating)) {
	each := func(name string, walk func(vae.Build[op.Mat]), head func() (string, string), build func(*vae.Store) generating) {
		for _, dt := range []kernels.DType{kernels.F32, kernels.BF16, kernels.I8} {
			if dt != kernels.F32 && (name == "lm opt-post" || name == "gemma") {
				continue
			}
			t.Run(fmt.Sprintf("%s/%d", name, dt), func(t *testing.T) {
				f(t, func() generating {
					s := vaetest.RandomStore(t, cpu.New(), vae.List(walk), 1)
					if b := s.Buf("stop_head.bias"); !b.Absent() { // random weights would end most documents at once
						s.Backend().Upload(b, []float32{-1, 0})
					}
					weight, bias := head()
					return build(narrowed(t, s, dt, weight, bias))
				})
			})
		}
	}
	for name, c := range tinyConfigs() {
		for _, context := range []int{c.VAE.Context, 2} {
			if c := c; context != 2 || name == "gpt2" {
				c.VAE.Context = context
				each(fmt.Sprint(name, " ", context), func(b vae.Build[op.Mat]) { New(&c, b) }, func() (string, string) { return vae.HeadNames(&c.VAE) },
					func(s *vae.Store) generating { return NewEngine(&c, s) })
			}
		}
	}
	for name, a := range tinyBases() {
		each("lm "+name, func(b vae.Build[op.Mat]) { NewLM(&a, b) }, func() (string, string) { return HeadName(&a), "" },
			func(s *vae.Store) generating { return NewLMEngine(&a, s) })
	}
}

// narrowed holds the weights of s as bundles do: those of linear maps in dt, tables and the vocabulary head in bf16.
func narrowed(t *testing.T, s *vae.Store, dt kernels.DType, head, bias string) *vae.Store {
	t.Helper()
	if dt == kernels.F32 {
		return s
	}
	var bufs []kernels.Buf
	for _, w := range s.Weights() {
		b := s.Buf(w.Name)
		switch {
		case len(w.Shape) != 2:
		case dt == kernels.I8 && !w.Table && w.Name != head:
			q, scales := make([]int8, b.Len()), make([]float32, w.Shape[0])
			if err := kernels.QuantizeInt8(q, scales, b.F32(), w.Shape[0], w.Shape[1]); err != nil {
				t.Fatal(err)
			}
			b = kernels.Int8Of(q, scales, w.Shape[1])
		default:
			h := make([]uint16, b.Len())
			kernels.RoundBF16(h, b.F32())
			b = kernels.BF16Of(h)
		}
		bufs = append(bufs, b)
	}
	n, err := vae.NewStoreOf(s.Backend(), s.Weights(), bufs)
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range s.Weights() {
		if w.Name != head {
			continue
		}
		var b op.Mat
		if bias != "" {
			b = op.Mat{Buf: n.Buf(bias), R: 1, C: w.Shape[0]}
		}
		h, err := op.NewHead(op.Mat{Buf: n.Buf(head), R: w.Shape[0], C: w.Shape[1]}, b)
		if err != nil {
			t.Fatal(err)
		}
		n.SetHead(head, &h)
	}
	return n
}

// TestTogetherIsAlone runs different requests one after the other and at the same time, at once and staggered, on one
// thread and on two: what each of them gets is the same, to the bit of the log-probabilities.
func TestTogetherIsAlone(t *testing.T) {
	requests := differentRequests(8)
	eachEngine(t, func(t *testing.T, build func() generating) {
		e := build()
		var want []answer
		written := 0
		for _, r := range requests {
			a, _ := ask(t, e, r)
			want = append(want, a)
			written += len(a.tokens)
		}
		if written < 40 {
			t.Fatalf("%d tokens in all: too few to tell", written)
		}
		for _, threads := range []int{1, 2} {
			before := runtime.GOMAXPROCS(threads)
			e := build()
			for _, staggered := range []bool{false, true} {
				got := make([]answer, len(requests))
				var all sync.WaitGroup
				for i, r := range requests {
					all.Go(func() { got[i], _ = ask(t, e, r) })
					if staggered {
						time.Sleep(time.Duration(i*50) * time.Microsecond)
					}
				}
				all.Wait()
				for i := range got {
					if !got[i].equal(want[i]) {
						t.Errorf("%d threads, staggered %v, request %d:\n%v\nalone:\n%v", threads, staggered, i, got[i], want[i])
					}
				}
			}
			runtime.GOMAXPROCS(before)
		}
	})
}

// TestTogetherInOneStep makes sure that requests are batched at all: with all of them there before the first step, as
// many steps are taken as the longest needs.
func TestTogetherInOneStep(t *testing.T) {
	a := tinyBases()["llama"]
	e := NewLMEngine(&a, vaetest.RandomStore(t, cpu.New(), vae.List(func(b vae.Build[op.Mat]) { NewLM(&a, b) }), 1))
	steps, step := 0, e.loop.step
	gate := make(chan struct{})
	e.loop.step = func(js []*job[*text]) {
		if steps == 0 {
			<-gate
		}
		steps++
		step(js)
	}
	var all sync.WaitGroup
	for i := range 5 {
		all.Go(func() {
			if a, _ := ask(t, e, Request{MaxTokens: 3 + i, IgnoreStop: true}); len(a.tokens) != 3+i {
				t.Errorf("%d tokens, want %d", len(a.tokens), 3+i)
			}
		})
	}
	for {
		e.loop.mu.Lock()
		n := len(e.loop.waiting) + len(e.loop.running)
		e.loop.mu.Unlock()
		if n == 5 {
			break
		}
		time.Sleep(time.Millisecond)
	}
	close(gate)
	all.Wait()
	if steps > 8 { // the first has one request, perhaps; the longest has 7 tokens
		t.Errorf("%d steps for 5 requests of 3 to 7 tokens", steps)
	}
}

// TestReaders checks what readers may do: be slow, want no more, go away, and panic, while others go on.
func TestReaders(t *testing.T) {
	eachEngine(t, func(t *testing.T, build func() generating) {
		e := build()
		r := Request{MaxTokens: 3 * queueSize, IgnoreStop: true, Boundary: fives{}, Sampling: vae.Sampling{Temperature: 1, Seed: 3}}
		want, _ := ask(t, e, r)
		if len(want.tokens) < 2*queueSize {
			t.Skip("the model has too few positions")
		}
		release := make(chan struct{})
		var all sync.WaitGroup
		all.Go(func() { // reads nothing until the others are done
			n := 0
			res, err := e.Generate(t.Context(), r, func(Token) bool {
				if n++; n == 1 {
					<-release
				}
				return true
			})
			if err != nil || res.Tokens != len(want.tokens) || n != len(want.tokens) {
				t.Errorf("slow reader: %d tokens, %+v, %v", n, res, err)
			}
		})
		var others sync.WaitGroup
		others.Go(func() {
			if a, _ := ask(t, e, r); !a.equal(want) {
				t.Errorf("beside others: %v, want %v", a, want)
			}
		})
		others.Go(func() {
			n := 0
			res, err := e.Generate(t.Context(), r, func(Token) bool { n++; return n < 4 })
			if err != nil || res.Finish != Halted || res.Tokens != 4 || n != 4 {
				t.Errorf("halted: %d tokens, %+v, %v", n, res, err)
			}
		})
		others.Go(func() {
			ctx, cancel := context.WithCancel(t.Context())
			n := 0
			res, err := e.Generate(ctx, r, func(Token) bool {
				if n++; n == 5 {
					cancel()
				}
				return true
			})
			if !errors.Is(err, context.Canceled) || res.Tokens != 5 || n != 5 {
				t.Errorf("cancelled: %d tokens, %+v, %v", n, res, err)
			}
		})
		others.Go(func() {
			defer func() {
				if recover() != "reader" {
					t.Error("the reader's panic is lost")
				}
			}()
			e.Generate(t.Context(), r, func(Token) bool { panic("reader") })
		})
		others.Wait()
		close(release)
		all.Wait()
		if a, _ := ask(t, e, r); !a.equal(want) {
			t.Errorf("afterwards: %v, want %v", a, want)
		}
	})
}

// TestQueue checks that no more than MaxBatch requests run, that others follow in order of arrival, and that one that
// gives up waiting does not run.
func TestQueue(t *testing.T) {
	a := tinyBases()["llama"]
	a.Positions = 100
	e := NewLMEngine(&a, vaetest.RandomStore(t, cpu.New(), vae.List(func(b vae.Build[op.Mat]) { NewLM(&a, b) }), 1))
	e.MaxBatch = 2
	var order []int
	var most int
	var opened atomic.Int32
	open, step := e.loop.open, e.loop.step
	e.loop.open = func(j *job[*text]) error {
		opened.Add(1)
		order = append(order, j.req.MaxTokens)
		return open(j)
	}
	e.loop.step = func(js []*job[*text]) {
		most = max(most, len(js))
		step(js)
	}
	hold := make(chan struct{})
	var all sync.WaitGroup
	for i := range 6 {
		ctx, cancel := context.WithCancel(t.Context())
		if i == 4 {
			cancel()
			ctx, cancel = context.WithTimeout(t.Context(), time.Millisecond)
		}
		all.Go(func() {
			defer cancel()
			_, err := e.Generate(ctx, Request{MaxTokens: 2*queueSize + i, IgnoreStop: true}, func(Token) bool { <-hold; return true })
			if (i == 4) != errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("request %d: %v", i, err)
			}
		})
		for range 1000 { // until it has arrived
			e.loop.mu.Lock()
			n := len(e.loop.waiting) + int(opened.Load())
			e.loop.mu.Unlock()
			if n > i {
				break
			}
			time.Sleep(time.Millisecond / 4)
		}
	}
	time.Sleep(5 * time.Millisecond)
	close(hold)
	all.Wait()
	if !slices.Equal(order, []int{32, 33, 34, 35, 37}) || most > 2 {
		t.Errorf("requests ran in order %v, %d at a time", order, most)
	}
}

// failing is a Keeper whose KV fails or panics after some rows.
type failing struct {
	caches
	after  int
	panics bool
	open   atomic.Int32
}

type failingKV struct {
	*vae.Cache
	k *failing
}

func (f *failing) Open(ids []int32, ends []int) (vae.KV, error) {
	f.open.Add(1)
	if f.after == 0 {
		return nil, errors.New("no room")
	}
	kv, err := f.caches.Open(ids, ends)
	return failingKV{kv.(*vae.Cache), f}, err
}

func (f *failing) Close(kv vae.KV, ids []int32) {
	f.open.Add(-1)
	if ids != nil && len(ids) != kv.Len() {
		panic("rows without tokens")
	}
	f.caches.Close(kv.(failingKV).Cache, ids)
}

func (f failingKV) Attend(out, q, k, v op.Mat, layer int, spans *kernels.Spans, h op.Heads) error {
	if f.Len() >= f.k.after && layer == 1 {
		if f.k.panics {
			panic("attend")
		}
		return errors.New("attend")
	}
	return f.Cache.Attend(out, q, k, v, layer, spans, h)
}

// TestFailures lets keys and values fail: the request ends with that error, the engine goes on, and what was opened is
// closed.
func TestFailures(t *testing.T) {
	eachEngine(t, func(t *testing.T, build func() generating) {
		for _, f := range []*failing{{after: 0}, {after: 6}, {after: 6, panics: true}} {
			e := build()
			var keeper *Keeper
			switch e := e.(type) {
			case *Engine:
				keeper = &e.Keeper
			case *LMEngine:
				keeper = &e.Keeper
			}
			plain := *keeper
			r := Request{MaxTokens: 20, IgnoreStop: true, Boundary: fives{}, Sampling: vae.Sampling{Temperature: 1, Seed: 3}}
			want, res := ask(t, e, r)
			if res.KVRows < 7 {
				t.Skip("too few rows")
			}
			f.be = cpu.New()
			*keeper = f
			var all sync.WaitGroup
			for range 3 {
				all.Go(func() {
					_, err := e.Generate(t.Context(), r, func(Token) bool { return true })
					if err == nil || strings.Contains(err.Error(), "\n") || f.panics != errors.Is(err, ErrInternal) {
						t.Errorf("after %d rows, panics %v: %v", f.after, f.panics, err)
					}
				})
			}
			all.Wait()
			if f.after > 0 && f.open.Load() != 0 {
				t.Errorf("%d left open", f.open.Load())
			}
			*keeper = plain
			if a, _ := ask(t, e, r); !a.equal(want) {
				t.Errorf("after a failure: %v, want %v", a, want)
			}
		}
	})
}
