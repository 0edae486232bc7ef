package train

import (
	"fmt"
	"math"

	"svae/kernels"
	"svae/kernels/op"
	"svae/vae"
)

// optimizer is AdamW over a model's weights, with one learning rate for new weights and one for the base's.
type optimizer struct {
	cfg    *Config
	store  *vae.Store
	m, v   map[string]kernels.Buf
	sum    map[string]kernels.Buf // gradients of the batches of a step, where a step has several
	factor map[string]float64     // of the learning rate
}

func newOptimizer(c *Config, s *vae.Store) *optimizer {
	o := &optimizer{cfg: c, store: s, m: map[string]kernels.Buf{}, v: map[string]kernels.Buf{}, sum: map[string]kernels.Buf{}, factor: map[string]float64{}}
	for _, w := range s.Weights() {
		if o.factor[w.Name] = o.group(w); o.factor[w.Name] > 0 {
			o.m[w.Name], o.v[w.Name] = s.Backend().Alloc(w.Elements()), s.Backend().Alloc(w.Elements())
		}
	}
	return o
}

// group returns the factor of the learning rate of a weight; 0: it is frozen.
func (o *optimizer) group(w vae.Weight) float64 {
	f := 1.0
	if o.cfg.Stage == LM && o.cfg.Base != "" || !w.New && o.cfg.Stage == SLLM {
		f = o.cfg.BaseLR
	}
	return f * max(1, w.Rate)
}

func (o *optimizer) trainable(name string) bool { return o.factor[name] > 0 }

// accumulate adds the gradients of one batch to those of the step.
func (o *optimizer) accumulate(grads []op.Grad) {
	be := o.store.Backend()
	for _, g := range grads {
		if g.Data.Absent() {
			continue
		}
		s, ok := o.sum[g.Name]
		if !ok {
			s = be.Alloc(g.Data.Len())
			o.sum[g.Name] = s
		}
		be.AddScaled(s, 1, g.Data, g.Data.Len())
	}
}

// step updates the weights from the sums of gradients over a step of count text tokens and returns the norm of
// the mean a token. It changes
// nothing and names the tensor if a gradient is not finite.
func (o *optimizer) step(step int, grads []op.Grad, count int) (norm float64, err error) {
	be := o.store.Backend()
	if o.cfg.Accumulate > 1 {
		for i := range grads {
			if !grads[i].Data.Absent() {
				grads[i].Data = o.sum[grads[i].Name]
			}
		}
	}
	scale := 1 / float64(count)
	for _, g := range grads {
		if g.Data.Absent() {
			continue
		}
		s := be.SumSquares(g.Data, g.Data.Len())
		if math.IsNaN(s) || math.IsInf(s, 0) {
			return 0, fmt.Errorf("step %d: the gradient of %s is not finite", step, g.Name)
		}
		norm += s
	}
	norm = math.Sqrt(norm) * scale
	if o.cfg.Clip > 0 && norm > o.cfg.Clip {
		scale *= o.cfg.Clip / norm
	}
	lr := o.cfg.LR * o.cfg.rate(step)
	for _, g := range grads {
		if g.Data.Absent() {
			continue
		}
		be.AdamW(o.store.Buf(g.Name), o.m[g.Name], o.v[g.Name], g.Data, kernels.AdamW{LR: lr * o.factor[g.Name], Beta1: o.cfg.Beta1, Beta2: o.cfg.Beta2,
			Eps: o.cfg.Eps, WeightDecay: o.cfg.WeightDecay, GradScale: scale, Step: step + 1}, g.Data.Len())
		if s, ok := o.sum[g.Name]; ok {
			be.Zero(s)
		}
	}
	return norm, nil
}

// broken names a weight that is not finite, for an error message; "" if all are.
func (o *optimizer) broken() string {
	be := o.store.Backend()
	for _, w := range o.store.Weights() {
		b := o.store.Buf(w.Name)
		if s := be.SumSquares(b, b.Len()); math.IsNaN(s) || math.IsInf(s, 0) {
			return fmt.Sprintf(", for the weight %s is not finite", w.Name)
		}
	}
	return ""
}
