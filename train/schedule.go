package train

import "math"

// rate returns the factor of the peak learning rate at a step, from 0: linear warm-up over at most a
// quarter of the steps, then one cosine that comes to
// MinLR where the step after the last would be (Loshchilov & Hutter 2017).
func (c *Config) rate(step int) float64 {
	warmup := min(c.Warmup, c.Steps/4)
	if step < warmup {
		return float64(step+1) / float64(warmup)
	}
	t := float64(step-warmup) / math.Max(1, float64(c.Steps-warmup))
	return c.MinLR + (1-c.MinLR)*0.5*(1+math.Cos(math.Pi*math.Min(1, t)))
}
