package main

import (
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"

	"svae/kernels"
	"svae/kernels/kv"
	"svae/sllm"
)

// kvFlags are the flags of commands that keep the past of a token-level model. The parameters of a policy are its defaults.
func kvFlags() []cli.Flag {
	return append(kvListFlags("", ""),
		&cli.StringFlag{Name: "kv-ram", Usage: "`BYTES` of keys and values in memory, such as 512M or 2G; the others lie in a file (default: no limit)"},
		&cli.StringFlag{Name: "kv-prefix", Usage: "`BYTES` of keys and values remembered for prompts that begin alike (default: none)"})
}

// kvListFlags are the flags of commands that compare policies and budgets, separated by commas.
func kvListFlags(policies, budgets string) []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "kv", Usage: "`POLICY` that chooses what a token-level model reads of its past: " + strings.Join(kv.Policies, ", "), Value: policies},
		&cli.StringFlag{Name: "kv-budget", Usage: "what it may read: `N` rows, P%, bounded:EPS or exact", Value: budgets},
		&cli.StringFlag{Name: "kv-type", Usage: "keep keys and values in `TYPE` f32, bf16 or int8", Value: "f32"},
	}
}

// kvOptions reads kvFlags; nil without --kv.
func kvOptions(c *cli.Context) (*sllm.KVOptions, error) {
	if c.String("kv") == "" {
		return nil, needKV(c)
	}
	list, err := kvList(c)
	if err != nil {
		return nil, err
	}
	if len(list) > 1 {
		return nil, usagef("--kv and --kv-budget take one value here")
	}
	o := list[0]
	if o.RAM, err = byteSize(c, "kv-ram"); err == nil {
		o.Prefix, err = byteSize(c, "kv-prefix")
	}
	return &o, err
}

// needKV refuses flags that mean nothing without --kv.
func needKV(c *cli.Context) error {
	for _, f := range c.Command.Flags {
		if name := f.Names()[0]; strings.HasPrefix(name, "kv-") && c.IsSet(name) {
			return usagef("--%s has no effect without --kv", name)
		}
	}
	return nil
}

// kvList reads kvListFlags: every policy under every budget; dense, which needs none, once.
func kvList(c *cli.Context) ([]sllm.KVOptions, error) {
	t, err := kv.ParseType(c.String("kv-type"))
	if err != nil {
		return nil, usageError{err}
	}
	var list []sllm.KVOptions
	for _, policy := range commaList(c.String("kv")) {
		if !slices.Contains(kv.Policies, policy) {
			return nil, usagef("--kv %q is not a policy (known: %s)", policy, strings.Join(kv.Policies, ", "))
		}
		if policy == "dense" {
			list = append(list, sllm.KVOptions{Policy: policy, Budget: kv.Budget{Exact: true}, Type: t})
			continue
		}
		budgets := commaList(c.String("kv-budget"))
		if len(budgets) == 0 {
			budgets = []string{"10%"}
		}
		for _, text := range budgets {
			b, err := kv.ParseBudget(text)
			if err != nil {
				return nil, usageError{err}
			}
			if b.Bounded && policy != "ours" {
				return nil, usagef("--kv %s has no bound for --kv-budget %s (ours has one)", policy, text)
			}
			list = append(list, sllm.KVOptions{Policy: policy, Budget: b, Type: t})
		}
	}
	if len(list) == 0 {
		return nil, usagef("--kv names no policy (known: %s)", strings.Join(kv.Policies, ", "))
	}
	return list, nil
}

// commaList returns the parts of a text between commas that are not blank.
func commaList(s string) []string {
	var list []string
	for _, p := range strings.Split(s, ",") {
		if p = strings.TrimSpace(p); p != "" {
			list = append(list, p)
		}
	}
	return list
}

// byteSize reads a flag that holds a number of bytes, with K, M, G or T for powers of 1024; 0 if it is not set.
func byteSize(c *cli.Context, name string) (int64, error) {
	text := strings.TrimSuffix(strings.TrimSuffix(strings.ToUpper(strings.TrimSpace(c.String(name))), "B"), "I")
	if text == "" && !c.IsSet(name) {
		return 0, nil
	}
	digits, shift := text, 0
	if i := strings.IndexAny(text, "KMGT"); i >= 0 && i == len(text)-1 {
		digits, shift = text[:i], 10*(1+strings.IndexByte("KMGT", text[i]))
	}
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || n < 1 || n > math.MaxInt64>>shift {
		return 0, usagef("--%s %q is not a number of bytes (such as 512M or 2G)", name, c.String(name))
	}
	return n << shift, nil
}

// keepBy makes a generator keep the past of its sequences as o says; nil leaves it as it is. The returned function gives
// the memory and the file back.
func (g *generator) keepBy(o *sllm.KVOptions, be kernels.Backend) (discard func() error, err error) {
	if o == nil {
		return func() error { return nil }, nil
	}
	f, arch := g.folder, &g.folder.LM
	switch {
	case f.Kind == sllm.KindSLLM: // a row is a sentence, 16 of them a segment
		arch, o.Segment = &f.SLLM.Base, 16
		if o.Prefix > 0 {
			return nil, usagef("--kv-prefix is for token-level models: %s reads a sentence that it knows from its own memory", f.Path)
		}
	case f.Kind != sllm.KindLM:
		return nil, usagef("--kv has no effect on an autoencoder, which keeps no past")
	}
	k, err := sllm.NewSentenceKV(arch, be, f.Path, *o) // nothing outlives the process: the path tells its models apart
	if err != nil {
		return nil, err
	}
	switch e := g.engine.(type) {
	case *sllm.LMEngine:
		e.Keeper = k
	case *sllm.Engine:
		e.Keeper = k
	}
	return k.Discard, nil
}

// printKVStats says what a request read of its past.
func printKVStats(w io.Writer, s *sllm.KVStats) {
	if s == nil {
		return
	}
	fmt.Fprintf(w, "past: %d rows in %d segments, %d bytes, %d of them in a file; %d rows taken over from an earlier request", s.Rows, s.Sentences,
		s.Bytes, s.FileBytes, s.Reused)
	if s.Steps > 0 {
		fmt.Fprintf(w, "; a token read %d bytes of it in all layers", s.Scanned/int64(s.Steps))
	}
	if n := s.Hits + s.Misses; n > 0 {
		fmt.Fprintf(w, "; %.1f %% of %d blocks lay in memory, %.1f ms waited for the file", 100*float64(s.Hits)/float64(n), n, float64(s.StallNs)/1e6)
	}
	fmt.Fprintln(w)
}
