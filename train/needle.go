package train

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
)

// NeedleStyle says what the needles of a document look like.
type NeedleStyle struct {
	Template string   // a sentence with {key} and {value}, in this order, as "The code of {key} is {value}."
	Ask      string   // a sentence with {key} that asks for it, as "What is the code of {key}?"
	Keys     []string // at most this many needles stand in a document; no key is a value
	Values   []string // nil: numbers of five digits
}

// Words are needles whose keys and values are common English words, most of which any tokenizer has as one token. Digits
// are needles with a name for the key and five digits for the value.
var (
	Words = NeedleStyle{Template: "They now call {key} {value}.", Ask: "What do they now call {key}?",
		Keys: needleKeys, Values: needleValues}
	Digits = NeedleStyle{Template: "The code of {key} is {value}.", Ask: "What is the code of {key}?", Keys: needleNames}
)

// NeedleStyles returns the names that ParseNeedleStyle knows.
func NeedleStyles() []string { return []string{"words", "digits"} }

// ParseNeedleStyle returns a style by name.
func ParseNeedleStyle(name string) (NeedleStyle, error) {
	switch name {
	case "words":
		return Words, nil
	case "digits":
		return Digits, nil
	}
	return NeedleStyle{}, fmt.Errorf("needle style %q is not known (use %s)", name, strings.Join(NeedleStyles(), " or "))
}

// Needle is a sentence that says one thing which nothing else in the document tells. Its parts have a space in front and none
// behind.
type Needle struct {
	Key, Value string
	Question   string  // asks for it
	Begin      string  // the sentence up to its value
	Answer     string  // the value
	Depth      float64 // share of the haystack that stands before it, 0..1
}

// NeedleDocument is a haystack with needles in it.
type NeedleDocument struct {
	Text    string
	Needles []Needle // in the order of the text
	Asked   int      // index of the needle that stands at the depth asked for
}

// needle makes a needle of a key and a value.
func (s *NeedleStyle) needle(key, value string) Needle {
	before, _, _ := strings.Cut(s.Template, "{value}")
	fill := func(s string) string { return " " + strings.TrimSpace(strings.ReplaceAll(s, "{key}", key)) }
	return Needle{Key: key, Value: value, Question: fill(s.Ask), Begin: fill(before), Answer: " " + value}
}

// sentence returns the needle as it stands in the text, with a space in front.
func (s *NeedleStyle) sentence(n Needle) string {
	return " " + strings.NewReplacer("{key}", n.Key, "{value}", n.Value).Replace(s.Template)
}

// value draws a value.
func (s *NeedleStyle) value(rng *rand.Rand) string {
	if s.Values == nil {
		return fmt.Sprint(10000 + rng.IntN(90000))
	}
	return s.Values[rng.IntN(len(s.Values))]
}

// Validate reports a style that makes no needles.
func (s *NeedleStyle) Validate() error {
	key, value := strings.Index(s.Template, "{key}"), strings.Index(s.Template, "{value}")
	switch {
	case key < 0 || value < 0:
		return fmt.Errorf("needle %q lacks {key} or {value}", s.Template)
	case value < key:
		return fmt.Errorf("needle %q has its value before its key, so that no question can ask for it", s.Template)
	case strings.Count(s.Template, "{key}") > 1 || strings.Count(s.Template, "{value}") > 1:
		return fmt.Errorf("needle %q has {key} or {value} twice", s.Template)
	case !strings.Contains(s.Ask, "{key}"):
		return fmt.Errorf("question %q lacks {key}", s.Ask)
	case len(s.Keys) == 0:
		return fmt.Errorf("needle %q has no keys", s.Template)
	}
	return nil
}

// Haystack is prose, cut into sentences, into which needles go.
type Haystack struct {
	Sentences []string
	Tokens    []int // of each sentence, by the model's tokenizer
	total     int
}

// NewHaystack cuts nothing: its sentences come ready, with their counts of tokens.
func NewHaystack(sentences []string, tokens []int) (*Haystack, error) {
	h := &Haystack{Sentences: sentences, Tokens: tokens}
	if len(sentences) != len(tokens) {
		return nil, fmt.Errorf("haystack: %d sentences with %d counts of tokens", len(sentences), len(tokens))
	}
	for _, n := range tokens {
		h.total += n
	}
	if h.total < 64 {
		return nil, fmt.Errorf("haystack: %d tokens of prose are too few (give a longer text)", h.total)
	}
	return h, nil
}

// from returns sentences from index i on, around the end where needed, that have about the given number of tokens.
func (h *Haystack) from(i, tokens int) (sentences []string, got int) {
	for got < tokens {
		i %= len(h.Sentences)
		if t := h.Tokens[i]; got+t > tokens && len(sentences) > 0 && tokens-got < t/2 {
			break
		}
		sentences, got, i = append(sentences, h.Sentences[i]), got+h.Tokens[i], i+1
	}
	return sentences, got
}

// NeedleShape says what a document looks like.
type NeedleShape struct {
	Tokens  int     // about how many the document has
	Needles int     // how many stand in it
	Depth   float64 // where the one that is asked for stands, 0..1 of the haystack before the tail
	Tail    int     // tokens of prose behind which no needle stands
}

// Document makes a document: a piece of the haystack with needles between its sentences. The needles that are not asked
// for are spread at random. count returns how many tokens a text has. The same seed gives the same document.
func (s *NeedleStyle) Document(h *Haystack, shape NeedleShape, count func(string) int, seed uint64) (NeedleDocument, error) {
	if shape.Needles < 1 || shape.Needles > len(s.Keys) {
		return NeedleDocument{}, fmt.Errorf("%d needles are not in 1..%d", shape.Needles, len(s.Keys))
	}
	rng := rand.New(rand.NewPCG(seed, 0x6e6565646c65))
	keys := rng.Perm(len(s.Keys))[:shape.Needles]
	needles := make([]Needle, shape.Needles)
	used := 0
	for i, k := range keys {
		needles[i] = s.needle(s.Keys[k], s.value(rng))
		used += count(s.sentence(needles[i]))
		if i > 0 {
			needles[i].Depth = rng.Float64()
		}
	}
	needles[0].Depth = shape.Depth
	if used+shape.Tail >= shape.Tokens {
		return NeedleDocument{}, fmt.Errorf("%d needles of %d tokens and %d behind them leave no room in %d tokens (ask for fewer needles or more tokens)",
			shape.Needles, used, shape.Tail, shape.Tokens)
	}
	prose, _ := h.from(rng.IntN(len(h.Sentences)), shape.Tokens-used-shape.Tail)
	tail, _ := h.from(rng.IntN(len(h.Sentences)), shape.Tail)
	asked := needles[0]
	slices.SortStableFunc(needles, func(a, b Needle) int { return compareFloat(a.Depth, b.Depth) })
	doc := NeedleDocument{Needles: needles, Asked: slices.IndexFunc(needles, func(n Needle) bool { return n.Key == asked.Key })}
	var b strings.Builder
	next := 0
	for i, p := range append(prose, "") {
		for next < len(needles) && float64(i) >= needles[next].Depth*float64(len(prose)) {
			b.WriteString(s.sentence(needles[next]))
			next++
		}
		b.WriteString(p)
	}
	for _, p := range tail {
		b.WriteString(p)
	}
	doc.Text = b.String()
	return doc, nil
}

func compareFloat(a, b float64) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

// Lesson is the shape of a document that teaches recall.
type Lesson struct {
	Tokens int     // the most it has; the least is half
	Keys   int     // the most it uses
	Prose  float64 // the largest share of the haystack in its tokens
	Ask    float64 // how often a needle that is said again is asked for before
}

// Validate reports a shape in which no lesson in that style can be made.
func (l Lesson) Validate(s *NeedleStyle) error {
	if l.Tokens < 16 || l.Keys < 2 || l.Keys > len(s.Keys) || !(l.Prose >= 0 && l.Prose < 1) || !(l.Ask >= 0 && l.Ask <= 1) {
		return fmt.Errorf("lesson: tokens %d, keys %d, prose %v and ask %v are not in 16.., 2..%d, 0..1 and 0..1", l.Tokens, l.Keys, l.Prose, l.Ask, len(s.Keys))
	}
	return s.Validate()
}

// Lesson makes a document from which recall is learned: needles and prose by turns, and every needle said again some time
// later, so that all but the first mention of a key can be told from what came before. Keys come up over the first two
// thirds. The same seed gives the same document.
func (s *NeedleStyle) Lesson(h *Haystack, l Lesson, count func(string) int, seed uint64) (string, error) {
	if err := l.Validate(s); err != nil {
		return "", err
	}
	rng := rand.New(rand.NewPCG(seed, 0x6c6573736f6e))
	size := l.Tokens/2 + rng.IntN(l.Tokens/2+1)
	share := l.Prose * rng.Float64()
	var facts, questions []string
	for _, k := range rng.Perm(len(s.Keys))[:2+rng.IntN(l.Keys-1)] {
		n := s.needle(s.Keys[k], s.value(rng))
		facts, questions = append(facts, s.sentence(n)), append(questions, n.Question)
	}
	most := count(questions[0]) + count(facts[0])
	var b strings.Builder
	total, prose, known := 0, 0, 0
	for total < size-most {
		if float64(prose) < share*float64(total) {
			ps, n := h.from(rng.IntN(len(h.Sentences)), 1+rng.IntN(max(1, min(160, size/8))))
			if total+n+most > l.Tokens {
				break
			}
			b.WriteString(strings.Join(ps, ""))
			prose, total = prose+n, total+n
		}
		i := known
		if due := 1 + int(1.5*float64(len(facts))*float64(total)/float64(size)); known < min(due, len(facts)) {
			known++
		} else {
			i = rng.IntN(known)
			if rng.Float64() < l.Ask {
				b.WriteString(questions[i])
				total += count(questions[i])
			}
		}
		b.WriteString(facts[i])
		total += count(facts[i])
	}
	return b.String(), nil
}
