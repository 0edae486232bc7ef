package segment

import (
	"bytes"
	"unicode/utf8"
)

// tailLen is how many bytes of the sentence so far a Rule keeps: more than the longest abbreviation, mark and closing
// quote together.
const tailLen = 32

// www is "www." as the last four bytes of a text.
const www = 'w'<<24 | 'w'<<16 | 'w'<<8 | '.'

// Rule is the default segmenter. It reads tokens one by one and says after each whether a sentence ends there:
//
//   - after a mark (. ! ? ; : , a line break, a dash, and the Chinese 。！？；：，…) once the sentence has min tokens;
//     closing quotes and brackets behind the mark must stand in the mark's own token, as a quote that is a token of
//     its own opens the next sentence as often as it closes this one;
//   - never after a digit and one of . , : (a number may go on), after a listed abbreviation or a single capital, nor in
//     an unspaced run of ASCII that holds "/", "@" or "www.";
//   - always at max tokens.
//
// What it says depends on the tokens since the last end only, so the same rule places the ends in training, in
// evaluation and in generation, and may be started at any sentence. The zero Rule is not ready for use; a Rule is not
// safe for concurrent use.
type Rule struct {
	min, max int
	n        int    // tokens of the sentence so far
	tail     []byte // its last bytes, at most tailLen
	whole    bool   // tail holds the whole sentence
	run      bool   // the ASCII run that ends the tail holds "/", "@" or "www."
	last     uint32 // its last four bytes
}

// NewRule returns a Rule that ends sentences at no fewer than min and no more than max tokens. It panics unless
// 1 <= min <= max.
func NewRule(min, max int) *Rule {
	if min < 1 || max < min {
		panic("segment: want 1 <= min <= max")
	}
	r := &Rule{min: min, max: max, tail: make([]byte, 0, 2*tailLen)}
	r.Reset()
	return r
}

// Reset forgets the sentence so far: the next token is the first of a sentence.
func (r *Rule) Reset() {
	r.n, r.tail, r.whole, r.run, r.last = 0, r.tail[:0], true, false, 0
}

// Push takes the bytes of the next token and reports whether a sentence ends with it.
func (r *Rule) Push(piece []byte) (end bool) {
	r.n++
	r.add(piece)
	if r.n >= r.max || r.n >= r.min && r.boundary(piece) {
		r.Reset()
		return true
	}
	return false
}

// Len returns the number of tokens since the last end.
func (r *Rule) Len() int { return r.n }

// Cut returns the number of tokens of each sentence of a document of n tokens, piece(i) being the bytes of token i. The
// counts sum to n; the last sentence may be shorter than min.
func Cut(piece func(i int) []byte, n, min, max int) []int32 {
	r := NewRule(min, max)
	var out []int32
	start := 0
	for i := range n {
		if r.Push(piece(i)) {
			out = append(out, int32(i+1-start))
			start = i + 1
		}
	}
	if start < n {
		out = append(out, int32(n-start))
	}
	return out
}

// add appends a token to the sentence so far.
func (r *Rule) add(piece []byte) {
	for _, b := range piece {
		r.last = r.last<<8 | uint32(b)
		switch {
		case b <= ' ' || b >= utf8.RuneSelf:
			r.run = false
		case b == '/' || b == '@' || r.last == www:
			r.run = true
		}
	}
	if len(piece) > tailLen {
		piece = piece[len(piece)-tailLen:]
		r.whole = false
	}
	r.tail = append(r.tail, piece...)
	if over := len(r.tail) - tailLen; over > 0 {
		r.tail = append(r.tail[:0], r.tail[over:]...)
		r.whole = false
	}
}

// boundary reports whether the text so far, whose last token is piece, ends with a mark that may close a sentence.
func (r *Rule) boundary(piece []byte) bool {
	body := bytes.TrimRight(piece, " \t")
	spaced := len(body) < len(piece)
	if bytes.HasSuffix(body, []byte("\n")) {
		return true
	}
	bare := trimClosers(body)
	if len(bare) == 0 {
		return false
	}
	// The mark may have begun in an earlier token: look for it at the end of the text, less what was trimmed.
	cut := len(piece) - len(bare)
	if cut >= len(r.tail) {
		return false
	}
	text := r.tail[:len(r.tail)-cut]
	switch c := text[len(text)-1]; c {
	case '.', ',', ':':
		if (r.run && !spaced) || (cut == 0 && r.goesOn(text)) {
			return false
		}
		return true
	case '!', '?', ';':
		return !r.run || spaced
	case '-':
		return bytes.HasSuffix(text, []byte("--")) && (!r.run || spaced)
	}
	return endsWithAny(text, wideMarks)
}

// goesOn reports whether text, which ends with '.', ',' or ':', may be the middle of a number or the end of an
// abbreviation.
func (r *Rule) goesOn(text []byte) bool {
	mark := text[len(text)-1]
	text = text[:len(text)-1]
	if len(text) == 0 {
		return false
	}
	if isDigit(text[len(text)-1]) {
		return true
	}
	if mark != '.' {
		return false
	}
	i := len(text)
	for i > 0 && (isLetter(text[i-1]) || text[i-1] == '.') {
		i--
	}
	if i == 0 && !r.whole || i > 0 && (isDigit(text[i-1]) || text[i-1] >= utf8.RuneSelf) {
		return false // the word began out of sight, or is no plain word
	}
	word := text[i:]
	if n := len(word); n > 0 && 'A' <= word[n-1] && word[n-1] <= 'Z' && (n == 1 || word[n-2] == '.') {
		return true // an initial: "J.", "J.R."
	}
	return abbreviations[string(word)]
}

func isDigit(b byte) bool  { return '0' <= b && b <= '9' }
func isLetter(b byte) bool { return 'a' <= b|0x20 && b|0x20 <= 'z' }

// wideMarks are the marks that take more than one byte: they may span tokens and count when complete.
var wideMarks = [][]byte{
	[]byte("—"), []byte("。"), []byte("！"), []byte("？"), []byte("；"), []byte("："), []byte("，"), []byte("…"),
}

// closers may stand behind a mark in the mark's own token.
var closers = [][]byte{
	[]byte("”"), []byte("’"), []byte("»"), []byte("›"), []byte("」"), []byte("』"), []byte("）"), []byte("】"), []byte("》"), []byte("〉"),
}

func trimClosers(b []byte) []byte {
next:
	for len(b) > 0 {
		switch b[len(b)-1] {
		case '"', '\'', ')', ']', '}', '*', '_', '`':
			b = b[:len(b)-1]
			continue
		}
		for _, c := range closers {
			if bytes.HasSuffix(b, c) {
				b = b[:len(b)-len(c)]
				continue next
			}
		}
		break
	}
	return b
}

func endsWithAny(b []byte, ends [][]byte) bool {
	for _, e := range ends {
		if bytes.HasSuffix(b, e) {
			return true
		}
	}
	return false
}

// abbreviations, without their last stop. Those with a stop inside are listed from their first letter on, since a
// tokenizer may cut them anywhere.
var abbreviations = set(
	"Dr", "Mr", "Mrs", "Ms", "Messrs", "Mme", "Mlle", "Prof", "Rev", "Hon", "St", "Sr", "Jr", "Gen", "Col", "Maj", "Capt",
	"Lt", "Sgt", "Adm", "Gov", "Sen", "Rep", "Pres", "Mt", "Ft", "Inc", "Ltd", "Co", "Corp", "Bros", "Dept", "Univ",
	"vs", "etc", "cf", "viz", "al", "ca", "approx", "est", "resp", "ibid", "op", "ed", "eds", "vol", "vols", "Vol", "pp", "p",
	"No", "Nos", "Nr", "Fig", "Figs", "fig", "figs", "Eq", "Eqs", "eq", "Sec", "sec", "Ch", "ch", "chap", "Chap",
	"Jan", "Feb", "Mar", "Apr", "Jun", "Jul", "Aug", "Sep", "Sept", "Oct", "Nov", "Dec",
	"Tue", "Tues", "Thu", "Thur", "Thurs", "Fri",
	"e", "e.g", "eg", "i", "i.e", "ie", "a", "a.m", "p.m", "q", "q.v", "Ph", "Ph.D", "Esq",
)

func set(words ...string) map[string]bool {
	m := make(map[string]bool, len(words))
	for _, w := range words {
		m[w] = true
	}
	return m
}
