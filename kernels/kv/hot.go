package kv

import "slices"

// hotRows is copies of single rows of full blocks of a head, which lie scattered and which every step reads: copied, they are
// read in the order they lie in, and do not each keep a block of 64 rows in RAM. It never changes; forks share it.
type hotRows struct {
	rows []int     // ascending
	k, v []float32 // (len(rows), K)
}

// find returns where the rows lo to hi-1 are, if all of them are hot.
func (h *hotRows) find(lo, hi int) (int, bool) {
	if h == nil {
		return 0, false
	}
	i, ok := slices.BinarySearch(h.rows, lo)
	return i, ok && i+hi-lo <= len(h.rows) && h.rows[i+hi-lo-1] == hi-1
}

// keepHot makes copies of ascending rows of a head, as far as they lie in full blocks, and forgets others.
func (s *Store) keepHot(hd *head, rows []int) error {
	n, _ := slices.BinarySearch(rows, len(hd.blocks)*blockRows)
	K := s.cfg.HeadDim
	h := &hotRows{rows: slices.Clone(rows[:n]), k: make([]float32, n*K), v: make([]float32, n*K)}
	for i, r := range h.rows {
		if err := s.read(h.k[i*K:(i+1)*K], h.v[i*K:(i+1)*K], hd, r, r+1); err != nil {
			return err
		}
	}
	hd.hot = h
	return nil
}
