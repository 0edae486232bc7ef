package kv

import (
	"cmp"
	"slices"

	"svae/kernels"
	"svae/kernels/cpu"
)

// window is the latest queries of the prompt of a layer, up to size of them.
type window struct {
	size  int
	q     []float32 // (rows, H*K)
	end   int       // the row after the last query
	fresh bool      // queries came since settle was called
}

// observe takes in queries of rows from first on, of width elements each.
func (w *window) observe(first int, q []float32, width int) {
	if first != w.end {
		w.q = w.q[:0]
	}
	w.q = append(w.q, q...)
	if extra := len(w.q)/width - w.size; extra > 0 {
		w.q = append(w.q[:0], w.q[extra*width:]...)
	}
	w.end, w.fresh = first+len(q)/width, true
}

func (w *window) fork() window {
	c := *w
	c.q = slices.Clone(w.q)
	return c
}

// scoreElements bounds the scores that exist at a time.
const scoreElements = 1 << 22

// attentionOf calls f with the softmax weights of query rows over the rows of their past, for one key head and batch by
// batch. Query row t sees rows up to its own.
//
//	q (N, H*K)    queries of rows first to first+N-1
//	f             head 0..G-1 of the group; the weights of the rows from 0 on are p·norm
func (s *Store) attentionOf(layer, kvHead, first int, q []float32, f func(group int, p []float32, norm float32)) error {
	K, H := s.cfg.HeadDim, s.cfg.Heads
	G, N := H/s.cfg.KVHeads, len(q)/(H*K)
	M := first + N
	if N == 0 {
		return nil
	}
	sc := s.scratch.Get().(*scratch)
	defer s.put(sc)
	keys := sc.floats(M * K)
	if err := s.Keys(keys, layer, kvHead, []Range{{0, M}}); err != nil {
		return err
	}
	batch := min(max(scoreElements/(M*G), 1), N)
	x, scores, ones := sc.floats(batch*G*K), sc.floats(batch*G*M), sc.floats(M)
	for i := range ones {
		ones[i] = 1
	}
	for t := 0; t < N; t += batch {
		n := min(batch, N-t)
		for i := range n {
			for c, v := range q[(t+i)*H*K+kvHead*G*K:][:G*K] {
				x[i*G*K+c] = v * float32(s.cfg.Scale)
			}
		}
		s.backend.Linear(kernels.Of(scores), kernels.Buf{}, kernels.Of(x), kernels.Of(keys), kernels.Buf{}, kernels.None, n*G, K, M)
		for i := range n * G {
			p := scores[i*M : i*M+first+t+i/G+1]
			f(i%G, p, 1/cpu.Shares(p, ones, cpu.Largest(p)))
		}
	}
	return nil
}

// softmax overwrites unscaled scores with weights, to 2⁻²⁰ of each.
func (s *Store) softmax(p []float32) {
	best, scale := slices.Max(p), float32(s.cfg.Scale)
	var sum float64
	for i, x := range p {
		e := expf((x - best) * scale)
		p[i] = e
		sum += float64(e)
	}
	norm := float32(1 / sum)
	for i := range p {
		p[i] *= norm
	}
}

// windowMass returns, for each list of heads (KV of them, or H), the sum over the window's queries of their weights on
// each row before the window.
func (s *Store) windowMass(layer int, w *window, lists int) ([][]float64, error) {
	N := len(w.q) / (s.cfg.Heads * s.cfg.HeadDim)
	first := w.end - N
	mass := make([][]float64, lists)
	for i := range mass {
		mass[i] = make([]float64, first)
	}
	err := s.eachHead(func(h int) error {
		return s.attentionOf(layer, h, first, w.q, func(g int, p []float32, norm float32) {
			list := mass[h*lists/s.cfg.KVHeads]
			if lists == s.cfg.Heads {
				list = mass[h*s.cfg.Heads/s.cfg.KVHeads+g]
			}
			for i := range list {
				list[i] += float64(p[i] * norm)
			}
		})
	})
	return mass, err
}

// maxPool returns the largest of the width elements around each one.
func maxPool(x []float64, width int) []float64 {
	out := make([]float64, len(x))
	for i := range x {
		out[i] = slices.Max(x[max(i-width/2, 0):min(i+(width+1)/2, len(x))])
	}
	return out
}

// ranked returns the indices of x by falling value, equals by rising index.
func ranked[T cmp.Ordered](x []T) []int {
	idx := make([]int, len(x))
	for i := range idx {
		idx[i] = i
	}
	slices.SortFunc(idx, func(a, b int) int { return cmp.Or(cmp.Compare(x[b], x[a]), a-b) })
	return idx
}

// fromRows appends ascending rows as ranges.
func fromRows(rs []Range, rows []int) []Range {
	for _, r := range rows {
		rs = extend(rs, r, r+1)
	}
	return rs
}

// survivors are the rows of a prompt that a policy which drops rows for ever has kept.
type survivors struct {
	rows  [][]int // of each list, ascending, below since
	since int     // rows from here on are all kept
}

// settle chooses again, at the end of a prompt, which rows before the window are kept: those of the largest score
// (computed from the mass that the window gives them) that were not dropped before. It returns, for each list, the rows
// kept, best first.
func (v *survivors) settle(mass [][]float64, pool, keep, first int) [][]int {
	best := make([][]int, len(mass))
	for l, m := range mass {
		score := m
		if pool > 1 {
			score = maxPool(m, pool)
		}
		if v.rows != nil {
			alive := make([]bool, v.since)
			for _, r := range v.rows[l] {
				alive[r] = true
			}
			for r := range min(v.since, first) {
				if !alive[r] {
					score[r] = -1
				}
			}
		}
		order := ranked(score)
		n := min(max(keep, 0), len(order))
		for n > 0 && score[order[n-1]] < 0 {
			n--
		}
		best[l] = order[:n]
	}
	v.rows, v.since = make([][]int, len(mass)), first
	for l := range best {
		v.rows[l] = slices.Clone(best[l])
		slices.Sort(v.rows[l])
	}
	return best
}
