package sllm

import (
	"encoding/json"
	"fmt"
	"slices"
)

// Stops returns the tokens that end a text of a token-level model: the eos_token_id of config.json and of
// generation_config.json, each a number or a list, as instruction-tuned models have more than one. A config.json without that
// key means the end mark that its family has by default; null means none.
func (f *Folder) Stops() ([]int32, error) {
	var stops []int32
	add := func(ids ...int32) {
		for _, id := range ids {
			if id >= 0 && int(id) < f.Arch().VocabSize && !slices.Contains(stops, id) {
				stops = append(stops, id)
			}
		}
	}
	if f.Raw == nil {
		add(f.Arch().EOS)
	}
	for _, file := range []struct {
		name string
		text []byte
	}{{"config.json", f.Raw}, {GenerationFile, f.Files[GenerationFile]}} {
		if file.text == nil {
			continue
		}
		var c struct {
			EOS json.RawMessage `json:"eos_token_id"`
		}
		if err := json.Unmarshal(file.text, &c); err != nil {
			return nil, fmt.Errorf("%s: %s: %w", f.Path, file.name, err)
		}
		switch {
		case c.EOS == nil && file.name != GenerationFile:
			add(f.Arch().EOS)
			continue
		case c.EOS == nil || string(c.EOS) == "null":
			continue
		}
		var one int32
		list := []int32{}
		if json.Unmarshal(c.EOS, &one) == nil {
			list = append(list, one)
		} else if err := json.Unmarshal(c.EOS, &list); err != nil {
			return nil, fmt.Errorf("%s: %s: eos_token_id %.40s is neither a token id nor a list of them", f.Path, file.name, c.EOS)
		}
		add(list...)
	}
	return stops, nil
}
