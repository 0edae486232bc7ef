package vae

import (
	"fmt"
	"math"
)

// RopeScaling stretches rotary positions beyond the context that a model was first trained at. Keys are Hugging Face's.
type RopeScaling struct {
	// Type is "linear" (Chen et al. 2023, §2.2: all frequencies divided by Factor) or "llama3" (Grattafiori et al. 2024,
	// §3.4.2 and the released code: those divided whose wavelength the first context does not hold, a blend between).
	Type   string  `json:"rope_type"`
	Factor float64 `json:"factor"`
	// Of llama3: wavelengths above Original/Low positions are stretched, those below Original/High are not.
	Low      float64 `json:"low_freq_factor,omitempty"`
	High     float64 `json:"high_freq_factor,omitempty"`
	Original int     `json:"original_max_position_embeddings,omitempty"`
}

// validate reports the first value that cannot be.
func (s *RopeScaling) validate() error {
	positive := func(v float64) bool { return v > 0 && !math.IsInf(v, 0) }
	switch {
	case s == nil:
		return nil
	case s.Type != "linear" && s.Type != "llama3":
		return fmt.Errorf("config.json: %w: rope scaling of type %q (known: default, linear, llama3)", ErrUnknown, s.Type)
	case !positive(s.Factor):
		return fmt.Errorf("config.json: factor %v of the rope scaling is out of range", s.Factor)
	case s.Type == "linear":
		return nil
	case !positive(s.Low) || !positive(s.High) || s.Low >= s.High:
		return fmt.Errorf("config.json: low_freq_factor %v and high_freq_factor %v of the rope scaling are out of range", s.Low, s.High)
	case s.Original < 1 || s.Original > maxSize:
		return fmt.Errorf("config.json: original_max_position_embeddings %d of the rope scaling is out of range", s.Original)
	}
	return nil
}

// freqs are the rotary frequencies in radians a position (Su et al. 2021, §3.2.2), one for each pair of columns of a head.
func (a *Arch) freqs() []float64 {
	f := make([]float64, a.HeadDim/2)
	by := a.RopeFactors()
	for j := range f {
		f[j] = a.freq(j) / by[j]
	}
	return f
}

func (a *Arch) freq(j int) float64 {
	return math.Pow(a.RopeTheta, -2*float64(j)/float64(a.HeadDim))
}

// RopeFactors are what the scaling divides the rotary frequencies by (HeadDim/2); all 1 without one.
func (a *Arch) RopeFactors() []float64 {
	by := make([]float64, a.HeadDim/2)
	s := a.RopeScaling
	for j := range by {
		by[j] = 1
		if s == nil {
			continue
		}
		if by[j] = s.Factor; s.Type != "llama3" {
			continue
		}
		turns := float64(s.Original) * a.freq(j) / (2 * math.Pi) // of the pair over the first context
		switch blend := (turns - s.Low) / (s.High - s.Low); {
		case blend > 1:
			by[j] = 1
		case blend >= 0:
			by[j] = 1 / ((1-blend)/s.Factor + blend)
		}
	}
	return by
}

// sqrt32 is the root as transformers has it, in float32.
func sqrt32(n int) float64 { return float64(float32(math.Sqrt(float64(n)))) }
