package tokenizer

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"sort"
	"strings"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// recipe is a tokenizer as read, before its tables are made.
type recipe struct {
	kind         kind
	split        pattern
	nfc          bool
	dummy        dummy
	early        bool
	ignoreMerges bool
	fallback     bool
	fuse         bool
	splitSpaces  bool
	trim         bool
	unk          string
	first, last  string // special tokens put in front of and behind a text

	vocab  vocabList
	merges mergeList
	added  []addedToken

	vocabFile, mergesFile string // for errors
}

// build makes the tables and checks everything that encoding relies on.
func (r *recipe) build() (*Tokenizer, error) {
	t := &Tokenizer{
		kind: r.kind, split: r.split, nfc: r.nfc, dummy: r.dummy, early: r.early, trim: r.trim, ignoreMerges: r.ignoreMerges,
		bos: -1, eos: -1, pad: -1, cache: newWordCache(),
	}
	ids, err := r.index()
	if err != nil {
		return nil, err
	}
	r.texts(t, ids)
	if r.kind == sentencePiece {
		err = r.pieces(t, ids)
	} else {
		err = r.alphabet(t, ids)
	}
	if err != nil {
		return nil, err
	}
	if err := r.rank(t, ids); err != nil {
		return nil, err
	}
	if err := r.distinct(t); err != nil {
		return nil, err
	}
	if err := r.matchers(t); err != nil {
		return nil, err
	}
	t.fingerprint = r.digest(t)
	return t, nil
}

// index returns the id of each token of the vocabulary, without added tokens, and checks that no id has two tokens.
func (r *recipe) index() (map[string]int32, error) {
	if len(r.vocab) == 0 {
		return nil, fmt.Errorf("%s: the vocabulary is empty", r.vocabFile)
	}
	limit := int32(min(maxID, maxGap+4*(len(r.vocab)+len(r.added)))) // the tables are as long as the highest id
	ids := make(map[string]int32, len(r.vocab))
	owner := make(map[int32]string, len(r.vocab))
	for _, v := range r.vocab {
		if _, ok := ids[v.text]; ok {
			return nil, fmt.Errorf("%s: token %.40q comes twice in the vocabulary", r.vocabFile, v.text)
		}
		if o, ok := owner[v.id]; ok {
			return nil, fmt.Errorf("%s: tokens %.40q and %.40q have the same id %d", r.vocabFile, o, v.text, v.id)
		}
		if v.id > limit {
			return nil, fmt.Errorf("%s: token %.40q has id %d, far beyond the %d tokens that there are", r.vocabFile, v.text, v.id, len(r.vocab))
		}
		ids[v.text], owner[v.id] = v.id, v.text
	}
	for _, a := range r.added {
		if a.ID < 0 || a.ID > maxID {
			return nil, fmt.Errorf("%s: added token %.40q has id %d, out of 0 to %d", r.vocabFile, a.Content, a.ID, maxID)
		}
		if a.ID > limit {
			return nil, fmt.Errorf("%s: added token %.40q has id %d, far beyond the %d tokens that there are", r.vocabFile, a.Content, a.ID, len(r.vocab))
		}
		if id, ok := ids[a.Content]; ok && id != a.ID {
			return nil, fmt.Errorf("%s: added token %.40q has id %d, but the vocabulary gives it %d", r.vocabFile, a.Content, a.ID, id)
		}
		if o, ok := owner[a.ID]; ok && o != a.Content {
			return nil, fmt.Errorf("%s: tokens %.40q and %.40q have the same id %d", r.vocabFile, o, a.Content, a.ID)
		}
		owner[a.ID] = a.Content
	}
	seen := make(map[string]int32, len(r.added))
	for _, a := range r.added {
		if id, ok := seen[a.Content]; ok && id != a.ID {
			return nil, fmt.Errorf("%s: added token %.40q has two ids, %d and %d", r.vocabFile, a.Content, id, a.ID)
		}
		seen[a.Content] = a.ID
	}
	return ids, nil
}

// texts fills what each token stands for.
func (r *recipe) texts(t *Tokenizer, ids map[string]int32) {
	top := int32(0)
	type piece struct {
		id   int32
		text string
	}
	var list []piece
	added := make(map[int32]bool, len(r.added))
	for _, a := range r.added {
		text := a.Content
		if a.Normalized {
			text = r.normal(text)
		}
		if !added[a.ID] {
			list = append(list, piece{a.ID, text})
		}
		added[a.ID] = true
		top = max(top, a.ID)
	}
	for _, v := range r.vocab {
		top = max(top, v.id)
		if !added[v.id] {
			list = append(list, piece{v.id, r.plain(v.text)})
		}
	}
	sort.Slice(list, func(i, j int) bool { return list[i].id < list[j].id })
	t.at = make([]uint32, top+2)
	t.flags = make([]uint8, top+1)
	next := int32(0)
	for _, p := range list {
		for ; next <= p.id; next++ {
			t.at[next] = uint32(len(t.text))
		}
		t.text = append(t.text, p.text...)
	}
	t.at[top+1] = uint32(len(t.text))
	for _, a := range r.added {
		if a.Special {
			t.flags[a.ID] |= flagSpecial
		}
		if !a.Normalized || !r.early {
			t.flags[a.ID] |= flagBreak
		}
	}
	if id, ok := ids[r.unk]; ok && r.kind == sentencePiece {
		t.flags[id] |= flagSpecial
	}
}

// normal returns the content of an added token after the tokenizer's normalizer.
func (r *recipe) normal(s string) string {
	if r.nfc {
		s = norm.NFC.String(s)
	}
	if r.early {
		s = " " + strings.ReplaceAll(s, blank, " ")
	}
	return s
}

// plain returns the bytes that a token of the vocabulary stands for.
func (r *recipe) plain(s string) string {
	if r.kind == sentencePiece {
		if b, ok := byteToken(s); ok && r.fallback {
			return string([]byte{b})
		}
		return strings.ReplaceAll(s, blank, " ")
	}
	out := make([]byte, 0, len(s))
	for _, c := range s {
		b, ok := letterByte[c]
		if !ok {
			return s // written as it is, such as a special token
		}
		out = append(out, b)
	}
	return string(out)
}

// byteToken reads "<0x41>".
func byteToken(s string) (byte, bool) {
	if len(s) != 6 || s[:3] != "<0x" || s[5] != '>' {
		return 0, false
	}
	b, err := hex.DecodeString(s[3:5])
	return append(b, 0)[0], err == nil && strings.ToUpper(s[3:5]) == s[3:5]
}

// byteLetter and letterByte are GPT-2's way to write bytes as visible characters: those of Latin-1 that print stand for
// themselves, the others for U+0100 and up, in order.
var byteLetter, letterByte = func() (to [256]rune, from map[rune]byte) {
	from = make(map[rune]byte, 256)
	next := rune(256)
	for b := range rune(256) {
		c := b
		if !(b >= '!' && b <= '~' || b >= 0xA1 && b <= 0xAC || b >= 0xAE) {
			c = next
			next++
		}
		to[b], from[c] = c, byte(b)
	}
	return to, from
}()

// alphabet finds the token of every byte. Bytes that hardly any text has may have none.
func (r *recipe) alphabet(t *Tokenizer, ids map[string]int32) error {
	for b := range t.bytes {
		id, ok := ids[string(byteLetter[b])]
		if !ok {
			if !rareByte(byte(b)) {
				return fmt.Errorf("%s: no token for byte 0x%02X (a byte-level vocabulary holds all 256)", r.vocabFile, b)
			}
			id, t.gaps = -1, true
		}
		t.bytes[b] = id
	}
	return nil
}

// rareByte tells whether b is a control character other than tab and line break, or begins no character of the first four
// planes of Unicode. A vocabulary that was trained without all 256 bytes, such as SmolLM's, may lack such ones.
func rareByte(b byte) bool {
	return b < ' ' && b != '\t' && b != '\n' && b != '\r' || b == 0x7F || b == 0xC0 || b == 0xC1 || b > 0xF0
}

// pieces fills what a SentencePiece-style tokenizer looks characters up in.
func (r *recipe) pieces(t *Tokenizer, ids map[string]int32) error {
	p := &t.spm
	p.splitSpaces, p.fuse, p.chars = r.splitSpaces, r.fuse, map[rune]int32{}
	p.fallback = r.fallback
	for b := range t.bytes {
		id, ok := ids[fmt.Sprintf("<0x%02X>", b)]
		if !ok {
			p.fallback = false
			id = -1
		}
		t.bytes[b] = id
	}
	if r.fallback && !p.fallback {
		return fmt.Errorf("%s: byte_fallback is on, but not all tokens <0x00> to <0xFF> are there", r.vocabFile)
	}
	var ok bool
	if p.unk, ok = ids[r.unk]; !ok {
		p.unk = -1
		if !p.fallback {
			return fmt.Errorf("%s: neither byte_fallback nor a known unk_token: some text could not be encoded", r.vocabFile)
		}
	}
	for i := range p.ascii {
		p.ascii[i] = -1
	}
	for _, v := range r.vocab {
		c, n := utf8.DecodeRuneInString(v.text)
		if n == 0 || n != len(v.text) || c == ' ' || v.text == blank && p.fallback {
			continue
		}
		if c < utf8.RuneSelf {
			p.ascii[c] = v.id
		} else {
			p.chars[c] = v.id
		}
	}
	if id, ok := ids[blank]; ok {
		p.ascii[' '] = id
	}
	return nil
}

// rank fills the merge table.
func (r *recipe) rank(t *Tokenizer, ids map[string]int32) error {
	t.merges = newMergeTable(len(r.merges))
	var buf []byte
	joins := new([1 << 16]bool)
	for i, m := range r.merges {
		buf = append(append(buf[:0], m[0]...), m[1]...)
		left, ok1 := ids[m[0]]
		right, ok2 := ids[m[1]]
		made, ok3 := ids[string(buf)]
		if !ok1 || !ok2 || !ok3 {
			missing := string(buf)
			if !ok1 {
				missing = m[0]
			} else if !ok2 {
				missing = m[1]
			}
			return fmt.Errorf("%s: merge %d (%.40q %.40q): token %.40q is not in the vocabulary", r.mergesFile, i, m[0], m[1], missing)
		}
		t.merges.add(left, right, made)
		if r.kind == sentencePiece {
			if a, b := r.plain(m[0]), r.plain(m[1]); a != "" && b != "" {
				joins[int(a[len(a)-1])<<8|int(b[0])] = true
			}
		}
	}
	t.spm.joins = joins
	if r.ignoreMerges {
		t.whole = make(map[string]int32, len(r.vocab))
		for _, v := range r.vocab {
			t.whole[r.plain(v.text)] = v.id
		}
	}
	return nil
}

// distinct refuses an added token that text becomes as well, but stands for other text there: a byte declared as BOS, for one.
func (r *recipe) distinct(t *Tokenizer) error {
	added := make(map[int32]addedToken, len(r.added))
	for _, a := range r.added {
		added[a.ID] = a
	}
	used := make(map[int32]bool)
	for _, list := range [][]int32{t.bytes[:], t.spm.ascii[:], t.merges.made} {
		for _, id := range list {
			if _, ok := added[id]; ok {
				used[id] = true
			}
		}
	}
	for _, v := range r.vocab {
		a, ok := added[v.id]
		if !ok || r.plain(v.text) == string(t.text[t.at[v.id]:t.at[v.id+1]]) {
			continue
		}
		delete(t.whole, r.plain(v.text))
		if c, n := utf8.DecodeRuneInString(v.text); used[v.id] || n == len(v.text) && t.spm.chars[c] == v.id {
			return fmt.Errorf("%s: added token %.40q (id %d) is also what %.40q becomes", r.vocabFile, a.Content, a.ID, r.plain(v.text))
		}
	}
	return nil
}

// matchers makes the searches for added tokens.
func (r *recipe) matchers(t *Tokenizer) error {
	t.raw, t.norm = new(matcher), new(matcher)
	for _, a := range r.added {
		m, text := t.raw, a.Content
		if a.Normalized {
			m, text = t.norm, r.normal(a.Content)
		}
		if err := m.add(text, a); err != nil {
			return fmt.Errorf("%s: %w", r.vocabFile, err)
		}
	}
	return nil
}

// digest returns the fingerprint.
func (r *recipe) digest(t *Tokenizer) string {
	h := sha256.New()
	var buf []byte
	flush := func(limit int) {
		if len(buf) > limit {
			h.Write(buf)
			buf = buf[:0]
		}
	}
	text := func(s string) {
		buf = binary.LittleEndian.AppendUint32(buf, uint32(len(s)))
		buf = append(buf, s...)
	}
	number := func(n ...int32) {
		for _, v := range n {
			buf = binary.LittleEndian.AppendUint32(buf, uint32(v))
		}
	}
	flag := func(b ...bool) {
		for _, v := range b {
			buf = append(buf, map[bool]byte{true: 1}[v])
		}
	}
	text("svae tokenizer 1")
	text(r.kind.String())
	text(r.split.name)
	flag(r.nfc, r.early, r.ignoreMerges, t.spm.fallback, t.spm.fuse, t.spm.splitSpaces)
	number(int32(r.dummy), t.spm.unk)

	if r.trim {
		text("trim")
	}
	vocab := append(vocabList(nil), r.vocab...)
	sort.Slice(vocab, func(i, j int) bool { return vocab[i].id < vocab[j].id })
	number(int32(len(vocab)))
	for _, v := range vocab {
		number(v.id)
		text(v.text)
		flush(1 << 16)
	}
	// Merges by rank; a pair that comes twice counts where it holds.
	for i, made := range t.merges.made {
		left, right := r.merges[i][0], r.merges[i][1]
		number(made)
		text(left)
		text(right)
		flush(1 << 16)
	}
	added := append([]addedToken(nil), r.added...)
	sort.SliceStable(added, func(i, j int) bool { return added[i].ID < added[j].ID })
	number(int32(len(added)))
	for _, a := range added {
		number(a.ID)
		text(a.Content)
		flag(a.SingleWord, a.LStrip, a.RStrip, a.Normalized && (r.nfc || r.early), a.Special)
	}
	flush(0)
	return "sha256:" + hex.EncodeToString(h.Sum(nil))
}
