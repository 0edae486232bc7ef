//go:build !unix

package checkpoints

import (
	"os"
	"time"
)

// lockDir locks nothing: folders cannot be locked on these systems.
func lockDir(string) (*os.File, error) { return nil, nil }

// claimOrphan reports whether a temporary folder may be removed: nothing was made in it for a day.
func claimOrphan(path string) (release func(), ok bool) {
	info, err := os.Lstat(path)
	return func() {}, err == nil && time.Since(info.ModTime()) > 24*time.Hour
}

// syncDir does nothing: folders cannot be synced on these systems.
func syncDir(string) error { return nil }
