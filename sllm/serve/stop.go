package serve

import "strings"

// matcher finds stop strings in a text that comes in pieces. The first stop string that is complete ends the text, whatever the
// pieces; of two that end together the one that begins first counts.
type matcher struct {
	stops []string
	held  string // may begin a stop string
	done  bool
}

// push adds a piece and returns what is certainly no part of a stop string. A character is never split, as a suffix of the text
// that begins a stop string begins with a whole character.
func (m *matcher) push(s string) string {
	if m.done || len(m.stops) == 0 {
		if m.done {
			return ""
		}
		return s
	}
	s = m.held + s
	at, end := -1, len(s)+1
	for _, stop := range m.stops {
		i := strings.Index(s, stop)
		if i >= 0 && (i+len(stop) < end || i+len(stop) == end && i < at) {
			at, end = i, i+len(stop)
		}
	}
	if at >= 0 {
		m.held, m.done = "", true
		return s[:at]
	}
	keep := 0
	for _, stop := range m.stops {
		for n := min(len(stop)-1, len(s)); n > keep; n-- {
			if strings.HasSuffix(s, stop[:n]) {
				keep = n
			}
		}
	}
	m.held = s[len(s)-keep:]
	return s[:len(s)-keep]
}

// flush ends the text and returns what was held back.
func (m *matcher) flush() string {
	s := m.held
	m.held = ""
	return s
}
