package tokenizer

// pattern is one of the ways to cut text into words. Every pattern covers the whole text, so the words joined are the text.
type pattern struct {
	name   string
	modern bool // the cl100k family, which Llama 3 and Qwen use; otherwise GPT-2's
	digits int  // modern: most digits in one word
	none   bool // no cutting

	digitsFirst bool // every digit is a word, and GPT-2's pattern sees what lies between
}

var (
	patternGPT2   = pattern{name: "gpt2"}
	patternLlama3 = pattern{name: "llama3", modern: true, digits: 3}
	patternQwen   = pattern{name: "qwen", modern: true, digits: 1}
	patternDigits = pattern{name: "digits-gpt2", digitsFirst: true} // SmolLM, StarCoder
	patternNone   = pattern{name: "none", none: true}
)

// The expressions that stand for each pattern. Those of one pattern match alike: they differ in possessive quantifiers, where
// nothing could be given back, and in how the contractions are written.
var patterns = map[string]pattern{
	`'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`: patternGPT2,
	`'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`:    patternGPT2,
	regexLlama3: patternLlama3,
	`'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+`: patternLlama3,
	regexQwen: patternQwen,
}

// The expressions that are written for a pattern.
const (
	regexLlama3 = `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`
	regexQwen   = `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`
)

// expression returns the expression of a Split that cuts alike, or "" where ByteLevel has it built in.
func (p *pattern) expression() string {
	switch p.name {
	case patternLlama3.name:
		return regexLlama3
	case patternQwen.name:
		return regexQwen
	}
	return ""
}

// next returns where the word that begins at s[i] ends. i must be less than len(s).
func (p *pattern) next(s []byte, i int) int {
	switch {
	case p.none:
		return len(s)
	case p.modern:
		return nextModern(classes(), s, i, p.digits)
	case p.digitsFirst:
		return nextDigits(digitClasses(), s, i)
	}
	return nextGPT2(classes(), s, i)
}

// nextGPT2 matches
//
//	's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
func nextGPT2(tab *[0x40000]class, s []byte, i int) int {
	if s[i] == '\'' {
		if n := contraction(s[i+1:], false); n > 0 {
			return i + 1 + n
		}
	}
	j := i
	if s[i] == ' ' && i+1 < len(s) {
		j++
	}
	c, n := classAt(tab, s, j)
	if c == space {
		return spaces(tab, s, i)
	}
	return run(tab, s, j+n, c)
}

// nextDigits gives each number a word of its own, and matches GPT-2's pattern in what lies between, which ends at a number as at
// the end of the text.
func nextDigits(tab *[0x40000]class, s []byte, i int) int {
	c, n := classAt(tab, s, i)
	if c == number {
		return i + n
	}
	if c == space {
		end := run(tab, s, i, space)
		if end < len(s) {
			if c, _ := classAt(tab, s, end); c == number {
				return end
			}
		}
	}
	return nextGPT2(tab, s, i)
}

// nextModern matches, with {1,digits} digits,
//
//	(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+
func nextModern(tab *[0x40000]class, s []byte, i, digits int) int {
	if s[i] == '\'' {
		if n := contraction(s[i+1:], true); n > 0 {
			return i + 1 + n
		}
	}
	c, n := classAt(tab, s, i)
	switch c {
	case letter:
		return run(tab, s, i+n, letter)
	case number:
		j := i + n
		for k := 1; k < digits && j < len(s); k++ {
			c, n := classAt(tab, s, j)
			if c != number {
				break
			}
			j += n
		}
		return j
	}
	next, size := other, 0
	if i+n < len(s) {
		next, size = classAt(tab, s, i+n)
		if next == letter && s[i] != '\r' && s[i] != '\n' {
			return run(tab, s, i+n+size, letter)
		}
	}
	j := i + n
	if s[i] == ' ' && size > 0 && next == other {
		j, c = j+size, other
	}
	if c == other {
		for j = run(tab, s, j, other); j < len(s) && (s[j] == '\r' || s[j] == '\n'); j++ {
		}
		return j
	}
	return lines(tab, s, i)
}

// lines matches \s*[\r\n]+|\s+(?!\S)|\s+ at white space.
func lines(tab *[0x40000]class, s []byte, i int) int {
	end, last := i, i // last: behind the last line break
	for end < len(s) {
		c, n := classAt(tab, s, end)
		if c != space {
			break
		}
		if s[end] == '\r' || s[end] == '\n' {
			last = end + 1
		}
		end += n
	}
	if last > i {
		return last
	}
	return spaces(tab, s, i)
}

// spaces matches \s+(?!\S)|\s+ at white space: all of it at the end of the text, else all but the last, which the next word
// may take; a single one is a word.
func spaces(tab *[0x40000]class, s []byte, i int) int {
	end, last := i, i // last: where the last space begins
	for end < len(s) {
		c, n := classAt(tab, s, end)
		if c != space {
			break
		}
		last = end
		end += n
	}
	if end < len(s) && last > i {
		return last
	}
	return end
}

// run returns the end of the characters of class c that begin at s[j].
func run(tab *[0x40000]class, s []byte, j int, c class) int {
	for j < len(s) {
		d, n := classAt(tab, s, j)
		if d != c {
			break
		}
		j += n
	}
	return j
}

// contraction returns the length of s, t, m, d, re, ve or ll at the start of s, or 0. With fold, case does not matter, and U+017F
// (ſ) is an s, its simple case folding.
func contraction(s []byte, fold bool) int {
	if len(s) == 0 {
		return 0
	}
	lower := func(c byte) byte {
		if fold && c >= 'A' && c <= 'Z' {
			c += 'a' - 'A'
		}
		return c
	}
	switch a := lower(s[0]); a {
	case 's', 't', 'm', 'd':
		return 1
	case 'r', 'v', 'l':
		if len(s) < 2 {
			return 0
		}
		if b := lower(s[1]); a == 'l' && b == 'l' || a != 'l' && b == 'e' {
			return 2
		}
	case 0xC5:
		if fold && len(s) > 1 && s[1] == 0xBF {
			return 2
		}
	}
	return 0
}
