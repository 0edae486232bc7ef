// Command svae trains, converts, measures and runs sentence-level language models.
package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"syscall"

	"github.com/urfave/cli/v2"

	_ "svae/kernels/cpu"
	_ "svae/kernels/cuda"
	"svae/train"
)

// Exit codes.
const (
	exitFailed      = 1
	exitUsage       = 2
	exitInterrupted = 130
)

// usageError is a wrong command line: exit code 2.
type usageError struct{ error }

func usagef(format string, a ...any) error { return usageError{fmt.Errorf(format, a...)} }

func main() { os.Exit(run(os.Args, os.Stdout, os.Stderr)) }

// run is main without the exit: it returns the exit code.
func run(args []string, stdout, stderr io.Writer) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	go func() { // a second signal ends the process at once
		<-ctx.Done()
		stop()
	}()
	app := newApp(stdout, stderr)
	err := app.RunContext(ctx, reorder(app, args))
	if err == nil {
		return 0
	}
	text := strings.ReplaceAll(strings.TrimSpace(err.Error()), "\n", "; ")
	if errors.Is(err, context.Canceled) {
		text = "interrupted"
	}
	fmt.Fprintf(stderr, "svae: %s\n", printable(text))
	var usage usageError
	switch {
	case errors.As(err, &usage):
		return exitUsage
	case errors.Is(err, train.ErrInterrupted) || errors.Is(err, context.Canceled):
		return exitInterrupted
	}
	return exitFailed
}

func newApp(stdout, stderr io.Writer) *cli.App {
	app := &cli.App{
		Name:    "svae",
		Version: version(),
		Usage:   "sentence-level language models: train, convert, measure, generate",
		Description: `Start with the demo, which needs nothing but this program:

   svae demo

or with your own text and a Hugging Face folder:

   svae convert HF_FOLDER base
   svae data build --tokenizer base --holdout 0.05 --out shards TEXT...
   svae train sllm --base base --data shards/train --out run
   svae eval ppl --model base,run --data shards/heldout
   svae generate --model run --prompt "Once upon a time"`,
		Writer: stdout, ErrWriter: stderr,
		EnableBashCompletion: true,
		ExitErrHandler:       func(*cli.Context, error) {},
		CommandNotFound:      nil,
		Commands:             []*cli.Command{dataCommand(), trainCommand(), convertCommand(), generateCommand(), evalCommand(), exportCommand(), inspectCommand(), serveCommand(), benchCommand(), demoCommand()},
		Action: func(c *cli.Context) error {
			if c.Args().Present() {
				return usagef("no command %q (svae --help lists them)", c.Args().First())
			}
			return cli.ShowAppHelp(c)
		},
	}
	app.OnUsageError = onUsageError
	var walk func([]*cli.Command)
	walk = func(cs []*cli.Command) {
		for _, c := range cs {
			c.OnUsageError = onUsageError
			c.HideHelpCommand = true
			if c.Subcommands != nil {
				name := c.FullName()
				c.Action = func(c *cli.Context) error {
					if c.Args().Present() {
						return usagef("no command %q in svae %s (svae %s --help lists them)", c.Args().First(), name, name)
					}
					return cli.ShowSubcommandHelp(c)
				}
			}
			walk(c.Subcommands)
		}
	}
	walk(app.Commands)
	return app
}

// version names the commit that the binary was built from, where the build recorded it.
func version() string {
	v := "devel"
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" {
				v = s.Value[:min(12, len(s.Value))]
			}
		}
	}
	return v
}

func onUsageError(c *cli.Context, err error, _ bool) error {
	return usageError{fmt.Errorf("%w (%s --help)", err, cmp.Or(c.Command.HelpName, "svae"))}
}

// reorder moves flags before arguments, where the flag package looks for them. Everything behind "--" is an argument.
func reorder(app *cli.App, args []string) []string {
	if len(args) < 2 {
		return args
	}
	head, rest := args[:1:1], args[1:]
	flags, commands := app.Flags, app.Commands
	for len(rest) > 0 {
		c := find(commands, rest[0])
		if c == nil {
			break
		}
		head, rest = append(head, rest[0]), rest[1:]
		flags, commands = c.Flags, c.Subcommands
	}
	if commands != nil && len(head) == 1 {
		return args
	}
	valued := map[string]bool{}
	for _, f := range flags {
		_, isBool := f.(*cli.BoolFlag)
		for _, n := range f.Names() {
			valued[n] = !isBool
		}
	}
	var plain []string
	for i := 0; i < len(rest); i++ {
		a := rest[i]
		if a == "--" {
			plain = append(plain, rest[i+1:]...)
			break
		}
		if a == "--help" || a == "-h" {
			return append(head, a)
		}
		if len(a) < 2 || a[0] != '-' {
			plain = append(plain, a)
			continue
		}
		head = append(head, a)
		if name := strings.TrimLeft(a, "-"); valued[name] && i+1 < len(rest) {
			i++
			head = append(head, rest[i])
		}
	}
	if len(plain) > 0 {
		head = append(append(head, "--"), plain...)
	}
	return head
}

func find(cs []*cli.Command, name string) *cli.Command {
	for _, c := range cs {
		if c.HasName(name) {
			return c
		}
	}
	return nil
}

// noArgs refuses arguments where a command takes none.
func noArgs(c *cli.Context) error {
	if c.Args().Present() {
		return usagef("unexpected argument %q (%s --help)", c.Args().First(), c.Command.HelpName)
	}
	return nil
}

// require refuses a command line that lacks one of these flags.
func require(c *cli.Context, names ...string) error {
	for _, n := range names {
		if c.String(n) == "" {
			return usagef("--%s is missing (%s --help)", n, c.Command.HelpName)
		}
	}
	return nil
}
