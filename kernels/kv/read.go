package kv

import (
	"fmt"
)

// read copies rows lo to hi-1 of a head; k or v may be nil.
//
//	k, v (hi-lo, K)
func (s *Store) read(k, v []float32, hd *head, lo, hi int) error {
	K, t := s.cfg.HeadDim, s.cfg.Type
	full := len(hd.blocks) * blockRows
	at := 0
	for row := lo; row < hi; {
		if row >= full {
			if k != nil {
				copy(k[at*K:], hd.k[(row-full)*K:(hi-full)*K])
			}
			if v != nil {
				copy(v[at*K:], hd.v[(row-full)*K:(hi-full)*K])
			}
			return nil
		}
		b := hd.blocks[row/blockRows]
		a := row % blockRows
		z := min(blockRows, a+hi-row)
		if i, ok := hd.hot.find(row, row+z-a); ok {
			if k != nil {
				copy(k[at*K:(at+z-a)*K], hd.hot.k[i*K:])
			}
			if v != nil {
				copy(v[at*K:(at+z-a)*K], hd.hot.v[i*K:])
			}
			row += z - a
			at += z - a
			continue
		}
		w, err := s.pool.acquire(b)
		if err != nil {
			return err
		}
		if k != nil {
			decodeKeys(k[at*K:(at+z-a)*K], w, t, a, z, K)
		}
		if v != nil {
			decodeValues(v[at*K:(at+z-a)*K], w, t, a, z, K)
		}
		s.pool.unpin(b)
		row += z - a
		at += z - a
	}
	return nil
}

// Keys copies the keys of a head that lie in ascending, disjoint ranges.
//
//	dst (M, K)
func (s *Store) Keys(dst []float32, layer, kvHead int, ranges []Range) error {
	return s.gather(dst, nil, layer, kvHead, ranges)
}

// Read copies rows lo to hi-1 of all key heads of a layer, as Attend reads them: values kept in another type are widened.
//
//	k, v (hi-lo, KV*K)
//
// It fails if a row is not there or a block can not be read.
func (s *Store) Read(k, v []float32, layer, lo, hi int) error {
	K, width := s.cfg.HeadDim, s.cfg.KVHeads*s.cfg.HeadDim
	switch {
	case layer < 0 || layer >= len(s.layers):
		return fmt.Errorf("kv: read layer %d of %d", layer, len(s.layers))
	case lo < 0 || hi < lo || hi > s.layers[layer].rows:
		return fmt.Errorf("kv: read rows %d to %d of %d", lo, hi, s.layers[layer].rows)
	case len(k) != (hi-lo)*width || len(v) != (hi-lo)*width:
		return fmt.Errorf("kv: read %d rows into %d key and %d value elements (want rows of %d)", hi-lo, len(k), len(v), width)
	}
	sc := s.scratch.Get().(*scratch)
	defer s.put(sc)
	hk, hv := sc.floats(blockRows*K), sc.floats(blockRows*K)
	for h := range s.layers[layer].heads {
		for row := lo; row < hi; {
			end := min(hi, row/blockRows*blockRows+blockRows)
			n := end - row
			if err := s.read(hk[:n*K], hv[:n*K], &s.layers[layer].heads[h], row, end); err != nil {
				return err
			}
			for i := range n {
				at := (row-lo+i)*width + h*K
				copy(k[at:at+K], hk[i*K:])
				copy(v[at:at+K], hv[i*K:])
			}
			row = end
		}
	}
	return nil
}

func (s *Store) gather(k, v []float32, layer, kvHead int, ranges []Range) error {
	at, K := 0, s.cfg.HeadDim
	for _, r := range ranges {
		n := r.Len() * K
		var kr, vr []float32
		if k != nil {
			kr = k[at : at+n]
		}
		if v != nil {
			vr = v[at : at+n]
		}
		if err := s.read(kr, vr, &s.layers[layer].heads[kvHead], r.Lo, r.Hi); err != nil {
			return err
		}
		at += n
	}
	return nil
}
