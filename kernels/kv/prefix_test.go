package kv

import (
	"slices"
	"testing"
)

// TestPrefix: a hit is the store of a cold run, and costs no second copy of its blocks.
func TestPrefix(t *testing.T) {
	forTypes(t, func(t *testing.T, cfg Config) {
		const n = 700
		a, b := newSequence(cfg, 40, n), newSequence(cfg, 41, n)
		// b begins as a does, for 450 rows, up to where a sentence ends.
		cut := 0
		for _, x := range a.bounds {
			if x <= 450 {
				cut = x
			}
		}
		w := cfg.KVHeads * cfg.HeadDim
		for l := range cfg.Layers {
			copy(b.k[l], a.k[l][:cut*w])
			copy(b.v[l], a.v[l][:cut*w])
		}
		copy(b.ids, a.ids[:cut])
		tail := slices.DeleteFunc(slices.Clone(b.bounds), func(x int) bool { return x <= cut })
		head := slices.DeleteFunc(slices.Clone(a.bounds), func(x int) bool { return x > cut })
		b.bounds = append(head, tail...)

		pool := NewPool(0, "")
		tree := NewTree(1 << 30)
		ends, err := cfg.Ends(b.bounds)
		must(t, err)
		if st, rows, err := tree.Lookup(cfg, b.ids, ends); st != nil || rows != 0 || err != nil {
			t.Fatalf("an empty tree found %d rows, %v", rows, err)
		}
		first := a.store(t, pool, n)
		tree.Insert(first, a.ids)
		must(t, first.Close())
		held := pool.Stats().RAMBytes
		hit, rows, err := tree.Lookup(cfg, b.ids, ends)
		must(t, err)
		if hit == nil || hit.Len() != rows || rows > cut || rows < cut-64 {
			t.Fatalf("%d rows of %d found", rows, cut)
		}
		if pool.Stats().RAMBytes != held {
			t.Fatal("a hit copied blocks")
		}
		b.append(t, hit, rows, n)
		sameStore(t, b.store(t, nil, n), hit)
		tree.Insert(hit, b.ids)
		must(t, hit.Close())

		other := cfg
		other.Fingerprint = "other"
		if st, _, _ := tree.Lookup(other, b.ids, ends); st != nil {
			t.Fatal("rows of another model were found")
		}
		changed := slices.Clone(b.ids)
		changed[0]++
		if st, _, _ := tree.Lookup(cfg, changed, ends); st != nil {
			t.Fatal("rows of other tokens were found")
		}
		if st := tree.Stats(); st.Sequences != 2 || st.Hits != 1 || st.Lookups != 4 || st.RowsHit != int64(rows) {
			t.Fatalf("%+v", st)
		}
		tree.Close()
		if pool.Stats().RAMBytes != 0 || tree.Stats().Bytes != 0 {
			t.Fatalf("%d bytes are left, the tree counts %d", pool.Stats().RAMBytes, tree.Stats().Bytes)
		}
	})
}

// TestPrefixLimit: the least recently used sequence goes first, and what others share with it stays.
func TestPrefixLimit(t *testing.T) {
	var seqs []*sequence
	for i := range 4 {
		seqs = append(seqs, newSequence(geometry, uint64(50+i), 300))
	}
	probe := NewTree(1 << 30)
	probe.Insert(seqs[0].store(t, nil, 300), seqs[0].ids)
	one := probe.Stats().Bytes
	tree := NewTree(3*one + one/2)
	find := func(i, n int) int {
		ends, err := geometry.Ends(seqs[i].bounds)
		must(t, err)
		st, rows, err := tree.Lookup(geometry, seqs[i].ids[:n], ends)
		must(t, err)
		if st != nil {
			must(t, st.Close())
		}
		return rows
	}
	long := seqs[0].store(t, nil, 300)
	short := long.Fork()
	must(t, short.Truncate(200))
	tree.Insert(short, seqs[0].ids[:200])
	tree.Insert(long, seqs[0].ids)
	if b := tree.Stats().Bytes; b > one*3/2 {
		t.Fatalf("two sequences with one beginning take %d bytes, one takes %d", b, one)
	}
	tree.Insert(seqs[1].store(t, nil, 300), seqs[1].ids)
	if find(0, 300) == 0 || find(1, 300) == 0 {
		t.Fatal("sequences are missing")
	}
	find(0, 300)
	tree.Insert(seqs[2].store(t, nil, 300), seqs[2].ids) // the short one goes, alone or with nothing
	tree.Insert(seqs[3].store(t, nil, 300), seqs[3].ids)
	st := tree.Stats()
	if st.Bytes > 3*one+one/2 || st.Evicted == 0 {
		t.Fatalf("%+v with a limit of %d", st, 3*one+one/2)
	}
	if find(0, 150) == 0 || find(1, 300) != 0 || find(3, 300) == 0 {
		t.Fatal("not the least recently used sequence was forgotten")
	}
}
