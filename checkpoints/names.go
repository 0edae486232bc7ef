package checkpoints

import (
	"regexp"
	"strconv"
)

// SideFiles are the names of the small files that a model folder may hold beside config.json: those that make up a
// tokenizer, and the settings for generation.
var SideFiles = []string{"tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.json",
	"merges.txt", "tokenizer.model", "chat_template.jinja", "generation_config.json"}

// WeightFiles are the names under which a Hugging Face folder holds its weights, the best first: [Open] takes the first that
// is there.
var WeightFiles = []string{"model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json"}

var splitPart = regexp.MustCompile(`^(.*)-([0-9]{5})-of-([0-9]{5})\.gguf$`)

// SplitParts returns the names of all parts of a split GGUF model, in order, and which of them name is, counted from 0. It
// returns nil for the name of a file that is no part, or one of more parts than [Open] takes. The name may hold folders.
func SplitParts(name string) (parts []string, i int) {
	m := splitPart.FindStringSubmatch(name)
	if m == nil {
		return nil, 0
	}
	no, err1 := strconv.Atoi(m[2])
	count, err2 := strconv.Atoi(m[3])
	if err1 != nil || err2 != nil || no < 1 || no > count || count > maxSplits {
		return nil, 0
	}
	for k := range count {
		parts = append(parts, splitName(m[1], k, count))
	}
	return parts, no - 1
}
