package data

// maxIDs is how many ids are remembered to count duplicates: 256 MiB of memory.
const maxIDs = 1 << 24

// idSet is a set of hashes of ids with a bounded size; when it is full, ids not yet in it are not added.
type idSet struct {
	slots []uint64 // 0: free
	n     int
}

// add adds h and reports whether it was there.
func (s *idSet) add(h uint64) bool {
	h |= 1 // never 0
	if 2*s.n >= len(s.slots) && s.n < maxIDs {
		old := s.slots
		s.slots = make([]uint64, max(1024, 2*len(old)))
		for _, v := range old {
			if v != 0 {
				*s.slot(v) = v
			}
		}
	}
	at := s.slot(h)
	if *at == h {
		return true
	}
	if s.n < maxIDs {
		*at = h
		s.n++
	}
	return false
}

// slot returns where h is or would be.
func (s *idSet) slot(h uint64) *uint64 {
	for i := (h >> 1) * 0x9e3779b97f4a7c15 % uint64(len(s.slots)); ; i = (i + 1) % uint64(len(s.slots)) {
		if s.slots[i] == 0 || s.slots[i] == h {
			return &s.slots[i]
		}
	}
}
