package tokenizer

import (
	"math/rand"
	"slices"
	"strings"
	"sync"
	"testing"
	"unicode"
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
			if r == utf8.RuneError && size == 1 || unicode.Is(inert, r) {
				break
			}
			n += size
		}
		out.WriteString(norm.NFC.String(s[:n]))
		if n < len(s) {
			_, size := utf8.DecodeRuneInString(s[n:])
			out.WriteString(s[n : n+size])
			n += size
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
