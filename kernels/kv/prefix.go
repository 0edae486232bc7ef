package kv

import (
	"container/list"
	"crypto/sha256"
	"encoding/binary"
	"math"
	"slices"
	"sync"
)

// Tree remembers the rows of sequences by their beginnings, so that a request that begins as an earlier one did takes
// these rows over. An edge is a segment: its key is the hash of the parent's key and the segment's token ids; the root's
// is that of the model's fingerprint. Sequences share blocks, with each other and with the requests that took them over;
// the least recently used are forgotten while the blocks that the tree holds exceed its bytes. Any number of
// goroutines may use a tree.
type Tree struct {
	limit int64

	mu      sync.Mutex
	nodes   map[key]*place
	entries list.List // *entry, latest use first
	refs    map[*block]int
	bytes   int64
	stats   TreeStats
}

type key [sha256.Size]byte

// place is a beginning that some entries share.
type place struct {
	in   []*list.Element // the latest last
	rows int
}

type entry struct {
	store *Store
	keys  []key // of its beginnings
	own   int64 // bytes that are no blocks
}

// TreeStats counts.
type TreeStats struct {
	Bytes, Sequences, Nodes int64
	Lookups, Hits           int64 // a hit found at least one row
	RowsHit, RowsAsked      int64
	Evicted                 int64
}

// NewTree returns a tree that holds up to limit bytes.
func NewTree(limit int64) *Tree {
	return &Tree{limit: limit, nodes: map[key]*place{}, refs: map[*block]int{}}
}

// chain returns the keys of the beginnings of a sequence that end where a segment ends.
func chain(fingerprint string, ids []int32, ends []int) []key {
	keys := make([]key, 0, len(ends))
	parent := key(sha256.Sum256([]byte("svae-kv " + fingerprint)))
	var b []byte
	at := 0
	for _, end := range ends {
		if end > len(ids) {
			break
		}
		b = append(b[:0], parent[:]...)
		for _, id := range ids[at:end] {
			b = binary.LittleEndian.AppendUint32(b, uint32(id))
		}
		parent = sha256.Sum256(b)
		keys = append(keys, parent)
		at = end
	}
	return keys
}

// fingerprint tells everything apart that makes rows unfit for another store.
func (c *Config) fingerprint() string {
	b := []byte(c.Fingerprint + "\x00" + c.Type.String())
	for _, n := range [...]int{c.Layers, c.Heads, c.KVHeads, c.HeadDim, c.MaxSegment, c.MinSegment} {
		b = binary.LittleEndian.AppendUint64(b, uint64(n))
	}
	b = binary.LittleEndian.AppendUint64(b, math.Float64bits(c.Scale))
	return string(b)
}

// Insert remembers the sealed rows of a store whose rows came from ids, one token a row. It keeps a fork: the store may
// grow or close.
func (t *Tree) Insert(s *Store, ids []int32) {
	keys := chain(s.cfg.fingerprint(), ids, s.ends)
	if len(keys) == 0 {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if p, ok := t.nodes[keys[len(keys)-1]]; ok { // all of it is there
		t.entries.MoveToFront(p.in[len(p.in)-1])
		return
	}
	e := &entry{store: s.Fork(), keys: keys}
	st := e.store.Stats()
	e.own = st.TailBytes + st.SummaryBytes
	elem := t.entries.PushFront(e)
	for i, k := range keys {
		if t.nodes[k] == nil {
			t.nodes[k] = &place{rows: s.ends[i]}
		}
		t.nodes[k].in = append(t.nodes[k].in, elem)
	}
	t.bytes += e.own
	e.store.eachBlock(func(b *block) {
		if t.refs[b]++; t.refs[b] == 1 {
			t.bytes += 4 * int64(b.size)
		}
	})
	for t.bytes > t.limit && t.entries.Len() > 0 {
		t.evict(t.entries.Back())
	}
}

// evict forgets an entry, and the beginnings that no other shares.
func (t *Tree) evict(elem *list.Element) {
	e := elem.Value.(*entry)
	t.entries.Remove(elem)
	for _, k := range e.keys {
		p := t.nodes[k]
		p.in = slices.DeleteFunc(p.in, func(e *list.Element) bool { return e == elem })
		if len(p.in) == 0 {
			delete(t.nodes, k)
		}
	}
	e.store.eachBlock(func(b *block) {
		if t.refs[b]--; t.refs[b] == 0 {
			delete(t.refs, b)
			t.bytes -= 4 * int64(b.size)
		}
	})
	t.bytes -= e.own
	t.stats.Evicted++
	e.store.Close()
}

func (s *Store) eachBlock(f func(*block)) {
	for l := range s.layers {
		for h := range s.layers[l].heads {
			for _, b := range s.layers[l].heads[h].blocks {
				f(b)
			}
		}
	}
}

// Lookup returns a store of the longest beginning of ids that the tree knows, cut at one of ends (where the segments of
// ids end, see Config.Ends), and its rows; nil and 0 if it knows none. In an int8 store the rows are cut to a
// multiple of 64, so that they have the very bits of rows computed afresh. The store is the caller's to close.
func (t *Tree) Lookup(cfg Config, ids []int32, ends []int) (*Store, int, error) {
	if err := cfg.fill(); err != nil {
		return nil, 0, err
	}
	s, rows := t.find(&cfg, ids, ends)
	if s == nil {
		return nil, 0, nil
	}
	if err := s.Truncate(rows); err != nil {
		s.Close()
		return nil, 0, err
	}
	return s, rows, nil
}

// find returns a fork of an entry with the longest beginning of ids, and the rows to cut it to.
func (t *Tree) find(cfg *Config, ids []int32, ends []int) (*Store, int) {
	keys := chain(cfg.fingerprint(), ids, ends)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.stats.Lookups++
	t.stats.RowsAsked += int64(len(ids))
	for i := len(keys) - 1; i >= 0; i-- {
		p := t.nodes[keys[i]]
		if p == nil {
			continue
		}
		rows := p.rows
		if cfg.Type == I8 {
			rows -= rows % blockRows
		}
		if rows == 0 {
			break
		}
		elem := p.in[len(p.in)-1]
		t.entries.MoveToFront(elem)
		t.stats.Hits++
		t.stats.RowsHit += int64(rows)
		return elem.Value.(*entry).store.Fork(), rows
	}
	return nil, 0
}

// Stats returns the counters.
func (t *Tree) Stats() TreeStats {
	t.mu.Lock()
	defer t.mu.Unlock()
	st := t.stats
	st.Bytes, st.Sequences, st.Nodes = t.bytes, int64(t.entries.Len()), int64(len(t.nodes))
	return st
}

// Close forgets everything.
func (t *Tree) Close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for t.entries.Len() > 0 {
		t.evict(t.entries.Back())
	}
}
