package tokenizer

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
)

// The files a tokenizer may be made of.
const (
	fileJSON    = "tokenizer.json"
	fileVocab   = "vocab.json"
	fileMerges  = "merges.txt"
	fileConfig  = "tokenizer_config.json"
	fileSpecial = "special_tokens_map.json"
	fileAdded   = "added_tokens.json"
)

// Load reads the tokenizer in dir: tokenizer.json, or vocab.json with merges.txt. tokenizer_config.json and
// special_tokens_map.json, where they are, say which tokens are BOS, EOS and PAD; without them well-known names do.
//
// With vocab.json and merges.txt alone, <s>=0 and </s>=2 mean OPT, which puts </s> in front of a text, and <|endoftext|> means GPT-2. Errors
// name the file and what is wrong in it.
func Load(dir string) (*Tokenizer, error) {
	files := map[string][]byte{}
	read := func(names ...string) error {
		for _, name := range names {
			b, err := readFile(filepath.Join(dir, name))
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			if err != nil {
				return fmt.Errorf("load tokenizer: %w", err)
			}
			files[name] = b
		}
		return nil
	}
	if err := read(fileJSON, fileConfig, fileSpecial); err != nil {
		return nil, err
	}
	if files[fileJSON] == nil {
		if err := read(fileVocab, fileMerges, fileAdded); err != nil {
			return nil, err
		}
		if files[fileVocab] == nil || files[fileMerges] == nil {
			return nil, fmt.Errorf("load tokenizer: %s holds neither %s nor both %s and %s (copy them from the base model's folder)",
				dir, fileJSON, fileVocab, fileMerges)
		}
	}
	t, err := fromFiles(files)
	if err != nil {
		return nil, fmt.Errorf("load tokenizer %s: %w", dir, err)
	}
	return t, nil
}

// FromJSON makes a tokenizer of the bytes of a tokenizer.json, which it keeps.
func FromJSON(tokenizerJSON []byte) (*Tokenizer, error) {
	return fromFiles(map[string][]byte{fileJSON: tokenizerJSON})
}

// Save writes the files the tokenizer was loaded from, byte for byte, into dir, which must exist.
func (t *Tokenizer) Save(dir string) error {
	for name, b := range t.files {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o644); err != nil {
			return fmt.Errorf("save tokenizer: %w", err)
		}
	}
	return nil
}

// readFile reads at most maxFile bytes.
func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, err
	}
	if len(b) > maxFile {
		return nil, fmt.Errorf("%s is larger than %d MB", path, maxFile>>20)
	}
	return b, nil
}

func fromFiles(files map[string][]byte) (*Tokenizer, error) {
	cfg, err := readConfig(files)
	if err != nil {
		return nil, err
	}
	var r *recipe
	if b, ok := files[fileJSON]; ok {
		r, err = readJSON(b)
	} else {
		r, err = readPair(files, cfg)
	}
	if err != nil {
		return nil, err
	}
	for i, a := range r.added {
		if a.Content == "" {
			return nil, fmt.Errorf("%s: added token %d (id %d) has no text", r.vocabFile, i, a.ID)
		}
	}
	if err := cfg.declare(r); err != nil {
		return nil, err
	}
	t, err := r.build()
	if err != nil {
		return nil, err
	}
	cfg.roles(t, r)
	t.files = files
	return t, nil
}

// readJSON reads a tokenizer.json.
func readJSON(b []byte) (*recipe, error) {
	var j tokenizerJSON
	if err := unmarshal(fileJSON, b, &j); err != nil {
		return nil, err
	}
	bad := func(format string, args ...any) (*recipe, error) {
		return nil, fmt.Errorf(fileJSON+": "+format, args...)
	}
	m := j.Model
	if m == nil {
		return bad("there is no model")
	}
	if m.Type != "" && m.Type != "BPE" {
		return bad("model %q is not supported (byte-level and SentencePiece-style BPE are)", m.Type)
	}
	if m.Dropout != nil && *m.Dropout != 0 {
		return bad("dropout %g would make encoding random (set it to null)", *m.Dropout)
	}
	if m.Prefix != nil && *m.Prefix != "" || m.Suffix != nil && *m.Suffix != "" {
		return bad("continuing_subword_prefix and end_of_word_suffix are not supported")
	}
	r := &recipe{
		ignoreMerges: m.IgnoreMerges, fallback: m.ByteFallback, fuse: m.FuseUnk,
		vocab: m.Vocab, merges: m.Merges, added: j.AddedTokens, vocabFile: fileJSON, mergesFile: fileJSON,
	}
	if m.UnkToken != nil {
		r.unk = *m.UnkToken
	}
	normalizers, pres := j.Normalizer.list(), j.PreTokenizer.list()
	r.kind = sentencePiece
	for _, p := range pres {
		if p.Type == "ByteLevel" {
			r.kind = byteLevel
		}
	}
	var err error
	if r.kind == byteLevel {
		err = r.readByteLevel(normalizers, pres)
	} else {
		err = r.readSentencePiece(normalizers, pres)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", fileJSON, err)
	}
	return r, nil
}

// readByteLevel reads ByteLevel alone, or a Split before it.
func (r *recipe) readByteLevel(normalizers, pres []component) error {
	for _, n := range normalizers {
		if n.Type != "NFC" {
			return fmt.Errorf("normalizer %q is not supported for byte-level BPE (NFC is)", n.Type)
		}
		r.nfc = true
	}
	last := pres[len(pres)-1]
	if last.Type != "ByteLevel" {
		return fmt.Errorf("pre_tokenizer %q after ByteLevel is not supported", last.Type)
	}
	useRegex := last.UseRegex == nil || *last.UseRegex
	prefix := last.AddPrefixSpace == nil || *last.AddPrefixSpace
	if prefix {
		r.dummy = dummyAlways
	}
	if len(pres) == 1 {
		r.split = patternNone
		if useRegex {
			r.split = patternGPT2
		}
		return nil
	}
	split := pres[0]
	if len(pres) != 2 || split.Type != "Split" {
		names := make([]string, len(pres))
		for i, p := range pres {
			names[i] = p.Type
		}
		return fmt.Errorf("pre_tokenizer [%s] is not supported (ByteLevel, or Split and ByteLevel, are)", strings.Join(names, " "))
	}
	if useRegex || prefix {
		return errors.New("ByteLevel after Split with use_regex or add_prefix_space is not supported")
	}
	// Both ways to write it give the matches as words; the patterns match everything, so nothing lies between them.
	if !(split.Behavior == "Isolated" && !split.Invert || split.Behavior == "Removed" && split.Invert) {
		return fmt.Errorf("Split with behavior %q and invert %t is not supported", split.Behavior, split.Invert)
	}
	if split.Pattern == nil || split.Pattern.Regex == nil {
		return errors.New("Split without a Regex is not supported")
	}
	p, ok := patterns[*split.Pattern.Regex]
	if !ok {
		return fmt.Errorf("the split pattern %.300q is unknown (those of GPT-2, Llama 3 and Qwen are built in)", *split.Pattern.Regex)
	}
	r.split = p
	return nil
}

// readSentencePiece reads the normalizers Prepend and Replace, or the pre-tokenizer Metaspace.
func (r *recipe) readSentencePiece(normalizers, pres []component) error {
	replaced := false
	for _, n := range normalizers {
		switch {
		case n.Type == "Prepend" && n.Prepend == blank && !replaced:
			r.dummy, r.early = dummyAlways, true
		case n.Type == "Replace" && n.Pattern != nil && n.Pattern.String != nil && *n.Pattern.String == " " && n.Content == blank:
			replaced = true
		default:
			return fmt.Errorf("normalizer %q is not supported for SentencePiece-style BPE (Prepend %s and Replace \" \" by %s are)",
				n.Type, blank, blank)
		}
	}
	for _, p := range pres {
		if p.Type != "Metaspace" || len(pres) != 1 || replaced || r.early {
			return fmt.Errorf("pre_tokenizer %q is not supported here (ByteLevel, Metaspace or none are)", p.Type)
		}
		if p.Replacement != blank {
			return fmt.Errorf("Metaspace with replacement %q is not supported (%s is)", p.Replacement, blank)
		}
		replaced = true
		r.splitSpaces = p.Split == nil || *p.Split
		scheme := "always"
		if p.PrependScheme != nil {
			scheme = *p.PrependScheme
		}
		if p.AddPrefixSpace != nil && !*p.AddPrefixSpace {
			scheme = "never"
		}
		d, ok := map[string]dummy{"always": dummyAlways, "first": dummyFirst, "never": dummyNone}[scheme]
		if !ok {
			return fmt.Errorf("Metaspace with prepend_scheme %q is not supported", scheme)
		}
		r.dummy = d
	}
	if !replaced {
		return fmt.Errorf("no pre_tokenizer ByteLevel or Metaspace and no normalizer that writes spaces as %s: this kind of tokenizer is not supported", blank)
	}
	return nil
}

// readPair reads vocab.json and merges.txt.
func readPair(files map[string][]byte, cfg *config) (*recipe, error) {
	r := &recipe{kind: byteLevel, split: patternGPT2, vocabFile: fileVocab, mergesFile: fileMerges}
	if err := unmarshal(fileVocab, files[fileVocab], &r.vocab); err != nil {
		return nil, err
	}
	for n, line := range strings.Split(string(files[fileMerges]), "\n") {
		line = strings.TrimSuffix(line, "\r")
		if line == "" || n == 0 && strings.HasPrefix(line, "#version") {
			continue
		}
		left, right, ok := strings.Cut(line, " ")
		if !ok || left == "" || right == "" || strings.Contains(right, " ") {
			return nil, fmt.Errorf("%s:%d: %.40q is not two tokens with a space between", fileMerges, n+1, line)
		}
		r.merges = append(r.merges, [2]string{left, right})
	}
	ids := make(map[string]int32, len(r.vocab))
	for _, v := range r.vocab {
		ids[v.text] = v.id
	}
	if err := cfg.family(r, ids); err != nil {
		return nil, err
	}
	return r, cfg.readAdded(r, files[fileAdded])
}

// family decides what a vocab.json is, from its special tokens and the class named in the config.
func (c *config) family(r *recipe, ids map[string]int32) error {
	special := func(names ...string) {
		for _, name := range names {
			if id, ok := ids[name]; ok {
				r.added = append(r.added, addedToken{ID: id, Content: name, Special: true})
			}
		}
	}
	if c.addPrefixSpace {
		r.dummy = dummyAlways
	}
	bos, ok1 := ids["<s>"]
	eos, ok2 := ids["</s>"]
	_, gpt2 := ids["<|endoftext|>"]
	switch class := strings.TrimSuffix(c.class, "Fast"); {
	case class == "Qwen2Tokenizer":
		r.split, r.nfc = patternQwen, true
		special("<|endoftext|>")
	case class != "" && class != "GPT2Tokenizer" && class != "RobertaTokenizer" && class != "OPTTokenizer" && class != "PreTrainedTokenizer":
		return fmt.Errorf("%s: how %q cuts text into words is not in %s (add its %s)", fileConfig, c.class, fileVocab, fileJSON)
	case ok1 && ok2 && bos == 0 && eos == 2:
		special("<s>", "<pad>", "</s>", "<unk>", "<mask>")
		c.guess = [3]string{"</s>", "</s>", "<pad>"}
	case gpt2:
		special("<|endoftext|>")
		c.guess = [3]string{"<|endoftext|>", "<|endoftext|>", ""}
	default:
		return fmt.Errorf("%s: neither OPT's <s>=0 and </s>=2 nor GPT-2's <|endoftext|> is there, so how text is cut into words is unknown (add %s)",
			fileVocab, fileJSON)
	}
	return nil
}

// readAdded adds the tokens of added_tokens.json and of added_tokens_decoder in the config.
func (c *config) readAdded(r *recipe, b []byte) error {
	var plain map[string]int32
	if b != nil {
		if err := unmarshal(fileAdded, b, &plain); err != nil {
			return err
		}
	}
	known := map[int32]int{}
	for i, a := range r.added {
		known[a.ID] = i
	}
	var more []addedToken
	for key, a := range c.decoder {
		id, err := strconv.ParseInt(key, 10, 32)
		if err != nil {
			return fmt.Errorf("%s: added_tokens_decoder: %.40q is no id", fileConfig, key)
		}
		a.ID = int32(id)
		if i, ok := known[a.ID]; ok {
			r.added[i] = a
			continue
		}
		more = append(more, a)
	}
	for _, a := range more {
		known[a.ID] = -1
	}
	for content, id := range plain {
		if _, ok := known[id]; !ok {
			more = append(more, addedToken{ID: id, Content: content})
		}
	}
	sort.Slice(more, func(i, j int) bool {
		return more[i].ID < more[j].ID || more[i].ID == more[j].ID && more[i].Content < more[j].Content
	})
	r.added = append(r.added, more...)
	return nil
}

// config is what is read of tokenizer_config.json and special_tokens_map.json.
type config struct {
	class          string
	addPrefixSpace bool
	decoder        map[string]addedToken

	role  [3]*string // bos, eos, pad as named there; nil where not mentioned, "" for null
	from  [3]string  // which file named it
	guess [3]string  // names to use where role is nil
}

var roleNames = [3]string{"bos_token", "eos_token", "pad_token"}

func readConfig(files map[string][]byte) (*config, error) {
	c := new(config)
	for _, file := range []string{fileSpecial, fileConfig} { // the later one wins
		b, ok := files[file]
		if !ok {
			continue
		}
		var j map[string]json.RawMessage
		if err := unmarshal(file, b, &j); err != nil {
			return nil, err
		}
		for i, key := range roleNames {
			raw, ok := j[key]
			if !ok {
				continue
			}
			name, err := tokenName(raw)
			if err != nil {
				return nil, fmt.Errorf("%s: %s is neither a string nor an object with content", file, key)
			}
			c.role[i], c.from[i] = &name, file
		}
		if file != fileConfig {
			continue
		}
		for key, to := range map[string]any{"tokenizer_class": &c.class, "add_prefix_space": &c.addPrefixSpace, "added_tokens_decoder": &c.decoder} {
			if raw, ok := j[key]; ok {
				if err := unmarshal(file+": "+key, raw, to); err != nil {
					return nil, err
				}
			}
		}
	}
	return c, nil
}

// tokenName reads "text", {"content": "text"} or null.
func tokenName(raw json.RawMessage) (string, error) {
	var s *string
	if err := json.Unmarshal(raw, &s); err == nil {
		if s == nil {
			return "", nil
		}
		return *s, nil
	}
	var o struct {
		Content *string `json:"content"`
	}
	if err := json.Unmarshal(raw, &o); err != nil {
		return "", err
	}
	if o.Content == nil {
		return "", errors.New("no content")
	}
	return *o.Content, nil
}

// declare makes the tokens that the config names special, and checks that they exist.
func (c *config) declare(r *recipe) error {
	for i, name := range c.role {
		if name == nil || *name == "" {
			continue
		}
		found := false
		for k := range r.added {
			if r.added[k].Content == *name {
				r.added[k].Special = true
				found = true
			}
		}
		for k := 0; k < len(r.vocab) && !found; k++ {
			if r.vocab[k].text == *name {
				r.added = append(r.added, addedToken{ID: r.vocab[k].id, Content: *name, Special: true})
				found = true
			}
		}
		if !found {
			return fmt.Errorf("%s: %s %.40q is not in the vocabulary (add the token or set it to null)", c.from[i], roleNames[i], *name)
		}
	}
	return nil
}

// roles sets bos, eos and pad: as the config names them, else by well-known names of added tokens.
func (c *config) roles(t *Tokenizer, r *recipe) {
	ids := map[string]int32{"": -1}
	for _, a := range r.added {
		ids[a.Content] = a.ID
	}
	known := [3][]string{
		{c.guess[0], "<s>", "<|begin_of_text|>", "<bos>", "<|startoftext|>"},
		{c.guess[1], "</s>", "<|end_of_text|>", "<eos>", "<|endoftext|>"},
		{c.guess[2], "<pad>", "[PAD]", "<|pad|>", "<|finetune_right_pad_id|>"},
	}
	if r.split.name == patternGPT2.name {
		known[0] = append(known[0], "<|endoftext|>")
	}
	for i, to := range []*int32{&t.bos, &t.eos, &t.pad} {
		if c.role[i] != nil {
			*to = ids[*c.role[i]]
			continue
		}
		for _, name := range known[i] {
			if id, ok := ids[name]; ok && id >= 0 {
				*to = id
				break
			}
		}
	}
}
