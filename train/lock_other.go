//go:build !unix

package train

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// lock makes a file that must not exist, and removes it.
func lock(path string) (unlock func(), err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL, 0o666)
	if errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("%s: another process trains in this folder (if none does, remove its file lock)", filepath.Dir(path))
	}
	if err != nil {
		return nil, err
	}
	return func() { f.Close(); os.Remove(path) }, nil
}
