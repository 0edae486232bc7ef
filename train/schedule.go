package train

import "math"

// rate returns the factor of the peak learning rate at a step, from 0: linear warm-up, then one cosine that comes to
// MinLR where the step after the last would be (Loshchilov & Hutter 2017).
func (c *Config) rate(step int) float64 {
	if step < c.Warmup {
		return float64(step+1) / float64(c.Warmup)
	}
	t := float64(step-c.Warmup) / math.Max(1, float64(c.Steps-c.Warmup))
	return c.MinLR + (1-c.MinLR)*0.5*(1+math.Cos(math.Pi*math.Min(1, t)))
}
