package cpu

// valueRows is how many values of a step are added up by one call of a kernel.
const valueRows = 4 * tileCols

// runStep is runForward for one query, whose heads are rows of K elements, one after the other. All heads of the part
// take in 16 keys, or 64 values, before the next, so that keys and values are read in the order they lie in. Every sum has the
// chains that runForward gives it.
func (j *attention) runStep(p attentionPart) {
	K, sp := j.HeadDim, j.Spans
	row, lo := int(sp.Q[p.segment])+p.first, int(sp.KLo[p.segment])
	m := int(sp.KHi[p.segment]) - lo
	if sp.Causal {
		m += p.last - int(sp.Q[p.segment+1]-sp.Q[p.segment])
	}
	r := rows{row*j.sq + p.head*j.group*K, K, p.heads * j.group, row*j.H + p.head*j.group, 1, m, 0}
	block := min(keyBlock, roundUp(max(m, 1), tileCols))
	s := getScratch(tileCols*K + r.n*(block+K+4))
	defer s.put()
	st := forwardState{keys: s.f[:tileCols*K]}
	st.rows(s.f[tileCols*K:], r.n, K)
	clear(j.out[r.at:][:r.n*K])
	for st.from = 0; st.from < m; st.from += keyBlock {
		st.n = min(keyBlock, m-st.from)
		at := (lo+st.from)*j.sk + p.head*K
		for t := 0; t < st.n; t += tileCols {
			j.stepScores(&st, p, r, at+t*j.sk, t, block)
		}
		for i := range r.n {
			j.softmax(&st, st.scores[i*block:], st.n, i)
		}
		out := st.target(j.out[r.at:][:r.n*K])
		for t := 0; t < st.n; t += valueRows {
			j.stepValues(&st, p, at+t*j.sk, t, block, out)
		}
		st.mergeAll(j.out[r.at:][:r.n*K], K)
	}
	j.finish(&st, r, 0)
}

// stepScores computes the scores of 16 keys from t on, the first of which lies at k[at].
func (j *attention) stepScores(st *forwardState, p attentionPart, r rows, at, t, block int) {
	K := j.HeadDim
	if t+2*tileCols <= st.n {
		fetch(j.k[at+tileCols*j.sk:], j.sk, tileCols, p.heads*K)
	}
	each := evenRows(j.group)
	for h := range p.heads {
		packT(st.keys, j.k[at+h*K:], j.sk, min(tileCols, st.n-t), K)
		for g := 0; g < j.group; g += each {
			i := h*j.group + g
			kernel(min(each, j.group-g), K, j.q[r.at+i*K:], K, 1, st.keys, tileCols, st.scores[i*block+t:], block, modeSet)
		}
	}
}

// evenRows returns how many rows a kernel takes so that n rows go by as few calls, of about the same size: one row alone
// waits for its own sums nearly as long as six do.
func evenRows(n int) int {
	calls := (n + tileRows - 1) / tileRows
	return (n + calls - 1) / calls
}

// stepValues adds the weighed values of 64 keys from t on, the first of which lies at v[at], to out, a row a query head.
func (j *attention) stepValues(st *forwardState, p attentionPart, at, t, block int, out []float32) {
	K, n, each := j.HeadDim, min(valueRows, st.n-t), evenRows(j.group)
	if t+2*valueRows <= st.n {
		fetch(j.v[at+valueRows*j.sk:], j.sk, valueRows, p.heads*K)
	}
	for h := range p.heads {
		for g := 0; g < j.group; g += each {
			i, c := h*j.group+g, 0
			for ; j.group == 1 && c+rowCols <= K; c += rowCols {
				kernelRow(n, st.scores[i*block+t:], j.v[at+h*K+c:], tileCols, j.sk, out[i*K+c:], modeFrom)
			}
			for ; c < K; c += tileCols {
				kernel(min(each, j.group-g), n, st.scores[i*block+t:], block, 1, j.v[at+h*K+c:], j.sk, out[i*K+c:], K,
					modeFrom)
			}
		}
	}
}

// rows gives n rows of K outputs their state and their scores, which take what is left of f.
func (st *forwardState) rows(f []float32, n, K int) {
	st.best, f = f[:n], f[n:]
	st.sum, f = f[:n], f[n:]
	st.partBest, f = f[:n], f[n:]
	st.partSum, f = f[:n], f[n:]
	st.part, st.scores = f[:n*K], f[n*K:]
}

// target returns where the weighed values of the block are added up: out, if it is the first.
func (st *forwardState) target(out []float32) []float32 {
	if st.from == 0 {
		return out
	}
	clear(st.part)
	return st.part
}

// mergeAll merges the block, unless it is the first, with those before it.
func (st *forwardState) mergeAll(out []float32, K int) {
	if st.from == 0 {
		return
	}
	for i := range st.best {
		st.merge(i, out[i*K:][:K], st.part[i*K:][:K])
	}
}
