package checkpoints

import (
	"bytes"
	"errors"
	"flag"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the files of testdata that are compared byte for byte")

// everyType opens the golden file that holds a tensor of each type, as tensors to be written.
func everyType(t testing.TB) (*Weights, []Named) {
	w := open(t, "testdata/dtypes.pt")
	var ts []Named
	for _, name := range w.Names() {
		x, _ := w.Get(name)
		ts = append(ts, FromTensor(x))
	}
	return w, ts
}

// TestWriteTorch compares with testdata/written.pt and written-key.pt, which make.py opens with torch.load(weights_only=True).
func TestWriteTorch(t *testing.T) {
	w, ts := everyType(t)
	views := open(t, "testdata/views.pt")
	for _, name := range views.Names() {
		x, _ := views.Get(name)
		n := FromTensor(x)
		n.Name = "views." + name
		ts = append(ts, n)
	}
	meta := map[string]any{
		"epoch": 3, "loss": 0.25, "done": true, "not": false, "note": "h\u00e9llo", "none": nil, "big": 1 << 40, "neg": -5, "small": 300,
		"list": []any{1, "a", []any{}, map[string]any{}}, "args": map[string]any{"lr": 1e-3, "betas": []any{0.9, 0.95}},
	}
	for _, c := range []struct {
		file string
		o    TorchOptions
	}{
		{"written.pt", TorchOptions{}},
		{"written-key.pt", TorchOptions{Key: "state_dict", Meta: meta}},
	} {
		var b bytes.Buffer
		if err := WriteTorch(&b, ts, c.o); err != nil {
			t.Fatal(err)
		}
		path := filepath.Join("testdata", c.file)
		if *update {
			write(t, path, b.Bytes())
		}
		if want, err := os.ReadFile(path); err != nil || !bytes.Equal(b.Bytes(), want) {
			t.Errorf("%s: %d bytes differ from the golden %d (%v)", c.file, b.Len(), len(want), err)
		}
		got := open(t, path)
		if len(got.Names()) != len(ts) || len(got.Opaque()) != 0 || len(got.Tied()) != 0 {
			t.Errorf("%s: %d tensors, opaque %q, tied %q", c.file, len(got.Names()), got.Opaque(), got.Tied())
		}
		for _, n := range ts {
			x, ok := got.Get(n.Name)
			if !ok {
				t.Fatalf("%s: no tensor %q", c.file, n.Name)
			}
			if x.Offset%torchAlign != 0 && x.Len() > 0 {
				t.Errorf("%s: %s lies at %d", c.file, n.Name, x.Offset)
			}
			src, ok := w.Get(n.Name)
			if !ok {
				src, _ = views.Get(strings.TrimPrefix(n.Name, "views."))
			}
			a, err1 := src.Raw()
			b, err2 := x.Raw()
			if err1 != nil || err2 != nil || x.DType != src.DType || !slices.Equal(x.Shape, src.Shape) || !bytes.Equal(a, b) {
				t.Errorf("%s: %s differs: %s %v, want %s %v (%v, %v)", c.file, n.Name, x.DType, x.Shape, src.DType, src.Shape, err1, err2)
			}
		}
		if c.o.Key != "" && (got.Metadata()["epoch"] != "3" || got.Metadata()["args.lr"] != "0.001" || got.Metadata()["note"] != "h\u00e9llo") {
			t.Errorf("%s: metadata %q", c.file, got.Metadata())
		}
	}
}

func TestWriteTorchFaults(t *testing.T) {
	one := FromFloat32("a", []int{2}, []float32{1, 2})
	with := func(change func(*Named)) []Named {
		n := one
		change(&n)
		return []Named{n}
	}
	bytesOf := func(k int) func(io.Writer) error {
		return func(w io.Writer) error {
			_, err := w.Write(make([]byte, k))
			return err
		}
	}
	for want, c := range map[string]struct {
		ts []Named
		o  TorchOptions
	}{
		`tensor "a": the name is taken twice`:         {[]Named{one, one}, TorchOptions{}},
		`tensor "a": unsupported cannot be written`:   {with(func(n *Named) { n.DType = Unsupported }), TorchOptions{}},
		`tensor "a": shape [-1] is out of range`:      {with(func(n *Named) { n.Shape = []int{-1} }), TorchOptions{}},
		`[4611686018427387904 4 0] is out of range`:   {with(func(n *Named) { n.Shape = []int{1 << 62, 4, 0} }), TorchOptions{}},
		`write tensor "a": 1 bytes are missing of 8`:  {with(func(n *Named) { n.Write = bytesOf(7) }), TorchOptions{}},
		`write tensor "a": more bytes than its shape`: {with(func(n *Named) { n.Write = bytesOf(9) }), TorchOptions{}},
		`"a\xff" is not valid UTF-8`:                  {with(func(n *Named) { n.Name = "a\xff" }), TorchOptions{}},
		`values beside the tensors need a key`:        {[]Named{one}, TorchOptions{Meta: map[string]any{"x": 1}}},
		`key "m" is taken twice`:                      {[]Named{one}, TorchOptions{Key: "m", Meta: map[string]any{"m": 1}}},
		`value "x.y.0": a []int cannot be written to a PyTorch file`: {[]Named{one},
			TorchOptions{Key: "m", Meta: map[string]any{"x": map[string]any{"y": []any{[]int{1}}}}}},
	} {
		if err := WriteTorch(io.Discard, c.ts, c.o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
	if err := WriteTorch(failing{}, []Named{one}, TorchOptions{}); err == nil || !strings.Contains(err.Error(), "disk full") {
		t.Errorf("full disk: %v", err)
	}
	bad := errors.New("cannot read")
	if err := WriteTorch(io.Discard, with(func(n *Named) { n.Write = func(io.Writer) error { return bad } }), TorchOptions{}); !errors.Is(err, bad) {
		t.Errorf("failing source: %v", err)
	}
}

// holes writes a file that leaves out what is zero.
type holes struct{ f *os.File }

func (h holes) Write(p []byte) (int, error) {
	if len(p) >= 1<<16 && bytes.Count(p, []byte{0}) == len(p) {
		_, err := h.f.Seek(int64(len(p)), io.SeekCurrent)
		return len(p), err
	}
	return h.f.Write(p)
}

// TestWriteTorchLarge writes a tensor of more than 4 GiB, for which zip has other fields, and one behind it. The file is
// sparse. PyTorch opened such a file, mapped and not, when this was written.
func TestWriteTorchLarge(t *testing.T) {
	if testing.Short() {
		t.Skip("sums up 4 GiB")
	}
	f, err := os.Create(filepath.Join(t.TempDir(), "x.pt"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	const n = 1<<30 + 5
	zeros := func(w io.Writer) error {
		b := make([]byte, 1<<20)
		for left := 4 * n; left > 0; left -= len(b) {
			b = b[:min(left, len(b))]
			if _, err := w.Write(b); err != nil {
				return err
			}
		}
		return nil
	}
	ts := []Named{{Name: "big", DType: F32, Shape: []int{n}, Write: zeros}, FromFloat32("small", []int{3}, []float32{1, 2, 3})}
	if err := WriteTorch(holes{f}, ts, TorchOptions{}); err != nil {
		t.Fatal(err)
	}
	w := open(t, f.Name())
	if x, _ := w.Get("big"); x.Len() != n || x.Offset%torchAlign != 0 {
		t.Errorf("%d elements at %d", x.Len(), x.Offset)
	}
	x, _ := w.Get("small")
	v := make([]float32, 3)
	if err := x.Float32(v); err != nil || !slices.Equal(v, []float32{1, 2, 3}) || x.Offset < 4*n || x.Offset%torchAlign != 0 {
		t.Errorf("%v at %d (%v)", v, x.Offset, err)
	}
}
