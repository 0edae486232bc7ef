package main

import (
	"encoding/json"
	"os"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/schollz/progressbar/v3"
	"github.com/urfave/cli/v2"
	"golang.org/x/term"
)

// printJSON writes a value to stdout.
func printJSON(c *cli.Context, v any) error {
	e := json.NewEncoder(c.App.Writer)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

// printable returns text from a file or a server with everything escaped that is not a printing character, so that it cannot
// steer a terminal.
func printable(s string) string {
	if !strings.ContainsFunc(s, func(r rune) bool { return !strconv.IsPrint(r) || r == utf8.RuneError }) {
		return s
	}
	q := strconv.Quote(s)
	return q[1 : len(q)-1]
}

// terminal says that people read what is written to the error stream.
func terminal(c *cli.Context) bool {
	f, ok := c.App.ErrWriter.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// bar is a progress bar, shown only on a terminal.
type bar struct {
	c     *cli.Context
	title string
	bytes bool
	p     *progressbar.ProgressBar
}

// newBar returns the bar of what is counted in bytes.
func newBar(c *cli.Context, title string) *bar { return &bar{c: c, title: title, bytes: true} }

// newCountBar returns the bar of what is counted by pieces.
func newCountBar(c *cli.Context, title string) *bar { return &bar{c: c, title: title} }

func (b *bar) set(done, total int64) {
	if !terminal(b.c) {
		return
	}
	if b.p == nil {
		b.p = progressbar.NewOptions64(total, progressbar.OptionSetWriter(b.c.App.ErrWriter), progressbar.OptionSetDescription(b.title),
			progressbar.OptionShowBytes(b.bytes), progressbar.OptionShowCount(), progressbar.OptionThrottle(100*time.Millisecond),
			progressbar.OptionClearOnFinish())
	}
	b.p.Set64(done)
}

func (b *bar) done() {
	if b.p != nil {
		b.p.Finish()
	}
}
