package tokenizer

import (
	"math/rand"
	"strings"
	"testing"

	"golang.org/x/text/unicode/norm"
)

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
