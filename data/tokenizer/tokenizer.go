package tokenizer

import "sync"

// kind is the family a tokenizer belongs to.
type kind uint8

const (
	byteLevel kind = iota
	sentencePiece
)

// String returns the name that the fingerprint carries.
func (k kind) String() string {
	if k == sentencePiece {
		return "sentencepiece-bpe"
	}
	return "byte-level-bpe"
}

// Bits of Tokenizer.flags.
const (
	flagSpecial = 1 << iota // stands for no text
	flagBreak               // added token that is found before the dummy space is put in: what follows begins anew
)

// Tokenizer turns text into token ids and back. It is safe for concurrent use.
type Tokenizer struct {
	kind  kind
	split pattern // byteLevel: how text is cut into words
	nfc   bool    // byteLevel: NFC before anything else
	dummy dummy   // where a space is put in front of text
	trim  bool    // sentencePiece: spaces at both ends of text go, and a run of them is one
	early bool    // the space comes before added tokens are looked for in normalized text (the Prepend normalizer)

	ignoreMerges bool             // a word that is a token is that token, whatever the merges say
	whole        map[string]int32 // ignoreMerges: token text -> id

	merges mergeTable
	bytes  [256]int32 // byteLevel: token of a byte. sentencePiece: byte-fallback token. -1 for none
	gaps   bool       // byteLevel: some bytes have no token, and are dropped

	spm spm // sentencePiece only

	text  []byte   // what each token stands for, one after the other
	at    []uint32 // text[at[id]:at[id+1]] belongs to id
	flags []uint8

	raw  *matcher // added tokens looked for in the text as given
	norm *matcher // added tokens looked for after normalization

	bos, eos, pad  int32
	addBOS, addEOS bool
	fingerprint    string
	files          map[string][]byte

	cache    *wordCache
	encoders sync.Pool // of *encoder
}

// dummy says where a space is put in front of the text before it is cut into words.
type dummy uint8

const (
	dummyNone   dummy = iota
	dummyFirst        // at the start of the text only
	dummyAlways       // at the start and after each added token
)

// Encode returns the ids of text. No BOS or EOS is added, and the text of special tokens is treated as text. Added
// tokens that are not special are part of the vocabulary and are found, as in the Hugging Face library.
func (t *Tokenizer) Encode(text []byte) []int32 {
	ids, _ := t.encode(text, false, false)
	return ids
}

// EncodeSpecial is Encode, but special tokens that appear in the text become their ids. Use it for text you wrote, such as
// a chat template, never for text from a stranger.
func (t *Tokenizer) EncodeSpecial(text []byte) []int32 {
	ids, _ := t.encode(text, true, false)
	return ids
}

// EncodeLens is Encode that also tells how many source bytes each token covers.
//
//	returns ids (N), lens (N)
//
// The lengths sum to len(text), unless there are no tokens. A dummy leading space covers no bytes. Bytes that are dropped belong to
// the token before them, or to the first. Where NFC changed the text, the bytes of a changed
// sequence are shared out among the tokens that stand for it.
func (t *Tokenizer) EncodeLens(text []byte) (ids, lens []int32) {
	return t.encode(text, false, true)
}

// Decode returns the bytes that ids stand for, not always valid UTF-8. Special tokens, and ids outside the vocabulary,
// stand for nothing. The dummy leading space, where the tokenizer adds one, is removed.
func (t *Tokenizer) Decode(ids []int32) []byte {
	out := make([]byte, 0, 4*len(ids)+8)
	start := true
	for _, id := range ids {
		p := t.Piece(id)
		if len(p) == 0 {
			continue
		}
		brk := t.flags[id]&flagBreak != 0
		if start && !brk && t.dummy != dummyNone && p[0] == ' ' {
			p = p[1:]
		}
		start = brk && t.dummy == dummyAlways
		out = append(out, p...)
	}
	return out
}

// Piece returns the bytes that one token stands for in the middle of a text. It is nil for special tokens and for ids that
// no token has. The caller must not modify it.
func (t *Tokenizer) Piece(id int32) []byte {
	if id < 0 || int(id) >= len(t.flags) || t.flags[id]&flagSpecial != 0 {
		return nil
	}
	a, b := t.at[id], t.at[id+1]
	if a == b {
		return nil
	}
	return t.text[a:b:b]
}

// VocabSize returns the highest id plus one, added tokens included.
func (t *Tokenizer) VocabSize() int { return len(t.flags) }

// BOS returns the id put in front of a text, or -1 when the tokenizer has none. OPT's is "</s>".
func (t *Tokenizer) BOS() int32 { return t.bos }

// EOS returns the id that ends a text, or -1.
func (t *Tokenizer) EOS() int32 { return t.eos }

// PAD returns the padding id, or -1.
func (t *Tokenizer) PAD() int32 { return t.pad }

// AddBOS tells whether the tokenizer's own files ask for the BOS in front of a text, as Llama's do and GPT-2's do not.
func (t *Tokenizer) AddBOS() bool { return t.addBOS }

// Special tells whether id is a special token, one that stands for no text.
func (t *Tokenizer) Special(id int32) bool {
	return id >= 0 && int(id) < len(t.flags) && t.flags[id]&flagSpecial != 0
}

// Fingerprint returns "sha256:..." over everything that decides how text is encoded: kind, pattern, normalizer,
// vocabulary, merges and added tokens. The layout of the files does not matter.
func (t *Tokenizer) Fingerprint() string { return t.fingerprint }

// Files returns the files the tokenizer was loaded from, name to bytes. The bytes must not be modified.
func (t *Tokenizer) Files() map[string][]byte {
	m := make(map[string][]byte, len(t.files))
	for name, b := range t.files {
		m[name] = b
	}
	return m
}

// encoder is the state of one Encode call. Encoders are reused, so their buffers are too.
type encoder struct {
	t    *Tokenizer
	ids  []int32
	lens []int32
	// wantLens asks for lens. Within a segment they count normalized bytes; endSegment turns them into source bytes.
	wantLens bool
	lead     int32 // bytes without a token before the first token

	buf    []byte // normalized segment
	spans  []span // where normalization changed it
	spaced []byte // with the dummy space

	sym  []symbol // long words
	heap []uint64
	w    word // short words
}

// keepScratch is the capacity, in elements, above which an encoder's buffers are dropped and not reused.
const keepScratch = 1 << 16

func (t *Tokenizer) encode(text []byte, special, wantLens bool) (ids, lens []int32) {
	e, _ := t.encoders.Get().(*encoder)
	if e == nil {
		e = &encoder{t: t}
	}
	e.wantLens = wantLens
	e.ids = make([]int32, 0, len(text)/4+8)
	e.lens = nil
	if wantLens {
		e.lens = make([]int32, 0, len(text)/4+8)
	}
	e.lead = 0
	e.run(text, special)
	ids, lens = e.ids, e.lens
	if len(lens) > 0 {
		lens[0] += e.lead
	}
	e.ids, e.lens = nil, nil
	if cap(e.sym) > keepScratch || cap(e.heap) > keepScratch || cap(e.buf) > keepScratch || cap(e.spaced) > keepScratch {
		e.sym, e.heap, e.buf, e.spaced = nil, nil, nil, nil
	}
	t.encoders.Put(e)
	return ids, lens
}

// run cuts text at added tokens and encodes what lies between.
func (e *encoder) run(text []byte, special bool) {
	pos := 0
	if m := e.t.raw; m.active(special) {
		m.each(text, special, func(a, b int, id int32) {
			e.segment(text[pos:a], pos == 0, special)
			e.emit(id, b-a)
			pos = b
		})
	}
	e.segment(text[pos:], pos == 0, special)
}

// segment encodes text that lies between added tokens found in the text as given.
func (e *encoder) segment(src []byte, first, special bool) {
	if len(src) == 0 {
		return
	}
	t := e.t
	from := len(e.ids)
	s := src
	e.spans = e.spans[:0]
	if t.nfc {
		s = e.normalize(src)
	} else if t.trim {
		s = e.collapse(src)
	}
	if t.early {
		e.begin(s, first, func(s []byte) { e.between(s, special, e.words) })
	} else {
		e.between(s, special, func(piece []byte) {
			e.begin(piece, first, e.words)
			first = false
		})
	}
	if e.wantLens && len(e.spans) > 0 {
		sourceLens(e.lens[from:], e.spans)
	}
}

// between emits the added tokens found in normalized text and gives what lies between to rest.
func (e *encoder) between(s []byte, special bool, rest func([]byte)) {
	pos := 0
	if m := e.t.norm; m.active(special) {
		m.each(s, special, func(a, b int, id int32) {
			rest(s[pos:a])
			e.emit(id, b-a)
			pos = b
		})
	}
	rest(s[pos:])
}

// begin puts the dummy space in front of s where the tokenizer wants one, and lets rest encode it.
func (e *encoder) begin(s []byte, first bool, rest func([]byte)) {
	d := e.t.dummy
	if len(s) == 0 || d == dummyNone || d == dummyFirst && !first {
		rest(s)
		return
	}
	from := len(e.lens)
	e.spaced = append(append(e.spaced[:0], ' '), s...)
	rest(e.spaced)
	if e.wantLens {
		e.lens[from]-- // the dummy space is no byte of the source
	}
}

// words encodes text without added tokens.
func (e *encoder) words(s []byte) {
	if e.t.kind == sentencePiece {
		e.spmWords(s)
		return
	}
	for i := 0; i < len(s); {
		j := e.t.split.next(s, i)
		if j-i > maxWord {
			j = i + maxWord
		}
		e.byteWord(s[i:j])
		i = j
	}
}

// emit appends one token that covers n normalized bytes.
func (e *encoder) emit(id int32, n int) {
	e.ids = append(e.ids, id)
	if e.wantLens {
		e.lens = append(e.lens, int32(n))
	}
}

// emitAll appends tokens that stand for exactly their own text.
func (e *encoder) emitAll(ids []int32) {
	e.ids = append(e.ids, ids...)
	if e.wantLens {
		at := e.t.at
		for _, id := range ids {
			e.lens = append(e.lens, int32(at[id+1]-at[id]))
		}
	}
}

// byteWord encodes one word of a byte-level tokenizer.
func (e *encoder) byteWord(w []byte) {
	t := e.t
	if len(w) > maxCached || t.gaps && t.lacks(w) {
		if t.ignoreMerges {
			if id, ok := t.whole[string(w)]; ok {
				e.emit(id, len(w))
				return
			}
		}
		if n := e.byteSymbols(w); n > 0 {
			e.mergeLong(w, n)
		} else if n := len(e.lens); n > 0 {
			e.lens[n-1] += int32(len(w))
		} else {
			e.lead += int32(len(w))
		}
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
		e.w.n = len(w)
		for i, b := range w {
			e.w.ids[i] = t.bytes[b]
		}
		ids = copyIDs(e.w.merge(&t.merges))
	}
	t.cache.put(h, w, ids)
	e.emitAll(ids)
}

// lacks tells whether w holds a byte without a token.
func (t *Tokenizer) lacks(w []byte) bool {
	for _, b := range w {
		if t.bytes[b] < 0 {
			return true
		}
	}
	return false
}

// copyIDs returns a copy of ids that the cache may keep.
func copyIDs(ids []int32) []int32 { return append(make([]int32, 0, len(ids)), ids...) }
