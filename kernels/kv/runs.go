package kv

// runBackend is a backend that attends to rows where they lie, with the bits of its Attention over a copy of them.
type runBackend interface {
	AttentionRuns(out, lse, q []float32, keys, values [][]float32, at []int, H, K int, scale float64)
}

// runs is where the rows of lists of ranges lie, in float32: list i is runs at[i] to at[i+1]-1.
type runs struct {
	k, v [][]float32
	at   []int
}

// gather finds the rows, of a pool whose blocks all stay in RAM.
func (r *runs) gather(s *Store, layer int, ranges [][]Range) error {
	r.at = append(r.at[:0], 0)
	r.k, r.v = r.k[:0], r.v[:0]
	K := s.cfg.HeadDim
	for i, rs := range ranges {
		hd := &s.layers[layer].heads[i*s.cfg.KVHeads/len(ranges)]
		full := len(hd.blocks) * blockRows
		var words []uint32
		last, hot, joined := -1, 0, -1
		for _, x := range rs {
			if h := hd.hot; h != nil {
				for hot < len(h.rows) && h.rows[hot] < x.Lo {
					hot++
				}
				if end := hot + x.Len(); end <= len(h.rows) && h.rows[hot] == x.Lo && h.rows[end-1] == x.Hi-1 {
					if n := len(r.k) - 1; joined >= 0 { // the copies follow each other
						r.k[n], r.v[n] = h.k[joined*K:end*K], h.v[joined*K:end*K]
					} else {
						r.add(h.k, h.v, hot, end, K)
						joined = hot
					}
					continue
				}
			}
			joined = -1
			for row := x.Lo; row < x.Hi; {
				if row >= full {
					r.add(hd.k, hd.v, row-full, x.Hi-full, K)
					break
				}
				b, lo := row/blockRows, row%blockRows
				hi := min(blockRows, lo+x.Hi-row)
				if b != last {
					var err error
					if words, err = s.pool.acquire(hd.blocks[b]); err != nil {
						return err
					}
					last = b
				}
				f := asFloats(words)
				r.add(f, f[blockRows*K:], lo, hi, K)
				row += hi - lo
			}
		}
		r.at = append(r.at, len(r.k))
	}
	return nil
}

func (r *runs) add(k, v []float32, lo, hi, K int) {
	r.k, r.v = append(r.k, k[lo*K:hi*K]), append(r.v, v[lo*K:hi*K])
}

// release forgets the rows.
func (r *runs) release() {
	clear(r.k)
	clear(r.v)
}
