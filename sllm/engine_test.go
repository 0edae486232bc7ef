package sllm

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"testing"

	"svae/kernels"
	"svae/kernels/op"
	"svae/vae"
	"svae/vae/vaetest"
)

// fives ends a sentence behind each token that 5 divides.
type fives struct{}

func (fives) Reset() {}

func (fives) Push(id int32) bool { return id%5 == 0 }

// generate collects what an engine emits.
func generate(t *testing.T, e *Engine, r Request) ([]int32, Result) {
	t.Helper()
	var ids []int32
	res, err := e.Generate(t.Context(), r, func(tok Token) bool {
		ids = append(ids, tok.ID)
		return true
	})
	if err != nil {
		t.Fatal(err)
	}
	if res.Tokens != len(ids) {
		t.Fatalf("%d tokens counted, %d emitted", res.Tokens, len(ids))
	}
	return ids, res
}

// reader drives the sentence steps of an engine by hand, for one document.
type reader struct {
	e *Engine
	j *job[*story]
}

func newReader(t *testing.T, e *Engine) *reader {
	t.Helper()
	r := &reader{e, &job[*story]{state: &story{sampler: vae.NewSampler(vae.Sampling{})}}}
	if err := e.openStory(r.j); err != nil {
		t.Fatal(err)
	}
	return r
}

// read runs sentences and returns the hidden rows of the last.
func (r *reader) read(t *testing.T, sentences ...[]int32) op.Mat {
	t.Helper()
	e := r.e
	e.reading.jobs = append(e.reading.jobs[:0], r.j)
	r.j.state.read = sentences
	e.eager.Reset()
	e.layRows()
	h := e.fillRows()
	if h.R > 0 {
		h = e.model.step(e.eager, h, &e.reading.seq, e.reading.past)
	}
	if err := e.eager.Err(); err != nil {
		t.Fatal(err)
	}
	a := e.reading.at[0]
	return h.Rows(a.last, a.hi)
}

// TestCachedStep runs the sentences of a document one at a time over the cache, from every point on: hidden rows must be
// those of the whole document at once, to the bit, with the latents of its sentences known from before or not.
func TestCachedStep(t *testing.T) {
	eachModel(t, func(t *testing.T, c *Config, s *vae.Store) {
		p := randomPiece(rand.New(rand.NewPCG(1, 1)), true, 4, 1, 6, 3)
		want := look(t, c, s, []piece{p})[0].hidden
		e := NewEngine(c, s)
		for known := range p.sentences {
			if known == 2 {
				e.known = newLatentCache(s.Backend())
			}
			r := newReader(t, e)
			h := r.read(t, p.sentences[:known]...)
			if h.R > 0 || !c.Direct {
				equal(t, "prefilled rows", vaetest.Host(s.Backend(), h.Buf), want[known])
			}
			for j, ids := range p.sentences[known:] {
				equal(t, "rows of a step", vaetest.Host(s.Backend(), r.read(t, ids).Buf), want[known+j+1])
			}
			e.closeStory(r.j)
		}
		next := func(ids ...int32) []float64 {
			r := newReader(t, e)
			defer e.closeStory(r.j)
			r.read(t, p.sentences...)
			return vaetest.Host(s.Backend(), r.read(t, ids).Buf)
		}
		if slices.Equal(next(9, 8), next(9, 7)) {
			t.Error("two sentences lead to the same hidden rows")
		}
	})
}

// TestCachedTokens does the same for tokens.
func TestCachedTokens(t *testing.T) {
	eachLM(t, func(t *testing.T, a *vae.Arch, s *vae.Store) {
		ids := append([]int32{a.BOS}, randomTokens(rand.New(rand.NewPCG(2, 2)), 20)...)
		o, m, be := op.NewEager(s.Backend()), NewLM(a, s.Mat), s.Backend()
		var seq vae.Seq
		seq.Next(0, len(ids), a.PosOffset())
		h := m.Hidden(o, &op.Ints{V: ids}, &seq, nil)
		logits := o.Linear(h, m.head, op.Mat{}, kernels.None)
		want := make([]float32, logits.Buf.Len())
		be.Download(want, logits.Buf)
		e := NewLMEngine(a, s)
		for _, known := range []int{1, 2, 9, len(ids)} {
			e.Reset()
			got, err := e.Forward(ids[:known])
			for i := known; ; i++ {
				if err != nil {
					t.Fatal(err)
				}
				equal(t, "logits", got, want[(i-1)*a.VocabSize:i*a.VocabSize])
				if i == len(ids) {
					break
				}
				got, err = e.Forward(ids[i : i+1])
			}
		}
	})
}

// oracle generates greedily without any cache: for every token it runs the whole model over all sentences.
func oracle(t *testing.T, c *Config, s *vae.Store, r Request) (ids []int32, finish Finish) {
	t.Helper()
	e, m := op.NewEager(s.Backend()), New(c, s.Mat)
	run := func(sentences [][]int32) (stop, token int) {
		e.Reset()
		b := pack([]piece{{sentences, true}})
		var f Feed
		f.Set(c, b.ids, b.sent, b.doc, b.ends, nil, Real)
		h := m.Hidden(e, m.Encoder.Encode(e, &f.Enc), &f)
		x := m.Decoder.Decode(e, &f.Dec, m.Decoder.Memory(m.Plan(e, m.plans(e, &f, h)), &f.Dec), nil)
		last := x.R - 1
		if c.VAE.EndMark {
			last--
		}
		best := func(m op.Mat) int {
			v := vaetest.Host(s.Backend(), m.Buf)
			return slices.Index(v, slices.Max(v))
		}
		stop = 1
		if n := len(sentences); n > 1 { // what the row behind the last but one says
			stop = best(e.Linear(e.Gather(&op.Ints{V: f.StopRows.V[n-2 : n-1]}, h), m.stop.W, m.stop.B, kernels.None))
		}
		token = best(e.Linear(x.Rows(last, last+1), m.Decoder.Head, m.Decoder.Bias, kernels.None))
		return stop, token
	}
	all := slices.Clone(r.Sentences)
	var now []int32
	if r.Open {
		now, all = slices.Clone(all[len(all)-1]), all[:len(all)-1]
	}
	for {
		stop, token := run(append(all, append(slices.Clone(now), 5))) // the last token is not seen
		if len(now) == 0 && stop == 0 {
			return ids, Stopped
		}
		if len(ids) == r.MaxTokens {
			return ids, Length
		}
		if c.VAE.EndMark && token == int(c.VAE.Arch.EOS) {
			if len(now) == 0 {
				return ids, Stopped
			}
		} else {
			now, ids = append(now, int32(token)), append(ids, int32(token))
			if (c.VAE.EndMark || !r.Boundary.Push(int32(token))) && len(now) < c.VAE.MaxSentence {
				continue
			}
		}
		all, now = append(all, now), nil
	}
}

// TestGenerateIsTheModel compares greedy generation over caches with the whole model run anew for every token: from
// nothing, from whole sentences, and from a sentence that is not finished.
func TestGenerateIsTheModel(t *testing.T) {
	prompts := map[string]Request{
		"empty": {},
		"whole": {Sentences: [][]int32{{7, 8, 9}, {10}}},
		"open":  {Sentences: [][]int32{{7, 8, 9}, {10, 11, 12, 13}, {14, 15}}, Open: true},
		"one":   {Sentences: [][]int32{{14}}, Open: true},
	}
	eachModel(t, func(t *testing.T, c *Config, s *vae.Store) {
		// The stop head of random weights ends most documents at once.
		b := s.Buf("stop_head.bias")
		s.Backend().Upload(b, []float32{-2, 0})
		c.VAE.MaxSentence = 6
		e := NewEngine(c, s)
		for name, r := range prompts {
			r.MaxTokens = 17
			r.Boundary = fives{}
			want, finish := oracle(t, c, s, r)
			got, res := generate(t, e, r)
			equal(t, name, got, want)
			if res.Finish != finish {
				t.Errorf("%s: finish %q, want %q", name, res.Finish, finish)
			}
		}
	})
}

// TestCaps checks that no cap is passed and that what was counted was written.
func TestCaps(t *testing.T) {
	eachModel(t, func(t *testing.T, c *Config, s *vae.Store) {
		e := NewEngine(c, s)
		hot := vae.Sampling{Temperature: 1, Seed: 1}
		most := c.VAE.MaxSentence
		// Without a rule only end marks end a sentence before its cap.
		ids, res := generate(t, e, Request{MaxTokens: 2*most + 3, IgnoreStop: true, Sampling: hot})
		if len(ids) != 2*most+3 || res.Finish != Length || !c.VAE.EndMark && res.Sentences != 3 {
			t.Errorf("%d tokens, %+v; want %d in 3 sentences", len(ids), res, 2*most+3)
		}
		_, res = generate(t, e, Request{MaxTokens: 2 * most, IgnoreStop: true, Sampling: hot})
		if !c.VAE.EndMark && res.Sentences != 2 {
			t.Errorf("%d sentences counted, 2 written", res.Sentences)
		}
		ids, res = generate(t, e, Request{MaxTokens: 1000, MaxSentences: 3, IgnoreStop: true, Sampling: hot, Boundary: fives{}})
		ends := 0
		for _, id := range ids {
			if id%5 == 0 {
				ends++
			}
		}
		if res.Finish != Length || res.Sentences != 3 || !c.VAE.EndMark && ends > 3 {
			t.Errorf("%+v, %d ends; want 3 sentences", res, ends)
		}
		if ids, res = generate(t, e, Request{Sampling: hot}); len(ids) != 0 || res.Finish != Length || res.Sentences != 0 {
			t.Errorf("no tokens wanted: %d tokens, %+v", len(ids), res)
		}
		_, res = generate(t, e, Request{Sentences: [][]int32{{9}}, MaxTokens: 10000, IgnoreStop: true, Sampling: hot, Boundary: fives{}})
		rows := res.KVRows
		if res.Finish != Length || rows > c.Base.Positions || rows+c.VAE.LatentCount(most) <= c.Base.Positions {
			t.Errorf("%+v with %d rows; the base has %d positions", res, rows, c.Base.Positions)
		}
	})
}

// TestIgnoreStop lets the model want nothing but to end: it must write all the same.
func TestIgnoreStop(t *testing.T) {
	eachModel(t, func(t *testing.T, c *Config, s *vae.Store) {
		s.Backend().Upload(s.Buf("stop_head.bias"), []float32{1000, 0})
		if c.VAE.EndMark {
			b := make([]float32, c.Base.VocabSize)
			b[c.VAE.Arch.EOS] = 1000
			s.Backend().Upload(s.Buf("decoder.lm_head.bias"), b)
		}
		c.VAE.MaxSentence = 2
		e := NewEngine(c, s)
		r := Request{Sentences: [][]int32{{9}}, MaxTokens: 5}
		if ids, res := generate(t, e, r); len(ids) != 0 || res.Finish != Stopped || res.Sentences != 0 {
			t.Errorf("%d tokens, %+v; want none", len(ids), res)
		}
		r.IgnoreStop = true
		if ids, res := generate(t, e, r); len(ids) != 5 || res.Finish != Length {
			t.Errorf("%d tokens, %+v; want 5", len(ids), res)
		}
	})
}

// TestTokenCaps checks the caps for a token-level model.
func TestTokenCaps(t *testing.T) {
	eachLM(t, func(t *testing.T, a *vae.Arch, s *vae.Store) {
		e := NewLMEngine(a, s)
		for _, c := range []struct {
			r                 Request
			tokens, sentences int // 0: any
		}{
			{Request{MaxTokens: 7, IgnoreStop: true}, 7, 1},
			{Request{MaxTokens: 1000, IgnoreStop: true}, a.Positions - 1, 1},
			{Request{MaxTokens: 1000, IgnoreStop: true, MaxSentences: 2, Boundary: fives{}, Sampling: vae.Sampling{Temperature: 1, Seed: 4}}, 0, 2},
			{Request{Sentences: [][]int32{{8, 9}, {10}}, MaxTokens: 1000, IgnoreStop: true}, a.Positions - 4, 1},
		} {
			n := 0
			res, err := e.Generate(t.Context(), c.r, func(Token) bool { n++; return true })
			if err != nil || n != res.Tokens || c.tokens > 0 && n != c.tokens || res.Sentences != c.sentences || res.Finish != Length {
				t.Errorf("%+v: %d tokens, %+v, %v", c, n, res, err)
			}
		}
	})
}

// TestStopping checks that a caller is obeyed within a token.
func TestStopping(t *testing.T) {
	type gen func(context.Context, Request, func(Token) bool) (Result, error)
	check := func(t *testing.T, generate gen) {
		r := Request{Sentences: [][]int32{{7, 8, 9}}, MaxTokens: 50, IgnoreStop: true, Boundary: fives{}, Sampling: vae.Sampling{Temperature: 1, Seed: 3}}
		for _, after := range []int{1, 5, 12} {
			n := 0
			res, err := generate(t.Context(), r, func(Token) bool { n++; return n < after })
			if err != nil || res.Finish != Halted || n != after || res.Tokens != after {
				t.Errorf("halted after %d tokens: %d emitted, %+v, %v", after, n, res, err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			n = 0
			_, err = generate(ctx, r, func(Token) bool {
				if n++; n == after {
					cancel()
				}
				return true
			})
			if !errors.Is(err, context.Canceled) || n != after {
				t.Errorf("cancelled after %d tokens: %d emitted, %v", after, n, err)
			}
			cancel()
		}
	}
	eachModel(t, func(t *testing.T, c *Config, s *vae.Store) { check(t, NewEngine(c, s).Generate) })
	eachLM(t, func(t *testing.T, a *vae.Arch, s *vae.Store) { check(t, NewLMEngine(a, s).Generate) })
}

// TestSeeds checks that tokens follow from the seed alone.
func TestSeeds(t *testing.T) {
	eachModel(t, func(t *testing.T, c *Config, s *vae.Store) {
		e := NewEngine(c, s)
		write := func(seed uint64) []int32 {
			ids, _ := generate(t, e, Request{MaxTokens: 30, IgnoreStop: true, Boundary: fives{}, Sampling: vae.Sampling{Temperature: 1, Seed: seed}})
			return ids
		}
		first := write(1)
		if slices.Equal(first, write(2)) {
			t.Error("two seeds give the same tokens")
		}
		equal(t, "tokens of the same seed", write(1), first)
	})
}

// TestSmallest runs the smallest inputs there are; look fails on a NaN.
func TestSmallest(t *testing.T) {
	eachModel(t, func(t *testing.T, c *Config, s *vae.Store) {
		one := piece{[][]int32{{9}}, true}
		look(t, c, s, []piece{one})
		look(t, c, s, []piece{one, {[][]int32{{9}}, false}, {[][]int32{{5}, {6}, {7}}, true}})
		e := NewEngine(c, s)
		for _, r := range []Request{{}, {Open: true}, {Sentences: [][]int32{{9}}}} {
			r.MaxTokens, r.IgnoreStop = 3, true
			if ids, _ := generate(t, e, r); len(ids) != 3 {
				t.Errorf("%+v: %d tokens, want 3", r, len(ids))
			}
		}
		if h := newReader(t, e).read(t); h.R > 0 {
			finite(t, vaetest.Host(s.Backend(), h.Buf))
		}
	})
}
