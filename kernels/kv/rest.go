package kv

import (
	"math"

	"svae/kernels/cpu"
)

// remainder estimates the rows that one key head does not read: nodes with their mass (n, G), as a multiple of exp(base)
// (G), and mean value (n, K).
type remainder struct{ base, mass, val []float32 }

func (r *remainder) reset() { r.base, r.mass, r.val = r.base[:0], r.mass[:0], r.val[:0] }

// share returns the share of the mass that the estimate claims for head g of G, rounded up.
func (r *remainder) share(g, G int, lse float64) float64 {
	var sum float64
	for i := g; i < len(r.mass); i += G {
		sum += float64(r.mass[i])
	}
	if sum > 0 {
		sum *= math.Exp(float64(r.base[g]) - lse)
	}
	return sum / (1 + sum) * (1 + 1e-5)
}

// negligible is the estimated share of the mass below which a node is left out of the estimate of the rest.
const negligible = 1.0 / 1024

// estimate sets the share of the mass that is read, by estimate, and fills rest with the nodes that are not.
func (f *frontier) estimate(share []float32, rest *remainder, want bool) {
	rest.reset()
	rest.base = append(rest.base, f.total...)
	if f.flat {
		f.estimateFlat(share, rest, want)
		return
	}
	G := f.G
	lost := share
	clear(lost)
	for _, n := range f.heap {
		rows := f.free(int(n.id), n.parent)
		if !n.parent {
			rows -= f.taken[n.id]
		}
		var most float32
		for g, x := range f.share[int(n.est)*G : (int(n.est)+1)*G] {
			m := float32(rows) * x
			lost[g] += m
			most = max(most, m)
		}
		if !want || most < negligible {
			continue
		}
		ln := logInt(rows)
		for g := range G {
			rest.mass = append(rest.mass, expf(ln+f.low[int(n.est)*G+g]-f.total[g]))
		}
		f.scanned += int64(4 * f.K)
		val := f.hd.seg.val
		if n.parent {
			val = f.hd.par.val
		}
		rest.val = append(rest.val, val.row(int(n.id))...)
	}
	for g := range G {
		share[g] = 1 - min(lost[g], 1)
		if f.bare {
			share[g] = float32(math.NaN())
		}
	}
}

// blend adds the estimate of the rest to the output of the rows read, whose log-sum-exp is lse:
// out = (exp(lse)·out + Σ mass·val) / (exp(lse) + Σ mass).
func (s *Store) blend(out, lse []float32, sel *Selection) {
	K, G := s.cfg.HeadDim, s.cfg.Heads/s.cfg.KVHeads
	for h := range sel.rest {
		r := &sel.rest[h]
		n := len(r.val) / K
		if n == 0 {
			continue
		}
		sc := s.scratch.Get().(*scratch)
		w, sum, z, by := sc.floats(cpu.Lanes*n), sc.floats(G*K), sc.floats(G), sc.floats(G)
		clear(w)
		clear(sum)
		for g := range G {
			z[g], by[g] = 1, expf(r.base[g]-lse[h*G+g])
		}
		for g := 0; g < G; g += cpu.Lanes {
			some := min(cpu.Lanes, G-g)
			for i := range n {
				for c, m := range r.mass[i*G+g:][:some] {
					m *= by[g+c]
					w[i*cpu.Lanes+c] = m
					z[g+c] += m
				}
			}
			cpu.WeighRows(sum[g*K:(g+some)*K], w, r.val, n, K, some)
		}
		for g := range G {
			o := out[(h*G+g)*K : (h*G+g+1)*K]
			for c := range o {
				o[c] = (o[c] + sum[g*K+c]) / z[g]
			}
		}
		s.put(sc)
	}
}
