package checkpoints

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// A model split into several GGUF files: NAME-00001-of-00003.gguf and so on, as llama.cpp's gguf-split writes them. Each says
// its number and how many there are; the first holds the values of the header.

// splitName returns the name of part number i, counted from 0, of a model.
func splitName(prefix string, i, count int) string {
	return fmt.Sprintf("%s-%05d-of-%05d.gguf", prefix, i+1, count)
}

// splitOf returns the number of a part and how many there are, 0 and 1 for a file that is not split.
func (w *Weights) splitOf() (no, count int64) {
	count, ok := w.values["split.count"].(int64)
	if !ok {
		return 0, 1
	}
	no, _ = w.values["split.no"].(int64)
	return no, count
}

// addSplits opens the other parts of a model whose first part w is, and takes their tensors.
func (w *Weights) addSplits(path string) error {
	no, count := w.splitOf()
	if count <= 1 {
		return nil
	}
	if count > maxSplits {
		return formatf("split.count of %d exceeds the limit of %d", count, maxSplits)
	}
	prefix := strings.TrimSuffix(filepath.Base(path), splitName("", int(no), int(count)))
	if no != 0 {
		return formatf("part %d of %d of a model (name the first, %s)", no+1, count, splitName(prefix, 0, int(count)))
	}
	if splitName(prefix, 0, int(count)) != filepath.Base(path) {
		return formatf("part 1 of %d of a model whose name does not say so (rename it to NAME-00001-of-%05d.gguf)", count, count)
	}
	for i := 1; i < int(count); i++ {
		part := filepath.Join(filepath.Dir(path), splitName(prefix, i, int(count)))
		if err := w.addSplit(part, int64(i), count); err != nil {
			return err
		}
	}
	if n, ok := w.values["split.tensors.count"].(int64); ok && n != int64(len(w.tensors)) {
		return formatf("the parts hold %d tensors, split.tensors.count is %d", len(w.tensors), n)
	}
	w.index()
	return nil
}

// addSplit opens one part.
func (w *Weights) addSplit(path string, i, count int64) error {
	info, err := os.Lstat(path)
	if errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("part %d of %d, %s, is missing (download it too): %w", i+1, count, path, err)
	}
	if err != nil {
		return err
	}
	if info.Mode()&os.ModeSymlink != 0 {
		if err := insideFolder(path); err != nil {
			return err
		}
	}
	part, err := openPart(path)
	if err != nil {
		return err
	}
	w.maps = append(w.maps, part.maps...)
	w.files = append(w.files, path)
	if no, n := part.splitOf(); part.format != "gguf" || no != i || n != count {
		return formatf("%s is not part %d of %d of this model", path, i+1, count)
	}
	for name, t := range part.tensors {
		if w.tensors[name] != nil {
			return formatf("tensor %q is in two parts", clip(name))
		}
		w.tensors[name] = t
	}
	return nil
}
