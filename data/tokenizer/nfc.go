package tokenizer

import (
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// span is a stretch that normalization changed: dst bytes [dst0, dst1) stand for source bytes [src0, src1). Outside spans
// the bytes are the same.
type span struct{ dst0, dst1, src0, src1 int }

// normalize returns s in Unicode NFC. Bytes that are not UTF-8 stay as they are, and nothing combines across them. It fills
// e.spans. The result is s itself when nothing changes, else it lies in e.buf.
func (e *encoder) normalize(s []byte) []byte {
	if n := norm.NFC.QuickSpan(s); n == len(s) {
		return s
	}
	out := e.buf[:0]
	for i := 0; i < len(s); {
		j := sequence(s, i)
		seq := s[i:j]
		if len(seq) == 1 || norm.NFC.QuickSpan(seq) == len(seq) {
			out = append(out, seq...)
		} else {
			from := len(out)
			out = compose(out, seq)
			if string(out[from:]) != string(seq) {
				e.spans = append(e.spans, span{from, len(out), i, j})
			}
		}
		i = j
	}
	e.buf = out
	return out
}

// sequence returns the end of the sequence at s[i]: an invalid byte, or a character and all that may combine with it.
func sequence(s []byte, i int) int {
	_, n := utf8.DecodeRune(s[i:])
	j := i + n
	if n == 1 && s[i] >= utf8.RuneSelf {
		return j
	}
	for j < len(s) && s[j] >= utf8.RuneSelf {
		_, n := utf8.DecodeRune(s[j:])
		if n == 1 || norm.NFC.Properties(s[j:]).BoundaryBefore() {
			break
		}
		j += n
	}
	return j
}

// safeMarks is the length of a sequence, in characters, that x/text normalizes without breaking it up: beyond 30
// combining marks it puts in U+034F (UAX 15, stream-safe format), which NFC does not.
const safeMarks = 9

// compose appends the NFC of one sequence to out (UAX 15, §1.2).
func compose(out, seq []byte) []byte {
	if utf8.RuneCount(seq) <= safeMarks {
		return norm.NFC.Append(out, seq...)
	}
	// Decompose; sort each run of marks by combining class, keeping the order of equals.
	type mark struct {
		r   rune
		ccc uint8
	}
	var d []mark
	for i := 0; i < len(seq); {
		_, n := utf8.DecodeRune(seq[i:])
		p := norm.NFD.Properties(seq[i:])
		dec := p.Decomposition()
		if dec == nil {
			dec = norm.NFD.Bytes(seq[i : i+n]) // Hangul syllables, and what does not decompose
		}
		for _, r := range string(dec) {
			d = append(d, mark{r, norm.NFD.PropertiesString(string(r)).CCC()})
		}
		i += n
	}
	d = sortMarks(d, func(m mark) uint8 { return m.ccc })
	// Join each mark to the last starter, unless one of the same or a higher class stands between.
	starter, last := -1, uint8(0)
	kept := d[:0]
	for _, m := range d {
		if starter >= 0 && (last < m.ccc || last == 0 && starter == len(kept)-1) {
			if r, ok := primary(kept[starter].r, m.r); ok {
				kept[starter].r = r
				continue
			}
		}
		if m.ccc == 0 {
			starter = len(kept)
		}
		last = m.ccc
		kept = append(kept, m)
	}
	for _, m := range kept {
		out = utf8.AppendRune(out, m.r)
	}
	return out
}

// primary returns the character that a and b compose to, if there is one.
func primary(a, b rune) (rune, bool) {
	s := norm.NFC.String(string(a) + string(b))
	r, n := utf8.DecodeRuneInString(s)
	return r, n == len(s)
}

// sortMarks sorts each run of elements of class above 0 by class, stably and in O(n) for the 255 classes.
func sortMarks[T any](d []T, ccc func(T) uint8) []T {
	out := make([]T, 0, len(d))
	for i := 0; i < len(d); {
		if ccc(d[i]) == 0 {
			out = append(out, d[i])
			i++
			continue
		}
		var count [257]int
		j := i
		for ; j < len(d) && ccc(d[j]) != 0; j++ {
			count[int(ccc(d[j]))+1]++
		}
		for k := 1; k < len(count); k++ {
			count[k] += count[k-1]
		}
		base := len(out)
		out = out[:base+j-i]
		for _, m := range d[i:j] {
			c := ccc(m)
			out[base+count[c]] = m
			count[c]++
		}
		i = j
	}
	return out
}

// sourceLens turns lens, which count normalized bytes of one segment, into source bytes.
func sourceLens(lens []int32, spans []span) {
	pos, before, shift := 0, 0, 0 // shift: source minus normalized offset, after the spans passed
	for i, n := range lens {
		pos += int(n)
		for len(spans) > 0 && pos >= spans[0].dst1 {
			shift = spans[0].src1 - spans[0].dst1
			spans = spans[1:]
		}
		src := pos + shift
		if len(spans) > 0 && pos > spans[0].dst0 {
			sp := spans[0]
			src = sp.src0 + (pos-sp.dst0)*(sp.src1-sp.src0)/(sp.dst1-sp.dst0)
		}
		lens[i] = int32(src - before)
		before = src
	}
}
