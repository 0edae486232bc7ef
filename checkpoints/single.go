package checkpoints

import (
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// WriteFile writes one file so that it appears whole or not at all: into a hidden sibling, which is synced to disk and put in
// place. Without force a file that is at path by then stays, and the error wraps fs.ErrExist.
func WriteFile(path string, force bool, write func(io.Writer) error) (err error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
		return err
	}
	temp := sibling(path, tempMark)
	f, err := os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
	if err != nil {
		return err
	}
	defer os.Remove(temp) // nothing is there after a rename
	err = write(f)
	if err == nil {
		err = f.Sync()
	}
	if e := f.Close(); err == nil {
		err = e
	}
	if err != nil {
		return err
	}
	if force {
		err = os.Rename(temp, path)
	} else {
		err = placeNew(temp, path)
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return syncDir(filepath.Dir(path))
}

// placeNew gives temp the name path, which must be free. File systems without links get a rename after a look.
func placeNew(temp, path string) error {
	err := os.Link(temp, path)
	if err == nil || os.IsExist(err) {
		return err
	}
	if _, err := os.Lstat(path); err == nil {
		return fs.ErrExist
	}
	return os.Rename(temp, path)
}
