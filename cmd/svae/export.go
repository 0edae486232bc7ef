package main

import (
	"fmt"
	"strings"

	"github.com/urfave/cli/v2"

	"svae/sllm"
)

func exportCommand() *cli.Command {
	return &cli.Command{
		Name:  "export",
		Usage: "write a model as a bundle that runs at once",
		Description: `BUNDLE is a folder with the weights as they run, the tokenizer, the config, and the SHA-256 of every part. It opens without a
computation, and one with a changed byte is refused. Every command that runs a model takes it in place of a model folder.

Types: f32 is exact. bf16 halves the weights. int8 holds the maps in 8 bits with a scale a row, the tables and the vocabulary head in
bf16. The head has an int8 copy in every type, with which the greedy choice is found faster and is still the exact one.

--with-base puts the base of a sentence-level model in, for token-level generation: it is BUNDLE/base. Equal tensors are stored once.
Examples:

   svae export --model run --out bundle
   svae export --model run --with-base base --dtype int8 --out bundle
   svae generate --model bundle --prompt "Once upon a time"`,
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "model", Usage: "`DIR` of the model: a model folder or a training run"},
			&cli.StringFlag{Name: "with-base", Usage: "model folder `DIR` of the base of a sentence-level model, to go in too"},
			&cli.StringFlag{Name: "out", Usage: "`BUNDLE` folder to write"},
			&cli.StringFlag{Name: "dtype", Value: "f32", Usage: "`TYPE` of the weights: " + strings.Join(sllm.BundleTypes, ", ")},
			&cli.BoolFlag{Name: "force", Usage: "replace BUNDLE"},
			&cli.BoolFlag{Name: "json", Usage: "print what was written as JSON"},
		},
		Action: export,
	}
}

func export(c *cli.Context) error {
	if err := noArgs(c); err != nil {
		return err
	}
	if err := require(c, "model", "out"); err != nil {
		return err
	}
	o := sllm.ExportOptions{Model: c.String("model"), Base: c.String("with-base"), DType: c.String("dtype"), Force: c.Bool("force")}
	if err := sllm.CheckBundleType(o.DType); err != nil {
		return usageError{fmt.Errorf("--dtype %w", err)}
	}
	b := newBar(c, "writing")
	o.Progress = b.set
	r, err := sllm.Export(c.Context, c.String("out"), o)
	b.done()
	if err != nil {
		return err
	}
	var kinds []string
	for _, f := range r.Models {
		warnAbout(c, f)
		kinds = append(kinds, familyOf(f))
	}
	if c.Bool("json") {
		return printJSON(c, struct {
			Path    string   `json:"path"`
			DType   string   `json:"dtype"`
			Models  []string `json:"models"`
			Tensors int      `json:"tensors"`
			Bytes   int64    `json:"bytes"`
			Shared  int64    `json:"shared_bytes"`
		}{c.String("out"), o.DType, kinds, r.Tensors, r.Bytes, r.Shared})
	}
	_, err = fmt.Fprintf(c.App.Writer, "%s: %s in %s, %d tensors, %d bytes; %d bytes of equal tensors stored once\n",
		c.String("out"), strings.Join(kinds, " and "), o.DType, r.Tensors, r.Bytes, r.Shared)
	return err
}
