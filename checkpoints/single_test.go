package checkpoints

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

func TestWriteFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "sub", "f")
	put := func(text string, force bool, fail error) error {
		return WriteFile(path, force, func(w io.Writer) error {
			_, err := io.WriteString(w, text)
			return errors.Join(err, fail)
		})
	}
	check := func(want string) {
		t.Helper()
		b, err := os.ReadFile(path)
		if string(b) != want || want != "" && err != nil {
			t.Errorf("%q, %v, want %q", b, err, want)
		}
		es, err := os.ReadDir(filepath.Dir(path))
		if n := len(es); err != nil || n > 1 || n == 1 && want == "" {
			t.Errorf("%v is left: %v", es, err)
		}
	}
	if err := put("half", false, os.ErrInvalid); !errors.Is(err, os.ErrInvalid) {
		t.Errorf("error %v", err)
	}
	check("")
	if err := put("one", false, nil); err != nil {
		t.Error(err)
	}
	check("one")
	if err := put("two", false, nil); !errors.Is(err, fs.ErrExist) {
		t.Errorf("error %v", err)
	}
	check("one")
	if err := put("half", true, os.ErrInvalid); !errors.Is(err, os.ErrInvalid) {
		t.Errorf("error %v", err)
	}
	check("one")
	if err := put("three", true, nil); err != nil {
		t.Error(err)
	}
	check("three")
}
