package train

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"svae/data"
	"svae/data/segment"
	"svae/kernels/cpu"
	"svae/sllm"
)

func load(t *testing.T, dir string) *sllm.Folder {
	t.Helper()
	f, err := sllm.Load(dir, cpu.New())
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// TestEvalUniform: a model whose head is zero gives every token one of V parts of the probability.
func TestEvalUniform(t *testing.T) {
	dir := shards(t, texts(5), segment.Config{})
	f := load(t, newBase(t, tiny(t, LM, dir)))
	f.Store.Backend().Zero(f.Store.Buf("lm_head.weight"))
	r, err := Eval(t.Context(), f, openShards(t, dir), EvalConfig{Sentences: 3, BatchTokens: 200})
	if err != nil {
		t.Fatal(err)
	}
	m := openShards(t, dir).Meta()
	if int64(r.Tokens) != m.Tokens || r.Bytes != m.Bytes || r.Documents != 5 || int64(r.Sentences) != m.Sentences || r.Pieces < 6 {
		t.Errorf("scored %+v of %+v", r, m.Counts)
	}
	bits := math.Log2(2048)
	if want := bits * float64(m.Tokens+5) / float64(m.Bytes); math.Abs(r.BPB-want) > 1e-6*want {
		t.Errorf("%v bits per byte, want %v", r.BPB, want)
	}
	if want := bits * 5 / float64(m.Bytes); math.Abs(r.BPBEnds-want) > 1e-6*want || r.BPBStops != 0 {
		t.Errorf("%v bits per byte of ends, want %v", r.BPBEnds, want)
	}
	if math.Abs(r.TokenPPL-2048) > 0.01 {
		t.Errorf("token perplexity %v, want 2048", r.TokenPPL)
	}
	if want := math.Pow(2048, float64(m.Tokens+5)/float64(m.Tokens)); math.Abs(r.PPL-want) > 1e-5*want {
		t.Errorf("perplexity %v, want %v", r.PPL, want)
	}
}

// TestEvalBatches: how pieces are packed changes no sum by more than the order of additions.
func TestEvalBatches(t *testing.T) {
	dir := shards(t, texts(12), segment.Config{})
	ds := openShards(t, dir)
	base := newBase(t, tiny(t, LM, dir))
	for _, s := range []Stage{LM, VAE, SLLM} {
		c := tiny(t, s, dir)
		c.Base, c.Tokenizer, c.Model.Context = base, "", 3
		f, err := newFolder(&c, cpu.New(), ds.Meta())
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range []sllm.Latents{sllm.Real, sllm.None} {
			var want Result
			for _, batch := range []int{4096, 100, 1} {
				r, err := Eval(t.Context(), f, ds, EvalConfig{Sentences: 4, BatchTokens: batch, Latents: l})
				if err != nil {
					t.Fatal(err)
				}
				if batch == 4096 {
					want = r
				}
				for _, v := range [][2]float64{{r.Nats.Tokens, want.Nats.Tokens}, {r.Nats.Ends, want.Nats.Ends}, {r.Nats.Stops, want.Nats.Stops}, {r.Low, want.Low}} {
					if math.Abs(v[0]-v[1]) > 1e-12*math.Abs(v[1]) {
						t.Errorf("%s, %v latents, batches of %d: %+v, want %+v", s, l, batch, r.Nats, want.Nats)
						break
					}
				}
				if r.Pieces != want.Pieces || r.Bytes != want.Bytes || r.Accuracy != want.Accuracy {
					t.Errorf("%s, batches of %d: %+v, want %+v", s, batch, r, want)
				}
			}
		}
	}
}

// TestEvalFocal: what a model was trained with changes nothing of how it is scored: nats are plain, those of the stop flag too.
func TestEvalFocal(t *testing.T) {
	dir := shards(t, texts(4), segment.Config{})
	ds := openShards(t, dir)
	c := tiny(t, SLLM, dir)
	c.Base, c.Tokenizer = newBase(t, tiny(t, LM, dir)), ""
	f, err := newFolder(&c, cpu.New(), ds.Meta())
	if err != nil {
		t.Fatal(err)
	}
	var plain Result
	for _, gamma := range []float64{0, 2} {
		f.SLLM.VAE.Gamma = gamma
		r, err := Eval(t.Context(), f, ds, EvalConfig{Sentences: 4, BatchTokens: 200})
		if err != nil {
			t.Fatal(err)
		}
		if gamma == 0 {
			plain = r
		}
		if r != plain || r.Nats.Stops == 0 {
			t.Errorf("γ = %v: %+v, want %+v", gamma, r, plain)
		}
	}
}

// TestProgress: scoring and reproducing say how far they are: upwards, and at last all.
func TestProgress(t *testing.T) {
	dir := shards(t, texts(6), segment.Config{})
	ds := openShards(t, dir)
	m := ds.Meta()
	f := load(t, newBase(t, tiny(t, LM, dir)))
	c := tiny(t, VAE, dir)
	c.Base, c.Tokenizer = f.Path, ""
	auto, err := newFolder(&c, cpu.New(), m)
	if err != nil {
		t.Fatal(err)
	}
	codec, err := data.NewCodec(loadTokenizer(t), m.Segmenter)
	if err != nil {
		t.Fatal(err)
	}
	for name, k := range map[string]struct {
		all int64
		run func(tell func(done, total int64)) error
	}{
		"all": {m.Bytes, func(tell func(done, total int64)) error {
			_, err := Eval(t.Context(), f, ds, EvalConfig{Sentences: 3, BatchTokens: 100, Progress: tell})
			return err
		}},
		"bytes": {m.Bytes / 2, func(tell func(done, total int64)) error {
			_, err := Eval(t.Context(), f, ds, EvalConfig{Sentences: 3, BatchTokens: 100, MaxBytes: m.Bytes / 2, Progress: tell})
			return err
		}},
		"heads": {m.Bytes, func(tell func(done, total int64)) error {
			bytes := func(int32) int { return 1 }
			_, err := Eval(t.Context(), f, ds, EvalConfig{PieceTokens: 9, Truncate: true, TokenBytes: bytes, BatchTokens: 100, Progress: tell})
			return err
		}},
		"floors": {2 * m.Bytes, func(tell func(done, total int64)) error {
			_, _, err := Floors(t.Context(), ds, ds, EvalConfig{Sentences: 3, BatchTokens: 100, Progress: tell})
			return err
		}},
		"recon": {m.Sentences, func(tell func(done, total int64)) error {
			_, err := Recon(t.Context(), auto, ds, codec.NewEnds(), 0, tell)
			return err
		}},
		"recon of 5": {5, func(tell func(done, total int64)) error {
			_, err := Recon(t.Context(), auto, ds, codec.NewEnds(), 5, tell)
			return err
		}},
	} {
		var calls, last int64
		err := k.run(func(done, total int64) {
			if done <= last || total != k.all {
				t.Errorf("%s: %d of %d after %d, want of %d", name, done, total, last, k.all)
			}
			calls, last = calls+1, done
		})
		if err != nil || last != k.all || calls < 2 {
			t.Errorf("%s: %d calls, the last with %d, want %d: %v", name, calls, last, k.all, err)
		}
	}
}

// TestEvalNoBOS: a model without a begin mark cannot predict the first token of a piece; it costs what a guess costs,
// not nothing.
func TestEvalNoBOS(t *testing.T) {
	dir := shards(t, texts(3), segment.Config{})
	f := load(t, newBase(t, tiny(t, LM, dir)))
	f.LM.BOS = -1
	f.Store.Backend().Zero(f.Store.Buf("lm_head.weight"))
	r, err := Eval(t.Context(), f, openShards(t, dir), EvalConfig{BatchTokens: 200})
	if err != nil {
		t.Fatal(err)
	}
	if math.Abs(r.TokenPPL-2048) > 0.01 {
		t.Errorf("token perplexity %v, want 2048", r.TokenPPL)
	}
}

// TestPositions: pieces longer than a model with a table of positions can take are an error, and one line.
func TestPositions(t *testing.T) {
	dir := shards(t, texts(3), segment.Config{})
	config := fmt.Sprintf(`{"model_type": "opt", "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "ffn_dim": 32, "vocab_size": 2048,
"max_position_embeddings": %d, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0, "do_layer_norm_before": true}`, 40)
	src := t.TempDir()
	for name, text := range loadTokenizer(t).Files() {
		if err := os.WriteFile(filepath.Join(src, name), text, 0o666); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(src, "config.json"), []byte(config), 0o666); err != nil {
		t.Fatal(err)
	}
	f, err := sllm.ReadConfig(src)
	if err != nil {
		t.Fatal(err)
	}
	c := tiny(t, LM, dir)
	if err := c.initialise(f, cpu.New(), ""); err != nil {
		t.Fatal(err)
	}
	_, err = Eval(t.Context(), f, openShards(t, dir), EvalConfig{BatchTokens: 200})
	mustContain(t, err, "position")
	if _, err = Eval(t.Context(), f, openShards(t, dir), EvalConfig{BatchTokens: 200, PieceTokens: 39}); err != nil {
		t.Errorf("pieces that fit: %v", err)
	}
	c.Base, c.Tokenizer = writeFolder(t, f), ""
	if _, err = Run(t.Context(), c, cpu.New(), discard{}); err != nil { // a run cuts its pieces to fit
		t.Error(err)
	}
	c.Stage, c.Out, c.Sentences = SLLM, filepath.Join(t.TempDir(), "s"), 40
	_, err = Run(t.Context(), c, cpu.New(), discard{})
	mustContain(t, err, "fewer --sentences")
}

type discard struct{}

func (discard) Write(p []byte) (int, error) { return len(p), nil }

func TestNgram(t *testing.T) {
	n := newNgram(3)
	n.count([]int32{0, 1, 0}) // and the mark behind; 3 of 4 types, 4 tokens
	near := func(what string, got, want float64) {
		t.Helper()
		if math.Abs(got-want) > 1e-15 {
			t.Errorf("%s = %v, want %v", what, got, want)
		}
	}
	near("p(0)", n.p1(0), 2.75/7)
	near("p(1)", n.p1(1), 1.75/7)
	near("p(2)", n.p1(2), 0.75/7)
	near("p(1|0)", n.p2(0, 1), (1+2*1.75/7)/4) // 0 was followed by 1 and by the end
	near("p(0|0)", n.p2(0, 0), (0+2*2.75/7)/4)
	near("p(0|1)", n.p2(1, 0), (1+2.75/7)/2)
	near("p(1|2)", n.p2(2, 1), 1.75/7) // never seen
	for prev := range 4 {
		var one, two float64
		for id := range 4 {
			one, two = one+n.p1(id), two+n.p2(prev, id)
		}
		near("sum of p", one, 1)
		near(fmt.Sprintf("sum of p(.|%d)", prev), two, 1)
	}
	var u, w Nats
	n.score([]int32{0, 2}, true, &u, &w)
	near("unigram", u.Tokens, -math.Log(2.75/7*0.75/7))
	near("unigram end", u.Ends, -math.Log(1.75/7))
	near("bigram", w.Tokens, -math.Log((1+2.75/7)/2)-math.Log(2*0.75/7/4))
	near("bigram end", w.Ends, -math.Log(1.75/7))
}

func TestFloors(t *testing.T) {
	dir := shards(t, texts(6), segment.Config{})
	ds := openShards(t, dir)
	u, b, err := Floors(t.Context(), ds, ds, EvalConfig{Sentences: 2, BatchTokens: 100})
	if err != nil {
		t.Fatal(err)
	}
	if !(b.BPB < u.BPB) || u.Bytes != ds.Meta().Bytes || int64(u.Tokens) != ds.Meta().Tokens || u.Documents != 6 {
		t.Errorf("unigram %+v, bigram %+v", u, b)
	}
	n := newNgram(ds.Meta().VocabSize)
	var all, w Nats
	docs := [][]int32{}
	for d, err := range ds.Documents() {
		if err != nil {
			t.Fatal(err)
		}
		n.count(d.IDs)
		docs = append(docs, d.IDs)
	}
	for _, ids := range docs {
		var one Nats
		n.score(ids, true, &one, &w)
		all.add(one)
	}
	if math.Abs(u.Nats.Total()-all.Total()) > 1e-9 {
		t.Errorf("the unigram's nats are %v in pieces, %v in one", u.Nats.Total(), all.Total())
	}
}

func TestBootstrap(t *testing.T) {
	ps := []pieceCost{{10, 8, 3}, {20, 11, 6}, {5, 9, 2}, {40, 20, 9}, {13, 10, 4}}
	var nats float64
	var bytes int64
	for _, p := range ps {
		nats, bytes = nats+p.nats, bytes+p.bytes
	}
	low, high := bootstrap(ps, 1)
	if m := bits(nats, bytes); !(low < m && m < high) {
		t.Errorf("the interval %v to %v does not hold the mean %v", low, high, m)
	}
	if l, h := bootstrap(ps, 1); l != low || h != high {
		t.Error("the same seed gives another interval")
	}
	if l, h := bootstrap(ps[:1], 1); l != h || l != bits(10, 8) {
		t.Errorf("one piece has the interval %v to %v", l, h)
	}
}

func TestHeads(t *testing.T) {
	b := &data.Batch{IDs: []int32{1, 2, 3, 4, 5, 6, 7, 8, 9}, Sent: []int32{0, 2, 5, 6, 9}, Doc: []int32{0, 2, 4}, Bytes: []int32{20, 30, 10, 30},
		Begin: []bool{true, true}, End: []bool{true, true}, Before: [][]int32{nil, nil}, Names: []string{"a", "b"}}
	for _, k := range []struct {
		tokens                int
		ids, sent, doc, bytes []int32
	}{
		{3, []int32{1, 2, 3, 6, 7, 8}, []int32{0, 2, 3, 4, 6}, []int32{0, 2, 4}, []int32{20, 3, 10, 15}},
		{1, []int32{1, 6}, []int32{0, 1, 2}, []int32{0, 1, 2}, []int32{1, 10}},
		{2, []int32{1, 2, 6, 7}, []int32{0, 2, 3, 4}, []int32{0, 1, 3}, []int32{20, 10, 7}},
		{99, b.IDs, b.Sent, b.Doc, b.Bytes},
	} {
		c := EvalConfig{PieceTokens: k.tokens, Truncate: true, TokenBytes: func(id int32) int { return int(id) }}
		got := c.heads(b)
		if !slices.Equal(got.IDs, k.ids) || !slices.Equal(got.Sent, k.sent) || !slices.Equal(got.Doc, k.doc) || !slices.Equal(got.Bytes, k.bytes) {
			t.Errorf("%d tokens: %+v", k.tokens, got)
		}
		if !slices.Equal(got.Begin, []bool{true, true}) || !slices.Equal(got.End, []bool{false, false}) || got.Pieces() != 2 {
			t.Errorf("%d tokens: begin %v, end %v", k.tokens, got.Begin, got.End)
		}
	}
}

// TestResultJSON: what programs read keeps its names.
func TestResultJSON(t *testing.T) {
	b, err := json.Marshal(Result{Model: "m", BPB: 1.5})
	if err != nil {
		t.Fatal(err)
	}
	var m map[string]any
	if err := json.Unmarshal(b, &m); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"model", "kind", "documents", "tokens", "bytes", "nats", "bits_per_byte", "bits_per_byte_low", "bits_per_byte_high", "ppl", "token_ppl"} {
		if _, ok := m[key]; !ok {
			t.Errorf("no key %s in %s", key, b)
		}
	}
}
