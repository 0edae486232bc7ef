package bench

import (
	"math"
	"math/rand/v2"
)

// minTail is the fewest rows at the end that queries come from: a window and some steps.
const minTail = 64

// Text is one layer of a sequence at some length.
type Text struct {
	K, V       []float32 // (N, KVHeads*HeadDim)
	Q          []float32 // (tail, H*K): the queries of the last rows
	Tail       int
	Boundaries []int // where sentences end
	Needles    []int // rows of keys that queries of the end look for
}

// Extend fills k and v with n rows of a layer. The last rows are the whole text in order, if there is room for it, so that
// what its end attends to nearby is as it was; before them come its sentences in an order drawn anew each time, with noise
// of so many standard deviations of each channel. The first token of the text stays the first. Needles are drawn among the
// rows before the last text: a key there is changed so that, for one query of the last tail rows, it scores as high as the
// highest of all others.
//
//	k, v (n, KVHeads*HeadDim)
func (s *Sequence) Extend(k, v []float32, layer, n, tail int, noise float64, needles int, seed uint64) *Text {
	l, N, W := &s.Layers[layer], s.Len(), s.KVHeads*s.HeadDim
	r := rand.New(rand.NewPCG(seed, uint64(layer)))
	t := &Text{K: k, V: v, Tail: tail}
	last := max(n-N, 0) // where the last text begins: row r of it was row r-n+N
	dk, dv := deviations(l.K, W), deviations(l.V, W)
	put := func(row, from int, noise float64) {
		key, val := k[row*W:(row+1)*W], v[row*W:(row+1)*W]
		copy(key, l.K[from*W:])
		copy(val, l.V[from*W:])
		for h := range s.KVHeads {
			s.turn(key[h*s.HeadDim:(h+1)*s.HeadDim], row-from)
		}
		if noise > 0 {
			for i := range key {
				key[i] += float32(r.NormFloat64() * noise * dk[i])
				val[i] += float32(r.NormFloat64() * noise * dv[i])
			}
		}
	}
	ends := s.ends()
	for row, order := 0, []int(nil); row < last; {
		if len(order) == 0 {
			order = r.Perm(len(ends))
		}
		i := order[0]
		order = order[1:]
		lo := 1 // the first token only at the start
		if i > 0 {
			lo = ends[i-1]
		}
		for from := lo; from < ends[i] && row < last; from++ {
			put(row, from, noise)
			row++
		}
		t.Boundaries = append(t.Boundaries, row)
	}
	for row := last; row < n; row++ {
		put(row, row-n+N, 0)
	}
	put(0, 0, 0)
	for _, e := range ends {
		if e+n-N > last {
			t.Boundaries = append(t.Boundaries, e+n-N)
		}
	}
	wq := s.Heads * s.HeadDim
	t.Q = append(t.Q, l.Q[(N-tail)*wq:]...)
	for i := range tail * s.Heads {
		s.turn(t.Q[i*s.HeadDim:(i+1)*s.HeadDim], n-N)
	}
	for i := range needles {
		if last > 2*minTail {
			s.plant(t, minTail+r.IntN(last-2*minTail), i%tail)
		}
	}
	return t
}

// ends returns where sentences end, the last one at the end of the text.
func (s *Sequence) ends() []int {
	N := s.Len()
	ends := append([]int(nil), s.Boundaries...)
	if len(ends) == 0 {
		for e := 24; e < N; e += 24 {
			ends = append(ends, e)
		}
	}
	if len(ends) == 0 || ends[len(ends)-1] < N {
		ends = append(ends, N)
	}
	return ends
}

// plant changes the keys of a row so that the mean query of each group, at query row i of the tail, scores there as high as
// at its best other row.
func (s *Sequence) plant(t *Text, row, i int) {
	K, W, G := s.HeadDim, s.KVHeads*s.HeadDim, s.Heads/s.KVHeads
	mean := make([]float32, K)
	for h := range s.KVHeads {
		clear(mean)
		for g := range G {
			for c, x := range t.Q[(i*s.Heads+h*G+g)*K:][:K] {
				mean[c] += x / float32(G)
			}
		}
		best, norm := math.Inf(-1), 0.0
		for c := range mean {
			norm += float64(mean[c]) * float64(mean[c])
		}
		if norm == 0 {
			continue
		}
		for at := h * K; at < len(t.K); at += W {
			best = max(best, float64(dot(mean, t.K[at:at+K])))
		}
		key := t.K[row*W+h*K:][:K]
		more := float32((best - float64(dot(mean, key))) / norm)
		for c, x := range mean {
			key[c] += more * x
		}
	}
	t.Needles = append(t.Needles, row)
}

func dot(a, b []float32) (s float32) {
	for i, x := range a {
		s += x * b[i]
	}
	return s
}

// deviations returns the standard deviation of each column of x.
func deviations(x []float32, W int) []float64 {
	mean, square := make([]float64, W), make([]float64, W)
	n := float64(len(x) / W)
	for i, v := range x {
		mean[i%W] += float64(v) / n
		square[i%W] += float64(v) * float64(v) / n
	}
	for i := range square {
		square[i] = math.Sqrt(max(square[i]-mean[i]*mean[i], 0))
	}
	return square
}

// Generate makes up the keys of a text of n rows in the geometry of Qwen2.5-0.5B: topics that drift from sentence to
// sentence, channels of outliers, and queries that look for some of the keys. They do not turn.
func Generate(layers, n int, seed uint64) *Sequence {
	s := &Sequence{Heads: 14, KVHeads: 2, HeadDim: 64}
	r := rand.New(rand.NewPCG(seed, 7))
	for at := 4 + r.IntN(36); at < n; at += 4 + r.IntN(36) {
		s.Boundaries = append(s.Boundaries, at)
	}
	K, W := s.HeadDim, s.KVHeads*s.HeadDim
	for range layers {
		l := Layer{make([]float32, n*W), make([]float32, n*W), make([]float32, n*s.Heads*K)}
		topic, next := make([]float32, W), 0
		for t := range n {
			if next < len(s.Boundaries) && t == s.Boundaries[next] {
				for i := range topic {
					topic[i] = topic[i]*0.9 + float32(r.NormFloat64())*0.4
				}
				next++
			}
			for i := range W {
				x := topic[i] + float32(r.NormFloat64())*0.5
				if i%K == 3 {
					x = 4 + x*2
				}
				l.K[t*W+i], l.V[t*W+i] = x, float32(r.NormFloat64())
			}
			for h := range s.Heads {
				from := r.IntN(t + 1)
				for c := range K {
					l.Q[(t*s.Heads+h)*K+c] = float32(r.NormFloat64()) + l.K[from*W+h*s.KVHeads/s.Heads*K+c]*0.7
				}
			}
		}
		s.Layers = append(s.Layers, l)
	}
	return s
}
