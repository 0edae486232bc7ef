package ref

import (
	"math"

	"svae/kernels"
)

// AdamW does one update of Adam with decoupled weight decay (Loshchilov & Hutter 2019, algorithm 2) as
// torch.optim.AdamW does it, and keeps m and v. With g' = GradScale·g,
//
//	w *= 1 - LR·WeightDecay
//	m = Beta1·m + (1-Beta1)·g'    v = Beta2·v + (1-Beta2)·g'²
//	w -= LR·(m/(1-Beta1^Step)) / (√(v/(1-Beta2^Step)) + Eps)
//
//	w, m, v, g (n)
func AdamW[T kernels.Float](w, m, v, g []T, p kernels.AdamW, n int) {
	check(n, w, m, v, g)
	step := T(p.LR / (1 - math.Pow(p.Beta1, float64(p.Step))))
	root := T(1 / math.Sqrt(1-math.Pow(p.Beta2, float64(p.Step))))
	decay, scale, eps := T(1-p.LR*p.WeightDecay), T(p.GradScale), T(p.Eps)
	b1, b2, c1, c2 := T(p.Beta1), T(p.Beta2), T(1-p.Beta1), T(1-p.Beta2)
	for i := range n {
		d := g[i] * scale
		m[i] = b1*m[i] + c1*d
		v[i] = b2*v[i] + c2*d*d
		w[i] = w[i]*decay - step*m[i]/(T(math.Sqrt(float64(v[i])))*root+eps)
	}
}
