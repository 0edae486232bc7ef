package main

import (
	"bufio"
	"cmp"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/urfave/cli/v2"

	"svae/data"
	"svae/data/segment"
	"svae/data/tokenizer"
	"svae/train"
)

// dataNeedleCommand makes documents from which recall is learned.
func dataNeedleCommand() *cli.Command {
	return &cli.Command{
		Name:  "needle",
		Usage: "write documents from which a small model learns to recall what was said long before",
		Description: `Every document holds sentences such as "The value of gold is peace." between those of a haystack, and says each of them
again later; svae eval needle measures what was learned. Example:

   svae data needle --tokenizer base --haystack book.txt --documents 2000 --tokens 1024 --out lessons.jsonl`,
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "tokenizer", Usage: "model or tokenizer `FOLDER`"},
			&cli.StringSliceFlag{Name: "haystack", Usage: "text `FILES` or folders of shards to take prose from, separated by commas"},
			&cli.StringFlag{Name: "out", Usage: "JSONL `FILE` to write"},
			&cli.IntFlag{Name: "documents", Usage: "how many", Value: 1000},
			&cli.IntFlag{Name: "tokens", Usage: "most tokens of a document; the least is half", Value: 1024},
			&cli.IntFlag{Name: "keys", Usage: "most different keys of a document", Value: 32},
			&cli.Float64Flag{Name: "prose", Usage: "largest share of prose in a document", Value: 0.5},
			&cli.Float64Flag{Name: "ask", Usage: "how often a needle that is said again is asked for before", Value: 0.2},
			&cli.StringFlag{Name: "style", Usage: "words or digits", Value: "words"},
			&cli.StringFlag{Name: "template", Usage: "`SENTENCE` with {key} and {value}, instead of the style's"},
			&cli.Uint64Flag{Name: "seed", Usage: "of all random numbers", Value: 1},
			&cli.BoolFlag{Name: "force", Usage: "replace OUT"},
		},
		Action: dataNeedle,
	}
}

func dataNeedle(c *cli.Context) error {
	if err := cmp.Or(noArgs(c), require(c, "tokenizer", "out"), needHaystack(c)); err != nil {
		return err
	}
	if c.Int("documents") < 1 {
		return usagef("--documents must be positive")
	}
	style, err := train.ParseNeedleStyle(c.String("style"))
	if err != nil {
		return usageError{err}
	}
	style.Template = cmp.Or(c.String("template"), style.Template)
	lesson := train.Lesson{Tokens: c.Int("tokens"), Keys: c.Int("keys"), Prose: c.Float64("prose"), Ask: c.Float64("ask")}
	if err := lesson.Validate(&style); err != nil {
		return usageError{err}
	}
	tok, err := tokenizer.Load(c.String("tokenizer"))
	if err != nil {
		return err
	}
	codec, err := data.NewCodec(tok, segment.Config{})
	if err != nil {
		return err
	}
	h, err := readHaystack(c, codec)
	if err != nil {
		return err
	}
	flag := os.O_CREATE | os.O_WRONLY | os.O_EXCL
	if c.Bool("force") {
		flag = os.O_CREATE | os.O_WRONLY | os.O_TRUNC
	}
	f, err := os.OpenFile(c.String("out"), flag, 0o666)
	if os.IsExist(err) {
		return fmt.Errorf("%s: exists (--force replaces it)", c.String("out"))
	}
	if err != nil {
		return err
	}
	defer f.Close()
	w := bufio.NewWriter(f)
	enc, count := json.NewEncoder(w), tokenCount(tok)
	enc.SetEscapeHTML(false)
	for i := range c.Int("documents") {
		text, err := style.Lesson(h, lesson, count, c.Uint64("seed")<<32+uint64(i))
		if err != nil {
			return err
		}
		if err := enc.Encode(map[string]string{"id": fmt.Sprintf("lesson-%d-%06d", c.Uint64("seed"), i), "content": text}); err != nil {
			return err
		}
	}
	return cmp.Or(w.Flush(), f.Close())
}

func needHaystack(c *cli.Context) error {
	if len(c.StringSlice("haystack")) == 0 {
		return usagef("--haystack is missing (%s --help)", c.Command.HelpName)
	}
	return nil
}

// tokenCount returns a counter of the tokens of short texts, which remembers them.
func tokenCount(tok data.Tokenizer) func(string) int {
	known := map[string]int{}
	return func(s string) int {
		n, ok := known[s]
		if !ok {
			ids, _ := tok.EncodeLens([]byte(s))
			n = len(ids)
			known[s] = n
		}
		return n
	}
}

// readHaystack cuts the texts named by --haystack into sentences.
func readHaystack(c *cli.Context, codec *data.Codec) (*train.Haystack, error) {
	var sentences []string
	var tokens []int
	for _, path := range c.StringSlice("haystack") {
		texts, err := haystackTexts(path, codec)
		if err != nil {
			return nil, err
		}
		for _, text := range texts {
			_, ts, bs := codec.Split([]byte(text))
			at := 0
			for i, n := range bs {
				sentences, tokens = append(sentences, text[at:at+int(n)]), append(tokens, int(ts[i]))
				at += int(n)
			}
		}
	}
	h, err := train.NewHaystack(sentences, tokens)
	if err != nil {
		return nil, fmt.Errorf("--haystack: %w", err)
	}
	return h, nil
}

// maxHaystack is how much of a text is read.
const maxHaystack = 64 << 20

// haystackTexts returns the documents of a folder of shards, or a plain text with all white space made single spaces.
func haystackTexts(path string, codec *data.Codec) ([]string, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	var texts []string
	if info.IsDir() {
		ds, err := data.Open(path)
		if err != nil {
			return nil, err
		}
		if got, want := ds.Meta().TokenizerFingerprint, codec.Tokenizer().Fingerprint(); got != want {
			return nil, fmt.Errorf("%s was built with another tokenizer than the model's (give the text itself)", path)
		}
		for d, err := range ds.Documents() {
			if err != nil {
				return nil, err
			}
			texts = append(texts, " "+strings.TrimSpace(string(codec.Decode(d.IDs))))
		}
		return texts, nil
	}
	switch strings.ToLower(filepath.Ext(path)) {
	case ".jsonl", ".json", ".ndjson", ".gz", ".tar":
		return nil, fmt.Errorf("%s is not plain text (svae data build makes shards of it, which are read here)", path)
	}
	if info.Size() > maxHaystack {
		return nil, fmt.Errorf("%s has %d bytes, more than the %d that are read (cut it)", path, info.Size(), maxHaystack)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	return append(texts, " "+strings.Join(strings.Fields(string(b)), " ")), nil
}
