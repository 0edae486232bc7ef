//go:build !unix

package checkpoints

import (
	"io"
	"os"
)

// mapFile reads the first size bytes of f: there is no mapping on this system.
func mapFile(f *os.File, size int) (data []byte, unmap func() error, err error) {
	data = make([]byte, size)
	if _, err := io.ReadFull(f, data); err != nil {
		return nil, nil, err
	}
	return data, func() error { return nil }, nil
}

// dropPages does nothing: the data are the process's own memory.
func dropPages([]byte) {}
