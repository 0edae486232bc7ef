package main

import (
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/urfave/cli/v2"

	"svae/kernels"
	"svae/kernels/kv/bench"
)

func benchKVCommand() *cli.Command {
	return &cli.Command{
		Name:  "kv",
		Usage: "attention of one token in one layer: policies of the cache against reading everything",
		Description: `The keys are those of a model, as svae eval recall --dump writes them, extended to any length: sentences again and again, turned to
their new positions, with noise, and needles far back. Without --keys they are made up. Dense attention reads contiguous float32
rows. It and the policies take turns; times are medians. Beside each stands the true softmax mass of the rows that were read, and
the roofline: the least time dense attention can take on this machine, over the time it took. Examples:

   svae eval recall --model base --in book.txt --tokens 4096 --dump keys --dump-layers 12
   svae bench kv --keys keys --rows 4096,32768,131072`,
		Flags: append([]cli.Flag{
			&cli.StringFlag{Name: "keys", Usage: "`FILE` of a model's keys"},
			&cli.StringFlag{Name: "rows", Usage: "lengths of the past, separated by commas", Value: "4096,32768,131072"},
			&cli.IntFlag{Name: "layers", Usage: "of the keys, the first ones", Value: 1},
			&cli.IntFlag{Name: "steps", Usage: "tokens that are timed", Value: 32},
			&cli.Float64Flag{Name: "ram-share", Usage: "share of the rows in memory; the others lie in a file", Value: 1},
			&cli.BoolFlag{Name: "json", Usage: "print JSON"},
			&cli.StringFlag{Name: "device", Usage: "cpu or cuda", Value: "cpu"},
		}, kvListFlags("ours", "1024")...),
		Action: benchKV,
	}
}

func benchKV(c *cli.Context) error {
	if err := noArgs(c); err != nil {
		return err
	}
	rows, err := positives(c.String("rows"))
	share := c.Float64("ram-share")
	switch {
	case err != nil:
		return usagef("--rows: %w", err)
	case c.Int("layers") < 1 || c.Int("steps") < 1:
		return usagef("--layers and --steps must be positive")
	case !(share > 0 && share <= 1):
		return usagef("--ram-share must be above 0 and at most 1")
	}
	ways, err := kvList(c)
	if err != nil {
		return err
	}
	be, err := kernels.Open(c.String("device"))
	if err != nil {
		return err
	}
	cfg := bench.Config{Rows: rows, Layers: c.Int("layers"), Keys: c.String("keys"), Steps: c.Int("steps"), Backend: be}
	if share < 1 {
		cfg.RAMShare = share
	}
	if cfg.Keys == "" {
		cfg.Sequence = bench.Generate(cfg.Layers, 4096, 1)
	} else if cfg.Sequence, err = bench.ReadSequence(cfg.Keys); err != nil {
		return err
	}
	var all []bench.Row
	for _, way := range ways {
		cfg.Policies, cfg.Budget, cfg.Type, cfg.Options = []string{way.Policy}, way.Budget, way.Type, way.Options
		s := cfg.Sequence
		cfg.MinSegment = way.Store(1, s.Heads, s.KVHeads, s.HeadDim).MinSegment
		rs, err := bench.Run(c.Context, cfg)
		if err != nil {
			return err
		}
		all = append(all, rs...)
	}
	if c.Bool("json") {
		return printJSON(c, all)
	}
	return printKV(c.App.Writer, cfg.Sequence, all)
}

func printKV(w io.Writer, s *bench.Sequence, rows []bench.Row) error {
	fmt.Fprintf(w, "%d query heads, %d key heads of %d\n", s.Heads, s.KVHeads, s.HeadDim)
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "KV\tTYPE\tROWS\tREAD\tDENSE\tOF ITS ROOFLINE\tPOLICY\tTIMES\tMASS\t5 %\tMB READ\tMB TO CHOOSE\tHITS\tSTALL")
	for _, r := range rows {
		hits := "-"
		if r.HitRatio > 0 {
			hits = fmt.Sprintf("%.3f", r.HitRatio)
		}
		fmt.Fprintf(tw, "%s\t%s\t%d\t%.0f\t%s\t%.2f\t%s\t%.1f\t%.3f\t%.3f\t%.2f\t%.2f\t%s\t%s\n", r.Policy, r.Type, r.Rows, r.RowsRead,
			r.Dense.Round(time.Microsecond), r.RooflineShare, r.Time.Round(time.Microsecond), r.Ratio, r.Mass, r.MassP5,
			float64(r.BytesRead)/1e6, float64(r.BytesScanned)/1e6, hits, r.Stall.Round(time.Microsecond))
	}
	return tw.Flush()
}
