package main

import (
	"fmt"
	"sort"
	"text/tabwriter"

	"github.com/urfave/cli/v2"

	"svae/checkpoints"
)

func inspectCommand() *cli.Command {
	return &cli.Command{
		Name:        "inspect",
		Usage:       "list the tensors of a checkpoint without loading them",
		ArgsUsage:   "FILE",
		Description: "FILE is a PyTorch or safetensors file, a folder of them, or a training run. Example:\n\n   svae inspect model.safetensors",
		Flags:       []cli.Flag{&cli.BoolFlag{Name: "json", Usage: "print JSON"}},
		Action:      inspect,
	}
}

// tensorInfo is what inspect says of a tensor.
type tensorInfo struct {
	Name  string `json:"name"`
	DType string `json:"dtype"`
	Shape []int  `json:"shape"`
	Bytes int64  `json:"bytes"`
	File  string `json:"file"`
}

type inspection struct {
	Path     string            `json:"path"`
	Format   string            `json:"format"`
	Files    []string          `json:"files"`
	Tensors  []tensorInfo      `json:"tensors"`
	Elements int64             `json:"elements"`
	Bytes    int64             `json:"bytes"`
	Tied     [][]string        `json:"tied,omitempty"`
	Metadata map[string]string `json:"metadata,omitempty"`
	Skipped  []string          `json:"skipped,omitempty"` // values that are not tensors
}

func inspect(c *cli.Context) error {
	if c.NArg() != 1 {
		return usagef("want one FILE (svae inspect FILE)")
	}
	w, err := checkpoints.Open(newest(c.Args().First()))
	if err != nil {
		return err
	}
	defer w.Close()
	in := inspection{Path: c.Args().First(), Format: w.Format(), Files: w.Files(), Tied: w.Tied(), Metadata: w.Metadata(), Skipped: w.Opaque()}
	for _, name := range w.Names() {
		t, _ := w.Get(name)
		b := int64(t.Len()) * int64(t.DType.Size())
		in.Tensors = append(in.Tensors, tensorInfo{name, t.TypeName, t.Shape, b, t.File})
		in.Elements += int64(t.Len())
		in.Bytes += b
	}
	if c.Bool("json") {
		return printJSON(c, in)
	}
	tw := tabwriter.NewWriter(c.App.Writer, 0, 0, 2, ' ', 0)
	fmt.Fprintf(tw, "TENSOR\tTYPE\tSHAPE\tBYTES\n")
	for _, t := range in.Tensors {
		fmt.Fprintf(tw, "%s\t%s\t%v\t%d\n", t.Name, t.DType, t.Shape, t.Bytes)
	}
	if err := tw.Flush(); err != nil {
		return err
	}
	fmt.Fprintf(c.App.Writer, "%s: %d tensors, %d elements, %d bytes in %d files\n", in.Format, len(in.Tensors), in.Elements, in.Bytes, len(in.Files))
	for _, names := range in.Tied {
		fmt.Fprintf(c.App.Writer, "one storage: %v\n", names)
	}
	keys := make([]string, 0, len(in.Metadata))
	for k := range in.Metadata {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	for _, k := range keys {
		fmt.Fprintf(c.App.Writer, "metadata %s: %s\n", k, in.Metadata[k])
	}
	if n := len(in.Skipped); n > 0 {
		fmt.Fprintf(c.App.Writer, "%d values are not tensors, such as %s\n", n, in.Skipped[0])
	}
	return nil
}
