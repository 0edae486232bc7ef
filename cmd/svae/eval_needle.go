package main

import (
	"cmp"
	"fmt"
	"strconv"
	"text/tabwriter"

	"github.com/urfave/cli/v2"

	"svae/kernels"
	"svae/sllm"
	"svae/train"
)

// evalNeedleCommand asks a model for sentences hidden in prose.
func evalNeedleCommand() *cli.Command {
	return &cli.Command{
		Name:  "needle",
		Usage: "whether a token-level model recalls a sentence hidden in prose, by policy and budget of its cache",
		Description: `Sentences such as "The value of gold is peace." stand at several depths of a haystack, and the model is asked to complete one.
An answer is right if the model's first choice is right at each of its tokens; policies are asked only what the model answers with
all of the past at hand (dense). Variants: single; multikey (many needles, one is asked for); multiquery (several are asked for in
turn); twoturn (the prompt ends with prose, and the question comes only then, token by token). Example:

   svae eval needle --model model --haystack book.txt --kv snapkv,paper,quest,ours --kv-budget 5%,10% --lengths 1024,4096`,
		Flags: append([]cli.Flag{
			&cli.StringFlag{Name: "model", Usage: "model `FOLDER` or run"},
			&cli.StringSliceFlag{Name: "haystack", Usage: "text `FILES` or folders of shards to take prose from, separated by commas"},
			&cli.StringFlag{Name: "variant", Usage: "single, multikey, multiquery, twoturn, separated by commas", Value: "single,multikey,multiquery,twoturn"},
			&cli.StringFlag{Name: "lengths", Usage: "tokens of the prompt, separated by commas", Value: "1024,2048,4096"},
			&cli.StringFlag{Name: "depths", Usage: "percent of the haystack before the needle, separated by commas", Value: "0,25,50,75,100"},
			&cli.IntFlag{Name: "samples", Usage: "documents for each variant, length and depth", Value: 4},
			&cli.IntFlag{Name: "needles", Usage: "needles in a document with many", Value: 16},
			&cli.IntFlag{Name: "queries", Usage: "questions of multiquery", Value: 4},
			&cli.StringFlag{Name: "style", Usage: "words (common words) or digits (names and five digits)", Value: "words"},
			&cli.Uint64Flag{Name: "seed", Usage: "of the documents", Value: 1},
			&cli.StringFlag{Name: "device", Usage: "cpu or cuda", Value: "cpu"},
			&cli.BoolFlag{Name: "json", Usage: "print JSON"},
		}, kvListFlags("recent,h2o,snapkv,quest,paper,reference,ours", "10%")...),
		Action: evalNeedle,
	}
}

func evalNeedle(c *cli.Context) error {
	if err := cmp.Or(noArgs(c), require(c, "model"), needHaystack(c)); err != nil {
		return err
	}
	cfg, err := needleConfig(c)
	if err != nil {
		return err
	}
	be, err := kernels.Open(c.String("device"))
	if err != nil {
		return err
	}
	f, err := sllm.Load(c.String("model"), be)
	if err != nil {
		return err
	}
	warnAbout(c, f)
	codec, err := codecOf(f)
	if err != nil {
		return err
	}
	if cfg.Haystack, err = readHaystack(c, codec); err != nil {
		return err
	}
	bar := newBar(c, "asking")
	cfg.Progress = func(done, all int) { bar.set(int64(done), int64(all)) }
	rows, err := train.NeedleEval(c.Context, f, codec, cfg)
	bar.done()
	if err != nil {
		return err
	}
	if c.Bool("json") {
		return printJSON(c, rows)
	}
	return printNeedles(c, rows)
}

// needleConfig reads the flags that need no model.
func needleConfig(c *cli.Context) (cfg train.NeedleConfig, err error) {
	cfg = train.NeedleConfig{Samples: c.Int("samples"), Needles: c.Int("needles"), Queries: c.Int("queries"), Seed: c.Uint64("seed")}
	if cfg.Style, err = train.ParseNeedleStyle(c.String("style")); err != nil {
		return cfg, usageError{err}
	}
	if c.String("kv") != "" {
		if cfg.Ways, err = kvList(c); err != nil {
			return cfg, err
		}
	}
	for _, v := range commaList(c.String("variant")) {
		cfg.Variants = append(cfg.Variants, train.NeedleVariant(v))
	}
	for _, s := range commaList(c.String("lengths")) {
		n, err := strconv.Atoi(s)
		if err != nil {
			return cfg, usagef("--lengths %q is not a list of numbers such as 1024,4096", c.String("lengths"))
		}
		cfg.Lengths = append(cfg.Lengths, n)
	}
	for _, s := range commaList(c.String("depths")) {
		d, err := strconv.ParseFloat(s, 64)
		if err != nil {
			return cfg, usagef("--depths %q is not a list of percentages such as 0,50,100", c.String("depths"))
		}
		cfg.Depths = append(cfg.Depths, d/100)
	}
	if err := cfg.Validate(); err != nil {
		return cfg, usageError{err}
	}
	return cfg, nil
}

// printNeedles prints one line for each policy, variant and length, with the share of right answers at each depth.
func printNeedles(c *cli.Context, rows []train.NeedleRow) error {
	tw := tabwriter.NewWriter(c.App.Writer, 0, 0, 2, ' ', 0)
	fmt.Fprint(tw, "VARIANT\tTOKENS\tKV\tBUDGET\tTYPE\tROWS\tASKED\tRIGHT\tSHARE")
	for _, d := range commaList(c.String("depths")) {
		fmt.Fprintf(tw, "\tAT %s %%", d)
	}
	fmt.Fprintln(tw)
	share := func(right, asked int) string {
		if asked == 0 {
			return "-"
		}
		return fmt.Sprintf("%.1f %%", 100*float64(right)/float64(asked))
	}
	for i := range rows {
		r := &rows[i]
		fmt.Fprintf(tw, "%s\t%d\t%s\t%s\t%s\t%.1f %%\t%d\t%d\t%s", r.Variant, r.Tokens, r.Policy, r.Budget, r.Type, r.Rows, r.Asked, r.Right, share(r.Right, r.Asked))
		for _, d := range r.Depths {
			fmt.Fprintf(tw, "\t%s", share(d.Right, d.Asked))
		}
		fmt.Fprintln(tw)
	}
	return tw.Flush()
}
