package checkpoints

import (
	"encoding/json"
	"math"
	"strings"
	"unicode"
	"unicode/utf8"
)

// A scanner reads JSON from hostile files: it keeps offsets for its errors, lets the caller see duplicate keys, and holds no
// more than the input. Its methods do nothing after the first error.
type scanner struct {
	b   []byte
	i   int
	err error
}

const maxJSONDepth = 32

func (s *scanner) fail(format string, args ...any) {
	if s.err == nil {
		s.err = formatf("offset %d: "+format, append([]any{s.i}, args...)...)
	}
}

// next skips white space and returns the byte there, 0 at the end.
func (s *scanner) next() byte {
	for s.i < len(s.b) {
		switch c := s.b[s.i]; c {
		case ' ', '\t', '\n', '\r':
			s.i++
		default:
			return c
		}
	}
	return 0
}

func (s *scanner) expect(c byte) {
	if s.err != nil {
		return
	}
	if s.next() != c {
		s.fail("want %q", c)
		return
	}
	s.i++
}

// end fails unless only white space is left.
func (s *scanner) end() {
	if s.err == nil && (s.next() != 0 || s.i < len(s.b)) {
		s.fail("text after the JSON value")
	}
}

// object calls f after each key, with the scanner at its value. A key that comes twice is an error.
func (s *scanner) object(f func(key string)) {
	s.expect('{')
	if s.err == nil && s.next() == '}' {
		s.i++
		return
	}
	seen := map[string]struct{}{}
	for s.err == nil {
		s.next()
		at := s.i
		key := s.string()
		if _, ok := seen[key]; ok {
			s.i = at
			s.fail("key %q comes twice", clip(key))
		}
		seen[key] = struct{}{}
		s.expect(':')
		if s.err != nil {
			return
		}
		f(key)
		if !s.more('}') {
			return
		}
	}
}

// array calls f with the scanner at each element.
func (s *scanner) array(f func()) {
	s.expect('[')
	if s.err == nil && s.next() == ']' {
		s.i++
		return
	}
	for s.err == nil {
		f()
		if !s.more(']') {
			return
		}
	}
}

// more reads the comma between two members, or the end of their container.
func (s *scanner) more(end byte) bool {
	if s.err != nil {
		return false
	}
	switch s.next() {
	case ',':
		s.i++
		return true
	case end:
		s.i++
	default:
		s.fail("want ',' or %q", end)
	}
	return false
}

func (s *scanner) string() string {
	if s.err != nil {
		return ""
	}
	if s.next() != '"' {
		s.fail("want a string")
		return ""
	}
	begin, escaped := s.i, false
	for s.i++; s.i < len(s.b); s.i++ {
		switch c := s.b[s.i]; {
		case c == '\\':
			escaped = true
			s.i++
		case c < ' ':
			s.fail("control character in a string")
			return ""
		case c == '"':
			s.i++
			return s.unquote(begin, escaped)
		}
	}
	s.i = begin
	s.fail("the string has no end")
	return ""
}

// unquote decodes the string literal that lies between begin and the scanner.
func (s *scanner) unquote(begin int, escaped bool) string {
	lit := s.b[begin:s.i]
	if !utf8.Valid(lit) {
		s.i = begin
		s.fail("string is not UTF-8")
		return ""
	}
	if !escaped {
		return string(lit[1 : len(lit)-1])
	}
	var v string
	if err := json.Unmarshal(lit, &v); err != nil {
		s.i = begin
		s.fail("%v", err)
	}
	return v
}

// size reads an integer that is not negative.
func (s *scanner) size() int {
	if s.err != nil {
		return 0
	}
	s.next()
	begin, n := s.i, uint64(0)
	for ; s.i < len(s.b) && s.b[s.i] >= '0' && s.b[s.i] <= '9'; s.i++ {
		d := uint64(s.b[s.i] - '0')
		if n > (math.MaxInt64-d)/10 || n*10+d > uint64(maxInt) {
			s.i = begin
			s.fail("number is out of range")
			return 0
		}
		n = n*10 + d
	}
	if s.i == begin || s.i-begin > 1 && s.b[begin] == '0' || s.i < len(s.b) && isNumber(s.b[s.i]) {
		s.i = begin
		s.fail("want an integer that is not negative")
	}
	return int(n)
}

func isNumber(c byte) bool {
	return c >= '0' && c <= '9' || c == '.' || c == '-' || c == '+' || c == 'e' || c == 'E'
}

// text reads any value and returns its text; a string comes without quotes.
func (s *scanner) text() string {
	if s.err != nil {
		return ""
	}
	if s.next() == '"' {
		return s.string()
	}
	begin := s.i
	s.skip(0)
	return string(s.b[begin:s.i])
}

// skip reads any value.
func (s *scanner) skip(depth int) {
	if s.err != nil {
		return
	}
	if depth > maxJSONDepth {
		s.fail("nested more than %d deep", maxJSONDepth)
		return
	}
	switch c := s.next(); {
	case c == '{':
		s.object(func(string) { s.skip(depth + 1) })
	case c == '[':
		s.array(func() { s.skip(depth + 1) })
	case c == '"':
		s.string()
	default:
		begin := s.i
		for s.i < len(s.b) && (isNumber(s.b[s.i]) || s.b[s.i] >= 'a' && s.b[s.i] <= 'z') {
			s.i++
		}
		if !json.Valid(s.b[begin:s.i]) {
			s.i = begin
			s.fail("want a value")
		}
	}
}

// clip makes text from a file fit for an error: short, and on one line.
func clip(v string) string {
	if len(v) > 200 {
		v = v[:200] + "..."
	}
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, v)
}
