package main

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"svae/checkpoints"
	"svae/data/tokenizer"
	"svae/sllm"
)

func convertCommand() *cli.Command {
	return &cli.Command{
		Name:      "convert",
		Usage:     "read PyTorch or safetensors weights and write a model folder",
		ArgsUsage: "SRC DST",
		Description: `SRC is a Hugging Face folder, a training run (of which the newest checkpoint is taken) or one weight file (.bin, .pt, .pth, .safetensors; its config.json and tokenizer then come from
its folder). Weights are checked against config.json before anything is written, and stay in their own type. Example:

   svae convert opt-125m base
   svae convert opt-125m/pytorch_model.bin base`,
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "tokenizer", Usage: "`FOLDER` of the tokenizer, if not that of SRC"},
			&cli.BoolFlag{Name: "force", Usage: "replace DST"},
			&cli.BoolFlag{Name: "allow-nonfinite", Usage: "accept weights that are NaN or infinite"},
		},
		Action: convert,
	}
}

func convert(c *cli.Context) error {
	if c.NArg() != 2 {
		return usagef("want SRC and DST (svae convert SRC DST)")
	}
	r, err := convertFolder(c.Args().Get(0), c.Args().Get(1), convertOptions{c.String("tokenizer"), c.Bool("force"), c.Bool("allow-nonfinite")})
	if err != nil {
		return err
	}
	if r.ids < r.vocab*9/10 {
		fmt.Fprintf(c.App.ErrWriter, "warning: the tokenizer has %d ids for a vocabulary of %d: is it this model's?\n", r.ids, r.vocab)
	}
	fmt.Fprintf(c.App.Writer, "%s: %s, %d tensors, %d weights from %s\n", c.Args().Get(1), r.family, r.tensors, r.elements, strings.Join(r.files, ", "))
	if len(r.skipped) > 0 {
		fmt.Fprintf(c.App.ErrWriter, "skipped %d values that are not tensors, such as %s\n", len(r.skipped), r.skipped[0])
	}
	return nil
}

type convertOptions struct {
	tokenizer        string
	force, nonfinite bool
}

// converted says what a conversion read.
type converted struct {
	family            string
	tensors, elements int
	ids, vocab        int // of the tokenizer, of the model
	files, skipped    []string
}

// convertFolder writes the model of a source as a model folder. Nothing is written before everything has been checked.
func convertFolder(src, dst string, o convertOptions) (r converted, err error) {
	if err := replaceable(src, dst, o.force); err != nil {
		return r, err
	}
	src = newest(src)
	w, err := checkpoints.Open(src) // first: a file that is refused must not be asked for its config
	if err != nil {
		return r, err
	}
	defer w.Close()
	f, err := sllm.ReadConfig(checkpoints.SourceDir(src))
	if err != nil {
		return r, err
	}
	if o.tokenizer != "" {
		tok, err := tokenizer.Load(o.tokenizer)
		if err != nil {
			return r, err
		}
		f.Files = tok.Files()
	}
	if r.ids, err = checkTokenizer(f); err != nil {
		return r, err
	}
	r.vocab = f.Arch().VocabSize
	ws := f.Weights()
	found, err := sllm.Match(ws, w)
	if err != nil {
		return r, fmt.Errorf("%s: %w", src, err)
	}
	var out []checkpoints.Named
	for _, d := range ws {
		t := found[d.Name]
		if !o.nonfinite {
			if err := finite(t); err != nil {
				return r, err
			}
		}
		n := checkpoints.FromTensor(t)
		n.Name = d.Name
		out = append(out, n)
		r.elements += t.Len()
	}
	r.family, r.tensors, r.files, r.skipped = f.Arch().ModelType, len(ws), baseNames(w.Files()), w.Opaque()
	return r, writeModel(f, out, dst, o.force)
}

// replaceable refuses a destination whose replacement would lose anything but a model folder of this program's making.
func replaceable(src, dst string, force bool) error {
	es, err := os.ReadDir(dst)
	st, statErr := os.Stat(dst)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case statErr == nil && !st.IsDir():
		return fmt.Errorf("%s: exists and is a file (give another DST)", dst)
	case err != nil:
		return err
	case !force:
		return fmt.Errorf("%s: exists already (--force replaces a model folder)", dst)
	}
	a, errA := filepath.Abs(src)
	b, errB := filepath.Abs(dst)
	if errA != nil || errB != nil || a == b || strings.HasPrefix(a, b+string(filepath.Separator)) {
		return fmt.Errorf("%s: holds the source (give another DST)", dst)
	}
	ours := append([]string{"config.json", "model.safetensors", checkpoints.ManifestName}, sllm.TokenizerFiles...)
	for _, e := range es {
		if !e.Type().IsRegular() || !slices.Contains(ours, e.Name()) {
			return fmt.Errorf("%s: holds %s, which is not a converted model's (give another DST)", dst, e.Name())
		}
	}
	return nil
}

// checkTokenizer refuses a folder whose tokenizer does not load or knows more tokens than the model, and returns how
// many it knows.
func checkTokenizer(f *sllm.Folder) (ids int, err error) {
	if len(f.Files) == 0 {
		return 0, fmt.Errorf("%s: holds no tokenizer (tokenizer.json, or vocab.json and merges.txt; --tokenizer DIR names another folder)", f.Path)
	}
	tmp, err := os.MkdirTemp("", "svae-tokenizer-")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(tmp)
	for name, b := range f.Files {
		if err := os.WriteFile(filepath.Join(tmp, name), b, 0o666); err != nil {
			return 0, err
		}
	}
	tok, err := tokenizer.Load(tmp)
	if err != nil {
		return 0, fmt.Errorf("%s: %s", f.Path, strings.ReplaceAll(err.Error(), tmp+string(filepath.Separator), ""))
	}
	if n := tok.VocabSize(); n > f.Arch().VocabSize {
		return 0, fmt.Errorf("%s: the tokenizer has %d ids, config.json says vocab_size %d", f.Path, n, f.Arch().VocabSize)
	}
	return tok.VocabSize(), nil
}

// finite reads a tensor and refuses it if a value is not finite.
func finite(t *checkpoints.Tensor) error {
	v := make([]float32, t.Len())
	if err := t.Float32(v); err != nil {
		return err
	}
	for i, x := range v {
		if math.IsNaN(float64(x)) || math.IsInf(float64(x), 0) {
			return fmt.Errorf("%s: %s holds %v at %d (--allow-nonfinite converts it all the same)", t.File, t.Name, x, i)
		}
	}
	return nil
}

func writeModel(f *sllm.Folder, ts []checkpoints.Named, dst string, force bool) error {
	d, err := checkpoints.CreateDir(dst, force)
	if err != nil {
		return err
	}
	defer d.Abort()
	if err := d.WriteFile("config.json", f.Raw); err != nil {
		return err
	}
	for name, b := range f.Files {
		if err := d.WriteFile(name, b); err != nil {
			return err
		}
	}
	if err := sllm.WriteTensors(d, "model.safetensors", ts); err != nil {
		return err
	}
	return d.Commit()
}

func baseNames(files []string) []string {
	out := slices.Clone(files)
	for i := range out {
		out[i] = filepath.Base(out[i])
	}
	return out
}
