//go:build unix

package checkpoints

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestReadSmall: what is no regular file, or too large, is refused at once.
func TestReadSmall(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	for _, err := range []error{syscall.Mkfifo(at("pipe"), 0o666), os.WriteFile(at("a"), []byte("abc"), 0o666), os.WriteFile(at("large"), nil, 0o666),
		os.Truncate(at("large"), 1<<40), os.Symlink(at("a"), at("link"))} {
		if err != nil {
			t.Fatal(err)
		}
	}
	for name, want := range map[string]string{"pipe": "not a regular file", ".": "not a regular file", "large": "more than 3 bytes", "a": "", "link": ""} {
		b, err := ReadSmall(at(name), 3)
		if want == "" && (err != nil || string(b) != "abc") || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %q, %v, want %q", name, b, err, want)
		}
	}
	if _, err := ReadSmall(at("nowhere"), 3); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("error %v", err)
	}
}
