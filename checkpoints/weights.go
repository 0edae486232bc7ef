package checkpoints

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Weights is an open source of tensors: one file or many shards.
type Weights struct {
	format  string
	files   []string
	maps    []*mapping
	names   []string
	tensors map[string]*Tensor
	meta    map[string]string
	values  map[string]any
	tied    [][]string
	opaque  []string
}

// Names returns the names of all tensors, sorted.
func (w *Weights) Names() []string { return slices.Clone(w.names) }

// Get returns the tensor of that name.
func (w *Weights) Get(name string) (*Tensor, bool) {
	t, ok := w.tensors[name]
	return t, ok
}

// Format returns "safetensors", "pytorch", "pytorch-legacy", "gguf" or "llama2.c".
func (w *Weights) Format() string { return w.format }

// Files returns the files that hold the tensors, sorted.
func (w *Weights) Files() []string { return slices.Clone(w.files) }

// Metadata returns what the source says beside its tensors: the strings of a safetensors header or an index, and the
// numbers and strings of a PyTorch file under their dotted paths.
func (w *Weights) Metadata() map[string]string { return w.meta }

// Values returns the typed values of the header: of a GGUF file each value as bool, int64, uint64, float64 or string, and
// arrays as []bool, []int64, []uint64, []float64, []string, or []any of arrays; of a llama2.c file its seven numbers, dim,
// hidden_dim, n_layers, n_heads, n_kv_heads, vocab_size and seq_len, as int64. It is nil for the other formats.
func (w *Weights) Values() map[string]any { return w.values }

// Tied returns the groups of names that are the same elements of one storage, each group sorted. It is empty for
// safetensors, whose tensors never share bytes.
func (w *Weights) Tied() [][]string { return w.tied }

// Opaque returns the dotted paths of values of a PyTorch file that were skipped: objects such as argparse.Namespace, NumPy
// scalars, sets, bytes. Sorted.
func (w *Weights) Opaque() []string { return w.opaque }

// Close unmaps the files. Tensors cannot be read afterwards, and slices from [Tensor.Raw] must not be used.
func (w *Weights) Close() error {
	var errs []error
	for _, m := range w.maps {
		errs = append(errs, m.close())
	}
	return errors.Join(errs...)
}

// SourceDir returns the folder where config.json and the tokenizer files of a source lie: path itself when it is a folder,
// else the folder of the file.
func SourceDir(path string) string {
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		return path
	}
	return filepath.Dir(path)
}

// Open opens a file or a folder. Of a folder it takes the first of [WeightFiles], or else the only file that ends in
// .safetensors, .pt, .pth or .gguf. An index opens with all its shards, the first part of a split GGUF file with the others.
func Open(path string) (*Weights, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if info.IsDir() {
		if path, err = weightsIn(path); err != nil {
			return nil, err
		}
	}
	if strings.HasSuffix(path, ".json") {
		return openIndex(path)
	}
	return openFile(path)
}

// weightsIn picks the file of a folder that Open reads.
func weightsIn(dir string) (string, error) {
	for _, name := range WeightFiles {
		path := filepath.Join(dir, name)
		if _, err := os.Stat(path); err == nil {
			return path, nil
		}
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return "", err
	}
	var found []string
	for _, e := range entries {
		switch filepath.Ext(e.Name()) {
		case ".safetensors", ".pt", ".pth", ".gguf":
			if !e.IsDir() {
				found = append(found, e.Name())
			}
		}
	}
	switch len(found) {
	case 0:
		return "", fmt.Errorf("%s: %w", dir, formatf("no weights in this folder (want model.safetensors, pytorch_model.bin, or one .pt, .pth or .gguf file)"))
	case 1:
		return filepath.Join(dir, found[0]), nil
	}
	if first := found[0]; strings.HasSuffix(first, splitName("", 0, len(found))) {
		return filepath.Join(dir, first), nil // the parts of a split GGUF file
	}
	return "", fmt.Errorf("%s: %w", dir, formatf("several files may hold the weights (name one: %s)", strings.Join(found, ", ")))
}

// openFile opens one file by its content, and the other parts of a split GGUF file with it.
func openFile(path string) (*Weights, error) {
	w, err := openPart(path)
	if err != nil {
		return nil, err
	}
	if err := w.addSplits(path); err != nil {
		w.Close()
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return w, nil
}

// openPart opens one file by its content.
func openPart(path string) (*Weights, error) {
	m, err := openMapping(path)
	if err != nil {
		return nil, err
	}
	w, err := openMapped(m)
	if err != nil {
		m.close()
		return nil, err
	}
	return w, nil
}

// openMapped opens a file that is mapped. It does not close m after an error.
func openMapped(m *mapping) (*Weights, error) {
	w := &Weights{files: []string{m.path}, maps: []*mapping{m}, tensors: map[string]*Tensor{}, meta: map[string]string{}}
	err := m.use(func() error {
		read, err := sniff(m.data)
		if err != nil {
			return err
		}
		return read(w, m)
	})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", m.path, err)
	}
	w.index()
	return w, nil
}

// index sorts what the readers gathered.
func (w *Weights) index() {
	w.names = w.names[:0]
	for name := range w.tensors {
		w.names = append(w.names, name)
	}
	slices.Sort(w.names)
	slices.Sort(w.files)
	slices.Sort(w.opaque)
}

// sniff tells from its content how a file is read.
func sniff(b []byte) (func(*Weights, *mapping) error, error) {
	head := string(b[:min(len(b), 512)])
	has := func(prefix string) bool { return strings.HasPrefix(head, prefix) }
	switch {
	case has("PK\x03\x04"), has("PK\x05\x06"):
		return readTorch, nil
	case len(b) > 8 && b[8] == '{' && binary.LittleEndian.Uint64(b) <= maxHeader:
		return readSafetensors, nil
	case isLegacyTorch(head):
		return readLegacyTorch, nil
	case len(head) > 262 && head[257:262] == "ustar":
		return nil, formatf("a tar archive, such as PyTorch wrote before version 0.2 (re-save it with torch.save in a newer PyTorch)")
	case isLlama2C(b):
		return readLlama2C, nil
	case len(head) > 2 && head[0] == 0x80 && head[1] <= 5:
		return nil, formatf("a bare pickle, not a PyTorch zip file (re-save it with torch.save)")
	case has("GGUF"):
		return readGGUF, nil
	case has("ggml"), has("fmgg"), has("tjgg"), has("lmgg"):
		return nil, formatf("a GGML file from before GGUF (convert it to GGUF with an older llama.cpp)")
	case has("\x89HDF"):
		return nil, formatf("an HDF5 file, as TensorFlow writes (convert it to safetensors)")
	case has("\x93NUMPY"):
		return nil, formatf("a NumPy array (save it as safetensors)")
	case has("\x1f\x8b"):
		return nil, formatf("compressed with gzip (unpack it first)")
	case has("version https://git-lfs"):
		return nil, formatf("a git-lfs pointer, not the file itself (run git lfs pull)")
	case has("<!"), has("<html"), has("<HTML"):
		return nil, formatf("a web page, not the file itself (download it again)")
	}
	return readSafetensors, nil
}
