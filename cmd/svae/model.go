package main

import (
	"encoding/json"
	"fmt"

	"github.com/urfave/cli/v2"

	"svae/data"
	"svae/data/segment"
	"svae/data/tokenizer"
	"svae/sllm"
)

// loadTokenizer loads the tokenizer of a model folder.
func loadTokenizer(f *sllm.Folder) (*tokenizer.Tokenizer, error) { return tokenizer.Load(f.Path) }

// warnAbout says what whoever uses a model should know.
func warnAbout(c *cli.Context, f *sllm.Folder) {
	for _, w := range f.Warnings() {
		fmt.Fprintf(c.App.ErrWriter, "warning: %s\n", w)
	}
}

// segmenterOf returns the segmenter that a model was trained with; a token-level model has the default one.
func segmenterOf(f *sllm.Folder) (segment.Config, error) {
	var c segment.Config
	if f.Segmenter != nil {
		if err := json.Unmarshal(f.Segmenter, &c); err != nil {
			return c, fmt.Errorf("%s: config.json: segmenter: %w", f.Path, err)
		}
	}
	return c.Resolved(), c.Validate()
}

// codecOf returns what turns text into the model's sentences and back.
func codecOf(f *sllm.Folder) (*data.Codec, error) {
	tok, err := loadTokenizer(f)
	if err != nil {
		return nil, err
	}
	seg, err := segmenterOf(f)
	if err != nil {
		return nil, err
	}
	return data.NewCodec(tok, seg)
}

// newest returns the newest checkpoint of a training run; any other path stays what it is.
func newest(path string) string {
	if dir, err := sllm.Resolve(path); err == nil {
		return dir
	}
	return path
}
