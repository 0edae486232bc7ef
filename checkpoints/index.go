package checkpoints

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// openIndex opens the shards that an index.json lists in its weight_map, tensor name to file name. A shard must lie in the
// folder of the index under a plain name, and hold every tensor that the index expects of it. Tensors that the index does
// not list are left out.
func openIndex(path string) (*Weights, error) {
	data, err := ReadSmall(path, maxIndex)
	if err != nil {
		return nil, err
	}
	w := &Weights{tensors: map[string]*Tensor{}, meta: map[string]string{}}
	shards, err := parseIndex(w, data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	files := make([]string, 0, len(shards))
	for file := range shards {
		files = append(files, file)
	}
	slices.Sort(files)
	for _, file := range files {
		if err := w.addShard(filepath.Join(filepath.Dir(path), file), shards[file]); err != nil {
			w.Close()
			return nil, fmt.Errorf("%s: %w", path, err)
		}
	}
	w.index()
	return w, nil
}

// parseIndex returns the tensors of each shard.
func parseIndex(w *Weights, data []byte) (map[string][]string, error) {
	s := &scanner{b: data}
	shards := map[string][]string{}
	tensors := 0
	s.object(func(key string) {
		switch key {
		case "metadata":
			s.object(func(k string) { w.meta[k] = s.text() })
		case "weight_map":
			s.object(func(name string) {
				at := s.i
				file := s.string()
				if s.err == nil && !plainName(file) {
					s.i = at
					s.fail("tensor %q: shard %q is not the name of a file in the same folder", clip(name), clip(file))
				}
				shards[file] = append(shards[file], name)
				tensors++
			})
		default:
			s.skip(0)
		}
	})
	s.end()
	if s.err == nil && tensors == 0 {
		return nil, formatf("the index has no weight_map (want the index.json of a sharded model)")
	}
	return shards, s.err
}

// plainName reports whether name is a file name without any path.
func plainName(name string) bool {
	return name != "" && name != "." && name != ".." && filepath.IsLocal(name) && !strings.ContainsAny(name, "/\\:\x00")
}

// addShard opens one shard and takes the tensors that the index expects of it.
func (w *Weights) addShard(path string, names []string) error {
	slices.Sort(names)
	info, err := os.Lstat(path)
	if errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("tensor %q and %d more: shard %s is missing (download it too): %w",
			clip(names[0]), len(names)-1, path, err)
	}
	if err != nil {
		return err
	}
	if info.Mode()&os.ModeSymlink != 0 {
		if err := insideFolder(path); err != nil {
			return err
		}
	}
	shard, err := openFile(path)
	if err != nil {
		return err
	}
	w.maps = append(w.maps, shard.maps...)
	w.files = append(w.files, path)
	if w.format == "" {
		w.format = shard.format
	}
	for _, name := range names {
		t, ok := shard.tensors[name]
		if !ok {
			return formatf("tensor %q is not in its shard %s", clip(name), path)
		}
		w.tensors[name] = t
	}
	for k, v := range shard.meta {
		if _, ok := w.meta[k]; !ok {
			w.meta[k] = v
		}
	}
	for _, group := range shard.tied {
		group = slices.DeleteFunc(slices.Clone(group), func(n string) bool { return w.tensors[n] == nil })
		if len(group) > 1 {
			w.tied = append(w.tied, group)
		}
	}
	w.opaque = append(w.opaque, shard.opaque...)
	return nil
}

// insideFolder checks that a symbolic link stays in its folder. Links of the Hugging Face cache, from snapshots/REVISION
// into blobs, are fine too.
func insideFolder(link string) error {
	target, err := filepath.EvalSymlinks(link)
	if err != nil {
		return err
	}
	dir, err := filepath.EvalSymlinks(filepath.Dir(link))
	if err != nil {
		return err
	}
	allowed := []string{dir}
	for d := dir; d != filepath.Dir(d); d = filepath.Dir(d) {
		if s := filepath.Dir(d); filepath.Base(s) == "snapshots" {
			allowed = append(allowed, filepath.Join(filepath.Dir(s), "blobs"))
			break
		}
	}
	for _, a := range allowed {
		if rel, err := filepath.Rel(a, target); err == nil && filepath.IsLocal(rel) {
			return nil
		}
	}
	return formatf("shard %s is a symbolic link out of its folder (copy the file there)", link)
}

// ReadSmall reads a whole regular file of at most limit bytes. Anything else under that name, such as a pipe, is an error at
// once.
func ReadSmall(path string, limit int) ([]byte, error) {
	info, err := os.Stat(path) // before Open, which waits on a pipe
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s: %w", path, formatf("not a regular file"))
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, int64(limit)+1))
	if err != nil {
		return nil, err
	}
	if len(data) > limit {
		return nil, fmt.Errorf("%s: %w", path, formatf("more than %d bytes", limit))
	}
	return data, nil
}
