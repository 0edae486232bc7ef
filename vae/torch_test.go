package vae_test

import (
	"path/filepath"
	"strings"
	"testing"

	"svae/kernels/op"
	"svae/vae"
	"svae/vae/vaetest"
)

// fixtures are the files of testdata, by name.
func fixtures(t *testing.T) map[string]string {
	t.Helper()
	paths, err := filepath.Glob("testdata/svae-*.safetensors")
	if err != nil || len(paths) != 5 {
		t.Fatalf("%d fixtures, want 5 (%v)", len(paths), err)
	}
	m := map[string]string{}
	for _, p := range paths {
		m[strings.TrimSuffix(filepath.Base(p), ".safetensors")] = p
	}
	return m
}

// TestTorch compares packed rows with PyTorch's padded ones: latents, nats, loss, every gradient, ten steps of AdamW.
func TestTorch(t *testing.T) {
	for name, path := range fixtures(t) {
		for backend, be := range vaetest.Backends() {
			t.Run(name+"/"+backend, func(t *testing.T) {
				f := vaetest.Open(t, path, be.DType())
				c := f.Config()
				s := f.Store(be, vae.List(func(b vae.Build[op.Mat]) { vae.New(&c, b) }))
				var feed vae.Feed
				feed.Set(&c, f.Ints("ids"), f.Ints("sent"), f.Ints("doc"), nil)

				e := op.NewEager(be)
				m := vae.New(&c, s.Mat)
				f.Rows(be, "latents", m.Encoder.Encode(e, &feed.Enc))
				m.Loss(e, &feed)
				if err := e.Err(); err != nil {
					t.Fatal(err)
				}
				eager := append([]float64{}, feed.Dec.Targets.Nats...)
				f.Nats("nats", eager)
				f.Loss(feed.Dec.Targets.Loss)

				g := op.NewGraph(be)
				machine, err := g.Compile(vae.New(&c, vaetest.Graph(g, s)).Loss(g, &feed))
				if err != nil {
					t.Fatal(err)
				}
				defer machine.Close()
				f.Train(s, machine, func() {
					for i, n := range feed.Dec.Targets.Nats {
						if n != eager[i] {
							t.Fatalf("nats[%d] of the graph is %v, eager %v", i, n, eager[i])
						}
					}
				})
			})
		}
	}
}
