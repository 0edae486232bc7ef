package kv

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"svae/kernels/cpu"
)

// TestTiers: whatever lies in the file, the bits are those of a store that lies in RAM.
func TestTiers(t *testing.T) {
	for _, name := range []string{"dense", "ours", "quest", "paper"} {
		forTypes(t, func(t *testing.T, cfg Config) {
			seq := newSequence(cfg, 30, 700)
			b := Budget{Rows: 100}
			want, _ := seq.run(t, seq.store(t, nil, 0), policy(t, name, Options{}), b, 640, 640)
			path := filepath.Join(t.TempDir(), "rows")
			pool := NewPool(30<<10, path)
			st := seq.store(t, pool, 0)
			got, _ := seq.run(t, st, policy(t, name, Options{}), b, 640, 100)
			sameOutputs(t, want, got)
			ps, ss := pool.Stats(), st.Stats()
			if ps.RAMBytes > 30<<10 || ps.FileBytes == 0 || ps.Misses+ps.Prefetched == 0 || ps.BytesRead == 0 {
				t.Fatalf("%+v", ps)
			}
			if ss.Rows != 700 || ss.BlockBytes != ss.RAMBytes+ss.FileBytes || ss.RAMBytes != ps.RAMBytes || ss.SummaryBytes == 0 || ss.TailBytes == 0 ||
				name == "ours" && ss.HotBytes == 0 {
				t.Fatalf("%+v, pool %+v", ss, ps)
			}
			// Forks share what lies in the file.
			c := st.Fork()
			must(t, c.Truncate(650))
			seq.append(t, c, 650, 660)
			must(t, st.Close())
			out, _ := whole(t, c, 0, seq.query(0, 659))
			ref := seq.store(t, nil, 660)
			if cfg.Type != I8 {
				if w, _ := whole(t, ref, 0, seq.query(0, 659)); !sameBits(out, w) {
					t.Fatal("a fork over the file differs")
				}
			}
			must(t, c.Close())
			must(t, pool.Close()) // and what is left of the read-ahead ends
			if ps := pool.Stats(); ps.RAMBytes != 0 || ps.FileBytes != 0 {
				t.Fatalf("after closing: %+v", ps)
			}
			if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
				t.Fatalf("the file is left: %v", err)
			}
		})
	}
}

func TestPrefetch(t *testing.T) {
	seq := newSequence(geometry, 31, 640)
	pool := NewPool(100<<10, "")
	defer pool.Close()
	st := seq.store(t, pool, 640)
	ranges := [][]Range{{{0, 10}, {130, 140}}, {{0, 1}}}
	before := pool.Stats()
	st.Prefetch(0, ranges)
	for begin := time.Now(); pool.Stats().Prefetched < before.Prefetched+3; time.Sleep(time.Millisecond) {
		if time.Since(begin) > 10*time.Second {
			t.Fatalf("%+v", pool.Stats())
		}
	}
	out := make([]float32, 96)
	must(t, st.Attend(out, nil, seq.query(0, 639), 0, ranges))
	if ps := pool.Stats(); ps.Misses != before.Misses || ps.Hits != before.Hits+3 {
		t.Fatalf("before %+v, after %+v", before, ps)
	}
}

// TestBrokenFile: an overwritten block, or a file that can not be made, is an error of one line, not wrong numbers.
func TestBrokenFile(t *testing.T) {
	seq := newSequence(geometry, 32, 640)
	path := filepath.Join(t.TempDir(), "rows")
	pool := NewPool(20<<10, path)
	st := seq.store(t, pool, 640)
	must(t, os.WriteFile(path, make([]byte, pool.Stats().FileBytes), 0o600))
	err := st.Attend(make([]float32, 96), nil, seq.query(0, 639), 0, [][]Range{{{0, 640}}, {{0, 640}}})
	if err == nil || !strings.Contains(err.Error(), "checksum") || !strings.Contains(err.Error(), path) {
		t.Fatalf("an overwritten block: %v", err)
	}
	must(t, st.Close())
	must(t, pool.Close())

	pool = NewPool(1, filepath.Join(t.TempDir(), "no", "folder"))
	st, err = New(geometry, cpu.New(), pool)
	must(t, err)
	if err = st.Append(0, make([]float32, 100*32), make([]float32, 100*32)); err == nil || st.Rows(0) != 0 {
		t.Fatalf("%v, %d rows", err, st.Rows(0))
	}
}

// TestConcurrent: sequences that share a pool, a tree and a prefix run at the same time and get what each gets alone.
func TestConcurrent(t *testing.T) {
	cfg := geometry
	cfg.Type = BF16
	base := newSequence(cfg, 33, 300)
	pool := NewPool(60<<10, "")
	defer pool.Close()
	root := base.store(t, pool, 200)
	tree := NewTree(1 << 20)
	defer tree.Close()
	var wg sync.WaitGroup
	for i := range 6 {
		name := []string{"ours", "dense", "quest", "snapkv", "h2o", "paper"}[i]
		b := Budget{Rows: 60}
		alone, err := New(cfg, cpu.New(), nil)
		must(t, err)
		base.append(t, alone, 0, 200)
		r0, err := NewReader(alone, policy(t, name, Options{}), b)
		must(t, err)
		var want [][]float32
		for at := 200; at < 300; at++ {
			o, _ := base.step(t, r0, at)
			want = append(want, o...)
		}
		st := root.Fork()
		r, err := NewReader(st, policy(t, name, Options{}), b)
		must(t, err)
		wg.Add(1)
		go func() {
			defer wg.Done()
			var got [][]float32
			for at := 200; at < 300; at++ {
				o, _ := base.step(t, r, at)
				got = append(got, o...)
				if at%20 == 0 {
					tree.Insert(st, base.ids[:at+1])
					if hit, _, err := tree.Lookup(cfg, base.ids, st.ends); err != nil || hit == nil {
						t.Errorf("%s: %v", name, err)
					} else {
						hit.Close()
					}
				}
			}
			for i := range want {
				if !sameBits(want[i], got[i]) {
					t.Errorf("%s: output %d differs", name, i)
					break
				}
			}
			st.Close()
		}()
	}
	wg.Wait()
}
