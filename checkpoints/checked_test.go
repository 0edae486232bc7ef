package checkpoints

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestSummer compares the sums with those of each chunk, however the bytes come.
func TestSummer(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for _, size := range []int{0, 1, 1023, 1024, 1025, 5000, 8192} {
		b := make([]byte, size)
		for i := range b {
			b[i] = byte(r.Uint32())
		}
		s := NewSummer(1024)
		for rest := b; len(rest) > 0; {
			n := min(len(rest), 1+r.IntN(3000))
			s.Write(rest[:n])
			rest = rest[n:]
		}
		got := s.Sums()
		var want []string
		for c := range slices.Chunk(b, 1024) {
			sum := sha256.Sum256(c)
			want = append(want, hex.EncodeToString(sum[:]))
		}
		if err := got.Check(); got.Size != int64(size) || !slices.Equal(got.SHA, want) || err != nil {
			t.Errorf("%d bytes: %d sums of %d bytes, want %d (%v)", size, len(got.SHA), got.Size, len(want), err)
		}
	}
}

// TestWriteAligned reads back tensors of every size and checks where they lie.
func TestWriteAligned(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	var ts []Named
	raw := map[string][]byte{}
	for i := range 40 {
		dt := []DType{F32, BF16, I8, F64}[i%4]
		n := Named{Name: "t" + string(rune('A'+i)), DType: dt, Shape: []int{1 + r.IntN(3), 1 + r.IntN(100)}}
		b := make([]byte, n.Shape[0]*n.Shape[1]*dt.Size())
		for i := range b {
			b[i] = byte(r.Uint32())
		}
		raw[n.Name] = b
		n.Write = bytesWriter(b)
		ts = append(ts, n)
	}
	for _, align := range []int{8, 64, 4096} {
		path := filepath.Join(t.TempDir(), "w.safetensors")
		var b bytes.Buffer
		if err := WriteAligned(&b, ts, map[string]string{"format": "pt"}, align); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, b.Bytes(), 0o666); err != nil {
			t.Fatal(err)
		}
		w, err := Open(path)
		if err != nil {
			t.Fatal(err)
		}
		first := int64(b.Len())
		for _, n := range ts {
			x, ok := w.Get(n.Name)
			if !ok {
				t.Fatalf("no %s", n.Name)
			}
			got, err := x.Raw()
			if err != nil || !bytes.Equal(got, raw[n.Name]) {
				t.Errorf("%s is not what was written (%v)", n.Name, err)
			}
			if to := int64(divisor(n, align)); x.Offset%to != 0 || to < int64(n.DType.Size()) {
				t.Errorf("%s, %d bytes of %s, lies at %d", n.Name, len(got), n.DType, x.Offset)
			}
			first = min(first, x.Offset)
		}
		if first%int64(align) != 0 {
			t.Errorf("the data begin at %d, want a multiple of %d", first, align)
		}
		w.Close()
	}
	if err := WriteAligned(&bytes.Buffer{}, []Named{{Name: "x", DType: F32, Shape: []int{3}, Write: bytesWriter(make([]byte, 11))}}, nil, 64); err == nil {
		t.Error("a tensor that lacks a byte was written")
	}
}

// bytesWriter writes b.
func bytesWriter(b []byte) func(io.Writer) error {
	return func(w io.Writer) error {
		_, err := w.Write(b)
		return err
	}
}

// TestOpenChecked checks that a file opens whose sums are right, and that one byte, or sums out of range, make it refused.
func TestOpenChecked(t *testing.T) {
	path := filepath.Join(t.TempDir(), "w.safetensors")
	v := make([]float32, 9000)
	var b bytes.Buffer
	if err := WriteAligned(&b, []Named{FromFloat32("x", []int{len(v)}, v)}, nil, 64); err != nil {
		t.Fatal(err)
	}
	write := func(text []byte) {
		t.Helper()
		if err := os.WriteFile(path, text, 0o666); err != nil {
			t.Fatal(err)
		}
	}
	write(b.Bytes())
	s := NewSummer(4096)
	s.Write(b.Bytes())
	sums := s.Sums()
	w, err := OpenChecked(path, sums)
	if err != nil {
		t.Fatal(err)
	}
	if x, ok := w.Get("x"); !ok || x.Len() != len(v) {
		t.Errorf("opened without its tensor")
	}
	w.Close()
	for _, at := range []int{0, 9, 4095, 4096, 20000, b.Len() - 1} {
		text := bytes.Clone(b.Bytes())
		text[at]++
		write(text)
		if _, err := OpenChecked(path, sums); !errors.Is(err, ErrFormat) || !strings.Contains(err.Error(), path+": ") || !strings.Contains(err.Error(), "chunk "+string(rune('0'+at/4096))) {
			t.Errorf("byte %d changed: %v", at, err)
		}
	}
	for name, text := range map[string][]byte{"cut": b.Bytes()[:b.Len()-1], "longer": append(bytes.Clone(b.Bytes()), 0), "empty": nil} {
		write(text)
		if _, err := OpenChecked(path, sums); !errors.Is(err, ErrFormat) {
			t.Errorf("%s: %v", name, err)
		}
	}
	gguf := []byte("GGUF of another format, whatever its sums")
	write(gguf)
	other := NewSummer(4096)
	other.Write(gguf)
	if _, err := OpenChecked(path, other.Sums()); !errors.Is(err, ErrFormat) {
		t.Errorf("another format: %v", err)
	}
	for _, bad := range []Sums{{}, {Size: -1, Chunk: 4096}, {Size: 1 << 62, Chunk: 1 << 30, SHA: sums.SHA}, {Size: 1, Chunk: 1, SHA: sums.SHA[:1]},
		{Size: 1, Chunk: 4096, SHA: []string{strings.ToUpper(sums.SHA[0])}}, {Size: 1, Chunk: 4096, SHA: []string{"ab"}}} {
		if _, err := OpenChecked(path, bad); !errors.Is(err, ErrFormat) {
			t.Errorf("%+v: %v", bad, err)
		}
	}
	if _, err := OpenChecked(filepath.Dir(path), sums); !errors.Is(err, ErrFormat) {
		t.Errorf("a folder: %v", err)
	}
	if _, err := OpenChecked(path+"x", sums); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
}

// TestDirSum asks for the sum of a file that was written.
func TestDirSum(t *testing.T) {
	d, err := CreateDir(filepath.Join(t.TempDir(), "x"), false)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Abort()
	if err := d.WriteFile("a", []byte("text")); err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256([]byte("text"))
	if f, err := d.Sum("a"); err != nil || f != (File{"a", 4, hex.EncodeToString(sum[:])}) {
		t.Errorf("%+v, %v", f, err)
	}
	w, err := d.Create("b")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"b", "c"} {
		if _, err := d.Sum(name); err == nil {
			t.Errorf("%s, which was not closed, has a sum", name)
		}
	}
	w.Close()
}
