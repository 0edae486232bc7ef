package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"text/tabwriter"

	"github.com/urfave/cli/v2"

	"svae/data"
	"svae/kernels"
	"svae/kernels/kv"
	"svae/kernels/kv/bench"
	"svae/sllm"
	"svae/train"
)

// pplKVFlags are the flags with which eval ppl goes through the decode path.
func pplKVFlags() []cli.Flag {
	return append(kvListFlags("", ""),
		&cli.IntFlag{Name: "kv-prefill", Usage: "tokens of a piece that are read at once and not scored; 0: half of them"},
		&cli.IntFlag{Name: "kv-steps", Usage: "most tokens of a piece that are scored; 0: all that follow"})
}

// evalPPLKV scores token-level models through the decode path, under every policy and budget and dense.
func evalPPLKV(c *cli.Context) error {
	cfg, _, err := pplConfig(c)
	if err != nil {
		return err
	}
	for _, name := range []string{"floors", "latents", "truncate"} {
		if c.IsSet(name) {
			return usagef("--%s does not go with --kv", name)
		}
	}
	k := train.PPLKVConfig{EvalConfig: cfg, Prefill: c.Int("kv-prefill"), MaxStep: c.Int("kv-steps")}
	if k.Prefill < 0 || k.MaxStep < 0 {
		return usagef("--kv-prefill and --kv-steps must not be negative")
	}
	if k.Ways, err = kvList(c); err != nil {
		return err
	}
	if !c.IsSet("sentences") { // the past must be long enough to choose from
		k.Sentences = 0
	}
	if k.PieceTokens, err = pieceTokens(modelPaths(c), k.PieceTokens); err != nil {
		return err
	}
	k.BatchTokens = 1 // one piece at a time
	be, err := kernels.Open(c.String("device"))
	if err != nil {
		return err
	}
	ds, err := data.Open(c.String("data"))
	if err != nil {
		return err
	}
	var rs []train.PPLKVResult
	for _, path := range modelPaths(c) {
		f, err := sllm.Load(path, be)
		if err == nil {
			err = openScored(f, ds)
		}
		if err != nil {
			return err
		}
		warnAbout(c, f)
		p := newBar(c, "scored")
		k.Progress = func(n int64) { p.set(n, cmp.Or(k.MaxBytes, -1)) }
		r, err := train.PPLKV(c.Context, f, ds, k)
		p.done()
		if err != nil {
			return err
		}
		r.Model = path
		rs = append(rs, r)
	}
	if c.Bool("json") {
		return printJSON(c, rs)
	}
	return printPPLKV(c.App.Writer, rs)
}

func printPPLKV(w io.Writer, rs []train.PPLKVResult) error {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "MODEL\tKV\tBUDGET\tTYPE\tPPL\tDELTA PPL\tROWS\tOF\tKV BYTES\tINDEX BYTES")
	for _, r := range rs {
		for _, row := range r.Rows {
			fmt.Fprintf(tw, "%s\t%s\t%s\t%s\t%.3f\t%+.2f %%\t%.0f\t%.1f %%\t%.0f\t%.0f\n", r.Model, row.Policy, row.Budget, row.Type, row.PPL,
				row.Delta, row.Rows, row.Share, row.KVBytes, row.IndexBytes)
		}
	}
	if err := tw.Flush(); err != nil {
		return err
	}
	for _, r := range rs {
		fmt.Fprintf(w, "%s: %d tokens scored one by one, after %d read at once, in %d pieces; %d pieces were too short\n", r.Model, r.Tokens, r.Prefill,
			r.Pieces, r.Short)
	}
	_, err := fmt.Fprintln(w, "rows of a key head, and bytes of all layers, that a token reads; dense keeps float32")
	return err
}

func evalRecallCommand() *cli.Command {
	return &cli.Command{
		Name:  "recall",
		Usage: "how much of the attention of a text each policy and budget of the cache keeps",
		Description: `The model reads a text; the last tokens are then met one by one, each policy choosing the rows they read of their past. Shown are the
softmax mass of these rows and the error of the attention's output, over all heads, layers and tokens. A budget counts bytes: what a
policy reads in order to choose is taken off the rows it may read, unless --count rows. The row oracle is what the best choice for
each head would keep. Example:

   svae eval recall --model base --in book.txt --tokens 4096 --kv quest,paper,ours --kv-budget 5%,10%`,
		Flags: append([]cli.Flag{
			&cli.StringFlag{Name: "model", Usage: "model `FOLDER` or run"},
			&cli.StringFlag{Name: "in", Usage: "text `FILE`"},
			&cli.StringFlag{Name: "data", Usage: "`FOLDER` of shards, whose documents are read one after the other"},
			&cli.IntFlag{Name: "tokens", Usage: "tokens of text", Value: 4096},
			&cli.IntFlag{Name: "skip", Usage: "tokens of the text to leave out before"},
			&cli.IntFlag{Name: "last", Usage: "tokens that are met one by one", Value: 256},
			&cli.StringFlag{Name: "dump", Usage: "also write the keys, values and queries to `FILE`, for svae bench kv"},
			&cli.StringFlag{Name: "dump-layers", Usage: "`LAYERS` of them, from 0, separated by commas (default: all)"},
			&cli.StringFlag{Name: "count", Usage: "what a budget counts: bytes or rows", Value: "bytes"},
			&cli.StringFlag{Name: "device", Usage: "cpu or cuda", Value: "cpu"},
			&cli.BoolFlag{Name: "json", Usage: "print JSON"},
		}, kvListFlags("recent,h2o,snapkv,quest,paper,reference,ours", "5%,10%")...),
		Action: evalRecall,
	}
}

// recallResult is what eval recall prints.
type recallResult struct {
	Model  string            `json:"model"`
	Tokens int               `json:"tokens"`
	Steps  int               `json:"steps"`
	Layers int               `json:"layers"`
	Count  string            `json:"count"`
	Rows   []train.RecallRow `json:"rows"`
}

func evalRecall(c *cli.Context) error {
	if err := cmp.Or(noArgs(c), require(c, "model")); err != nil {
		return err
	}
	count, tokens, last, skip := c.String("count"), c.Int("tokens"), c.Int("last"), c.Int("skip")
	switch {
	case count != "bytes" && count != "rows":
		return usagef("--count %q is not known (use bytes or rows)", count)
	case (c.String("in") == "") == (c.String("data") == ""):
		return usagef("one of --in and --data must be given (%s --help)", c.Command.HelpName)
	case tokens < 3 || last < 2 || last >= tokens || skip < 0:
		return usagef("--last must be in 2..--tokens, less than --tokens, and --skip not negative")
	}
	ways, err := kvList(c)
	if err != nil {
		return err
	}
	be, err := kernels.Open(c.String("device"))
	if err != nil {
		return err
	}
	x, ends, err := captureText(c, c.String("model"), be, tokens, skip)
	if err != nil {
		return err
	}
	if err := dumpCapture(c, x, ends); err != nil {
		return err
	}
	cfg := train.RecallConfig{Ways: withOracle(ways), Last: last, RowsOnly: count == "rows"}
	p := newBar(c, "layers")
	cfg.Progress = func(n, of int) { p.set(int64(n), int64(of)) }
	rows, err := train.Recall(c.Context, be, x, ends, cfg)
	p.done()
	if err != nil {
		return err
	}
	r := recallResult{c.String("model"), x.Rows, last, len(x.K), count, rows}
	if c.Bool("json") {
		return printJSON(c, r)
	}
	return printRecall(c.App.Writer, r)
}

// withOracle adds the ceiling of every budget.
func withOracle(ways []sllm.KVOptions) []sllm.KVOptions {
	out := slices.Clone(ways)
	for _, w := range ways {
		b := w.Budget
		if b.Exact || b.Bounded || slices.ContainsFunc(out, func(o sllm.KVOptions) bool { return o.Policy == train.Oracle && o.Budget == b }) {
			continue
		}
		out = append(out, sllm.KVOptions{Policy: train.Oracle, Budget: b, Type: w.Type})
	}
	slices.SortStableFunc(out, func(a, b sllm.KVOptions) int { return cmp.Compare(rank(a.Budget), rank(b.Budget)) })
	return out
}

// rank orders budgets for a table.
func rank(b kv.Budget) float64 {
	switch {
	case b.Exact:
		return 1e18
	case b.Bounded:
		return 1e17 - b.Eps
	case b.Rows > 0:
		return float64(b.Rows)
	}
	return b.Percent / 1000
}

func printRecall(w io.Writer, r recallResult) error {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "KV\tBUDGET\tTYPE\tMASS\tMASS P5\tERROR\tERROR P95\tOVERLAP\tROWS\tOF\tKV BYTES\tINDEX BYTES\tBYTES")
	for _, o := range r.Rows {
		about, overlap := "", fmt.Sprintf("%.3f", o.Overlap)
		if o.Estimated {
			about, overlap = "~", "-"
		}
		fmt.Fprintf(tw, "%s\t%s\t%s\t%s%.4f\t%s%.4f\t%.4f\t%.4f\t%s\t%.0f\t%.1f %%\t%.0f\t%.0f\t%.1f %%\n", o.Policy, o.Budget, o.Type, about, o.Mass, about,
			o.MassP5, o.Error, o.ErrP95, overlap, o.Rows, o.Share, o.KVBytes, o.IndexBytes, o.Bytes)
	}
	if err := tw.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintf(w, "%s: the last %d of %d tokens, %d layers; budgets count %s; rows of a key head, bytes of a layer, that a token reads\n", r.Model,
		r.Steps, r.Tokens, r.Layers, r.Count)
	return err
}

// captureText runs a token-level model over a text and returns its attention and the rows before which sentences end.
func captureText(c *cli.Context, model string, be kernels.Backend, tokens, skip int) (*sllm.KVCapture, []int, error) {
	f, err := sllm.Load(model, be)
	if err != nil {
		return nil, nil, err
	}
	if f.Kind != sllm.KindLM {
		return nil, nil, usagef("%s is no token-level model", model)
	}
	warnAbout(c, f)
	if tokens > f.LM.Positions {
		return nil, nil, usagef("--tokens %d: %s has %d positions", tokens, model, f.LM.Positions)
	}
	var sentences [][]int32
	if path := c.String("in"); path != "" {
		sentences, err = textSentences(f, path, tokens+skip)
	} else {
		sentences, err = shardSentences(f, c.String("data"), tokens+skip)
	}
	if err != nil {
		return nil, nil, err
	}
	ids, ends := textRows(f, sentences, tokens, skip)
	if len(ids) < tokens {
		return nil, nil, fmt.Errorf("the text has %d tokens, fewer than %d (give a longer one, or smaller --tokens)", len(ids), tokens)
	}
	x, err := sllm.CaptureKV(c.Context, &f.LM, f.Store, ids, 512)
	return x, ends, err
}

// dumpCapture writes what --dump asks for.
func dumpCapture(c *cli.Context, x *sllm.KVCapture, ends []int) (err error) {
	path := c.String("dump")
	if path == "" {
		if c.IsSet("dump-layers") {
			return usagef("--dump-layers has no effect without --dump")
		}
		return nil
	}
	s := bench.Sequence{Heads: x.Heads, KVHeads: x.KVHeads, HeadDim: x.HeadDim, Scale: x.Scale, Boundaries: ends}
	for _, f := range x.Freqs {
		s.RopeFreqs = append(s.RopeFreqs, float32(f))
	}
	add := func(l int) { s.Layers = append(s.Layers, bench.Layer{K: x.K[l], V: x.V[l], Q: x.Q[l]}) }
	for _, text := range commaList(c.String("dump-layers")) {
		l, err := strconv.Atoi(text)
		if err != nil || l < 0 || l >= len(x.K) {
			return usagef("--dump-layers %q: the model has layers 0 to %d", text, len(x.K)-1)
		}
		add(l)
	}
	if len(s.Layers) == 0 {
		for l := range x.K {
			add(l)
		}
	}
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	if err = errors.Join(s.Write(f), f.Close()); err != nil {
		os.Remove(path)
	}
	return err
}

// textRows joins sentences behind BOS, where the model has one, and returns the rows before which they end.
func textRows(f *sllm.Folder, sentences [][]int32, tokens, skip int) (ids []int32, ends []int) {
	if f.LM.BOS >= 0 {
		ids = append(ids, f.LM.BOS)
	}
	for _, s := range sentences {
		cut := min(skip, len(s))
		skip -= cut
		s = s[cut:]
		if n := tokens - len(ids); len(s) > n {
			return append(ids, s[:n]...), ends
		}
		if ids = append(ids, s...); len(s) > 0 {
			ends = append(ends, len(ids))
		}
	}
	return ids, ends
}

// textSentences reads a text of at least about n tokens.
func textSentences(f *sllm.Folder, path string, n int) ([][]int32, error) {
	codec, err := codecOf(f)
	if err != nil {
		return nil, err
	}
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	const most = 64 // bytes of a token, far above the mean of any text
	b, err := io.ReadAll(io.LimitReader(file, int64(n)*most))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return codec.Sentences(b), nil
}

// shardSentences reads documents one after the other until there are n tokens.
func shardSentences(f *sllm.Folder, dir string, n int) (sentences [][]int32, err error) {
	ds, err := data.Open(dir)
	if err != nil {
		return nil, err
	}
	if err := openScored(f, ds); err != nil {
		return nil, err
	}
	l, err := data.NewLoader(ds, data.LoaderConfig{BatchTokens: 4096, Epochs: 1}, data.Position{})
	if err != nil {
		return nil, err
	}
	defer l.Close()
	for n > 0 {
		b, err := l.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
		for s := range b.Sentences() {
			ids := b.IDs[b.Sent[s]:b.Sent[s+1]]
			sentences = append(sentences, slices.Clone(ids))
			n -= len(ids)
		}
	}
	return sentences, nil
}
