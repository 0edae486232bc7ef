package kv

import (
	"fmt"
	"runtime"
	"sync"

	"svae/kernels"
)

// scratch is memory that one call uses and the next one uses again.
type scratch struct {
	f     []float32
	used  int
	runs  runs
	spans kernels.Spans
	att   kernels.Attention
}

// floats returns n elements, which hold whatever they held.
func (s *scratch) floats(n int) []float32 {
	if s.used+n > len(s.f) {
		s.f, s.used = make([]float32, max(n, 2*len(s.f), 4096)), 0
	}
	f := s.f[s.used : s.used+n : s.used+n]
	s.used += n
	return f
}

func (s *Store) put(sc *scratch) {
	sc.used = 0
	s.scratch.Put(sc)
}

// gatherInline is how many elements are gathered without a second goroutine.
const gatherInline = 1 << 16

// Attend overwrites out with softmax attention over exactly the rows of ranges, and lse, unless nil, with the
// log-sum-exp of the scaled scores.
//
//	out, q (H, K)    lse (H)
//	ranges           one list for each key head, or one for each of a multiple of them up to H, in ascending order
//
// The bits are those of the backend's Attention over the rows in one piece: ranges that cover all rows give dense
// attention. A head that reads no row gets zeros and a log-sum-exp of -Inf. It fails if a block can not be read.
func (s *Store) Attend(out, lse, q []float32, layer int, ranges [][]Range) error {
	K, H := s.cfg.HeadDim, s.cfg.Heads
	lists := len(ranges)
	if lists == 0 || H%lists != 0 || lists%s.cfg.KVHeads != 0 {
		return fmt.Errorf("kv: %d lists of ranges for %d heads over %d key heads", lists, H, s.cfg.KVHeads)
	}
	if len(q) != H*K || len(out) != H*K || lse != nil && len(lse) != H {
		return fmt.Errorf("kv: query of %d and output of %d elements for %d heads of %d", len(q), len(out), H, K)
	}
	total := 0
	for i, rs := range ranges {
		if err := checkRanges(rs, s.layers[layer].rows); err != nil {
			return fmt.Errorf("kv: layer %d list %d: %w", layer, i, err)
		}
		total += rowsOf(rs)
	}
	sc := s.scratch.Get().(*scratch)
	defer s.put(sc)
	if b, ok := s.backend.(runBackend); ok && s.cfg.Type == F32 && s.pool.limit == 0 {
		defer sc.runs.release()
		if err := sc.runs.gather(s, layer, ranges); err != nil {
			return err
		}
		b.AttentionRuns(out, lse, q, sc.runs.k, sc.runs.v, sc.runs.at, H, K, s.cfg.Scale)
		return nil
	}
	k, v := sc.floats(total*K), sc.floats(total*K)
	sc.spans.Q, sc.spans.KLo, sc.spans.KHi = sc.spans.Q[:0], sc.spans.KLo[:0], sc.spans.KHi[:0]
	at := 0
	for i, rs := range ranges {
		sc.spans.Q = append(sc.spans.Q, int32(i))
		sc.spans.KLo = append(sc.spans.KLo, int32(at))
		at += rowsOf(rs)
		sc.spans.KHi = append(sc.spans.KHi, int32(at))
	}
	sc.spans.Q = append(sc.spans.Q, int32(lists))
	if err := s.gatherAll(sc, k, v, layer, ranges); err != nil {
		return err
	}
	sc.att = kernels.Attention{Out: kernels.Of(out), Q: kernels.Of(q), K: kernels.Of(k), V: kernels.Of(v), Spans: &sc.spans,
		N: lists, M: total, H: H / lists, KV: 1, HeadDim: K, Scale: s.cfg.Scale}
	if lse != nil {
		sc.att.Lse = kernels.Of(lse)
	}
	s.backend.Attention(&sc.att)
	return nil
}

// gatherAll copies the rows of every list, one after the other; many of them by several goroutines.
func (s *Store) gatherAll(sc *scratch, k, v []float32, layer int, ranges [][]Range) error {
	K, lists := s.cfg.HeadDim, len(ranges)
	one := func(i int) error {
		lo, hi := int(sc.spans.KLo[i])*K, int(sc.spans.KHi[i])*K
		return s.gather(k[lo:hi], v[lo:hi], layer, i*s.cfg.KVHeads/lists, ranges[i])
	}
	if len(k) < gatherInline || lists == 1 || runtime.GOMAXPROCS(0) == 1 {
		for i := range ranges {
			if err := one(i); err != nil {
				return err
			}
		}
		return nil
	}
	errs := make([]error, lists)
	var wg sync.WaitGroup
	for i := range ranges {
		wg.Add(1)
		go func() {
			defer wg.Done()
			errs[i] = one(i)
		}()
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// checkRanges checks that ranges are ascending, disjoint, not empty and within n rows.
func checkRanges(rs []Range, n int) error {
	at := 0
	for _, r := range rs {
		if r.Lo < at || r.Hi <= r.Lo || r.Hi > n {
			return fmt.Errorf("range %d to %d after row %d of %d", r.Lo, r.Hi, at, n)
		}
		at = r.Hi
	}
	return nil
}
