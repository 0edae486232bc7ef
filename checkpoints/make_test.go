package checkpoints

import (
	"archive/zip"
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Builders of small files, good and bad.

// pick* give the opcodes that push a value.

func pickString(s string) string {
	return "X" + string(binary.LittleEndian.AppendUint32(nil, uint32(len(s)))) + s
}

func pickInt(n int64) string {
	return "\x8a\x08" + string(binary.LittleEndian.AppendUint64(nil, uint64(n)))
}

func pickInts(n []int64) string {
	s := "("
	for _, v := range n {
		s += pickInt(v)
	}
	return s + "t"
}

// view describes a float32 tensor of a pickle.
type view struct {
	key            string
	count, offset  int64
	shape, strides []int64
}

func (v view) pick() string {
	return "ctorch._utils\n_rebuild_tensor_v2\n(" +
		"(" + pickString("storage") + "ctorch\nFloatStorage\n" + pickString(v.key) + pickString("cpu") + pickInt(v.count) + "tQ" +
		pickInt(v.offset) + pickInts(v.shape) + pickInts(v.strides) + "\x89ccollections\nOrderedDict\n)RtR"
}

// pickDict gives a whole pickle of a dictionary; pairs are names and values.
func pickDict(pairs ...string) string {
	s := "\x80\x02}("
	for i := 0; i < len(pairs); i += 2 {
		s += pickString(pairs[i]) + pairs[i+1]
	}
	return s + "u."
}

// entry is a file of a zip archive.
type zipFile struct {
	name string
	data string
}

// zipOf stores files in an archive.
func zipOf(t testing.TB, files ...zipFile) []byte {
	t.Helper()
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for _, f := range files {
		w, err := z.CreateHeader(&zip.FileHeader{Name: f.name, Method: zip.Store})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(f.data)); err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// torchOf makes a PyTorch file of a pickle and one storage "0" of 6 float32.
func torchOf(t testing.TB, pickle string) []byte {
	return zipOf(t, zipFile{"x/data.pkl", pickle}, zipFile{"x/byteorder", "little"}, zipFile{"x/data/0", sixFloats})
}

// sixFloats are 0 to 5, goodView takes them all.
var (
	sixFloats = string(f32bytes([]float32{0, 1, 2, 3, 4, 5}))
	goodView  = view{"0", 6, 0, []int64{2, 3}, []int64{3, 1}}
)

func f32bytes(v []float32) []byte {
	b := make([]byte, 4*len(v))
	encode(b, v, F32)
	return b
}

// stOf makes a safetensors file of a header, padded to 8 bytes at least, and n bytes of data.
func stOf(header string, n int) []byte {
	header = fmt.Sprintf("%-8s", header)
	return append(append(binary.LittleEndian.AppendUint64(nil, uint64(len(header))), header...), make([]byte, n)...)
}

// stEntry gives one entry of a header.
func stEntry(name, dtype, shape string, begin, end int) string {
	return fmt.Sprintf(`%q:{"dtype":%q,"shape":%s,"data_offsets":[%d,%d]}`, name, dtype, shape, begin, end)
}

// put writes a file in a new folder and returns its path.
func put(t testing.TB, name string, data []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, data, 0o666); err != nil {
		t.Fatal(err)
	}
	return path
}

func times(n int, s string) string { return strings.Repeat(s, n) }
