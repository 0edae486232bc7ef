package hub

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strings"
)

// companions are the files beside the weights that a conversion reads.
var companions = []string{"config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json",
	"special_tokens_map.json", "added_tokens.json", "vocab.json", "merges.txt", "tokenizer.model", "chat_template.jinja"}

// usual are the names under which a repository holds its weights, best first.
var usual = []string{"model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json"}

// A choice is what is wanted of a repository.
type choice struct {
	weights string   // the file of the weights, or their index
	beside  []string // other files
	single  bool     // weights is what the caller opens, not its folder
}

// choose picks what a conversion needs among the names of a repository's files.
func choose(r reference, names []string) (choice, error) {
	c := choice{weights: r.file, single: true}
	if r.file == "" {
		var err error
		if c.weights, c.single, err = chooseWeights(r, names); err != nil {
			return c, err
		}
	} else if !slices.Contains(names, r.file) {
		return c, fmt.Errorf("%s: the repository has no file %s at revision %s%s", r.repo, r.file, r.rev, offer(r, names))
	}
	dir := path.Dir(c.weights)
	for _, name := range companions {
		if name = path.Join(dir, name); name != c.weights && slices.Contains(names, name) {
			c.beside = append(c.beside, name)
		}
	}
	return c, nil
}

// chooseWeights takes the first of the usual names, else the only file that may hold weights.
func chooseWeights(r reference, names []string) (name string, single bool, err error) {
	for _, name := range usual {
		if slices.Contains(names, name) {
			return name, false, nil
		}
	}
	for _, exts := range [][]string{{".gguf"}, {".safetensors", ".pth", ".pt", ".bin"}} {
		switch found := withExt(names, exts...); len(found) {
		case 0:
		case 1:
			return found[0], true, nil
		default:
			return "", false, fmt.Errorf("%s: several files may hold the weights%s", r.repo, offer(r, names))
		}
	}
	return "", false, fmt.Errorf("%s: the repository holds no weights at revision %s (want %s, or a .gguf, .safetensors, .pth or .pt file)",
		r.repo, r.rev, strings.Join(usual, ", "))
}

// withExt returns the names in the top folder that end in one of exts.
func withExt(names []string, exts ...string) []string {
	var found []string
	for _, name := range names {
		if slices.Contains(exts, path.Ext(name)) && !strings.Contains(name, "/") && localName(name) {
			found = append(found, name)
		}
	}
	slices.Sort(found)
	return found
}

// offer lists the files of which the user may name one.
func offer(r reference, names []string) string {
	const most = 40
	found := withExt(names, ".gguf", ".safetensors", ".pth", ".pt", ".bin")
	if len(found) == 0 {
		return ""
	}
	left := ""
	if n := len(found) - most; n > 0 {
		found, left = found[:most], fmt.Sprintf(" and %d more", n)
	}
	return fmt.Sprintf(": %s%s (%s%s/FILE picks one)", strings.Join(found, ", "), left, Prefix, r.repo)
}

// shards returns the files that an index on disk names, in the index's folder of the repository. An index is any file that
// ends in .index.json; other files have no shards.
func shards(weights, onDisk string) ([]string, error) {
	if !strings.HasSuffix(weights, ".index.json") {
		return nil, nil
	}
	f, err := os.Open(onDisk)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var index struct {
		Map map[string]string `json:"weight_map"`
	}
	data, err := io.ReadAll(io.LimitReader(f, maxIndex+1))
	if err == nil && len(data) > maxIndex {
		err = fmt.Errorf("more than %d bytes", maxIndex)
	}
	if err == nil {
		err = json.Unmarshal(data, &index)
	}
	if err == nil && len(index.Map) == 0 {
		err = fmt.Errorf("no weight_map")
	}
	if err != nil {
		return nil, fmt.Errorf("%s: not an index of shards: %w", onDisk, err)
	}
	seen := map[string]bool{}
	var names []string
	for _, name := range index.Map {
		if seen[name] {
			continue
		}
		if !localName(name) || strings.Contains(name, "/") {
			return nil, fmt.Errorf("%s: shard %q is not the name of a file in the same folder", onDisk, clip(name))
		}
		seen[name] = true
		if names = append(names, path.Join(path.Dir(weights), name)); len(names) > maxShards {
			return nil, fmt.Errorf("%s: more than %d shards", onDisk, maxShards)
		}
	}
	slices.Sort(names)
	return names, nil
}
