package cpu

import "svae/kernels"

const backBlock = 256 // keys that the backward pass holds at the same time

// AttentionBackward is kernels.Backend's. Sums over queries run by head of a group, then by ascending row; segments that
// read the same keys add to them in ascending order.
func (b *Backend) AttentionBackward(a *kernels.Attention) {
	j := newAttention(a)
	for _, x := range [...]kernels.Buf{a.Out, a.DOut, a.DQ} {
		kernels.CheckLen(x, a.N*j.sq)
	}
	kernels.CheckLen(a.DK, a.M*j.sk)
	kernels.CheckLen(a.DV, a.M*j.sk)
	kernels.CheckLen(a.Lse, a.N*a.H)
	j.backward = true
	j.dQ, j.dK, j.dV, j.dOut = a.DQ.F32(), a.DK.F32(), a.DV.F32(), a.DOut.F32()
	clear(j.dQ[:a.N*j.sq])
	clear(j.dK[:a.M*j.sk])
	clear(j.dV[:a.M*j.sk])
	sp, work := a.Spans, 0
	for first := 0; first < len(sp.KLo); {
		// Segments whose ranges of keys touch those before them go into one part.
		last, end := first, sp.KLo[first]
		for last < len(sp.KLo) && (last == first || sp.KLo[last] < end) {
			end = max(end, sp.KHi[last])
			work += int(sp.Q[last+1]-sp.Q[last]) * int(sp.KHi[last]-sp.KLo[last]) * j.sq * 3
			last++
		}
		for h := range a.KV {
			j.parts = append(j.parts, attentionPart{h, 1, 0, first, last})
		}
		first = last
	}
	if !rising(sp) {
		j.parts = j.parts[:0]
		for h := range a.KV {
			j.parts = append(j.parts, attentionPart{h, 1, 0, 0, len(sp.KLo)})
		}
	}
	j.do(b.pool, work)
}

// rising says that no segment's keys begin before those of an earlier one.
func rising(sp *kernels.Spans) bool {
	for s := 1; s < len(sp.KLo); s++ {
		if sp.KLo[s] < sp.KLo[s-1] {
			return false
		}
	}
	return true
}

// backwardState is the scratch of a part of the backward pass.
type backwardState struct {
	keys, values []float32 // a block of keys and of values, transposed, in panels
	rows         []float32 // the keys as they are, in panels
	p, ds        []float32 // queryBlock rows of probabilities and of gradients of scores
	q, dOut      []float32 // those rows of q and of dOut, in panels
	block        int       // elements between rows of p and ds
	from, n, key int       // the block of keys; where its first key lies in k
}

func (j *attention) runBackward(p attentionPart) {
	K, sp := j.HeadDim, j.Spans
	for segment := p.first; segment < p.last; segment++ {
		n, m := int(sp.Q[segment+1]-sp.Q[segment]), int(sp.KHi[segment]-sp.KLo[segment])
		if n == 0 || m == 0 {
			continue
		}
		wide := roundUp(K, tileCols)
		st := backwardState{block: min(backBlock, roundUp(m, tileCols))}
		s := getScratch(3*st.block*wide + 2*queryBlock*(st.block+wide))
		f := s.f
		st.keys, f = f[:st.block*wide], f[st.block*wide:]
		st.values, f = f[:st.block*wide], f[st.block*wide:]
		st.rows, f = f[:st.block*wide], f[st.block*wide:]
		st.p, f = f[:queryBlock*st.block], f[queryBlock*st.block:]
		st.ds, f = f[:queryBlock*st.block], f[queryBlock*st.block:]
		st.q, st.dOut = f[:queryBlock*wide], f[queryBlock*wide:]
		for st.from = 0; st.from < m; st.from += st.block {
			st.n = min(st.block, m-st.from)
			st.key = (int(sp.KLo[segment])+st.from)*j.sk + p.head*K
			for i := 0; i < st.n; i += tileCols {
				packT(st.keys[i*K:], j.k[st.key+i*j.sk:], j.sk, min(tileCols, st.n-i), K)
				packT(st.values[i*K:], j.v[st.key+i*j.sk:], j.sk, min(tileCols, st.n-i), K)
			}
			packN(st.rows, j.k[st.key:], j.sk, K, st.n)
			for g := range j.group {
				for i := 0; i < n; i += queryBlock {
					row, h := int(sp.Q[segment])+i, p.head*j.group+g
					r := rows{row*j.sq + h*K, j.sq, min(queryBlock, n-i), row*j.H + h, j.H, m, 0}
					if sp.Causal {
						r.seen, r.step = m-n+i+1, 1
					}
					j.backwardBlock(&st, r)
				}
			}
		}
		s.put()
	}
}

// backwardBlock does some rows over one block of keys.
func (j *attention) backwardBlock(st *backwardState, r rows) {
	K := j.HeadDim
	if r.seen+(r.n-1)*r.step <= st.from {
		return
	}
	packN(st.q, j.q[r.at:], r.stride, K, r.n)
	packN(st.dOut, j.dOut[r.at:], r.stride, K, r.n)
	for i := 0; i < r.n; i += tileRows {
		n := min(tileRows, r.n-i)
		seen := min(r.seen+(i+n-1)*r.step-st.from, st.n)
		if seen <= 0 {
			continue
		}
		at := r.at + i*r.stride
		for c := 0; c < seen; c += tileCols {
			kernel(n, K, j.q[at:], r.stride, 1, st.keys[c*K:], tileCols, st.p[i*st.block+c:], st.block, modeSet)
			kernel(n, K, j.dOut[at:], r.stride, 1, st.values[c*K:], tileCols, st.ds[i*st.block+c:], st.block, modeSet)
		}
		for a := i; a < i+n; a++ {
			seen := min(r.seen+a*r.step-st.from, st.n)
			if seen <= 0 {
				continue
			}
			wide, at := roundUp(seen, 8), r.at+a*r.stride
			p, ds := st.p[a*st.block:][:wide], st.ds[a*st.block:][:wide]
			expSum(p, float32(j.Scale), j.lse[r.lse+a*r.lseStep])
			slope(p, ds, dot(j.dOut[at:][:K], j.out[at:][:K]), float32(j.Scale))
		}
		j.backwardQ(st, r, i, n)
	}
	for key := 0; key < st.n; key += tileRows {
		j.backwardKV(st, r, key, min(tileRows, st.n-key))
	}
}

// backwardQ adds dS·k to rows i to i+n-1 of dQ, as weigh does to the outputs.
func (j *attention) backwardQ(st *backwardState, r rows, i, n int) {
	common := max(0, min(r.seen+i*r.step-st.from, st.n))
	last := min(r.seen+(i+n-1)*r.step-st.from, st.n)
	for c := 0; c < j.HeadDim; c += tileCols {
		k, dq, cols := st.rows[c*st.n:], j.dQ[r.at+i*r.stride+c:], j.HeadDim-c
		if common > 0 {
			product(n, common, st.ds[i*st.block:], st.block, 1, k, tileCols, dq, r.stride, cols, modeFrom)
		}
		for t := common; t < last; t++ {
			a := max(0, t+1-(r.seen+i*r.step-st.from))
			product(n-a, 1, st.ds[(i+a)*st.block+t:], st.block, 1, k[t*tileCols:], tileCols, dq[a*r.stride:], r.stride, cols,
				modeFrom)
		}
	}
}

// backwardKV adds Pᵀ·dOut and dSᵀ·q to n key rows of dV and dK, query by query where only some of the keys are seen.
func (j *attention) backwardKV(st *backwardState, r rows, key, n int) {
	some, first := 0, 0 // the first query that sees any of the n keys, and the first that sees all
	if r.step > 0 {
		some, first = max(0, st.from+key+1-r.seen), max(0, st.from+key+n-r.seen)
	}
	for c := 0; c < j.HeadDim; c += tileCols {
		at, cols := st.key+key*j.sk+c, j.HeadDim-c
		q, dOut, dK, dV := st.q[c*r.n:], st.dOut[c*r.n:], j.dK[at:], j.dV[at:]
		for i := some; i < min(first, r.n); i++ {
			a, seen := i*st.block+key, r.seen+i-st.from-key
			product(seen, 1, st.ds[a:], 1, st.block, q[i*tileCols:], tileCols, dK, j.sk, cols, modeFrom)
			product(seen, 1, st.p[a:], 1, st.block, dOut[i*tileCols:], tileCols, dV, j.sk, cols, modeFrom)
		}
		if first < r.n {
			a, kc := first*st.block+key, r.n-first
			product(n, kc, st.ds[a:], 1, st.block, q[first*tileCols:], tileCols, dK, j.sk, cols, modeFrom)
			product(n, kc, st.p[a:], 1, st.block, dOut[first*tileCols:], tileCols, dV, j.sk, cols, modeFrom)
		}
	}
}
