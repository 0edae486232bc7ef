package checkpoints

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// goldenFile is what PyTorch says about a file of testdata (see make.py).
type goldenFile struct {
	Tensors map[string]struct {
		DType string
		Shape []int
		Raw   string
		F32   *string
	}
	Tied   [][]string
	Opaque []string
	Meta   map[string]string
}

// torchNames maps PyTorch's names in golden.json to ours.
var torchNames = map[string]DType{
	"float32": F32, "float16": F16, "bfloat16": BF16, "float64": F64, "int64": I64, "int32": I32, "int16": I16, "int8": I8,
	"uint8": U8, "bool": Bool, "uint16": U16, "uint32": U32, "uint64": U64, "complex64": C64,
	"float8_e4m3fn": F8E4M3, "float8_e5m2": F8E5M2,
}

func readGolden(t *testing.T) map[string]goldenFile {
	t.Helper()
	data, err := os.ReadFile("testdata/golden.json")
	if err != nil {
		t.Fatal(err)
	}
	var golden map[string]goldenFile
	if err := json.Unmarshal(data, &golden); err != nil {
		t.Fatal(err)
	}
	return golden
}

// TestGolden reads what PyTorch wrote, bit for bit.
func TestGolden(t *testing.T) {
	for file, want := range readGolden(t) {
		t.Run(file, func(t *testing.T) {
			w := open(t, filepath.Join("testdata", file))
			for name, g := range want.Tensors {
				x, ok := w.Get(name)
				if !ok {
					t.Errorf("no tensor %q among %q", name, w.Names())
					continue
				}
				if x.DType != torchNames[g.DType] || !slices.Equal(x.Shape, g.Shape) || x.Name != name {
					t.Errorf("%s: %s %v, want %s %v", name, x.DType, x.Shape, g.DType, g.Shape)
				}
				raw, err := x.Raw()
				if err != nil || hex.EncodeToString(raw) != g.Raw {
					t.Errorf("%s: raw %x %v, want %s", name, raw, err, g.Raw)
				}
				v := make([]float32, x.Len())
				err = x.Float32(v)
				if g.F32 == nil {
					if err == nil || !strings.Contains(err.Error(), name) || !strings.Contains(err.Error(), x.DType.String()) {
						t.Errorf("%s: Float32 of %s: %v", name, x.DType, err)
					}
					continue
				}
				if want := unhex(t, *g.F32); err != nil || !sameFloats(v, want) {
					t.Errorf("%s: float32 %v %v, want %v", name, v, err, want)
				}
			}
			for _, name := range w.Names() {
				x, _ := w.Get(name)
				if _, ok := want.Tensors[name]; !ok && x.problem == "" {
					t.Errorf("unexpected tensor %q", name)
				}
			}
			if !slices.EqualFunc(w.Tied(), want.Tied, slices.Equal) {
				t.Errorf("tied %q, want %q", w.Tied(), want.Tied)
			}
			if !slices.Equal(w.Opaque(), want.Opaque) {
				t.Errorf("opaque %q, want %q", w.Opaque(), want.Opaque)
			}
			for k, v := range want.Meta {
				if w.Metadata()[k] != v {
					t.Errorf("metadata %q: %q, want %q", k, w.Metadata()[k], v)
				}
			}
		})
	}
}

// unhex reads little-endian float32 values.
func unhex(t *testing.T, s string) []float32 {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	v := make([]float32, len(b)/4)
	decode(v, b, F32)
	return v
}

// sameFloats compares bits, but takes any NaN for any other: processors differ in them.
func sameFloats(a, b []float32) bool {
	return slices.EqualFunc(a, b, func(x, y float32) bool {
		return math.Float32bits(x) == math.Float32bits(y) || x != x && y != y
	})
}

// TestUnsupported: a tensor of an unsupported layout is listed and fails alone, with its name and the way out.
func TestUnsupported(t *testing.T) {
	for _, c := range []struct{ file, name, want string }{
		{"sparse.pt", "s", `tensor "s": sparse tensors are not supported (save tensor.to_dense())`},
		{"meta.pt", "m", `tensor "m": a tensor on the meta device has no data`},
		{"complex128.pt", "c", `tensor "c": torch.ComplexDoubleStorage is not supported`},
		{"legacy-complex128.pt", "c", `tensor "c": torch.ComplexDoubleStorage is not supported`},
		{"legacy-complex128.pt", "s", `tensor "s": sparse tensors are not supported (save tensor.to_dense())`},
		{"neg.pt", "n", `tensor "n": its negation or conjugation is still to be done`},
	} {
		w := open(t, filepath.Join("testdata", c.file))
		x, ok := w.Get(c.name)
		if !ok {
			t.Errorf("%s: no tensor %q", c.file, c.name)
			continue
		}
		if err := x.Float32(make([]float32, x.Len())); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %s", c.file, err, c.want)
		}
		if _, err := x.Raw(); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: raw: %v, want %s", c.file, err, c.want)
		}
		if err := WriteSafetensors(&bytes.Buffer{}, []Named{FromTensor(x)}, nil); err == nil {
			t.Errorf("%s: written", c.file)
		}
	}
	if x, _ := open(t, "testdata/sparse.pt").Get("s"); !slices.Equal(x.Shape, []int{3, 3}) || x.DType != Unsupported {
		t.Errorf("sparse: %v %v", x.Shape, x.DType)
	}
}

func TestRefused(t *testing.T) {
	for file, want := range map[string]string{
		"system2.pt":       "refuses global posix.system",
		"system4.pt":       "refuses global posix.system",
		"eval.pt":          "refuses global __builtin__.eval",
		"class.pt":         "refuses global string.Template",
		"module.pt":        "holds a torch.nn.modules.linear.Linear, not weights (save model.state_dict() instead)",
		"empty.pt":         "holds no tensors",
		"legacy-system.pt": "refuses global posix.system",
		"legacy-module.pt": "holds a torch.nn.modules.linear.Linear, not weights (save model.state_dict() instead)",
		"legacy-empty.pt":  "holds no tensors",
		"script.pt":        "a TorchScript program",
	} {
		fails(t, filepath.Join("testdata/refused", file), want)
	}
	if _, err := os.Stat("pwned"); err == nil {
		t.Fatal("a pickle was executed")
	}
}

// TestRealFiles reads files of real models, where they are at hand.
func TestRealFiles(t *testing.T) {
	root := os.Getenv("SVAE_TESTDATA")
	if root == "" {
		t.Skip("SVAE_TESTDATA is not set")
	}
	models := filepath.Join(root, "models")
	for _, dir := range []string{"stories260K/hf", "babyllama-105/hf"} {
		t.Run(dir, func(t *testing.T) {
			st := open(t, need(t, filepath.Join(models, dir, "model.safetensors")))
			pt := open(t, need(t, filepath.Join(models, dir, "pytorch_model.bin")))
			if st.Format() != "safetensors" || pt.Format() != "pytorch" {
				t.Errorf("formats %s, %s", st.Format(), pt.Format())
			}
			sameWeights(t, st, pt)
		})
	}
	t.Run("jlens", func(t *testing.T) {
		full := open(t, need(t, filepath.Join(models, "torch-fixtures/jlens_ckpt_1000.pt")))
		half := open(t, need(t, filepath.Join(models, "torch-fixtures/jlens_lens_1000.pt")))
		if len(full.Names()) != 5 || len(half.Names()) != 5 {
			t.Fatalf("tensors %q, %q", full.Names(), half.Names())
		}
		for _, w := range []*Weights{full, half} {
			for _, name := range w.Names() {
				x, _ := w.Get(name)
				v := make([]float32, x.Len())
				if err := x.Float32(v); err != nil {
					t.Fatal(err)
				}
				for i, f := range v {
					if f != f || math.Abs(float64(f)) > 1e6 {
						t.Fatalf("%s[%d] = %v", name, i, f)
					}
				}
			}
		}
	})
	for _, d := range []string{"float32", "float16", "bfloat16"} {
		w := open(t, need(t, filepath.Join(models, "torch-fixtures/tensor_"+d+"_proto2_zip.pt")))
		x, ok := w.Get("tensor")
		if !ok || x.DType != torchNames[d] {
			t.Errorf("%s: %q", d, w.Names())
		}
	}
}

// need skips the test when a file is not there.
func need(t *testing.T, path string) string {
	t.Helper()
	if _, err := os.Stat(path); err != nil {
		t.Skip(err)
	}
	return path
}

// open opens path for the length of the test.
func open(t testing.TB, path string) *Weights {
	t.Helper()
	w, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.Close(); err != nil {
			t.Error(err)
		}
	})
	return w
}

// fails checks that path is refused with a message that names the file, wraps ErrFormat, has one line and contains want.
func fails(t testing.TB, path, want string) {
	t.Helper()
	w, err := Open(path)
	if err == nil {
		t.Errorf("%s: opened with %q, want %q", path, w.Names(), want)
		w.Close()
		return
	}
	msg := err.Error()
	if !errors.Is(err, ErrFormat) || !strings.Contains(msg, filepath.Base(path)) || !strings.Contains(msg, want) ||
		strings.Contains(msg, "\n") || len(msg) > 700 {
		t.Errorf("%s: %q, want %q", path, msg, want)
	}
}

// sameWeights checks that two sources hold the same tensors, bit for bit.
func sameWeights(t testing.TB, a, b *Weights) {
	t.Helper()
	if !slices.Equal(a.Names(), b.Names()) {
		t.Fatalf("names %q, %q", a.Names(), b.Names())
	}
	for _, name := range a.Names() {
		x, _ := a.Get(name)
		y, _ := b.Get(name)
		xr, err1 := x.Raw()
		yr, err2 := y.Raw()
		if err1 != nil || err2 != nil || x.DType != y.DType || !slices.Equal(x.Shape, y.Shape) || !bytes.Equal(xr, yr) {
			t.Errorf("%s differs: %s %v, %s %v, %v, %v", name, x.DType, x.Shape, y.DType, y.Shape, err1, err2)
		}
	}
}
