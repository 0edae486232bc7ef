package tokenizer

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// nasty are texts that are not UTF-8, or that a rule may trip over.
var nasty = []string{
	"\xff", "\xc3", "a\xc3(b", "\xe4\xbb", " \xe4\xbb ", "\xf0\x9f\x98", "\xed\xa0\x80", "\xc0\x80", "e\u0301\xffe\u0301", "\xcc\x81",
	"▁", "▁▁ ▁a", " ▁", "\xe2\x96", "\xe2\x96\x81\xe2\x96", "\x00", "\x00\x00 \x00", "\ufeff", "\u2028\u2029", "<0x41>\xff",
}

// exact tells whether Decode(Encode(x)) is x.
func exact(tok *Tokenizer) bool { return !tok.nfc && (tok.kind == byteLevel || tok.spm.fallback) }

// nfcValid is NFC of the valid parts of s.
func nfcValid(s string) string {
	var out strings.Builder
	for len(s) > 0 {
		n := 0
		for n < len(s) {
			r, size := utf8.DecodeRuneInString(s[n:])
			if r == utf8.RuneError && size == 1 {
				break
			}
			n += size
		}
		out.WriteString(norm.NFC.String(s[:n]))
		if n < len(s) {
			out.WriteByte(s[n])
			n++
		}
		s = s[n:]
	}
	return out.String()
}

func checkRoundTrip(t *testing.T, tok *Tokenizer, s string) {
	t.Helper()
	ids := tok.Encode([]byte(s))
	ids2, lens := tok.EncodeLens([]byte(s))
	if !slices.Equal(ids, ids2) || len(lens) != len(ids2) {
		t.Fatalf("EncodeLens(%q) = %d, %d; Encode %d", s, ids2, lens, ids)
	}
	sum := 0
	for i, n := range lens {
		if n < 0 {
			t.Fatalf("EncodeLens(%q): token %d covers %d bytes", s, i, n)
		}
		sum += int(n)
	}
	if sum != len(s) {
		t.Fatalf("EncodeLens(%q): %d bytes covered of %d", s, sum, len(s))
	}
	got := string(tok.Decode(ids))
	switch {
	case exact(tok):
		if got != s {
			t.Fatalf("Decode(Encode(%q)) = %q", s, got)
		}
	case tok.nfc:
		if want := nfcValid(s); got != want && !strings.Contains(want, "\u034f") {
			t.Fatalf("Decode(Encode(%q)) = %q, want %q", s, got, want)
		}
	}
	if exact(tok) { // each token covers the bytes it stands for
		pos := 0
		for i, id := range ids {
			p := string(tok.Piece(id))
			if i == 0 && tok.dummy != dummyNone && tok.flags[id]&flagBreak == 0 {
				p = p[1:]
			}
			if src := s[pos : pos+int(lens[i])]; src != p && tok.dummy == dummyNone {
				t.Fatalf("%q: token %d stands for %q and covers %q", s, i, p, src)
			}
			pos += int(lens[i])
		}
	}
}

// plainAdded tells whether s holds an added token that swallows or changes what is around it.
func plainAdded(s string) bool {
	return strings.Contains(s, "<Caf") || strings.Contains(s, "yes") || strings.Contains(s, "<think>")
}

func TestRoundTrip(t *testing.T) {
	g := readGolden(t)
	for _, name := range smallNames {
		tok, _ := readSmall(t, name)
		for _, s := range append(slices.Clone(nasty), g.Strings...) {
			if tok.nfc && plainAdded(s) {
				continue // NFC does not reach across an added token
			}
			checkRoundTrip(t, tok, s)
		}
		rnd := rand.New(rand.NewSource(1))
		for range 2000 {
			b := make([]byte, rnd.Intn(40))
			for i := range b {
				b[i] = byte(rnd.Intn(256))
			}
			checkRoundTrip(t, tok, string(b))
		}
	}
}

func TestLens(t *testing.T) {
	gpt2, _ := readSmall(t, "gpt2")
	qwen, _ := readSmall(t, "qwen")
	spm, _ := readSmall(t, "spm")
	for _, c := range []struct {
		tok  *Tokenizer
		text string
	}{{gpt2, "the times\xff"}, {qwen, "xe\u0301 the e\u0301\u0301"}, {spm, "the times, 今\xff"}} {
		ids, lens := c.tok.EncodeLens([]byte(c.text))
		pos := 0
		for i, id := range ids {
			src := c.text[pos : pos+int(lens[i])]
			pos += int(lens[i])
			p := string(c.tok.Piece(id))
			if i == 0 && c.tok == spm {
				p = strings.TrimPrefix(p, " ")
			}
			if src != p && !c.tok.nfc {
				t.Errorf("%q: token %d stands for %q and covers %q", c.text, i, p, src)
			}
		}
	}
	// é is two tokens of one byte each, for three source bytes.
	ids, lens := qwen.EncodeLens([]byte("Ae\u0301"))
	if string(qwen.Decode(ids)) != "A\u00e9" {
		t.Errorf("decoded %q", qwen.Decode(ids))
	}
	if sum := lens[0] + lens[len(lens)-1]; len(lens) == 2 && sum != 4 {
		t.Errorf("lens %d", lens)
	}
}

// TestLeadingSpace: the two rules under which the library would lose a leading space.
func TestLeadingSpace(t *testing.T) {
	_, spm := readSmall(t, "spm")
	_, gpt2 := readSmall(t, "gpt2")
	for name, b := range map[string][]byte{
		"metaspace first": edit(t, spm, func(j map[string]any) {
			j["normalizer"] = nil
			j["pre_tokenizer"] = map[string]any{"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": false}
		}),
		"metaspace always, split": edit(t, spm, func(j map[string]any) {
			j["normalizer"] = nil
			j["pre_tokenizer"] = map[string]any{"type": "Metaspace", "replacement": "▁", "add_prefix_space": true}
		}),
		"metaspace never": edit(t, spm, func(j map[string]any) {
			j["normalizer"] = nil
			j["pre_tokenizer"] = map[string]any{"type": "Metaspace", "replacement": "▁", "prepend_scheme": "never"}
		}),
		"add_prefix_space": edit(t, gpt2, func(j map[string]any) {
			j["pre_tokenizer"] = map[string]any{"type": "ByteLevel", "add_prefix_space": true, "use_regex": true}
		}),
		"prepend": spm,
	} {
		tok, err := FromJSON(b)
		if err != nil {
			t.Fatal(err)
		}
		first := tok.Encode([]byte("the"))
		if name != "metaspace never" && tok.Piece(first[0])[0] != ' ' {
			t.Errorf("%s: %q has no space in front", name, tok.Piece(first[0]))
		}
		for _, s := range append(slices.Clone(nasty), "", " ", "  ", "the", " the", "  the  ", "a<think>b", "<think> a", " <think>  <think>", "yes no") {
			checkRoundTrip(t, tok, s)
		}
	}
}

func TestUnknown(t *testing.T) {
	tok, _ := readSmall(t, "spm-unk")
	for text, unks := range map[string]int{"the \U0001f600\U0001f600 the": 1, "\xff\xfe": 1, "\U0001f600 \U0001f600": 2} {
		ids, lens := tok.EncodeLens([]byte(text))
		n, sum := 0, 0
		for i, id := range ids {
			if id == 0 {
				n++
			}
			sum += int(lens[i])
		}
		if n != unks || sum != len(text) {
			t.Errorf("%q: %d unknown tokens over %d bytes, want %d over %d", text, n, sum, unks, len(text))
		}
	}
	if tok.Piece(0) != nil || !tok.Special(0) {
		t.Error("<unk> stands for text")
	}
}

func TestAccessors(t *testing.T) {
	tok, _ := readSmall(t, "gpt2")
	n := int32(tok.VocabSize())
	end := tok.EncodeSpecial([]byte("<|endoftext|>"))
	if len(end) != 1 || tok.EOS() != end[0] || tok.BOS() != end[0] || tok.PAD() != n-1 {
		t.Errorf("bos %d eos %d pad %d, <|endoftext|> %d", tok.BOS(), tok.EOS(), tok.PAD(), end)
	}
	for _, id := range []int32{-1, n, 1 << 30, -1 << 31} {
		if tok.Piece(id) != nil || tok.Special(id) {
			t.Errorf("id %d is there", id)
		}
	}
	if tok.Piece(end[0]) != nil || !tok.Special(end[0]) {
		t.Error("<|endoftext|> stands for text")
	}
	if got := tok.Decode([]int32{-5, end[0], 'a' - '!', n, 1 << 30}); string(got) != "a" {
		t.Errorf("decoded %q", got)
	}
	spm, _ := readSmall(t, "spm")
	if spm.BOS() != 1 || spm.EOS() != 2 || spm.PAD() != -1 {
		t.Errorf("spm: bos %d eos %d pad %d", spm.BOS(), spm.EOS(), spm.PAD())
	}
	ids := spm.Encode([]byte("the times"))
	if !strings.HasPrefix(string(spm.Piece(ids[0])), " t") {
		t.Errorf("piece %q", spm.Piece(ids[0]))
	}
	if got := spm.Decode(append([]int32{1}, ids...)); string(got) != "the times" {
		t.Errorf("behind a BOS: %q", got)
	}
}

func TestStream(t *testing.T) {
	g := readGolden(t)
	for _, name := range []string{"gpt2", "llama3", "spm"} {
		tok, _ := readSmall(t, name)
		for _, s := range append(slices.Clone(nasty), g.Strings...) {
			st := tok.NewStream()
			var got strings.Builder
			if name == "spm" {
				got.WriteString(st.Push(tok.BOS()))
			}
			for _, id := range tok.Encode([]byte(s)) {
				part := st.Push(id)
				if !utf8.ValidString(part) {
					t.Fatalf("%s: %q: %q is no UTF-8", name, s, part)
				}
				got.WriteString(part)
			}
			got.WriteString(st.Flush())
			if want := string([]rune(s)); got.String() != want {
				t.Errorf("%s: %q streamed as %q", name, s, got.String())
			}
		}
	}
	tok, _ := readSmall(t, "gpt2")
	id := func(b byte) int32 { return tok.bytes[b] }
	st := tok.NewStream()
	for i, c := range []struct {
		b    byte
		want string
	}{{0xF0, ""}, {0x9F, ""}, {0x98, ""}, {0x80, "😀"}, {0xE4, ""}, {'a', "\ufffda"}, {0xFF, "\ufffd"}, {0xC3, ""}, {0xC3, "\ufffd"}, {0xA9, "é"}, {0xE4, ""}, {0xBB, ""}} {
		if got := st.Push(id(c.b)); got != c.want {
			t.Errorf("byte %d (0x%02X) gave %q, want %q", i, c.b, got, c.want)
		}
	}
	if got := st.Flush(); got != "\ufffd\ufffd" {
		t.Errorf("flush gave %q", got)
	}
	if got := st.Flush() + st.Push(tok.EOS()) + st.Push(id('x')); got != "x" {
		t.Errorf("after flush: %q", got)
	}
	// In the middle of a text the space of the first token stays.
	spm, _ := readSmall(t, "spm")
	st = spm.NewStream()
	if got := st.Push(spm.Encode([]byte("the"))[0]); !strings.HasPrefix(got, " ") {
		t.Errorf("mid-text piece %q", got)
	}
}

func TestConcurrent(t *testing.T) {
	g := readGolden(t)
	for _, name := range []string{"qwen", "spm"} {
		tok, _ := readSmall(t, name)
		var wg sync.WaitGroup
		for k := range 4 {
			wg.Add(1)
			go func() {
				defer wg.Done()
				for i := range g.Strings {
					i = (i + 70*k) % len(g.Strings)
					if got := tok.Encode([]byte(g.Strings[i])); !slices.Equal(got, g.IDs[name].Text[i]) {
						t.Errorf("%s: %q: %d", name, g.Strings[i], got)
					}
				}
			}()
		}
		wg.Wait()
	}
}

// TestCompose holds our NFC, used for long sequences, against x/text where the two must agree.
func TestCompose(t *testing.T) {
	rnd := rand.New(rand.NewSource(3))
	bases := []rune("aeoAU\u00e2\u01a1\u1ea1\u1100\uac00\u0915\u0b47\u05d0\u03b1")
	marks := []rune("\u0300\u0301\u0302\u0308\u0323\u0327\u031b\u0338\u0345\u1161\u11a8\u093c\u0b3e\u05b0\u0653\u0301\u0344\u0f71")
	for range 4000 {
		seq := string(bases[rnd.Intn(len(bases))])
		n := 1 + rnd.Intn(20)
		for range n {
			seq += string(marks[rnd.Intn(len(marks))])
		}
		want := norm.NFC.String(seq)
		e := &encoder{}
		var got []byte
		for i := 0; i < len(seq); {
			j := sequence([]byte(seq), i)
			// Padding that sorts behind all else and is cut off again makes the sequence long enough for our own way.
			pad := strings.Repeat("\u0345", safeMarks+1)
			part := string(compose(nil, []byte(seq[i:j]+pad)))
			got = append(got, strings.TrimSuffix(part, pad)...)
			i = j
		}
		if strings.Contains(seq, "\u0345") || strings.Contains(want, "\u034f") || strings.Contains(seq, "\u03b1") {
			continue
		}
		if string(got) != want {
			t.Fatalf("%+q\n got %+q\nwant %+q", seq, got, want)
		}
		if s := e.normalize([]byte(seq)); string(s) != want {
			t.Fatalf("normalize %+q\n got %+q\nwant %+q", seq, s, want)
		}
	}
	// x/text would put U+034F behind 30 marks; NFC does not.
	long := "a" + strings.Repeat("\u0301", 100)
	e := &encoder{}
	if got := string(e.normalize([]byte(long))); got != "\u00e1"+strings.Repeat("\u0301", 99) {
		t.Errorf("100 accents became %+q", got)
	}
	// A character of class 220 sorts before one of class 230, also in a long sequence.
	long = "o" + strings.Repeat("\u0302", 20) + "\u0323"
	if got := string(e.normalize([]byte(long))); got != "\u1ed9"+strings.Repeat("\u0302", 19) {
		t.Errorf("reordering gave %+q", got)
	}
}

func TestSaveLoad(t *testing.T) {
	g := readGolden(t)
	_, b := readSmall(t, "llama3")
	src, dst := t.TempDir(), t.TempDir()
	files := map[string][]byte{
		"tokenizer.json":          b,
		"tokenizer_config.json":   []byte(`{"bos_token": null, "eos_token": {"content": "<|im|>"}, "tokenizer_class": "PreTrainedTokenizerFast"}`),
		"special_tokens_map.json": []byte(`{"bos_token": "<|im_start|>", "pad_token": "<pad>"}`),
	}
	for name, b := range files {
		write(t, src, name, b)
	}
	write(t, src, "unrelated.txt", []byte("x"))
	a, err := Load(src)
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Save(dst); err != nil {
		t.Fatal(err)
	}
	entries, _ := os.ReadDir(dst)
	if len(entries) != len(files) || len(a.Files()) != len(files) {
		t.Errorf("saved %v", entries)
	}
	for name, want := range files {
		if got, _ := os.ReadFile(filepath.Join(dst, name)); !bytes.Equal(got, want) || !bytes.Equal(a.Files()[name], want) {
			t.Errorf("%s was not kept", name)
		}
	}
	back, err := Load(dst)
	if err != nil {
		t.Fatal(err)
	}
	if back.Fingerprint() != a.Fingerprint() {
		t.Error("the fingerprint changed")
	}
	for _, s := range g.Strings {
		if !slices.Equal(a.Encode([]byte(s)), back.Encode([]byte(s))) {
			t.Errorf("%q encodes otherwise", s)
		}
	}
	// null in the config means none, although the special tokens map names one.
	name := func(s string) int32 { return a.EncodeSpecial([]byte(s))[0] }
	if a.BOS() != -1 || a.EOS() != name("<|im|>") || a.PAD() != name("<pad>") {
		t.Errorf("bos %d eos %d pad %d", a.BOS(), a.EOS(), a.PAD())
	}
	if err := a.Save(filepath.Join(dst, "missing")); err == nil {
		t.Error("saved into a folder that is not there")
	}
}

func TestFingerprint(t *testing.T) {
	tok, b := readSmall(t, "gpt2")
	if !strings.HasPrefix(tok.Fingerprint(), "sha256:") || len(tok.Fingerprint()) != 7+64 {
		t.Errorf("fingerprint %q", tok.Fingerprint())
	}
	same := func(b []byte) bool {
		t.Helper()
		o, err := FromJSON(b)
		if err != nil {
			t.Fatal(err)
		}
		return o.Fingerprint() == tok.Fingerprint()
	}
	if !same(edit(t, b, func(j map[string]any) { // other layout, merges as pairs, no decoder
		delete(j, "decoder")
		m := j["model"].(map[string]any)
		var pairs []any
		for _, s := range m["merges"].([]any) {
			l, r, _ := strings.Cut(s.(string), " ")
			pairs = append(pairs, []any{l, r})
		}
		m["merges"] = pairs
		slices.Reverse(j["added_tokens"].([]any))
	})) {
		t.Error("the fingerprint depends on the layout")
	}
	for name, change := range map[string]func(j map[string]any){
		"merges": func(j map[string]any) {
			m := j["model"].(map[string]any)["merges"].([]any)
			m[0], m[1] = m[1], m[0]
		},
		"special": func(j map[string]any) { j["added_tokens"].([]any)[0].(map[string]any)["special"] = false },
		"nfc":     func(j map[string]any) { j["normalizer"] = map[string]any{"type": "NFC"} },
		"pattern": func(j map[string]any) { j["pre_tokenizer"].(map[string]any)["use_regex"] = false },
		"vocab":   func(j map[string]any) { j["model"].(map[string]any)["vocab"].(map[string]any)["zzz"] = 5000 },
		"whole":   func(j map[string]any) { j["model"].(map[string]any)["ignore_merges"] = true },
	} {
		if same(edit(t, b, change)) {
			t.Errorf("%s changed, the fingerprint did not", name)
		}
	}
}

// TestLoadPair: vocab.json and merges.txt give the same tokenizer as tokenizer.json, and OPT is told from GPT-2.
func TestLoadPair(t *testing.T) {
	g := readGolden(t)
	_, b := readSmall(t, "gpt2")
	var j struct {
		Model struct {
			Vocab  map[string]int32
			Merges []string
		}
	}
	if err := json.Unmarshal(b, &j); err != nil {
		t.Fatal(err)
	}
	plain, err := FromJSON(edit(t, b, func(j map[string]any) { j["added_tokens"] = []any{} }))
	if err != nil {
		t.Fatal(err)
	}
	load := func(shift int32, extra map[string]int32, config string) (*Tokenizer, error) {
		dir := t.TempDir()
		vocab := map[string]int32{}
		for s, id := range j.Model.Vocab {
			vocab[s] = id + shift
		}
		for s, id := range extra {
			vocab[s] = id
		}
		vb, _ := json.Marshal(vocab)
		write(t, dir, "vocab.json", vb)
		write(t, dir, "merges.txt", []byte("#version: 0.2\n"+strings.Join(j.Model.Merges, "\r\n")+"\n"))
		if config != "" {
			write(t, dir, "tokenizer_config.json", []byte(config))
		}
		return Load(dir)
	}
	n := int32(len(j.Model.Vocab))
	gpt2, err := load(0, map[string]int32{"<|endoftext|>": n}, "")
	if err != nil {
		t.Fatal(err)
	}
	opt, err := load(4, map[string]int32{"<s>": 0, "<pad>": 1, "</s>": 2, "<unk>": 3}, "")
	if err != nil {
		t.Fatal(err)
	}
	if gpt2.BOS() != n || gpt2.EOS() != n || gpt2.PAD() != -1 || gpt2.VocabSize() != int(n)+1 {
		t.Errorf("gpt2: bos %d eos %d pad %d of %d", gpt2.BOS(), gpt2.EOS(), gpt2.PAD(), gpt2.VocabSize())
	}
	if opt.BOS() != 2 || opt.EOS() != 2 || opt.PAD() != 1 || !opt.Special(3) {
		t.Errorf("opt: bos %d eos %d pad %d", opt.BOS(), opt.EOS(), opt.PAD())
	}
	for _, s := range g.Strings {
		want := plain.Encode([]byte(s))
		if got := gpt2.Encode([]byte(s)); !slices.Equal(got, want) {
			t.Errorf("gpt2: %q: %d, want %d", s, got, want)
		}
		for i := range want {
			want[i] += 4
		}
		if got := opt.Encode([]byte(s)); !slices.Equal(got, want) {
			t.Errorf("opt: %q: %d, want %d", s, got, want)
		}
	}
	if got := opt.EncodeSpecial([]byte("<s></s>")); !slices.Equal(got, []int32{0, 2}) {
		t.Errorf("<s></s> is %d", got)
	}
	added, err := load(0, map[string]int32{"<|endoftext|>": n}, fmt.Sprintf(
		`{"tokenizer_class":"GPT2Tokenizer","add_prefix_space":true,"pad_token":"<p>","added_tokens_decoder":{"%d":{"content":"<p>","special":true}}}`, n+1))
	if err != nil {
		t.Fatal(err)
	}
	if added.PAD() != n+1 || added.BOS() != n || added.VocabSize() != int(n)+2 || added.Piece(added.Encode([]byte("a"))[0])[0] != ' ' {
		t.Errorf("added: bos %d pad %d", added.BOS(), added.PAD())
	}
	qwen, err := load(0, nil, `{"tokenizer_class":"Qwen2Tokenizer"}`)
	if err != nil {
		t.Fatal(err)
	}
	if !qwen.nfc || qwen.split.name != "qwen" {
		t.Error("Qwen2Tokenizer was not seen")
	}
	for config, want := range map[string]string{
		"":                                    "neither OPT's",
		`{"tokenizer_class":"CodeGenX"}`:      `"CodeGenX"`,
		`{"tokenizer_class":7}`:               "tokenizer_config.json: tokenizer_class",
		`{"eos_token":["x"]}`:                 "eos_token is neither",
		`{"added_tokens_decoder":{"x":{}}}`:   "neither OPT's",
		`{"tokenizer_class":"GPT2Tokenizer"}`: "neither OPT's",
	} {
		if _, err := load(0, nil, config); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("config %q: %v", config, err)
		}
	}
}

// edit changes a tokenizer.json.
func edit(t testing.TB, b []byte, change func(j map[string]any)) []byte {
	t.Helper()
	var j map[string]any
	if err := json.Unmarshal(b, &j); err != nil {
		t.Fatal(err)
	}
	change(j)
	out, err := json.MarshalIndent(j, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func write(t testing.TB, dir, name string, b []byte) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), b, 0o644); err != nil {
		t.Fatal(err)
	}
}

// TestLongLine encodes a line of ten million characters that is one word. With merging in quadratic time it would not end.
func TestLongLine(t *testing.T) {
	n := 10_000_000
	if testing.Short() {
		n = 200_000
	}
	gpt2, _ := readSmall(t, "gpt2")
	spm, _ := readSmall(t, "spm")
	unk, _ := readSmall(t, "spm-unk")
	text := bytes.Repeat([]byte("thewas"), n/6)
	for i, tok := range []*Tokenizer{gpt2, spm, unk} {
		text := text[:len(text)/(1+i)]
		ids, lens := tok.EncodeLens(text)
		sum := 0
		for _, l := range lens {
			sum += int(l)
		}
		if sum != len(text) || len(ids) < len(text)/20 || !bytes.Equal(tok.Decode(ids), text) {
			t.Errorf("%s: %d ids over %d bytes of %d", tok.kind, len(ids), sum, len(text))
		}
	}
}
