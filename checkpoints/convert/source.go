// Package convert turns the checkpoint of a model, in any format that package checkpoints reads, into another: a model
// folder, PyTorch or GGUF. [Open] finds every weight of the model in the source, [Source.Plan] says what would be written,
// [Plan.Write] writes it as a stream, and [Plan.Verify] reads it again and compares every element.
package convert

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"svae/checkpoints"
	"svae/data/tokenizer"
	"svae/sllm"
)

// Options say how a source is read.
type Options struct {
	Tokenizer string // folder or file of the tokenizer; "" is where the weights are
	Heads     int    // attention heads of a reference file, which does not say; 0 is by its hidden size
}

// Source is an open model. Its weights stay in their files.
type Source struct {
	Path      string
	Folder    *sllm.Folder // config and tokenizer, without weights in memory
	Weights   *checkpoints.Weights
	Tensors   map[string]*checkpoints.Tensor // by the names of Folder.Weights
	Layout    []sllm.Stored                  // how the files hold them
	Tokenizer *tokenizer.Tokenizer
}

// Open opens a file or folder. It reads the config and the tokenizer and finds every weight, so that a model that is not
// known, or that does not fit its config, is refused before anything is written.
func Open(path string, o Options) (*Source, error) {
	w, err := checkpoints.Open(path) // first: a file that is refused must not be asked for its config
	if err != nil {
		return nil, err
	}
	s := &Source{Path: path, Weights: w}
	if err := s.open(o); err != nil {
		w.Close()
		return nil, err
	}
	return s, nil
}

// Close unmaps the files.
func (s *Source) Close() error { return s.Weights.Close() }

func (s *Source) open(o Options) error {
	if err := s.config(o); err != nil {
		return err
	}
	if s.Tensors == nil {
		var err error
		if s.Tensors, err = sllm.Find(s.Folder.Weights(), s.Layout, s.Weights); err != nil {
			return fmt.Errorf("%s: %w", s.Path, err)
		}
	}
	return s.tokenizer(o.Tokenizer)
}

// config reads what the format and the folder say of the model.
func (s *Source) config(o Options) (err error) {
	if err := sllm.RefuseBundle(checkpoints.SourceDir(s.Path)); err != nil {
		return err
	}
	switch {
	case s.Weights.Format() == "gguf":
		s.Folder, s.Layout, err = sllm.ReadGGUF(s.Weights, o.Tokenizer == "")
		return err
	case s.Weights.Format() == "llama2.c":
		s.Folder, err = sllm.ReadLlama2C(s.Weights)
	case sllm.IsReference(s.Weights): // whatever config.json lies beside it
		s.Folder, s.Tensors, err = sllm.ReadReference(s.Weights, sllm.ReferenceOptions{Heads: o.Heads})
		return err
	default:
		if err := hasConfig(s.Path); err != nil {
			return err
		}
		s.Folder, err = sllm.ReadConfig(checkpoints.SourceDir(s.Path))
	}
	if err != nil {
		return err
	}
	s.Layout = s.Folder.Layout()
	return nil
}

// hasConfig says what is amiss where no config.json tells what the weights are.
func hasConfig(path string) error {
	dir := checkpoints.SourceDir(path)
	has := func(name string) bool {
		_, err := os.Stat(filepath.Join(dir, name))
		return err == nil
	}
	switch {
	case has("config.json"):
		return nil
	case has("adapter_config.json"):
		return fmt.Errorf("%s: an adapter, not a model (merge it into its base first)", path)
	}
	return fmt.Errorf("%s: no config.json in its folder (copy the model's there)", path)
}

// tokenizer loads the tokenizer and refuses one that knows more tokens than the model.
func (s *Source) tokenizer(path string) (err error) {
	f := s.Folder
	switch {
	case path != "":
		f.Files, err = readTokenizer(path, f.Arch().VocabSize)
	case s.Weights.Format() == "llama2.c":
		f.Files, err = besideLlama2C(s.Path, f.Arch().VocabSize)
	}
	if err != nil {
		return err
	}
	if !f.HasTokenizer() {
		return fmt.Errorf("%s: holds no tokenizer (tokenizer.json, vocab.json and merges.txt, or tokenizer.model; --tokenizer PATH names another place)", f.Path)
	}
	from := cmp.Or(path, f.Path)
	if s.Tokenizer, err = tokenizer.FromFiles(f.Files); err != nil {
		return fmt.Errorf("%s: %w", from, err)
	}
	if n := s.Tokenizer.VocabSize(); n > f.Arch().VocabSize {
		return fmt.Errorf("%s: the tokenizer has %d ids, the model a vocabulary of %d", from, n, f.Arch().VocabSize)
	}
	return nil
}

// readTokenizer reads a tokenizer from a folder, or from a file whose format its content tells.
func readTokenizer(path string, vocab int) (map[string][]byte, error) {
	st, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	switch base := filepath.Base(path); {
	case st.IsDir():
		return tokenizerIn(path)
	case base == "tokenizer.json" || base == "vocab.json" || base == "merges.txt": // with what lies beside it
		return tokenizerIn(filepath.Dir(path))
	}
	if !st.Mode().IsRegular() || st.Size() > 1<<30 {
		return nil, fmt.Errorf("%s: not the file of a tokenizer", path)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var files map[string][]byte
	switch {
	case bytes.HasPrefix(b, []byte("GGUF")):
		w, err := checkpoints.Open(path)
		if err != nil {
			return nil, err
		}
		defer w.Close()
		files, err = tokenizer.FromGGUF(w.Values())
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		return files, nil
	case bytes.HasPrefix(bytes.TrimSpace(b[:min(len(b), 64)]), []byte("{")):
		files = map[string][]byte{"tokenizer.json": b}
	case len(b) == 0:
		err = errors.New("the file is empty")
	case len(b) > 4 && b[1] == 0 && b[2] == 0 && b[3] == 0: // the longest token's length, as 32 bits
		files, err = tokenizer.FromLlama2C(b, vocab)
	case b[0] == '\n': // the first field of SentencePiece's protocol buffer
		files, err = tokenizer.FromSentencePiece(b)
	default:
		err = errors.New("no tokenizer is known that begins so (give its folder, or a tokenizer.json, a SentencePiece model, a GGUF or llama2.c file)")
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return files, nil
}

// tokenizerIn reads the tokenizer of a folder.
func tokenizerIn(dir string) (map[string][]byte, error) {
	tok, err := tokenizer.Load(dir)
	if err != nil {
		return nil, err
	}
	return tok.Files(), nil
}

// besideLlama2C finds the tokenizer of a llama2.c model in its folder: tokenizer.json, or llama2.c's own tok512.bin (by the
// size of the vocabulary) or tokenizer.bin, or SentencePiece's model under the same names.
func besideLlama2C(path string, vocab int) (map[string][]byte, error) {
	dir := checkpoints.SourceDir(path)
	names := []string{"tokenizer.json", fmt.Sprintf("tok%d.bin", vocab), fmt.Sprintf("tok%d.model", vocab), "tokenizer.bin", "tokenizer.model"}
	for _, name := range names {
		p := filepath.Join(dir, name)
		if _, err := os.Stat(p); err != nil {
			continue
		}
		if name == "tokenizer.json" {
			p = dir
		}
		return readTokenizer(p, vocab)
	}
	return nil, fmt.Errorf("%s: no tokenizer beside it (one of %s; --tokenizer PATH names another place)", path, strings.Join(names, ", "))
}
