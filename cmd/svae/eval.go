package main

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/urfave/cli/v2"

	"svae/data"
	"svae/kernels"
	"svae/sllm"
	"svae/train"
)

func evalCommand() *cli.Command {
	return &cli.Command{Name: "eval", Usage: "score models", Subcommands: []*cli.Command{
		{
			Name:  "ppl",
			Usage: "bits per byte and perplexity of models on the same bytes",
			Description: `The headline is bits per byte: the nats of every token, end mark and stop flag over the bytes of the text. Both perplexities
are over the tokens of the text. All models see the same pieces of the documents, each from a cold start. Example:

   svae eval ppl --model base,run --data shards/heldout --floors shards/train --latents real,none,shuffled

With --kv the tokens of a token-level model are scored one by one, each reading what the policy chooses of its past, and dense
beside. Pieces are then as long as the positions allow, unless --sentences or --piece-tokens is given. Example:

   svae eval ppl --model base --data shards/heldout --kv snapkv,paper,ours --kv-budget 5%,10%`,
			Flags: append([]cli.Flag{
				&cli.StringSliceFlag{Name: "model", Usage: "model `FOLDERS` or runs, separated by commas"},
				&cli.StringFlag{Name: "data", Usage: "`FOLDER` of shards to score"},
				&cli.StringFlag{Name: "floors", Usage: "also score a unigram and a Witten-Bell bigram counted on these shards (`FOLDER`)"},
				&cli.StringFlag{Name: "latents", Usage: "plans given to a sentence-level model's decoder: real, none or shuffled, separated by commas", Value: "real"},
				&cli.IntFlag{Name: "sentences", Usage: "most sentences of a piece; 0: no limit", Value: 20},
				&cli.IntFlag{Name: "piece-tokens", Usage: "most tokens of a piece; 0: what the positions of all models allow"},
				&cli.BoolFlag{Name: "truncate", Usage: "score only the first --piece-tokens tokens of each document, and no end"},
				&cli.Int64Flag{Name: "max-bytes", Usage: "stop after about this many bytes; 0: all"},
				&cli.StringFlag{Name: "device", Usage: "cpu or cuda", Value: "cpu"},
				&cli.BoolFlag{Name: "json", Usage: "print JSON"},
			}, pplKVFlags()...),
			Action: evalPPL,
		},
		evalRecallCommand(),
		evalNeedleCommand(),
		{
			Name:        "recon",
			Usage:       "how many sentences an autoencoder reproduces exactly, writing freely",
			Description: "Example:\n\n   svae eval recon --model run-vae --data shards/heldout",
			Flags: []cli.Flag{
				&cli.StringFlag{Name: "model", Usage: "model `FOLDER` or run"},
				&cli.StringFlag{Name: "data", Usage: "`FOLDER` of shards"},
				&cli.IntFlag{Name: "limit", Usage: "most sentences; 0: all", Value: 1000},
				&cli.StringFlag{Name: "device", Usage: "cpu or cuda", Value: "cpu"},
				&cli.BoolFlag{Name: "json", Usage: "print JSON"},
			},
			Action: evalRecon,
		},
	}}
}

// openScored checks that a data set holds a model's tokens, cut into its sentences.
func openScored(f *sllm.Folder, ds *data.Dataset) error {
	tok, err := loadTokenizer(f)
	if err != nil {
		return err
	}
	if got, want := ds.Meta().TokenizerFingerprint, tok.Fingerprint(); got != want {
		return fmt.Errorf("%s was built with another tokenizer than that of %s (build it with --tokenizer %s)", ds.Dir(), f.Path, f.Path)
	}
	if f.Kind == sllm.KindLM {
		return nil
	}
	seg, err := segmenterOf(f)
	if err != nil {
		return err
	}
	if got, want := ds.Meta().SegmenterFingerprint, seg.Fingerprint(); got != want {
		return fmt.Errorf("%s was cut by %s, %s was trained on %s (build it again with the model's)", ds.Dir(), got, f.Path, want)
	}
	return nil
}

func evalPPL(c *cli.Context) error {
	if c.IsSet("kv") {
		return evalPPLKV(c)
	}
	cfg, plans, err := pplConfig(c)
	if err = cmp.Or(err, needKV(c)); err != nil {
		return err
	}
	be, err := kernels.Open(c.String("device"))
	if err != nil {
		return err
	}
	ds, err := data.Open(c.String("data"))
	if err != nil {
		return err
	}
	models := modelPaths(c)
	if cfg.Truncate {
		if cfg.TokenBytes, err = tokenBytes(models[0]); err != nil {
			return err
		}
	}
	if !cfg.Truncate {
		if cfg.PieceTokens, err = pieceTokens(models, cfg.PieceTokens); err != nil {
			return err
		}
	}
	var rs []train.Result
	if dir := c.String("floors"); dir != "" {
		counted, err := data.Open(dir)
		if err != nil {
			return err
		}
		u, b, err := scoreFloors(c, counted, ds, cfg)
		if err != nil {
			return err
		}
		rs = append(rs, u, b)
	}
	for _, path := range models {
		r, err := scoreModel(c, path, be, ds, cfg, plans)
		if err != nil {
			return err
		}
		rs = append(rs, r...)
	}
	if c.Bool("json") {
		return printJSON(c, rs)
	}
	return printScores(c, rs)
}

// pplConfig reads the flags of eval ppl.
func pplConfig(c *cli.Context) (cfg train.EvalConfig, plans []sllm.Latents, err error) {
	if err := cmp.Or(noArgs(c), require(c, "data")); err != nil {
		return cfg, nil, err
	}
	for _, name := range strings.Split(c.String("latents"), ",") {
		l, err := train.ParseLatents(name)
		if err != nil {
			return cfg, nil, usageError{err}
		}
		plans = append(plans, l)
	}
	cfg = train.EvalConfig{Sentences: c.Int("sentences"), PieceTokens: c.Int("piece-tokens"), Truncate: c.Bool("truncate"),
		BatchTokens: 2048, MaxBytes: c.Int64("max-bytes"), Seed: 1}
	switch {
	case len(modelPaths(c)) == 0:
		err = usagef("--model is missing (%s --help)", c.Command.HelpName)
	case slices.Contains(modelPaths(c), ""):
		err = usagef("--model names an empty folder")
	case cfg.Sentences < 0 || cfg.PieceTokens < 0 || cfg.MaxBytes < 0:
		err = usagef("--sentences, --piece-tokens and --max-bytes must not be negative")
	case cfg.Truncate && cfg.PieceTokens == 0:
		err = usagef("--truncate needs --piece-tokens")
	}
	return cfg, plans, err
}

// pieceTokens returns the most tokens that a piece may have so that all models have positions for it.
func pieceTokens(models []string, most int) (int, error) {
	for _, path := range models {
		f, err := sllm.ReadConfig(path)
		if err != nil {
			return 0, err
		}
		most = train.PieceLimit(f, most)
	}
	return most, nil
}

// modelPaths returns the folders that --model names, once or several times.
func modelPaths(c *cli.Context) []string {
	paths := c.StringSlice("model")
	for i := range paths {
		paths[i] = strings.TrimSpace(paths[i])
	}
	return paths
}

// scoreFloors scores the models without layers.
func scoreFloors(c *cli.Context, counted, ds *data.Dataset, cfg train.EvalConfig) (unigram, bigram train.Result, err error) {
	p := newBar(c, "counting")
	defer p.done()
	cfg.Progress = p.set
	return train.Floors(c.Context, counted, ds, cfg)
}

// scoreModel scores one model, a sentence-level one once for each kind of plan.
func scoreModel(c *cli.Context, path string, be kernels.Backend, ds *data.Dataset, cfg train.EvalConfig, plans []sllm.Latents) ([]train.Result, error) {
	f, err := sllm.Load(path, be)
	if err == nil {
		err = openScored(f, ds)
	}
	if err != nil {
		return nil, err
	}
	warnAbout(c, f)
	if f.Kind != sllm.KindSLLM {
		plans = plans[:1]
	}
	var rs []train.Result
	for _, l := range plans {
		cfg.Latents = l
		p := newBar(c, "scoring "+printable(path))
		cfg.Progress = p.set
		r, err := train.Eval(c.Context, f, ds, cfg)
		p.done()
		if err != nil {
			return nil, err
		}
		r.Model = path
		rs = append(rs, r)
	}
	return rs, nil
}

// tokenBytes returns how many bytes each token of a model stands for. All models that are scored together have the same
// tokenizer, that of the data.
func tokenBytes(model string) (func(int32) int, error) {
	f, err := sllm.ReadConfig(model)
	if err != nil {
		return nil, err
	}
	tok, err := loadTokenizer(f)
	if err != nil {
		return nil, err
	}
	return func(id int32) int { return len(tok.Piece(id)) }, nil
}

func printScores(c *cli.Context, rs []train.Result) error {
	tw := tabwriter.NewWriter(c.App.Writer, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "MODEL\tLATENTS\tBITS/BYTE\t95 %\tENDS\tSTOPS\tPPL\tTOKEN PPL\tTOP-1")
	for _, r := range rs {
		l := r.Latents
		if l == "" {
			l = "-"
		}
		interval, top := "-", "-"
		if r.Documents > 1 {
			interval = fmt.Sprintf("%.4f-%.4f", r.Low, r.High)
		}
		if r.Kind != train.Floor {
			top = fmt.Sprintf("%.3f", r.Accuracy)
		}
		fmt.Fprintf(tw, "%s\t%s\t%.4f\t%s\t%.4f\t%.4f\t%.2f\t%.2f\t%s\n", r.Model, l, r.BPB, interval, r.BPBEnds, r.BPBStops, r.PPL, r.TokenPPL, top)
	}
	if err := tw.Flush(); err != nil {
		return err
	}
	if len(rs) > 0 {
		r := rs[len(rs)-1]
		fmt.Fprintf(c.App.Writer, "%d documents in %d pieces, %d sentences, %d tokens, %d bytes\n", r.Documents, r.Pieces, r.Sentences, r.Tokens, r.Bytes)
	}
	if slices.ContainsFunc(rs, func(r train.Result) bool { return r.Latents == train.Own }) {
		fmt.Fprintln(c.App.Writer, "own: an autoencoder is given the latents of the very sentence; its figure is the cost of reconstruction, not of a language model")
	}
	return nil
}

func evalRecon(c *cli.Context) error {
	if err := cmp.Or(noArgs(c), require(c, "model", "data")); err != nil {
		return err
	}
	be, err := kernels.Open(c.String("device"))
	if err != nil {
		return err
	}
	ds, err := data.Open(c.String("data"))
	if err != nil {
		return err
	}
	f, err := sllm.Load(c.String("model"), be)
	if err == nil {
		err = openScored(f, ds)
	}
	if err != nil {
		return err
	}
	codec, err := codecOf(f)
	if err != nil {
		return err
	}
	if c.Int("limit") < 0 {
		return usagef("--limit must not be negative")
	}
	p := newCountBar(c, "reproducing")
	r, err := train.Recon(c.Context, f, ds, codec.NewEnds(), c.Int("limit"), p.set)
	p.done()
	if err != nil {
		return err
	}
	r.Model = c.String("model")
	if c.Bool("json") {
		return printJSON(c, r)
	}
	tw := tabwriter.NewWriter(c.App.Writer, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "TOKENS\tSENTENCES\tEXACT\tSHARE\tFIRST ERROR AT")
	for _, b := range append(r.Lengths, r.All) {
		if b.Sentences == 0 {
			continue
		}
		fmt.Fprintf(tw, "%s\t%d\t%d\t%.1f %%\t%.0f %% of the length\n", b.Tokens, b.Sentences, b.Exact, 100*b.Share, 100*b.FirstError)
	}
	return tw.Flush()
}
