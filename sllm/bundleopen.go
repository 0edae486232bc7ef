package sllm

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"unsafe"

	"svae/checkpoints"
	"svae/kernels"
	"svae/kernels/op"
	"svae/vae"
)

// Bundle is an open runtime bundle.
type Bundle struct {
	Path        string
	DType       string    // one of BundleTypes
	Fingerprint string    // SHA-256 of bundle.json, and so of every byte of the bundle
	Shared      int64     // bytes that equal tensors do not take up twice
	Models      []*Folder // the model and, if the bundle holds one, its base, which share memory

	weights map[string]*checkpoints.Weights // open files, by folder
}

// OpenBundle opens all of a bundle: weights are where Store.Buf finds them, in the types that the bundle has, and
// Store.Head is set. Every byte is compared with the sums of bundle.json; the error names the file and the chunk that is
// not as it was written.
//
// Weights are mapped and hashed where they lie, by all threads: nearly all of the time is SHA-256's. Reading them into memory
// of our own takes half as long again, and nothing would be won: what a step reads whole, the maps and the int8 copy of the
// head, Store.Pack copies into large pages, in the backend's order, and of the tables a step reads some rows. So the file
// must not be overwritten in place while the bundle is open; svae export --force puts a new one there.
func OpenBundle(dir string, be kernels.Backend) (*Bundle, error) {
	dir, err := Resolve(dir)
	if err != nil {
		return nil, err
	}
	root, folder, ok := bundleAt(dir)
	if !ok || folder != "" {
		return nil, fmt.Errorf("%s: not a runtime bundle (svae export makes one)", dir)
	}
	return openBundle(root, be)
}

// openBundle opens some models of a bundle; without folders, all.
func openBundle(root string, be kernels.Backend, folders ...string) (*Bundle, error) {
	if err := littleEndian(); err != nil {
		return nil, err
	}
	m, sum, err := readBundle(root)
	if err != nil {
		return nil, err
	}
	if folders == nil {
		for _, e := range m.Models {
			folders = append(folders, e.Folder)
		}
	}
	b := &Bundle{Path: root, DType: m.DType, Fingerprint: sum, Shared: m.Shared, weights: map[string]*checkpoints.Weights{}}
	for _, folder := range folders {
		f, err := m.config(root, folder)
		if err == nil {
			err = b.load(f, m, folder, be)
		}
		if err != nil {
			b.Close()
			return nil, err
		}
		b.Models = append(b.Models, f)
	}
	return b, nil
}

// Close unmaps the weights. No model of the bundle may be used afterwards. Without it they stay mapped as long as the process
// lives.
func (b *Bundle) Close() error {
	var errs []error
	for _, w := range b.weights {
		errs = append(errs, w.Close())
	}
	return errors.Join(errs...)
}

// file opens the weights in a folder of the bundle, once. There may be none where all of a base's tensors are the model's.
func (b *Bundle) file(m *bundle, folder string) (*checkpoints.Weights, error) {
	if w, ok := b.weights[folder]; ok {
		return w, nil
	}
	e := m.file(path.Join(folder, bundleWeights))
	if e == nil {
		return nil, nil
	}
	at := filepath.Join(b.Path, filepath.FromSlash(e.Name))
	w, err := checkpoints.OpenChecked(at, e.sums())
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("%s: missing %s", at, damaged)
	case errors.Is(err, checkpoints.ErrFormat):
		return nil, fmt.Errorf("%w %s", err, damaged)
	case err != nil:
		return nil, err
	}
	b.weights[folder] = w
	return w, nil
}

// loader finds the tensors of one model.
type loader struct {
	b      *Bundle
	m      *bundle
	folder string
	same   map[string]string
	be     kernels.Backend
	used   map[string]bool // tensors and names of same, as inFolder has them
}

// load makes the store of a model.
func (b *Bundle) load(f *Folder, m *bundle, folder string, be kernels.Backend) error {
	i := slices.IndexFunc(m.Models, func(e bundledModel) bool { return e.Folder == folder })
	l := &loader{b: b, m: m, folder: folder, same: m.Models[i].Same, be: be, used: map[string]bool{}}
	head, bias := f.headNames()
	ws := f.Weights()
	bufs := make([]kernels.Buf, len(ws))
	var err error
	for i, w := range ws {
		if bufs[i], err = l.weight(w.Name, w.Shape, held(w, head, m.DType)); err != nil {
			return err
		}
	}
	if f.Store, err = vae.NewStoreOf(be, ws, bufs); err != nil {
		return fmt.Errorf("%s: %w", f.Path, err)
	}
	if err := l.head(f.Store, head, bias); err != nil {
		return err
	}
	return l.nothingElse()
}

// weight returns the memory of a weight.
func (l *loader) weight(name string, shape []int, dt kernels.DType) (kernels.Buf, error) {
	switch dt {
	case kernels.F32:
		v, err := l.f32(name, shape)
		if err != nil || l.be.DType() == kernels.F32 {
			return kernels.Of(v), err
		}
		b := l.be.Alloc(len(v))
		l.be.Upload(b, v)
		return b, nil
	case kernels.BF16:
		v, err := typed[uint16](l, name, shape, checkpoints.BF16)
		return kernels.BF16Of(v), err
	}
	q, err := typed[int8](l, name, shape, checkpoints.I8)
	if err != nil {
		return kernels.Buf{}, err
	}
	scales, err := l.f32(name+scalesOf, shape[:1])
	if err != nil {
		return kernels.Buf{}, err
	}
	return kernels.Int8Of(q, scales, shape[1]), nil
}

// head sets the head of a store, all of which is in the bundle.
func (l *loader) head(s *vae.Store, name, bias string) error {
	w := s.Buf(name)
	i := slices.IndexFunc(s.Weights(), func(w vae.Weight) bool { return w.Name == name })
	V, D := s.Weights()[i].Shape[0], s.Weights()[i].Shape[1]
	q, err := l.weight(name+headOf, []int{V, D}, kernels.I8)
	if err != nil {
		return err
	}
	bounds, err := l.f32(name+boundsOf, []int{2, V})
	if err != nil {
		return err
	}
	h := &op.Head{W: op.Mat{Buf: w, R: V, C: D}, Q: op.Mat{Buf: q, R: V, C: D}, Bounds: kernels.Of(bounds)}
	if bias != "" {
		h.B = op.Mat{Buf: s.Buf(bias), R: 1, C: V}
	}
	s.SetHead(name, h)
	return nil
}

func (l *loader) f32(name string, shape []int) ([]float32, error) {
	return typed[float32](l, name, shape, checkpoints.F32)
}

// typed returns the elements of a tensor where they lie.
func typed[T float32 | uint16 | int8](l *loader, name string, shape []int, dt checkpoints.DType) ([]T, error) {
	id := inFolder(l.folder, name)
	l.used[id] = true
	if to, ok := l.same[id]; ok {
		id = to
		l.used[id] = true
	}
	folder, stored := fromFolder(id)
	w, err := l.b.file(l.m, folder)
	if err != nil {
		return nil, err
	}
	at := filepath.Join(l.b.Path, filepath.FromSlash(folder), bundleWeights)
	var t *checkpoints.Tensor
	if w != nil {
		t, _ = w.Get(stored)
	}
	switch {
	case t == nil:
		return nil, fmt.Errorf("%s: no tensor %q (export the model again)", at, stored)
	case t.DType != dt || !slices.Equal(t.Shape, shape):
		return nil, fmt.Errorf("%s: tensor %q is %s %v, want %s %v (export the model again)", at, stored, t.TypeName, t.Shape, dt, shape)
	}
	raw, err := t.Raw()
	if err != nil {
		return nil, err
	}
	var z T
	p := unsafe.Pointer(unsafe.SliceData(raw))
	if uintptr(p)%unsafe.Alignof(z) != 0 {
		return nil, fmt.Errorf("%s: tensor %q is not aligned (export the model again)", at, stored)
	}
	return unsafe.Slice((*T)(p), len(raw)/int(unsafe.Sizeof(z))), nil
}

// nothingElse reports a tensor in the model's own file, or a name in its list of equal tensors, that the model does not use.
func (l *loader) nothingElse() error {
	for id := range l.same {
		if !l.used[id] {
			return fmt.Errorf("%s: %q is no weight of the model (export the model again)", filepath.Join(l.b.Path, BundleFile), id)
		}
	}
	w := l.b.weights[l.folder]
	if w == nil {
		return nil
	}
	for _, name := range w.Names() {
		if !l.used[inFolder(l.folder, name)] {
			return fmt.Errorf("%s: tensor %q is no weight of the model (export the model again)", w.Files()[0], name)
		}
	}
	return nil
}
