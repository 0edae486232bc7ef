package train

import (
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"svae/checkpoints"
	"svae/data"
	"svae/data/segment"
	"svae/data/tokenizer"
	"svae/kernels"
	"svae/kernels/cpu"
	"svae/sllm"
	"svae/vae"
)

// tokenizerDir holds a real tokenizer of 2,048 tokens.
const tokenizerDir = "../cmd/svae/demo/base"

func loadTokenizer(t *testing.T) *tokenizer.Tokenizer {
	t.Helper()
	tok, err := tokenizer.Load(tokenizerDir)
	if err != nil {
		t.Fatal(err)
	}
	return tok
}

// shards builds a data set of one document for each text and returns its folder.
func shards(t *testing.T, texts []string, seg segment.Config) string {
	t.Helper()
	dir := t.TempDir()
	var b strings.Builder
	for i, text := range texts {
		fmt.Fprintf(&b, "{\"id\": \"d%d\", \"content\": %q}\n", i, text)
	}
	in, out := filepath.Join(dir, "in.jsonl"), filepath.Join(dir, "shards")
	if err := os.WriteFile(in, []byte(b.String()), 0o666); err != nil {
		t.Fatal(err)
	}
	if _, err := data.Build(t.Context(), data.BuildConfig{Inputs: []string{in}, Out: out, Tokenizer: loadTokenizer(t), Segment: seg}); err != nil {
		t.Fatal(err)
	}
	return out
}

func openShards(t *testing.T, dir string) *data.Dataset {
	t.Helper()
	ds, err := data.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	return ds
}

// texts returns n documents of a few sentences.
func texts(n int) []string {
	words := strings.Fields("the whale sea ship captain old man saw said white great boat water night day long over under never again")
	r := rand.New(rand.NewPCG(1, 1))
	out := make([]string, n)
	for d := range out {
		var ss []string
		for range 2 + r.IntN(5) {
			s := "The"
			for range 6 + r.IntN(7) {
				s += " " + words[r.IntN(len(words))]
			}
			ss = append(ss, s+".")
		}
		out[d] = strings.Join(ss, " ")
	}
	return out
}

// tiny is a configuration of few weights and steps.
func tiny(t *testing.T, s Stage, shards string) Config {
	c := Default(s)
	c.Data, c.Out, c.Steps, c.BatchTokens, c.Warmup, c.SaveEvery = shards, filepath.Join(t.TempDir(), "run"), 4, 128, 2, 0
	c.Model.HiddenSize, c.Model.NumLayers, c.Model.NumHeads, c.Model.NumKVHeads, c.Model.FFNDim = 16, 2, 2, 1, 32
	if s == LM {
		c.Tokenizer = tokenizerDir
	}
	return c
}

// newBase writes a random token-level model with the sizes of c and returns its folder.
func newBase(t *testing.T, c Config) string {
	t.Helper()
	c.Stage, c.Base, c.Tokenizer = LM, "", tokenizerDir
	f, err := newFolder(&c, cpu.New(), openShards(t, c.Data).Meta())
	if err != nil {
		t.Fatal(err)
	}
	return writeFolder(t, f)
}

func writeFolder(t *testing.T, f *sllm.Folder) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "model")
	d, err := checkpoints.CreateDir(dir, false)
	if err == nil {
		err = f.Write(d)
	}
	if err == nil {
		err = d.Commit()
	}
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// opened returns a run that is ready for its first step.
func opened(t *testing.T, c Config) *run {
	t.Helper()
	unlock, err := c.prepare()
	if err != nil {
		t.Fatal(err)
	}
	r, err := open(&c, cpu.New())
	if err != nil {
		t.Fatal(err)
	}
	if err := r.begin(io.Discard); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.close(); unlock() })
	return r
}

func host(be kernels.Backend, b kernels.Buf) []float32 {
	v := make([]float32, b.Len())
	be.Download(v, b)
	return v
}

// snapshot copies all weights.
func snapshot(s *vae.Store) map[string][]float32 {
	m := map[string][]float32{}
	for _, w := range s.Weights() {
		m[w.Name] = host(s.Backend(), s.Buf(w.Name))
	}
	return m
}

func sameBits(a, b []float32) bool {
	return slices.EqualFunc(a, b, func(x, y float32) bool { return math.Float32bits(x) == math.Float32bits(y) })
}

func mustContain(t *testing.T, err error, parts ...string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error, want one with %q", parts)
	}
	for _, p := range parts {
		if !strings.Contains(err.Error(), p) {
			t.Errorf("error %q does not hold %q", err, p)
		}
	}
	if strings.Contains(err.Error(), "\n") {
		t.Errorf("error %q is more than one line", err)
	}
}
