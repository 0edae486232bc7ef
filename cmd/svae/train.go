package main

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"svae/kernels"
	"svae/sllm"
	"svae/train"
)

func trainCommand() *cli.Command {
	stage := func(s train.Stage, usage, example string) *cli.Command {
		return &cli.Command{Name: string(s), Usage: usage, Description: "Example:\n\n   " + example +
			"\n\nA flag overrides the file given with --config, which overrides the preset. The run's folder holds config.toml, metrics.jsonl\n" +
			"and checkpoints, each of them a model folder. Ctrl-C saves and exits with 130; --resume goes on, to the bit.",
			Flags: trainFlags(s), Action: func(c *cli.Context) error { return trainRun(c, s) }}
	}
	return &cli.Command{Name: "train", Usage: "train an autoencoder, a token-level or a sentence-level model", Subcommands: []*cli.Command{
		stage(train.VAE, "train a sentence autoencoder that starts from a base", "svae train vae --base base --data shards/train --out run-vae --steps 500"),
		stage(train.LM, "train a token-level model, or continue one", "svae train lm --base base --data shards/train --out run-lm --steps 500"),
		stage(train.SLLM, "splice encoder and decoder into a base and train the sentence-level model",
			"svae train sllm --base base --data shards/train --out run-sllm --steps 500"),
	}}
}

// fields visits every value of a configuration that has a flag in its stage.
func fields(c *train.Config, f func(flag, help string, v reflect.Value)) {
	var walk func(v reflect.Value)
	walk = func(v reflect.Value) {
		for i := range v.NumField() {
			tag := v.Type().Field(i).Tag
			if v.Field(i).Kind() == reflect.Struct {
				walk(v.Field(i))
			} else if name := tag.Get("flag"); name != "" && (tag.Get("stages") == "" || slices.Contains(strings.Fields(tag.Get("stages")), string(c.Stage))) {
				f(name, valueName.ReplaceAllString(tag.Get("help"), "`$1`"), v.Field(i))
			}
		}
	}
	walk(reflect.ValueOf(c).Elem())
}

// valueName matches a word that stands for a flag's value. Struct tags cannot hold the backticks that package cli wants.
var valueName = regexp.MustCompile("'([A-Z]+)'")

func trainFlags(s train.Stage) []cli.Flag {
	flags := []cli.Flag{
		&cli.StringFlag{Name: "config", Usage: "TOML `FILE` with any of these values, as a run's config.toml, or a YAML file of the SentenceVAE reference code"},
		&cli.StringFlag{Name: "device", Usage: "cpu or cuda", Value: "cpu"},
	}
	c := train.Default(s)
	fields(&c, func(name, help string, v reflect.Value) {
		switch v.Kind() {
		case reflect.String:
			flags = append(flags, &cli.StringFlag{Name: name, Usage: help, DefaultText: v.String()})
		case reflect.Bool:
			flags = append(flags, &cli.BoolFlag{Name: name, Usage: help})
		case reflect.Int:
			flags = append(flags, &cli.IntFlag{Name: name, Usage: help, DefaultText: fmt.Sprint(v)})
		case reflect.Uint64:
			flags = append(flags, &cli.Uint64Flag{Name: name, Usage: help, DefaultText: fmt.Sprint(v)})
		case reflect.Float64:
			flags = append(flags, &cli.Float64Flag{Name: name, Usage: help, DefaultText: fmt.Sprint(v)})
		}
	})
	return flags
}

// trainConfig resolves flags over file over preset over default.
func trainConfig(c *cli.Context, s train.Stage) (train.Config, error) {
	cfg := train.Default(s)
	file := c.String("config")
	if file == "" && c.Bool("resume") { // what the run was begun with need not be said again
		if path := filepath.Join(c.String("out"), "config.toml"); exists(path) {
			file = path
		}
	}
	text, err := configText(c, file)
	if err != nil {
		return cfg, err
	}
	if err := cfg.ReadText(file, text); err != nil {
		return cfg, err
	}
	preset := cfg.Preset
	if c.IsSet("preset") {
		preset = c.String("preset")
	}
	cfg = train.Default(s)
	if err := cfg.Apply(preset); err != nil {
		return cfg, usageError{err}
	}
	if err := cfg.ReadText(file, text); err != nil {
		return cfg, err
	}
	if cfg.Stage != s {
		return cfg, usagef("%s is of svae train %s, not %s", file, cfg.Stage, s)
	}
	fields(&cfg, func(name, _ string, v reflect.Value) {
		if c.IsSet(name) {
			v.Set(reflect.ValueOf(c.Value(name)).Convert(v.Type()))
		}
	})
	for _, name := range []string{"hidden-size", "layers", "heads", "kv-heads", "ffn", "positions"} {
		if s == train.LM && cfg.Base != "" && c.IsSet(name) {
			return cfg, usagef("--%s is for a model from scratch; with --base it is the base's", name)
		}
	}
	if err := cfg.Validate(); err != nil {
		return cfg, usageError{err}
	}
	return cfg, nil
}

// configText reads a configuration: TOML, or the YAML of the SentenceVAE reference code, whose keys become ours.
func configText(c *cli.Context, file string) (string, error) {
	if file == "" {
		return "", nil
	}
	if ext := strings.ToLower(filepath.Ext(file)); ext != ".yaml" && ext != ".yml" {
		b, err := os.ReadFile(file)
		return string(b), err
	}
	m, err := sllm.ReadYAML(file)
	if err != nil {
		return "", err
	}
	text, unused, err := sllm.ReferenceRun(m)
	if err != nil {
		return "", fmt.Errorf("%s: %w", file, err)
	}
	if len(unused) > 0 {
		fmt.Fprintf(c.App.ErrWriter, "warning: %s: no use is made of %s\n", file, strings.Join(unused, ", "))
	}
	return text, nil
}

func trainRun(c *cli.Context, s train.Stage) error {
	if err := noArgs(c); err != nil {
		return err
	}
	cfg, err := trainConfig(c, s)
	if err != nil {
		return err
	}
	be, err := kernels.Open(c.String("device"))
	if err != nil {
		return err
	}
	sum, err := train.Run(c.Context, cfg, be, c.App.ErrWriter)
	if err != nil {
		return err
	}
	fmt.Fprintf(c.App.Writer, "%d steps, %d tokens, loss %.3f nats/token, %d weights, %s: %s\n", sum.Steps, sum.Tokens, sum.Loss, sum.Weights,
		sum.Elapsed.Round(time.Second), sum.Model)
	return nil
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
