package sllm

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"svae/checkpoints"
	"svae/vae"
)

// ExportOptions say what Export puts into a bundle.
type ExportOptions struct {
	Model string // the model folder, or a training run: its newest checkpoint
	Base  string // of a sentence-level model or autoencoder: the model folder of its base; "" for none
	DType string // one of BundleTypes
	Force bool   // replace what is there
	// Progress, unless nil, is told how many bytes of weights were written, of how many.
	Progress func(done, total int64)
}

// Exported says what Export wrote.
type Exported struct {
	Models  []*Folder // without weights
	Tensors int       // stored
	Bytes   int64     // of the files of weights
	Shared  int64     // bytes that equal tensors do not take up twice
}

// Export writes a runtime bundle: whole, or nothing. Weights are read from their files as they are written, some rows at
// a time. It returns an error that names the tensor if int8 weights, or those of a vocabulary head, are not all finite.
func Export(ctx context.Context, out string, o ExportOptions) (*Exported, error) {
	if err := CheckBundleType(o.DType); err != nil {
		return nil, fmt.Errorf("dtype %w", err)
	}
	if err := littleEndian(); err != nil {
		return nil, err
	}
	d, err := checkpoints.CreateDir(out, o.Force) // first: it may refuse
	if err != nil {
		return nil, err
	}
	defer d.Abort()
	x := &exporter{ctx: ctx, o: &o, dir: d, stored: map[content]string{}, manifest: bundle{Format: bundleFormat, DType: o.DType}}
	defer x.close()
	if err := x.open(o.Model, ""); err != nil {
		return nil, err
	}
	if o.Base != "" {
		if err := x.open(o.Base, BaseFolder); err != nil {
			return nil, err
		}
	}
	for _, s := range x.sources {
		if err := s.pack(x); err != nil {
			return nil, fmt.Errorf("%s: %w", s.Path, err)
		}
	}
	r := &Exported{Shared: x.manifest.Shared}
	for _, s := range x.sources {
		if err := s.write(x); err != nil {
			return nil, err
		}
		r.Models, r.Tensors = append(r.Models, s.Folder), r.Tensors+len(s.tensors)
	}
	slices.SortFunc(x.manifest.Files, func(a, b bundledFile) int { return strings.Compare(a.Name, b.Name) })
	for _, f := range x.manifest.Files {
		if f.Chunk > 0 {
			r.Bytes += f.Size
		}
	}
	text, err := x.manifest.encode()
	if err != nil {
		return nil, err
	}
	if err := d.WriteFile(BundleFile, text); err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return r, d.Commit()
}

// CheckBundleType returns an error unless dtype is one of BundleTypes.
func CheckBundleType(dtype string) error {
	if slices.Contains(BundleTypes, dtype) {
		return nil
	}
	return fmt.Errorf("%q is not known (known: %s)", dtype, strings.Join(BundleTypes, ", "))
}

// exporter is a bundle being written.
type exporter struct {
	ctx         context.Context
	o           *ExportOptions
	dir         *checkpoints.Dir
	sources     []*source
	stored      map[content]string // tensors by what they hold, as inFolder names them
	manifest    bundle
	done, total int64
}

// content is what makes two tensors equal.
type content struct {
	dtype checkpoints.DType
	shape string
	sum   [sha256.Size]byte
}

// source is a model that goes into a bundle.
type source struct {
	*Folder
	folder  string
	weights *checkpoints.Weights
	found   map[string]*checkpoints.Tensor
	tensors []checkpoints.Named // to be stored
	same    map[string]string
}

func (x *exporter) close() {
	for _, s := range x.sources {
		s.weights.Close()
	}
}

// open finds the weights of a model.
func (x *exporter) open(from, folder string) error {
	dir, err := Resolve(from)
	if err != nil {
		return err
	}
	if err := RefuseBundle(dir); err != nil {
		return err
	}
	f, err := ReadConfig(dir)
	if err != nil {
		return err
	}
	switch {
	case folder == "" && x.o.Base != "" && f.Kind == KindLM:
		return fmt.Errorf("%s: is %s: only a sentence model has a base beside it (leave out --with-base)", from, f.Kind.what())
	case folder != "" && f.Kind != KindLM:
		return fmt.Errorf("%s: is %s, want a token-level one as the base", from, f.Kind.what())
	case !f.HasTokenizer():
		return fmt.Errorf("%s: holds no tokenizer, without which a bundle cannot run (copy its files there)", f.Path)
	}
	w, err := checkpoints.Open(f.Path)
	if err != nil {
		return err
	}
	s := &source{Folder: f, folder: folder, weights: w, same: map[string]string{}}
	x.sources = append(x.sources, s)
	if s.found, err = Find(f.Weights(), f.Layout(), w); err != nil {
		return fmt.Errorf("%s: %w", f.Path, err)
	}
	return nil
}

// pack decides what is stored of a model, and in which form, and finds out which tensors are equal: it encodes each once.
func (s *source) pack(x *exporter) error {
	head, _ := s.headNames()
	for _, w := range s.Weights() {
		ts := encodeWeight(w, s.found[w.Name], held(w, head, x.o.DType))
		if w.Name == head {
			ts = append(ts, encodeHead(w, s.found[w.Name], held(w, head, x.o.DType))...)
		}
		for _, t := range ts {
			if err := s.add(x, t); err != nil {
				return err
			}
		}
	}
	sum, err := s.fingerprint()
	if err != nil {
		return err
	}
	m := bundledModel{Folder: s.folder, Source: sum}
	if len(s.same) > 0 {
		m.Same = s.same
	}
	x.manifest.Models = append(x.manifest.Models, m)
	return nil
}

// add stores a tensor, unless one that is equal is stored already.
func (s *source) add(x *exporter, t checkpoints.Named) error {
	if err := x.ctx.Err(); err != nil {
		return err
	}
	h := sha256.New()
	n := &counted{w: h}
	if err := t.Write(n); err != nil {
		return err
	}
	c := content{dtype: t.DType, shape: fmt.Sprint(t.Shape)}
	h.Sum(c.sum[:0])
	id := inFolder(s.folder, t.Name)
	if other, ok := x.stored[c]; ok {
		s.same[id] = other
		x.manifest.Shared += n.n
		return nil
	}
	x.stored[c] = id
	x.total += n.n
	s.tensors = append(s.tensors, t)
	return nil
}

type counted struct {
	w io.Writer
	n int64
}

func (c *counted) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}

// fingerprint returns the SHA-256 of the config and of the files of weights.
func (s *source) fingerprint() (string, error) {
	h := sha256.New()
	fmt.Fprintf(h, "config.json %d\n%s", len(s.Raw), s.Raw)
	for _, name := range s.weights.Files() {
		f, err := os.Open(name)
		if err != nil {
			return "", err
		}
		st, err := f.Stat()
		if err == nil {
			fmt.Fprintf(h, "%s %d\n", filepath.Base(name), st.Size())
			_, err = io.Copy(h, f)
		}
		f.Close()
		if err != nil {
			return "", err
		}
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// write writes the files of a model.
func (s *source) write(x *exporter) error {
	files := map[string][]byte{"config.json": s.Raw}
	for name, text := range s.Files {
		files[name] = text
	}
	for name, text := range files {
		name = path.Join(s.folder, name)
		if err := x.dir.WriteFile(name, text); err != nil {
			return err
		}
		if err := x.list(name, checkpoints.Sums{}); err != nil {
			return err
		}
	}
	if len(s.tensors) == 0 { // all are those of the other model
		return nil
	}
	name := path.Join(s.folder, bundleWeights)
	f, err := x.dir.Create(name)
	if err != nil {
		return err
	}
	sums := checkpoints.NewSummer(bundleChunk)
	to := &reporter{w: io.MultiWriter(f, sums), x: x}
	meta := map[string]string{"format": "pt", bundleMark: x.o.DType}
	if err := errors.Join(checkpoints.WriteAligned(to, s.tensors, meta, bundleAlign), f.Close()); err != nil {
		return err
	}
	return x.list(name, sums.Sums())
}

// list enters a file that was written.
func (x *exporter) list(name string, sums checkpoints.Sums) error {
	f, err := x.dir.Sum(name)
	if err != nil {
		return err
	}
	x.manifest.Files = append(x.manifest.Files, bundledFile{Name: name, Size: f.Size, SHA256: f.SHA256, Chunk: sums.Chunk, Chunks: sums.SHA})
	return nil
}

// reporter passes on what is written until the context ends.
type reporter struct {
	w io.Writer
	x *exporter
}

func (r *reporter) Write(p []byte) (int, error) {
	if err := r.x.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := r.w.Write(p)
	if r.x.done += int64(n); r.x.o.Progress != nil {
		r.x.o.Progress(min(r.x.done, r.x.total), r.x.total)
	}
	return n, err
}

// weightOf describes a weight that is being encoded.
type weightOf struct {
	vae.Weight
	from *checkpoints.Tensor
}

// eachRows hands out some rows of a matrix at a time, or all of a vector, in float32. They are valid until f returns.
func (w weightOf) eachRows(f func(lo int, v []float32) error) error {
	rows, width := 1, w.Shape[0]
	t := w.from
	if len(w.Shape) == 2 {
		rows, width = w.Shape[0], w.Shape[1]
	}
	step := max(1, min(rows, 1<<16/max(width, 1)))
	buf := make([]float32, step*width)
	for lo := 0; lo < rows; lo += step {
		hi := min(lo+step, rows)
		v := buf[:(hi-lo)*width]
		if len(w.Shape) == 2 {
			t = w.from.Rows(lo, hi)
		}
		if err := t.Float32(v); err != nil {
			return err
		}
		if err := f(lo, v); err != nil {
			return err
		}
	}
	return nil
}
