package tokenizer

import (
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// span is a stretch that normalization changed: dst bytes [dst0, dst1) stand for source bytes [src0, src1). Outside spans
// the bytes are the same.
type span struct{ dst0, dst1, src0, src1 int }

// inert are the characters that combine in Unicode 15 and do not in the tables of the Hugging Face library, which are those of Unicode
// 9: it keeps their place, and nothing combines across them. A model has seen such text as the library writes it.
var inert = &unicode.RangeTable{
	R16: []unicode.Range16{
		{0x07FD, 0x07FD, 1}, {0x0898, 0x089F, 1}, {0x08CA, 0x08D3, 1}, {0x09FE, 0x09FE, 1}, {0x0C3C, 0x0C3C, 1},
		{0x0D3B, 0x0D3C, 1}, {0x0EBA, 0x0EBA, 1}, {0x1715, 0x1715, 1}, {0x1ABF, 0x1ACE, 1}, {0x1DF6, 0x1DFA, 1},
		{0xA82C, 0xA82C, 1},
	},
	R32: []unicode.Range32{
		{0x10D24, 0x10D27, 1}, {0x10EAB, 0x10EAC, 1}, {0x10EFD, 0x10EFF, 1}, {0x10F46, 0x10F50, 1}, {0x10F82, 0x10F85, 1},
		{0x11070, 0x11070, 1}, {0x1133B, 0x1133B, 1}, {0x1145E, 0x1145E, 1}, {0x11839, 0x1183A, 1}, {0x11930, 0x11930, 1},
		{0x1193D, 0x1193E, 1}, {0x11943, 0x11943, 1}, {0x119E0, 0x119E0, 1}, {0x11A34, 0x11A34, 1}, {0x11A47, 0x11A47, 1},
		{0x11A99, 0x11A99, 1}, {0x11D42, 0x11D42, 1}, {0x11D44, 0x11D45, 1}, {0x11D97, 0x11D97, 1}, {0x11F41, 0x11F42, 1},
		{0x16FF0, 0x16FF1, 1}, {0x1E08F, 0x1E08F, 1}, {0x1E130, 0x1E136, 1}, {0x1E2AE, 0x1E2AE, 1}, {0x1E2EC, 0x1E2EF, 1},
		{0x1E4EC, 0x1E4EF, 1},
	},
}

// normalize returns s in Unicode NFC. Bytes that are not UTF-8, and inert characters, stay as they are, and nothing combines
// across them. It fills
// e.spans. The result is s itself when nothing changes, else it lies in e.buf.
func (e *encoder) normalize(s []byte) []byte {
	if n := norm.NFC.QuickSpan(s); n == len(s) {
		return s
	}
	out := e.buf[:0]
	for i := 0; i < len(s); {
		j := sequence(s, i)
		if !e.wantLens && ordinary(s[i:j]) { // without spans many sequences go at once, which is much faster
			for j < len(s) {
				k := sequence(s, j)
				if !ordinary(s[j:k]) {
					break
				}
				j = k
			}
			out = norm.NFC.Append(out, s[i:j]...)
			i = j
			continue
		}
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

// ordinary tells whether a sequence is valid, short, and does not combine with what stands before it.
func ordinary(seq []byte) bool {
	_, n := utf8.DecodeRune(seq)
	return (n > 1 || seq[0] < utf8.RuneSelf) && len(seq) <= safeMarks && norm.NFC.Properties(seq).BoundaryBefore()
}

// sequence returns the end of the sequence at s[i]: an invalid byte, an inert character, or a character and all that may combine
// with it.
func sequence(s []byte, i int) int {
	c, n := utf8.DecodeRune(s[i:])
	j := i + n
	if n == 1 && s[i] >= utf8.RuneSelf || c >= 0x300 && unicode.Is(inert, c) {
		return j
	}
	for j < len(s) && s[j] >= utf8.RuneSelf {
		c, n := utf8.DecodeRune(s[j:])
		if n == 1 || c >= 0x300 && unicode.Is(inert, c) || norm.NFC.Properties(s[j:]).BoundaryBefore() {
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
		if norm.NFC.Properties(seq).BoundaryBefore() {
			return norm.NFC.Append(out, seq...)
		}
		return append(out, norm.NFC.Bytes(seq)...) // Append would join seq to what out ends in
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
