package data

import (
	"bytes"
	"context"
	"fmt"
	"hash/fnv"
	"math/rand"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"svae/data/segment"
)

// wordTokenizer is a small tokenizer for tests: ids 0..255 are bytes, then come words; the longest match wins. It has
// marks of its own at the end.
type wordTokenizer struct {
	words map[string]int32
	list  []string
	salt  string
}

func newWordTokenizer() *wordTokenizer {
	t := &wordTokenizer{words: make(map[string]int32)}
	for b := range 256 {
		t.list = append(t.list, string([]byte{byte(b)}))
	}
	t.list = append(t.list, strings.Fields("the and of to in that was it he a sentence is with this line one two three")...)
	for _, w := range t.list[256:] {
		t.list = append(t.list, " "+w)
	}
	t.list = append(t.list, `."`, ",\"", ".\n", "ing", "er", "。", "，")
	for i, w := range t.list {
		t.words[w] = int32(i)
	}
	return t
}

func (t *wordTokenizer) EncodeLens(text []byte) (ids, lens []int32) {
	for len(text) > 0 {
		for n := min(len(text), 10); ; n-- {
			if id, ok := t.words[string(text[:n])]; ok {
				ids, lens, text = append(ids, id), append(lens, int32(n)), text[n:]
				break
			}
		}
	}
	return ids, lens
}

func (t *wordTokenizer) Encode(text []byte) []int32 {
	ids, _ := t.EncodeLens(text)
	return ids
}

func (t *wordTokenizer) Piece(id int32) []byte {
	if int(id) >= len(t.list) {
		return nil
	}
	return []byte(t.list[id])
}

func (t *wordTokenizer) Decode(ids []int32) []byte {
	var out []byte
	for _, id := range ids {
		out = append(out, t.Piece(id)...)
	}
	return out
}

func (t *wordTokenizer) VocabSize() int { return len(t.list) + 3 }
func (t *wordTokenizer) BOS() int32     { return int32(len(t.list)) }
func (t *wordTokenizer) EOS() int32     { return int32(len(t.list)) + 1 }
func (t *wordTokenizer) PAD() int32     { return int32(len(t.list)) + 2 }
func (t *wordTokenizer) Fingerprint() string {
	h := fnv.New64a()
	fmt.Fprint(h, t.list, t.salt)
	return fmt.Sprintf("words-%x", h.Sum64())
}

// build runs Build on files with the test tokenizer.
func build(t testing.TB, c BuildConfig, inputs ...string) (*Report, error) {
	t.Helper()
	c.Inputs, c.Tokenizer = inputs, newWordTokenizer()
	if c.Out == "" {
		c.Out = filepath.Join(t.TempDir(), "out")
	}
	return Build(context.Background(), c)
}

// mustBuild builds a data set that has to come out, and opens it.
func mustBuild(t testing.TB, c BuildConfig, inputs ...string) (*Dataset, *Report) {
	t.Helper()
	if c.Out == "" {
		c.Out = filepath.Join(t.TempDir(), "out")
	}
	r, err := build(t, c, inputs...)
	if err != nil {
		t.Fatal(err)
	}
	dir := c.Out
	if c.Holdout > 0 {
		dir = filepath.Join(dir, "train")
	}
	d, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	return d, r
}

// write puts text into a file of a temporary folder.
func write(t testing.TB, name string, text []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, text, 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

func documents(t testing.TB, d *Dataset) []Document {
	t.Helper()
	var docs []Document
	for doc, err := range d.Documents() {
		if err != nil {
			t.Fatal(err)
		}
		docs = append(docs, doc)
	}
	return docs
}

// texts returns the text of every document of d, after its id.
func texts(t testing.TB, d *Dataset) [][2]string {
	t.Helper()
	var out [][2]string
	for _, doc := range documents(t, d) {
		out = append(out, [2]string{doc.ID, string(newWordTokenizer().Decode(doc.IDs))})
	}
	return out
}

// corpus returns n lines of JSONL with documents of 1 to most sentences.
func corpus(n, most int, seed int64) []byte {
	rng := rand.New(rand.NewSource(seed))
	words := strings.Fields("the and of to in that was it he a sentence is with this line one two three house river walking higher")
	var out bytes.Buffer
	for i := range n {
		var text strings.Builder
		for range 1 + rng.Intn(most) {
			for range 2 + rng.Intn(12) {
				text.WriteString(words[rng.Intn(len(words))] + " ")
			}
			text.WriteString([]string{"end. ", "so, ", "why? ", "。"}[rng.Intn(4)])
		}
		fmt.Fprintf(&out, "{\"id\": \"doc%d\", \"content\": %q}\n", i, text.String())
	}
	return out.Bytes()
}

// tree returns the files under dir and their contents.
func tree(t testing.TB, dir string) map[string]string {
	t.Helper()
	out := make(map[string]string)
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := os.ReadFile(path)
		rel, _ := filepath.Rel(dir, path)
		out[rel] = string(text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func sameTree(t testing.TB, got, want map[string]string) {
	t.Helper()
	for name := range want {
		if got[name] != want[name] {
			t.Errorf("%s differs or is missing", name)
		}
	}
	for name := range got {
		if _, ok := want[name]; !ok {
			t.Errorf("%s should not be there", name)
		}
	}
}

func testdata(t testing.TB, name string) string {
	t.Helper()
	dir := os.Getenv("SVAE_TESTDATA")
	path := filepath.Join(dir, "data", name)
	if _, err := os.Stat(path); dir == "" || err != nil {
		t.Skipf("SVAE_TESTDATA has no data/%s", name)
	}
	return path
}

func TestCodec(t *testing.T) {
	tok := newWordTokenizer()
	text := "It was 3.14 in the line. " + strings.Repeat("and on ", 20) + "to 。”\xff\xe3\x80 tail"
	for _, c := range []struct {
		seg      segment.Config
		min, max int
		lossless bool
	}{
		{segment.Config{}, 6, 32, true},
		{segment.Config{MinTokens: 1, MaxTokens: 5}, 1, 5, true},
		{segment.Config{Name: "reference-lossless"}, 1, 63, true},
		{segment.Config{Name: "reference-lossless", MaxTokens: 5}, 1, 4, true},
		{segment.Config{Name: "reference", MaxTokens: 5}, 1, 4, false},
	} {
		codec, err := NewCodec(tok, c.seg)
		if err != nil {
			t.Fatal(err)
		}
		ids, tokens, lens := codec.Split([]byte(text))
		if len(tokens) == 0 || len(tokens) != len(lens) {
			t.Fatalf("%+v: %d counts of tokens, %d of bytes", c.seg, len(tokens), len(lens))
		}
		at, bytes := 0, 0
		var sentences [][]int32
		for s, n := range tokens {
			if int(n) > c.max || s < len(tokens)-1 && int(n) < c.min {
				t.Errorf("%+v: sentence %d has %d tokens", c.seg, s, n)
			}
			sentences = append(sentences, ids[at:at+int(n)])
			if got := len(tok.Decode(ids[at : at+int(n)])); got != int(lens[s]) {
				t.Errorf("%+v: sentence %d has %d bytes, not %d", c.seg, s, got, lens[s])
			}
			at += int(n)
			bytes += int(lens[s])
		}
		if at != len(ids) {
			t.Errorf("%+v: sentences of %d tokens, %d ids", c.seg, at, len(ids))
		}
		if got := string(codec.Decode(ids)); c.lossless && (got != text || bytes != len(text)) {
			t.Errorf("%+v: text is %q", c.seg, got)
		} else if !c.lossless && bytes >= len(text) {
			t.Errorf("%+v: nothing was dropped", c.seg)
		}
		if got := codec.Sentences([]byte(text)); !slices.EqualFunc(got, sentences, slices.Equal[[]int32]) {
			t.Errorf("%+v: Sentences differ from Split", c.seg)
		}
		if c.seg.Name == "" {
			e := codec.NewEnds()
			for s, sent := range sentences {
				for i, id := range sent {
					if got, want := e.Push(id), i == len(sent)-1; got != want && s < len(sentences)-1 {
						t.Errorf("%+v: end %v after token %d of sentence %d", c.seg, got, i, s)
					}
				}
			}
		}
	}
}

func TestCodecEndsOfReference(t *testing.T) {
	tok := newWordTokenizer()
	codec, err := NewCodec(tok, segment.Config{Name: "reference", MaxTokens: 4})
	if err != nil {
		t.Fatal(err)
	}
	e := codec.NewEnds()
	var got []bool
	for _, id := range []int32{1, 2, tok.EOS(), 1, 2, 3, 4, tok.EOS()} {
		got = append(got, e.Push(id))
	}
	if want := []bool{false, false, true, false, false, true, false, true}; !slices.Equal(got, want) {
		t.Errorf("ends %v, want %v", got, want)
	}
	if _, err := NewCodec(tok, segment.Config{Name: "x"}); err == nil {
		t.Error("an unknown segmenter was taken")
	}
}
