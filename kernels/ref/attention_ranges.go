package ref

import "svae/kernels"

// AttentionRanges copies the rows of each list one below the other and takes Attention over the copy.
func AttentionRanges[T kernels.Float](a *kernels.Ranges) {
	kernels.CheckRanges(a)
	K, group := a.HeadDim, a.H/a.KV
	k, v := host[T](a.K), host[T](a.V)
	var ks, vs []T
	for n := range a.N {
		for g := range a.KV {
			ks, vs = ks[:0], vs[:0]
			for i := a.At[n*a.KV+g]; i < a.At[n*a.KV+g+1]; i++ {
				for row := int(a.Lo[i]); row < int(a.Hi[i]); row++ {
					at := (row*a.KV + g) * K
					ks, vs = append(ks, k[at:at+K]...), append(vs, v[at:at+K]...)
				}
			}
			m := 0
			if K > 0 {
				m = len(ks) / K
			}
			h := n*a.H + g*group
			one := &kernels.Attention{
				Out: a.Out.Slice(h*K, (h+group)*K), Q: a.Q.Slice(h*K, (h+group)*K), K: kernels.Of(ks), V: kernels.Of(vs),
				Spans: &kernels.Spans{Q: []int32{0, 1}, KLo: []int32{0}, KHi: []int32{int32(m)}},
				N:     1, M: m, H: group, KV: 1, HeadDim: K, Scale: a.Scale,
			}
			if !a.Lse.Absent() {
				one.Lse = a.Lse.Slice(h, h+group)
			}
			Attention[T](one)
		}
	}
}
