package cpu

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"svae/kernels"
)

// readJob reads memory, a quarter of a MiB a part, in the way found fastest: four streams of 16 KiB at a time, asked for
// ahead, with a multiply-add for each vector, which costs nothing beside.
type readJob struct {
	x   []float32
	row [blockK]float32
}

const readPart = 1 << 16

func (j *readJob) run(part int) {
	var out [rowCols]float32
	x := j.x[part*readPart : (part+1)*readPart]
	for i := 0; i < len(x); i += blockK * rowCols {
		kernelRow(blockK, j.row[:], x[i:], tileCols*blockK, tileCols, out[:], modeSet)
	}
}

// decodeForm is one way to hold the weights of a linear map.
type decodeForm struct {
	name  string
	bytes int // of one copy
	call  func(be kernels.Backend, copy int)
}

// BenchmarkDecode times one row (or more) through weights that come from memory, held in every way, in turns, beside a
// plain read of as many bytes as the float32 weights take. It reports the median GB/s of weights of each and the median of
// its ratio to the read of the same turn.
func BenchmarkDecode(b *testing.B) {
	for _, s := range [][2]int{{768, 768}, {3072, 768}, {768, 3072}, {50272, 768}, {2048, 2048}, {8192, 2048}} {
		for _, N := range []int{1, 4, 8} {
			if N > 1 && s[0] != 8192 {
				continue
			}
			b.Run(fmt.Sprintf("%dx%d/rows=%d", s[0], s[1], N), func(b *testing.B) {
				eachWorkers(b, func(b *testing.B, be kernels.Backend) { benchDecode(b, be.(*Backend), N, s[0], s[1]) })
			})
		}
	}
}

func benchDecode(b *testing.B, be *Backend, N, O, I int) {
	const total = 160 << 20 // bytes that the copies of one form take up at least
	r := rand.New(rand.NewPCG(1, 2))
	x, out := kernels.Of(random(r, N*I)), kernels.Of(floats(N*O))
	w := random(r, O*I)
	h, q, scales := make([]uint16, O*I), make([]int8, O*I), make([]float32, O)
	kernels.RoundBF16(h, w)
	if err := kernels.QuantizeInt8(q, scales, w, O, I); err != nil {
		b.Fatal(err)
	}
	form := func(name string, bytes int, pack bool, weight func() kernels.Buf) decodeForm {
		ws := make([]kernels.Buf, max(2, total/bytes))
		for i := range ws {
			ws[i] = weight()
			if pack {
				be.Pack(ws[i], O, I)
			}
		}
		b.Cleanup(func() {
			for _, w := range ws {
				be.Unpack(w)
			}
		})
		return decodeForm{name: name, bytes: bytes, call: func(be kernels.Backend, i int) {
			be.Linear(out, kernels.Buf{}, x, ws[i%len(ws)], kernels.Buf{}, kernels.None, N, I, O)
		}}
	}
	one := func() []float32 { f := floats(O * I); copy(f, w); return f }
	forms := []decodeForm{
		form("f32", 4*O*I, true, func() kernels.Buf { return kernels.Of(one()) }),
		form("bf16", 2*O*I, true, func() kernels.Buf { return kernels.BF16Of(slices.Clone(h)) }),
		form("bf16plain", 2*O*I, false, func() kernels.Buf { return kernels.BF16Of(slices.Clone(h)) }),
		form("int8", O*I, true, func() kernels.Buf { return kernels.Int8Of(slices.Clone(q), scales, I) }),
		form("int8plain", O*I, false, func() kernels.Buf { return kernels.Int8Of(slices.Clone(q), scales, I) }),
	}
	read := &readJob{x: floats(total / 4)}
	for i := range read.x {
		read.x[i] = 1
	}
	rates := make([][]float64, len(forms)+1)
	at := 0
	for b.Loop() {
		for f := range rates {
			bytes, run := 1<<24, 0
			start := time.Now()
			if f == len(forms) {
				lo := at % 8 * (1 << 22)
				part := &readJob{x: read.x[lo:][:1<<22]}
				be.pool.do((1<<22)/readPart, part)
			} else {
				run = max(1, bytes/forms[f].bytes)
				for i := range run {
					forms[f].call(be, at*run+i)
				}
				bytes = run * forms[f].bytes
			}
			rates[f] = append(rates[f], float64(bytes)/time.Since(start).Seconds()/1e9)
		}
		at++
	}
	for f, form := range forms {
		ratio := make([]float64, len(rates[f]))
		for i, v := range rates[f] {
			ratio[i] = v / rates[len(forms)][i]
		}
		b.ReportMetric(median(rates[f]), form.name+"-GB/s")
		b.ReportMetric(median(ratio), form.name+"/read")
	}
	b.ReportMetric(median(rates[len(forms)]), "read-GB/s")
	b.ReportMetric(0, "ns/op")
}

func median(v []float64) float64 {
	s := slices.Sorted(slices.Values(v))
	return s[len(s)/2]
}

// BenchmarkPrefill times many rows through weights held in every way, in turns, and reports the median GFLOP/s of each and
// the median of its ratio to float32 of the same turn.
func BenchmarkPrefill(b *testing.B) {
	for _, s := range [][3]int{{512, 768, 768}, {512, 768, 3072}, {512, 3072, 768}, {512, 2048, 2048}, {32, 768, 3072}} {
		N, I, O := s[0], s[1], s[2]
		b.Run(fmt.Sprintf("%dx%dx%d", N, I, O), func(b *testing.B) {
			eachWorkers(b, func(b *testing.B, be kernels.Backend) {
				r := rand.New(rand.NewPCG(1, 2))
				x, out, w := kernels.Of(random(r, N*I)), kernels.Of(floats(N*O)), random(r, O*I)
				h, q, scales := make([]uint16, O*I), make([]int8, O*I), make([]float32, O)
				kernels.RoundBF16(h, w)
				if err := kernels.QuantizeInt8(q, scales, w, O, I); err != nil {
					b.Fatal(err)
				}
				forms := []struct {
					name string
					w    kernels.Buf
				}{
					{"f32", kernels.Of(w)}, {"bf16", kernels.BF16Of(h)}, {"bf16plain", kernels.BF16Of(slices.Clone(h))},
					{"int8", kernels.Int8Of(q, scales, I)}, {"int8plain", kernels.Int8Of(slices.Clone(q), scales, I)},
				}
				for i := range 3 {
					w := forms[max(0, 2*i-1)].w // those that are not plain
					be.Pack(w, O, I)
					defer be.Unpack(w)
				}
				rates, ratios := make([][]float64, len(forms)), make([][]float64, len(forms))
				for b.Loop() {
					for f, form := range forms {
						start := time.Now()
						be.Linear(out, kernels.Buf{}, x, form.w, kernels.Buf{}, kernels.None, N, I, O)
						rates[f] = append(rates[f], 2*float64(N*I*O)/time.Since(start).Seconds()/1e9)
						at := len(rates[f]) - 1
						ratios[f] = append(ratios[f], rates[f][at]/rates[0][at])
					}
				}
				for f, form := range forms {
					b.ReportMetric(median(rates[f]), form.name+"-GFLOP/s")
					b.ReportMetric(median(ratios[f]), form.name+"/f32")
				}
				b.ReportMetric(0, "ns/op")
			})
		})
	}
}

// BenchmarkTop times the greedy choice over a normal head of 50272 by 768 in turns with all float32 logits, and reports how
// many logits it computes for a row.
func BenchmarkTop(b *testing.B) {
	const V, D = 50272, 768
	eachWorkers(b, func(b *testing.B, k kernels.Backend) {
		r := rand.New(rand.NewPCG(1, 2))
		be, w := k.(*Backend), floats(V*D)
		for i := range w {
			w[i] = float32(0.02 * r.NormFloat64())
		}
		q, scales, bounds := make([]int8, V*D), make([]float32, V), make([]float32, 2*V)
		if err := kernels.QuantizeInt8(q, scales, w, V, D); err != nil {
			b.Fatal(err)
		}
		t := &kernels.Top{IDs: make([]int32, 1), W: kernels.Of(w), Q: kernels.Int8Of(q, scales, D), N: 1, D: D, V: V}
		kernels.HeadBounds(bounds, t.W, t.Q, V, D)
		t.Bounds = kernels.Of(bounds)
		be.Pack(t.W, V, D)
		be.Pack(t.Q, V, D)
		defer be.Unpack(t.W)
		defer be.Unpack(t.Q)
		z, none := kernels.Of(floats(V)), kernels.Buf{}
		var plain, rough, found []float64
		scored := 0
		clock := func(list *[]float64, f func()) {
			start := time.Now()
			f()
			*list = append(*list, time.Since(start).Seconds()*1e3)
		}
		for b.Loop() {
			t.X = kernels.Of(random(r, D))
			clock(&plain, func() { be.Linear(z, none, t.X, t.W, none, kernels.None, 1, D, V) })
			clock(&rough, func() { be.Linear(z, none, t.X, t.Q, none, kernels.None, 1, D, V) })
			clock(&found, func() { be.Top(t) })
			scored += t.Scored
		}
		b.ReportMetric(median(plain), "f32-ms")
		b.ReportMetric(median(rough), "int8-ms")
		b.ReportMetric(median(found), "top-ms")
		b.ReportMetric(float64(scored)/float64(b.N), "logits/row")
		b.ReportMetric(0, "ns/op")
	})
}
