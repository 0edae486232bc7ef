package main

import (
	"context"
	"encoding/json"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"svae/data"
	"svae/data/segment"
	"svae/kernels/cpu"
	"svae/sllm"
	"svae/train"
	"svae/vae"
)

// golden is what an independent float64 forward pass of a published model gave.
type golden struct {
	Cases []struct {
		Prompt    string       `json:"prompt"`
		PromptIDs []int32      `json:"prompt_ids"`
		Greedy    []int32      `json:"greedy_ids"`
		Text      string       `json:"greedy_text"`
		Top5      [][2]float64 `json:"top5_after_prompt"`
	} `json:"cases"`
	NLL struct {
		IDs    []int32   `json:"ids"`
		Mean   float64   `json:"mean_nll_nats"`
		First8 []float64 `json:"first8"`
	} `json:"nll"`
}

// testdata returns a file of the real test data, or skips the test.
func testdata(t *testing.T, path ...string) string {
	t.Helper()
	p := filepath.Join(append([]string{os.Getenv("SVAE_TESTDATA")}, path...)...)
	if _, err := os.Stat(p); os.Getenv("SVAE_TESTDATA") == "" || err != nil {
		t.Skipf("no %s (set SVAE_TESTDATA)", filepath.Join(path...))
	}
	return p
}

// published converts a model that others trained from one of its files, by way of the given destinations.
func published(t *testing.T, model string, c publishedCase) string {
	t.Helper()
	src := t.TempDir()
	for _, name := range c.files {
		b, err := os.ReadFile(testdata(t, "models", model, name))
		if err == nil {
			err = os.WriteFile(filepath.Join(src, filepath.Base(name)), b, 0o666)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	from := filepath.Join(src, filepath.Base(c.files[0]))
	for _, name := range append(c.by, "model") {
		dst := filepath.Join(t.TempDir(), name)
		var out, errs strings.Builder
		args := []string{"svae", "convert", from, dst, "--verify"}
		if code := run(args, &out, &errs); code != 0 || !strings.Contains(out.String(), "weights are equal") || errs.Len() > 0 {
			t.Fatalf("%q: exit %d: %s%s", args, code, out.String(), errs.String())
		}
		from = dst
	}
	return from
}

type publishedCase struct {
	name  string
	files []string // the weights and what goes beside them
	by    []string // formats on the way to a model folder
}

// publishedCases returns the ways of one model into a model folder.
func publishedCases(model string) []publishedCase {
	weights, tok := "stories260K.bin", "tok512.bin"
	if model == "babyllama-105" {
		weights, tok = "model5000.bin", "tok105.bin"
	}
	hf := func(name string) []string { return []string{"hf/" + name, "hf/config.json", "hf/tokenizer.json"} }
	cs := []publishedCase{
		{"llama2.c", []string{weights, tok}, nil},
		{"llama2.c by gguf", []string{weights, tok}, []string{"model.gguf"}},
	}
	if model == "babyllama-105" { // its folder has no tokenizer.json
		return append(cs, publishedCase{"llama2.c with SentencePiece", []string{weights, "tok105.model"}, nil})
	}
	return append(cs, publishedCase{"pytorch", hf("pytorch_model.bin"), nil}, publishedCase{"safetensors", hf("model.safetensors"), nil},
		publishedCase{"safetensors by gguf", hf("model.safetensors"), []string{"model.gguf", "folder", "again.gguf"}})
}

// TestPublished: published models give the logits, the losses and the text that an independent program computed from
// them, whichever format they are converted from.
func TestPublished(t *testing.T) {
	for _, model := range []string{"stories260K", "babyllama-105"} {
		for _, c := range publishedCases(model) {
			t.Run(model+"/"+c.name, func(t *testing.T) {
				var want golden
				b, err := os.ReadFile(testdata(t, "models", model, "golden.json"))
				if err == nil {
					err = json.Unmarshal(b, &want)
				}
				if err != nil {
					t.Fatal(err)
				}
				g, err := newGenerator(published(t, model, c), cpu.New())
				if err != nil {
					t.Fatal(err)
				}
				checkGolden(t, g, &want)
			})
		}
	}
}

func checkGolden(t *testing.T, g *generator, want *golden) {
	t.Helper()
	for i, c := range want.Cases {
		checkLogits(t, g, c.PromptIDs, c.Top5)
		if got := append([]int32{g.tok.BOS()}, g.tok.Encode([]byte(c.Prompt))...); !slices.Equal(got, c.PromptIDs) {
			t.Errorf("%q is %v, want %v", c.Prompt, got, c.PromptIDs)
		}
		var text strings.Builder
		if _, err := g.run(context.Background(), c.Prompt, vae.Sampling{}, limits{tokens: len(c.Greedy)}, &text); err != nil {
			t.Fatal(err)
		}
		if plain := strings.ReplaceAll(c.Text, "<0x0A>", "\n"); text.String() != plain {
			t.Errorf("case %d: the model writes %q, want %q", i, text.String(), plain)
		}
	}
	checkNLL(t, g, want.NLL.IDs, want.NLL.Mean, want.NLL.First8)
}

// The golden values have six digits and come from float64; float32 keeps logits of size 20 to about 1e-5.
const tolerance = 1e-4

func checkLogits(t *testing.T, g *generator, ids []int32, top [][2]float64) {
	t.Helper()
	e := g.engine.(*sllm.LMEngine)
	e.Reset()
	logits, err := e.Forward(ids)
	if err != nil {
		t.Fatal(err)
	}
	order := make([]int, len(logits))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int {
		switch {
		case logits[a] > logits[b]:
			return -1
		case logits[a] < logits[b]:
			return 1
		}
		return a - b
	})
	for i, k := range top {
		if order[i] != int(k[0]) || math.Abs(float64(logits[order[i]])-k[1]) > tolerance {
			t.Errorf("place %d is token %d with %v, want %v with %v", i, order[i], logits[order[i]], k[0], k[1])
		}
	}
}

func checkNLL(t *testing.T, g *generator, ids []int32, mean float64, first []float64) {
	t.Helper()
	e := g.engine.(*sllm.LMEngine)
	e.Reset()
	var sum float64
	for i := range len(ids) - 1 {
		logits, err := e.Forward(ids[i : i+1])
		if err != nil {
			t.Fatal(err)
		}
		top := float64(slices.Max(logits))
		var z float64
		for _, v := range logits {
			z += math.Exp(float64(v) - top)
		}
		nll := math.Log(z) + top - float64(logits[ids[i+1]])
		if i < len(first) && math.Abs(nll-first[i]) > tolerance {
			t.Errorf("token %d costs %v nats, want %v", i+1, nll, first[i])
		}
		sum += nll
	}
	if got := sum / float64(len(ids)-1); math.Abs(got-mean) > tolerance {
		t.Errorf("%v nats a token, want %v", got, mean)
	}
}

// TestPublishedPPL scores a published model on a hundred stories by the rule of its perplexity: each story alone, cut at
// the context, no end scored. It comes from its native file and from PyTorch.
func TestPublishedPPL(t *testing.T) {
	if testing.Short() {
		t.Skip("scores thousands of tokens for each format")
	}
	stories, err := os.ReadFile(testdata(t, "data", "tinystories-1000.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.SplitAfter(string(stories), "\n")[900:1000]
	in := filepath.Join(t.TempDir(), "stories.jsonl")
	if err := os.WriteFile(in, []byte(strings.Join(lines, "")), 0o666); err != nil {
		t.Fatal(err)
	}
	for _, c := range publishedCases("stories260K") {
		if c.name == "llama2.c" || c.name == "pytorch" {
			t.Run(c.name, func(t *testing.T) { checkPPL(t, in, c) })
		}
	}
}

// checkPPL scores the published model, converted in one way, on the stories of a file.
func checkPPL(t *testing.T, stories string, c publishedCase) {
	t.Helper()
	g, err := newGenerator(published(t, "stories260K", c), cpu.New())
	if err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(t.TempDir(), "shards")
	if _, err := data.Build(t.Context(), data.BuildConfig{Inputs: []string{stories}, Out: out, Tokenizer: g.tok, Segment: segment.Config{}}); err != nil {
		t.Fatal(err)
	}
	ds, err := data.Open(out)
	if err != nil {
		t.Fatal(err)
	}
	r, err := train.Eval(t.Context(), g.folder, ds, train.EvalConfig{PieceTokens: 511, Truncate: true, BatchTokens: 2048, Seed: 1,
		TokenBytes: func(id int32) int { return len(g.tok.Piece(id)) }})
	if err != nil {
		t.Fatal(err)
	}
	var bytes int64
	tokens := 0
	for d, err := range ds.Documents() {
		if err != nil {
			t.Fatal(err)
		}
		ids := d.IDs[:min(len(d.IDs), 511)]
		tokens += len(ids)
		bytes += int64(len(g.tok.Decode(ids)))
	}
	if math.Abs(r.PPL-4.19) > 0.005 || r.Documents != 100 || r.Tokens != tokens || r.Nats.Ends != 0 {
		t.Errorf("perplexity %.4f of %d tokens in %d documents, want 4.19 of %d in 100", r.PPL, r.Tokens, r.Documents, tokens)
	}
	if want := r.Nats.Tokens / math.Ln2 / float64(bytes); r.Bytes != bytes || math.Abs(r.BPB-want) > 1e-9 {
		t.Errorf("%v bits per byte of %d bytes, want %v of %d", r.BPB, r.Bytes, want, bytes)
	}
}

// TestCapped: a limit in bytes never cuts a character, and says when it is reached.
func TestCapped(t *testing.T) {
	for _, k := range []struct {
		limit int
		in    []string
		want  string
	}{
		{5, []string{"abc", "def"}, "abcde"}, {5, []string{"abcé", "x"}, "abcé"}, {4, []string{"abcé"}, "abc"}, {1, []string{"é"}, ""},
		{7, []string{"日本", "語"}, "日本"}, {9, []string{"日本", "語"}, "日本語"}, {0, []string{"日本", "語"}, "日本語"},
	} {
		var b strings.Builder
		c := &capped{w: &b, left: k.limit, limited: k.limit > 0}
		for _, s := range k.in {
			c.write(s)
		}
		if b.String() != k.want {
			t.Errorf("limit %d: %q, want %q", k.limit, b.String(), k.want)
		}
		if k.want != strings.Join(k.in, "") && c.write("more") {
			t.Errorf("limit %d: takes more when it is full", k.limit)
		}
	}
}

// TestReorder: flags may stand anywhere; what is behind -- stays an argument.
func TestReorder(t *testing.T) {
	app := newApp(io.Discard, io.Discard)
	for _, k := range []struct{ in, want string }{
		{"svae", "svae"},
		{"svae --help", "svae --help"},
		{"svae convert a b --force", "svae convert --force -- a b"},
		{"svae convert a --tokenizer t b", "svae convert --tokenizer t -- a b"},
		{"svae convert a --tokenizer=t b", "svae convert --tokenizer=t -- a b"},
		{"svae data build x --json y --out o", "svae data build --json --out o -- x y"},
		{"svae data build --out o -- -x --json", "svae data build --out o -- -x --json"},
		{"svae inspect -", "svae inspect -- -"},
		{"svae train lm --steps -5", "svae train lm --steps -5"},
		{"svae generate --prompt --seed --seed 3", "svae generate --prompt --seed --seed 3"},
	} {
		if got := strings.Join(reorder(app, strings.Fields(k.in)), " "); got != k.want {
			t.Errorf("%s is read as %s, want %s", k.in, got, k.want)
		}
	}
}

// TestPrintable: what files and servers say cannot steer a terminal.
func TestPrintable(t *testing.T) {
	for in, want := range map[string]string{
		"model.norm.weight": "model.norm.weight", "é 日本 \U0001f600 \"x\" a\\b": "é 日本 \U0001f600 \"x\" a\\b", "": "",
		"a\x1b[31mb\r\n": `a\x1b[31mb\r\n`, "\x1b]0;x\a": `\x1b]0;x\a`, "\xff": `\xff`, "\u202e": `\u202e`, "\u0085": `\u0085`,
	} {
		if got := printable(in); got != want {
			t.Errorf("%q is printed as %s, want %s", in, got, want)
		}
	}
}

// TestFinite: every number of a header can be written as JSON.
func TestFinite(t *testing.T) {
	v := map[string]any{"a": math.NaN(), "b": []float64{1, math.Inf(-1)}, "c": 2.5, "d": []float64{1}, "e": "x", "f": []string{"y"}}
	for k := range v {
		v[k] = finite(v[k])
	}
	got, err := json.Marshal(v)
	if want := `{"a":"NaN","b":[1,"-Inf"],"c":2.5,"d":[1],"e":"x","f":["y"]}`; err != nil || string(got) != want {
		t.Errorf("%s, %v, want %s", got, err, want)
	}
}
