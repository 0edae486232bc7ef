//go:build unix

package checkpoints

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// lockDir opens a folder and locks it. The lock ends with the process, however it ends. It fails when another holds the
// lock, or when the folder was removed before it was locked.
func lockDir(path string) (*os.File, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if err == nil {
		var opened, there os.FileInfo
		if opened, err = f.Stat(); err == nil {
			if there, err = os.Lstat(path); err == nil && !os.SameFile(opened, there) {
				err = os.ErrNotExist
			}
		}
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// syncDir syncs the names in a folder to disk. File systems without this report EINVAL, which is no loss.
func syncDir(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	err = f.Sync()
	if errors.Is(err, unix.EINVAL) {
		err = nil
	}
	return errors.Join(err, f.Close())
}

// claimOrphan reports whether a temporary folder may be removed: no living process holds it. Then it is held until release.
func claimOrphan(path string) (release func(), ok bool) {
	lock, err := lockDir(path)
	if err != nil {
		return nil, false
	}
	return func() { lock.Close() }, true
}
