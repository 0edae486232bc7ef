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

// Choose returns a token by its logits (V). The lowest id of equals wins when greedy.
func (s *Sampler) Choose(logits []float32) int32 {
	best := int32(0)
	for i, v := range logits {
		if v > logits[best] {
			best = int32(i)
		}
	}
	if s.s.Temperature == 0 || s.s.TopK == 1 {
		return best
	}
	s.cand = s.cand[:0]
	var sum float64
	top := float64(logits[best])
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

// cut keeps the candidates that top-k and top-p allow, and returns their sum.
func (s *Sampler) cut(c []candidate, sum float64) ([]candidate, float64) {
	slices.SortFunc(c, func(a, b candidate) int {
		if d := cmp.Compare(b.p, a.p); d != 0 {
			return d
		}
		return cmp.Compare(a.id, b.id)
	})
	if s.s.TopK > 0 && s.s.TopK < len(c) {
		c = c[:s.s.TopK]
		sum = 0
		for _, k := range c {
			sum += k.p
		}
	}
	if s.s.TopP > 0 && s.s.TopP < 1 {
		var acc float64
		for i, k := range c {
			if acc += k.p; acc >= s.s.TopP*sum {
				return c[:i+1], acc
			}
		}
	}
	return c, sum
}
