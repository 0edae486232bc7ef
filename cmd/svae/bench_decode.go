package main

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"text/tabwriter"
	"time"
	"unsafe"

	"github.com/urfave/cli/v2"

	"svae/kernels"
	"svae/kernels/kv"
	"svae/sllm"
	"svae/vae"
)

// decodeCases loads the models; an SLLM writes sentences of each length, a token-level model keeps its past in each way
// and has each length of it.
func decodeCases(paths []string, be kernels.Backend, sentences []int, ways []sllm.KVOptions, pasts []int) ([]*decodeCase, error) {
	var cases []*decodeCase
	for _, path := range paths {
		models, err := openFolders(path, be)
		if err != nil {
			return nil, err
		}
		base := -1
		slices.Reverse(models) // the base comes first
		for _, f := range models {
			d := decodeCase{Model: filepath.Base(path), Kind: string(f.Kind), DType: f.Bundle, base: base, vocab: f.Arch().VocabSize}
			if d.DType == "" {
				d.DType = "f32"
			}
			switch f.Kind {
			case sllm.KindLM:
				base = len(cases)
				if len(ways) == 0 {
					d.generate = unread(sllm.NewLMEngine(&f.LM, f.Store).Generate)
					cases = append(cases, &d)
				}
				for _, past := range pasts {
					for _, way := range ways {
						p := d
						p.Cache, p.Past = way.Policy, past
						e := sllm.NewLMEngine(&f.LM, f.Store)
						if e.Keeper, err = newFilled(&f.LM, be, way, past); err != nil {
							return nil, err
						}
						p.generate = unread(e.Generate)
						cases = append(cases, &p)
					}
				}
			case sllm.KindSLLM:
				e := sllm.NewEngine(&f.SLLM, f.Store)
				d.generate = unread(e.Generate)
				for _, n := range sentences {
					s := d
					s.Sentence = n
					cases = append(cases, &s)
				}
			default:
				return nil, fmt.Errorf("%s: is an autoencoder, which writes nothing of its own", path)
			}
		}
	}
	return cases, nil
}

// unread generates without looking at what is written.
func unread(generate func(context.Context, sllm.Request, func(sllm.Token) bool) (sllm.Result, error)) func(context.Context, sllm.Request) (sllm.Result, error) {
	return func(ctx context.Context, r sllm.Request) (sllm.Result, error) {
		return generate(ctx, r, func(sllm.Token) bool { return true })
	}
}

// every ends a sentence after n tokens.
type every struct{ n, at int }

func (e *every) Reset() { e.at = 0 }

func (e *every) Push(int32) bool {
	e.at = (e.at + 1) % e.n
	return e.at == 0
}

// run lets a case write once.
func (d *decodeCase) run(c *cli.Context) error {
	n := d.Sentence
	if n == 0 {
		n = 16 // of a prompt for a token-level model, to which it makes no difference
	}
	rng, prompt := rand.New(rand.NewPCG(1, 1)), make([]int32, c.Int("prompt"))
	for i := range prompt {
		prompt[i] = int32(rng.IntN(d.vocab))
	}
	prompt = prompt[:max(n, len(prompt)/n*n)]
	if d.Past > 0 { // tokens that stand for rows that are there
		prompt = append(make([]int32, (d.Past+n-1)/n*n), prompt...)
	}
	r := sllm.Request{Sentences: slices.Collect(slices.Chunk(prompt, n)), MaxTokens: c.Int("tokens"), IgnoreStop: true,
		Boundary: &every{n: n}}
	res, err := d.generate(c.Context, r)
	if err != nil {
		return err
	}
	if res.Tokens != r.MaxTokens {
		return fmt.Errorf("%s wrote %d tokens of %d: %s", d.Model, res.Tokens, r.MaxTokens, res.Finish)
	}
	d.prompts = append(d.prompts, float64(res.Prompt-d.Past)/res.Prefill.Seconds())
	d.decodes = append(d.decodes, float64(res.Tokens)/res.Decode.Seconds())
	d.Weights, d.Read = float64(res.WeightBytes), float64(res.KVRead)
	d.KV = float64(res.KVBytes) / float64(res.Prompt+res.Tokens)
	return nil
}

// runCases lets all cases write in turn, after once for practice, and returns the read bandwidth in bytes a second.
func runCases(c *cli.Context, be kernels.Backend, cases []*decodeCase) (float64, error) {
	var bandwidths []float64
	memory := be.Alloc(64 << 20).F32()
	for i := range memory { // pages that were never written are all the same one
		memory[i] = 1
	}
	for run := range c.Int("runs") + 1 {
		for _, d := range cases {
			if err := d.run(c); err != nil {
				return 0, err
			}
		}
		bandwidths = append(bandwidths, readBandwidth(memory))
		if run == 0 {
			bandwidths = bandwidths[:0]
			for _, d := range cases {
				d.prompts, d.decodes = nil, nil
			}
		}
	}
	bandwidth := median(bandwidths)
	for _, d := range cases {
		d.Prompt, d.Decode, d.Roof = median(d.prompts), median(d.decodes), bandwidth/(d.Weights+d.Read)
		if d.base >= 0 {
			ratios := make([]float64, len(d.decodes))
			for i := range ratios {
				ratios[i] = d.decodes[i] / cases[d.base].decodes[i]
			}
			d.Speedup = median(ratios)
		}
	}
	return bandwidth, nil
}

// readBandwidth returns at how many bytes a second all threads together read a backend's memory that no cache holds: the
// best of three passes.
func readBandwidth(memory []float32) float64 {
	n := runtime.GOMAXPROCS(0)
	words := unsafe.Slice((*uint64)(unsafe.Pointer(unsafe.SliceData(memory))), len(memory)/2)
	sums, best := make([]uint64, n*8), 0.0
	for range 3 {
		begin := time.Now()
		var wg sync.WaitGroup
		for t := range n {
			wg.Go(func() { sums[t*8] = total(words[t*len(words)/n : (t+1)*len(words)/n]) })
		}
		wg.Wait()
		best = max(best, float64(8*len(words))/time.Since(begin).Seconds())
	}
	runtime.KeepAlive(sums)
	return best
}

// total adds up words, a cache line of each quarter at a time: a core reads more streams faster than one.
func total(words []uint64) uint64 {
	var a, b, c, d uint64
	line := func(w []uint64) uint64 {
		p := (*[8]uint64)(w)
		return p[0] + p[1] + p[2] + p[3] + p[4] + p[5] + p[6] + p[7]
	}
	n := len(words) / 4
	w0, w1, w2, w3 := words[:n], words[n:2*n], words[2*n:3*n], words[3*n:4*n]
	for i := 0; i+8 <= n; i += 8 {
		a, b, c, d = a+line(w0[i:]), b+line(w1[i:]), c+line(w2[i:]), d+line(w3[i:])
	}
	return a + b + c + d
}

func median(v []float64) float64 {
	s := slices.Sorted(slices.Values(v))
	return (s[(len(s)-1)/2] + s[len(s)/2]) / 2
}

func printCases(w io.Writer, cases []*decodeCase, bandwidth float64) error {
	fmt.Fprintf(w, "%d threads read memory at %.1f GB/s\n", runtime.GOMAXPROCS(0), bandwidth/1e9)
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "MODEL\tKIND\tDTYPE\tKV\tPAST\tSENTENCE\tPROMPT\tTOKENS/S\tMB/TOKEN\tROOFLINE\tOF IT\tX BASE\tKV BYTES/TOKEN")
	for _, d := range cases {
		sentence, times, cache, past := "-", "-", "-", "-"
		if d.Cache != "" {
			cache, past = d.Cache, fmt.Sprint(d.Past)
		}
		if d.Sentence > 0 {
			sentence = fmt.Sprint(d.Sentence)
		}
		if d.Speedup > 0 {
			times = fmt.Sprintf("%.2f", d.Speedup)
		}
		fmt.Fprintf(tw, "%s\t%s\t%s\t%s\t%s\t%s\t%.0f\t%.1f\t%.1f\t%.1f\t%.2f\t%s\t%.0f\n", d.Model, d.Kind, d.DType, cache, past, sentence, d.Prompt, d.Decode,
			(d.Weights+d.Read)/1e6, d.Roof, d.Decode/d.Roof, times, d.KV)
	}
	return tw.Flush()
}

// filled is a SentenceKV whose sequences begin with made-up rows: topics that drift from sentence to sentence.
type filled struct {
	*sllm.SentenceKV
	arch *vae.Arch
	past int
}

func newFilled(a *vae.Arch, be kernels.Backend, o sllm.KVOptions, past int) (sllm.Keeper, error) {
	k, err := sllm.NewSentenceKV(a, be, "bench", o)
	if err != nil || past == 0 {
		return k, err
	}
	return &filled{SentenceKV: k, arch: a, past: past}, nil
}

// Open implements sllm.Keeper.
func (f *filled) Open(ids []int32, ends []int) (vae.KV, error) {
	return f.OpenOver(f.fill, ids, ends)
}

// fill adds rows to an empty store, the same each time.
func (f *filled) fill(s *kv.Store) error {
	const sentence, at = 20, 1000
	width := f.arch.NumKVHeads * f.arch.HeadDim
	rng, topic := rand.New(rand.NewPCG(1, 2)), make([]float32, width)
	noise := make([]float32, 1<<16)
	for i := range noise {
		noise[i] = float32(rng.NormFloat64())
	}
	k, v := make([]float32, at*width), make([]float32, at*width)
	for first := 0; first < f.past; first += at {
		n := min(at, f.past-first)
		for r := range n {
			from := noise[rng.IntN(len(noise)-2*width):]
			for i := range width {
				if r%sentence == 0 {
					topic[i] = 0.9*topic[i] + 0.4*from[width+i]
				}
				k[r*width+i], v[r*width+i] = topic[i]+0.5*from[i], from[width+i]
			}
		}
		for l := range f.arch.NumLayers {
			if err := s.Append(l, k[:n*width], v[:n*width]); err != nil {
				return err
			}
		}
		for end := first + sentence; end <= first+n; end += sentence {
			if err := s.Seal(end); err != nil {
				return err
			}
		}
	}
	return nil
}
