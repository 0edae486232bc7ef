package checkpoints

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// allocLimit is what opening a file may allocate: a fixed part, and what the format makes of each byte.
func allocLimit(size int) uint64 { return 8<<20 + 1000*uint64(size) }

// tryBytes opens a file of arbitrary content, which lies in memory.
func tryBytes(t *testing.T, b []byte) {
	if len(b) == 0 {
		return
	}
	m := &mapping{path: "x", data: b, unmap: func() error { return nil }}
	try(t, func() (*Weights, error) { return openMapped(m) }, len(b))
}

// try opens a source of size bytes and reads all of it.
func try(t *testing.T, open func() (*Weights, error), size int) {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	w, err := open()
	runtime.ReadMemStats(&after)
	if got := after.TotalAlloc - before.TotalAlloc; got > allocLimit(size) {
		t.Errorf("opening %d bytes allocated %d", size, got)
	}
	if err != nil {
		if !errors.Is(err, ErrFormat) && !errors.Is(err, os.ErrNotExist) {
			t.Errorf("error is not ErrFormat: %v", err)
		}
		if strings.Contains(err.Error(), "\n") {
			t.Errorf("error has several lines: %q", err)
		}
		return
	}
	defer w.Close()
	for _, name := range w.Names() {
		x, ok := w.Get(name)
		if !ok || x.Len() < 0 {
			t.Fatalf("tensor %q of %d elements", name, x.Len())
		}
		if x.Len() > max(maxPacked*size+maxPacked, maxExpand) {
			t.Fatalf("tensor %q of %d elements in %d bytes", name, x.Len(), size)
		}
		if x.Len() > 1<<16 {
			continue // expanded; slow and nothing new
		}
		raw, err := x.Raw()
		if err == nil && x.DType != Unsupported && int64(len(raw)) != x.Bytes() {
			t.Fatalf("tensor %q: %d bytes of %s %v", name, len(raw), x.DType, x.Shape)
		}
		v := make([]float32, x.Len())
		if e := x.Float32(v); e == nil && err != nil {
			t.Fatalf("tensor %q: Float32 works, Raw says %v", name, err)
		}
	}
}

func FuzzTorch(f *testing.F) {
	files, err := filepath.Glob("testdata/*.pt")
	if err != nil {
		f.Fatal(err)
	}
	more, err := filepath.Glob("testdata/refused/*.pt")
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range append(files, more...) {
		w, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		m := &mapping{data: w}
		records, err := readZip(m)
		if err != nil {
			continue
		}
		for name, r := range records {
			if strings.HasSuffix(name, "/data.pkl") {
				b, err := r.bytes(w)
				if err != nil {
					f.Fatal(err)
				}
				f.Add(b)
			}
		}
	}
	f.Add([]byte(pickDict("w", goodView.pick())))
	f.Add([]byte(pickDict("a", "\x8a\x00", "b", "\x8e\x01\x00\x00\x00\x00\x00\x00\x00x", "c", "\x8f(K\x01\x90")))
	f.Fuzz(func(t *testing.T, pickle []byte) {
		if len(pickle) > 1<<16 {
			return
		}
		tryBytes(t, torchOf(t, string(pickle)))
	})
}

func FuzzZip(f *testing.F) {
	f.Add(torchOf(f, pickDict("w", goodView.pick())))
	for _, file := range []string{"testdata/bare.pt", "testdata/nocrc.pt", "testdata/legacy-bare.pt"} {
		b, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(tryBytes)
}

func FuzzLegacy(f *testing.F) {
	files, err := filepath.Glob("testdata/legacy-*.pt")
	if err != nil {
		f.Fatal(err)
	}
	more, err := filepath.Glob("testdata/refused/legacy-*.pt")
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range append(files, more...) {
		b, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	six := legacyPart{6, sixFloats}
	f.Add(legacyOf(pickDict("w", goodView.pick(), "r", legacyPick(6, "9", 2, 3, []int64{3}, []int64{1})), six))
	f.Add(legacyOf(pickDict("x", "("+pickString("module")+"ctorch\nX\nNNtQ"), six))
	f.Fuzz(tryBytes)
}

func FuzzSafetensors(f *testing.F) {
	one := stEntry("w", "F32", "[2]", 0, 8)
	for _, header := range []string{"{}", "{" + one + "}", "{" + one + "," + one + "}", "{" + stEntry("w", "F8_E4M3", "[8]", 0, 8) + "}",
		`{"__metadata__":{"a":"b"},` + one + "}", "{" + stEntry("a", "BF16", "[0]", 0, 0) + "," + one + "}", `{"\ud800":{"dtype":"X"}}`} {
		f.Add([]byte(header), 8)
	}
	f.Fuzz(func(t *testing.T, header []byte, n int) {
		if n < 0 || n > 1<<12 {
			return
		}
		tryBytes(t, stOf(string(header), n))
	})
}

func FuzzIndex(f *testing.F) {
	for _, text := range []string{`"a":"1.safetensors"`, `"a":"1.safetensors","b":"2.bin"`, `"a":"../1.safetensors"`, `"a":"."`, `"c":"2.bin"`} {
		f.Add([]byte(`{"metadata":{"total_size":8},"weight_map":{` + text + `}}`))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		dir := shards(t, "")
		write(t, filepath.Join(dir, "model.safetensors.index.json"), text)
		try(t, func() (*Weights, error) { return Open(dir) }, len(text)+4096)
	})
}

func FuzzGGUF(f *testing.F) {
	for _, file := range []string{"testdata/blocks.gguf", "testdata/written.gguf"} {
		b, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	one := gtensor("w", 0, 0, 8)
	f.Add(ggufOf(3, 1, 0, one, 32))
	f.Add(ggufOf(2, 2, 1, gstr("k")+garray(ggufString, 2, gstr("a")+gstr("b"))+one+gtensor("q", 2, 32, 32, 2), 68))
	f.Add(ggufOf(3, 1, 1, gstr("n")+garray(ggufArray, 1, u32(ggufInt8)+u64(1)+"x")+gtensor("u", 99, 0, 8), 5))
	f.Add(ggufOf(3, 0, 1, gstr("general.alignment")+u32(ggufUint32)+u32(64), 0))
	f.Fuzz(tryBytes)
}

func FuzzLlama2C(f *testing.F) {
	f.Add([]byte(l2c(8, 6, 2, 2, 1, 5, 3)), uint16(tinyAll+tinyTables))
	f.Add([]byte(l2c(8, 6, 2, 2, 1, -5, 3)), uint16(tinyAll+tinyTables+tinyHead))
	f.Add([]byte(tinyV1(1, 1)), uint16(tinyAll))
	f.Add([]byte(tinyV1(0, 1)), uint16(tinyAll+tinyHead))
	f.Add([]byte(tinyV1(0, 2)), uint16(9))
	f.Add([]byte(l2c(2, 1, 1, 1, 1, 1, 1)), uint16(0))
	f.Fuzz(func(t *testing.T, header []byte, n uint16) {
		tryBytes(t, llama2cFile(string(header), int(n)))
		if h, ok := llama2cV0(header); ok { // as long as it says
			if size, ok := h.size(); ok && size >= len(header) && size < 1<<18 {
				tryBytes(t, append(header[:len(header):len(header)], make([]byte, size-len(header))...))
			}
		}
	})
}
