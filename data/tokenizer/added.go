package tokenizer

import (
	"fmt"
	"unicode"
	"unicode/utf8"
)

// addedToken is one entry of added_tokens.
type addedToken struct {
	ID         int32  `json:"id"`
	Content    string `json:"content"`
	SingleWord bool   `json:"single_word"`
	LStrip     bool   `json:"lstrip"`
	RStrip     bool   `json:"rstrip"`
	Normalized bool   `json:"normalized"`
	Special    bool   `json:"special"`
}

// matcher finds added tokens in text: the leftmost, and of those the longest.
type matcher struct {
	first [256]bool // bytes a token begins with
	// edges is a trie: node<<8|byte -> node. end is the token that ends at a node.
	edges map[uint64]uint32
	end   map[uint32]addedToken
	nodes uint32
	plain bool // some token is not special
}

// add puts a token into the trie, to be found as text. A token with the same text holds until the later one.
func (m *matcher) add(text string, a addedToken) error {
	if len(text) > maxAdded {
		return fmt.Errorf("added token %d is %d bytes long (at most %d are read)", a.ID, len(text), maxAdded)
	}
	if m.edges == nil {
		m.edges, m.end = map[uint64]uint32{}, map[uint32]addedToken{}
	}
	m.first[text[0]] = true
	node := uint32(0)
	for i := 0; i < len(text); i++ {
		key := uint64(node)<<8 | uint64(text[i])
		next, ok := m.edges[key]
		if !ok {
			m.nodes++
			next = m.nodes
			m.edges[key] = next
		}
		node = next
	}
	m.end[node] = a
	m.plain = m.plain || !a.Special
	return nil
}

// active tells whether a search can find anything.
func (m *matcher) active(special bool) bool {
	return m != nil && m.edges != nil && (special || m.plain)
}

// match returns the longest token that begins at s[i].
func (m *matcher) match(s []byte, i int) (a addedToken, end int) {
	node := uint32(0)
	for j := i; j < len(s); j++ {
		next, ok := m.edges[uint64(node)<<8|uint64(s[j])]
		if !ok {
			break
		}
		node = next
		if t, ok := m.end[node]; ok {
			a, end = t, j+1
		}
	}
	return a, end
}

// each calls found for every token in s, in order, with the range it covers. Without special, the text of a special token
// is passed over as a whole, so that no other token is found inside it.
func (m *matcher) each(s []byte, special bool, found func(a, b int, id int32)) {
	done := 0 // what lies before is covered
	for i := 0; i < len(s); i++ {
		if !m.first[s[i]] {
			continue
		}
		tok, end := m.match(s, i)
		if end == 0 {
			continue
		}
		start := i
		i = end - 1
		if tok.Special && !special || tok.SingleWord && !aloneAt(s, start, end) {
			continue
		}
		if tok.LStrip {
			start = spaceBefore(s, start, done)
		}
		if tok.RStrip {
			end = spaceAfter(s, end)
		}
		// rstrip of the one before may have reached into this one.
		if start = max(start, done); start >= end {
			continue
		}
		found(start, end, tok.ID)
		done = end
		i = max(i, end-1)
	}
}

// aloneAt tells whether s[a:b] has no word character beside it.
func aloneAt(s []byte, a, b int) bool {
	before, _ := utf8.DecodeLastRune(s[:a])
	after, _ := utf8.DecodeRune(s[b:])
	return (a == 0 || !wordChar(before)) && (b == len(s) || !wordChar(after))
}

// wordChar tells whether \w matches r (Unicode TR 18, annex C).
func wordChar(r rune) bool {
	return r != utf8.RuneError && (unicode.IsLetter(r) || unicode.IsMark(r) ||
		unicode.In(r, unicode.Nd, unicode.Nl, unicode.Pc, unicode.Other_Alphabetic, unicode.Join_Control))
}

// spaceBefore returns the start of the white space that ends at s[i], not before low.
func spaceBefore(s []byte, i, low int) int {
	for i > low {
		r, n := utf8.DecodeLastRune(s[low:i])
		if !unicode.Is(unicode.White_Space, r) {
			break
		}
		i -= n
	}
	return i
}

// spaceAfter returns the end of the white space that begins at s[i].
func spaceAfter(s []byte, i int) int {
	for i < len(s) {
		r, n := utf8.DecodeRune(s[i:])
		if !unicode.Is(unicode.White_Space, r) {
			break
		}
		i += n
	}
	return i
}
