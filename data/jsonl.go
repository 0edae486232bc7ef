package data

import (
	"cmp"
	"errors"
	"fmt"
	"unicode/utf16"
	"unicode/utf8"
)

// maxDepth bounds the nesting of a line's values, maxIDBytes the length of an id.
const (
	maxDepth   = 256
	maxIDBytes = 4096
)

// line is what a line of JSONL says: {"id": ..., "content": ...} and whatever else, which is ignored.
type line struct {
	id       string // "" if the line has none
	content  []byte
	replaced int // lone surrogates and invalid bytes in id and content that became U+FFFD
}

// parseLine reads one line in the schema of WanJuan's text part. It takes exactly the JSON of RFC 8259, an id that is a
// string or a number, and a content that is a string. Of a key given twice the last counts.
func parseLine(text []byte) (line, error) {
	p := lineParser{b: text}
	l, err := p.document()
	if err != nil {
		return line{}, err
	}
	return l, nil
}

type lineParser struct {
	b []byte
	i int
}

// document parses the whole line.
func (p *lineParser) document() (l line, err error) {
	p.space()
	if p.peek() != '{' {
		return l, p.bad("want an object")
	}
	var idErr error
	contentErr := errors.New("no content")
	idBad, contentBad := 0, 0
	err = p.object(func(key string) error {
		switch key {
		case "id":
			l.id, idBad, idErr = "", 0, nil
			at := p.i
			switch c := p.peek(); {
			case c == '"':
				s, n, err := p.text()
				if len(s) > maxIDBytes {
					idErr = fmt.Errorf("id of %d bytes, the limit is %d", len(s), maxIDBytes)
				}
				l.id, idBad = string(s), n
				return err
			case c == '-' || isDigit(c):
				err := p.number()
				if p.i-at > maxIDBytes {
					idErr = fmt.Errorf("id of %d bytes, the limit is %d", p.i-at, maxIDBytes)
				}
				l.id = string(p.b[at:p.i])
				return err
			case c != 'n':
				idErr = errors.New("id is neither a string nor a number")
			}
		case "content":
			l.content, contentBad, contentErr = nil, 0, nil
			switch p.peek() {
			case '"':
				s, n, err := p.text()
				l.content, contentBad = s, n
				return err
			case 'n':
				contentErr = errors.New("content is null")
			default:
				contentErr = errors.New("content is not a string")
			}
		}
		return p.value(1)
	})
	if err != nil {
		return l, err
	}
	p.space()
	if p.i < len(p.b) {
		return l, p.bad("unexpected text after the object")
	}
	l.replaced = idBad + contentBad
	return l, cmp.Or(contentErr, idErr)
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

// bad describes what is wrong at the current byte.
func (p *lineParser) bad(what string) error {
	if p.i >= len(p.b) {
		return fmt.Errorf("broken json at byte %d: line ends, %s", p.i, what)
	}
	return fmt.Errorf("broken json at byte %d: %s", p.i, what)
}

func (p *lineParser) space() {
	for p.i < len(p.b) && (p.b[p.i] == ' ' || p.b[p.i] == '\t' || p.b[p.i] == '\r' || p.b[p.i] == '\n') {
		p.i++
	}
}

// peek returns the current byte, or 0 at the end, which no JSON token starts with.
func (p *lineParser) peek() byte {
	if p.i < len(p.b) {
		return p.b[p.i]
	}
	return 0
}

// object parses an object; member has to parse the value of each key.
func (p *lineParser) object(member func(key string) error) error {
	p.i++ // {
	p.space()
	if p.peek() == '}' {
		p.i++
		return nil
	}
	for {
		p.space()
		if p.peek() != '"' {
			return p.bad("want a key")
		}
		key, _, err := p.text()
		if err != nil {
			return err
		}
		p.space()
		if p.peek() != ':' {
			return p.bad("want ':'")
		}
		p.i++
		p.space()
		if err := member(string(key)); err != nil {
			return err
		}
		if end, err := p.next('}'); end || err != nil {
			return err
		}
	}
}

// next takes the ',' between two members or the end mark.
func (p *lineParser) next(end byte) (bool, error) {
	p.space()
	switch p.peek() {
	case ',':
		p.i++
		return false, nil
	case end:
		p.i++
		return true, nil
	}
	return false, p.bad(fmt.Sprintf("want ',' or '%c'", end))
}

// value skips any value.
func (p *lineParser) value(depth int) error {
	if depth > maxDepth {
		return p.bad(fmt.Sprintf("values nested more than %d deep", maxDepth))
	}
	switch c := p.peek(); {
	case c == '"':
		_, _, err := p.text()
		return err
	case c == '{':
		return p.object(func(string) error { return p.value(depth + 1) })
	case c == '[':
		return p.array(depth)
	case c == '-' || isDigit(c):
		return p.number()
	}
	for _, word := range []string{"true", "false", "null"} {
		if len(p.b)-p.i >= len(word) && string(p.b[p.i:p.i+len(word)]) == word {
			p.i += len(word)
			return nil
		}
	}
	return p.bad("want a value")
}

func (p *lineParser) array(depth int) error {
	p.i++ // [
	p.space()
	if p.peek() == ']' {
		p.i++
		return nil
	}
	for {
		p.space()
		if err := p.value(depth + 1); err != nil {
			return err
		}
		if end, err := p.next(']'); end || err != nil {
			return err
		}
	}
}

func (p *lineParser) number() error {
	if p.peek() == '-' {
		p.i++
	}
	if p.peek() == '0' {
		p.i++
	} else if err := p.digits(); err != nil {
		return err
	}
	if p.peek() == '.' {
		p.i++
		if err := p.digits(); err != nil {
			return err
		}
	}
	if c := p.peek(); c == 'e' || c == 'E' {
		p.i++
		if c := p.peek(); c == '+' || c == '-' {
			p.i++
		}
		return p.digits()
	}
	return nil
}

func (p *lineParser) digits() error {
	if !isDigit(p.peek()) {
		return p.bad("want a digit")
	}
	for isDigit(p.peek()) {
		p.i++
	}
	return nil
}

// text parses a string. It returns what the string stands for and how many lone surrogates and invalid bytes it
// replaced.
func (p *lineParser) text() (out []byte, replaced int, err error) {
	p.i++ // "
	start := p.i
	for p.i < len(p.b) {
		switch c := p.b[p.i]; {
		case c == '"':
			out = append(out, p.b[start:p.i]...)
			p.i++
			return out, replaced, nil
		case c < ' ':
			return nil, 0, p.bad(fmt.Sprintf("control character 0x%02x in a string", c))
		case c == '\\':
			out = append(out, p.b[start:p.i]...)
			r, bad, err := p.escape()
			if err != nil {
				return nil, 0, err
			}
			if bad {
				replaced++
			}
			out = utf8.AppendRune(out, r)
			start = p.i
		case c < utf8.RuneSelf:
			p.i++
		default:
			r, n := utf8.DecodeRune(p.b[p.i:])
			if r == utf8.RuneError && n == 1 {
				out = append(out, p.b[start:p.i]...)
				out = utf8.AppendRune(out, utf8.RuneError)
				replaced++
				start = p.i + 1
			}
			p.i += n
		}
	}
	return nil, 0, p.bad("string has no end")
}

// escape parses an escape sequence; bad says that it is half of a surrogate pair without the other half.
func (p *lineParser) escape() (r rune, bad bool, err error) {
	if p.i+1 >= len(p.b) {
		p.i = len(p.b)
		return 0, false, p.bad("string has no end")
	}
	c := p.b[p.i+1]
	if c != 'u' {
		for i, k := range `"\/bfnrt` {
			if byte(k) == c {
				p.i += 2
				return rune("\"\\/\b\f\n\r\t"[i]), false, nil
			}
		}
		return 0, false, p.bad("unknown escape")
	}
	r = p.hex(p.i)
	if r < 0 {
		return 0, false, p.bad(`want four hex digits after \u`)
	}
	p.i += 6
	if !utf16.IsSurrogate(r) {
		return r, false, nil
	}
	if pair := utf16.DecodeRune(r, p.hex(p.i)); pair != utf8.RuneError {
		p.i += 6
		return pair, false, nil
	}
	return utf8.RuneError, true, nil
}

// hex returns the value of a \uXXXX at i, or -1.
func (p *lineParser) hex(i int) rune {
	if i+6 > len(p.b) || p.b[i] != '\\' || p.b[i+1] != 'u' {
		return -1
	}
	var r rune
	for _, c := range p.b[i+2 : i+6] {
		switch {
		case isDigit(c):
			c -= '0'
		case 'a' <= c && c <= 'f':
			c -= 'a' - 10
		case 'A' <= c && c <= 'F':
			c -= 'A' - 10
		default:
			return -1
		}
		r = r<<4 | rune(c)
	}
	return r
}
