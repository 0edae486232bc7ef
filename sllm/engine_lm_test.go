package sllm

import (
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"svae/kernels/cpu"
	"svae/kernels/op"
	"svae/vae"
	"svae/vae/vaetest"
)

// TestChunks reads a prompt in pieces of every size, beside a request that writes.
func TestChunks(t *testing.T) {
	for name, a := range tinyBases() {
		t.Run(name, func(t *testing.T) {
			s := vaetest.RandomStore(t, cpu.New(), vae.List(func(b vae.Build[op.Mat]) { NewLM(&a, b) }), 1)
			r := Request{Sentences: [][]int32{randomTokens(rand.New(rand.NewPCG(1, 1)), a.Positions/2)}, MaxTokens: 5, LogProbs: true, IgnoreStop: true}
			var want answer
			for _, chunk := range []int{promptRows, 1, 3, 7} {
				e := NewLMEngine(&a, s)
				e.Chunk = chunk
				got, _ := ask(t, e, r)
				if chunk == promptRows {
					want = got
					continue
				}
				var all sync.WaitGroup
				var beside [2]answer
				for i := range beside {
					all.Go(func() { beside[i], _ = ask(t, e, r) })
				}
				all.Wait()
				for _, a := range append(beside[:], got) {
					if !a.equal(want) {
						t.Errorf("in pieces of %d: %v, want %v", chunk, a, want)
					}
				}
			}
		})
	}
}

// TestGreedyHead checks that the greedy choice of a narrow model by its head is that of all logits, which asking for
// log-probabilities takes.
func TestGreedyHead(t *testing.T) {
	eachEngine(t, func(t *testing.T, build func() generating) {
		e := build()
		for _, r := range differentRequests(6) {
			r.Sampling, r.LogProbs = vae.Sampling{}, false
			fast, res := ask(t, e, r)
			r.LogProbs = true
			slow, _ := ask(t, e, r)
			for i, tok := range fast.tokens {
				if tok.LogProb == tok.LogProb || slow.probs[i]&0x7f800000 == 0x7f800000 {
					t.Errorf("log-probabilities %v and %v", tok.LogProb, slow.tokens[i].LogProb)
				}
			}
			slow.probs = fast.probs
			if !fast.equal(slow) {
				t.Errorf("by the head: %v, by all logits %v", fast, slow)
			}
			if res.Tokens > 2 && (res.WeightBytes <= 0 || res.KVRead <= 0 || res.KVRows > 0 && res.KVBytes <= 0) {
				t.Errorf("nothing was read: %+v", res)
			}
		}
	})
}

// TestLogProbs compares them with the softmax of the logits.
func TestLogProbs(t *testing.T) {
	a := tinyBases()["llama"]
	e := NewLMEngine(&a, vaetest.RandomStore(t, cpu.New(), vae.List(func(b vae.Build[op.Mat]) { NewLM(&a, b) }), 1))
	prompt := []int32{8, 9, 10}
	got, _ := ask(t, e, Request{Sentences: [][]int32{prompt}, MaxTokens: 9, LogProbs: true, IgnoreStop: true,
		Sampling: vae.Sampling{Temperature: 1.5, TopK: 5, Seed: 1}})
	logits, err := e.Forward(append([]int32{a.BOS}, prompt...))
	for _, tok := range got.tokens {
		if err != nil {
			t.Fatal(err)
		}
		var sum float64
		for _, v := range logits {
			sum += math.Exp(float64(v))
		}
		want := float64(logits[tok.ID]) - math.Log(sum)
		if math.Abs(want-float64(tok.LogProb)) > 1e-5 { // float32 of numbers up to 10
			t.Errorf("token %d: log-probability %v, want %v", tok.ID, tok.LogProb, want)
		}
		logits, err = e.Forward([]int32{tok.ID})
	}
}

// TestLatentCache checks that sentences are encoded once, and that the cache keeps to its limit.
func TestLatentCache(t *testing.T) {
	c := tinyConfigs()["llama"]
	e := NewEngine(&c, vaetest.RandomStore(t, cpu.New(), vae.List(func(b vae.Build[op.Mat]) { New(&c, b) }), 1))
	r := Request{Sentences: [][]int32{{7, 8}, {9}, {7, 8}}, MaxTokens: 6, IgnoreStop: true, Boundary: fives{}}
	first, res := ask(t, e, r)
	if res.LatentLookups < 3 || res.LatentHits == res.LatentLookups {
		t.Errorf("first: %+v", res)
	}
	second, res := ask(t, e, r)
	if !second.equal(first) || res.LatentHits != res.LatentLookups {
		t.Errorf("again: %v, %+v; want %v and all latents known", second, res, first)
	}
	k := e.known
	k.most = 3 * (k.bytes / int64(k.recent.Len()))
	for i := range int32(100) {
		e.eager.Reset()
		x := e.eager.New(1, c.Base.HiddenSize)
		k.put([]int32{i, i}, x)
		if k.bytes > k.most || k.recent.Len() != len(k.byText) || k.get([]int32{i, i}).Absent() {
			t.Fatalf("%d bytes of %d, %d entries, %d known", k.bytes, k.most, k.recent.Len(), len(k.byText))
		}
	}
	if !k.get([]int32{7, 8}).Absent() || !k.get([]int32{1}).Absent() {
		t.Error("what was forgotten is known")
	}
}

// watched is a Keeper that writes down what it is told.
type watched struct {
	caches
	ids  []int32
	ends []int
	kv   *watchedKV
	last []int32
}

type watchedKV struct {
	*vae.Cache
	seals []int
	early bool // every seal came before its last row
}

func (w *watched) Open(ids []int32, ends []int) (vae.KV, error) {
	kv, err := w.caches.Open(ids, ends)
	w.ids, w.ends, w.kv = slices.Clone(ids), slices.Clone(ends), &watchedKV{kv.(*vae.Cache), nil, true}
	return w.kv, err
}

func (w *watched) Close(kv vae.KV, ids []int32) {
	w.last = slices.Clone(ids)
	w.caches.Close(kv.(*watchedKV).Cache, ids)
}

func (k *watchedKV) Seal(n int) error {
	k.seals = append(k.seals, n)
	k.early = k.early && k.Len() == n-1
	return nil
}

func (k *watchedKV) Stats() KVStats { return KVStats{Rows: k.Len(), Steps: 2, Scanned: 20} }

// TestKeeper checks what a Keeper is told: the prompt's tokens and ends, the ends of what is written, and in the end the
// tokens of all rows.
func TestKeeper(t *testing.T) {
	for name, a := range tinyBases() {
		t.Run(name, func(t *testing.T) {
			e := NewLMEngine(&a, vaetest.RandomStore(t, cpu.New(), vae.List(func(b vae.Build[op.Mat]) { NewLM(&a, b) }), 1))
			w := &watched{caches: caches{be: cpu.New()}}
			e.Keeper = w
			r := Request{Sentences: [][]int32{{7, 8}, {9, 10, 11}, {12}}, Open: true, MaxTokens: 20, IgnoreStop: true, Boundary: fives{},
				Sampling: vae.Sampling{Temperature: 2, Seed: 5}}
			got, res := ask(t, e, r)
			prompt := []int32{a.BOS, 7, 8, 9, 10, 11, 12}
			equal(t, "ids of the prompt", w.ids, prompt)
			equal(t, "ends of the prompt", w.ends, []int{3, 6})
			rows := slices.Clone(prompt)
			var ends []int
			for i, tok := range got.tokens {
				if i == len(got.tokens)-1 { // nothing follows it
					break
				}
				if rows = append(rows, tok.ID); tok.Ends {
					ends = append(ends, len(rows))
				}
			}
			if len(ends) == 0 {
				t.Fatal("no sentence was written: the test says nothing")
			}
			equal(t, "ends of what was written", w.kv.seals, ends)
			equal(t, "tokens of the rows", w.last, rows)
			if !w.kv.early || res.KVRows != len(rows) || res.KV == nil || res.KV.Rows != len(rows) || res.KVRead != 10 {
				t.Errorf("seals before their rows: %v; %+v", w.kv.early, res)
			}
		})
	}
}
