package train

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"svae/data/segment"
	"svae/kernels/cpu"
	"svae/kernels/kv"
	"svae/sllm"
)

// randomCapture is the attention of N rows in which a query looks for few keys: those of its own topic.
func randomCapture(N int) (*sllm.KVCapture, []int) {
	rng := rand.New(rand.NewPCG(5, 5))
	x := &sllm.KVCapture{Heads: 4, KVHeads: 2, HeadDim: 16, Rows: N, Scale: 0.25}
	var ends []int
	for n := 9; n <= N; n += 5 + rng.IntN(12) {
		ends = append(ends, n)
	}
	for range 2 {
		topics := make([][]float32, 12)
		for i := range topics {
			topics[i] = make([]float32, x.HeadDim)
			for c := range topics[i] {
				topics[i][c] = float32(rng.NormFloat64())
			}
		}
		fill := func(heads int, gain float64) []float32 {
			var out []float32
			topic, next := 0, 0
			for r := range N {
				if next < len(ends) && r >= ends[next] {
					topic, next = rng.IntN(len(topics)), next+1
				}
				for range heads {
					for c := range x.HeadDim {
						out = append(out, float32(gain)*topics[topic][c]+float32(rng.NormFloat64())*0.7)
					}
				}
			}
			return out
		}
		x.Q, x.K, x.V = append(x.Q, fill(x.Heads, 1.5)), append(x.K, fill(x.KVHeads, 1.5)), append(x.V, fill(x.KVHeads, 0.5))
	}
	return x, ends
}

func recallOf(t *testing.T, c RecallConfig) map[string]RecallRow {
	t.Helper()
	x, ends := randomCapture(400)
	rows, err := Recall(t.Context(), cpu.New(), x, ends, c)
	if err != nil {
		t.Fatal(err)
	}
	m := map[string]RecallRow{}
	for _, r := range rows {
		m[r.Policy+" "+r.Budget] = r
	}
	return m
}

// TestRecall: everything is kept under a budget of all rows; under less, mass is lost, a larger budget keeps more, nothing
// keeps more than the oracle, which keeps what a plain count of the largest weights says; budgets hold.
func TestRecall(t *testing.T) {
	var ways []sllm.KVOptions
	for _, p := range append(slices.Clone(kv.Policies), Oracle) {
		for _, b := range []kv.Budget{{Percent: 10}, {Percent: 30}, {Percent: 100}} {
			ways = append(ways, sllm.KVOptions{Policy: p, Budget: b})
		}
	}
	for _, rowsOnly := range []bool{true, false} {
		m := recallOf(t, RecallConfig{Ways: ways, Last: 40, RowsOnly: rowsOnly})
		for _, p := range kv.Policies {
			small, large, all := m[p+" 10%"], m[p+" 30%"], m[p+" 100%"]
			if p == "dense" {
				small, large = all, all
			}
			if rowsOnly && p != "reference" && (all.Mass < 1-1e-5 || all.Error > 1e-5 || all.Overlap < 0.99 || all.Share != 100) {
				t.Errorf("%s keeps %+v under a budget of all rows", p, all)
			}
			if p == "dense" {
				continue
			}
			if !(large.Mass >= small.Mass) || small.Mass >= 1-1e-4 || small.Mass <= 0 || small.Error <= 0 {
				t.Errorf("%s keeps %.4f of the mass under 10 %%, %.4f under 30 %%, error %.4f", p, small.Mass, large.Mass, small.Error)
			}
			if o := m[Oracle+" 30%"]; large.Mass > o.Mass+1e-6 && p != "reference" && p != "ours" { // whose lists may be longer
				t.Errorf("%s keeps more mass than the oracle: %.4f, %.4f", p, large.Mass, o.Mass)
			}
			if small.MassP5 > small.Mass || small.ErrP95 < small.Error {
				t.Errorf("%s: quantiles %+v", p, small)
			}
			switch {
			case p == "reference": // which reads everything kept at two tokens of every sentence
			case rowsOnly && (small.Share > 10.5 || large.Share > 30.5):
				t.Errorf("%s reads %.1f %% and %.1f %% of the rows", p, small.Share, large.Share)
			case !rowsOnly && large.Bytes > 31:
				t.Errorf("%s reads %.1f %% of the bytes under 30 %%", p, large.Bytes)
			}
		}
		if rowsOnly {
			x, _ := randomCapture(400)
			if got, want := m[Oracle+" 10%"].Mass, oracleMass(x, 40, 10); math.Abs(got-want) > 1e-5 {
				t.Errorf("the oracle keeps %.6f, counted by hand %.6f", got, want)
			}
		}
	}
}

// oracleMass counts the mass of the largest percent of weights.
func oracleMass(x *sllm.KVCapture, last int, percent float64) float64 {
	var sum float64
	n := 0
	for l := range x.K {
		for row := x.Rows - last; row < x.Rows; row++ {
			for h := range x.Heads {
				w, z := make([]float64, row+1), 0.0
				for i := range w {
					var s float64
					for c := range x.HeadDim {
						s += float64(x.Q[l][(row*x.Heads+h)*x.HeadDim+c]) * float64(x.K[l][(i*x.KVHeads+h/2)*x.HeadDim+c])
					}
					w[i] = math.Exp(s * x.Scale)
					z += w[i]
				}
				slices.Sort(w)
				for _, v := range w[len(w)-kv.Budget.Of(kv.Budget{Percent: percent}, row+1):] {
					sum += v / z
				}
				n++
			}
		}
	}
	return sum / float64(n)
}

// TestRecallTypes: rows kept in less are measured against what float32 gives.
func TestRecallTypes(t *testing.T) {
	var ways []sllm.KVOptions
	for _, typ := range []kv.Type{kv.F32, kv.BF16, kv.I8} {
		ways = append(ways, sllm.KVOptions{Policy: "dense", Budget: kv.Budget{Exact: true}, Type: typ})
	}
	x, ends := randomCapture(400)
	rows, err := Recall(t.Context(), cpu.New(), x, ends, RecallConfig{Ways: ways, Last: 40})
	if err != nil {
		t.Fatal(err)
	}
	if a, b, c := rows[0].Error, rows[1].Error, rows[2].Error; a > 1e-5 || b < 1e-4 || c < b || c > 0.1 {
		t.Errorf("errors of f32, bf16 and int8: %.2g, %.2g, %.2g", a, b, c)
	}
	if f, h, i := rows[0].KVBytes, rows[1].KVBytes, rows[2].KVBytes; h != f/2 || i > f/3 || rows[2].Bytes < 95 || rows[2].Bytes > 105 {
		t.Errorf("bytes of f32, bf16 and int8: %.0f, %.0f, %.0f; int8 reads %.1f %% of its own", f, h, i, rows[2].Bytes)
	}
}

// TestRecallErrors: a text without a prompt, an unknown policy, an end that the caller asked for.
func TestRecallErrors(t *testing.T) {
	x, ends := randomCapture(50)
	be := cpu.New()
	way := []sllm.KVOptions{{Policy: "ours", Budget: kv.Budget{Rows: 5}}}
	_, err := Recall(t.Context(), be, x, ends, RecallConfig{Ways: way, Last: 50})
	mustContain(t, err, "no prompt")
	_, err = Recall(t.Context(), be, x, ends, RecallConfig{Ways: []sllm.KVOptions{{Policy: "best"}}, Last: 9})
	mustContain(t, err, "best")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err = Recall(ctx, be, x, ends, RecallConfig{Ways: way, Last: 9}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

// TestPPLKV: dense through the decode path costs what the whole text costs at once; a policy that may read everything
// differs by nothing, one that may read little by something.
func TestPPLKV(t *testing.T) {
	long := make([]string, 3)
	for i, s := range texts(60) {
		long[i%3] += s + " "
	}
	dir := shards(t, long, segment.Config{})
	c := tiny(t, LM, dir)
	f, err := sllm.Load(newBase(t, c), cpu.New())
	if err != nil {
		t.Fatal(err)
	}
	cfg := PPLKVConfig{EvalConfig: EvalConfig{BatchTokens: 1, Seed: 1, PieceTokens: PieceLimit(f, 0)}, Ways: []sllm.KVOptions{
		{Policy: "ours", Budget: kv.Budget{Percent: 100}},
		{Policy: "recent", Budget: kv.Budget{Rows: 4}},
		{Policy: "dense", Budget: kv.Budget{Exact: true}, Type: kv.I8},
	}}
	r, err := PPLKV(t.Context(), f, openShards(t, dir), cfg)
	if err != nil {
		t.Fatal(err)
	}
	if r.Pieces == 0 || r.Tokens < 100 || r.Rows[0].Policy != "dense" || r.Rows[0].Delta != 0 || r.Rows[0].Share != 100 {
		t.Fatalf("%+v", r)
	}
	if all := r.Rows[1]; all.PPL != r.Rows[0].PPL || all.Share != 100 {
		t.Errorf("a budget of all rows: %+v, dense %+v", all, r.Rows[0])
	}
	if few := r.Rows[2]; few.Delta == 0 || few.Rows != 4 || few.KVBytes >= r.Rows[0].KVBytes/4 {
		t.Errorf("a budget of 4 rows: %+v", few)
	}
	if i8 := r.Rows[3]; i8.Delta == 0 || math.Abs(i8.Delta) > 1 || i8.KVBytes > r.Rows[0].KVBytes/2 {
		t.Errorf("int8: %+v", i8)
	}

	// all but the first rows of each piece, at once
	cfg.Prefill, cfg.Ways = 1, nil
	if r, err = PPLKV(t.Context(), f, openShards(t, dir), cfg); err != nil {
		t.Fatal(err)
	}
	whole, err := Eval(t.Context(), f, openShards(t, dir), cfg.EvalConfig)
	if err != nil {
		t.Fatal(err)
	}
	if r.Tokens != whole.Tokens-r.Pieces || whole.Pieces != r.Pieces {
		t.Fatalf("%d tokens of %d pieces scored, of %d of %d", r.Tokens, r.Pieces, whole.Tokens, whole.Pieces)
	}
	// the whole's figure holds the first token of each piece too, and the ends of documents; the tiny model is near uniform
	if math.Abs(math.Log(r.Rows[0].PPL)-math.Log(whole.TokenPPL)) > 0.02 {
		t.Errorf("perplexity %.3f through the decode path, %.3f at once", r.Rows[0].PPL, whole.TokenPPL)
	}

	cfg.Prefill = 1 << 20
	_, err = PPLKV(t.Context(), f, openShards(t, dir), cfg)
	mustContain(t, err, "no piece is long enough", "--kv-prefill")
}
