package tokenizer

import (
	"bytes"
	"encoding/json"
	"strings"
)

// hfFile is the part of a tokenizer.json that this package writes. Vocabulary, merges and added tokens are as in a recipe.
type hfFile struct {
	kind         kind
	split        pattern
	nfc          bool
	ignoreMerges bool
	fallback     bool
	fuse         bool
	unk          string
	dummy        dummy // sentencePiece: dummyAlways is written as the normalizer Prepend, dummyFirst as Metaspace
	trim         bool  // sentencePiece: spaces at both ends go, and a run of them is one

	vocab    vocabList
	merges   mergeList
	added    []addedToken
	bos, eos string // put in front of and behind a text by the library; "" for none
}

// node is a JSON object. encoding/json writes its keys in alphabetical order, which loads the same.
type node = map[string]any

// json returns the file.
func (f *hfFile) json() ([]byte, error) {
	var normalizer, pre, decoder, unk any
	if f.kind == byteLevel {
		normalizer, pre = f.byteLevelParts()
		decoder = node{"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true}
	} else {
		normalizer, pre, decoder = f.sentencePieceParts()
	}
	if f.unk != "" {
		unk = f.unk
	}
	added := f.added
	if added == nil {
		added = []addedToken{}
	}
	merges := f.merges
	if merges == nil {
		merges = mergeList{}
	}
	return encodeJSON(struct {
		Version       string       `json:"version"`
		Truncation    any          `json:"truncation"`
		Padding       any          `json:"padding"`
		AddedTokens   []addedToken `json:"added_tokens"`
		Normalizer    any          `json:"normalizer"`
		PreTokenizer  any          `json:"pre_tokenizer"`
		PostProcessor any          `json:"post_processor"`
		Decoder       any          `json:"decoder"`
		Model         any          `json:"model"`
	}{"1.0", nil, nil, added, normalizer, pre, f.template(), decoder, struct {
		Type         string    `json:"type"`
		Dropout      any       `json:"dropout"`
		Unk          any       `json:"unk_token"`
		Prefix       any       `json:"continuing_subword_prefix"`
		Suffix       any       `json:"end_of_word_suffix"`
		FuseUnk      bool      `json:"fuse_unk"`
		ByteFallback bool      `json:"byte_fallback"`
		IgnoreMerges bool      `json:"ignore_merges"`
		Vocab        vocabList `json:"vocab"`
		Merges       mergeList `json:"merges"`
	}{"BPE", nil, unk, nil, nil, f.fuse, f.fallback, f.ignoreMerges, f.vocab, merges}})
}

// byteLevelParts returns the normalizer and the pre-tokenizer.
func (f *hfFile) byteLevelParts() (normalizer, pre any) {
	if f.nfc {
		normalizer = node{"type": "NFC"}
	}
	regex := f.split.expression()
	bytes := node{"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": regex == "" && !f.split.none}
	switch {
	case f.split.digitsFirst:
		return normalizer, inOrder("pretokenizers", node{"type": "Digits", "individual_digits": true}, bytes)
	case regex != "":
		return normalizer, inOrder("pretokenizers",
			node{"type": "Split", "pattern": node{"Regex": regex}, "behavior": "Isolated", "invert": false}, bytes)
	}
	return normalizer, bytes
}

// sentencePieceParts returns normalizer, pre-tokenizer and decoder.
func (f *hfFile) sentencePieceParts() (normalizer, pre, decoder any) {
	replace := func(kind, what, by string) node {
		return node{"type": "Replace", "pattern": node{kind: what}, "content": by}
	}
	var steps []any
	if f.trim {
		steps = append(steps, replace("Regex", trimEnds, ""), replace("Regex", trimRuns, " "))
	}
	if f.dummy == dummyAlways {
		steps = append(steps, node{"type": "Prepend", "prepend": blank})
	}
	if f.dummy == dummyFirst {
		pre = node{"type": "Metaspace", "replacement": blank, "prepend_scheme": "first", "split": false}
	} else {
		steps = append(steps, replace("String", " ", blank))
	}
	if len(steps) > 0 {
		normalizer = inOrder("normalizers", steps...)
	}
	back := []any{replace("String", blank, " "), node{"type": "ByteFallback"}, node{"type": "Fuse"}}
	if f.dummy != dummyNone {
		back = append(back, node{"type": "Strip", "content": " ", "start": 1, "stop": 0})
	}
	return normalizer, pre, inOrder("decoders", back...)
}

// inOrder is a component that applies its parts in order.
func inOrder(name string, parts ...any) node { return node{"type": "Sequence", name: parts} }

// template returns the post-processor that adds BOS and EOS, or nil.
func (f *hfFile) template() any {
	if f.bos == "" && f.eos == "" {
		return nil
	}
	special := func(s string, n int) any { return node{"SpecialToken": node{"id": s, "type_id": n}} }
	one := func(id string, n int) []any {
		var parts []any
		if f.bos != "" {
			parts = append(parts, special(f.bos, n))
		}
		parts = append(parts, node{"Sequence": node{"id": id, "type_id": n}})
		if f.eos != "" {
			parts = append(parts, special(f.eos, n))
		}
		return parts
	}
	tokens := node{}
	for _, a := range f.added {
		if a.Content == f.bos || a.Content == f.eos {
			tokens[a.Content] = node{"id": a.Content, "ids": []int32{a.ID}, "tokens": []string{a.Content}}
		}
	}
	return node{"type": "TemplateProcessing", "single": one("A", 0), "pair": append(one("A", 0), one("B", 1)...), "special_tokens": tokens}
}

// roles are the tokens that a source names, as text; "" for none.
type roles struct {
	bos, eos, unk, pad string
	addBOS, addEOS     bool
	chat               string // Jinja template of a chat
}

// config returns the tokenizer_config.json.
func (r *roles) config() ([]byte, error) {
	name := func(s string) any {
		if s == "" {
			return nil
		}
		return s
	}
	c := node{
		"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": false,
		"bos_token": name(r.bos), "eos_token": name(r.eos), "unk_token": name(r.unk), "pad_token": name(r.pad),
		"add_bos_token": r.addBOS, "add_eos_token": r.addEOS,
	}
	if r.chat != "" {
		c["chat_template"] = r.chat
	}
	return encodeJSON(c)
}

// files returns tokenizer.json and tokenizer_config.json.
func (f *hfFile) files(r roles) (map[string][]byte, error) {
	if r.addBOS {
		f.bos = r.bos
	}
	if r.addEOS {
		f.eos = r.eos
	}
	j, err := f.json()
	if err != nil {
		return nil, err
	}
	c, err := r.config()
	if err != nil {
		return nil, err
	}
	return map[string][]byte{fileJSON: j, fileConfig: c}, nil
}

// encodeJSON writes v as it is read, without escapes for HTML, and with a newline at the end.
func encodeJSON(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// MarshalJSON writes the object in the order of the list.
func (v vocabList) MarshalJSON() ([]byte, error) {
	b := []byte{'{'}
	for i, t := range v {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendString(b, t.text)
		b = append(b, ':')
		b = appendInt(b, t.id)
	}
	return append(b, '}'), nil
}

// MarshalJSON writes each merge as a pair, which any token fits in.
func (m mergeList) MarshalJSON() ([]byte, error) {
	b := []byte{'['}
	for i, p := range m {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendString(append(b, '['), p[0])
		b = appendString(append(b, ','), p[1])
		b = append(b, ']')
	}
	return append(b, ']'), nil
}

// appendString appends s, which is valid UTF-8, as JSON.
func appendString(b []byte, s string) []byte {
	const hex = "0123456789abcdef"
	b = append(b, '"')
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '"' || c == '\\':
			b = append(b, '\\', c)
		case c < ' ' || c == 0x7F:
			b = append(b, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		default:
			b = append(b, c)
		}
	}
	return append(b, '"')
}

func appendInt(b []byte, n int32) []byte {
	if n >= 10 {
		b = appendInt(b, n/10)
	}
	return append(b, byte('0'+n%10))
}

// visible writes a space as the vocabulary of a SentencePiece model does.
func visible(s string) string { return strings.ReplaceAll(s, " ", blank) }
