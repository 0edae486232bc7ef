package sllm

import (
	"path/filepath"
	"strings"
	"testing"

	"svae/kernels/op"
	"svae/vae"
	"svae/vae/vaetest"
)

// fixture is a sentence-level or token-level model that PyTorch computed, and its batch.
type fixture struct {
	*vaetest.Golden
	lm     bool
	cfg    Config
	arch   vae.Arch
	feed   Feed
	lmFeed LMFeed
}

func openFixture(g *vaetest.Golden, lm bool) *fixture {
	f := &fixture{Golden: g, lm: lm, arch: g.Arch(), cfg: Config{Base: g.Arch(), VAE: g.Config(), LatentScale: 1}}
	ids, sent, doc, ends := g.Ints("ids"), g.Ints("sent"), g.Ints("doc"), g.Bools("end")
	if lm {
		f.lmFeed.Set(&f.arch, ids, sent, doc, ends)
	} else {
		f.feed.Set(&f.cfg, ids, sent, doc, ends, nil, Real)
	}
	return f
}

// goldenLoss builds the fixture's model over any values and returns its loss.
func goldenLoss[X comparable](f *fixture, o op.Set[X], get vae.Build[X]) X {
	if f.lm {
		return NewLM(&f.arch, get).Loss(o, &f.lmFeed)
	}
	return New(&f.cfg, get).Loss(o, &f.feed)
}

func (f *fixture) weights() []vae.Weight {
	return vae.List(func(get vae.Build[op.Mat]) {
		if f.lm {
			NewLM(&f.arch, get)
		} else {
			New(&f.cfg, get)
		}
	})
}

// losses returns the sum of the losses and the nats of all targets, and of those of the stop flag.
func (f *fixture) losses() (sum float64, nats, stop []float64) {
	if f.lm {
		return f.lmFeed.Targets.Loss, append(nats, f.lmFeed.Targets.Nats...), nil
	}
	for i, id := range f.feed.Stop.IDs {
		if id >= 0 {
			stop = append(stop, f.feed.Stop.Nats[i])
		}
	}
	return f.feed.Dec.Targets.Loss + f.feed.Stop.Loss, append(nats, f.feed.Dec.Targets.Nats...), stop
}

// rows compares what the model computes before its losses.
func (f *fixture) rows(e *op.Eager, s *vae.Store) {
	if f.lm {
		m := NewLM(&f.arch, s.Mat)
		f.Rows(s.Backend(), "hidden", m.backbone.Run(e, m.embed.Apply(e, &f.lmFeed.IDs, &f.lmFeed.Seq.Pos), &f.lmFeed.Seq, nil))
		return
	}
	m := New(&f.cfg, s.Mat)
	z := m.Encoder.Encode(e, &f.feed.Enc)
	h := m.Hidden(e, z, &f.feed)
	f.Rows(s.Backend(), "latents", z)
	f.Rows(s.Backend(), "hidden", h)
	f.Rows(s.Backend(), "memory", m.Plan(e, e.Gather(&f.feed.Plan, h)))
}

// TestTorch compares packed rows with PyTorch's padded ones: latents, hidden rows, memory, nats, loss, every gradient,
// ten steps of AdamW.
func TestTorch(t *testing.T) {
	paths, err := filepath.Glob("testdata/*.safetensors")
	if err != nil || len(paths) != 7 {
		t.Fatalf("%d fixtures, want 7 (%v)", len(paths), err)
	}
	for _, path := range paths {
		name := strings.TrimSuffix(filepath.Base(path), ".safetensors")
		for backend, be := range vaetest.Backends() {
			t.Run(name+"/"+backend, func(t *testing.T) {
				f := openFixture(vaetest.Open(t, path, be.DType()), strings.HasPrefix(name, "lm-"))
				s := f.Store(be, f.weights())
				e := op.NewEager(be)
				f.rows(e, s)
				goldenLoss(f, e, s.Mat)
				if err := e.Err(); err != nil {
					t.Fatal(err)
				}
				loss, nats, stop := f.losses()
				f.Loss(loss)
				f.Nats("nats", nats)
				if !f.lm {
					f.Nats("stop_nats", stop)
				}

				g := op.NewGraph(be)
				m, err := g.Compile(goldenLoss(f, g, vaetest.Graph(g, s)))
				if err != nil {
					t.Fatal(err)
				}
				defer m.Close()
				f.Train(s, m, func() {
					_, again, stopAgain := f.losses()
					equal(t, "nats of the graph, eager", again, nats)
					equal(t, "stop nats of the graph, eager", stopAgain, stop)
				})
			})
		}
	}
}

// equal fails unless two slices are equal to the bit.
func equal[T comparable](t *testing.T, what string, got, want []T) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%s: %d elements, want %d", what, len(got), len(want))
	}
	for i := range got {
		if got[i] != want[i] {
			t.Fatalf("%s: element %d is %v, want %v", what, i, got[i], want[i])
		}
	}
}
