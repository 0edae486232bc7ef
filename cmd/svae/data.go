package main

import (
	"fmt"

	"github.com/urfave/cli/v2"

	"svae/data"
	"svae/data/segment"
	"svae/data/tokenizer"
)

func dataCommand() *cli.Command {
	return &cli.Command{Name: "data", Usage: "turn text into shards of token ids", Subcommands: []*cli.Command{{
		Name:      "build",
		Usage:     "read JSONL, .jsonl.gz, .tar.gz or plain text and write Arrow shards",
		ArgsUsage: "INPUT...",
		Description: `INPUT is a file or a folder: WanJuan JSONL ({"id": ..., "content": ...}), plain or packed with gzip or tar, or plain
text, where a file is a document. Example:

   svae data build --tokenizer base --holdout 0.05 --out shards corpus.jsonl.gz
   svae data build --tokenizer base --split '^CHAPTER ' --unwrap --out shards book.txt`,
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "tokenizer", Usage: "model or tokenizer `FOLDER`"},
			&cli.StringFlag{Name: "out", Usage: "`FOLDER` to write"},
			&cli.Float64Flag{Name: "holdout", Usage: "`SHARE` of documents, by a hash of the id, that go to OUT/heldout and not OUT/train"},
			&cli.StringFlag{Name: "split", Usage: "`REGEX` at whose matches plain text starts a new document; ^ and $ match at every line"},
			&cli.BoolFlag{Name: "unwrap", Usage: "join the hard line breaks of plain text"},
			&cli.StringFlag{Name: "bad-lines", Usage: "fail, skip or quarantine", Value: data.BadFail},
			&cli.StringFlag{Name: "segmenter", Usage: "default, reference (the paper's rule, with its dropped tail) or reference-lossless", Value: segment.DefaultName},
			&cli.IntFlag{Name: "min-tokens", Usage: "least tokens of a sentence; 0: 6"},
			&cli.IntFlag{Name: "max-tokens", Usage: "most tokens of a sentence; 0: 32, or 64 for the reference's"},
			&cli.IntFlag{Name: "max-sentences", Usage: "most sentences of a document, for the reference segmenter; 0: all"},
			&cli.IntFlag{Name: "workers", Usage: "goroutines that tokenise; 0: one a core (changes no byte of the result)"},
			&cli.BoolFlag{Name: "force", Usage: "replace what an earlier build left"},
			&cli.BoolFlag{Name: "json", Usage: "print the report as JSON"},
		},
		Action: dataBuild,
	}, dataNeedleCommand()}}
}

func dataBuild(c *cli.Context) error {
	if err := require(c, "tokenizer", "out"); err != nil {
		return err
	}
	if !c.Args().Present() {
		return usagef("no input given (svae data build INPUT...)")
	}
	tok, err := tokenizer.Load(c.String("tokenizer"))
	if err != nil {
		return err
	}
	split := c.String("split")
	if split != "" {
		split = "(?m)" + split
	}
	bar := newBar(c, "building")
	r, err := data.Build(c.Context, data.BuildConfig{
		Inputs: c.Args().Slice(), Out: c.String("out"), Holdout: c.Float64("holdout"), Split: split, Unwrap: c.Bool("unwrap"),
		BadLines: c.String("bad-lines"), Tokenizer: tok, TokenizerName: c.String("tokenizer"), Workers: c.Int("workers"), Force: c.Bool("force"),
		Segment: segment.Config{Name: c.String("segmenter"), MinTokens: c.Int("min-tokens"), MaxTokens: c.Int("max-tokens"),
			MaxSentences: c.Int("max-sentences")},
		Progress: bar.set,
	})
	bar.done()
	if err != nil {
		return err
	}
	if h := c.Float64("holdout"); h > 0 && (r.Heldout.Documents == 0 || r.Train.Documents == 0) {
		n := r.Train.Documents + r.Heldout.Documents
		fmt.Fprintf(c.App.ErrWriter, "warning: of %d documents %d were held out (--split REGEX cuts a text into documents)\n", n, r.Heldout.Documents)
	}
	if c.Bool("json") {
		return printJSON(c, r)
	}
	w := c.App.Writer
	line := func(name string, n data.Counts) {
		if n.Documents > 0 {
			fmt.Fprintf(w, "%-8s %s, %s, %s, %d bytes (%.1f tokens a sentence, %.2f bytes a token)\n", name, plural(n.Documents, "document", "documents"),
				plural(n.Sentences, "sentence", "sentences"), plural(n.Tokens, "token", "tokens"), n.Bytes, float64(n.Tokens)/float64(max(1, n.Sentences)), float64(n.Bytes)/float64(max(1, n.Tokens)))
		}
	}
	line("train", r.Train)
	line("heldout", r.Heldout)
	fmt.Fprintf(w, "%s in %s", plural(int64(r.Shards), "shard", "shards"), c.String("out"))
	for _, n := range []struct {
		n         int64
		one, many string
	}{{r.BadLines, "bad line", "bad lines"}, {r.Empty, "empty document left out", "empty documents left out"}, {r.Duplicates, "repeated id (kept)", "repeated ids (kept)"},
		{r.Replaced, "invalid sequence replaced by U+FFFD", "invalid sequences replaced by U+FFFD"}, {r.Dropped, "byte dropped by the segmenter", "bytes dropped by the segmenter"}} {
		if n.n > 0 {
			fmt.Fprintf(w, ", %s", plural(n.n, n.one, n.many))
		}
	}
	if r.BadLines > 0 && c.String("bad-lines") == data.BadQuarantine {
		fmt.Fprint(w, " (bad lines are in quarantine.jsonl)")
	}
	fmt.Fprintln(w)
	return nil
}

// plural counts things.
func plural(n int64, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}
