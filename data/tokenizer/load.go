package tokenizer

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
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
	fileChat    = "chat_template.jinja"
)

// tokenizerFiles are the names of all files that a tokenizer's folder may hold. What is there is kept.
var tokenizerFiles = []string{fileJSON, fileConfig, fileSpecial, fileAdded, fileChat, fileModel, fileVocab, fileMerges}

// Load reads the tokenizer in dir: tokenizer.json, or vocab.json with merges.txt, or the SentencePiece model tokenizer.model.
// tokenizer_config.json and special_tokens_map.json, where they are, say which tokens are BOS, EOS and PAD; without them
// well-known names do.
//
// With vocab.json and merges.txt alone, <s>=0 and </s>=2 mean OPT, which puts </s> in front of a text, and <|endoftext|>
// means GPT-2. A SentencePiece model is read as FromSentencePiece does, with the tokens that added_tokens.json and
// tokenizer_config.json add; the tokenizer.json it comes to is among Files. Errors name the file and what is wrong in it.
func Load(dir string) (*Tokenizer, error) {
	if st, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("load tokenizer: %s: no such folder", dir)
	} else if err == nil && !st.IsDir() {
		return nil, fmt.Errorf("load tokenizer: %s is a file (give the folder of the model or tokenizer)", dir)
	}
	files := map[string][]byte{}
	for _, name := range tokenizerFiles {
		b, err := readFile(filepath.Join(dir, name))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("load tokenizer: %w", err)
		}
		files[name] = b
	}
	t, err := fromFiles(files)
	if err != nil {
		return nil, fmt.Errorf("load tokenizer %s: %w", dir, err)
	}
	return t, nil
}

// FromFiles makes a tokenizer of the files of a folder, by name, as Load does. Files that are not a tokenizer's are ignored.
func FromFiles(files map[string][]byte) (*Tokenizer, error) {
	ours := map[string][]byte{}
	for _, name := range tokenizerFiles {
		if b, ok := files[name]; ok {
			ours[name] = b
		}
	}
	return fromFiles(ours)
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
	if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() { // opening a pipe would wait
		return nil, fmt.Errorf("%s is not a regular file", path)
	}
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

// fromFiles makes a tokenizer of the files, which it keeps and may add to.
func fromFiles(files map[string][]byte) (*Tokenizer, error) {
	r, cfg, err := recipeOf(files)
	if err != nil {
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

// recipeOf reads the files.
func recipeOf(files map[string][]byte) (*recipe, *config, error) {
	cfg, err := readConfig(files)
	if err != nil {
		return nil, nil, err
	}
	pair := files[fileVocab] != nil && files[fileMerges] != nil
	switch {
	case files[fileJSON] != nil || pair:
	case files[fileModel] == nil:
		return nil, nil, fmt.Errorf("the folder holds neither %s nor both %s and %s nor %s (copy them from the base model's folder)",
			fileJSON, fileVocab, fileMerges, fileModel)
	default:
		if err := addJSON(files, cfg); err != nil {
			return nil, nil, err
		}
	}
	var r *recipe
	if b, ok := files[fileJSON]; ok {
		r, err = readJSON(b)
	} else {
		r, err = readPair(files, cfg)
	}
	if err != nil {
		return nil, nil, err
	}
	for i, a := range r.added {
		if a.Content == "" {
			return nil, nil, fmt.Errorf("%s: added token %d (id %d) has no text", r.vocabFile, i, a.ID)
		}
	}
	return r, cfg, cfg.declare(r)
}

// addJSON makes the tokenizer.json, and the tokenizer_config.json if there is none, of a folder that has only a tokenizer.model.
func addJSON(files map[string][]byte, cfg *config) error {
	p, err := readModel(files[fileModel])
	if err != nil {
		return err
	}
	if cfg.legacy != nil && !*cfg.legacy && p.dummy == dummyAlways {
		p.dummy = dummyFirst
	}
	if cfg.noPrefixSpace {
		p.dummy = dummyNone
	}
	f, err := p.hugging()
	if err != nil {
		return err
	}
	r := &recipe{added: f.added}
	if err := cfg.readAdded(r, files[fileAdded]); err != nil {
		return err
	}
	f.added = r.added
	if cfg.addBOS != nil {
		p.roles.addBOS = *cfg.addBOS && p.roles.bos != ""
	}
	made, err := f.files(p.roles)
	if err != nil {
		return err
	}
	files[fileJSON] = made[fileJSON]
	if files[fileConfig] != nil || files[fileSpecial] != nil {
		return nil // they say what is BOS, EOS and PAD
	}
	files[fileConfig] = made[fileConfig]
	again, err := readConfig(files)
	if err == nil {
		*cfg = *again
	}
	return err
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
	r.first, r.last = j.PostProcessor.ends()
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

// readByteLevel reads ByteLevel alone, or a Split or Digits before it.
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
	if len(pres) == 2 && split.Type == "Digits" && split.IndividualDigits && useRegex && !prefix {
		r.split = patternDigits
		return nil
	}
	if len(pres) != 2 || split.Type != "Split" {
		names := make([]string, len(pres))
		for i, p := range pres {
			names[i] = p.Type
		}
		return fmt.Errorf("pre_tokenizer [%s] is not supported (ByteLevel, Split and ByteLevel, or individual Digits and ByteLevel, are)", strings.Join(names, " "))
	}
	if useRegex || prefix {
		return errors.New("pre_tokenizer ByteLevel after Split with use_regex or add_prefix_space is not supported")
	}
	// Both ways to write it give the matches as words; the patterns match everything, so nothing lies between them.
	if !(split.Behavior == "Isolated" && !split.Invert || split.Behavior == "Removed" && split.Invert) {
		return fmt.Errorf("pre_tokenizer Split with behavior %q and invert %t is not supported", split.Behavior, split.Invert)
	}
	if split.Pattern == nil || split.Pattern.Regex == nil {
		return errors.New("pre_tokenizer Split without a Regex is not supported")
	}
	p, ok := patterns[*split.Pattern.Regex]
	if !ok {
		return fmt.Errorf("the split pattern %.300q is unknown (those of GPT-2, Llama 3 and Qwen are built in)", *split.Pattern.Regex)
	}
	r.split = p
	return nil
}

// The expressions by which a tokenizer.json of ours says remove_extra_whitespaces.
const (
	trimEnds = `\A +| +\z`
	trimRuns = ` {2,}`
)

// readSentencePiece reads the normalizers Prepend and Replace, or the pre-tokenizer Metaspace.
func (r *recipe) readSentencePiece(normalizers, pres []component) error {
	replaced := false
	if len(normalizers) > 1 && normalizers[0].replaces(trimEnds, "") && normalizers[1].replaces(trimRuns, " ") {
		r.trim = true
		normalizers = normalizers[2:]
	}
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
			return fmt.Errorf("pre_tokenizer Metaspace with replacement %q is not supported (%s is)", p.Replacement, blank)
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
			return fmt.Errorf("pre_tokenizer Metaspace with prepend_scheme %q is not supported", scheme)
		}
		r.dummy = d
	}
	if r.trim && r.splitSpaces {
		return errors.New("normalizers that remove spaces before Metaspace with split are not supported")
	}
	if !replaced {
		return fmt.Errorf("no pre_tokenizer ByteLevel or Metaspace and no normalizer that writes spaces as %s: "+
			"this kind of tokenizer is not supported", blank)
	}
	return nil
}

// replaces tells whether c writes by for what the expression matches.
func (c *component) replaces(regex, by string) bool {
	return c.Type == "Replace" && c.Pattern != nil && c.Pattern.Regex != nil && *c.Pattern.Regex == regex && c.Content == by
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
		left, right, ok := cutMerge(line)
		if !ok {
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
