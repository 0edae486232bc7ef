package tokenizer

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"
	"unicode/utf8"
)

// What a piece of a SentencePiece model is. GGUF files count alike.
const (
	pieceNormal  = 1
	pieceUnknown = 2
	pieceControl = 3
	pieceUser    = 4 // user-defined: found as it is before anything is merged
	pieceUnused  = 5
	pieceByte    = 6
)

// maxPiece is the length in bytes of the longest piece that merges are derived for, which costs its square.
const maxPiece = 512

// Limits on the pieces of equal score that are looked into.
const (
	maxRun  = 64 // characters in a run of one
	maxTied = 8  // characters that there are runs of
)

// piece is a token of a SentencePiece vocabulary; its id is its place.
type piece struct {
	text  string
	score float32
	kind  int
}

// pieces is a SentencePiece vocabulary with what the model says of text.
type pieces struct {
	file string // for errors
	list []piece
	// dummy says where a space is put in front of text.
	dummy dummy
	trim  bool // remove_extra_whitespaces
	roles roles
	// bytes tells whether unknown characters become the tokens of their bytes.
	bytes bool
	// chars tells that no pieces are merged.
	chars bool
}

// files turns the vocabulary into the files of a Hugging Face tokenizer.
func (p *pieces) files() (map[string][]byte, error) {
	f, err := p.hugging()
	if err != nil {
		return nil, err
	}
	return f.files(p.roles)
}

// hugging turns the vocabulary into a tokenizer.json.
func (p *pieces) hugging() (*hfFile, error) {
	if err := p.check(); err != nil {
		return nil, err
	}
	f := &hfFile{kind: sentencePiece, fallback: p.bytes, fuse: true, unk: p.roles.unk, dummy: p.dummy, trim: p.trim}
	user := false
	for id, t := range p.list {
		id := int32(id)
		text := t.text
		switch t.kind {
		case pieceUnknown, pieceControl:
			f.added = append(f.added, addedToken{ID: id, Content: text, Special: true})
		case pieceUser:
			user = true
			text = strings.ReplaceAll(text, blank, " ")
			f.added = append(f.added, addedToken{ID: id, Content: text})
		}
		f.vocab = append(f.vocab, entry{text, id})
	}
	if user && p.trim {
		return nil, fmt.Errorf("%s: user-defined symbols together with remove_extra_whitespaces are not supported", p.file)
	}
	var err error
	if !p.chars {
		f.merges, err = p.merges()
	}
	return f, err
}

// check finds what could not be encoded as the model means it.
func (p *pieces) check() error {
	if len(p.list) == 0 {
		return fmt.Errorf("%s: the vocabulary is empty", p.file)
	}
	seen := make(map[string]int, len(p.list))
	unknown := -1
	for id, t := range p.list {
		switch {
		case t.text == "":
			return fmt.Errorf("%s: piece %d is empty", p.file, id)
		case !utf8.ValidString(t.text):
			return fmt.Errorf("%s: piece %d (%.40q) is not UTF-8", p.file, id, t.text)
		case math.IsNaN(float64(t.score)):
			return fmt.Errorf("%s: piece %d (%.40q) has no number as its score", p.file, id, t.text)
		case t.kind < pieceNormal || t.kind > pieceByte:
			return fmt.Errorf("%s: piece %d (%.40q) is of the unknown type %d", p.file, id, t.text, t.kind)
		}
		if o, ok := seen[t.text]; ok {
			return fmt.Errorf("%s: pieces %d and %d have the same text %.40q", p.file, o, id, t.text)
		}
		seen[t.text] = id
		switch {
		case t.kind == pieceUnknown && unknown >= 0:
			return fmt.Errorf("%s: pieces %d and %d are both the unknown one", p.file, unknown, id)
		case t.kind == pieceUnknown:
			unknown, p.roles.unk = id, t.text
		case t.kind == pieceControl && utf8.RuneCountInString(t.text) == 1:
			return fmt.Errorf("%s: control piece %d is one character, %q, which text may hold", p.file, id, t.text)
		}
		if t.kind == pieceByte {
			if _, ok := byteToken(t.text); !ok {
				return fmt.Errorf("%s: piece %d (%.40q) is a byte, but not written <0x00> to <0xFF>", p.file, id, t.text)
			}
		}
	}
	if unknown < 0 && !p.bytes {
		return fmt.Errorf("%s: there is no unknown piece and no byte fallback: some text could not be encoded", p.file)
	}
	return nil
}

// merges returns the merges that give the ids of SentencePiece's own algorithm, which joins the two neighbours whose text
// together is the piece of the highest score, the leftmost of equals (Kudo and Richardson 2018; bpe_model.cc). As a list:
// every way to cut a piece into two, the pieces by falling score.
func (p *pieces) merges() (mergeList, error) {
	ids := make(map[string]int, len(p.list))
	for id, t := range p.list {
		if t.kind == pieceNormal || t.kind == pieceUnused {
			ids[t.text] = id
		}
	}
	order := make([]int, 0, len(p.list))
	splits := make(map[int][][2]int)
	for id, t := range p.list {
		if t.kind != pieceNormal && t.kind != pieceUnused || utf8.RuneCountInString(t.text) < 2 {
			continue
		}
		if len(t.text) > maxPiece {
			return nil, fmt.Errorf("%s: piece %d is %d bytes long (at most %d are read)", p.file, id, len(t.text), maxPiece)
		}
		var cuts [][2]int
		for k, c := range t.text {
			if _, ok := ids[string(c)]; !ok {
				if t.kind == pieceUnused {
					continue
				}
				return nil, fmt.Errorf("%s: piece %d (%.40q) holds %q, which is no piece: it would be merged from unknown characters, "+
					"which a tokenizer.json cannot say", p.file, id, t.text, c)
			}
			if k == 0 {
				continue
			}
			left, ok1 := ids[t.text[:k]]
			right, ok2 := ids[t.text[k:]]
			if ok1 && ok2 {
				cuts = append(cuts, [2]int{left, right})
			}
		}
		if len(cuts) == 0 {
			continue // no text leads to it
		}
		if t.kind == pieceUnused {
			return nil, fmt.Errorf("%s: piece %d (%.40q) is unused and can be merged (a vocabulary that was cut down is not supported)", p.file, id, t.text)
		}
		splits[id] = cuts
		order = append(order, id)
	}
	slices.SortFunc(order, func(a, b int) int {
		return cmp.Or(cmp.Compare(p.list[b].score, p.list[a].score), cmp.Compare(a, b))
	})
	if err := p.ties(order, ids); err != nil {
		return nil, err
	}
	var out mergeList
	for _, id := range order {
		cuts := splits[id]
		slices.SortFunc(cuts, func(a, b [2]int) int { return cmp.Or(cmp.Compare(a[0], b[0]), cmp.Compare(a[1], b[1])) })
		for _, c := range cuts {
			out = append(out, [2]string{p.list[c[0]].text, p.list[c[1]].text})
		}
	}
	return out, nil
}

// ties looks at pieces with the same score. Of two pairs with the same score SentencePiece takes the left one, where a list of
// merges takes that of the piece it names first. That is the same for the runs of one character, such as Llama's runs of spaces,
// if it is for every number of them: no other merge has to do with a run. Other ties are refused.
func (p *pieces) ties(order []int, ids map[string]int) error {
	groups := 0
	for i := 0; i < len(order); {
		j := i + 1
		for j < len(order) && p.list[order[j]].score == p.list[order[i]].score {
			j++
		}
		if j > i+1 {
			groups++
		}
		if tied := order[i:j]; len(tied) > 1 && (groups > maxTied || !p.runs(tied, ids)) {
			a, b := tied[0], tied[1]
			return fmt.Errorf("%s: pieces %d (%.40q) and %d (%.40q) have the same score %g: which is merged first would depend on the text, "+
				"which a tokenizer.json cannot say", p.file, a, p.list[a].text, b, p.list[b].text, p.list[a].score)
		}
		i = j
	}
	return nil
}

// runs tells whether pieces of equal score are runs of one character that are merged alike from left to right and by the
// order of their ids.
func (p *pieces) runs(tied []int, ids map[string]int) bool {
	c, size := utf8.DecodeRuneInString(p.list[tied[0]].text)
	char := string(c)
	rank := make(map[int]int, len(tied)) // characters in the run -> place in the order
	longest := 0
	for i, id := range tied {
		n := len(p.list[id].text) / size
		if p.list[id].text != strings.Repeat(char, n) || n > maxRun {
			return false
		}
		rank[n] = i
		longest = max(longest, n)
	}
	for text := range ids {
		if strings.Contains(text, char+char) && (strings.Trim(text, char) != "" || rank[len(text)/size] == 0 && text != p.list[tied[0]].text) {
			return false
		}
	}
	for n := 2; n <= 4*longest; n++ {
		order := func(a, b int) (int, bool) { i, ok := rank[a+b]; return i, ok }
		if !sameRun(n, order) {
			return false
		}
	}
	return true
}

// sameRun tells whether n equal characters are merged alike by order and from left to right.
func sameRun(n int, order func(a, b int) (int, bool)) bool {
	left := mergeRun(n, func(a, b int) (int, bool) { _, ok := order(a, b); return 0, ok })
	return slices.Equal(left, mergeRun(n, order))
}

// mergeRun merges n equal characters, always the leftmost of the pairs that come first in the order, and returns the lengths.
// order says which place a pair of lengths has, if it is merged.
func mergeRun(n int, order func(a, b int) (int, bool)) []int {
	run := slices.Repeat([]int{1}, n)
	for {
		best, at := math.MaxInt, -1
		for i := 0; i+1 < len(run); i++ {
			if rank, ok := order(run[i], run[i+1]); ok && rank < best {
				best, at = rank, i
			}
		}
		if at < 0 {
			return run
		}
		run[at] += run[at+1]
		run = slices.Delete(run, at+1, at+2)
	}
}

// hasBytes tells whether there is a piece for every byte, and fails if there are some but not all.
func (p *pieces) hasBytes() (bool, error) {
	n, missing := 0, -1
	var have [256]bool
	for _, t := range p.list {
		if b, ok := byteToken(t.text); ok && t.kind == pieceByte && !have[b] {
			have[b] = true
			n++
		}
	}
	for b := range have {
		if !have[b] && missing < 0 {
			missing = b
		}
	}
	if n > 0 && missing >= 0 {
		return false, fmt.Errorf("%s: there are byte pieces, but none for 0x%02X", p.file, missing)
	}
	return n > 0, nil
}

// name returns the text of a piece, or "" for an id that there is none of.
func (p *pieces) name(id int64) string {
	if id < 0 || id >= int64(len(p.list)) {
		return ""
	}
	return p.list[id].text
}
