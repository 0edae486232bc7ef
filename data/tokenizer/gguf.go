package tokenizer

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"unicode/utf8"
)

const fileGGUF = "GGUF header" // for errors

// ggufPatterns are the values of tokenizer.ggml.pre that are known, with what each says of text. Only those are here whose
// Hugging Face tokenizer is known to be this one.
var ggufPatterns = map[string]struct {
	split        pattern
	ignoreMerges bool
	nfc          bool
}{
	"gpt-2":     {split: patternGPT2},
	"phi-2":     {split: patternGPT2},
	"llama-bpe": {split: patternLlama3, ignoreMerges: true},
	"llama3":    {split: patternLlama3, ignoreMerges: true},
	"llama-v3":  {split: patternLlama3, ignoreMerges: true},
	"smaug-bpe": {split: patternLlama3},
	"dbrx":      {split: patternLlama3},
	"qwen2":     {split: patternQwen, nfc: true},
	"smollm":    {split: patternDigits},
	"starcoder": {split: patternDigits},
	"refact":    {split: patternDigits},
}

// ggufHeader reads typed values of a GGUF header. The first that is wrong is kept in err.
type ggufHeader struct {
	values map[string]any
	err    error
}

func ggufGet[T any](h *ggufHeader, key string) (v T, ok bool) {
	raw, there := h.values[key]
	if !there {
		return v, false
	}
	if v, ok = raw.(T); !ok && h.err == nil {
		h.err = fmt.Errorf("%s: %s is a %T, want a %T", fileGGUF, key, raw, v)
	}
	return v, ok
}

// id returns a token id, or -1.
func (h *ggufHeader) id(key string) int64 {
	switch v := h.values[key].(type) {
	case nil:
		return -1
	case int64:
		return v
	case uint64:
		return int64(min(v, math.MaxInt64))
	}
	ggufGet[int64](h, key)
	return -1
}

// FromGGUF returns the files of a Hugging Face tokenizer, tokenizer.json and tokenizer_config.json, that encodes alike, from
// the header of a GGUF file: the tokenizer.ggml.* entries, and tokenizer.chat_template. Values are bool, int64, uint64, float64,
// string, []int64, []float64 and []string.
//
// Read are the models "gpt2" (byte-level BPE, with one of the known values of tokenizer.ggml.pre) and "llama" (SentencePiece
// BPE with scores). A Qwen 2 tokenizer has the normalizer NFC, which the original has and llama.cpp leaves out.
func FromGGUF(values map[string]any) (map[string][]byte, error) {
	h := &ggufHeader{values: values}
	model, _ := ggufGet[string](h, "tokenizer.ggml.model")
	tokens, ok := ggufGet[[]string](h, "tokenizer.ggml.tokens")
	types, typed := ggufGet[[]int64](h, "tokenizer.ggml.token_type")
	switch {
	case h.err != nil:
		return nil, h.err
	case model == "":
		return nil, fmt.Errorf("%s: no tokenizer.ggml.model: the file holds no tokenizer (name the folder of one)", fileGGUF)
	case model != "gpt2" && model != "llama":
		return nil, fmt.Errorf("%s: tokenizer.ggml.model %q is not supported (gpt2 and llama are)", fileGGUF, model)
	case !ok || len(tokens) == 0:
		return nil, fmt.Errorf("%s: no tokenizer.ggml.tokens", fileGGUF)
	case len(tokens) > maxID:
		return nil, fmt.Errorf("%s: %d tokens (at most %d are read)", fileGGUF, len(tokens), maxID)
	case typed && len(types) != len(tokens):
		return nil, fmt.Errorf("%s: %d tokens, but %d in tokenizer.ggml.token_type", fileGGUF, len(tokens), len(types))
	}
	p := &pieces{file: fileGGUF, list: make([]piece, len(tokens))}
	for i, text := range tokens {
		p.list[i] = piece{text: text, kind: pieceNormal}
		if typed {
			p.list[i].kind = int(min(max(types[i], -1), 99))
		}
		if text == "" { // llama.cpp names it so
			p.list[i] = piece{text: fmt.Sprintf("[EMPTY_%d]", i), kind: pieceUnused}
		}
	}
	p.roles = h.roles(p, model)
	if h.err != nil {
		return nil, h.err
	}
	if model == "gpt2" {
		return h.byteLevel(p)
	}
	return h.sentencePiece(p)
}

// roles reads which tokens are BOS, EOS, PAD and unknown, and the template of a chat.
func (h *ggufHeader) roles(p *pieces, model string) roles {
	name := func(key string, or int64) string {
		id := h.id(key)
		if id < 0 {
			id = or
		}
		text := p.name(id)
		if text == "" && id >= 0 && h.err == nil {
			h.err = fmt.Errorf("%s: %s is %d, out of 0 to %d", fileGGUF, key, id, len(p.list)-1)
		}
		return text
	}
	r := roles{pad: name("tokenizer.ggml.padding_token_id", -1)}
	bos, eos, unk := int64(-1), int64(-1), int64(-1)
	if model == "llama" { // what llama.cpp takes for granted
		bos, eos, unk = 1, 2, 0
		r.addBOS = true
	}
	r.bos, r.eos = name("tokenizer.ggml.bos_token_id", bos), name("tokenizer.ggml.eos_token_id", eos)
	r.unk = name("tokenizer.ggml.unknown_token_id", unk)
	if model == "gpt2" {
		pre, _ := ggufGet[string](h, "tokenizer.ggml.pre")
		r.addBOS = pre == "llama-bpe" || pre == "llama3" || pre == "llama-v3"
	}
	if v, ok := ggufGet[bool](h, "tokenizer.ggml.add_bos_token"); ok {
		r.addBOS = v
	}
	r.addEOS, _ = ggufGet[bool](h, "tokenizer.ggml.add_eos_token")
	r.addBOS, r.addEOS = r.addBOS && r.bos != "", r.addEOS && r.eos != ""
	r.chat, _ = ggufGet[string](h, "tokenizer.chat_template")
	return r
}

// byteLevel makes the files of a byte-level tokenizer.
func (h *ggufHeader) byteLevel(p *pieces) (map[string][]byte, error) {
	pre, ok := ggufGet[string](h, "tokenizer.ggml.pre")
	merges, _ := ggufGet[[]string](h, "tokenizer.ggml.merges")
	space, _ := ggufGet[bool](h, "tokenizer.ggml.add_space_prefix")
	known, found := ggufPatterns[pre]
	switch {
	case h.err != nil:
		return nil, h.err
	case !ok:
		return nil, fmt.Errorf("%s: no tokenizer.ggml.pre, so how text is cut into words is unknown (take a newer file, or name the folder of the tokenizer)", fileGGUF)
	case !found:
		return nil, fmt.Errorf("%s: tokenizer.ggml.pre %q is not supported (known: %s)", fileGGUF, pre,
			strings.Join(slices.Sorted(maps.Keys(ggufPatterns)), ", "))
	case space:
		return nil, fmt.Errorf("%s: add_space_prefix with byte-level BPE is not supported", fileGGUF)
	}
	f := &hfFile{kind: byteLevel, split: known.split, ignoreMerges: known.ignoreMerges, nfc: known.nfc}
	next := int32(0) // id that the Hugging Face library gives to the next added token, unless the vocabulary has it
	for _, t := range p.list {
		if t.kind == pieceNormal || t.kind == pieceByte {
			next++
		}
	}
	for id, t := range p.list {
		id := int32(id)
		if !utf8.ValidString(t.text) {
			return nil, fmt.Errorf("%s: token %d (%.40q) is not UTF-8", fileGGUF, id, t.text)
		}
		switch t.kind {
		case pieceControl, pieceUnknown, pieceUser:
			f.added = append(f.added, addedToken{ID: id, Content: t.text, Special: t.kind != pieceUser})
			if id == next {
				next++
			} else {
				f.vocab = append(f.vocab, entry{t.text, id})
			}
		case pieceUnused: // fills the table up
		case pieceNormal, pieceByte:
			f.vocab = append(f.vocab, entry{t.text, id})
		default:
			return nil, fmt.Errorf("%s: token %d (%.40q) is of the unknown type %d", fileGGUF, id, t.text, t.kind)
		}
	}
	for i, m := range merges {
		left, right, ok := cutMerge(m)
		if !ok || !utf8.ValidString(m) {
			return nil, fmt.Errorf("%s: merge %d: %.40q is not two tokens with a space between", fileGGUF, i, m)
		}
		f.merges = append(f.merges, [2]string{left, right})
	}
	if f.nfc && !p.roles.addBOS {
		p.roles.bos = "" // Qwen's own files name none
	}
	return f.files(p.roles)
}

// sentencePiece makes the files of a SentencePiece tokenizer.
func (h *ggufHeader) sentencePiece(p *pieces) (map[string][]byte, error) {
	scores, ok := ggufGet[[]float64](h, "tokenizer.ggml.scores")
	space, said := ggufGet[bool](h, "tokenizer.ggml.add_space_prefix")
	p.trim, _ = ggufGet[bool](h, "tokenizer.ggml.remove_extra_whitespaces")
	switch {
	case h.err != nil:
		return nil, h.err
	case !ok:
		return nil, fmt.Errorf("%s: no tokenizer.ggml.scores, which say what is merged first", fileGGUF)
	case len(scores) != len(p.list):
		return nil, fmt.Errorf("%s: %d tokens, but %d in tokenizer.ggml.scores", fileGGUF, len(p.list), len(scores))
	}
	for i, s := range scores {
		p.list[i].score = float32(s)
	}
	if space || !said {
		p.dummy = dummyAlways
	}
	if unk := h.id("tokenizer.ggml.unknown_token_id"); h.values["tokenizer.ggml.token_type"] == nil {
		// An old file without types: what llama.cpp takes for granted.
		for i := range p.list {
			t := &p.list[i]
			if _, ok := byteToken(t.text); ok {
				t.kind = pieceByte
			} else if int64(i) == unk || unk < 0 && i == 0 {
				t.kind = pieceUnknown
			} else if t.text == p.roles.bos || t.text == p.roles.eos {
				t.kind = pieceControl
			}
		}
	}
	var err error
	if p.bytes, err = p.hasBytes(); err != nil {
		return nil, err
	}
	return p.files()
}

// cutMerge cuts "a b". A token may not hold a space.
func cutMerge(s string) (left, right string, ok bool) {
	left, right, ok = strings.Cut(s, " ")
	return left, right, ok && left != "" && right != "" && !strings.Contains(right, " ")
}

// GGUF returns the tokenizer.ggml.* entries, and tokenizer.chat_template, of a GGUF file that holds this tokenizer, as
// llama.cpp reads them. values[i] belongs to keys[i] and is a string, bool, uint32, []string, []int32 or []float32. The lists hold
// VocabSize tokens; an id that no token has is named [PADid] and marked unused.
//
// The error says what llama.cpp has no entry for.
func (t *Tokenizer) GGUF() (keys []string, values []any, err error) {
	r, cfg, err := recipeOf(t.files)
	if err != nil {
		return nil, nil, err
	}
	put := func(key string, v any) {
		keys, values = append(keys, key), append(values, v)
	}
	names, types := t.ggufTokens(r)
	if t.kind == byteLevel {
		pre, err := ggufPre(t)
		if err != nil {
			return nil, nil, err
		}
		merges := make([]string, len(r.merges))
		for i, m := range r.merges {
			merges[i] = m[0] + " " + m[1]
		}
		put("tokenizer.ggml.model", "gpt2")
		put("tokenizer.ggml.pre", pre)
		put("tokenizer.ggml.tokens", names)
		put("tokenizer.ggml.token_type", types)
		put("tokenizer.ggml.merges", merges)
	} else {
		scores, err := r.scores(names, types)
		if err != nil {
			return nil, nil, err
		}
		put("tokenizer.ggml.model", "llama")
		put("tokenizer.ggml.pre", "default")
		put("tokenizer.ggml.tokens", names)
		put("tokenizer.ggml.scores", scores)
		put("tokenizer.ggml.token_type", types)
		put("tokenizer.ggml.add_space_prefix", t.dummy != dummyNone)
		if t.trim {
			put("tokenizer.ggml.remove_extra_whitespaces", true)
		}
	}
	for _, role := range []struct {
		key string
		id  int32
	}{{"bos", t.bos}, {"eos", t.eos}, {"unknown", unknownID(r, cfg)}, {"padding", t.pad}} {
		if role.id >= 0 {
			put("tokenizer.ggml."+role.key+"_token_id", uint32(role.id))
		}
	}
	put("tokenizer.ggml.add_bos_token", t.addBOS)
	put("tokenizer.ggml.add_eos_token", t.addEOS)
	if cfg.chat != "" {
		put("tokenizer.chat_template", cfg.chat)
	}
	return keys, values, nil
}

// unknownID returns the id of the unknown token, or -1.
func unknownID(r *recipe, cfg *config) int32 {
	name := r.unk
	if name == "" {
		name = cfg.unk
	}
	for _, v := range r.vocab {
		if v.text == name && name != "" {
			return v.id
		}
	}
	for _, a := range r.added {
		if a.Content == name {
			return a.ID
		}
	}
	return -1
}

// ggufTokens returns the text and the type of every id.
func (t *Tokenizer) ggufTokens(r *recipe) (names []string, types []int32) {
	n := t.VocabSize()
	names, types = make([]string, n), make([]int32, n)
	for _, v := range r.vocab {
		names[v.id], types[v.id] = v.text, pieceNormal
		if t.kind == sentencePiece {
			if _, ok := byteToken(v.text); ok && r.fallback {
				types[v.id] = pieceByte
			}
			if v.text == r.unk {
				types[v.id] = pieceUnknown
			}
		}
	}
	made := make(map[string]bool, len(r.merges))
	for _, m := range r.merges {
		made[m[0]+m[1]] = true
	}
	for _, a := range r.added {
		if types[a.ID] == pieceNormal && a.Special && (made[names[a.ID]] || utf8.RuneCountInString(names[a.ID]) == 1) {
			continue // text becomes it too, although it is the BOS, say
		}
		names[a.ID] = a.Content
		if t.kind == sentencePiece {
			names[a.ID] = visible(a.Content)
		}
		switch {
		case types[a.ID] == pieceUnknown:
		case a.Special:
			types[a.ID] = pieceControl
		default:
			types[a.ID] = pieceUser
		}
	}
	for id := range names {
		if types[id] == 0 {
			names[id], types[id] = fmt.Sprintf("[PAD%d]", id), pieceUnused
		}
	}
	return names, types
}

// ggufPre returns the value of tokenizer.ggml.pre under which llama.cpp cuts text as t does.
func ggufPre(t *Tokenizer) (string, error) {
	if t.dummy != dummyNone {
		return "", fmt.Errorf("write the tokenizer as GGUF: llama.cpp has no add_prefix_space for byte-level BPE")
	}
	for _, pre := range []string{"gpt-2", "llama-bpe", "smaug-bpe", "qwen2", "smollm"} { // the first names of each
		if k := ggufPatterns[pre]; k.split.name == t.split.name && k.ignoreMerges == t.ignoreMerges {
			return pre, nil
		}
	}
	return "", fmt.Errorf("write the tokenizer as GGUF: llama.cpp has no name for the pattern %s with ignore_merges %t", t.split.name, t.ignoreMerges)
}
