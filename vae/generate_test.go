package vae_test

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"svae/kernels"
	"svae/kernels/op"
	"svae/vae"
	"svae/vae/vaetest"
)

// eachModel runs a test on the models of the fixtures, on every float32 backend, and on one that decodes in context.
func eachModel(t *testing.T, f func(t *testing.T, c *vae.Config, s *vae.Store)) {
	for name, path := range fixtures(t) {
		for backend, be := range vaetest.Backends() {
			if be.DType() != kernels.F32 {
				continue
			}
			t.Run(name+"/"+backend, func(t *testing.T) {
				g := vaetest.Open(t, path, be.DType())
				c := g.Config()
				s := g.Store(be, vae.List(func(b vae.Build[op.Mat]) { vae.New(&c, b) }))
				f(t, &c, s)
				if c.Context = 3; !c.EndMark {
					f(t, &c, s)
				}
			})
		}
	}
}

// TestWriterIsTheDecoder writes sentences token by token over caches, each from wherever the writer takes over, alone and
// all of them at the same time: the rows must be those of the whole decoder, to the bit.
func TestWriterIsTheDecoder(t *testing.T) {
	ids := []int32{5, 6, 7, 8, 9, 10, 11, 12, 13, 14}
	sent, doc := []int32{0, 3, 4, 10}, []int32{0, 3}
	eachModel(t, func(t *testing.T, c *vae.Config, s *vae.Store) {
		be := s.Backend()
		m, o := vae.New(c, s.Mat), op.NewEager(be)
		var f vae.Feed
		f.Set(c, ids, sent, doc, nil)
		z := m.Encoder.Encode(o, &f.Enc)
		x := m.Decoder.Decode(o, &f.Dec, m.Decoder.Memory(z, &f.Dec), nil)
		if err := o.Err(); err != nil {
			t.Fatal(err)
		}
		want := vaetest.Host(be, x.Buf)
		s.Pack()
		defer s.Unpack()
		var all []*written
		first := 0
		for i := range len(sent) - 1 {
			toks := ids[sent[i]:sent[i+1]]
			rows := len(toks)
			if c.EndMark {
				rows++
			}
			for start := range rows {
				all = append(all, &written{lo: int(f.Enc.At[i]), hi: int(f.Enc.At[i+1]), before: ids[:sent[i]], toks: toks, at: start,
					row: first, rows: rows, width: x.C})
			}
			first += rows
		}
		w := vae.NewWriter(c, s)
		for i, one := range all {
			w.Plans(z)
			x := *one
			for x.ask(w, 5*i%7) {
				x.check(t, w, be, want)
			}
		}
		w.Plans(z)
		for step := 0; ; step++ {
			var now []*written
			for i, x := range all {
				if i <= 2*step && x.ask(w, len(all)-1-i) {
					now = append(now, x)
				}
			}
			if len(now) == 0 {
				break
			}
			now[0].check(t, w, be, want, now[1:]...)
			w.Plans(z)
		}
	})
}

// written is a sentence that a Writer is given token by token from token at on.
type written struct {
	lo, hi       int // latents
	before, toks []int32
	at, row      int // next token; row of the decoder's first
	rows, width  int
	begun        bool
}

// ask lets the next pass take in the sentence's next token; false if there is none.
func (x *written) ask(w *vae.Writer, slot int) bool {
	switch {
	case x.at == x.rows:
		return false
	case x.begun:
		w.Push(slot, x.toks[x.at-1])
	default:
		w.Begin(slot, x.lo, x.hi, x.before, x.toks[:x.at])
	}
	x.begun = true
	x.at++
	return true
}

// check runs a pass, whose rows are those of x and of others, in turn.
func (x *written) check(t *testing.T, w *vae.Writer, be kernels.Backend, want []float64, others ...*written) {
	t.Helper()
	got, err := w.Step()
	if err != nil || got.R != 1+len(others) {
		t.Fatalf("%d rows, want %d: %v", got.R, 1+len(others), err)
	}
	for i, x := range append([]*written{x}, others...) {
		at := (x.row + x.at - 1) * x.width
		if !slices.Equal(vaetest.Host(be, got.Rows(i, i+1).Buf), want[at:at+x.width]) {
			t.Fatalf("row %d of a sentence of %d tokens is another (%d of %d in the pass)", x.at-1, len(x.toks), i, got.R)
		}
	}
}

// TestCodecWritesGreedily checks the free-running round trip against the decoder run anew for every token.
func TestCodecWritesGreedily(t *testing.T) {
	eachModel(t, func(t *testing.T, c *vae.Config, s *vae.Store) {
		codec := vae.NewCodec(c, s)
		z, at, err := codec.Encode([]int32{5, 6, 7, 8}, []int32{0, 1, 4})
		if err != nil {
			t.Fatal(err)
		}
		for i := range 2 {
			got, err := codec.Decode(z.Rows(int(at[i]), int(at[i+1])), nil, nil, vae.NewSampler(vae.Sampling{}))
			if err != nil {
				t.Fatal(err)
			}
			var want []int32
			m, o := vae.New(c, s.Mat), op.NewEager(s.Backend())
			for len(want) < c.MaxSentence {
				o.Reset()
				var f vae.DecoderFeed
				n := int32(len(want) + 1)
				f.Set(c, append(slices.Clone(want), 0), []int32{0, n}, []int32{0, 1}, nil, []int32{0, at[i+1] - at[i]})
				x := m.Decoder.Decode(o, &f, m.Decoder.Memory(z.Rows(int(at[i]), int(at[i+1])), &f), nil)
				logits := vaetest.Host(s.Backend(), o.Linear(x.Rows(int(n)-1, int(n)), m.Decoder.Head, m.Decoder.Bias, kernels.None).Buf)
				best := int32(slices.Index(logits, slices.Max(logits)))
				if c.EndMark && best == c.Arch.EOS {
					break
				}
				want = append(want, best)
			}
			if !slices.Equal(got, want) {
				t.Errorf("sentence %d: wrote %v, want %v", i, got, want)
			}
		}
	})
}

// TestConstantCross compares the constant that cross-attention over one latent is with attention over that latent. Its
// one weight is exactly 1, so that they are equal to the bit.
func TestConstantCross(t *testing.T) {
	for name, path := range fixtures(t) {
		for backend, be := range vaetest.Backends() {
			t.Run(name+"/"+backend, func(t *testing.T) {
				c := vaetest.Open(t, path, be.DType()).Config()
				c.Latents, c.CrossQK = 1, true // the query and key maps must be there
				s := vaetest.RandomStore(t, be, vae.List(func(b vae.Build[op.Mat]) { vae.New(&c, b) }), 1)
				m, o := vae.New(&c, s.Mat), op.NewEager(be)
				var f vae.Feed
				f.Set(&c, []int32{5, 6, 7, 8, 9, 10}, []int32{0, 4, 5, 6}, []int32{0, 2, 3}, nil)
				z := m.Encoder.Encode(o, &f.Enc)
				constant := m.Decoder.Decode(o, &f.Dec, m.Decoder.Memory(z, &f.Dec), nil)
				general := m.Decoder.Decode(o, &f.Dec, &vae.Memory[op.Mat]{Latents: z, At: &f.Dec.At, Spans: &f.Dec.MemSpans}, nil)
				other := m.Decoder.Decode(o, &f.Dec, m.Decoder.Memory(o.Gather(&op.Ints{V: []int32{2, 0, 1}}, z), &f.Dec), nil)
				if err := o.Err(); err != nil {
					t.Fatal(err)
				}
				a, b := vaetest.Host(be, constant.Buf), vaetest.Host(be, general.Buf)
				if !slices.Equal(a, b) {
					t.Errorf("constant and attention differ: %v, %v", a[:4], b[:4])
				}
				if slices.Equal(a, vaetest.Host(be, other.Buf)) {
					t.Error("the latents make no difference")
				}
			})
		}
	}
}

// TestSampler checks which tokens each rule allows, and how often they come.
func TestSampler(t *testing.T) {
	logits := []float32{0, float32(math.Log(5)), float32(math.Log(4)), float32(math.Log(5)), -50} // 1 : 5 : 4 : 5 : 0
	for _, c := range []struct {
		name string
		s    vae.Sampling
		want []float64 // shares
	}{
		{"greedy: the lowest id of equals", vae.Sampling{}, []float64{0, 1, 0, 0, 0}},
		{"top-k 1 is greedy", vae.Sampling{Temperature: 2, TopK: 1}, []float64{0, 1, 0, 0, 0}},
		{"a tiny top-p is greedy", vae.Sampling{Temperature: 2, TopP: 1e-9}, []float64{0, 1, 0, 0, 0}},
		{"temperature 1 is the distribution", vae.Sampling{Temperature: 1}, []float64{1. / 15, 5. / 15, 4. / 15, 5. / 15, 0}},
		{"temperature 1/2 squares it", vae.Sampling{Temperature: 0.5}, []float64{1. / 67, 25. / 67, 16. / 67, 25. / 67, 0}},
		{"top-k 2", vae.Sampling{Temperature: 1, TopK: 2}, []float64{0, 0.5, 0, 0.5, 0}},
		{"top-k of more than there are", vae.Sampling{Temperature: 1, TopK: 99}, []float64{1. / 15, 5. / 15, 4. / 15, 5. / 15, 0}},
		{"top-p reaches 0.7 with three", vae.Sampling{Temperature: 1, TopP: 0.7}, []float64{0, 5. / 14, 4. / 14, 5. / 14, 0}},
		{"top-p of what top-k left", vae.Sampling{Temperature: 1, TopK: 3, TopP: 0.7}, []float64{0, 0.5, 0, 0.5, 0}},
	} {
		const n = 20000
		s := vae.NewSampler(c.s)
		var count [5]float64
		for range n {
			count[s.Choose(logits)]++
		}
		for id, want := range c.want {
			got := count[id] / n
			if sd := math.Sqrt(want * (1 - want) / n); math.Abs(got-want) > 4*sd { // 4 sigma, of a fixed seed
				t.Errorf("%s: token %d comes %.4f of the time, want %.4f", c.name, id, got, want)
			}
		}
	}
}

// TestSamplerSeed checks that the seed alone decides.
func TestSamplerSeed(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	logits := make([]float32, 50)
	for i := range logits {
		logits[i] = float32(r.NormFloat64())
	}
	draw := func(seed uint64) (ids []int32) {
		s := vae.NewSampler(vae.Sampling{Temperature: 1, Seed: seed})
		for range 40 {
			ids = append(ids, s.Choose(logits))
		}
		return ids
	}
	if !slices.Equal(draw(1), draw(1)) || slices.Equal(draw(1), draw(2)) {
		t.Error("tokens do not follow from the seed")
	}
	for _, bad := range []vae.Sampling{{Temperature: -1}, {Temperature: math.NaN()}, {TopK: -1}, {TopP: 1.5}, {TopP: math.NaN()}} {
		if bad.Validate() == nil {
			t.Errorf("%+v is accepted", bad)
		}
	}
}
