package sllm

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"svae/checkpoints"
	"svae/kernels/cpu"
	"svae/vae/vaetest"
)

// TestBundleDamage flips bytes of every file, all over them, and cuts, lengthens and removes each. All is refused with a line
// that names the file.
func TestBundleDamage(t *testing.T) {
	dir, _, _, _ := smallBundle(t)
	be := cpu.New()
	open := func() error {
		b, err := OpenBundle(dir, be)
		if err == nil {
			b.Close()
		}
		return err
	}
	if err := open(); err != nil {
		t.Fatal(err)
	}
	refused := func(what, name string, names ...string) {
		t.Helper()
		err := open()
		if err == nil {
			t.Errorf("%s: %s was opened", name, what)
		} else if !slices.ContainsFunc(append(names, name), func(n string) bool { return strings.Contains(err.Error(), filepath.Join(dir, n)+": ") }) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %s: %v", name, what, err)
		}
	}
	flips := 0
	err := filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		name, _ := filepath.Rel(dir, path)
		was, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		other := name // what may be named instead: each of the two lists says what the other must be
		switch name {
		case BundleFile:
			other = checkpoints.ManifestName
		case checkpoints.ManifestName:
			other = BundleFile
		}
		step := max(1, len(was)/200)
		head := 0
		if strings.HasSuffix(name, bundleWeights) {
			head = 8 + int(binary.LittleEndian.Uint64(was)) // behind the spaces that align the data
		}
		f, err := os.OpenFile(path, os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		defer f.Close()
		for at := 0; at < len(was); at++ {
			near := head > 0 && (at < 16 || at > head-80 && at < head+8)
			if at%step != 0 && !near && at != len(was)-1 {
				continue
			}
			flips++
			f.WriteAt([]byte{was[at] ^ 1<<(at%8)}, int64(at))
			refused(fmt.Sprintf("byte %d changed", at), name, other)
			f.WriteAt(was[at:at+1], int64(at))
		}
		os.Truncate(path, int64(len(was)-1))
		refused("its last byte cut", name, other)
		os.Truncate(path, 0)
		refused("emptied", name, other)
		os.WriteFile(path, append(slices.Clone(was), ' '), 0o666)
		refused("a byte longer", name, other)
		os.Remove(path)
		if name != BundleFile { // without which the folder is no bundle
			refused("missing", name, other)
		} else if _, err := Load(dir, be); err == nil || !strings.Contains(err.Error(), "without its bundle.json") {
			t.Errorf("weights without bundle.json: %v", err)
		}
		return os.WriteFile(path, was, 0o666)
	})
	if err != nil || flips < 1000 {
		t.Fatalf("%d flips: %v", flips, err)
	}
	if err := open(); err != nil {
		t.Fatalf("restored: %v", err)
	}
	os.WriteFile(filepath.Join(dir, "added_tokens.json"), []byte("{}"), 0o666)
	refused("another file", "added_tokens.json")
}

// TestBundleDamageLine checks that the line about a large file names the chunk and where it lies.
func TestBundleDamageLine(t *testing.T) {
	a := tinyLlama()
	a.VocabSize, a.HiddenSize, a.HeadDim = 40000, 64, 64/a.NumHeads
	f := &Folder{Kind: KindLM, LM: a, Files: map[string][]byte{"tokenizer.json": []byte("{}")}}
	f.Store = vaetest.RandomStore(t, cpu.New(), f.Weights(), 1)
	dir, r := exported(t, ExportOptions{Model: modelFolder(t, f), DType: "f32"})
	if r.Bytes < 3*bundleChunk {
		t.Fatalf("only %d bytes", r.Bytes)
	}
	path := filepath.Join(dir, bundleWeights)
	was, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, at := range []int{len(was) - 1, 2*bundleChunk - 1, bundleChunk} { // the first damaged chunk is named
		was[at] ^= 0x80
		if err := os.WriteFile(path, was, 0o666); err != nil {
			t.Fatal(err)
		}
		chunk := at / bundleChunk
		want := fmt.Sprintf("%s: not a checkpoint: chunk %d, bytes %d to %d: ", path, chunk, chunk*bundleChunk, min((chunk+1)*bundleChunk, len(was))-1)
		if _, err := Load(dir, cpu.New()); err == nil || !strings.HasPrefix(err.Error(), want) || !strings.HasSuffix(err.Error(), damaged) {
			t.Errorf("byte %d: %v, want %s...", at, err, want)
		}
	}
}

// reseal writes a bundle's lists anew after change, so that only what they say can be wrong.
func reseal(t *testing.T, dir string, change func(b *bundle)) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, BundleFile))
	if err != nil {
		t.Fatal(err)
	}
	b := new(bundle)
	if err := json.Unmarshal(text, b); err != nil {
		t.Fatal(err)
	}
	change(b)
	text, err = b.encode()
	if err != nil {
		t.Fatal(err)
	}
	sealed := filepath.Join(t.TempDir(), "sealed")
	d, err := checkpoints.CreateDir(sealed, false)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Abort()
	for _, f := range b.Files {
		c, err := os.ReadFile(filepath.Join(dir, f.Name))
		if err == nil {
			err = d.WriteFile(f.Name, c)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(d.WriteFile(BundleFile, text), d.Commit()); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{BundleFile, checkpoints.ManifestName} {
		c, err := os.ReadFile(filepath.Join(sealed, name))
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, name), c, 0o666)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// TestBundleRefused checks bundles whose sums are right and whose content is not.
func TestBundleRefused(t *testing.T) {
	_, sllm, base, _ := smallBundle(t)
	model, other := modelFolder(t, sllm), modelFolder(t, base)
	whole, _ := exported(t, ExportOptions{Model: model, Base: other, DType: "int8"})
	head, _ := sllm.headNames()
	weights := func(change func(ts []checkpoints.Named) []checkpoints.Named) func(t *testing.T, dir string) {
		return func(t *testing.T, dir string) {
			path := filepath.Join(dir, bundleWeights)
			w, err := checkpoints.Open(path)
			if err != nil {
				t.Fatal(err)
			}
			var ts []checkpoints.Named
			for _, name := range w.Names() {
				x, _ := w.Get(name)
				ts = append(ts, checkpoints.FromTensor(x))
			}
			var text strings.Builder
			sums := checkpoints.NewSummer(1 << 20)
			if err := checkpoints.WriteAligned(&text, change(ts), nil, 8); err != nil {
				t.Fatal(err)
			}
			w.Close()
			sums.Write([]byte(text.String()))
			if err := os.WriteFile(path, []byte(text.String()), 0o666); err != nil {
				t.Fatal(err)
			}
			whole := checkpoints.NewSummer(1 << 30)
			whole.Write([]byte(text.String()))
			reseal(t, dir, func(b *bundle) {
				f, s := b.file(bundleWeights), sums.Sums()
				f.Size, f.Chunk, f.Chunks, f.SHA256 = s.Size, s.Chunk, s.SHA, whole.Sums().SHA[0]
			})
		}
	}
	lists := func(change func(b *bundle)) func(*testing.T, string) {
		return func(t *testing.T, dir string) { reseal(t, dir, change) }
	}
	for name, c := range map[string]struct {
		change func(*testing.T, string)
		want   string
	}{
		"nothing":   {lists(func(*bundle) {}), ""},
		"rewritten": {weights(func(ts []checkpoints.Named) []checkpoints.Named { return ts }), ""},
		"a tensor more": {weights(func(ts []checkpoints.Named) []checkpoints.Named {
			return append(ts, checkpoints.FromFloat32("extra", []int{1}, []float32{1}))
		}), `tensor "extra" is no weight of the model`},
		"a tensor less": {weights(func(ts []checkpoints.Named) []checkpoints.Named {
			return slices.DeleteFunc(ts, func(n checkpoints.Named) bool { return n.Name == head+headOf })
		}), "no tensor \"" + head + ".head\""},
		"another shape": {weights(func(ts []checkpoints.Named) []checkpoints.Named {
			i := slices.IndexFunc(ts, func(n checkpoints.Named) bool { return n.Name == "latent_norm.bias" })
			ts[i].Shape = []int{1, ts[i].Shape[0]}
			return ts
		}), `tensor "latent_norm.bias" is F32 [1 `},
		"another type":      {lists(func(b *bundle) { b.DType = "bf16" }), "want BF16"},
		"a type unknown":    {lists(func(b *bundle) { b.DType = "int4" }), `dtype "int4" is unknown`},
		"a later format":    {lists(func(b *bundle) { b.Format = 2 }), "newer than this program's, 1 (use a newer svae)"},
		"an unknown format": {lists(func(b *bundle) { b.Format = 0 }), "format 0"},
		"no model":          {lists(func(b *bundle) { b.Models = nil }), "0 models"},
		"an equal of nothing": {lists(func(b *bundle) {
			b.Models[1].Same["base/model.embed_tokens.weight"] = "nothing"
		}), `no tensor "nothing"`},
		"an equal too many": {lists(func(b *bundle) { b.Models[1].Same["base/extra"] = "model.norm.weight" }), `"base/extra" is no weight of the model`},
		"a huge file":       {lists(func(b *bundle) { b.file(bundleWeights).Size = 1 << 60 }), "sums for 1152921504606846976 bytes"},
		"a huge tokenizer":  {lists(func(b *bundle) { b.file("tokenizer.json").Size = 1 << 50 }), `file "tokenizer.json" of`},
		"tiny chunks":       {lists(func(b *bundle) { b.file(bundleWeights).Chunk = 1 }), "out of range"},
		"no chunks":         {lists(func(b *bundle) { b.file(bundleWeights).Chunks = nil }), "0 sums"},
		"twice":             {lists(func(b *bundle) { b.Files = append(b.Files, b.Files[len(b.Files)-1]) }), "out of order"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "bundle")
			if err := os.CopyFS(dir, os.DirFS(whole)); err != nil {
				t.Fatal(err)
			}
			if name == "twice" { // which no folder can hold: only the list
				text, err := os.ReadFile(filepath.Join(dir, BundleFile))
				if err != nil {
					t.Fatal(err)
				}
				b := new(bundle)
				if err := json.Unmarshal(text, b); err != nil {
					t.Fatal(err)
				}
				b.Files = append(b.Files, b.Files[len(b.Files)-1])
				text, _ = b.encode()
				if _, err := parseBundle(text); err == nil || !strings.Contains(err.Error(), c.want) {
					t.Fatalf("%v, want %q", err, c.want)
				}
				return
			}
			c.change(t, dir)
			_, err := OpenBundle(dir, cpu.New())
			switch {
			case c.want == "" && err != nil:
				t.Error(err)
			case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), dir)):
				t.Errorf("%v, want %q", err, c.want)
			}
		})
	}
	if _, err := OpenBundle(model, cpu.New()); err == nil || !strings.Contains(err.Error(), "not a runtime bundle") {
		t.Errorf("a model folder: %v", err)
	}
	dir, _ := exported(t, ExportOptions{Model: model, DType: "f32"})
	if err := os.Mkdir(filepath.Join(dir, BaseFolder), 0o777); err != nil {
		t.Fatal(err)
	}
	os.WriteFile(filepath.Join(dir, BaseFolder, "config.json"), []byte("{}"), 0o666)
	if _, err := Load(filepath.Join(dir, BaseFolder), cpu.New()); err == nil || !strings.Contains(err.Error(), "holds no base") {
		t.Errorf("a base that is not there: %v", err)
	}
}

func FuzzBundleManifest(f *testing.F) {
	sum := strings.Repeat("0f", 32)
	b := bundle{Format: 1, DType: "int8", Shared: 12, Models: []bundledModel{{Source: sum}, {Folder: BaseFolder, Source: sum, Same: map[string]string{"base/a": "b"}}},
		Files: []bundledFile{{Name: "base/config.json", Size: 9, SHA256: sum}, {Name: "config.json", Size: 7, SHA256: sum},
			{Name: bundleWeights, Size: 5000, SHA256: sum, Chunk: 4096, Chunks: []string{sum, sum}}, {Name: "tokenizer.json", SHA256: sum}}}
	text, err := b.encode()
	if err != nil {
		f.Fatal(err)
	}
	if _, err := parseBundle(text); err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	for _, change := range [][2]string{{`"size": `, `"size": -`}, {`"format": 1`, `"format": 1e9`}, {`"int8"`, `null`}, {`[`, `[[`}, {`"chunk_bytes": `, `"chunk_bytes": 99999999`}} {
		f.Add([]byte(strings.ReplaceAll(string(text), change[0], change[1])))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		b, err := parseBundle(text)
		if err != nil {
			if strings.Contains(err.Error(), "\n") {
				t.Errorf("an error of several lines: %q", err)
			}
			return
		}
		if again, err := b.encode(); err != nil || !slices.Equal(again, text) {
			t.Errorf("read and written, %q becomes %q (%v)", text, again, err)
		}
		for _, e := range b.Files {
			if !filepath.IsLocal(filepath.FromSlash(e.Name)) {
				t.Errorf("a file %q outside the folder", e.Name)
			}
		}
	})
}
