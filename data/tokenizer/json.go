package tokenizer

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
)

// tokenizerJSON is what is read of a tokenizer.json. Padding, truncation and decoder are not: ids are given back as they are,
// and decoding follows from the family. Of the post-processor only the first and the last token of a text are.
type tokenizerJSON struct {
	AddedTokens   []addedToken `json:"added_tokens"`
	Normalizer    *component   `json:"normalizer"`
	PreTokenizer  *component   `json:"pre_tokenizer"`
	PostProcessor *processor   `json:"post_processor"`
	Model         *modelJSON   `json:"model"`
}

// processor is a post-processor.
type processor struct {
	Type       string      `json:"type"`
	Processors []processor `json:"processors"`
	Single     []struct {
		SpecialToken *struct {
			ID string `json:"id"`
		} `json:"SpecialToken"`
	} `json:"single"`
}

// ends returns the special tokens that are put in front of and behind a text.
func (p *processor) ends() (first, last string) {
	if p == nil {
		return "", ""
	}
	if p.Type == "TemplateProcessing" && len(p.Single) > 1 {
		if t := p.Single[0].SpecialToken; t != nil {
			first = t.ID
		}
		if t := p.Single[len(p.Single)-1].SpecialToken; t != nil {
			last = t.ID
		}
	}
	for i := range p.Processors {
		if f, l := p.Processors[i].ends(); f != "" || l != "" {
			return f, l
		}
	}
	return first, last
}

// modelJSON is the model of a tokenizer.json.
type modelJSON struct {
	Type         string    `json:"type"`
	Dropout      *float64  `json:"dropout"`
	UnkToken     *string   `json:"unk_token"`
	Prefix       *string   `json:"continuing_subword_prefix"`
	Suffix       *string   `json:"end_of_word_suffix"`
	FuseUnk      bool      `json:"fuse_unk"`
	ByteFallback bool      `json:"byte_fallback"`
	IgnoreMerges bool      `json:"ignore_merges"`
	Vocab        vocabList `json:"vocab"`
	Merges       mergeList `json:"merges"`
}

// component is a normalizer or a pre-tokenizer; which fields count depends on Type.
type component struct {
	Type          string      `json:"type"`
	Normalizers   []component `json:"normalizers"`
	PreTokenizers []component `json:"pretokenizers"`

	Prepend string   `json:"prepend"`
	Content string   `json:"content"`
	Pattern *matched `json:"pattern"`

	Behavior string `json:"behavior"`
	Invert   bool   `json:"invert"`

	IndividualDigits bool `json:"individual_digits"`

	AddPrefixSpace *bool   `json:"add_prefix_space"`
	UseRegex       *bool   `json:"use_regex"`
	Replacement    string  `json:"replacement"`
	PrependScheme  *string `json:"prepend_scheme"`
	Split          *bool   `json:"split"`
}

// matched is the pattern of a Replace or Split.
type matched struct {
	String *string `json:"String"`
	Regex  *string `json:"Regex"`
}

// list returns the parts of a Sequence called kind, or the component itself. Nil has none.
func (c *component) list() []component {
	if c == nil {
		return nil
	}
	if c.Type != "Sequence" {
		return []component{*c}
	}
	var out []component
	for _, part := range append(c.Normalizers, c.PreTokenizers...) {
		out = append(out, part.list()...)
	}
	return out
}

// unmarshal is json.Unmarshal with errors that name the file and the place.
func unmarshal(file string, b []byte, v any) error {
	err := json.Unmarshal(b, v)
	var syntax *json.SyntaxError
	var typ *json.UnmarshalTypeError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &syntax):
		return fmt.Errorf("%s: malformed json at byte %d: %v", file, syntax.Offset, syntax)
	case errors.As(err, &typ):
		return fmt.Errorf("%s: %q is a %s where another type belongs, at byte %d", file, typ.Field, typ.Value, typ.Offset)
	}
	return fmt.Errorf("%s: %v", file, err)
}

// entry is a token of the vocabulary as the file writes it.
type entry struct {
	text string
	id   int32
}

// vocabList is a JSON object token -> id, in file order. A map would hide a token that comes twice.
type vocabList []entry

// UnmarshalJSON reads the object.
func (v *vocabList) UnmarshalJSON(b []byte) error {
	r := reader{s: string(b)}
	if !r.take('{') {
		return errors.New("vocab is no json object")
	}
	for !r.take('}') {
		r.take(',')
		text, ok := r.str()
		if !ok || !r.take(':') {
			return errors.New("vocab is no json object")
		}
		id, ok := r.number()
		if !ok {
			return fmt.Errorf("vocab: the id of token %.40q is no whole number from 0 to %d", text, maxID)
		}
		*v = append(*v, entry{text, id})
	}
	return nil
}

// mergeList is a JSON array of merges, "a b" or ["a","b"].
type mergeList [][2]string

// UnmarshalJSON reads the array.
func (m *mergeList) UnmarshalJSON(b []byte) error {
	r := reader{s: string(b)}
	if !r.take('[') {
		return errors.New("merges is no json array")
	}
	*m = make(mergeList, 0, min(strings.Count(r.s, `"`)/2, len(r.s)/6)+1) // at most twice too many
	for !r.take(']') {
		r.take(',')
		if r.take('[') {
			left, ok1 := r.str()
			ok2 := r.take(',')
			right, ok3 := r.str()
			if !ok1 || !ok2 || !ok3 || !r.take(']') {
				return fmt.Errorf("merge %d is no pair of two strings", len(*m))
			}
			*m = append(*m, [2]string{left, right})
			continue
		}
		s, ok := r.str()
		if !ok {
			return fmt.Errorf("merge %d is neither a string nor a pair of strings", len(*m))
		}
		left, right, ok := cutMerge(s)
		if !ok {
			return fmt.Errorf("merge %d: %.40q is not two tokens with a space between", len(*m), s)
		}
		*m = append(*m, [2]string{left, right})
	}
	return nil
}

// reader walks over JSON text that encoding/json has found well-formed. Strings without escapes are parts of the text.
type reader struct {
	s string
	i int
}

// take skips white space and then c, and tells whether c was there.
func (r *reader) take(c byte) bool {
	for r.i < len(r.s) && strings.IndexByte(" \t\r\n", r.s[r.i]) >= 0 {
		r.i++
	}
	if r.i < len(r.s) && r.s[r.i] == c {
		r.i++
		return true
	}
	return false
}

// str reads a string.
func (r *reader) str() (string, bool) {
	if !r.take('"') {
		return "", false
	}
	start, escaped := r.i, false
	for r.i < len(r.s) && r.s[r.i] != '"' {
		if r.s[r.i] == '\\' {
			escaped = true
			r.i++
		}
		r.i++
	}
	if r.i >= len(r.s) {
		return "", false
	}
	r.i++
	if !escaped {
		return strings.ToValidUTF8(r.s[start:r.i-1], "\uFFFD"), true
	}
	var out string
	err := json.Unmarshal([]byte(r.s[start-1:r.i]), &out)
	return out, err == nil
}

// number reads a whole number from 0 to maxID.
func (r *reader) number() (int32, bool) {
	r.take(0) // skips white space: no NUL stands outside a string
	start, n := r.i, 0
	for r.i < len(r.s) && r.s[r.i] >= '0' && r.s[r.i] <= '9' && n <= maxID {
		n = 10*n + int(r.s[r.i]-'0')
		r.i++
	}
	if r.i == start || n > maxID || r.i < len(r.s) && strings.IndexByte(".eE0123456789", r.s[r.i]) >= 0 {
		return 0, false
	}
	return int32(n), true
}
