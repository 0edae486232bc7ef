package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"sort"
	"strings"
	"text/tabwriter"

	"github.com/urfave/cli/v2"

	"svae/checkpoints/convert"
	"svae/checkpoints/hub"
	"svae/sllm"
)

func convertCommand() *cli.Command {
	return &cli.Command{
		Name:      "convert",
		Usage:     "read a model in any format and write it as a model folder, PyTorch or GGUF",
		ArgsUsage: "SRC DST",
		Description: `SRC is a Hugging Face folder, a weight file (PyTorch .bin, .pt or .pth, safetensors, an index of shards, GGUF, llama2.c), a training
run, or hf:OWNER/NAME[/FILE][@REVISION] to download. What a file is, its content decides. The config and the tokenizer come from the
file or its folder. DST is a model folder, or a file that ends in .gguf or .pth; --format says otherwise.

Every weight is found and fits the config before writing begins, and stays in its own type unless --dtype names another
(in GGUF, norms and biases are f32). Examples:

   svae convert opt-125m base
   svae convert hf:HuggingFaceTB/SmolLM2-135M base
   svae convert model.gguf base --dtype bf16
   svae convert base base.gguf --dtype q8_0 --verify`,
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "format", Usage: "`FORMAT` of DST: " + strings.Join(convert.Formats, ", ") + " (by the name of DST)"},
			&cli.StringFlag{Name: "dtype", Usage: "`TYPE` of the weights: f32, f16, bf16; q8_0 in GGUF (as they are)"},
			&cli.StringFlag{Name: "tokenizer", Usage: "`PATH` of the tokenizer's folder or file, if it is not with SRC"},
			&cli.Int64Flag{Name: "shard-bytes", Value: 5_000_000_000, Usage: "most `BYTES` of one file of weights in a folder"},
			&cli.IntFlag{Name: "heads", Usage: "attention `HEADS` of a reference file, which does not say (by its hidden size)"},
			&cli.BoolFlag{Name: "dry-run", Usage: "print what would be read and written, and write nothing"},
			&cli.BoolFlag{Name: "verify", Usage: "read DST again and compare every weight"},
			&cli.BoolFlag{Name: "json", Usage: "print the plan of --dry-run as JSON"},
			&cli.BoolFlag{Name: "force", Usage: "replace DST"},
			&cli.BoolFlag{Name: "allow-nonfinite", Usage: "accept weights that are NaN or infinite"},
		},
		Action: convertModel,
	}
}

func convertModel(c *cli.Context) error {
	if c.NArg() != 2 {
		return usagef("want SRC and DST (svae convert SRC DST)")
	}
	t := convert.Target{Path: c.Args().Get(1), Format: convert.FormatOf(c.Args().Get(1)), DType: c.String("dtype"),
		ShardBytes: c.Int64("shard-bytes"), Force: c.Bool("force"), NonFinite: c.Bool("allow-nonfinite")}
	var err error
	if t.DType, err = convert.ParseDType(t.DType); err != nil {
		return usageError{err}
	}
	if f := c.String("format"); f != "" {
		t.Format = convert.Format(f)
	} else if ext := filepath.Ext(t.Path); ext == ".safetensors" || ext == ".bin" || ext == ".pt" {
		return usagef("%s: a folder is written in this format, with the config and the tokenizer (name a folder, and --format pytorch for .bin)", t.Path)
	}
	switch {
	case !slices.Contains(convert.Formats, string(t.Format)):
		return usagef("--format %q: want one of %s", t.Format, strings.Join(convert.Formats, ", "))
	case t.ShardBytes < 1:
		return usagef("--shard-bytes must be positive")
	case t.Format == convert.Reference && t.DType != "" && t.DType != "f32":
		return usagef("--dtype %s: reference files hold f32", t.DType)
	case c.Bool("json") && !c.Bool("dry-run"):
		return usagef("--json goes with --dry-run")
	}
	if err := t.Writable(); err != nil { // before a download
		return err
	}
	if hub.IsRef(c.Args().First()) && c.Bool("dry-run") {
		return listSource(c)
	}
	src, err := fetch(c, c.Args().First())
	if err != nil {
		return err
	}
	s, err := convert.Open(newest(src), convert.Options{Tokenizer: c.String("tokenizer"), Heads: c.Int("heads")})
	if err != nil {
		return err
	}
	defer s.Close()
	warn(c, s)
	p, err := s.Plan(t)
	if err == nil {
		err = p.Writable()
	}
	if err != nil {
		return err
	}
	if err := warnLosses(c, s.Folder, t.Format); err != nil {
		return err
	}
	if c.Bool("dry-run") {
		return printPlan(c, p)
	}
	b := newBar(c, "writing")
	if err := p.Write(c.Context, b.set); err != nil {
		return err
	}
	b.done()
	fmt.Fprintf(c.App.Writer, "%s: %s, %d tensors, %d bytes from %s\n", t.Path, familyOf(s.Folder), len(p.Moves), p.Bytes, strings.Join(baseNames(s.Weights.Files()), ", "))
	if c.Bool("verify") {
		n, err := p.Verify(c.Context)
		if err != nil {
			return err
		}
		as := ""
		if p.Rounded() {
			as = " to the source's as rounded to the types of " + t.Path
		}
		fmt.Fprintf(c.App.Writer, "verified: %d weights are equal%s\n", n, as)
	}
	return nil
}

// warnLosses says what the format cannot say of the model, though it holds all that is computed.
func warnLosses(c *cli.Context, f *sllm.Folder, to convert.Format) error {
	switch to {
	case convert.GGUF:
		lost, err := f.GGUFLostStops()
		if err != nil {
			return err
		}
		if len(lost) > 0 {
			fmt.Fprintf(c.App.ErrWriter, "warning: GGUF cannot name all tokens that end a text: %v are left out\n", lost)
		}
	case convert.Reference:
		if n := sllm.ReferenceHeads(f); n > 0 {
			fmt.Fprintf(c.App.ErrWriter, "warning: the format does not say how many attention heads there are: svae convert reads it again with --heads %d\n", n)
		}
	}
	return nil
}

// fetch downloads a source that lies on a hub; any other path stays what it is. A model that is not known is refused before
// its weights are downloaded.
func fetch(c *cli.Context, src string) (string, error) {
	if !hub.IsRef(src) {
		_, err := os.Stat(src)
		switch {
		case errors.Is(err, fs.ErrNotExist) && hubName.MatchString(src):
			return "", fmt.Errorf("%s: no such file or folder (%s%s would download it)", src, hub.Prefix, src)
		case errors.Is(err, fs.ErrNotExist):
			return "", fmt.Errorf("%s: no such file or folder", src)
		}
		return src, nil
	}
	b := newBar(c, "downloading")
	defer b.done()
	return hub.Fetch(c.Context, src, hub.Options{Check: known, Progress: func(_ string, done, total int64) { b.set(done, total) }})
}

// hubName matches what may be a repository on a hub.
var hubName = regexp.MustCompile(`^[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*$`)

// known refuses the folder of a model whose config.json this program cannot run.
func known(dir string) error {
	_, err := sllm.ReadConfig(dir)
	return err
}

// listSource prints what would be downloaded. What would be written the weights' headers say, which are not there yet.
func listSource(c *cli.Context) error {
	files, err := hub.List(c.Context, c.Args().First(), hub.Options{Check: known})
	if err != nil {
		return err
	}
	type file struct {
		Name   string `json:"name"`
		Bytes  int64  `json:"bytes"`
		Cached int64  `json:"cached"`
	}
	var list []file
	var bytes, left int64
	for _, f := range files {
		list = append(list, file{f.Name, f.Size, f.Cached})
		bytes, left = bytes+f.Size, left+f.Size-f.Cached
	}
	if c.Bool("json") {
		return printJSON(c, map[string]any{"source": c.Args().First(), "files": list, "bytes": bytes, "to_download": left})
	}
	tw := tabwriter.NewWriter(c.App.Writer, 0, 0, 2, ' ', 0)
	fmt.Fprintf(tw, "FILE\tBYTES\tIN THE CACHE\n")
	for _, f := range list {
		fmt.Fprintf(tw, "%s\t%d\t%d\n", printable(f.Name), f.Bytes, f.Cached)
	}
	if err := tw.Flush(); err != nil {
		return err
	}
	_, err = fmt.Fprintf(c.App.Writer, "would download %d of %d bytes; once they are there, --dry-run says what would be written\n", left, bytes)
	return err
}

// warn says what a reader of the source should know.
func warn(c *cli.Context, s *convert.Source) {
	say := func(format string, a ...any) { fmt.Fprintf(c.App.ErrWriter, "warning: "+format+"\n", a...) }
	if ids, vocab := s.Tokenizer.VocabSize(), s.Folder.Arch().VocabSize; ids < vocab*9/10 {
		say("the tokenizer has %d ids for a vocabulary of %d: is it this model's?", ids, vocab)
	}
	warnAbout(c, s.Folder)
	if skipped := s.Weights.Opaque(); len(skipped) > 0 {
		say("skipped %d values that are not tensors, such as %s", len(skipped), skipped[0])
	}
}

// familyOf names what a model is.
func familyOf(f *sllm.Folder) string {
	if f.Kind == sllm.KindLM {
		return f.Arch().ModelType
	}
	return fmt.Sprintf("%s over %s", f.Kind, f.Arch().ModelType)
}

func printPlan(c *cli.Context, p *convert.Plan) error {
	s := p.Source
	files := make([]string, 0, len(p.Files))
	for name := range p.Files {
		files = append(files, name)
	}
	sort.Strings(files)
	if c.Bool("json") {
		return printJSON(c, struct {
			Source string         `json:"source"`
			Read   string         `json:"read_format"`
			Family string         `json:"family"`
			Files  []string       `json:"files"`
			Target string         `json:"target"`
			Write  convert.Format `json:"write_format"`
			Moves  []convert.Move `json:"tensors"`
			Beside []string       `json:"other_files"`
			Bytes  int64          `json:"bytes"`
			Memory int64          `json:"memory"`
		}{s.Path, s.Weights.Format(), familyOf(s.Folder), s.Weights.Files(), p.Target.Path, p.Target.Format, p.Moves, files, p.Bytes, p.Memory})
	}
	w := c.App.Writer
	fmt.Fprintf(w, "would read  %s: %s, %s, %s\n", s.Path, s.Weights.Format(), familyOf(s.Folder), strings.Join(baseNames(s.Weights.Files()), ", "))
	fmt.Fprintf(w, "would write %s: %s, %d tensors, %d bytes, with about %d MB of memory\n", p.Target.Path, p.Target.Format, len(p.Moves), p.Bytes, p.Memory>>20)
	if len(files) > 0 {
		fmt.Fprintf(w, "and beside it %s\n", strings.Join(files, ", "))
	}
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(tw, "FROM\tTYPE\tTO\tTYPE\tSHAPE\tBYTES\n")
	for _, m := range p.Moves {
		to := m.Name
		if len(m.From) == 1 && m.From[0] == to {
			to = "(same)"
		}
		fmt.Fprintf(tw, "%s\t%s\t%s\t%s\t%v\t%d\n", printable(strings.Join(m.From, " + ")), m.FromType, printable(to), m.Type, m.Shape, m.Bytes)
	}
	return tw.Flush()
}

// convertFolder writes the model of a source as a model folder.
func convertFolder(ctx context.Context, src, dst string) error {
	s, err := convert.Open(newest(src), convert.Options{})
	if err != nil {
		return err
	}
	defer s.Close()
	p, err := s.Plan(convert.Target{Path: dst, Format: convert.Folder})
	if err != nil {
		return err
	}
	return p.Write(ctx, nil)
}

func baseNames(files []string) []string {
	out := slices.Clone(files)
	for i := range out {
		out[i] = filepath.Base(out[i])
	}
	return out
}
