package hub

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"svae/checkpoints"
)

// configFile holds what a model is.
const configFile = "config.json"

// A choice is what is wanted of a repository.
type choice struct {
	weights string   // the file of the weights, their index, or the first of their parts
	parts   []string // of a split GGUF model, the first among them
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
	parts, no := checkpoints.SplitParts(c.weights)
	if no != 0 {
		first := reference{repo: r.repo, file: parts[0], rev: r.rev}
		return c, fmt.Errorf("%s: part %d of %d of a model (name the first, %s)", r, no+1, len(parts), first)
	}
	for _, name := range parts {
		if !slices.Contains(names, name) {
			return c, fmt.Errorf("%s: a model in %d parts, and the repository has no %s at revision %s", r.repo, len(parts), name, r.rev)
		}
	}
	c.parts = parts
	dir := path.Dir(c.weights)
	for _, name := range append([]string{configFile}, checkpoints.SideFiles...) {
		if name = path.Join(dir, name); name != c.weights && slices.Contains(names, name) {
			c.beside = append(c.beside, name)
		}
	}
	return c, nil
}

// chooseWeights takes the first of the usual names, else the only file, or the only split GGUF model, that may hold weights.
func chooseWeights(r reference, names []string) (name string, single bool, err error) {
	for _, name := range checkpoints.WeightFiles {
		if slices.Contains(names, name) {
			return name, false, nil
		}
	}
	for _, exts := range [][]string{{".gguf"}, {".safetensors", ".pth", ".pt", ".bin"}} {
		found := withExt(names, exts...)
		if len(found) == 0 {
			continue
		}
		parts, _ := checkpoints.SplitParts(found[0])
		other := slices.ContainsFunc(found, func(name string) bool { return !slices.Contains(parts, name) })
		switch {
		case len(parts) > 1 && !other:
			return parts[0], false, nil
		case len(found) > 1:
			return "", false, fmt.Errorf("%s: several files may hold the weights%s", r.repo, offer(r, names))
		}
		return found[0], true, nil
	}
	return "", false, fmt.Errorf("%s: the repository holds no weights at revision %s (want %s, or a .gguf, .safetensors, .pth or .pt file)",
		r.repo, r.rev, strings.Join(checkpoints.WeightFiles, ", "))
}

// result returns what the caller opens.
func (c choice) result(dir string) string {
	if c.single {
		return filepath.Join(dir, filepath.FromSlash(c.weights))
	}
	return dir
}

// indexed says that the weights are shards which an index names. An index is any file that ends in .index.json.
func (c choice) indexed() bool { return strings.HasSuffix(c.weights, ".index.json") }

// all returns all files of the weights. index is where their index lies, if they have one.
func (c choice) all(index string) ([]string, error) {
	switch {
	case c.parts != nil:
		return c.parts, nil
	case c.indexed():
		names, err := shards(c.weights, index)
		return append([]string{c.weights}, names...), err
	}
	return []string{c.weights}, nil
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
	found := slices.DeleteFunc(withExt(names, ".gguf", ".safetensors", ".pth", ".pt", ".bin"), func(name string) bool {
		_, no := checkpoints.SplitParts(name)
		return no > 0
	})
	if len(found) == 0 {
		return ""
	}
	left := ""
	if n := len(found) - most; n > 0 {
		found, left = found[:most], fmt.Sprintf(" and %d more", n)
	}
	return fmt.Sprintf(": %s%s (%s%s/FILE picks one)", strings.Join(found, ", "), left, Prefix, r.repo)
}

// shards returns the files that an index on disk names, in the index's folder of the repository.
func shards(weights, onDisk string) ([]string, error) {
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
		return nil, fmt.Errorf("%s: not an index of shards: %w", onDisk, plain{err})
	}
	seen := map[string]bool{}
	var names []string
	for _, name := range index.Map {
		if seen[name] {
			continue
		}
		if !localName(name) || strings.Contains(name, "/") {
			return nil, fmt.Errorf("%s: shard %s is not the name of a file in the same folder", onDisk, quote(name))
		}
		seen[name] = true
		if names = append(names, path.Join(path.Dir(weights), name)); len(names) > maxShards {
			return nil, fmt.Errorf("%s: more than %d shards", onDisk, maxShards)
		}
	}
	slices.Sort(names)
	return names, nil
}
