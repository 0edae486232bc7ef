package vae

import (
	"cmp"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
)

// Sampling says how the next token is chosen.
type Sampling struct {
	Temperature float64 // 0: the most probable token
	TopK        int     // keep the k most probable tokens; 0: all
	TopP        float64 // keep the most probable tokens whose probabilities first reach p (Holtzman et al. 2020); 0 or 1: all
	Seed        uint64
}

// Validate reports the first value out of range.
func (s Sampling) Validate() error {
	switch {
	case !(s.Temperature >= 0 && s.Temperature <= 100):
		return fmt.Errorf("temperature %v is not in 0..100", s.Temperature)
	case s.TopK < 0:
		return fmt.Errorf("top-k %d is negative", s.TopK)
	case !(s.TopP >= 0 && s.TopP <= 1):
		return fmt.Errorf("top-p %v is not in 0..1", s.TopP)
	}
	return nil
}

// Sampler chooses tokens. The same seed and the same logits give the same tokens.
type Sampler struct {
	s    Sampling
	rng  *rand.Rand
	cand []candidate
}

type candidate struct {
	id int32
	p  float64
}

// NewSampler returns a sampler at the start of its random sequence.
func NewSampler(s Sampling) *Sampler {
	return &Sampler{s: s, rng: rand.New(rand.NewPCG(s.Seed, 0x5bd1e995))}
}

// Greedy says that the sampler takes the most probable token.
func (s *Sampler) Greedy() bool { return s.s.Temperature == 0 || s.s.TopK == 1 }

// Choose returns a token by its logits (V). The lowest id of equals wins when greedy.
func (s *Sampler) Choose(logits []float32) int32 {
	first := argMax(logits)
	if s.Greedy() {
		return first
	}
	s.cand = s.cand[:0]
	var sum float64
	top := float64(logits[first])
	for i, v := range logits {
		p := math.Exp((float64(v) - top) / s.s.Temperature)
		s.cand = append(s.cand, candidate{int32(i), p})
		sum += p
	}
	c := s.cand
	if s.s.TopK > 0 || s.s.TopP > 0 && s.s.TopP < 1 {
		c, sum = s.cut(c, sum)
	}
	u := s.rng.Float64() * sum
	for _, k := range c {
		if u -= k.p; u < 0 {
			return k.id
		}
	}
	return c[len(c)-1].id
}

// argMax returns the first of the largest logits. NaN is larger than nothing.
func argMax(logits []float32) int32 {
	const block = 64
	at, top := 0, logits[0]
	for lo := 0; lo < len(logits); lo += block {
		part := logits[lo:min(lo+block, len(logits))]
		var a, b, c, d = top, top, top, top // four chains, which the processor follows at the same time
		for ; len(part) >= 4; part = part[4:] {
			if part[0] > a {
				a = part[0]
			}
			if part[1] > b {
				b = part[1]
			}
			if part[2] > c {
				c = part[2]
			}
			if part[3] > d {
				d = part[3]
			}
		}
		for _, v := range part {
			if v > a {
				a = v
			}
		}
		if a > top || b > top || c > top || d > top {
			for i, v := range logits[lo:min(lo+block, len(logits))] {
				if v > top {
					at, top = lo+i, v
				}
			}
		}
	}
	return int32(at)
}

// cut keeps the candidates that top-k and top-p allow, the most probable first, and returns their sum. sum is that of all.
func (s *Sampler) cut(c []candidate, sum float64) ([]candidate, float64) {
	if s.s.TopK > 0 && s.s.TopK < len(c) {
		c = best(c, 0, s.s.TopK)
		sum = 0
		for _, k := range c {
			sum += k.p
		}
	}
	if !(s.s.TopP > 0 && s.s.TopP < 1) {
		return best(c, 0, len(c)), sum
	}
	var acc float64
	for n, m := 0, 128; n < len(c); m *= 4 { // few are needed of many, as a rule
		m = min(m, len(c))
		best(c, n, m)
		for ; n < m; n++ {
			if acc += c[n].p; acc >= s.s.TopP*sum {
				return c[:n+1], acc
			}
		}
	}
	return c, sum
}

// compare orders candidates: the more probable first, the lower id of equals.
func compare(a, b candidate) int {
	if d := cmp.Compare(b.p, a.p); d != 0 {
		return d
	}
	return cmp.Compare(a.id, b.id)
}

// best puts the first m of all candidates into order, given that the first n are, and returns them.
func best(c []candidate, n, m int) []candidate {
	lo, hi := n, len(c)
	for hi-lo > 16 && m < hi { // those before lo come before the others, those from hi on after them (Hoare 1961)
		pivot := middle(c[lo], c[(lo+hi)/2], c[hi-1])
		i, j := lo, hi-1
		for i <= j {
			for compare(c[i], pivot) < 0 {
				i++
			}
			for compare(c[j], pivot) > 0 {
				j--
			}
			if i <= j {
				c[i], c[j] = c[j], c[i]
				i, j = i+1, j-1
			}
		}
		switch {
		case m <= j+1:
			hi = j + 1
		case m >= i:
			lo = i
		default: // c[j+1:i] is the pivot
			lo, hi = m, m
		}
	}
	if m > lo {
		slices.SortFunc(c[lo:hi], compare)
	}
	slices.SortFunc(c[n:m], compare)
	return c[:m]
}

// middle returns the middle one of three.
func middle(a, b, c candidate) candidate {
	if compare(a, b) > 0 {
		a, b = b, a
	}
	if compare(b, c) > 0 {
		b = c
		if compare(a, b) > 0 {
			b = a
		}
	}
	return b
}
