package kv

import (
	"fmt"
	"math"
	"slices"
	"sync"

	"svae/kernels"
)

// Store holds the keys and values of one sequence. One goroutine at a time may change it; while none does, any number may
// read. Forks and other stores of its pool are independent of it.
type Store struct {
	cfg     Config
	backend kernels.Backend
	pool    *Pool
	own     bool // the pool is closed with the store
	layers  []layer
	ends    []int // where each segment ends
	cuts    int   // how often segments were dropped
	scratch *sync.Pool
}

type layer struct {
	rows  int
	heads []head
}

// head is the rows of one key head: full blocks, then up to 63 rows (K) each of keys and values.
type head struct {
	blocks []*block
	k, v   []float32
	seg    summaries
	par    summaries
	index  index // of paragraphs: the means of their segments in bytes
	rank   table // of paragraphs: the box around the means of their segments (2K)
	wide   table // of paragraphs: the largest variances of their segments (K)
	hot    *hotRows
}

// New returns an empty store. Its blocks lie in pool, or with pool nil in RAM without limit. The backend computes attention
// and scores.
func New(cfg Config, b kernels.Backend, pool *Pool) (*Store, error) {
	if err := cfg.fill(); err != nil {
		return nil, err
	}
	s := &Store{cfg: cfg, backend: b, pool: pool, layers: make([]layer, cfg.Layers),
		scratch: &sync.Pool{New: func() any { return new(scratch) }}}
	if pool == nil {
		s.pool, s.own = NewPool(0, ""), true
	}
	for l := range s.layers {
		s.layers[l].heads = make([]head, cfg.KVHeads)
		for h := range s.layers[l].heads {
			s.layers[l].heads[h] = newHead(cfg.HeadDim)
		}
	}
	return s, nil
}

func newHead(K int) head {
	return head{seg: newSummaries(K), par: newSummaries(K), index: newIndex(K), rank: table{width: 2 * K}, wide: table{width: K}}
}

// Config returns the configuration, defaults filled in.
func (s *Store) Config() Config { return s.cfg }

// Len returns the number of rows that every layer has.
func (s *Store) Len() int {
	n := s.layers[0].rows
	for _, l := range s.layers {
		n = min(n, l.rows)
	}
	return n
}

// Rows returns the number of rows of a layer.
func (s *Store) Rows(layer int) int { return s.layers[layer].rows }

// Sealed returns where the last segment ends. Rows from there on are open: no summary covers them.
func (s *Store) Sealed() int {
	if len(s.ends) == 0 {
		return 0
	}
	return s.ends[len(s.ends)-1]
}

// Segments returns the number of segments.
func (s *Store) Segments() int { return len(s.ends) }

// Segment returns the rows of segment i.
func (s *Store) Segment(i int) Range {
	if i == 0 {
		return Range{0, s.ends[0]}
	}
	return Range{s.ends[i-1], s.ends[i]}
}

// Append adds rows to a layer.
//
//	k, v (N, KV*K)    keys after rotation, and values
//
// It fails, changing nothing, if a number is not finite. If the file of the pool can not be written it fails too, and
// keeps the rows before the block at fault.
func (s *Store) Append(layer int, k, v []float32) error {
	K, width := s.cfg.HeadDim, s.cfg.KVHeads*s.cfg.HeadDim
	if layer < 0 || layer >= len(s.layers) {
		return fmt.Errorf("kv: append to layer %d of %d", layer, len(s.layers))
	}
	if len(k)%width != 0 || len(k) != len(v) {
		return fmt.Errorf("kv: append %d key and %d value elements to layer %d (want rows of %d)", len(k), len(v), layer, width)
	}
	for _, x := range [2][]float32{k, v} {
		if i := notFinite(x, s.cfg.Type); i >= 0 {
			return fmt.Errorf("kv: layer %d row %d holds %v", layer, s.layers[layer].rows+i/width, x[i])
		}
	}
	l := &s.layers[layer]
	for n := len(k) / width; n > 0; {
		space := blockRows - l.rows%blockRows
		m := min(space, n)
		for h := range l.heads {
			l.heads[h].take(k, v, h*K, width, m, K, s.cfg.Type)
		}
		if m == space {
			if err := s.fold(l); err != nil {
				for h := range l.heads {
					l.heads[h].k, l.heads[h].v = l.heads[h].k[:l.rows%blockRows*K], l.heads[h].v[:l.rows%blockRows*K]
				}
				return err
			}
		}
		l.rows += m
		if m == space && s.cfg.Type == I8 {
			if err := s.refresh(l, l.rows-blockRows); err != nil {
				return err
			}
		}
		n -= m
		k, v = k[m*width:], v[m*width:]
	}
	return nil
}

// notFinite returns the first element that is not finite, or would not be in bfloat16, or -1.
func notFinite(x []float32, t Type) int {
	limit := float32(math.MaxFloat32)
	if t == BF16 {
		limit = math.Float32frombits(0x7f7f7fff)
	}
	for i, v := range x {
		if !(v <= limit && v >= -limit) {
			return i
		}
	}
	return -1
}

// take copies m rows of the head at offset at to the tail.
func (h *head) take(k, v []float32, at, width, m, K int, t Type) {
	for r := range m {
		h.k = append(h.k, k[r*width+at:][:K]...)
		h.v = append(h.v, v[r*width+at:][:K]...)
	}
	if t != BF16 {
		return
	}
	for _, x := range [2][]float32{h.k[len(h.k)-m*K:], h.v[len(h.v)-m*K:]} {
		for i := range x {
			x[i] = math.Float32frombits(uint32(half(x[i])) << 16)
		}
	}
}

// fold makes blocks of the tails of a layer, which hold 64 rows each.
func (s *Store) fold(l *layer) error {
	size := blockWords(s.cfg.Type, s.cfg.HeadDim)
	made := make([]*block, 0, len(l.heads))
	for h := range l.heads {
		w := s.pool.memory(size)
		encode(w, s.cfg.Type, l.heads[h].k, l.heads[h].v, s.cfg.HeadDim)
		b, err := s.pool.add(w)
		made = append(made, b)
		if err != nil {
			for _, b := range made {
				b.release()
			}
			return err
		}
	}
	for h := range l.heads {
		hd := &l.heads[h]
		hd.blocks = append(hd.blocks, made[h])
		hd.k, hd.v = hd.k[:0], hd.v[:0]
	}
	return nil
}

// refresh summarises again the segments that reach beyond row from, which has changed by rounding.
func (s *Store) refresh(l *layer, from int) error {
	first, _ := slices.BinarySearch(s.ends, from+1)
	for h := range l.heads {
		n := l.heads[h].seg.len()
		for i := first; i < n; i++ {
			if err := s.summarise(l, h, i); err != nil {
				return err
			}
		}
		for p := first / paragraph; p < l.heads[h].par.len(); p++ {
			l.heads[h].paragraphOf(p)
		}
	}
	return nil
}

// Seal says that a sentence ends before row n, which every layer must have. Open rows become segments: of MaxSegment rows
// each as long as there are as many, then what is left, unless it is shorter than MinSegment: that becomes part of the
// next sentence. Sealing up to where a segment ends already changes nothing.
func (s *Store) Seal(n int) error { return s.seal(n, true) }

// Split cuts the open rows before n as Seal does, but leaves what is shorter than MaxSegment open. Called after every
// step, it keeps the open rows few where no sentence ends; it never changes where Seal puts its boundaries.
func (s *Store) Split(n int) error { return s.seal(n, false) }

func (s *Store) seal(n int, rest bool) error {
	if n > s.Len() {
		return fmt.Errorf("kv: seal at row %d of %d", n, s.Len())
	}
	start := s.Sealed()
	if n < start {
		return fmt.Errorf("kv: seal at row %d, but a segment ends at %d", n, start)
	}
	for n-start >= s.cfg.MaxSegment {
		start += s.cfg.MaxSegment
		if err := s.close(start); err != nil {
			return err
		}
	}
	if rest && n-start >= s.cfg.MinSegment {
		return s.close(n)
	}
	return nil
}

// close ends a segment at row n and summarises it.
func (s *Store) close(n int) error {
	s.ends = append(s.ends, n)
	i := len(s.ends) - 1
	for l := range s.layers {
		for h := range s.layers[l].heads {
			if err := s.summarise(&s.layers[l], h, i); err != nil {
				s.ends = s.ends[:i]
				s.cutSummaries()
				return err
			}
		}
	}
	if (i+1)%paragraph == 0 {
		for l := range s.layers {
			for h := range s.layers[l].heads {
				s.layers[l].heads[h].paragraphOf(i / paragraph)
			}
		}
	}
	return nil
}

// Fork returns a store of the same rows. Blocks and summaries are shared until one of the two changes them; the few
// rows after the last full block are copied. Both must be closed.
func (s *Store) Fork() *Store {
	c := *s
	c.own = false
	c.ends = slices.Clone(s.ends)
	c.layers = make([]layer, len(s.layers))
	for l := range s.layers {
		from, to := &s.layers[l], &c.layers[l]
		to.rows, to.heads = from.rows, make([]head, len(from.heads))
		for h := range from.heads {
			a := &from.heads[h]
			to.heads[h] = head{blocks: slices.Clone(a.blocks), k: slices.Clone(a.k), v: slices.Clone(a.v),
				seg: a.seg.fork(), par: a.par.fork(), index: a.index.fork(), rank: a.rank.fork(), wide: a.wide.fork(), hot: a.hot}
			for _, b := range a.blocks {
				b.retain()
			}
		}
	}
	return &c
}

// Truncate drops the rows from n on, in every layer, and the segments that reach beyond. In an int8 store a row that lay
// in a full block keeps its rounded value, so that only a multiple of 64, or a row after the last full block, leaves the
// state of a store that never was longer.
func (s *Store) Truncate(n int) error {
	if n < 0 || n > s.Len() {
		return fmt.Errorf("kv: truncate %d rows to %d", s.Len(), n)
	}
	K := s.cfg.HeadDim
	full, rest := n/blockRows, n%blockRows
	for l := range s.layers {
		for h := range s.layers[l].heads {
			hd := &s.layers[l].heads[h]
			if len(hd.blocks) > full {
				k, v := make([]float32, rest*K, blockRows*K), make([]float32, rest*K, blockRows*K)
				if rest > 0 {
					if err := s.read(k, v, hd, full*blockRows, n); err != nil {
						return err
					}
				}
				for _, b := range hd.blocks[full:] {
					b.release()
				}
				hd.blocks, hd.k, hd.v = slices.Clip(hd.blocks[:full]), k, v
			}
			hd.k, hd.v, hd.hot = hd.k[:rest*K], hd.v[:rest*K], nil
		}
		s.layers[l].rows = n
	}
	keep, _ := slices.BinarySearch(s.ends, n+1)
	s.cuts++
	s.ends = s.ends[:keep]
	s.cutSummaries()
	return nil
}

// cutSummaries drops the summaries of segments that are no more.
func (s *Store) cutSummaries() {
	for l := range s.layers {
		for h := range s.layers[l].heads {
			hd := &s.layers[l].heads[h]
			hd.seg.truncate(len(s.ends))
			hd.par.truncate(len(s.ends) / paragraph)
			hd.index.truncate(len(s.ends) / paragraph)
			hd.rank.truncate(len(s.ends) / paragraph)
			hd.wide.truncate(len(s.ends) / paragraph)
		}
	}
}

// Close gives the blocks back. The store is empty afterwards and must not be used.
func (s *Store) Close() error {
	for l := range s.layers {
		for h := range s.layers[l].heads {
			for _, b := range s.layers[l].heads[h].blocks {
				b.release()
			}
			s.layers[l].heads[h] = newHead(s.cfg.HeadDim)
		}
		s.layers[l].rows = 0
	}
	s.ends = nil
	if s.own {
		return s.pool.Close()
	}
	return nil
}

// Prefetch asks for the blocks of ranges (one list for each key head, or for each head) to be read ahead by a goroutine
// of the pool. It returns at once.
func (s *Store) Prefetch(layer int, ranges [][]Range) {
	if s.pool.limit == 0 {
		return
	}
	for i, rs := range ranges {
		hd := &s.layers[layer].heads[i*s.cfg.KVHeads/len(ranges)]
		last := -1
		for _, r := range rs {
			if _, ok := hd.hot.find(r.Lo, r.Hi); ok {
				continue
			}
			for b := max(r.Lo/blockRows, last+1); b <= (r.Hi-1)/blockRows && b < len(hd.blocks); b++ {
				s.pool.prefetch(hd.blocks[b])
				last = b
			}
		}
	}
}

// Stats says what a store holds.
type Stats struct {
	Rows, Segments, Paragraphs int
	BlockBytes                 int64 // of full blocks in every tier, shared ones included
	RAMBytes, FileBytes        int64 // of them, those in RAM, and those only in the file
	TailBytes                  int64 // of rows after the last full block
	HotBytes                   int64 // of copies of single rows that every step reads, of a pool with a limit
	SummaryBytes               int64
}

// Stats counts.
func (s *Store) Stats() Stats {
	st := Stats{Rows: s.Len(), Segments: len(s.ends), Paragraphs: len(s.ends) / paragraph}
	s.pool.mu.Lock()
	defer s.pool.mu.Unlock()
	for l := range s.layers {
		for h := range s.layers[l].heads {
			hd := &s.layers[l].heads[h]
			for _, b := range hd.blocks {
				n := 4 * int64(b.size)
				st.BlockBytes += n
				if b.words != nil {
					st.RAMBytes += n
				} else {
					st.FileBytes += n
				}
			}
			st.TailBytes += 4 * int64(len(hd.k)+len(hd.v))
			if hd.hot != nil {
				st.HotBytes += 4 * int64(len(hd.hot.k)+len(hd.hot.v))
			}
			st.SummaryBytes += hd.seg.bytes() + hd.par.bytes() + hd.index.bytes() + 4*int64(len(hd.rank.f)+len(hd.wide.f))
		}
	}
	return st
}
