package main

import (
	"fmt"
	"io"
	"math"
	"os"
	"strings"
	"time"

	"svae/data"
	"svae/kernels/kv"
	"svae/sllm"
	"svae/train"
)

// runtimeReport is what the demo's bundle is like, and what its base reads of a long prompt.
type runtimeReport struct {
	Bytes  int64         `json:"bundle_bytes"`
	Shared int64         `json:"shared_bytes"`
	Open   time.Duration `json:"open_ns"`
	Prompt int           `json:"prompt_tokens"`
	Scored int           `json:"scored_tokens"`
	Past   []pastReport  `json:"past"`
}

// pastReport is one way to read the past.
type pastReport struct {
	KV     string  `json:"kv"`
	Budget string  `json:"budget"`
	Nats   float64 `json:"nats_per_token"`
	Bytes  float64 `json:"kv_bytes_per_token"` // read, in all layers, those read in order to choose included
	MS     float64 `json:"ms_per_token"`       // when writing
}

// Sizes of the long prompt: the base has 1,024 positions.
const (
	demoLong   = 832
	demoScored = 128
)

// runtime exports both models and lets the base continue a long prompt, reading all of its past or a tenth.
func (d *demoRun) runtime() error {
	bundle := d.path("bundle")
	d.say("Export the SLLM and its base as one bundle of int8 weights")
	d.command("export --model %s --with-base %s --dtype int8 --out %s", d.path("sllm"), d.path("base-continued"), bundle)
	x, err := sllm.Export(d.ctx, bundle, sllm.ExportOptions{Model: d.path("sllm"), Base: d.path("base-continued"), DType: "int8"})
	if err != nil {
		return err
	}
	begin := time.Now()
	b, err := sllm.OpenBundle(bundle, d.be)
	if err != nil {
		return err
	}
	defer b.Close()
	r := &d.report.Runtime
	r.Bytes, r.Shared, r.Open = x.Bytes, x.Shared, time.Since(begin)
	fmt.Fprintf(d.w, "  %.1f MB for both, %.1f MB of equal tensors stored once; opened, every byte checked, in %.0f ms\n", float64(r.Bytes)/1e6,
		float64(r.Shared)/1e6, float64(r.Open.Microseconds())/1e3)
	base := b.Models[len(b.Models)-1]
	ways := []sllm.KVOptions{{Policy: "dense", Budget: kv.Budget{Exact: true}}, {Policy: "ours", Budget: kv.Budget{Percent: 10}}}
	d.say("One long prompt, a chapter held out, to the base: all of the past read for each token, or the sentences that matter")
	if err := d.readPast(base, ways); err != nil {
		return err
	}
	if err := d.writePast(base, ways); err != nil {
		return err
	}
	fmt.Fprint(d.w, d.pasts("  "))
	return nil
}

// readPast scores the tokens behind the prompt.
func (d *demoRun) readPast(base *sllm.Folder, ways []sllm.KVOptions) error {
	ds, err := data.Open(d.path("shards", "heldout"))
	if err != nil {
		return err
	}
	c := train.PPLKVConfig{EvalConfig: train.EvalConfig{PieceTokens: demoLong + demoScored + 2, BatchTokens: 1, Seed: 1, MaxBytes: 1},
		Ways: ways[1:], Prefill: demoLong, MaxStep: demoScored}
	d.command("eval ppl --model %s --data %s --kv ours --kv-budget 10%% --piece-tokens %d --kv-prefill %d --kv-steps %d --max-bytes %d", base.Path,
		d.path("shards", "heldout"), c.PieceTokens, demoLong, demoScored, c.MaxBytes)
	res, err := train.PPLKV(d.ctx, base, ds, c)
	if err != nil {
		return err
	}
	r := &d.report.Runtime
	r.Scored = res.Tokens
	for _, row := range res.Rows {
		r.Past = append(r.Past, pastReport{KV: row.Policy, Budget: row.Budget, Nats: math.Log(row.PPL), Bytes: row.KVBytes + row.IndexBytes})
	}
	return nil
}

// writePast measures how fast the base writes behind the prompt: the best of three, in turn.
func (d *demoRun) writePast(base *sllm.Folder, ways []sllm.KVOptions) error {
	text, err := d.chapter(demoLong)
	if err == nil {
		err = os.WriteFile(d.path("long.txt"), []byte(text), 0o666)
	}
	if err != nil {
		return err
	}
	r := &d.report.Runtime
	gens := make([]*generator, len(ways))
	for i, w := range ways {
		budget := ""
		if w.Policy != "dense" {
			budget = " --kv-budget " + w.Budget.String()
		}
		d.command("generate --model %s --in %s --kv %s%s --max-tokens 64 --ignore-stop --stats   # best of three", base.Path, d.path("long.txt"), w.Policy, budget)
		if gens[i], err = generatorOf(base); err != nil {
			return err
		}
		discard, err := gens[i].keepBy(&w, d.be)
		if err != nil {
			return err
		}
		defer discard()
	}
	for range 3 {
		for i, g := range gens {
			res, err := g.run(d.ctx, text, demoGreedy, limits{tokens: 64, ignoreStop: true}, io.Discard)
			if err != nil {
				return err
			}
			r.Prompt = res.Prompt
			if ms := res.Decode.Seconds() * 1e3 / float64(res.Tokens); r.Past[i].MS == 0 || ms < r.Past[i].MS {
				r.Past[i].MS = ms
			}
		}
	}
	return nil
}

// pasts lists the ways to read the past.
func (d *demoRun) pasts(indent string) string {
	r := d.report.Runtime
	var b strings.Builder
	for _, p := range r.Past {
		name := "all of the past"
		if p.KV != "dense" {
			name = p.KV + ", " + p.Budget
		}
		fmt.Fprintf(&b, "%s%-16s %.4f nats a token, %7.0f bytes of the past read for each, %.3f ms a token\n", indent, name, p.Nats, p.Bytes, p.MS)
	}
	fmt.Fprintf(&b, "%s%d tokens scored behind %d. Time is won only behind longer texts: svae bench kv shows where.\n", indent, r.Scored, r.Prompt)
	return b.String()
}
