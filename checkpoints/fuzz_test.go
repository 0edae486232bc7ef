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
		if x.Len() > max(size, maxExpand) {
			t.Fatalf("tensor %q of %d elements in %d bytes", name, x.Len(), size)
		}
		if x.Len() > 1<<16 {
			continue // expanded; slow and nothing new
		}
		raw, err := x.Raw()
		if err == nil && x.DType != Unsupported && len(raw) != x.Len()*x.DType.Size() {
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
		records, err := readZip(m.data)
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
	for _, file := range []string{"testdata/bare.pt", "testdata/nocrc.pt", "testdata/refused/legacy.pt"} {
		b, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
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
