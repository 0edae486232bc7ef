package train

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"svae/data"
	"svae/data/segment"
)

// prose returns a haystack of the sentences of texts.
func prose(t *testing.T, codec *data.Codec, n int) *Haystack {
	t.Helper()
	text := " " + strings.Join(texts(n), " ")
	var sentences []string
	var tokens []int
	_, ts, bs := codec.Split([]byte(text))
	for i, b := range bs {
		sentences, tokens = append(sentences, text[:b]), append(tokens, int(ts[i]))
		text = text[b:]
	}
	h, err := NewHaystack(sentences, tokens)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func newCodec(t *testing.T) *data.Codec {
	t.Helper()
	codec, err := data.NewCodec(loadTokenizer(t), segment.Config{})
	if err != nil {
		t.Fatal(err)
	}
	return codec
}

// TestNeedleWords: a key is no value, no word is a part of a list twice, and the words of Words are single tokens of the
// tokenizer that the recall model has.
func TestNeedleWords(t *testing.T) {
	for _, l := range [][]string{slices.Concat(needleKeys, needleValues), needleNames} {
		seen := map[string]bool{}
		for _, w := range l {
			if seen[w] {
				t.Errorf("%q stands twice", w)
			}
			seen[w] = true
		}
	}
	if len(needleKeys) < 32 || len(needleValues) < 32 || len(needleNames) < 32 {
		t.Errorf("%d keys, %d values, %d names", len(needleKeys), len(needleValues), len(needleNames))
	}
	tok := loadTokenizer(t)
	for _, w := range slices.Concat(needleKeys, needleValues) {
		if n := len(tok.Encode([]byte(" " + w))); n != 1 {
			t.Errorf("%q has %d tokens", w, n)
		}
	}
}

// TestNeedleDocument: a document has its needles once, in order, the asked one at its depth, and about the tokens wanted.
func TestNeedleDocument(t *testing.T) {
	codec := newCodec(t)
	h, tok := prose(t, codec, 300), codec.Tokenizer()
	count := func(s string) int { return len(tok.Encode([]byte(s))) }
	rng := rand.New(rand.NewPCG(3, 3))
	for _, s := range []NeedleStyle{Words, Digits} {
		for i := range 60 {
			shape := NeedleShape{Tokens: 500 + rng.IntN(1500), Needles: 1 + rng.IntN(12), Depth: rng.Float64()}
			if i%2 == 0 {
				shape.Tail = 64
			}
			if i < 4 {
				shape.Depth = float64(i % 2)
			}
			d, err := s.Document(h, shape, count, uint64(i))
			if err != nil {
				t.Fatal(err)
			}
			if n := count(d.Text); n < shape.Tokens-40 || n > shape.Tokens+80 {
				t.Errorf("%+v: %d tokens", shape, n)
			}
			if len(d.Needles) != shape.Needles || d.Needles[d.Asked].Depth != shape.Depth {
				t.Fatalf("%+v: %d needles, the asked one at %v", shape, len(d.Needles), d.Needles[d.Asked].Depth)
			}
			at := 0
			for _, n := range d.Needles {
				text := s.sentence(n)
				i := strings.Index(d.Text[at:], text)
				if i < 0 || strings.Count(d.Text, n.Begin+" ") != 1 {
					t.Fatalf("%q stands %d times, or out of order", text, strings.Count(d.Text, n.Begin))
				}
				at += i + len(text)
			}
			asked := s.sentence(d.Needles[d.Asked])
			before, behind, _ := strings.Cut(d.Text, asked)
			if tail := count(behind); tail < shape.Tail-40 {
				t.Errorf("%+v: %d tokens behind the needle", shape, tail)
			}
			if got := float64(len(before)) / float64(len(d.Text)); shape.Tail == 0 && (got < shape.Depth-0.12 || got > shape.Depth+0.12) {
				t.Errorf("%+v: the needle stands at %v", shape, got)
			}
			again, err := s.Document(h, shape, count, uint64(i))
			if err != nil || again.Text != d.Text {
				t.Errorf("%+v: the same seed gave another document (%v)", shape, err)
			}
			other, err := s.Document(h, shape, count, uint64(i)+1000)
			if err != nil || other.Text == d.Text {
				t.Errorf("%+v: another seed gave the same document (%v)", shape, err)
			}
		}
	}
	if _, err := Words.Document(h, NeedleShape{Tokens: 100, Needles: 20}, count, 1); err == nil {
		t.Error("20 needles went into 100 tokens")
	}
	_, err := Words.Document(h, NeedleShape{Tokens: 100, Needles: 1000}, count, 1)
	mustContain(t, err, "1000 needles")
}

// TestLesson: in a lesson every sentence of the template gives a key the one value that it has there; most are said again.
func TestLesson(t *testing.T) {
	codec := newCodec(t)
	h, tok := prose(t, codec, 300), codec.Tokenizer()
	count := func(s string) int { return len(tok.Encode([]byte(s))) }
	again, asked := 0, 0
	for i := range 200 {
		l := Lesson{Tokens: 64 + 8*i, Keys: 2 + i%30, Prose: 0.5, Ask: 0.3}
		text, err := Words.Lesson(h, l, count, uint64(i))
		if err != nil {
			t.Fatal(err)
		}
		if n := count(text); n > l.Tokens || n < l.Tokens/2-60 {
			t.Errorf("%+v: %d tokens", l, n)
		}
		values := map[string]string{}
		for _, s := range strings.Split(text, " They now call ")[1:] {
			s, _, _ = strings.Cut(s, ".")
			key, value, ok := strings.Cut(s, " ")
			if !ok || !slices.Contains(needleKeys, key) || !slices.Contains(needleValues, value) {
				t.Fatalf("no needle: %q", s)
			}
			if was, ok := values[key]; ok {
				again++
				if was != value {
					t.Errorf("%q is %q and %q", key, was, value)
				}
			}
			values[key] = value
		}
		if len(values) > l.Keys {
			t.Errorf("%+v: %d keys", l, len(values))
		}
		asked += strings.Count(text, "What do they now call ")
		same, err := Words.Lesson(h, l, count, uint64(i))
		if err != nil || same != text {
			t.Errorf("the same seed gave another lesson (%v)", err)
		}
	}
	if again < 2000 || asked < again/5 || asked > again/2 {
		t.Errorf("%d needles were said again, %d asked for", again, asked)
	}
	for _, l := range []Lesson{{Tokens: 8, Keys: 4}, {Tokens: 100, Keys: 1}, {Tokens: 100, Keys: 1000}, {Tokens: 100, Keys: 4, Prose: 1}, {Tokens: 100, Keys: 4, Ask: -1}} {
		if _, err := Words.Lesson(h, l, count, 1); err == nil {
			t.Errorf("%+v made a lesson", l)
		}
	}
}

func TestNeedleStyle(t *testing.T) {
	for _, name := range NeedleStyles() {
		s, err := ParseNeedleStyle(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Validate(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	_, err := ParseNeedleStyle("hay")
	mustContain(t, err, "hay", "words or digits")
	for _, s := range []string{"no key {value}", "no value {key}", "{value} of {key}", "{key} {key} {value}"} {
		if err := (&NeedleStyle{Template: s, Ask: "{key}?", Keys: []string{"a"}}).Validate(); err == nil {
			t.Errorf("%q passed", s)
		}
	}
	if err := (&NeedleStyle{Template: "{key} {value}", Ask: "what?", Keys: []string{"a"}}).Validate(); err == nil {
		t.Error("a question without a key passed")
	}
}
