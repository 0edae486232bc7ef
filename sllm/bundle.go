package sllm

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"svae/checkpoints"
	"svae/kernels"
	"svae/vae"
)

// A runtime bundle is a folder that a model runs from without a computation at the start:
//
//	config.json, tokenizer files, generation_config.json    as in the model folder
//	model.safetensors    the weights in one of BundleTypes, and of the vocabulary head an int8 copy (see below)
//	base/                with Export's Base: the same of the base, but for tensors that model.safetensors holds
//	bundle.json          type, sums of every file and of every chunk of the weights, which tensors stand for others
//	manifest.json        as in every folder that this program writes
//
// A matrix NAME in int8 has its scales, one a row, beside it as NAME.scales. A vocabulary head NAME has NAME.head and
// NAME.head.scales in int8 and NAME.head.bounds, the rows of kernels.HeadBounds. Equal tensors are stored once; Same of
// bundle.json names the one that stands for another.
//
// Each byte is covered: the files by bundle.json, that by manifest.json, and manifest.json by being what the others say.

// BundleFile is the name of the file that makes a folder a runtime bundle.
const BundleFile = "bundle.json"

// BaseFolder is the folder of the base inside a bundle that holds one. Load and ReadConfig take its path.
const BaseFolder = "base"

// BundleTypes are what the weights of a bundle are held in.
//
//	f32     everything in float32
//	bf16    maps and tables in bfloat16, vectors in float32
//	int8    maps in int8 with a scale a row, tables and the vocabulary head in bfloat16, vectors in float32
//
// Matrices of fewer than 16 rows, such as the stop head, stay in float32: they weigh nothing.
var BundleTypes = []string{"f32", "bf16", "int8"}

const (
	bundleFormat  = 1
	bundleWeights = "model.safetensors"
	bundleChunk   = 4 << 20 // bytes that share a sum
	bundleAlign   = 64      // bytes, to which weights lie aligned
	bundleMark    = "svae_bundle"
	smallMatrix   = 16 // rows

	maxBundle = 64 << 20 // bytes of a bundle.json: the sums of 4 TB
)

// bundle is the content of bundle.json.
type bundle struct {
	Format int            `json:"format"`
	DType  string         `json:"dtype"`
	Shared int64          `json:"shared_bytes"` // what equal tensors would take up if each were stored
	Models []bundledModel `json:"models"`       // the model, and the base
	Files  []bundledFile  `json:"files"`        // all but bundle.json and manifest.json, sorted by name
}

type bundledModel struct {
	Folder string `json:"folder"` // "" or BaseFolder
	Source string `json:"source"` // SHA-256 of the config.json and the weight files that it was made of
	// Same names the tensor that stands for another one, by the other's name. Names of the base's own file begin with
	// "base/" here.
	Same map[string]string `json:"same,omitempty"`
}

type bundledFile struct {
	Name   string   `json:"name"`
	Size   int64    `json:"size"`
	SHA256 string   `json:"sha256"`
	Chunk  int64    `json:"chunk_bytes,omitempty"`
	Chunks []string `json:"chunks,omitempty"` // of weights: the sum of each chunk
}

// encode returns the text of bundle.json, which is the same for the same content.
func (b *bundle) encode() ([]byte, error) {
	text, err := json.MarshalIndent(b, "", " ")
	return append(text, '\n'), err
}

// parseBundle reads and checks the text of bundle.json.
func parseBundle(text []byte) (*bundle, error) {
	var version struct {
		Format int `json:"format"`
	}
	if err := json.Unmarshal(text, &version); err != nil {
		return nil, fmt.Errorf("%w: %w", checkpoints.ErrFormat, err)
	}
	if version.Format > bundleFormat {
		return nil, fmt.Errorf("format %d is newer than this program's, %d (use a newer svae)", version.Format, bundleFormat)
	}
	b := new(bundle)
	if err := json.Unmarshal(text, b); err != nil {
		return nil, fmt.Errorf("%w: %w", checkpoints.ErrFormat, err)
	}
	if err := b.check(); err != nil {
		return nil, fmt.Errorf("%w: %w", checkpoints.ErrFormat, err)
	}
	if again, err := b.encode(); err != nil || !bytes.Equal(again, text) {
		return nil, fmt.Errorf("%w: not as svae export writes it", checkpoints.ErrFormat)
	}
	return b, nil
}

func (b *bundle) check() error {
	switch {
	case b.Format != bundleFormat:
		return fmt.Errorf("format %d is unknown", b.Format)
	case !slices.Contains(BundleTypes, b.DType):
		return fmt.Errorf("dtype %q is unknown", b.DType)
	case b.Shared < 0:
		return fmt.Errorf("shared_bytes %d", b.Shared)
	case len(b.Models) < 1 || len(b.Models) > 2:
		return fmt.Errorf("%d models", len(b.Models))
	}
	for i, m := range b.Models {
		if m.Folder != []string{"", BaseFolder}[i] {
			return fmt.Errorf("model %d in the folder %q", i, m.Folder)
		}
		if !checkpoints.IsSHA256(m.Source) {
			return fmt.Errorf("source of model %d is no SHA-256", i)
		}
		if b.file(path.Join(m.Folder, "config.json")) == nil {
			return fmt.Errorf("no config.json of model %d", i)
		}
	}
	if b.file(bundleWeights) == nil {
		return fmt.Errorf("no %s", bundleWeights)
	}
	return b.checkFiles()
}

func (b *bundle) checkFiles() error {
	before := ""
	for i := range b.Files {
		f := &b.Files[i]
		folder, name := path.Split(f.Name)
		weights := name == bundleWeights
		switch {
		case folder != "" && (folder != BaseFolder+"/" || len(b.Models) < 2),
			!weights && name != "config.json" && !slices.Contains(checkpoints.SideFiles, name):
			return fmt.Errorf("a file %q, which no bundle has", f.Name)
		case f.Name <= before:
			return fmt.Errorf("file %q is out of order", f.Name)
		case !checkpoints.IsSHA256(f.SHA256):
			return fmt.Errorf("file %q: no SHA-256", f.Name)
		case f.Size < 0 || !weights && f.Size > sideLimit(name):
			return fmt.Errorf("file %q of %d bytes", f.Name, f.Size)
		case !weights && (f.Chunk != 0 || f.Chunks != nil):
			return fmt.Errorf("file %q has chunks", f.Name)
		}
		if weights {
			sums := f.sums()
			if err := sums.Check(); err != nil {
				return fmt.Errorf("file %q: %w", f.Name, err)
			}
		}
		before = f.Name
	}
	return nil
}

// sideLimit is the most bytes that a small file may have.
func sideLimit(name string) int64 {
	if name == "config.json" || name == GenerationFile {
		return maxConfig
	}
	return maxSide
}

func (f *bundledFile) sums() checkpoints.Sums {
	return checkpoints.Sums{Size: f.Size, Chunk: f.Chunk, SHA: f.Chunks}
}

func (b *bundle) file(name string) *bundledFile {
	if i := slices.IndexFunc(b.Files, func(f bundledFile) bool { return f.Name == name }); i >= 0 {
		return &b.Files[i]
	}
	return nil
}

// damaged ends the line about a bundle that is not as it was written.
const damaged = "(the bundle is damaged: copy it again, or export the model again)"

// bundleAt returns the folder of the bundle that dir belongs to, and which of its models is meant; ok says whether it does.
func bundleAt(dir string) (root, folder string, ok bool) {
	if _, err := os.Lstat(filepath.Join(dir, BundleFile)); err == nil {
		return dir, "", true
	}
	whole, err := filepath.Abs(dir)
	if err != nil || filepath.Base(whole) != BaseFolder {
		return "", "", false
	}
	root = filepath.Dir(whole)
	if _, err := os.Lstat(filepath.Join(root, BundleFile)); err != nil {
		return "", "", false
	}
	return root, BaseFolder, true
}

// readBundle reads bundle.json and checks it and manifest.json against one another. It returns bundle.json's SHA-256.
func readBundle(root string) (*bundle, string, error) {
	name := filepath.Join(root, BundleFile)
	text, err := checkpoints.ReadSmall(name, maxBundle)
	if err != nil {
		return nil, "", err
	}
	b, err := parseBundle(text)
	if err != nil {
		return nil, "", fmt.Errorf("%s: %w", name, err)
	}
	sum := sha256.Sum256(text)
	m := checkpoints.Manifest{Format: 1, Files: []checkpoints.File{{Name: BundleFile, Size: int64(len(text)), SHA256: hex.EncodeToString(sum[:])}}}
	for _, f := range b.Files {
		m.Files = append(m.Files, checkpoints.File{Name: f.Name, Size: f.Size, SHA256: f.SHA256})
	}
	slices.SortFunc(m.Files, func(a, b checkpoints.File) int { return cmp.Compare(a.Name, b.Name) })
	want, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return nil, "", err
	}
	name = filepath.Join(root, checkpoints.ManifestName)
	got, err := checkpoints.ReadSmall(name, maxBundle)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, "", fmt.Errorf("%s: missing %s", name, damaged)
	}
	if err != nil {
		return nil, "", err
	}
	if want = append(want, '\n'); !bytes.Equal(got, want) {
		return nil, "", fmt.Errorf("%s: differs from what %s says at byte %d %s", name, BundleFile, common(got, want), damaged)
	}
	return b, hex.EncodeToString(sum[:]), nil
}

// common returns how many bytes at the front of a and b are the same.
func common(a, b []byte) int {
	n := min(len(a), len(b))
	for i := range n {
		if a[i] != b[i] {
			return i
		}
	}
	return n
}

// config reads the small files of a model of the bundle, every byte checked.
func (b *bundle) config(root, folder string) (*Folder, error) {
	if !slices.ContainsFunc(b.Models, func(m bundledModel) bool { return m.Folder == folder }) {
		return nil, fmt.Errorf("%s: the bundle holds no base (svae export --with-base adds it)", filepath.Join(root, folder))
	}
	f := &Folder{Path: filepath.Join(root, folder), Files: map[string][]byte{}, Bundle: b.DType}
	for _, name := range append([]string{"config.json"}, checkpoints.SideFiles...) {
		at := filepath.Join(f.Path, name)
		e := b.file(path.Join(folder, name))
		if e == nil {
			if _, err := os.Lstat(at); err == nil {
				return nil, fmt.Errorf("%s: not in %s %s", at, BundleFile, damaged)
			}
			continue
		}
		text, err := e.read(at)
		if err != nil {
			return nil, err
		}
		if name == "config.json" {
			f.Raw = text
		} else {
			f.Files[name] = text
		}
	}
	if err := f.parse(); err != nil {
		return nil, fmt.Errorf("%s: %w", f.Path, err)
	}
	return f, nil
}

// read reads a small file and compares it with its entry.
func (e *bundledFile) read(at string) ([]byte, error) {
	info, err := os.Stat(at) // before Open, which waits on a pipe
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("%s: missing %s", at, damaged)
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular() || info.Size() != e.Size:
		return nil, fmt.Errorf("%s: %d bytes, %s says %d %s", at, info.Size(), BundleFile, e.Size, damaged)
	}
	f, err := os.Open(at)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text := make([]byte, e.Size)
	if _, err := io.ReadFull(f, text); err != nil {
		return nil, fmt.Errorf("%s: %w", at, err)
	}
	if sum := sha256.Sum256(text); hex.EncodeToString(sum[:]) != e.SHA256 {
		return nil, fmt.Errorf("%s: chunk 0, bytes 0 to %d: its SHA-256 is not that of %s %s", at, len(text)-1, BundleFile, damaged)
	}
	return text, nil
}

// Wide returns an error if the folder is a bundle whose weights are narrower than float32: they only run.
func (f *Folder) Wide() error {
	if f.Bundle == "" || f.Bundle == "f32" {
		return nil
	}
	return fmt.Errorf("%s: a runtime bundle, whose weights in %s only run (give the model folder that it was exported from)", f.Path, f.Bundle)
}

// RefuseBundle returns an error if dir is a runtime bundle or the base of one.
func RefuseBundle(dir string) error {
	if _, _, ok := bundleAt(dir); ok {
		return fmt.Errorf("%s: a runtime bundle, which only runs (give the model folder that it was exported from)", dir)
	}
	return nil
}

// HeadName returns the name of the weight that is a token-level model's vocabulary projection.
func HeadName(a *vae.Arch) string {
	return NewLM(a, func(w vae.Weight) string { return w.Name }).head
}

// headNames returns the names of the weights that make up the vocabulary projection; bias is "" if it has none.
func (f *Folder) headNames() (weight, bias string) {
	switch f.Kind {
	case KindLM:
		return HeadName(&f.LM), ""
	case KindVAE:
		return vae.HeadNames(&f.SVAE)
	}
	return vae.HeadNames(&f.SLLM.VAE)
}

// held returns what a bundle of that type holds a weight in. head is the name of the vocabulary projection.
func held(w vae.Weight, head, dtype string) kernels.DType {
	is := w.Name == head
	switch {
	case dtype == "f32", len(w.Shape) != 2, w.Shape[0] < smallMatrix && !is:
		return kernels.F32
	case dtype == "int8" && !w.Table && !is:
		return kernels.I8
	}
	return kernels.BF16
}

// Suffixes of the names of what belongs to a weight.
const (
	scalesOf = ".scales"
	headOf   = ".head"
	boundsOf = ".head.bounds"
)

// inFolder returns the name of a tensor as Same has it.
func inFolder(folder, name string) string {
	if folder == "" {
		return name
	}
	return folder + "/" + name
}

// fromFolder is inFolder undone: whose file holds the tensor, and its name there.
func fromFolder(id string) (folder, name string) {
	if name, ok := strings.CutPrefix(id, BaseFolder+"/"); ok {
		return BaseFolder, name
	}
	return "", id
}
