package sllm

import (
	"slices"
	"strings"
	"testing"

	"svae/vae"
)

func TestStops(t *testing.T) {
	for _, c := range []struct {
		config, generation string
		want               []int32
		bad                string
	}{
		{`{"eos_token_id": 2}`, ``, []int32{2}, ""},
		{`{"eos_token_id": [7, 8]}`, ``, []int32{7, 8}, ""},
		{`{"eos_token_id": 2}`, `{"eos_token_id": [9, 2], "temperature": 0.6}`, []int32{2, 9}, ""},
		{`{"eos_token_id": null}`, `{}`, nil, ""},
		{`{"eos_token_id": null}`, `{"eos_token_id": [-1, 99, 3]}`, []int32{3}, ""},
		{`{}`, ``, []int32{5}, ""},
		{`{}`, `{"eos_token_id": [7, 5]}`, []int32{5, 7}, ""},
		{``, `{"eos_token_id": 7}`, []int32{5, 7}, ""},
		{`{"eos_token_id": "x"}`, ``, nil, `config.json: eos_token_id "x" is neither`},
		{`{}`, `{`, nil, "generation_config.json: "},
	} {
		f := &Folder{Kind: KindLM, LM: vae.Arch{VocabSize: 10, EOS: 5}, Files: map[string][]byte{}}
		if c.config != "" {
			f.Raw = []byte(c.config)
		}
		if c.generation != "" {
			f.Files[GenerationFile] = []byte(c.generation)
		}
		got, err := f.Stops()
		if c.bad != "" {
			if err == nil || !strings.Contains(err.Error(), c.bad) {
				t.Errorf("%s %s: %v, want %q", c.config, c.generation, err, c.bad)
			}
		} else if err != nil || !slices.Equal(got, c.want) {
			t.Errorf("%s %s: %v, %v, want %v", c.config, c.generation, got, err, c.want)
		}
	}
}
