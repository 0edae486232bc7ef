package main

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"svae/checkpoints"
	"svae/kernels"
	"svae/sllm"
	"svae/vae"
)

func benchCommand() *cli.Command {
	return &cli.Command{Name: "bench", Usage: "measure speed against what the machine's memory allows", Subcommands: []*cli.Command{
		{
			Name:  "decode",
			Usage: "writing, one request at a time: an SLLM against its base",
			Description: `Every model writes the same number of tokens behind a prompt of random ones, with nothing padded and the first sentence
included. An SLLM's sentences have the lengths of --sentence. Runs of all models alternate; medians are printed. The
roofline is the time that reading a token's weights takes at the read bandwidth measured between the runs. Examples:

   svae bench decode --shape smollm2-135m --dtype bf16,int8
   svae bench decode --model BUNDLE

With --kv the token-level models read their past by each policy, and with --past they do so behind made-up keys and values of so
many rows, which cost no prefill:

   svae bench decode --shape qwen2.5-0.5b --dtype int8 --kv dense,ours --kv-budget 1024 --past 1024,16384,131072`,
			Flags: append([]cli.Flag{
				&cli.StringSliceFlag{Name: "model", Usage: "bundles or model `FOLDERS`, separated by commas"},
				&cli.StringFlag{Name: "shape", Usage: "random weights of the shape of a known base, and the SLLM over it: " + strings.Join(shapeNames(), ", ")},
				&cli.StringFlag{Name: "dtype", Usage: "types of the weights of a --shape, separated by commas", Value: "f32,bf16,int8"},
				&cli.IntFlag{Name: "decoder-layers", Usage: "of the SLLM of a --shape", Value: 2},
				&cli.IntFlag{Name: "prompt", Usage: "tokens of the prompt", Value: 120},
				&cli.IntFlag{Name: "tokens", Usage: "tokens to write", Value: 120},
				&cli.StringFlag{Name: "sentence", Usage: "tokens of an SLLM's sentences, separated by commas", Value: "10,20"},
				&cli.IntFlag{Name: "runs", Usage: "of each model", Value: 5},
				&cli.StringFlag{Name: "past", Usage: "with --kv: rows before the prompt, separated by commas", Value: "0"},
				&cli.BoolFlag{Name: "json", Usage: "print JSON"},
				&cli.StringFlag{Name: "device", Usage: "cpu or cuda", Value: "cpu"},
			}, kvListFlags("", "1024")...),
			Action: benchDecode,
		},
		benchKVCommand(),
	}}
}

// shapes are the bases that --shape knows.
var shapes = map[string]vae.Arch{
	"opt-125m": {ModelType: "opt", HiddenSize: 768, NumLayers: 12, NumHeads: 12, NumKVHeads: 12, HeadDim: 64, VocabSize: 50272,
		Positions: 2048, Tied: true, BOS: 2, EOS: 2, PAD: 1, FFNDim: 3072, EmbedDim: 768, Act: "relu"},
	"smollm2-135m": {ModelType: "llama", HiddenSize: 576, NumLayers: 30, NumHeads: 9, NumKVHeads: 3, HeadDim: 64, VocabSize: 49152,
		Positions: 8192, Tied: true, BOS: 1, EOS: 2, PAD: 2, Intermediate: 1536, RMSNormEps: 1e-5, RopeTheta: 100000, HiddenAct: "silu"},
	"qwen2.5-0.5b": {ModelType: "qwen2", HiddenSize: 896, NumLayers: 24, NumHeads: 14, NumKVHeads: 2, HeadDim: 64, VocabSize: 151936,
		Positions: 1 << 20, Tied: true, BOS: -1, EOS: 151643, PAD: -1, Intermediate: 4864, RMSNormEps: 1e-6, RopeTheta: 1000000, HiddenAct: "silu"},
	"llama-124m": {ModelType: "llama", HiddenSize: 768, NumLayers: 12, NumHeads: 12, NumKVHeads: 12, HeadDim: 64, VocabSize: 50272,
		Positions: 32768, Tied: true, BOS: 1, EOS: 2, PAD: -1, Intermediate: 2048, RMSNormEps: 1e-5, RopeTheta: 10000, HiddenAct: "silu"},
}

func shapeNames() []string {
	var names []string
	for n := range shapes {
		names = append(names, n)
	}
	slices.Sort(names)
	return names
}

// decodeCase is a model that writes sentences of some length, and what its runs took.
type decodeCase struct {
	Model    string `json:"model"`
	Kind     string `json:"kind"`
	DType    string `json:"dtype"`
	Sentence int    `json:"sentence_tokens,omitempty"`
	Cache    string `json:"kv,omitempty"`
	Past     int    `json:"past_rows,omitempty"`

	Prompt  float64 `json:"prompt_tokens_per_second"`
	Decode  float64 `json:"tokens_per_second"`
	Weights float64 `json:"weight_bytes_per_token"`
	Read    float64 `json:"kv_read_bytes_per_token"`
	KV      float64 `json:"kv_bytes_per_token_of_text"`
	Roof    float64 `json:"roofline_tokens_per_second"`
	Speedup float64 `json:"times_base,omitempty"`

	generate func(context.Context, sllm.Request) (sllm.Result, error)
	vocab    int
	base     int // the case of its base; -1 for none
	prompts  []float64
	decodes  []float64
}

func benchDecode(c *cli.Context) error {
	if err := noArgs(c); err != nil {
		return err
	}
	sentences, err := positives(c.String("sentence"))
	if err != nil || c.Int("prompt") < 1 || c.Int("tokens") < 1 || c.Int("runs") < 1 {
		return usagef("--sentence, --prompt, --tokens and --runs must be positive")
	}
	if (len(modelPaths(c)) == 0) == (c.String("shape") == "") {
		return usagef("say either --model or --shape (%s --help)", c.Command.HelpName)
	}
	be, err := kernels.Open(c.String("device"))
	if err != nil {
		return err
	}
	paths := modelPaths(c)
	if name := c.String("shape"); name != "" {
		dir, err := os.MkdirTemp("", "svae-bench-")
		if err != nil {
			return err
		}
		defer os.RemoveAll(dir)
		if paths, err = exportShape(c, be, name, dir); err != nil {
			return err
		}
	}
	ways, pasts, err := benchPasts(c)
	if err != nil {
		return err
	}
	cases, err := decodeCases(paths, be, sentences, ways, pasts)
	if err != nil {
		return err
	}
	bandwidth, err := runCases(c, be, cases)
	if err != nil {
		return err
	}
	if c.Bool("json") {
		return printJSON(c, map[string]any{"bytes_per_second": bandwidth, "threads": runtime.GOMAXPROCS(0), "cases": cases})
	}
	return printCases(c.App.Writer, cases, bandwidth)
}

// benchPasts reads how the past is kept, and how long it is.
func benchPasts(c *cli.Context) (ways []sllm.KVOptions, pasts []int, err error) {
	if c.String("kv") == "" {
		if c.IsSet("past") {
			return nil, nil, usagef("--past has no effect without --kv")
		}
		return nil, nil, needKV(c)
	}
	if ways, err = kvList(c); err != nil {
		return nil, nil, err
	}
	if c.String("past") == "0" {
		return ways, []int{0}, nil
	}
	if pasts, err = positives(c.String("past")); err != nil {
		err = usagef("--past: %w", err)
	}
	return ways, pasts, err
}

// positives reads a list of positive numbers.
func positives(list string) ([]int, error) {
	var ns []int
	for _, s := range strings.Split(list, ",") {
		var n int
		if _, err := fmt.Sscanf(strings.TrimSpace(s), "%d", &n); err != nil || n < 1 {
			return nil, fmt.Errorf("%q is not a positive number", s)
		}
		ns = append(ns, n)
	}
	return ns, nil
}

// exportShape writes random weights of a base and of the SLLM spliced into it to dir, as bundles that hold both, one for
// each type.
func exportShape(c *cli.Context, be kernels.Backend, name, dir string) ([]string, error) {
	a, ok := shapes[name]
	if !ok {
		return nil, usagef("shape %q is not known (known: %s)", name, strings.Join(shapeNames(), ", "))
	}
	base := &sllm.Folder{Kind: sllm.KindLM, LM: a}
	if err := base.LM.Validate(); err != nil {
		return nil, err
	}
	v := vae.Default(base.LM)
	v.DecoderLayers, v.DecoderCopies = c.Int("decoder-layers"), vae.UpperLayers(a.NumLayers, c.Int("decoder-layers"))
	model := &sllm.Folder{Kind: sllm.KindSLLM, SLLM: sllm.Config{Base: base.LM, VAE: v, LatentScale: 1}}
	if err := model.SLLM.Validate(); err != nil {
		return nil, usageError{err}
	}
	for _, f := range []*sllm.Folder{base, model} {
		text, err := demoFiles.ReadFile("demo/base/tokenizer.json") // any: prompts are ids
		if err != nil {
			return nil, err
		}
		f.Files = map[string][]byte{"tokenizer.json": text}
		if f.Store, err = vae.NewStore(be, f.Weights()); err != nil {
			return nil, err
		}
		from := base.Read
		if f == base {
			from = nil
		}
		if err := f.Store.Init(1, from); err != nil {
			return nil, err
		}
		d, err := checkpoints.CreateDir(filepath.Join(dir, string(f.Kind)), false)
		if err != nil {
			return nil, err
		}
		if err := cmp.Or(f.Write(d), d.Commit()); err != nil {
			d.Abort()
			return nil, err
		}
	}
	base.Store, model.Store = nil, nil // memory for what is measured
	var paths []string
	for _, dtype := range strings.Split(c.String("dtype"), ",") {
		out := filepath.Join(dir, name+"-"+dtype)
		_, err := sllm.Export(c.Context, out, sllm.ExportOptions{Model: filepath.Join(dir, string(sllm.KindSLLM)),
			Base: filepath.Join(dir, string(sllm.KindLM)), DType: dtype})
		if err != nil {
			return nil, err
		}
		paths = append(paths, out)
	}
	return paths, nil
}
