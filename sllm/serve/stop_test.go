package serve

import (
	"math/rand/v2"
	"strings"
	"testing"
	"unicode/utf8"
)

// reference cuts a text at the stop string that is complete first.
func reference(text string, stops []string) (string, bool) {
	for end := range len(text) + 1 {
		at := -1
		for _, s := range stops {
			if i := strings.LastIndex(text[:end], s); i >= 0 && i+len(s) == end && (at < 0 || i < at) {
				at = i
			}
		}
		if at >= 0 {
			return text[:at], true
		}
	}
	return text, false
}

// TestMatcher feeds texts of few letters in pieces of every kind.
func TestMatcher(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	letters := []string{"a", "b", "é", "è", "。", "\n"}
	text := func(n int) string {
		var b strings.Builder
		for range n {
			b.WriteString(letters[rng.IntN(len(letters))])
		}
		return b.String()
	}
	found := 0
	for range 20000 {
		whole := text(rng.IntN(12))
		var stops []string
		for range rng.IntN(4) {
			stops = append(stops, text(1+rng.IntN(4)))
		}
		m := matcher{stops: stops}
		got := ""
		for rest := []rune(whole); len(rest) > 0; {
			n := 1 + rng.IntN(len(rest))
			s := m.push(string(rest[:n]))
			if !utf8.ValidString(s) {
				t.Fatalf("%q with %q: a piece %q is not whole", whole, stops, s)
			}
			got, rest = got+s, rest[n:]
		}
		got += m.flush()
		if want, done := reference(whole, stops); got != want || m.done != done {
			t.Fatalf("%q with %q: %q, %v; want %q, %v", whole, stops, got, m.done, want, done)
		}
		if m.done {
			found++
		}
	}
	if found < 1000 {
		t.Fatalf("only %d texts held a stop string", found)
	}
}
