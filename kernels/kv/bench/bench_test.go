package bench

import (
	"bytes"
	"context"
	"errors"
	"math"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"svae/kernels/kv"

	_ "svae/kernels/cpu"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// small makes keys that turn.
func small(n int) *Sequence {
	s := Generate(1, n, 3)
	for c := range s.HeadDim / 2 {
		s.RopeFreqs = append(s.RopeFreqs, float32(math.Pow(10000, -2*float64(c)/float64(s.HeadDim))))
	}
	return s
}

func TestRun(t *testing.T) {
	if testing.Short() {
		t.Skip("times attention")
	}
	for _, typ := range []kv.Type{kv.F32, kv.I8} {
		for _, share := range []float64{0, 0.2} {
			rows, err := Run(context.Background(), Config{Rows: []int{600, 1500}, Sequence: small(400), Policies: []string{"dense", "ours", "recent"},
				Budget: kv.Budget{Rows: 300}, Steps: 6, Type: typ, RAMShare: share, Path: filepath.Join(t.TempDir(), "rows")})
			must(t, err)
			if len(rows) != 6 {
				t.Fatalf("%d rows", len(rows))
			}
			for i, r := range rows {
				if r.Policy != []string{"dense", "ours", "recent"}[i%3] || r.Rows != []int{600, 1500}[i/3] || r.Dense <= 0 || r.Time <= 0 ||
					!(r.Ratio > 0) || !(r.RooflineShare > 0) || r.BytesRead <= 0 || r.StoreBytes <= 0 || r.Type != typ.String() {
					t.Errorf("%+v", r)
				}
				if i%3 == 0 && !(r.Mass > 0.9999) || i%3 == 1 && r.RowsRead > 300 || r.Mass > 1 || r.MassP5 > r.Mass+1e-9 {
					t.Errorf("%s keeps %v (p5 %v) with %v rows", r.Policy, r.Mass, r.MassP5, r.RowsRead)
				}
				if share > 0 && i == 4 && (r.HitRatio == 0 || r.HitRatio == 1) {
					t.Errorf("hit ratio %v with a part of the rows in RAM", r.HitRatio)
				}
			}
			if rows[4].Mass <= rows[5].Mass {
				t.Errorf("ours keeps %v, the latest rows alone %v", rows[4].Mass, rows[5].Mass)
			}
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := Run(ctx, Config{Rows: []int{600}, Sequence: small(400)}); !errors.Is(err, context.Canceled) {
		t.Errorf("a cancelled run gives %v", err)
	}
	for _, c := range []Config{{Rows: []int{10}}, {Steps: 9000}, {Keys: "nowhere"}, {Policies: []string{"best"}, Rows: []int{600}},
		{Sequence: &Sequence{}}} {
		if _, err := Run(context.Background(), c); err == nil {
			t.Errorf("%+v was accepted", c)
		}
	}
}

// TestExtend: scores of the last text are what they were; the first row stays; needles are found.
func TestExtend(t *testing.T) {
	const N, n, tail = 400, 1700, 40
	s := small(N)
	W, wq := 128, 14*64
	k, v := make([]float32, n*W), make([]float32, n*W)
	x := s.Extend(k, v, 0, n, tail, 0, 0, 1)
	if !slices.Equal(k[:W], s.Layers[0].K[:W]) || !slices.Equal(v[(n-1)*W:], s.Layers[0].V[(N-1)*W:]) || x.Boundaries[0] <= 0 {
		t.Fatal("the ends moved")
	}
	at := 0
	for _, b := range x.Boundaries {
		if b <= at || b > n {
			t.Fatalf("a sentence ends at %d after %d", b, at)
		}
		at = b
	}
	for i := range tail {
		for _, back := range []int{0, 1, 17, 300} {
			row := N - tail + i - back
			a := dot(s.Layers[0].Q[(N-tail+i)*wq:][:64], s.Layers[0].K[row*W:][:64])
			b := dot(x.Q[i*wq:][:64], k[(n-N+row)*W:][:64])
			if math.Abs(float64(a-b)) > 1e-3*(1+math.Abs(float64(a))) {
				t.Fatalf("query %d scores %v, %d rows back, where it scored %v", i, b, back, a)
			}
		}
	}
	x = s.Extend(k, v, 0, n, tail, 0.2, 5, 1)
	if len(x.Needles) != 5 {
		t.Fatalf("needles %v", x.Needles)
	}
	for i, row := range x.Needles[4:] { // the last planted
		mean := make([]float32, 64)
		for g := range 7 {
			for c := range mean {
				mean[c] += x.Q[((4+i)*14+g)*64+c] / 7
			}
		}
		best, at := float32(math.Inf(-1)), 0
		for r := range n {
			if z := dot(mean, k[r*W:][:64]); z > best*(1+1e-5) {
				best, at = z, r
			}
		}
		if z := dot(mean, k[row*W:][:64]); z < best*(1-1e-4) {
			t.Errorf("needle %d scores %v, row %d %v", row, z, at, best)
		}
	}
	again := make([]float32, n*W)
	s.Extend(again, make([]float32, n*W), 0, n, tail, 0.2, 5, 1)
	if !slices.Equal(k, again) {
		t.Error("the same seed gives other keys")
	}
}

func TestFile(t *testing.T) {
	s := small(150)
	s.Interleaved = true
	var b bytes.Buffer
	must(t, s.Write(&b))
	path := filepath.Join(t.TempDir(), "keys")
	must(t, os.WriteFile(path, b.Bytes(), 0o600))
	got, err := ReadSequence(path)
	must(t, err)
	if got.Heads != 14 || got.KVHeads != 2 || got.HeadDim != 64 || !got.Interleaved || !slices.Equal(got.RopeFreqs, s.RopeFreqs) ||
		!slices.Equal(got.Boundaries, s.Boundaries) || !slices.Equal(got.Layers[0].Q, s.Layers[0].Q) ||
		!slices.Equal(got.Layers[0].K, s.Layers[0].K) || !slices.Equal(got.Layers[0].V, s.Layers[0].V) {
		t.Fatal("what was read differs from what was written")
	}
	for _, cut := range []int{0, 5, 11, 40, b.Len() - 1} {
		must(t, os.WriteFile(path, b.Bytes()[:cut], 0o600))
		if _, err := ReadSequence(path); !errors.Is(err, ErrFormat) {
			t.Errorf("cut at %d: %v", cut, err)
		}
	}
	bad := bytes.Replace(b.Bytes(), []byte(`"rows":150`), []byte(`"rows":151`), 1)
	must(t, os.WriteFile(path, bad, 0o600))
	if _, err := ReadSequence(path); !errors.Is(err, ErrFormat) {
		t.Errorf("a wrong number of rows gives %v", err)
	}
}
