package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"time"

	"svae/data"
	"svae/sllm"
	"svae/train"
	"svae/vae"
)

// report is what a demo found out: report.json.
type report struct {
	Scale   scale             `json:"scale"`
	Version string            `json:"version"`
	Machine string            `json:"machine"`
	GFLOPS  float64           `json:"gemm_gflops"`
	Seconds float64           `json:"seconds"`
	Train   data.Counts       `json:"train"`
	Heldout data.Counts       `json:"heldout"`
	Runs    []runReport       `json:"runs"`
	Recon   train.ReconResult `json:"reconstruction"`
	Scores  []train.Result    `json:"scores"`
	Speed   []speedReport     `json:"speed"`
	Runtime runtimeReport     `json:"runtime"`
	Gap     float64           `json:"sllm_over_base_continued"` // bits per byte, as a ratio minus 1
	Latents float64           `json:"lost_without_latents"`     // bits per byte
	Context float64           `json:"lost_in_short_pieces"`     // bits per byte that the base continued loses in pieces of two sentences
	Note    string            `json:"note,omitempty"`
}

type runReport struct {
	Name string `json:"name"`
	train.Summary
	Seconds float64 `json:"seconds"`
}

// speedReport is how fast a model wrote.
type speedReport struct {
	Model     string  `json:"model"`
	Tokens    int     `json:"tokens"`
	Seconds   float64 `json:"seconds"`
	TokensSec float64 `json:"tokens_per_second"`
	KVBytes   int64   `json:"kv_bytes"`
	KVPer     float64 `json:"kv_bytes_per_token"` // of prompt and text written
	Text      string  `json:"text"`
}

// latentsEarn is how many bits per byte the latents must be worth, else the report says that they are not.
const latentsEarn = 0.02

// measure scores all models on the same held-out bytes.
func (d *demoRun) measure() error {
	cfg := train.EvalConfig{Sentences: 20, BatchTokens: 2048, MaxBytes: d.scale.MaxBytes, Seed: 1}
	d.say("Score on the chapters held out: bits per byte, everything counted (lower is better)")
	limit := ""
	if cfg.MaxBytes > 0 {
		limit = fmt.Sprintf(" --max-bytes %d", cfg.MaxBytes)
	}
	d.command("eval ppl --model %s,%s,%s --data %s --floors %s --latents real,none,shuffled%s", d.path("base"), d.path("base-continued"), d.path("sllm"),
		d.path("shards", "heldout"), d.path("shards", "train"), limit)
	ds, err := data.Open(d.path("shards", "heldout"))
	if err != nil {
		return err
	}
	counted, err := data.Open(d.path("shards", "train"))
	if err != nil {
		return err
	}
	unigram, bigram, err := train.Floors(d.ctx, counted, ds, cfg)
	if err != nil {
		return err
	}
	rs := []train.Result{unigram, bigram}
	score := func(name, dir string, l sllm.Latents) (train.Result, error) {
		f, err := sllm.Load(d.path(dir), d.be)
		if err != nil {
			return train.Result{}, err
		}
		cfg.Latents = l
		r, err := train.Eval(d.ctx, f, ds, cfg)
		r.Model = name
		return r, err
	}
	for _, m := range []struct {
		name, dir string
		l         sllm.Latents
	}{{"base", "base", sllm.Real}, {"base continued", "base-continued", sllm.Real}, {"SLLM", "sllm", sllm.Real},
		{"SLLM without latents", "sllm", sllm.None}, {"SLLM with shuffled latents", "sllm", sllm.Shuffled}} {
		r, err := score(m.name, m.dir, m.l)
		if err != nil {
			return err
		}
		rs = append(rs, r)
	}
	d.report.Scores = rs
	cfg.Sentences = 2
	short, err := score("base continued", "base-continued", sllm.Real)
	if err != nil {
		return err
	}
	err = d.report.judge(bigram, rs[3], rs[4], rs[5], short)
	fmt.Fprint(d.w, d.table("  "))
	if err != nil {
		return errors.Join(d.save(), err)
	}
	if d.report.Note != "" {
		fmt.Fprintln(d.w, "  "+d.report.Note)
	}
	return nil
}

// judge compares the scores. It returns an error if the base continued is not below the bigram floor, for then no
// comparison with it means anything, and notes if the latents did not earn their place.
func (r *report) judge(bigram, continued, spliced, without, short train.Result) error {
	r.Gap = spliced.BPB/continued.BPB - 1
	r.Latents = without.BPB - spliced.BPB
	r.Context = short.BPB - continued.BPB
	if continued.BPB >= bigram.BPB {
		r.Note = fmt.Sprintf("The base continued (%.4f bits per byte) is not below the bigram floor (%.4f): no comparison with it means anything.", continued.BPB, bigram.BPB)
		return errors.New(strings.TrimSuffix(r.Note, "."))
	}
	if r.Latents < latentsEarn {
		r.Note = fmt.Sprintf("The latents did not earn their place: without them the SLLM loses only %.4f bits per byte.", r.Latents)
	}
	return nil
}

// table lists the scores.
func (d *demoRun) table(indent string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s%-28s %12s  %-17s %10s %9s\n", indent, "", "bits/byte", "95 %", "of it stop", "PPL")
	for _, r := range d.report.Scores {
		fmt.Fprintf(&b, "%s%-28s %12.4f  %.4f - %.4f %10.4f %9.2f\n", indent, r.Model, r.BPB, r.Low, r.High, r.BPBStops+r.BPBEnds, r.PPL)
	}
	g := d.report
	fmt.Fprintf(&b, "%sSLLM against the base continued: %+.1f %%. Without its latents it loses %.4f bits per byte.\n%sIn pieces of two sentences (--sentences 2) the base continued loses %.4f: about what there is to carry.\n",
		indent, 100*g.Gap, g.Latents, indent, g.Context)
	return b.String()
}

// write measures how fast base and SLLM write, and shows both continuing the same prompt.
func (d *demoRun) write() error {
	d.say("Write: the base continued token by token, the SLLM sentence by sentence, from the same prompt")
	text, err := d.chapter(300)
	if err == nil {
		err = os.WriteFile(d.path("prompt.txt"), []byte(text), 0o666)
	}
	if err != nil {
		return err
	}
	for _, name := range []string{"base-continued", "sllm"} {
		d.command("generate --model %s --in %s --temperature 0.8 --max-tokens %d --ignore-stop --stats   # best of three", d.path(name), d.path("prompt.txt"), d.scale.Write)
	}
	gens := map[string]*generator{}
	for _, name := range []string{"base-continued", "sllm"} {
		if gens[name], err = newGenerator(d.path(name), d.be); err != nil {
			return err
		}
	}
	best := map[string]speedReport{}
	for range 3 { // in turn, so that both meet the same machine
		for _, name := range []string{"base-continued", "sllm"} {
			r, err := gens[name].run(d.ctx, text, vae.Sampling{Temperature: 0.8, Seed: 1}, limits{tokens: d.scale.Write, ignoreStop: true}, io.Discard)
			if err != nil {
				return err
			}
			s := speedReport{Model: name, Tokens: r.Tokens, Seconds: r.Decode.Seconds(), TokensSec: float64(r.Tokens) / r.Decode.Seconds(),
				KVBytes: r.KVBytes, KVPer: float64(r.KVBytes) / float64(r.Tokens+r.Prompt)}
			if s.TokensSec > best[name].TokensSec {
				best[name] = s
			}
		}
	}
	for _, name := range []string{"base-continued", "sllm"} {
		s := best[name]
		var b strings.Builder
		d.command("generate --model %s --temperature 0.8 --max-tokens 80 --echo --prompt %q", d.path(name), demoPrompt)
		if _, err := gens[name].run(d.ctx, demoPrompt, vae.Sampling{Temperature: 0.8, Seed: 1}, limits{tokens: 80}, &b); err != nil {
			return err
		}
		s.Text = b.String()
		fmt.Fprintf(d.w, "  %s%s\n", demoPrompt, strings.ReplaceAll(s.Text, "\n", "\n  "))
		d.report.Speed = append(d.report.Speed, s)
	}
	fmt.Fprint(d.w, d.speeds("  "))
	return nil
}

func (d *demoRun) speeds(indent string) string {
	var b strings.Builder
	for _, s := range d.report.Speed {
		fmt.Fprintf(&b, "%s%-15s %6.0f tokens/s, %7.1f bytes of keys and values a token of text\n", indent, s.Model, s.TokensSec, s.KVPer)
	}
	if s := d.report.Speed; len(s) == 2 {
		fmt.Fprintf(&b, "%sThe SLLM writes %.2f times as fast and keeps 1/%.1f of the keys and values.\n", indent, s[1].TokensSec/s[0].TokensSec, s[0].KVPer/s[1].KVPer)
	}
	return b.String()
}

// chapter returns the first tokens of the first held-out chapter that is long enough.
func (d *demoRun) chapter(tokens int) (string, error) {
	f, err := sllm.ReadConfig(d.path("sllm"))
	if err != nil {
		return "", err
	}
	ds, codec, err := d.heldout(f)
	if err != nil {
		return "", err
	}
	for doc, err := range ds.Documents() {
		if err != nil {
			return "", err
		}
		if len(doc.IDs) > tokens {
			return string(codec.Decode(doc.IDs[:tokens])), nil
		}
	}
	return demoPrompt, nil
}

// finish writes the report and says what to do next.
func (d *demoRun) finish() error {
	if err := d.save(); err != nil {
		return err
	}
	d.say("Done. The report is %s, the losses %s. With your own text and a Hugging Face folder (%s):", d.path("report.md"), d.path("losses.png"), strings.Join(vae.Families, ", "))
	d.command("convert HF_FOLDER my-base")
	d.command("data build --tokenizer my-base --holdout 0.05 --out my-shards TEXT...")
	d.command("train sllm --base my-base --data my-shards/train --out my-sllm")
	return nil
}

// save writes the report and the plot.
func (d *demoRun) save() error {
	r := &d.report
	r.Scale, r.Seconds = d.scale, time.Since(d.begin).Seconds()
	r.Version = version()
	r.Machine = fmt.Sprintf("%s/%s, %d cores", runtime.GOOS, runtime.GOARCH, runtime.NumCPU())
	b, err := json.MarshalIndent(r, "", "  ")
	if err == nil {
		err = os.WriteFile(d.path("report.json"), append(b, '\n'), 0o666)
	}
	if err == nil {
		err = os.WriteFile(d.path("report.md"), []byte(d.markdown()), 0o666)
	}
	if err == nil {
		err = plotLosses(d.path("losses.png"), d.dir, []string{"vae", "base-continued", "sllm"})
	}
	return err
}

// markdown returns report.md.
func (d *demoRun) markdown() string {
	r := &d.report
	var b strings.Builder
	if r.Note != "" {
		fmt.Fprintf(&b, "**%s**\n\n", r.Note)
	}
	fmt.Fprintf(&b, "# svae demo, scale %s\n\nsvae %s, %s, %.0f GFLOP/s, %.0f seconds in all.\n\n", r.Scale.Name, r.Version, r.Machine, r.GFLOPS, r.Seconds)
	fmt.Fprintf(&b, "Held-out chapters of Moby-Dick: %d tokens, %d bytes. Pieces of 20 sentences, each from a cold start.\n\n", r.Heldout.Tokens, r.Heldout.Bytes)
	fmt.Fprintf(&b, "```\n%s```\n\n## Autoencoder\n\nSentences that come back exactly, written freely:\n\n| tokens | sentences | exact |\n|---|---:|---:|\n", d.table(""))
	for _, k := range append(r.Recon.Lengths, r.Recon.All) {
		if k.Sentences > 0 {
			fmt.Fprintf(&b, "| %s | %d | %.1f %% |\n", k.Tokens, k.Sentences, 100*k.Share)
		}
	}
	fmt.Fprintf(&b, "\n## Writing\n\n```\n%s```\n\n## One long prompt\n\n```\n%s```\n", d.speeds(""), d.pasts(""))
	for _, s := range r.Speed {
		fmt.Fprintf(&b, "\n%s:\n\n> **%s** %s\n", s.Model, demoPrompt, strings.ReplaceAll(strings.TrimSpace(s.Text), "\n", "\n> "))
	}
	fmt.Fprintf(&b, "\n![losses](losses.png)\n")
	return b.String()
}
