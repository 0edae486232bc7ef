package checkpoints

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// writeDir writes a folder of three files whose content is v.
func writeDir(path string, force bool, v string) error {
	d, err := CreateDir(path, force)
	if err != nil {
		return err
	}
	defer d.Abort()
	for _, name := range []string{"model.safetensors", "config.json", "tokenizer/vocab.json"} {
		if err := d.WriteFile(name, []byte(v)); err != nil {
			return err
		}
	}
	return d.Commit()
}

// holds checks that a folder is whole and its files are v, and that nothing temporary lies beside it.
func holds(t *testing.T, path, v string) {
	t.Helper()
	if err := Verify(path); err != nil {
		t.Error(err)
	}
	for _, name := range []string{"model.safetensors", "config.json", "tokenizer/vocab.json"} {
		if got, err := os.ReadFile(filepath.Join(path, name)); err != nil || string(got) != v {
			t.Errorf("%s: %.20q %v, want %.20q", name, got, err, v)
		}
	}
	if left := temps(t, filepath.Dir(path)); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
}

func temps(t *testing.T, dir string) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.Name()[0] == '.' {
			names = append(names, e.Name())
		}
	}
	return names
}

func TestDir(t *testing.T) {
	path := filepath.Join(t.TempDir(), "runs", "step-10")
	if err := writeDir(path, false, "one"); err != nil {
		t.Fatal(err)
	}
	holds(t, path, "one")
	m, err := ReadManifest(path)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256([]byte("one"))
	want := File{"config.json", 3, hex.EncodeToString(sum[:])}
	if len(m.Files) != 3 || m.Files[0] != want || m.Files[2].Name != "tokenizer/vocab.json" {
		t.Errorf("manifest %+v", m)
	}
	if err := writeDir(path, false, "two"); !errors.Is(err, fs.ErrExist) || !strings.Contains(err.Error(), "--force") {
		t.Errorf("existing folder: %v", err)
	}
	holds(t, path, "one")
	if err := writeDir(path, true, "two"); err != nil {
		t.Fatal(err)
	}
	holds(t, path, "two")
	if err := writeDir(path+"-new", true, "three"); err != nil {
		t.Fatal(err)
	}
	holds(t, path+"-new", "three")
}

// TestDirUnfinished: whatever stops a write, the old folder stays and nothing else does.
func TestDirUnfinished(t *testing.T) {
	path := filepath.Join(t.TempDir(), "model")
	if err := writeDir(path, false, "old"); err != nil {
		t.Fatal(err)
	}
	begin := func() *Dir {
		t.Helper()
		d, err := CreateDir(path, true)
		if err != nil {
			t.Fatal(err)
		}
		if err := d.WriteFile("config.json", []byte("new")); err != nil {
			t.Fatal(err)
		}
		return d
	}
	d := begin()
	d.Abort()
	d.Abort()
	holds(t, path, "old")
	if err := d.Commit(); !errors.Is(err, os.ErrClosed) {
		t.Errorf("commit after abort: %v", err)
	}
	if err := d.WriteFile("a", nil); !errors.Is(err, os.ErrClosed) {
		t.Errorf("write after abort: %v", err)
	}

	d = begin()
	w, err := d.Create("model.safetensors")
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Commit(); err == nil || !strings.Contains(err.Error(), "model.safetensors was not closed") {
		t.Errorf("commit with an open file: %v", err)
	}
	w.Close()
	holds(t, path, "old")

	d = begin()
	if w, err = d.Create("model.safetensors"); err != nil {
		t.Fatal(err)
	}
	w.(*dirFile).f.Close() // the disk goes away
	if _, err := w.Write(make([]byte, 2<<20)); err == nil {
		t.Error("write to a closed file succeeded")
	}
	if err := w.Close(); err == nil {
		t.Error("close hides the failed write")
	}
	if err := d.Commit(); err == nil {
		t.Error("commit hides the failed write")
	}
	holds(t, path, "old")

	path += "-2" // made by another while this one was written
	if d, err = CreateDir(path, false); err != nil {
		t.Fatal(err)
	}
	if err := writeDir(path, false, "theirs"); err != nil {
		t.Fatal(err)
	}
	if err := d.Commit(); !errors.Is(err, fs.ErrExist) {
		t.Errorf("commit over a folder made meanwhile: %v", err)
	}
	holds(t, path, "theirs")
}

func TestDirNames(t *testing.T) {
	d, err := CreateDir(filepath.Join(t.TempDir(), "x"), false)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Abort()
	for _, name := range []string{"", ".", "..", "../y", "/y", "a/../y", "a//b", "a/", `a\b`, "a\x00", ManifestName} {
		if err := d.WriteFile(name, nil); err == nil {
			t.Errorf("wrote %q", name)
		}
	}
	if err := d.WriteFile("a", nil); err != nil {
		t.Error(err)
	}
	if err := d.WriteFile("a", nil); !errors.Is(err, fs.ErrExist) {
		t.Errorf("the same file twice: %v", err)
	}
	cwd, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{cwd, filepath.Dir(cwd), "/", "."} {
		if d, err := CreateDir(path, true); err == nil {
			d.Abort()
			t.Errorf("would replace %s", path)
		}
	}
}

func TestVerify(t *testing.T) {
	path := filepath.Join(t.TempDir(), "model")
	fresh := func() {
		t.Helper()
		if err := writeDir(path, true, "content"); err != nil {
			t.Fatal(err)
		}
	}
	fresh()
	for _, name := range []string{"model.safetensors", "config.json", "tokenizer/vocab.json"} {
		for i := range len("content") {
			b := []byte("content")
			b[i] ^= 1
			write(t, filepath.Join(path, name), b)
			if err := Verify(path); !errors.Is(err, ErrFormat) || !strings.Contains(err.Error(), filepath.FromSlash(name)) ||
				!strings.Contains(err.Error(), "use an earlier checkpoint") {
				t.Errorf("byte %d of %s: %v", i, name, err)
			}
		}
		fresh()
	}
	for want, damage := range map[string]func() error{
		"config.json: not a checkpoint: 3 bytes":    func() error { return os.Truncate(filepath.Join(path, "config.json"), 3) },
		"config.json: listed in manifest.json but":  func() error { return os.Remove(filepath.Join(path, "config.json")) },
		"no manifest: the folder is not complete":   func() error { return os.Remove(filepath.Join(path, ManifestName)) },
		"manifest.json: not a checkpoint: unexpect": func() error { return os.Truncate(filepath.Join(path, ManifestName), 9) },
		`file name "../x"`: func() error {
			return os.WriteFile(filepath.Join(path, ManifestName), []byte(`{"format":1,"files":[{"name":"../x"}]}`), 0o666)
		},
		"format 2 is unknown": func() error {
			return os.WriteFile(filepath.Join(path, ManifestName), []byte(`{"format":2}`), 0o666)
		},
		"more than": func() error { return os.Truncate(filepath.Join(path, ManifestName), maxManifest+1) },
	} {
		if err := damage(); err != nil {
			t.Fatal(err)
		}
		if err := Verify(path); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
		fresh()
	}
	write(t, filepath.Join(path, "notes.txt"), []byte("mine"))
	if err := Verify(path); err != nil {
		t.Errorf("a file of the user: %v", err)
	}
}

// TestRemoveTemp: a sweep takes what is orphaned, and nothing that is being written or has another name.
func TestRemoveTemp(t *testing.T) {
	parent := t.TempDir()
	d, err := CreateDir(filepath.Join(parent, "live"), false)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Abort()
	keep := []string{".model.tmp-short", ".git", "model", ".tmp-ABCDEFGHIJKLMNOP", "x.tmp-ABCDEFGHIJKLMNOP", filepath.Base(d.temp)}
	for _, name := range append(keep[:5:5], ".dead.tmp-ABCDEFGHIJKLMNOP", ".model.old-ABCDEFGHIJKLMNOP", ".gone.old-ABCDEFGHIJKLMNOP") {
		if err := os.MkdirAll(filepath.Join(parent, name, "sub"), 0o777); err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(parent, name, "sub", "file"), []byte(name))
	}
	RemoveTemp(parent)
	RemoveTemp(filepath.Join(parent, "none"))
	entries, err := os.ReadDir(parent)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range entries {
		got = append(got, e.Name())
	}
	want := append(keep, "gone")
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("left %q, want %q", got, want)
	}
	if b, err := os.ReadFile(filepath.Join(parent, "gone", "sub", "file")); err != nil || string(b) != ".gone.old-ABCDEFGHIJKLMNOP" {
		t.Errorf("the folder moved aside did not come back: %q %v", b, err)
	}
	if err := d.WriteFile("a", []byte("a")); err != nil {
		t.Error(err)
	}
	if err := d.Commit(); err != nil {
		t.Error(err)
	}
}

// TestReplaceInTwo is for file systems without an exchange of names.
func TestReplaceInTwo(t *testing.T) {
	parent := t.TempDir()
	path, temp := filepath.Join(parent, "model"), filepath.Join(parent, "new")
	for p, v := range map[string]string{path: "old", temp: "new"} {
		if err := writeDir(p, false, v); err != nil {
			t.Fatal(err)
		}
	}
	if err := replaceInTwo(temp, path); err != nil {
		t.Fatal(err)
	}
	holds(t, path, "new")
	if err := replaceInTwo(filepath.Join(parent, "none"), path); err == nil {
		t.Error("replaced by nothing")
	}
	holds(t, path, "new")
}

// TestDirStream writes a safetensors file through a Dir.
func TestDirStream(t *testing.T) {
	path := filepath.Join(t.TempDir(), "model")
	d, err := CreateDir(path, false)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Abort()
	w, err := d.Create("model.safetensors")
	if err != nil {
		t.Fatal(err)
	}
	v := []float32{1, 2, 3, 4, 5, 6}
	if err := WriteSafetensors(w, []Named{FromFloat32("w", []int{2, 3}, v)}, nil); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); !errors.Is(err, os.ErrClosed) {
		t.Errorf("closed twice: %v", err)
	}
	if err := d.Commit(); err != nil {
		t.Fatal(err)
	}
	if err := Verify(path); err != nil {
		t.Error(err)
	}
	x, _ := open(t, path).Get("w")
	if raw, err := x.Raw(); err != nil || !bytes.Equal(raw, f32bytes(v)) {
		t.Errorf("read back %x %v", raw, err)
	}
}

// TestDirLarge writes more than the buffers hold, in pieces that do not fit them: the sum, which is taken beside the writing,
// must be that of what lies on the disk.
func TestDirLarge(t *testing.T) {
	path := filepath.Join(t.TempDir(), "model")
	d, err := CreateDir(path, false)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Abort()
	want := make([]byte, 40<<20+12345)
	for i := range want {
		want[i] = byte(i>>16 ^ i)
	}
	w, err := d.Create("x.bin")
	if err != nil {
		t.Fatal(err)
	}
	for left, n := want, 1; len(left) > 0; n = n*3%(3<<20) + 1 {
		n = min(n, len(left))
		if k, err := w.Write(left[:n]); err != nil || k != n {
			t.Fatalf("%d of %d, %v", k, n, err)
		}
		left = left[n:]
	}
	if err := errors.Join(w.Close(), d.Commit(), Verify(path)); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write([]byte{1}); !errors.Is(err, os.ErrClosed) {
		t.Errorf("written after Close: %v", err)
	}
	if got, err := os.ReadFile(filepath.Join(path, "x.bin")); err != nil || !bytes.Equal(got, want) {
		t.Errorf("%d bytes differ from the %d written (%v)", len(got), len(want), err)
	}
}
