package sllm

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"strings"

	"svae/checkpoints"
	"svae/kernels"
	"svae/kernels/op"
	"svae/vae"
)

// Kind is what a model folder holds.
type Kind string

// The kinds.
const (
	KindLM   Kind = "lm"   // a token-level model of a Hugging Face family
	KindVAE  Kind = "svae" // a sentence autoencoder
	KindSLLM Kind = "sllm" // a sentence-level model
)

// what says it in words.
func (k Kind) what() string {
	switch k {
	case KindVAE:
		return "a sentence autoencoder"
	case KindSLLM:
		return "a sentence-level model"
	}
	return "a token-level model"
}

// Folder is a model in memory with what else its folder holds. A model folder is a Hugging Face folder: config.json,
// model.safetensors and tokenizer files.
type Folder struct {
	Kind  Kind
	Path  string          // where it was read from
	LM    vae.Arch        // of a KindLM
	SVAE  vae.Config      // of a KindVAE
	SLLM  Config          // of a KindSLLM
	Store *vae.Store      // nil until loaded
	Raw   json.RawMessage // config.json as read
	// Segmenter is the segmenter's configuration, as package data wrote it; absent for a KindLM.
	Segmenter json.RawMessage
	// Files are the tokenizer files, by name, and generation_config.json.
	Files map[string][]byte
	// Bundle is the type of the weights, one of BundleTypes, of a runtime bundle; "" of a model folder.
	Bundle string
}

type configFile struct {
	ModelType     string          `json:"model_type"`
	Architectures []string        `json:"architectures,omitempty"`
	Base          *vae.Arch       `json:"base,omitempty"`
	SVAE          *vae.Config     `json:"svae,omitempty"`
	Scale         float64         `json:"latent_scale,omitempty"`
	AELoss        float64         `json:"autoencoding_loss,omitempty"`
	Null          bool            `json:"null_latents,omitempty"`
	Direct        bool            `json:"direct_latents,omitempty"`
	Attention     string          `json:"attention,omitempty"`
	Segmenter     json.RawMessage `json:"segmenter,omitempty"`
	DType         string          `json:"torch_dtype,omitempty"`
}

// GenerationFile is where Hugging Face folders keep the settings for generation.
const GenerationFile = "generation_config.json"

// HasTokenizer says that the folder holds a tokenizer.
func (f *Folder) HasTokenizer() bool {
	return f.Files["tokenizer.json"] != nil || f.Files["tokenizer.model"] != nil || f.Files["vocab.json"] != nil && f.Files["merges.txt"] != nil
}

// Weights lists the model's weights, in order.
func (f *Folder) Weights() []vae.Weight {
	return vae.List(func(get vae.Build[op.Mat]) {
		switch f.Kind {
		case KindLM:
			NewLM(&f.LM, get)
		case KindVAE:
			vae.New(&f.SVAE, get)
		default:
			New(&f.SLLM, get)
		}
	})
}

// Arch returns the architecture that holds the vocabulary and its marks.
func (f *Folder) Arch() *vae.Arch {
	switch f.Kind {
	case KindLM:
		return &f.LM
	case KindVAE:
		return &f.SVAE.Arch
	}
	return &f.SLLM.Base
}

// Resolve returns the model folder that path stands for: itself, or the newest checkpoint of a training run.
func Resolve(path string) (string, error) {
	st, err := os.Stat(path)
	if strings.HasPrefix(path, "hf:") {
		return "", fmt.Errorf("%s: is not on this machine (download and convert it: svae convert %s DIR)", path, path)
	}
	if errors.Is(err, os.ErrNotExist) {
		return "", fmt.Errorf("%s: no such model folder", path)
	}
	if err != nil {
		return "", err
	}
	if !st.IsDir() {
		return "", fmt.Errorf("%s: is a file, not a model folder (convert it first: svae convert %s DIR)", path, path)
	}
	if _, err := os.Stat(filepath.Join(path, "config.json")); err == nil {
		return path, nil
	}
	if _, _, ok := bundleAt(path); ok {
		return path, nil
	}
	steps, err := Checkpoints(path)
	if err != nil || len(steps) == 0 {
		return "", fmt.Errorf("%s: holds neither config.json nor checkpoints", path)
	}
	return StepDir(path, steps[len(steps)-1]), nil
}

// StepDir is the folder of the checkpoint that a run wrote after a step.
func StepDir(run string, step int) string {
	return filepath.Join(run, "checkpoints", fmt.Sprintf("step-%d", step))
}

// Checkpoints returns the steps of a run's checkpoints, ascending.
func Checkpoints(run string) ([]int, error) {
	es, err := os.ReadDir(filepath.Join(run, "checkpoints"))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	var steps []int
	for _, e := range es {
		if n, err := strconv.Atoi(strings.TrimPrefix(e.Name(), "step-")); err == nil && e.IsDir() && strings.HasPrefix(e.Name(), "step-") {
			steps = append(steps, n)
		}
	}
	sort.Ints(steps)
	return steps, err
}

// ReadConfig reads a model folder, or a model of a runtime bundle, without its weights.
func ReadConfig(path string) (*Folder, error) {
	dir, err := Resolve(path)
	if err != nil {
		return nil, err
	}
	if root, folder, ok := bundleAt(dir); ok {
		b, _, err := readBundle(root)
		if err != nil {
			return nil, err
		}
		return b.config(root, folder)
	}
	f := &Folder{Path: dir}
	if f.Files, err = readSide(dir); err != nil {
		return nil, err
	}
	if f.Raw, err = checkpoints.ReadSmall(filepath.Join(dir, "config.json"), maxConfig); err != nil {
		return nil, err
	}
	f.Raw = bytes.TrimPrefix(f.Raw, []byte("\ufeff"))
	if err := f.parse(); err != nil {
		return nil, fmt.Errorf("%s: %w", dir, err)
	}
	return f, nil
}

// Limits on the small files of a model folder, in bytes.
const (
	maxConfig = 16 << 20
	maxSide   = 512 << 20 // as package tokenizer's
)

// readSide reads the checkpoints.SideFiles that a folder holds.
func readSide(dir string) (map[string][]byte, error) {
	files := map[string][]byte{}
	for _, name := range checkpoints.SideFiles {
		limit := maxSide
		if name == GenerationFile {
			limit = maxConfig
		}
		b, err := checkpoints.ReadSmall(filepath.Join(dir, name), limit)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		files[name] = b
	}
	return files, nil
}

func (f *Folder) parse() (err error) {
	if err := vae.CheckJSON(f.Raw); err != nil {
		return fmt.Errorf("config.json: %w", err)
	}
	var kind struct {
		ModelType any `json:"model_type"`
	}
	if json.Unmarshal(f.Raw, &kind) != nil || kind.ModelType != "svae" && kind.ModelType != "sllm" {
		f.Kind = KindLM
		f.LM, err = vae.ParseArch(f.Raw)
		return err
	}
	var c configFile
	if err := json.Unmarshal(f.Raw, &c); err != nil {
		return fmt.Errorf("config.json: %w", err)
	}
	f.Segmenter = c.Segmenter
	switch {
	case c.ModelType == "svae" && c.SVAE != nil:
		f.Kind, f.SVAE = KindVAE, *c.SVAE
		return f.SVAE.Validate()
	case c.ModelType == "sllm" && c.SVAE != nil && c.Base != nil:
		f.Kind, f.SLLM = KindSLLM, Config{Base: *c.Base, VAE: *c.SVAE, LatentScale: c.Scale, AELoss: c.AELoss, Null: c.Null,
			Direct: c.Direct, Attention: c.Attention}
		return f.SLLM.Validate()
	}
	return fmt.Errorf("config.json: model_type %q without its parts", c.ModelType)
}

// Load reads a model folder with its weights. Of a runtime bundle it reads the model, or the base if path is the bundle's
// BaseFolder; to have both share their memory, see OpenBundle.
func Load(path string, be kernels.Backend) (*Folder, error) {
	dir, err := Resolve(path)
	if err != nil {
		return nil, err
	}
	if root, folder, ok := bundleAt(dir); ok {
		b, err := openBundle(root, be, folder)
		if err != nil {
			return nil, err
		}
		return b.Models[0], nil
	}
	f, err := ReadConfig(dir)
	if err != nil {
		return nil, err
	}
	src, err := checkpoints.Open(f.Path)
	if err != nil {
		return nil, err
	}
	defer src.Close()
	if src.Metadata()[bundleMark] != "" {
		return nil, fmt.Errorf("%s: the weights of a runtime bundle without its %s %s", f.Path, BundleFile, damaged)
	}
	tensors, err := Find(f.Weights(), f.Layout(), src) // before memory is asked for, as much as config.json wants
	if err != nil {
		return nil, fmt.Errorf("%s: %w", f.Path, err)
	}
	if f.Store, err = vae.NewStore(be, f.Weights()); err != nil {
		return nil, err
	}
	for _, w := range f.Store.Weights() {
		v := make([]float32, w.Elements())
		if err := tensors[w.Name].Float32(v); err != nil {
			return nil, err
		}
		be.Upload(f.Store.Buf(w.Name), v)
	}
	return f, nil
}

// Config returns the text of config.json.
func (f *Folder) Config() ([]byte, error) {
	c := configFile{ModelType: string(f.Kind), DType: "float32", Segmenter: f.Segmenter}
	switch f.Kind {
	case KindLM:
		return f.lmConfig()
	case KindVAE:
		c.SVAE = &f.SVAE
	default:
		c.Base, c.SVAE, c.Scale, c.AELoss, c.Null = &f.SLLM.Base, &f.SLLM.VAE, f.SLLM.LatentScale, f.SLLM.AELoss, f.SLLM.Null
		c.Direct, c.Attention = f.SLLM.Direct, f.SLLM.Attention
	}
	b, err := json.MarshalIndent(c, "", "  ")
	return append(b, '\n'), err
}

// lmConfig keeps every key that the config.json was read with, so that other programs still find theirs; only the
// element type is that of the weights as written.
func (f *Folder) lmConfig() ([]byte, error) {
	m := map[string]any{}
	raw := f.Raw
	if raw == nil {
		var err error
		if raw, err = json.Marshal(f.LM); err != nil {
			return nil, err
		}
		m["architectures"] = []string{f.LM.Class()}
	}
	if err := json.Unmarshal(raw, &m); err != nil {
		return nil, err
	}
	delete(m, "dtype")
	m["torch_dtype"] = "float32"
	for _, key := range []string{"bos_token_id", "eos_token_id", "pad_token_id"} {
		if m[key] == -1.0 {
			m[key] = nil
		}
	}
	b, err := json.MarshalIndent(m, "", "  ")
	return append(b, '\n'), err
}

// Write adds the model to a folder that is being written: config.json, model.safetensors and the tokenizer files.
func (f *Folder) Write(d *checkpoints.Dir) error {
	c, err := f.Config()
	if err != nil {
		return err
	}
	if err := d.WriteFile("config.json", c); err != nil {
		return err
	}
	for name, b := range f.Files {
		if err := d.WriteFile(name, b); err != nil {
			return err
		}
	}
	tensors := map[string]*checkpoints.Tensor{}
	for _, w := range f.Store.Weights() {
		v, err := f.Read(w.Name)
		if err != nil {
			return err
		}
		tensors[w.Name] = checkpoints.MemTensor(w.Name, w.Shape, v)
	}
	return WriteTensors(d, "model.safetensors", Arrange(f.Layout(), tensors))
}

// NamedBuf is a tensor to be written from a backend's memory.
func NamedBuf(be kernels.Backend, name string, shape []int, b kernels.Buf) checkpoints.Named {
	v := make([]float32, b.Len())
	be.Download(v, b)
	return checkpoints.FromFloat32(name, shape, v)
}

// WriteTensors writes a safetensors file into a folder that is being written.
func WriteTensors(d *checkpoints.Dir, name string, ts []checkpoints.Named) error {
	w, err := d.Create(name)
	if err != nil {
		return err
	}
	return errors.Join(checkpoints.WriteSafetensors(w, ts, map[string]string{"format": "pt"}), w.Close())
}

// Read returns a copy of a weight; nil if the model has none of that name. It returns an error if the weight is held in less
// than float32.
func (f *Folder) Read(name string) ([]float32, error) {
	b := f.Store.Buf(name)
	if b.Absent() {
		return nil, nil
	}
	if b.DType().Narrow() {
		if err := f.Wide(); err != nil {
			return nil, fmt.Errorf("weight %q: %w", name, err)
		}
		return nil, fmt.Errorf("weight %q is held in less than float32", name)
	}
	v := make([]float32, b.Len())
	f.Store.Backend().Download(v, b)
	return v, nil
}
