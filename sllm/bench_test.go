package sllm

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"svae/kernels"
	"svae/kernels/cpu"
	"svae/kernels/op"
	"svae/vae"
)

// benchBases are the shapes of OPT-125M and of SmolLM2-135M.
func benchBases() map[string]vae.Arch {
	return map[string]vae.Arch{
		"opt-125m": {ModelType: "opt", HiddenSize: 768, NumLayers: 12, NumHeads: 12, NumKVHeads: 12, HeadDim: 64, VocabSize: 50272,
			Positions: 2048, Tied: true, FFNDim: 3072, EmbedDim: 768, Act: "relu", BOS: 2, EOS: 2, PAD: 1},
		"smollm2-135m": {ModelType: "llama", HiddenSize: 576, NumLayers: 30, NumHeads: 9, NumKVHeads: 3, HeadDim: 64, VocabSize: 49152,
			Positions: 8192, Tied: true, Intermediate: 1536, RMSNormEps: 1e-5, RopeTheta: 1e5, HiddenAct: "silu", BOS: 1, EOS: 2, PAD: -1},
	}
}

// benchStore holds random weights in dt, as bundles hold them.
func benchStore(b *testing.B, be kernels.Backend, dt kernels.DType, walk func(vae.Build[op.Mat]), head string) *vae.Store {
	b.Helper()
	r := rand.New(rand.NewPCG(1, 2))
	noise := make([]float32, 1<<20+7)
	for i := range noise {
		noise[i] = float32(0.03 * r.NormFloat64())
	}
	ws := vae.List(walk)
	bufs := make([]kernels.Buf, len(ws))
	heads := map[string]*op.Head{}
	for i, w := range ws {
		n := w.Elements()
		f := be.Alloc(n).F32()
		for at := 0; at < n; {
			from := noise[r.IntN(len(noise)/2):]
			at += copy(f[at:], from)
		}
		if len(w.Shape) == 1 && w.One != 0 {
			for j := range f {
				f[j] = 1
			}
		}
		rows, cols := w.Shape[0], w.Shape[len(w.Shape)-1]
		switch {
		case dt == kernels.F32 || len(w.Shape) == 1:
			bufs[i] = kernels.Of(f)
		case dt == kernels.I8 && !w.Table && w.Name != head:
			q, scales := make([]int8, n), make([]float32, rows)
			if err := kernels.QuantizeInt8(q, scales, f, rows, cols); err != nil {
				b.Fatal(err)
			}
			bufs[i] = kernels.Int8Of(q, scales, cols)
		default:
			h := make([]uint16, n)
			kernels.RoundBF16(h, f)
			bufs[i] = kernels.BF16Of(h)
		}
		if w.Name == head && dt != kernels.F32 {
			h, err := op.NewHead(op.Mat{Buf: bufs[i], R: rows, C: cols}, op.Mat{})
			if err != nil {
				b.Fatal(err)
			}
			heads[head] = &h
		}
	}
	s, err := vae.NewStoreOf(be, ws, bufs)
	if err != nil {
		b.Fatal(err)
	}
	for name, h := range heads {
		s.SetHead(name, h)
	}
	return s
}

// every ends a sentence after a number of tokens.
type every struct{ each, n int }

func (e *every) Reset() { e.n = 0 }

func (e *every) Push(int32) bool {
	if e.n++; e.n == e.each {
		e.n = 0
		return true
	}
	return false
}

// BenchmarkGenerate writes 60 tokens behind a prompt of 64, greedily and alone, by a token-level model and by the
// sentence-level model of the same base with the default decoder, at 10 and at 20 tokens a sentence. Beside the speed it
// prints the bytes of weights and keys that a token reads, GB/s of them, and the ratio to how fast the machine reads a large
// float32 matrix in the same turns: the share of the roofline.
func BenchmarkGenerate(b *testing.B) {
	types := []struct {
		name string
		dt   kernels.DType
	}{{"f32", kernels.F32}, {"bf16", kernels.BF16}, {"int8", kernels.I8}}
	for _, shape := range []string{"opt-125m", "smollm2-135m"} {
		a := benchBases()[shape]
		for _, ty := range types {
			b.Run(fmt.Sprintf("%s/%s/lm", shape, ty.name), func(b *testing.B) {
				be := cpu.New()
				e := NewLMEngine(&a, benchStore(b, be, ty.dt, func(get vae.Build[op.Mat]) { NewLM(&a, get) }, HeadName(&a)))
				benchEngine(b, be, e, 10)
			})
			c := Config{Base: a, VAE: vae.Default(a), LatentScale: 0.3}
			head, _ := vae.HeadNames(&c.VAE)
			var e *Engine
			be := cpu.New()
			for _, each := range []int{10, 20} {
				b.Run(fmt.Sprintf("%s/%s/sllm/%d", shape, ty.name, each), func(b *testing.B) {
					if e == nil {
						e = NewEngine(&c, benchStore(b, be, ty.dt, func(get vae.Build[op.Mat]) { New(&c, get) }, head))
					}
					benchEngine(b, be, e, each)
				})
			}
		}
	}
}

func benchEngine(b *testing.B, be kernels.Backend, e generating, each int) {
	const tokens = 60
	r := Request{MaxTokens: tokens, IgnoreStop: true, Boundary: &every{each: each}}
	ids := rand.New(rand.NewPCG(5, 5))
	prompt := func() { // another one every time, so that no latents are known
		r.Sentences = r.Sentences[:0]
		for range 64 / each {
			s := make([]int32, each)
			for i := range s {
				s[i] = int32(3 + ids.IntN(40000))
			}
			r.Sentences = append(r.Sentences, s)
		}
	}
	probe := be.Alloc(48 << 20) // 192 MiB
	x, y := be.Alloc(2048), be.Alloc(24<<10)
	be.Pack(probe, 24<<10, 2048)
	defer be.Unpack(probe)
	var rates, ratios, reads, prefill []float64
	var bytes int64
	for b.Loop() {
		for range 3 {
			prompt()
			start := time.Now()
			be.Linear(y, kernels.Buf{}, x, probe, kernels.Buf{}, kernels.None, 1, 2048, 24<<10)
			read := float64(4*probe.Len()) / time.Since(start).Seconds() / 1e9
			res, err := e.Generate(b.Context(), r, func(Token) bool { return true })
			if err != nil || res.Tokens != tokens {
				b.Fatal(res, err)
			}
			start = time.Now()
			be.Linear(y, kernels.Buf{}, x, probe, kernels.Buf{}, kernels.None, 1, 2048, 24<<10)
			read = (read + float64(4*probe.Len())/time.Since(start).Seconds()/1e9) / 2
			bytes = res.WeightBytes + res.KVRead
			rate := float64(tokens) / res.Decode.Seconds()
			rates, reads = append(rates, rate), append(reads, read)
			ratios = append(ratios, rate*float64(bytes)/1e9/read)
			prefill = append(prefill, float64(res.Prompt)/res.Prefill.Seconds())
		}
	}
	b.ReportMetric(middle(rates), "tokens/s")
	b.ReportMetric(float64(bytes)/1e6, "MB/token")
	b.ReportMetric(middle(rates)*float64(bytes)/1e9, "GB/s")
	b.ReportMetric(middle(reads), "read-GB/s")
	b.ReportMetric(middle(ratios), "of-roofline")
	b.ReportMetric(middle(prefill), "prompt-tokens/s")
	b.ReportMetric(0, "ns/op")
}

func middle(v []float64) float64 {
	s := slices.Sorted(slices.Values(v))
	return s[len(s)/2]
}
