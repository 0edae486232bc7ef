package tokenizer_test

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"svae/checkpoints"
	"svae/data/tokenizer"
)

// realFile returns a path under $SVAE_TESTDATA/models, and skips the test where it is not.
func realFile(t *testing.T, parts ...string) string {
	t.Helper()
	root := os.Getenv("SVAE_TESTDATA")
	if root == "" {
		t.Skip("SVAE_TESTDATA is not set")
	}
	path := filepath.Join(append([]string{root, "models"}, parts...)...)
	if _, err := os.Stat(path); err != nil {
		t.Skipf("%s is not there", path)
	}
	return path
}

func readFile(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// fromGGUF makes a tokenizer of a GGUF file.
func fromGGUF(t *testing.T, path string) *tokenizer.Tokenizer {
	t.Helper()
	w, err := checkpoints.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	files, err := tokenizer.FromGGUF(w.Values())
	return made(t, files, err)
}

func made(t *testing.T, files map[string][]byte, err error) *tokenizer.Tokenizer {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	tok, err := tokenizer.FromFiles(files)
	if err != nil {
		t.Fatal(err)
	}
	return tok
}

// same compares two tokenizers on every hard string.
func same(t *testing.T, got, want *tokenizer.Tokenizer, special bool) {
	t.Helper()
	if got.VocabSize() != want.VocabSize() || got.BOS() != want.BOS() || got.EOS() != want.EOS() {
		t.Errorf("size %d bos %d eos %d, want %d %d %d", got.VocabSize(), got.BOS(), got.EOS(), want.VocabSize(), want.BOS(), want.EOS())
	}
	wrong := 0
	for _, s := range tokenizer.HardStrings() {
		a, b := got.Encode([]byte(s)), want.Encode([]byte(s))
		if special && slices.Equal(a, b) {
			a, b = got.EncodeSpecial([]byte(s)), want.EncodeSpecial([]byte(s))
		}
		if !slices.Equal(a, b) {
			if wrong++; wrong < 4 {
				t.Errorf("%q is %d, want %d", s, a, b)
			}
		}
	}
	if wrong > 0 {
		t.Errorf("%d strings differ", wrong)
	}
}

// TestVocabularyGGUF: the vocabularies of llama.cpp's own tests give the ids that it expects, and the same as the same
// tokenizer's other files.
func TestVocabularyGGUF(t *testing.T) {
	if testing.Short() {
		t.Skip("takes seconds, many with the race detector")
	}
	for _, c := range []struct{ name, folder string }{{"gpt-2", "gpt2-tokenizer"}, {"llama-spm", "llama2-tokenizer"}} {
		t.Run(c.name, func(t *testing.T) {
			path := realFile(t, "ggml-vocab", "ggml-vocab-"+c.name+".gguf")
			tok := fromGGUF(t, path)
			tokenizer.SameAsGGML(t, tok, path)
			ref, err := tokenizer.Load(realFile(t, c.folder))
			if err != nil {
				t.Fatal(err)
			}
			same(t, tok, ref, true)
		})
	}
}

// TestSourcesAgree: tokenizers that are stored in several ways encode alike.
func TestSourcesAgree(t *testing.T) {
	if testing.Short() {
		t.Skip("takes seconds, many with the race detector")
	}
	for _, c := range []struct {
		name, ref string
		load      func(t *testing.T) *tokenizer.Tokenizer
	}{
		{"llama2 model", "llama2-tokenizer", func(t *testing.T) *tokenizer.Tokenizer {
			files, err := tokenizer.FromSentencePiece(readFile(t, realFile(t, "llama2-tokenizer", "tokenizer.model")))
			return made(t, files, err)
		}},
		{"llama2 bin", "llama2-tokenizer", func(t *testing.T) *tokenizer.Tokenizer {
			files, err := tokenizer.FromLlama2C(readFile(t, realFile(t, "llama2-tokenizer", "tokenizer.bin")), 32000)
			return made(t, files, err)
		}},
		{"stories bin", "stories260K/hf", func(t *testing.T) *tokenizer.Tokenizer {
			files, err := tokenizer.FromLlama2C(readFile(t, realFile(t, "stories260K", "tok512.bin")), 512)
			return made(t, files, err)
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			ref, err := tokenizer.Load(realFile(t, c.ref))
			if err != nil {
				t.Fatal(err)
			}
			same(t, c.load(t), ref, true)
		})
	}
	t.Run("babyllama", func(t *testing.T) {
		// llama2.c keeps spaces that the SentencePiece model removes.
		files, err := tokenizer.FromSentencePiece(readFile(t, realFile(t, "babyllama-105", "tok105.model")))
		model := made(t, files, err)
		files, err = tokenizer.FromLlama2C(readFile(t, realFile(t, "babyllama-105", "tok105.bin")), 105)
		bin := made(t, files, err)
		const text = "Once upon a time, there was a girl."
		a, b := model.Encode([]byte("  Once upon  a time, there was a girl. ")), bin.Encode([]byte(text))
		if !slices.Equal(a, b) || string(bin.Decode(b)) != text || model.BOS() != 1 {
			t.Errorf("%d and %d", a, b)
		}
	})
}
