package checkpoints

import (
	"bytes"
	"math"
	"os"
	"slices"
	"strings"
	"testing"
)

// ggufSample is what testdata/make_gguf.py writes as written.gguf.
func ggufSample() ([]KV, []Named) {
	base := make([]float32, 3*64)
	for i := range base {
		base[i] = float32(i*37%101-50) / 8
	}
	shape := []int{3, 64}
	kv := []KV{
		{"general.architecture", "test"}, {"name", "Größe"}, {"yes", true}, {"no", false}, {"u32", uint32(math.MaxUint32)}, {"i32", int32(-5)},
		{"u64", uint64(1<<63 + 1)}, {"f32", float32(1e-5)}, {"strings", []string{"a", "", "Ġb"}}, {"ints", []int32{3, -1}},
		{"floats", []float32{0.5, -1.25}}, {"bools", []bool{true, false, true}},
	}
	return kv, []Named{
		FromFloat32("a.weight", shape, base), FromFloat32("b.weight", shape, base).As(F16), FromFloat32("c.weight", shape, base).As(Q8_0),
		FromFloat32("d.bias", []int{3}, base[:3]), FromFloat32("e.weight", shape, base).As(BF16),
	}
}

// TestWriteGGUF: the gguf package writes the same bytes; what was written reads back.
func TestWriteGGUF(t *testing.T) {
	kv, ts := ggufSample()
	var b bytes.Buffer
	if err := WriteGGUF(&b, kv, ts); err != nil {
		t.Fatal(err)
	}
	want, err := os.ReadFile("testdata/written.gguf")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(b.Bytes(), want) {
		t.Errorf("wrote\n%q, want\n%q", b.Bytes(), want)
	}
	w := open(t, put(t, "x", b.Bytes()))
	for _, n := range ts {
		x := get(t, w, n.Name)
		raw, err := x.Raw()
		if err != nil || x.DType != n.DType || !slices.Equal(x.Shape, n.Shape) || !bytes.Equal(raw, written(t, n)) {
			t.Errorf("%s: read as %s %v %v", n.Name, x.DType, x.Shape, err)
		}
	}
	var again bytes.Buffer
	var copied []Named
	for _, n := range ts {
		copied = append(copied, FromTensor(get(t, w, n.Name)))
	}
	if err := WriteGGUF(&again, kv, copied); err != nil || !bytes.Equal(again.Bytes(), want) {
		t.Errorf("a copy differs, %v", err)
	}
	for _, c := range [][]KV{nil, {{"a", []string{}}, {"b", []int32{}}, {"c", []float32(nil)}, {"d", []bool{}}}} {
		b.Reset()
		if err := WriteGGUF(&b, c, nil); err != nil {
			t.Fatal(err)
		}
		if w := open(t, put(t, "x", b.Bytes())); len(w.Names()) != 0 || len(w.Values()) != len(c) {
			t.Errorf("%v: read %v", c, w.Values())
		}
	}
}

func TestWriteGGUFFaults(t *testing.T) {
	one := FromFloat32("w", []int{2}, []float32{1, 2})
	named := func(f func(*Named)) []Named { n := one; f(&n); return []Named{n} }
	for name, c := range map[string]struct {
		kv   []KV
		ts   []Named
		want string
	}{
		"int":            {[]KV{{"k", 1}}, nil, `key "k": a GGUF file cannot hold a int`},
		"nil":            {[]KV{{"k", nil}}, nil, "cannot hold a <nil>"},
		"empty key":      {[]KV{{"", true}}, nil, `key "": a GGUF file cannot hold it`},
		"bad key":        {[]KV{{"\xff", true}}, nil, "cannot hold it"},
		"twice":          {[]KV{{"k", true}, {"k", "x"}}, nil, `key "k": the name is taken twice`},
		"alignment":      {[]KV{{"general.alignment", uint32(64)}}, nil, "the alignment is always 32"},
		"tensor twice":   {nil, []Named{one, one}, `tensor "w": the name is taken twice`},
		"long name":      {nil, named(func(n *Named) { n.Name = times(64, "n") }), "the name has 64 bytes (a GGUF file takes 1 to 63 of UTF-8)"},
		"no name":        {nil, named(func(n *Named) { n.Name = "" }), "the name has 0 bytes"},
		"bool":           {nil, named(func(n *Named) { n.DType = Bool }), "cannot hold BOOL (convert it to F32 or F16 first)"},
		"unsupported":    {nil, named(func(n *Named) { n.DType = Unsupported }), "cannot hold unsupported"},
		"5 dimensions":   {nil, named(func(n *Named) { n.Shape = []int{1, 1, 1, 1, 2} }), "5 dimensions (a GGUF file takes 4)"},
		"split block":    {nil, named(func(n *Named) { n.DType = Q4_0 }), "Q4_0 cannot hold the shape [2]"},
		"huge":           {nil, named(func(n *Named) { n.Shape = []int{math.MaxInt32, math.MaxInt32, 4} }), "cannot hold the shape"},
		"too few bytes":  {nil, named(func(n *Named) { n.Shape = []int{3} }), `tensor "w"`},
		"too many bytes": {nil, named(func(n *Named) { n.DType = F16 }), "more bytes than its shape holds"},
	} {
		var b bytes.Buffer
		if err := WriteGGUF(&b, c.kv, c.ts); err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v, want %s", name, err, c.want)
		}
	}
}
