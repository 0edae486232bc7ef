package kv

import (
	"fmt"
	"math"
	"slices"
	"testing"

	"svae/kernels"
	"svae/kernels/ref"
)

func TestForkAndTruncate(t *testing.T) {
	forTypes(t, func(t *testing.T, cfg Config) {
		const n = 800
		seq, other := newSequence(cfg, 6, n), newSequence(cfg, 60, n)
		cold := seq.store(t, nil, n)
		pool := NewPool(0, "")
		base := seq.store(t, pool, 500)
		a, b := base.Fork(), base.Fork()
		other.append(t, a, 500, n) // a goes its own way
		seq.append(t, b, 500, n)
		sameStore(t, cold, b)
		seq.append(t, base, 500, n)
		sameStore(t, cold, base)
		// Back to a multiple of 64, or to where the rows are not in blocks yet, and on again.
		for _, cut := range []int{448, 770, 0} {
			c := b.Fork()
			must(t, c.Truncate(cut))
			seq.append(t, c, cut, n)
			sameStore(t, cold, c)
			must(t, c.Truncate(cut))
			other.append(t, c, cut, n)
			must(t, c.Close())
			sameStore(t, cold, b)
		}
		if cfg.Type != I8 {
			c := b.Fork()
			must(t, c.Truncate(555))
			seq.append(t, c, 555, n)
			sameStore(t, cold, c)
			must(t, c.Close())
		}
		for _, st := range []*Store{a, b, base} {
			must(t, st.Close())
		}
		if got := pool.Stats().RAMBytes; got != 0 {
			t.Fatalf("%d bytes are left after all is closed", got)
		}
	})
}

func TestAppendRefuses(t *testing.T) {
	st, err := New(geometry, ref.New(kernels.F32), nil)
	must(t, err)
	x := make([]float32, 32)
	bad := slices.Clone(x)
	bad[7] = float32(math.NaN())
	for _, err := range []error{st.Append(0, x[:31], x[:31]), st.Append(0, x, x[:16]), st.Append(2, x, x), st.Append(0, bad, x),
		st.Append(0, x, bad)} {
		if err == nil {
			t.Error("wrong rows were accepted")
		}
	}
	if st.Rows(0) != 0 {
		t.Errorf("%d rows after failures", st.Rows(0))
	}
	for _, c := range []Config{{}, {Layers: 1, Heads: 3, KVHeads: 2, HeadDim: 4}, {Layers: 1, Heads: 1, KVHeads: 1, HeadDim: 4, Type: 9},
		{Layers: 1, Heads: 1, KVHeads: 1, HeadDim: 4, MinSegment: 9, MaxSegment: 8}} {
		if _, err := New(c, ref.New(kernels.F32), nil); err == nil {
			t.Errorf("configuration %+v was accepted", c)
		}
	}
}

func TestExtremeRows(t *testing.T) {
	K := 8
	k, v := make([]float32, blockRows*K), make([]float32, blockRows*K)
	for i := range k {
		k[i] = []float32{math.MaxFloat32, -math.MaxFloat32, math.SmallestNonzeroFloat32, 0, 1e-40, 1, -3, 127}[i%8]
		v[i] = k[(i+1)%len(k)]
	}
	for _, typ := range []Type{F32, I8} {
		w := make([]uint32, blockWords(typ, K))
		encode(w, typ, k, v, K)
		dk, dv := make([]float32, len(k)), make([]float32, len(v))
		decodeKeys(dk, w, typ, 0, blockRows, K)
		decodeValues(dv, w, typ, 0, blockRows, K)
		if notFinite(dk, F32) >= 0 || notFinite(dv, F32) >= 0 {
			t.Errorf("%v: not finite after rounding", typ)
		}
		for i := range k {
			if d := math.Abs(float64(dk[i]) - float64(k[i])); d > math.Abs(float64(k[i]))/127+1e-44 {
				t.Errorf("%v: %g became %g", typ, k[i], dk[i])
			}
		}
	}
}

func TestParse(t *testing.T) {
	for s, n := range map[string]int{"7": 7, "5000": 1000, "10%": 100, "0.01%": 1, "100%": 1000, "exact": 1000, "bounded:0": 1000,
		"bounded:0.1": 100} {
		b, err := ParseBudget(s)
		must(t, err)
		if b.Of(1000) != n || b.String() != s {
			t.Errorf("%s: %d rows, %s", s, b.Of(1000), b)
		}
	}
	for _, s := range []string{"", "0", "-3", "0%", "101%", "bounded:1", "bounded:-1", "x", "NaN%", "bounded:NaN"} {
		if _, err := ParseBudget(s); err == nil {
			t.Errorf("budget %q was accepted", s)
		}
	}
	for _, typ := range []Type{F32, BF16, I8} {
		if got, err := ParseType(typ.String()); err != nil || got != typ {
			t.Errorf("%v: %v, %v", typ, got, err)
		}
	}
	if _, err := ParseType("f16"); err == nil || fmt.Sprint(Type(9)) != "Type(9)" {
		t.Error("type f16 was accepted")
	}
}
