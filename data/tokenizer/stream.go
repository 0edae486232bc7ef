package tokenizer

import (
	"strings"
	"unicode/utf8"
)

// Stream decodes ids as they come and gives back only whole characters. It is for one goroutine.
//
// A stream starts in the middle of a text, as generation after a prompt does. When the first id pushed is the BOS it starts
// a text, and the dummy leading space is removed as Decode does.
type Stream struct {
	t     *Tokenizer
	begun bool
	start bool // the next piece begins the text
	buf   []byte
}

// NewStream returns a Stream with nothing in it.
func (t *Tokenizer) NewStream() *Stream { return &Stream{t: t} }

// Push adds one id and returns the characters that are now complete. Bytes that can be no part of UTF-8 come out as U+FFFD, one
// for each byte; bytes that may still become a character wait.
func (s *Stream) Push(id int32) string {
	if !s.begun {
		s.begun = true
		if id >= 0 && id == s.t.bos {
			s.start = s.t.dummy != dummyNone
		}
	}
	p := s.t.Piece(id)
	if len(p) == 0 {
		return ""
	}
	brk := s.t.flags[id]&flagBreak != 0
	if s.start && !brk && p[0] == ' ' {
		p = p[1:]
	}
	s.start = brk && s.t.dummy == dummyAlways
	s.buf = append(s.buf, p...)
	n := 0
	for n < len(s.buf) && utf8.FullRune(s.buf[n:]) {
		_, size := utf8.DecodeRune(s.buf[n:])
		n += size
	}
	out := valid(s.buf[:n])
	s.buf = s.buf[:copy(s.buf, s.buf[n:])]
	return out
}

// Flush ends the stream: what still waits is no UTF-8, and comes out as U+FFFD for each byte. The stream may then be used
// again, from the middle of a text.
func (s *Stream) Flush() string {
	out := valid(s.buf)
	s.buf, s.begun, s.start = s.buf[:0], false, false
	return out
}

// valid returns b with each invalid byte replaced by U+FFFD.
func valid(b []byte) string {
	if utf8.Valid(b) {
		return string(b)
	}
	var sb strings.Builder
	for len(b) > 0 {
		r, n := utf8.DecodeRune(b)
		sb.WriteRune(r)
		b = b[n:]
	}
	return sb.String()
}
