package checkpoints

import (
	"os"

	"golang.org/x/sys/unix"
)

// beginWriteback asks the system to start bringing n bytes of f at off to the disk, without waiting for them. It promises
// nothing: that is Sync's.
func beginWriteback(f *os.File, off, n int64) {
	unix.SyncFileRange(int(f.Fd()), off, n, unix.SYNC_FILE_RANGE_WRITE)
}
