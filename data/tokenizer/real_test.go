package tokenizer

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// realData returns a path under $SVAE_TESTDATA, and skips the test where it is not.
func realData(t testing.TB, parts ...string) string {
	t.Helper()
	root := os.Getenv("SVAE_TESTDATA")
	if root == "" {
		t.Skip("SVAE_TESTDATA is not set")
	}
	path := filepath.Join(append([]string{root}, parts...)...)
	if _, err := os.Stat(path); err != nil {
		t.Skipf("%s is not there", path)
	}
	return path
}

// loadReal loads a tokenizer once for all tests.
func loadReal(t testing.TB, name string) *Tokenizer {
	t.Helper()
	dir := realData(t, "models", name)
	if tok, ok := loaded[name]; ok {
		return tok
	}
	tok, err := Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	loaded[name] = tok
	return tok
}

var loaded = map[string]*Tokenizer{}

// SameAsGGML compares a tokenizer with the ids that llama.cpp's tests expect of their inputs, PATH.inp and PATH.out.
func SameAsGGML(t *testing.T, tok *Tokenizer, path string) {
	t.Helper()
	in, err := os.ReadFile(path + ".inp")
	if err != nil {
		t.Fatal(err)
	}
	out, err := os.ReadFile(path + ".out")
	if err != nil {
		t.Fatal(err)
	}
	texts, lines := strings.Split(string(in), "\n__ggml_vocab_test__\n"), strings.Split(string(out), "\n")
	if len(texts) < 47 || len(lines) < 47 {
		t.Fatalf("%d texts, %d lines", len(texts), len(lines))
	}
	for i := range 47 {
		var want []int32
		for _, f := range strings.Fields(lines[i]) {
			id, err := strconv.Atoi(f)
			if err != nil {
				t.Fatal(err)
			}
			want = append(want, int32(id))
		}
		if got := tok.Encode([]byte(texts[i])); !slices.Equal(got, want) {
			t.Errorf("line %d: Encode(%q)\n got %d\nwant %d", i+1, texts[i], got, want)
		}
	}
}

// TestGGML compares with the expected ids that llama.cpp keeps for its own tests.
func TestGGML(t *testing.T) {
	for _, c := range []struct{ name, vocab string }{
		{"gpt2-tokenizer", "gpt-2"}, {"llama2-tokenizer", "llama-spm"}, {"qwen3-tokenizer", "qwen2"},
	} {
		t.Run(c.vocab, func(t *testing.T) {
			tok := loadReal(t, c.name)
			base := realData(t, "models", "ggml-vocab", "ggml-vocab-"+c.vocab+".gguf.inp")
			SameAsGGML(t, tok, strings.TrimSuffix(base, ".inp"))
		})
	}
}

// TestRealRoundTrip encodes and decodes the first 300 KB of each text.
func TestRealRoundTrip(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(realData(t, "data"), "*.txt"))
	if err != nil || len(files) == 0 {
		t.Skip("no texts")
	}
	for _, name := range []string{"gpt2-tokenizer", "opt-tokenizer", "qwen3-tokenizer", "llama2-tokenizer"} {
		t.Run(name, func(t *testing.T) {
			tok := loadReal(t, name)
			for _, f := range files {
				b, err := os.ReadFile(f)
				if err != nil {
					t.Fatal(err)
				}
				b = b[:min(len(b), 300_000)]
				checkRoundTrip(t, tok, string(b))
				if n := len(tok.Encode(b)); n > len(b)/3 {
					t.Errorf("%s: %d tokens for %d bytes of English", filepath.Base(f), n, len(b))
				}
			}
		})
	}
}

func TestRealVocabularies(t *testing.T) {
	for _, c := range []struct {
		name           string
		size           int
		bos, eos, pad  int32
		text           string
		plain, special []int32
	}{
		{name: "gpt2-tokenizer", size: 50257, bos: 50256, eos: 50256, pad: -1, text: "Hello world<|endoftext|>", plain: []int32{15496, 995, 27, 91, 437, 1659, 5239, 91, 29}, special: []int32{15496, 995, 50256}},
		{name: "opt-tokenizer", size: 50265, bos: 2, eos: 2, pad: 1, text: "Hello world</s>", plain: []int32{31414, 232, 49138, 29, 15698}, special: []int32{31414, 232, 2}},
		{name: "llama2-tokenizer", size: 32000, bos: 1, eos: 2, pad: -1, text: "Hello world</s>", plain: []int32{15043, 3186, 829, 29879, 29958}, special: []int32{15043, 3186, 2}},
		{name: "qwen3-tokenizer", size: 151669, bos: -1, eos: 151645, pad: 151643, text: "Hello world<|im_end|>", special: []int32{9707, 1879, 151645}},
		{name: "stories260K/hf", size: 512, bos: 1, eos: 2, pad: -1, text: "Once upon a time", plain: []int32{403, 407, 261, 378}, special: []int32{403, 407, 261, 378}},
	} {
		t.Run(c.name, func(t *testing.T) {
			tok := loadReal(t, c.name)
			if tok.VocabSize() != c.size || tok.BOS() != c.bos || tok.EOS() != c.eos || tok.PAD() != c.pad {
				t.Errorf("size %d bos %d eos %d pad %d", tok.VocabSize(), tok.BOS(), tok.EOS(), tok.PAD())
			}
			if got := tok.Encode([]byte(c.text)); c.plain != nil && !slices.Equal(got, c.plain) {
				t.Errorf("Encode(%q) = %d, want %d", c.text, got, c.plain)
			}
			if got := tok.Encode([]byte(c.text)); string(tok.Decode(got)) != c.text {
				t.Errorf("decoded %q", tok.Decode(got))
			}
			if got := tok.EncodeSpecial([]byte(c.text)); !slices.Equal(got, c.special) {
				t.Errorf("EncodeSpecial(%q) = %d, want %d", c.text, got, c.special)
			}
		})
	}
}

func benchmarkEncode(b *testing.B, name, file string) {
	tok := loadReal(b, name)
	text, err := os.ReadFile(realData(b, "data", file))
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(len(text)))
	b.ReportAllocs()
	b.ResetTimer()
	tokens := 0
	for range b.N {
		tokens = len(tok.Encode(text))
	}
	b.ReportMetric(float64(len(text))/float64(tokens), "bytes/token")
}

func BenchmarkEncodeGPT2(b *testing.B)   { benchmarkEncode(b, "gpt2-tokenizer", "alice.txt") }
func BenchmarkEncodeOPT(b *testing.B)    { benchmarkEncode(b, "opt-tokenizer", "moby-dick.txt") }
func BenchmarkEncodeQwen3(b *testing.B)  { benchmarkEncode(b, "qwen3-tokenizer", "alice.txt") }
func BenchmarkEncodeLlama2(b *testing.B) { benchmarkEncode(b, "llama2-tokenizer", "alice.txt") }

// BenchmarkEncodeCold has no cache to help: every text meets a fresh tokenizer.
func BenchmarkEncodeCold(b *testing.B) {
	tok := loadReal(b, "gpt2-tokenizer")
	text, err := os.ReadFile(realData(b, "data", "alice.txt"))
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(len(text)))
	for range b.N {
		b.StopTimer()
		tok.cache = newWordCache()
		b.StartTimer()
		tok.Encode(text)
	}
}

func BenchmarkLoad(b *testing.B) {
	for _, name := range []string{"gpt2-tokenizer", "qwen3-tokenizer"} {
		b.Run(name, func(b *testing.B) {
			dir := realData(b, "models", name)
			for range b.N {
				if _, err := Load(dir); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func ExampleTokenizer_EncodeLens() {
	b, err := os.ReadFile(filepath.Join("testdata", "gpt2.json"))
	if err != nil {
		fmt.Println(err)
		return
	}
	t, err := FromJSON(b)
	if err != nil {
		fmt.Println(err)
		return
	}
	ids, lens := t.EncodeLens([]byte("the best of times"))
	for i, id := range ids {
		fmt.Printf("%q %d\n", t.Piece(id), lens[i])
	}
	// Output:
	// "the" 3
	// " best" 5
	// " of" 3
	// " times" 6
}
