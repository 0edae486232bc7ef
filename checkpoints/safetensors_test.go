package checkpoints

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestSafetensorsFaults(t *testing.T) {
	head := func(n uint64, rest string) []byte { return append(binary.LittleEndian.AppendUint64(nil, n), rest...) }
	one := stEntry("w", "F32", "[2]", 0, 8)
	raw := func(entry string) []byte { return stOf(`{"w":`+entry+`}`, 8) }
	for name, c := range map[string]struct {
		file []byte
		want string
	}{
		"only a length":       {head(8, ""), "neither safetensors"},
		"empty":               {nil, "the file is empty"},
		"7 bytes":             {[]byte("1234567"), "7 bytes are too few"},
		"header of 0":         {head(0, "{}      "), "header of 0 bytes"},
		"header of 1":         {head(1, "{}"), "header of 1 bytes"},
		"header of 7":         {head(7, "{}     "), "header of 7 bytes"},
		"header of 2^63":      {head(1<<63, "{}"), "exceeds the limit"},
		"header of -1":        {head(math.MaxUint64, "{}"), "exceeds the limit"},
		"header over file":    {head(100, "{}"), "only 2 follow: the file is cut"},
		"header over limit":   {head(maxHeader+1, "{}"), "exceeds the limit of 104857600"},
		"not JSON":            {stOf("{]", 0), "offset 9: want a string"},
		"cut JSON":            {stOf(`{"w":`, 0), "offset 16: want '{'"},
		"two values":          {stOf(`{} {}`, 0), "text after the JSON value"},
		"NUL padding":         {stOf("{}\x00", 0), "text after the JSON value"},
		"not UTF-8":           {stOf("{\"\xff\":1}", 0), "not UTF-8"},
		"control character":   {stOf("{\"a\nb\":1}", 0), "control character"},
		"duplicate name":      {stOf("{"+one+","+one+"}", 8), `key "w" comes twice`},
		"duplicate escaped":   {stOf("{"+one+`,"\u0077":{}}`, 8), `key "w" comes twice`},
		"duplicate field":     {raw(`{"dtype":"F32","dtype":"F16","shape":[2],"data_offsets":[0,8]}`), `key "dtype" comes twice`},
		"long name":           {stOf("{"+stEntry(times(5000, "n"), "F32", "[2]", 0, 8)+"}", 8), "name of 5000 bytes"},
		"no dtype":            {raw(`{"shape":[2],"data_offsets":[0,8]}`), "needs dtype, shape and data_offsets"},
		"dtype a number":      {raw(`{"dtype":1,"shape":[2],"data_offsets":[0,8]}`), "want a string"},
		"shape a number":      {raw(`{"dtype":"F32","shape":2,"data_offsets":[0,8]}`), "want '['"},
		"shape negative":      {raw(`{"dtype":"F32","shape":[-2],"data_offsets":[0,8]}`), "want an integer"},
		"shape fractional":    {raw(`{"dtype":"F32","shape":[2.0],"data_offsets":[0,8]}`), "want an integer"},
		"shape padded":        {raw(`{"dtype":"F32","shape":[02],"data_offsets":[0,8]}`), "want an integer"},
		"shape beyond int64":  {raw(`{"dtype":"F32","shape":[9223372036854775808],"data_offsets":[0,8]}`), "out of range"},
		"shape overflows":     {raw(`{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,8]}`), "shape [4294967296 4294967296] is out of range"},
		"bytes overflow":      {raw(`{"dtype":"F32","shape":[4611686018427387904],"data_offsets":[0,8]}`), "out of range"},
		"overflow beside 0":   {raw(`{"dtype":"F32","shape":[0,4294967296,4294967296],"data_offsets":[0,8]}`), "out of range"},
		"65 dimensions":       {raw(`{"dtype":"F32","shape":[1` + times(64, ",1") + `],"data_offsets":[0,8]}`), "more than 64 dimensions"},
		"offsets empty":       {raw(`{"dtype":"F32","shape":[2],"data_offsets":[]}`), "data_offsets [] are not a range"},
		"offsets one":         {raw(`{"dtype":"F32","shape":[2],"data_offsets":[1]}`), "data_offsets [1] are not a range"},
		"offsets three":       {raw(`{"dtype":"F32","shape":[2],"data_offsets":[0,8,9]}`), "are not a range"},
		"offsets backwards":   {raw(`{"dtype":"F32","shape":[2],"data_offsets":[5,3]}`), "data_offsets [5 3] are not a range"},
		"offsets negative":    {raw(`{"dtype":"F32","shape":[2],"data_offsets":[-8,0]}`), "want an integer"},
		"offsets null":        {raw(`{"dtype":"F32","shape":[2],"data_offsets":null}`), "want '['"},
		"size of F32":         {raw(`{"dtype":"F32","shape":[3],"data_offsets":[0,8]}`), "F32 [3] needs 12 bytes, data_offsets give 8"},
		"unknown and large":   {raw(`{"dtype":"X","shape":[99999999],"data_offsets":[0,8]}`), "shape [99999999] does not fit into 8 bytes"},
		"past the end":        {stOf("{"+stEntry("w", "F32", "[3]", 0, 12)+"}", 8), "but the file has 8 bytes of data: it is cut"},
		"far past the end":    {stOf("{"+stEntry("w", "X", "[3]", 0, math.MaxInt32)+"}", 8), "it is cut"},
		"bytes behind":        {stOf("{"+one+"}", 9), "1 bytes follow the last tensor"},
		"zip behind":          {append(stOf("{"+one+"}", 8), torchOf(t, pickDict("w", goodView.pick()))...), "bytes follow the last tensor"},
		"hole in front":       {stOf("{"+stEntry("w", "F32", "[1]", 4, 8)+"}", 8), `hole of 4 bytes before tensor "w"`},
		"hole between":        {stOf("{"+stEntry("a", "F32", "[1]", 0, 4)+","+stEntry("b", "F32", "[1]", 8, 12)+"}", 12), `hole of 4 bytes before tensor "b"`},
		"overlap":             {stOf("{"+stEntry("a", "F32", "[2]", 0, 8)+","+stEntry("b", "F32", "[2]", 4, 12)+"}", 12), `tensor "b" at 4 overlaps`},
		"same bytes":          {stOf("{"+stEntry("a", "F32", "[2]", 0, 8)+","+stEntry("b", "F32", "[2]", 0, 8)+"}", 8), "overlaps"},
		"metadata a number":   {stOf(`{"__metadata__":{"a":1}}`, 0), "want a string"},
		"metadata a string":   {stOf(`{"__metadata__":"a"}`, 0), "want '{'"},
		"deep":                {raw(`{"x":` + times(1<<20, "[") + `}`), "nested more than 32 deep"},
		"bare pickle":         {[]byte("\x80\x04cposix\nsystem\n."), "a bare pickle"},
		"git-lfs pointer":     {[]byte("version https://git-lfs.github.com/spec/v1\noid sha256:00"), "run git lfs pull"},
		"web page":            {[]byte("<!DOCTYPE html><html>404</html>"), "a web page"},
		"gzip":                {[]byte("\x1f\x8b\x08\x00\x00\x00\x00\x00\x00"), "compressed with gzip"},
		"unfinished download": {make([]byte, 1<<16), "neither safetensors nor PyTorch"},
	} {
		t.Run(name, func(t *testing.T) {
			path := put(t, "model.bin", c.file)
			if alloc := cost(func() { fails(t, path, c.want) }); alloc > 16<<20 {
				t.Errorf("took %d MB", alloc>>20)
			}
		})
	}
}

// TestSafetensorsOdd: what is unusual but allowed.
func TestSafetensorsOdd(t *testing.T) {
	w := open(t, put(t, "x.pt", stOf(`{ "__metadata__" : {"k":"é\n"} , `+
		`"b":{"data_offsets":[1,9],"extra":[{"x":null},1e3,"y"],"shape":[2],"dtype":"F32"},`+
		stEntry("empty", "F16", "[0,9]", 1, 1)+","+stEntry("a", "I8", "[]", 0, 1)+","+
		stEntry("four bit", "F4", "[3]", 9, 11)+","+stEntry("", "U8", "[1]", 11, 12)+"}   ", 12)))
	if !slices.Equal(w.Names(), []string{"", "a", "b", "empty", "four bit"}) || w.Metadata()["k"] != "é\n" {
		t.Errorf("names %q, metadata %q", w.Names(), w.Metadata())
	}
	x, _ := w.Get("four bit")
	if err := x.Float32(make([]float32, 3)); err == nil || !strings.Contains(err.Error(), `tensor "four bit": cannot convert F4 to float32`) {
		t.Errorf("F4: %v", err)
	}
	if raw, err := x.Raw(); err != nil || len(raw) != 2 {
		t.Errorf("F4: raw %x %v", raw, err)
	}
	for _, name := range []string{"a", "b", "empty"} { // b is not aligned
		x, _ := w.Get(name)
		if err := x.Float32(make([]float32, x.Len())); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestManyTensors: a header of 100,000 entries opens in a tenth of a second. The limit leaves room for a busy machine, but none
// for quadratic time.
func TestManyTensors(t *testing.T) {
	var b strings.Builder
	const n = 100_000
	for i := range n {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(stEntry(fmt.Sprintf("model.layers.%d.weight", i), "F32", "[1]", 4*i, 4*i+4))
	}
	path := put(t, "x.safetensors", stOf("{"+b.String()+"}", 4*n))
	if w := open(t, path); len(w.Names()) != n {
		t.Errorf("%d tensors", len(w.Names()))
	}
}

// TestRoundTrip writes what was read, from all formats, and reads it again.
func TestRoundTrip(t *testing.T) {
	for _, file := range []string{"dtypes.pt", "dtypes.safetensors", "views.pt", "nested4.pt", "sharded-bin", "sharded-st"} {
		w := open(t, filepath.Join("testdata", file))
		var ts []Named
		for _, name := range w.Names() {
			x, _ := w.Get(name)
			ts = append(ts, FromTensor(x))
		}
		var b, again bytes.Buffer
		meta := map[string]string{"format": "pt", "b": "2", "a": "1"}
		if err := WriteSafetensors(&b, ts, meta); err != nil {
			t.Fatal(err)
		}
		if err := WriteSafetensors(&again, ts, meta); err != nil || !bytes.Equal(b.Bytes(), again.Bytes()) {
			t.Errorf("%s: written twice, two files (%v)", file, err)
		}
		back := open(t, put(t, "x", b.Bytes()))
		sameWeights(t, w, back)
		if back.Metadata()["a"] != "1" || len(back.Metadata()) != 3 {
			t.Errorf("%s: metadata %q", file, back.Metadata())
		}
		for _, name := range back.Names() {
			x, _ := back.Get(name)
			if x.Offset%int64(x.DType.Size()) != 0 {
				t.Errorf("%s: %s lies at %d, not aligned", file, name, x.Offset)
			}
		}
		if n := binary.LittleEndian.Uint64(b.Bytes()); n%8 != 0 {
			t.Errorf("%s: header of %d bytes", file, n)
		}
	}
	var b bytes.Buffer
	if err := WriteSafetensors(&b, nil, nil); err != nil {
		t.Fatal(err)
	}
	if w := open(t, put(t, "x", b.Bytes())); len(w.Names()) != 0 {
		t.Errorf("nothing written, %q read", w.Names())
	}
}

// TestAs: conversion while writing equals conversion of each value, also when the source comes in odd pieces.
func TestAs(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	v := make([]float32, 70_001)
	for i := range v {
		v[i] = math.Float32frombits(rng.Uint32())
	}
	chopped := FromFloat32("x", []int{len(v)}, v)
	whole := chopped.Write
	chopped.Write = func(w io.Writer) error {
		var b bytes.Buffer
		if err := whole(&b); err != nil {
			return err
		}
		for b.Len() > 0 {
			if _, err := w.Write(b.Next(1 + rng.IntN(9000))); err != nil {
				return err
			}
		}
		return nil
	}
	for _, d := range []DType{F16, BF16} {
		var got, back bytes.Buffer
		if err := chopped.As(d).Write(&got); err != nil {
			t.Fatal(err)
		}
		want := make([]byte, 2*len(v))
		encode(want, v, d)
		if !bytes.Equal(got.Bytes(), want) {
			t.Errorf("%s differs", d)
		}
		if err := chopped.As(d).As(F32).As(d).Write(&back); err != nil || !bytes.Equal(back.Bytes(), want) {
			t.Errorf("%s through F32 differs: %v", d, err)
		}
	}
	x := open(t, "testdata/dtypes.pt")
	for name, want := range map[string]string{"i64": "cannot convert I64 to F16", "f8": "cannot convert F8_E4M3 to F16"} {
		i, _ := x.Get(name)
		if err := FromTensor(i).As(F16).Write(io.Discard); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	f64, _ := x.Get("f64")
	var b bytes.Buffer
	if err := WriteSafetensors(&b, []Named{FromTensor(f64).As(BF16)}, nil); err != nil {
		t.Fatal(err)
	}
	y, _ := open(t, put(t, "x", b.Bytes())).Get("f64")
	got := make([]float32, y.Len())
	if err := y.Float32(got); err != nil || !sameFloats(got, []float32{1, 1, float32(math.Inf(1)), float32(math.Copysign(0, -1)), 0.10009765625}) {
		t.Errorf("f64 as BF16: %v %v", got, err)
	}
}

func TestWriteFaults(t *testing.T) {
	good := FromFloat32("w", []int{2}, []float32{1, 2})
	with := func(f func(*Named)) []Named {
		n := good
		f(&n)
		return []Named{n}
	}
	boom := errors.New("boom")
	for name, c := range map[string]struct {
		ts   []Named
		want string
	}{
		"short":        {with(func(n *Named) { n.Write = func(io.Writer) error { return nil } }), "8 bytes are missing of F32 [2]"},
		"too much":     {with(func(n *Named) { n.DType = F16 }), "more bytes than its shape holds"},
		"twice":        {[]Named{good, good}, "the name is taken twice"},
		"reserved":     {with(func(n *Named) { n.Name = "__metadata__" }), "the name is taken twice"},
		"negative":     {with(func(n *Named) { n.Shape = []int{-2} }), "out of range"},
		"huge":         {with(func(n *Named) { n.Shape = []int{1 << 30, 1 << 30, 1 << 30} }), "out of range"},
		"unsupported":  {with(func(n *Named) { n.DType = Unsupported }), "cannot be written"},
		"source fails": {with(func(n *Named) { n.Write = func(io.Writer) error { return boom } }), "boom"},
		"too many":     {[]Named{FromFloat32("w", []int{1}, []float32{1, 2})}, "2 values do not fill the shape [1]"},
		"too few":      {[]Named{FromFloat32("w", []int{3}, []float32{1})}, "1 values do not fill the shape [3]"},
	} {
		if err := WriteSafetensors(io.Discard, c.ts, nil); err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), `tensor "`) {
			t.Errorf("%s: %v, want %s", name, err, c.want)
		}
	}
	if err := WriteSafetensors(failing{}, []Named{good}, nil); err == nil {
		t.Error("a writer that fails went unnoticed")
	}
}

type failing struct{}

func (failing) Write([]byte) (int, error) { return 0, errors.New("disk full") }

// TestStreamMemory: a transposed matrix streams in pieces, so memory does not grow with it.
func TestStreamMemory(t *testing.T) {
	const n = 1 << 20
	shape, strides := []int64{1024, 1024}, []int64{1, 1024}
	pickle := pickDict("w", view{"0", n, 0, shape, strides}.pick())
	data := make([]byte, 4*n)
	for i := range n {
		binary.LittleEndian.PutUint32(data[4*i:], uint32(i))
	}
	w := open(t, put(t, "x.pt", zipOf(t, zipFile{"x/data.pkl", pickle}, zipFile{"x/data/0", string(data)})))
	x, _ := w.Get("w")
	alloc := cost(func() {
		if err := WriteSafetensors(io.Discard, []Named{FromTensor(x)}, nil); err != nil {
			t.Fatal(err)
		}
	})
	if alloc > 3<<20 {
		t.Errorf("streaming 4 MB took %d bytes", alloc)
	}
	raw, err := x.Raw()
	if err != nil {
		t.Fatal(err)
	}
	for i := range n {
		if got := binary.LittleEndian.Uint32(raw[4*i:]); got != uint32(i%1024*1024+i/1024) {
			t.Fatalf("element %d is %d", i, got)
		}
	}
}

func TestOpenFolders(t *testing.T) {
	dir := t.TempDir()
	copyTo := func(name, from string) {
		data, err := os.ReadFile(filepath.Join("testdata", from))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o666); err != nil {
			t.Fatal(err)
		}
	}
	fails(t, dir, "no weights in this folder")
	copyTo("iter_1.pth", "bare.pt")
	if w := open(t, dir); w.Format() != "pytorch" || w.Files()[0] != filepath.Join(dir, "iter_1.pth") {
		t.Errorf("%s %q", w.Format(), w.Files())
	}
	copyTo("iter_2.pth", "bare.pt")
	fails(t, dir, "several files may hold the weights (name one: iter_1.pth, iter_2.pth)")
	copyTo("pytorch_model.bin", "bare.pt")
	if w := open(t, dir); w.Format() != "pytorch" {
		t.Errorf("%s %q", w.Format(), w.Files())
	}
	copyTo("model.safetensors", "dtypes.safetensors")
	if w := open(t, dir); w.Format() != "safetensors" {
		t.Errorf("%s %q", w.Format(), w.Files())
	}
	if got := SourceDir(dir); got != dir {
		t.Errorf("SourceDir of a folder: %s", got)
	}
	if got := SourceDir(filepath.Join(dir, "model.safetensors")); got != dir {
		t.Errorf("SourceDir of a file: %s", got)
	}
	if _, err := Open(filepath.Join(dir, "none")); !errors.Is(err, os.ErrNotExist) || errors.Is(err, ErrFormat) {
		t.Errorf("missing: %v", err)
	}
}
