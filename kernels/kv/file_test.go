package kv

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"svae/kernels/cpu"
)

func TestSaveLoad(t *testing.T) {
	forTypes(t, func(t *testing.T, cfg Config) {
		const n = 600
		path := filepath.Join(t.TempDir(), "a.kv")
		seq := newSequence(cfg, 20, n)
		cold := seq.store(t, nil, n)
		for _, cut := range []int{0, 3, 64, 333} {
			st := seq.store(t, nil, cut)
			must(t, st.Save(path))
			got, err := Load(path, cfg, cpu.New(), nil)
			must(t, err)
			sameStore(t, st, got)
			seq.append(t, got, cut, n)
			sameStore(t, cold, got)
			must(t, got.Close())
		}
		left, err := os.ReadDir(filepath.Dir(path))
		must(t, err)
		if len(left) != 1 {
			t.Fatalf("%d files are left", len(left))
		}
		// Into a pool that holds less than the file, and saved again from there.
		must(t, cold.Save(path))
		want, err := os.ReadFile(path)
		must(t, err)
		pool := NewPool(10<<10, "")
		defer pool.Close()
		got, err := Load(path, cfg, cpu.New(), pool)
		must(t, err)
		defer got.Close()
		sameStore(t, cold, got)
		must(t, got.Save(path))
		again, err := os.ReadFile(path)
		must(t, err)
		if string(want) != string(again) {
			t.Fatal("a loaded store saves other bytes")
		}
	})
}

// TestSpoiledFiles: a file that is cut, longer, changed in any byte, or of another model is refused in one line.
func TestSpoiledFiles(t *testing.T) {
	cfg := geometry
	cfg.Type = I8
	path := filepath.Join(t.TempDir(), "a.kv")
	st := newSequence(cfg, 21, 150).store(t, nil, 150)
	must(t, st.Save(path))
	good, err := os.ReadFile(path)
	must(t, err)
	refused := func(what string, is error, cfg Config) {
		t.Helper()
		got, err := Load(path, cfg, cpu.New(), nil)
		if err == nil {
			got.Close()
			t.Errorf("%s: accepted", what)
			return
		}
		if !errors.Is(err, is) || strings.Contains(err.Error(), "\n") || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v", what, err)
		}
	}
	step := max(1, len(good)/200)
	for i := 0; i < len(good); i += step {
		bad := append([]byte(nil), good...)
		bad[i] ^= 0x10
		must(t, os.WriteFile(path, bad, 0o600))
		refused("changed byte", ErrFormat, cfg)
		must(t, os.WriteFile(path, good[:i], 0o600))
		refused("cut file", ErrFormat, cfg)
	}
	must(t, os.WriteFile(path, append(append([]byte(nil), good...), 0), 0o600))
	refused("long file", ErrFormat, cfg)
	must(t, os.WriteFile(path, []byte("GGUF, and so on and so on and so on"), 0o600))
	refused("other file", ErrFormat, cfg)
	must(t, os.WriteFile(path, good, 0o600))
	for _, change := range []func(*Config){
		func(c *Config) { c.Fingerprint = "another" },
		func(c *Config) { c.Layers++ },
		func(c *Config) { c.HeadDim = 8 },
		func(c *Config) { c.Heads = 4 },
		func(c *Config) { c.Type = F32 },
		func(c *Config) { c.Scale = 1 },
		func(c *Config) { c.MaxSegment = 32 },
	} {
		other := cfg
		change(&other)
		refused("other model", ErrModel, other)
	}
	if _, err := Load(filepath.Join(t.TempDir(), "none"), cfg, cpu.New(), nil); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a missing file: %v", err)
	}
}

// FuzzLoad gives the reader any header, rightly summed, and any rows.
func FuzzLoad(f *testing.F) {
	cfg := Config{Layers: 1, Heads: 2, KVHeads: 1, HeadDim: 4, Type: I8, Fingerprint: "fuzz"}
	be := cpu.New()
	for _, n := range []int{0, 5, 130} {
		st, err := New(cfg, be, nil)
		must(f, err)
		newSequence(cfg, 22, n).append(f, st, 0, n)
		var b bytes.Buffer
		must(f, st.write(&b))
		size := int(binary.NativeEndian.Uint32(b.Bytes()[12:]))
		f.Add(b.Bytes()[16:16+size], b.Bytes()[20+size:])
	}
	f.Fuzz(func(t *testing.T, header, rows []byte) {
		var b bytes.Buffer
		raw := binary.NativeEndian.AppendUint32([]byte(fileMagic), fileOrder)
		raw = binary.NativeEndian.AppendUint32(raw, uint32(len(header)))
		must(t, writeSummed(&b, append(raw, header...)))
		b.Write(rows)
		st, err := New(cfg, be, nil)
		must(t, err)
		if st.restore(&fileReader{r: bytes.NewReader(b.Bytes()), left: int64(b.Len())}) != nil {
			return
		}
		if st.Sealed() > st.Len() || st.Len()%blockRows != len(st.layers[0].heads[0].k)/4 {
			t.Fatalf("%d rows, sealed to %d", st.Len(), st.Sealed())
		}
		var again bytes.Buffer
		must(t, st.write(&again))
		if !bytes.HasSuffix(again.Bytes(), rows) {
			t.Fatal("a loaded store writes other rows")
		}
	})
}
