package checkpoints

import (
	"bytes"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
)

// floats reads a tensor.
func floats(t testing.TB, x *Tensor) []float32 {
	t.Helper()
	v := make([]float32, x.Len())
	if err := x.Float32(v); err != nil {
		t.Fatal(err)
	}
	return v
}

// get returns a tensor that must be there.
func get(t testing.TB, w *Weights, name string) *Tensor {
	t.Helper()
	x, ok := w.Get(name)
	if !ok {
		t.Fatalf("no tensor %q among %q", name, w.Names())
	}
	return x
}

// written returns what a tensor writes.
func written(t testing.TB, n Named) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := n.Write(&b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// TestGGUFBlocks: blocks dequantise to what the gguf package gives (testdata/make_gguf.py), bit for bit.
func TestGGUFBlocks(t *testing.T) {
	w := open(t, "testdata/blocks.gguf")
	for d := Q4_0; d <= Q6_K; d++ {
		x, want := get(t, w, d.String()+".blocks"), get(t, w, d.String()+".float32")
		block, size := d.Block()
		if x.DType != d || !d.Numeric() || d.Size() != 0 || !slices.Equal(x.Shape, want.Shape) || x.Bytes() != int64(x.Len()/block*size) {
			t.Errorf("%s: %s %v of %d bytes", d, x.DType, x.Shape, x.Bytes())
		}
		if got := floats(t, x); !sameFloats(got, floats(t, want)) {
			t.Errorf("%s: %v, want %v", d, got, floats(t, want))
		}
		if got := written(t, FromTensor(x).As(F32)); !bytes.Equal(got, f32bytes(floats(t, want))) {
			t.Errorf("%s: converted while writing differs", d)
		}
		for _, to := range []DType{F16, BF16} {
			want := make([]byte, 2*x.Len())
			encode(want, floats(t, x), to)
			if got := written(t, FromTensor(x).As(to)); !bytes.Equal(got, want) {
				t.Errorf("%s to %s differs", d, to)
			}
		}
	}
}

// TestQ8_0: quantising gives the gguf package's blocks, whatever the pieces in which values come.
func TestQ8_0(t *testing.T) {
	w := open(t, "testdata/blocks.gguf")
	x, want := get(t, w, "quantize.float32"), get(t, w, "quantize.blocks")
	raw, err := want.Raw()
	if err != nil {
		t.Fatal(err)
	}
	if got := written(t, FromTensor(x).As(Q8_0)); !bytes.Equal(got, raw) {
		t.Errorf("quantised %x, want %x", got, raw)
	}
	for _, piece := range []int{1, 3, 4, 127, 128, 129, 1000} {
		n := Named{Name: "x", DType: F32, Shape: x.Shape}
		n.Write = func(w io.Writer) error {
			for part := range slices.Chunk(f32bytes(floats(t, x)), piece) {
				if _, err := w.Write(part); err != nil {
					return err
				}
			}
			return nil
		}
		if got := written(t, n.As(Q8_0)); !bytes.Equal(got, raw) {
			t.Errorf("pieces of %d: quantised differently", piece)
		}
	}
	big := get(t, w, "Q6_K.blocks")
	for i := 2; i >= 0; i-- { // one row holds the largest scale
		if row := big.Rows(i, i+1); slices.Max(floats(t, row)) < 1e6 && slices.Min(floats(t, row)) > -1e6 {
			big = row
			break
		}
	}
	var direct bytes.Buffer
	if err := FromFloat32("x", big.Shape, floats(t, big)).As(Q8_0).Write(&direct); err != nil {
		t.Fatal(err)
	}
	if got := written(t, FromTensor(big).As(Q8_0)); !bytes.Equal(got, direct.Bytes()) {
		t.Error("Q6_K to Q8_0 is not Q6_K to F32 to Q8_0")
	}
	for _, c := range []struct {
		n    Named
		want string
	}{
		{FromFloat32("odd", []int{2, 33}, make([]float32, 66)), `tensor "odd": Q8_0 needs rows of a multiple of 32 elements, not the shape [2 33]`},
		{FromFloat32("scalar", nil, make([]float32, 1)), "not the shape []"},
		{FromFloat32("nan", []int{32}, append(make([]float32, 31), float32(math.NaN()))), "NaN is out of the range of Q8_0 (write it as F16 or F32)"},
		{FromFloat32("inf", []int{32}, append(make([]float32, 31), float32(math.Inf(-1)))), "+Inf is out of the range"},
		{FromFloat32("large", []int{32}, append(make([]float32, 31), 127*65520)), "out of the range of Q8_0"},
		{FromTensor(get(t, w, "i32")), "cannot convert I32 to Q8_0"},
	} {
		if err := c.n.As(Q8_0).Write(&bytes.Buffer{}); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v, want %s", err, c.want)
		}
	}
	if err := FromTensor(x).As(Q4_0).Write(&bytes.Buffer{}); err == nil || !strings.Contains(err.Error(), "cannot convert F32 to Q4_0") {
		t.Error(err)
	}
	tiny := slices.Repeat([]float32{0, math.SmallestNonzeroFloat32, -math.SmallestNonzeroFloat32, 1e-40}, 8)
	if got := written(t, FromFloat32("tiny", []int{32}, tiny).As(Q8_0)); !bytes.Equal(got, make([]byte, 34)) {
		t.Errorf("values too small for a scale give %x", got)
	}
}

// TestGGUFValues: values of every type, tensors of every plain type.
func TestGGUFValues(t *testing.T) {
	w := open(t, "testdata/blocks.gguf")
	want := map[string]any{
		"general.architecture": "test",
		"one.uint8":            int64(7), "one.int8": int64(-7), "one.uint16": int64(7), "one.int16": int64(-7), "one.uint32": int64(7),
		"one.int32": int64(-7), "one.uint64": int64(7), "one.int64": int64(-7), "one.float32": float64(-7), "one.float64": float64(-7),
		"one.bool": true, "one.string": "a \"b\"\né", "one.large": uint64(math.MaxUint64),
		"array.int": []int64{1, -2, 3}, "array.float": []float64{1.5, -2}, "array.bool": []bool{true, false},
		"array.string": []string{"", "Ġthe", "▁", times(300, "x")}, "array.bytes": []int64{0, 255, 7},
	}
	if !reflect.DeepEqual(w.Values(), want) {
		t.Errorf("values %#v, want %#v", w.Values(), want)
	}
	for k, v := range map[string]string{"one.large": "18446744073709551615", "one.bool": "true", "one.float32": "-7", "general.architecture": "test"} {
		if w.Metadata()[k] != v {
			t.Errorf("metadata %q: %q, want %q", k, w.Metadata()[k], v)
		}
	}
	if _, ok := w.Metadata()["array.int"]; ok || w.Format() != "gguf" {
		t.Errorf("metadata holds an array, or format %q", w.Format())
	}
	for _, name := range []string{"i8", "i16", "i32", "i64", "f64", "f16"} {
		x := get(t, w, name)
		if got := floats(t, x); !slices.Equal(got, []float32{1, 2, -3, 4, 5, 100}) || x.DType.String() != strings.ToUpper(name) || !slices.Equal(x.Shape, []int{2, 3}) {
			t.Errorf("%s: %s %v %v", name, x.DType, x.Shape, got)
		}
	}
	if got := floats(t, get(t, w, "bf16")); !slices.Equal(got, []float32{1.5, -2, 3.140625}) {
		t.Errorf("bf16: %v", got)
	}
	four := get(t, w, "four")
	if got := floats(t, four); !slices.Equal(four.Shape, []int{1, 2, 3, 4}) || got[23] != 23 || got[1] != 1 {
		t.Errorf("four: %v %v", four.Shape, got)
	}
}

// ggufOf makes a file of a header's parts and n bytes of data.
func ggufOf(version uint32, tensors, values uint64, body string, n int) []byte {
	b := []byte("GGUF" + u32(version) + u64(tensors) + u64(values) + body)
	return append(append(b, make([]byte, ggufPad(len(b)))...), make([]byte, n)...)
}

func u32(n uint32) string { return string([]byte{byte(n), byte(n >> 8), byte(n >> 16), byte(n >> 24)}) }
func u64(n uint64) string { return u32(uint32(n)) + u32(uint32(n>>32)) }

// gstr is a string of a GGUF header; gtensor describes a tensor.
func gstr(s string) string { return u64(uint64(len(s))) + s }
func gtensor(name string, kind uint32, offset uint64, dims ...uint64) string {
	s := gstr(name) + u32(uint32(len(dims)))
	for _, d := range dims {
		s += u64(d)
	}
	return s + u32(kind) + u64(offset)
}

// garray is the value of an array.
func garray(kind uint32, n uint64, body string) string {
	return u32(ggufArray) + u32(kind) + u64(n) + body
}

func TestGGUFFaults(t *testing.T) {
	const huge = 1 << 62
	value := func(v string) []byte { return ggufOf(3, 0, 1, gstr("k")+v, 0) }
	one := func(tensor string, n int) []byte { return ggufOf(3, 1, 0, tensor, n) }
	two := func(a, b string, n int) []byte { return ggufOf(3, 2, 0, a+b, n) }
	align := func(n uint32) string { return gstr("general.alignment") + u32(ggufUint32) + u32(n) }
	w := gtensor("w", 0, 0, 8)
	for name, c := range map[string]struct {
		file []byte
		want string
	}{
		"only magic":          {[]byte("GGUF"), "the file ends within the version at byte 4"},
		"no counts":           {[]byte("GGUF" + u32(3)), "the file ends within the number of tensors at byte 8: it is cut (copy it again)"},
		"version 1":           {ggufOf(1, 0, 0, "", 0), "GGUF version 1 (convert it to version 3"},
		"version 4":           {ggufOf(4, 0, 0, "", 0), "GGUF version 4 is unknown (want 2 or 3)"},
		"version 0":           {ggufOf(0, 0, 0, "", 0), "GGUF"},
		"big-endian":          {[]byte("GGUF\x00\x00\x00\x03" + times(32, "\x00")), "a big-endian GGUF file (convert it to little-endian"},
		"tensors without end": {ggufOf(3, huge, 0, "", 0), "4611686018427387904 tensors at byte 8"},
		"values without end":  {ggufOf(3, 0, math.MaxUint64, "", 0), "18446744073709551615 values at byte 16"},
		"one tensor too many": {ggufOf(3, 2, 0, w, 32), `tensor at byte 57: the name "" is empty`},
		"key without end":     {ggufOf(3, 0, 1, u64(huge)+times(30, "x"), 0), "the file ends within a key at byte 32"},
		"empty key":           {ggufOf(3, 0, 1, gstr("")+u32(ggufBool)+"\x01", 0), `key at byte 24: "" is empty`},
		"long key":            {ggufOf(3, 0, 1, gstr(times(5000, "k"))+u32(ggufBool)+"\x01", 0), "too long"},
		"key not UTF-8":       {ggufOf(3, 0, 1, gstr("\xff")+u32(ggufBool)+"\x01", 0), "not UTF-8"},
		"key twice":           {ggufOf(3, 0, 2, times(2, gstr("k")+u32(ggufBool)+"\x01"), 0), `key "k" comes twice`},
		"unknown type":        {value(u32(13) + times(20, "x")), `key "k": not a checkpoint: value of the unknown type 13 at byte 37`},
		"truth of 2":          {value(u32(ggufBool) + "\x02"), "truth value of 2 at byte 37"},
		"string without end":  {value(u32(ggufString) + u64(huge)), "the file ends within a string at byte 45"},
		"array type":          {value(garray(99, 0, "")), "array of the unknown type 99"},
		"array without end":   {value(garray(ggufUint8, huge, "")), "4611686018427387904 elements of an array"},
		"array overflow":      {value(garray(ggufInt64, 1<<61+1, times(16, "x"))), "elements of an array"},
		"strings without end": {value(garray(ggufString, 1<<40, "")), "1099511627776 elements of an array"},
		"string in array":     {value(garray(ggufString, 2, gstr("a")+u64(huge)+times(8, "x"))), "the file ends within a string"},
		"truth in array":      {value(garray(ggufBool, 2, "\x01\x03")), "truth value of 3 at byte 50"},
		"nested 5 deep":       {value(garray(ggufArray, 1, u32(9)+u64(1)+u32(9)+u64(1)+u32(9)+u64(1)+u32(9)+u64(1)+u32(0)+u64(0))), "nested more than 4 deep"},
		"alignment 0":         {ggufOf(3, 0, 1, align(0), 0), "general.alignment is 0 (want a power of two up to 65536)"},
		"alignment 24":        {ggufOf(3, 0, 1, align(24), 0), "general.alignment is 24"},
		"alignment 2^31":      {ggufOf(3, 0, 1, align(1<<31), 0), "general.alignment is 2147483648"},
		"alignment a string":  {ggufOf(3, 0, 1, gstr("general.alignment")+u32(ggufString)+gstr("32"), 0), "general.alignment is 32"},
		"5 dimensions":        {one(gtensor("w", 0, 0, 1, 1, 1, 1, 1), 32), `tensor "w" at byte 24 has 5 dimensions (at most 4)`},
		"2^32-1 dimensions":   {one(gstr("w")+u32(math.MaxUint32)+times(24, "x"), 32), "has 4294967295 dimensions"},
		"dimension of 2^63":   {one(gtensor("w", 0, 0, 1<<63), 32), "dimension of 9223372036854775808"},
		"shape overflows":     {one(gtensor("w", 0, 0, 1<<32, 1<<32), 32), "shape [4294967296 4294967296] is out of range"},
		"bytes overflow":      {one(gtensor("w", 0, 0, 1<<61), 32), "out of range"},
		"overflow beside 0":   {one(gtensor("w", 0, 0, 1<<32, 1<<32, 0), 32), "out of range"},
		"no name":             {one(gtensor("", 0, 0, 8), 32), "empty, too long or not UTF-8"},
		"name not UTF-8":      {one(gtensor("\xc3\x28", 0, 0, 8), 32), "not UTF-8"},
		"name without end":    {one(u64(huge)+times(40, "x"), 32), "the file ends within a tensor's name"},
		"name twice":          {two(w, w, 64), `tensor "w" comes twice`},
		"row within a block":  {one(gtensor("w", 2, 0, 48, 2), 64), "Q4_0 has blocks of 32, which do not fill rows of 48"},
		"block of a scalar":   {one(gtensor("w", 8, 0), 64), "Q8_0 has blocks of 32, which do not fill rows of 1"},
		"unaligned":           {one(gtensor("w", 0, 4, 8), 64), "offset 4 is not a multiple of the alignment 32"},
		"offset of 2^64-32":   {one(gtensor("w", 0, math.MaxUint64-31, 8), 64), "offset 18446744073709551584 is not"},
		"past the end":        {one(gtensor("w", 0, 0, 9), 32), `tensor "w" lies at 0 to 36, but the file has 32 bytes of data: it is cut`},
		"far past the end":    {one(gtensor("w", 0, 0, 1<<40), 32), "it is cut"},
		"unknown and large":   {one(gtensor("w", 99, 0, 1<<40), 32), `tensor "w": shape [1099511627776] does not fit into 32 bytes`},
		"unknown far out":     {two(gtensor("a", 99, 0, 8), gtensor("w", 99, 1<<30, 8), 32), "it is cut"},
		"no data":             {one(w, 0), "but the file has 0 bytes of data"},
		"hole in front":       {one(gtensor("w", 0, 32, 8), 64), `hole of 32 bytes before tensor "w"`},
		"hole between":        {two(w, gtensor("v", 0, 64, 8), 96), `hole of 32 bytes before tensor "v"`},
		"overlap":             {two(gtensor("v", 0, 0, 16), gtensor("w", 0, 32, 8), 64), `tensor "w" at 32 overlaps the one before, which ends at 64`},
		"same bytes":          {two(w, gtensor("v", 0, 0, 8), 32), "overlaps the one before"},
		"bytes behind":        {one(w, 33), "1 bytes follow the last tensor"},
		"ggml":                {[]byte("lmgg" + times(64, "\x00")), "a GGML file from before GGUF"},
	} {
		t.Run(name, func(t *testing.T) { fails(t, put(t, "model.gguf", c.file), c.want) })
	}
}

// TestGGUFUnknown: a tensor whose type is not supported is listed and fails alone, by name.
func TestGGUFUnknown(t *testing.T) {
	body := gtensor("a", 99, 0, 8) + gtensor("b", 0, 64, 8) + gtensor("c", 16, 96, 256) + gtensor("d", 4, 192, 7)
	w := open(t, put(t, "x", ggufOf(2, 4, 0, body, 195)))
	for name, c := range map[string]struct {
		typ   string
		bytes int64
	}{"a": {"type 99", 64}, "c": {"IQ2_XXS", 66}, "d": {"type 4", 3}} {
		x := get(t, w, name)
		err := x.Float32(make([]float32, x.Len()))
		want := fmt.Sprintf("tensor %q: %s is not supported (use a file of", name, c.typ)
		if x.DType != Unsupported || x.TypeName != c.typ || x.Bytes() != c.bytes || err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %s %q of %d bytes: %v, want %s", name, x.DType, x.TypeName, x.Bytes(), err, want)
		}
		if _, err := x.Raw(); err == nil {
			t.Errorf("%s: Raw works", name)
		}
	}
	if got := floats(t, get(t, w, "b")); len(got) != 8 {
		t.Error(got)
	}
}

// TestGGUFPlacement: other alignments, tensors in another order than their data, empty ones, scalars, nested arrays.
func TestGGUFPlacement(t *testing.T) {
	for _, alignment := range []int{1, 8, 64, 4096} {
		a := uint64(alignment)
		head := []byte("GGUF" + u32(3) + u64(4) + u64(1) + gstr("general.alignment") + u32(ggufUint32) + u32(uint32(alignment)) +
			gtensor("b", 0, 8*((a+7)/8*8)/8, 2) + gtensor("a", 0, 0, 2) + gtensor("none", 0, 0, 5, 0) + gtensor("scalar", 0, 2*((a+7)/8*8)))
		for len(head)%alignment != 0 {
			head = append(head, 0)
		}
		step := (alignment + 7) / 8 * 8
		data := make([]byte, 2*step+4)
		copy(data, f32bytes([]float32{1, 2}))
		copy(data[step:], f32bytes([]float32{3, 4}))
		copy(data[2*step:], f32bytes([]float32{5}))
		w := open(t, put(t, "x", append(head, data...)))
		for name, want := range map[string][]float32{"a": {1, 2}, "b": {3, 4}, "scalar": {5}, "none": {}} {
			if got := floats(t, get(t, w, name)); !slices.Equal(got, want) {
				t.Errorf("alignment %d: %s is %v", alignment, name, got)
			}
		}
	}
	nested := garray(ggufArray, 2, u32(ggufUint8)+u64(2)+"\x01\x02"+u32(ggufString)+u64(1)+gstr("x"))
	large := garray(ggufUint64, 2, u64(1)+u64(math.MaxUint64))
	w := open(t, put(t, "x", ggufOf(3, 0, 2, gstr("n")+nested+gstr("u")+large, 0)))
	if want := map[string]any{"n": []any{[]int64{1, 2}, []string{"x"}}, "u": []uint64{1, math.MaxUint64}}; !reflect.DeepEqual(w.Values(), want) {
		t.Errorf("%#v", w.Values())
	}
}

// TestGGUFVocabularies opens the files of llama.cpp that hold a vocabulary and no tensors.
func TestGGUFVocabularies(t *testing.T) {
	root := os.Getenv("SVAE_TESTDATA")
	if root == "" {
		t.Skip("SVAE_TESTDATA is not set")
	}
	for name, c := range map[string]struct {
		model, token string
		id, tokens   int
	}{"gpt-2": {"gpt2", "Hello", 15496, 50257}, "llama-spm": {"llama", "▁Hello", 15043, 32000}} {
		start := time.Now()
		w := open(t, need(t, filepath.Join(root, "models/ggml-vocab/ggml-vocab-"+name+".gguf")))
		took := time.Since(start)
		tokens, ok := w.Values()["tokenizer.ggml.tokens"].([]string)
		if !ok || len(tokens) != c.tokens || tokens[c.id] != c.token || w.Values()["tokenizer.ggml.model"] != c.model {
			t.Errorf("%s: %d tokens, %q", name, len(tokens), w.Values()["tokenizer.ggml.model"])
		}
		t.Logf("%s opened in %v", name, took)
	}
}

// ggufPart is a part of a split model with one tensor.
func ggufPart(no, count int, tensor string, more string, values uint64) []byte {
	body := gstr("split.no") + u32(ggufUint16) + string([]byte{byte(no), 0}) + gstr("split.count") + u32(ggufUint16) + string([]byte{byte(count), 0}) + more
	return ggufOf(3, 1, 2+values, body+gtensor(tensor, 0, 0, 8), 32)
}

// TestGGUFSplit opens a model in three parts, by its first part or its folder, and refuses what does not fit together.
func TestGGUFSplit(t *testing.T) {
	const a, b, c = "m-00001-of-00003.gguf", "m-00002-of-00003.gguf", "m-00003-of-00003.gguf"
	total := func(n uint32) string { return gstr("split.tensors.count") + u32(ggufInt32) + u32(n) }
	good := map[string][]byte{a: ggufPart(0, 3, "x", total(3), 1), b: ggufPart(1, 3, "y", "", 0), c: ggufPart(2, 3, "z", "", 0)}
	folder := func(changed string, file []byte) string {
		dir := t.TempDir()
		for name, data := range good {
			if name == changed {
				data = file
			}
			if data != nil {
				write(t, filepath.Join(dir, name), data)
			}
		}
		return dir
	}
	dir := folder("", nil)
	for _, path := range []string{dir, filepath.Join(dir, a)} {
		w := open(t, path)
		if !slices.Equal(w.Names(), []string{"x", "y", "z"}) || len(w.Files()) != 3 {
			t.Errorf("%s: %q of %q", path, w.Names(), w.Files())
		}
		if x := get(t, w, "z"); filepath.Base(x.File) != c || len(floats(t, x)) != 8 {
			t.Errorf("z lies in %s", x.File)
		}
	}
	fails(t, filepath.Join(dir, b), "part 2 of 3 of a model (name the first, m-00001-of-00003.gguf)")
	fails(t, put(t, "model.gguf", good[a]), "whose name does not say so (rename it to NAME-00001-of-00003.gguf)")
	fails(t, put(t, a, ggufOf(3, 0, 1, gstr("split.count")+u32(ggufUint16)+"\xff\xff", 0)), "split.count of 65535 exceeds the limit of 1000")
	for name, s := range map[string]struct {
		changed string
		file    []byte
		want    string
	}{
		"missing":         {b, nil, "part 2 of 3, "},
		"twice the first": {b, good[a], "m-00002-of-00003.gguf is not part 2 of 3 of this model"},
		"of another":      {c, ggufPart(2, 4, "z", "", 0), "m-00003-of-00003.gguf is not part 3 of 3"},
		"not split":       {c, ggufOf(3, 0, 0, "", 0), "is not part 3 of 3"},
		"no GGUF":         {c, stOf("{}", 0), "is not part 3 of 3"},
		"same name":       {c, ggufPart(2, 3, "x", "", 0), `tensor "x" is in two parts`},
		"number":          {a, ggufPart(0, 3, "x", total(4), 1), "the parts hold 3 tensors, split.tensors.count is 4"},
		"broken":          {c, []byte("GGUF"), "the file ends within the version"},
	} {
		path := filepath.Join(folder(s.changed, s.file), a)
		if w, err := Open(path); err == nil || !strings.Contains(err.Error(), s.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v, %v, want %s", name, w, err, s.want)
		}
	}
	outside := put(t, c, good[c])
	path := folder(c, nil)
	if err := os.Symlink(outside, filepath.Join(path, c)); err != nil {
		t.Skip(err)
	}
	fails(t, filepath.Join(path, a), "is a symbolic link out of its folder")
}

// TestGGUFMemory: a header takes a bounded multiple of its size in memory, whatever it holds.
func TestGGUFMemory(t *testing.T) {
	var keys, tensors, nested strings.Builder
	const n = 20_000
	for i := range n {
		keys.WriteString(gstr(fmt.Sprintf("%x", i)) + u32(ggufUint64) + u64(uint64(i)))
		tensors.WriteString(gtensor(fmt.Sprintf("%x", i), 0, 0, 0))
		nested.WriteString(u32(ggufInt8) + u64(0))
	}
	value := func(v string) []byte { return ggufOf(3, 0, 1, gstr("k")+v, 0) }
	for name, file := range map[string][]byte{
		"bytes":   value(garray(ggufUint8, 1<<20, times(1<<20, "\xff"))),
		"strings": value(garray(ggufString, n, times(n, gstr("")))),
		"arrays":  value(garray(ggufArray, n, nested.String())),
		"values":  ggufOf(3, 0, n, keys.String(), 0),
		"tensors": ggufOf(3, n, 0, tensors.String(), 0),
	} {
		path := put(t, "x", file)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		w := open(t, path)
		runtime.ReadMemStats(&after)
		if got := after.TotalAlloc - before.TotalAlloc; got > 64<<10+25*uint64(len(file)) {
			t.Errorf("%s: a header of %d bytes took %d", name, len(file), got)
		} else {
			t.Logf("%s: %.1f bytes for each byte", name, float64(got)/float64(len(file)))
		}
		if len(w.Values()) != 1 && len(w.Values()) != n && len(w.Names()) != n {
			t.Errorf("%s: read %d values, %d tensors", name, len(w.Values()), len(w.Names()))
		}
	}
}
