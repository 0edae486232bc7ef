package tokenizer

import "unicode/utf8"

// blank is how SentencePiece writes a space in its vocabulary: U+2581.
const blank = "▁"

// spm is what a SentencePiece-style tokenizer needs beyond the merges.
type spm struct {
	ascii [utf8.RuneSelf]int32 // token of a character, or -1; that of ' ' is the token of U+2581
	chars map[rune]int32
	unk   int32
	fuse  bool // a run of unknown characters is one unknown token

	fallback    bool // bytes has a token for every byte
	splitSpaces bool // each space begins a word (Metaspace with split)

	// joins[a*256+b] tells whether some merge joins text that ends in byte a with text that begins with byte b. Where the bytes on
	// both sides of a character boundary have none, no token can cross it, so the text may be cut there.
	joins *[1 << 16]bool
}

// spmWords encodes normalized text of a SentencePiece-style tokenizer. By definition it is one word. It is cut where no
// merge can cross, which changes nothing and lets the cache work; without byte fallback it is not, because a run of
// unknown characters may be one token.
func (e *encoder) spmWords(s []byte) {
	p := &e.t.spm
	cut := p.fallback
	for i := 0; i < len(s); {
		_, n := utf8.DecodeRune(s[i:])
		j := i + n
		for j < len(s) && j-i < maxWord {
			if p.splitSpaces && s[j] == ' ' || cut && !p.joins[int(s[j-1])<<8|int(s[j])] {
				break
			}
			if s[j] < utf8.RuneSelf {
				j++
				continue
			}
			_, n := utf8.DecodeRune(s[j:])
			j += n
		}
		e.spmWord(s[i:j])
		i = j
	}
}

// spmWord encodes one word.
func (e *encoder) spmWord(w []byte) {
	t := e.t
	if len(w) > maxCached || !t.spm.fallback {
		if t.ignoreMerges {
			if id, ok := t.whole[string(w)]; ok {
				e.emit(id, len(w))
				return
			}
		}
		e.mergeLong(w, e.spmSymbols(w))
		return
	}
	h := t.cache.hash(w)
	if ids := t.cache.get(h, w); ids != nil {
		e.emitAll(ids)
		return
	}
	var ids []int32
	if id, ok := t.whole[string(w)]; ok && t.ignoreMerges {
		ids = []int32{id}
	} else {
		n := 0
		for i := 0; i < len(w); {
			id, size := t.spm.char(w[i:])
			if id >= 0 {
				e.w.ids[n] = id
				n++
			} else {
				for _, b := range w[i : i+size] {
					e.w.ids[n] = t.bytes[b]
					n++
				}
			}
			i += size
		}
		e.w.n = n
		ids = copyIDs(e.w.merge(&t.merges))
	}
	t.cache.put(h, w, ids)
	e.emitAll(ids)
}

// char returns the token of the character at the start of s, or -1, and its length in bytes.
func (p *spm) char(s []byte) (id int32, size int) {
	if s[0] < utf8.RuneSelf {
		return p.ascii[s[0]], 1
	}
	r, n := utf8.DecodeRune(s)
	if n == 1 {
		return -1, 1
	}
	if id, ok := p.chars[r]; ok {
		return id, n
	}
	return -1, n
}

// spmSymbols fills e.sym with the tokens of the characters of w and returns how many there are.
func (e *encoder) spmSymbols(w []byte) int {
	t := e.t
	if cap(e.sym) < len(w) {
		e.sym = make([]symbol, len(w))
	}
	e.sym = e.sym[:len(w)]
	count, last := 0, int32(-1)
	put := func(id int32, i, n int) {
		e.sym[i] = symbol{id, last, int32(i + n)}
		last = int32(i)
		count++
	}
	for i := 0; i < len(w); {
		id, n := t.spm.char(w[i:])
		switch {
		case id >= 0:
			put(id, i, n)
		case t.spm.fallback:
			for k := i; k < i+n; k++ {
				put(t.bytes[w[k]], k, 1)
			}
		case t.spm.fuse && last >= 0 && e.sym[last].id == t.spm.unk:
			e.sym[last].next = int32(i + n)
		default:
			put(t.spm.unk, i, n)
		}
		i += n
	}
	return count
}

// collapse returns s without the spaces at both ends and with one space for each run of them, as SentencePiece does under
// remove_extra_whitespaces. It fills e.spans. The result is s itself when nothing changes, else it lies in e.buf.
func (e *encoder) collapse(s []byte) []byte {
	out := e.buf[:0]
	for i := 0; i < len(s); {
		if s[i] != ' ' {
			out = append(out, s[i])
			i++
			continue
		}
		j := i + 1
		for j < len(s) && s[j] == ' ' {
			j++
		}
		from := len(out)
		if i > 0 && j < len(s) {
			out = append(out, ' ')
		}
		if len(out)-from != j-i {
			e.spans = append(e.spans, span{from, len(out), i, j})
		}
		i = j
	}
	e.buf = out
	if len(e.spans) == 0 {
		return s
	}
	return out
}
