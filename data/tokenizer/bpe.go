package tokenizer

import (
	"hash/maphash"
	"math/bits"
	"slices"
	"sync/atomic"
)

// mergeTable maps a pair of tokens to the rank of their merge (the lower the earlier) and a rank to the token made. It is a hash
// table with open addressing: the lookup is the inner loop of encoding.
type mergeTable struct {
	slots []mergeSlot // a power of two, at most half full
	shift uint        // 64 - log2(len(slots))
	made  []int32     // rank -> token
}

type mergeSlot struct {
	pair uint64 // left id <<32 | right id
	rank uint32 // rank+1; 0 is an empty slot
}

const noRank = ^uint32(0)

func newMergeTable(n int) mergeTable {
	log := max(bits.Len(uint(2*n)), 4)
	return mergeTable{slots: make([]mergeSlot, 1<<log), shift: uint(64 - log), made: make([]int32, 0, n)}
}

func pairOf(left, right int32) uint64 { return uint64(uint32(left))<<32 | uint64(uint32(right)) }

// add gives the next rank to a pair. Of a pair that comes twice the later rank holds, as in the Hugging Face library.
func (m *mergeTable) add(left, right, made int32) {
	m.made = append(m.made, made)
	p := pairOf(left, right)
	for i := p * 0x9E3779B97F4A7C15 >> m.shift; ; i = (i + 1) & uint64(len(m.slots)-1) {
		if s := &m.slots[i]; s.rank == 0 || s.pair == p {
			*s = mergeSlot{p, uint32(len(m.made))}
			return
		}
	}
}

// rank returns the rank of a pair, or noRank.
func (m *mergeTable) rank(left, right int32) uint32 {
	p := pairOf(left, right)
	for i := p * 0x9E3779B97F4A7C15 >> m.shift; ; i = (i + 1) & uint64(len(m.slots)-1) {
		s := &m.slots[i]
		if s.rank == 0 {
			return noRank
		}
		if s.pair == p {
			return s.rank - 1
		}
	}
}

// maxCached is the length of the longest word, in bytes, that is merged in place and kept in the cache.
const maxCached = 48

// word holds the tokens of a short word while they are merged.
type word struct {
	n     int
	ids   [maxCached + 1]int32
	ranks [maxCached + 1]uint32 // ranks[i]: of ids[i], ids[i+1]
}

// merge joins the pair of lowest rank, the leftmost of equals, until none is left. The cost is quadratic in n, which is
// the fastest for short words.
func (w *word) merge(m *mergeTable) []int32 {
	n := w.n
	for i := 0; i+1 < n; i++ {
		w.ranks[i] = m.rank(w.ids[i], w.ids[i+1])
	}
	for n > 1 {
		best, at := noRank, 0
		for i, r := range w.ranks[:n-1] {
			if r < best {
				best, at = r, i
			}
		}
		if best == noRank {
			break
		}
		w.ids[at] = m.made[best]
		copy(w.ids[at+1:n-1], w.ids[at+2:n])
		copy(w.ranks[at:n-1], w.ranks[at+1:n])
		n--
		if at > 0 {
			w.ranks[at-1] = m.rank(w.ids[at-1], w.ids[at])
		}
		if at+1 < n {
			w.ranks[at] = m.rank(w.ids[at], w.ids[at+1])
		}
	}
	w.n = n
	return w.ids[:n]
}

// symbol is a token of a long word, kept at the offset of its first byte.
type symbol struct {
	id         int32
	prev, next int32 // offsets; next of the last is the length of the word. prev of the first is -1
}

// byteSymbols fills e.sym with the tokens of the bytes of w and returns how many there are. A byte without a token belongs to
// the symbol before it, or to the first.
func (e *encoder) byteSymbols(w []byte) int {
	e.sym = slices.Grow(e.sym[:0], len(w))
	if !e.t.gaps {
		for i, b := range w {
			e.sym = append(e.sym, symbol{e.t.bytes[b], int32(i - 1), int32(i + 1)})
		}
		return len(w)
	}
	count, last := 0, int32(-1)
	for i, b := range w {
		s := symbol{e.t.bytes[b], last, int32(i + 1)}
		e.sym = append(e.sym, s)
		switch {
		case s.id >= 0 && last < 0:
			last = 0
			e.sym[0] = symbol{s.id, -1, s.next}
			count++
		case s.id >= 0:
			e.sym[last].next = int32(i)
			last = int32(i)
			count++
		case last >= 0:
			e.sym[last].next = s.next
		}
	}
	return count
}

// mergeLong merges the symbols of w in e.sym as word.merge does, in O(n log n), and emits the tokens. count is the number of
// symbols; the first is at offset 0.
func (e *encoder) mergeLong(w []byte, count int) {
	if count == 0 {
		return
	}
	m, sym, end := &e.t.merges, e.sym, int32(len(w))
	// The heap orders by rank, then by offset. An entry is stale when the pair at its offset has another rank by now.
	h := slices.Grow(e.heap[:0], count)
	for i := int32(0); sym[i].next < end; i = sym[i].next {
		if r := m.rank(sym[i].id, sym[sym[i].next].id); r != noRank {
			h = append(h, uint64(r)<<32|uint64(i))
		}
	}
	for i := len(h)/2 - 1; i >= 0; i-- {
		siftDown(h, i)
	}
	for len(h) > 0 {
		r, i := uint32(h[0]>>32), int32(uint32(h[0]))
		h[0] = h[len(h)-1]
		h = h[:len(h)-1]
		siftDown(h, 0)
		s := &sym[i]
		if s.id < 0 || s.next >= end || m.rank(s.id, sym[s.next].id) != r {
			continue
		}
		right := &sym[s.next]
		s.id, s.next = m.made[r], right.next
		right.id = -1
		if s.next < end {
			sym[s.next].prev = i
			if r := m.rank(s.id, sym[s.next].id); r != noRank {
				h = siftUp(append(h, uint64(r)<<32|uint64(i)))
			}
		}
		if s.prev >= 0 {
			if r := m.rank(sym[s.prev].id, s.id); r != noRank {
				h = siftUp(append(h, uint64(r)<<32|uint64(s.prev)))
			}
		}
	}
	e.heap = h
	for i := int32(0); i < end; i = sym[i].next {
		e.emit(sym[i].id, int(sym[i].next-i))
	}
}

// siftDown restores the min-heap h below position i.
func siftDown(h []uint64, i int) {
	for {
		c := 2*i + 1
		if c >= len(h) {
			return
		}
		if c+1 < len(h) && h[c+1] < h[c] {
			c++
		}
		if h[i] <= h[c] {
			return
		}
		h[i], h[c] = h[c], h[i]
		i = c
	}
}

// siftUp restores the min-heap h after an append.
func siftUp(h []uint64) []uint64 {
	for i := len(h) - 1; i > 0; {
		p := (i - 1) / 2
		if h[p] <= h[i] {
			break
		}
		h[p], h[i] = h[i], h[p]
		i = p
	}
	return h
}

// wordCache keeps the tokens of recent words. A word has two slots, and the last comer takes one of them, so the size is
// bounded and no lock is needed. What the cache holds never changes a result.
type wordCache struct {
	seed  maphash.Seed
	slots [1 << 16]atomic.Pointer[cachedWord]
}

type cachedWord struct {
	text string
	ids  []int32
}

func newWordCache() *wordCache { return &wordCache{seed: maphash.MakeSeed()} }

func (c *wordCache) hash(w []byte) uint16 { return uint16(maphash.Bytes(c.seed, w)) }

// get returns the tokens of w, or nil.
func (c *wordCache) get(h uint16, w []byte) []int32 {
	if e := c.slots[h].Load(); e != nil && e.text == string(w) {
		return e.ids
	}
	if e := c.slots[h^1].Load(); e != nil && e.text == string(w) {
		return e.ids
	}
	return nil
}

// put keeps ids, which must not change any more, for w.
func (c *wordCache) put(h uint16, w []byte, ids []int32) {
	e := &cachedWord{string(w), ids}
	if c.slots[h].Load() != nil && c.slots[h^1].CompareAndSwap(nil, e) {
		return
	}
	c.slots[h].Store(e)
}
