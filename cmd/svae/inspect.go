package main

import (
	"fmt"
	"maps"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/urfave/cli/v2"

	"svae/checkpoints"
	"svae/sllm"
)

func inspectCommand() *cli.Command {
	return &cli.Command{
		Name:      "inspect",
		Usage:     "list what a checkpoint holds without loading it",
		ArgsUsage: "FILE",
		Description: `FILE is a weight file of any format that svae convert reads (PyTorch, safetensors, an index of shards, GGUF, llama2.c), a model
folder, a training run, or hf:OWNER/NAME[/FILE][@REVISION], which is downloaded. Examples:

   svae inspect model.gguf
   svae inspect base --json`,
		Flags:  []cli.Flag{&cli.BoolFlag{Name: "json", Usage: "print JSON"}, &cli.BoolFlag{Name: "values", Usage: "print lists in the metadata whole"}},
		Action: inspect,
	}
}

// tensorInfo is what inspect says of a tensor.
type tensorInfo struct {
	Name   string `json:"name"`
	DType  string `json:"dtype"`
	Shape  []int  `json:"shape"`
	Bytes  int64  `json:"bytes"`
	File   string `json:"file"`
	Offset int64  `json:"offset"`
}

// typeInfo sums up the tensors of one type.
type typeInfo struct {
	Tensors  int   `json:"tensors"`
	Elements int64 `json:"elements"`
	Bytes    int64 `json:"bytes"`
}

type inspection struct {
	Path     string              `json:"path"`
	Format   string              `json:"format"`
	Family   string              `json:"family,omitempty"`
	Files    []string            `json:"files"`
	Tensors  []tensorInfo        `json:"tensors"`
	Types    map[string]typeInfo `json:"types"`
	Elements int64               `json:"elements"`
	Bytes    int64               `json:"bytes"`
	Tied     [][]string          `json:"tied,omitempty"`
	Metadata map[string]any      `json:"metadata,omitempty"`
	Skipped  []string            `json:"skipped,omitempty"` // values that are not tensors
}

func inspect(c *cli.Context) error {
	if c.NArg() != 1 {
		return usagef("want one FILE (svae inspect FILE)")
	}
	path, err := fetch(c, c.Args().First())
	if err != nil {
		return err
	}
	path = newest(path)
	w, err := checkpoints.Open(path)
	if err != nil {
		return err
	}
	defer w.Close()
	in := inspection{Path: c.Args().First(), Format: w.Format(), Family: family(path, w), Files: w.Files(), Tied: w.Tied(), Skipped: w.Opaque(),
		Types: map[string]typeInfo{}, Metadata: metadata(w, c.Bool("values"))}
	for _, name := range w.Names() {
		t, _ := w.Get(name)
		kind := t.DType.String()
		if t.DType == checkpoints.Unsupported {
			kind = t.TypeName
		}
		in.Tensors = append(in.Tensors, tensorInfo{name, kind, t.Shape, t.Bytes(), t.File, t.Offset})
		sum := in.Types[kind]
		in.Types[kind] = typeInfo{sum.Tensors + 1, sum.Elements + int64(t.Len()), sum.Bytes + t.Bytes()}
		in.Elements += int64(t.Len())
		in.Bytes += t.Bytes()
	}
	if c.Bool("json") {
		return printJSON(c, in)
	}
	return in.print(c)
}

// family names the model that a checkpoint holds, as far as its header or the config.json beside it says.
func family(path string, w *checkpoints.Weights) string {
	switch {
	case w.Format() == "gguf":
		s, _ := w.Values()["general.architecture"].(string)
		return s
	case w.Format() == "llama2.c":
		return "llama"
	}
	if f, err := sllm.ReadConfig(checkpoints.SourceDir(path)); err == nil {
		if f.Bundle != "" {
			return fmt.Sprintf("%s, a runtime bundle in %s", familyOf(f), f.Bundle)
		}
		return familyOf(f)
	}
	if sllm.IsReference(w) {
		return "SentenceVAE reference"
	}
	return ""
}

// metadata returns what the files say beside their tensors, long lists shortened.
func metadata(w *checkpoints.Weights, whole bool) map[string]any {
	m := map[string]any{}
	for k, v := range w.Metadata() {
		m[k] = v
	}
	for k, v := range w.Values() {
		if !whole {
			v = shorten(v)
		}
		m[k] = finite(v)
	}
	return m
}

// finite replaces numbers that JSON has no form for by their names.
func finite(v any) any {
	odd := func(f float64) bool { return math.IsNaN(f) || math.IsInf(f, 0) }
	switch v := v.(type) {
	case float64:
		if odd(v) {
			return fmt.Sprint(v)
		}
	case []float64:
		if slices.ContainsFunc(v, odd) {
			list := make([]any, len(v))
			for i := range v {
				list[i] = finite(v[i])
			}
			return list
		}
	}
	return v
}

// shorten replaces a list of more than 8 values by what it is, and cuts long text.
func shorten(v any) any {
	switch v := v.(type) {
	case []string:
		if len(v) > 8 {
			return fmt.Sprintf("%d strings", len(v))
		}
	case []int64:
		if len(v) > 8 {
			return fmt.Sprintf("%d integers", len(v))
		}
	case []float64:
		if len(v) > 8 {
			return fmt.Sprintf("%d numbers", len(v))
		}
	case []bool:
		if len(v) > 8 {
			return fmt.Sprintf("%d truth values", len(v))
		}
	case string:
		if len(v) > 200 {
			return fmt.Sprintf("%s... (%d bytes)", strings.ToValidUTF8(v[:200], ""), len(v))
		}
	}
	return v
}

func (in *inspection) print(c *cli.Context) error {
	w := c.App.Writer
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(tw, "TENSOR\tTYPE\tSHAPE\tBYTES\n")
	for _, t := range in.Tensors {
		fmt.Fprintf(tw, "%s\t%s\t%v\t%d\n", printable(t.Name), printable(t.DType), t.Shape, t.Bytes)
	}
	if err := tw.Flush(); err != nil {
		return err
	}
	of := ""
	if in.Family != "" {
		of = " of " + printable(in.Family)
	}
	plural := "s"
	if len(in.Files) == 1 {
		plural = ""
	}
	fmt.Fprintf(w, "%s%s: %d tensors, %d elements, %d bytes in %d file%s\n", in.Format, of, len(in.Tensors), in.Elements, in.Bytes, len(in.Files), plural)
	for _, name := range slices.Sorted(maps.Keys(in.Types)) {
		t := in.Types[name]
		fmt.Fprintf(w, "type %s: %d tensors, %d elements, %d bytes\n", printable(name), t.Tensors, t.Elements, t.Bytes)
	}
	if len(in.Files) > 1 {
		for _, f := range in.Files {
			fmt.Fprintf(w, "file %s\n", filepath.Base(f))
		}
	}
	for _, names := range in.Tied {
		fmt.Fprintf(w, "one storage: %s\n", printable(strings.Join(names, " ")))
	}
	for _, k := range slices.Sorted(maps.Keys(in.Metadata)) {
		fmt.Fprintf(w, "metadata %s: %s\n", printable(k), printable(fmt.Sprint(in.Metadata[k])))
	}
	if n := len(in.Skipped); n > 0 {
		fmt.Fprintf(w, "%d values are not tensors, such as %s\n", n, printable(in.Skipped[0]))
	}
	return nil
}
