package ref

import "svae/kernels"

// Top computes all logits of each row and takes the best, the lowest id of equals. It reads neither t.Q nor t.Bounds.
func Top[T kernels.Float](t *kernels.Top) {
	kernels.CheckTop(t)
	var b Backend[T]
	z := make([]T, t.V)
	scores := host[T](t.Scores)
	for n := range t.N {
		b.Linear(kernels.Of(z), kernels.Buf{}, t.X.Slice(n*t.D, (n+1)*t.D), t.W, t.B, kernels.None, 1, t.D, t.V)
		best := 0
		for v := range z {
			if z[v] > z[best] {
				best = v
			}
		}
		t.IDs[n] = int32(best)
		if scores != nil {
			scores[n] = z[best]
		}
	}
	t.Scored = t.N * t.V
}
