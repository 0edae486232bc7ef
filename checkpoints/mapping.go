package checkpoints

import (
	"fmt"
	"os"
	"runtime/debug"
	"sync"
)

// A mapping is a file in memory, read only.
type mapping struct {
	path   string
	data   []byte
	unmap  func() error
	mapped bool // whether data are the pages of a file, which come back when they are released

	mu     sync.RWMutex
	closed bool
}

// openMapping maps a regular file whole.
func openMapping(path string) (*mapping, error) {
	info, err := os.Stat(path) // before Open, which waits on a pipe
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s: %w", path, formatf("not a regular file"))
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if info, err = f.Stat(); err != nil {
		return nil, err
	}
	if info.Size() == 0 {
		return nil, fmt.Errorf("%s: %w", path, formatf("the file is empty"))
	}
	if info.Size() > int64(maxInt) {
		return nil, fmt.Errorf("%s: %d bytes exceed this machine's address space", path, info.Size())
	}
	m := &mapping{path: path, mapped: true}
	m.data, m.unmap, err = mapFile(f, int(info.Size()))
	if err != nil {
		return nil, err
	}
	return m, nil
}

// use runs f while the mapping is held open. Pages that are gone, since the file was cut or its disk fails, are an error
// and not the end of the process. A nil mapping stands for memory.
func (m *mapping) use(f func() error) (err error) {
	if m == nil {
		return f()
	}
	m.mu.RLock()
	defer m.mu.RUnlock()
	if m.closed {
		return os.ErrClosed
	}
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if r := recover(); r != nil {
			if _, fault := r.(interface{ Addr() uintptr }); !fault {
				panic(r)
			}
			err = fmt.Errorf("%s changed or became unreadable while it was open", m.path)
		}
	}()
	return f()
}

func (m *mapping) close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return nil
	}
	m.closed, m.data = true, nil
	return m.unmap()
}

// inPieces hands b, which lies in the mapping, to emit in pieces that are a multiple of size, and releases what was read.
func (m *mapping) inPieces(b []byte, size int, emit func([]byte) error) error {
	const piece, keep = 1 << 20, 16 << 20
	step := max(piece/size, 1) * size
	for len(b) > 0 {
		window := b[:min(len(b), max(keep/step, 1)*step)]
		for at := 0; at < len(window); at += step {
			if err := emit(window[at:min(at+step, len(window))]); err != nil {
				return err
			}
		}
		m.release(window)
		b = b[len(window):]
	}
	return nil
}

// release lets the system drop the pages of b, which lies in the mapping. The file's pages are read again when
// somebody does need them. Small ranges are not worth the call.
func (m *mapping) release(b []byte) {
	if m != nil && m.mapped && len(b) >= 1<<20 {
		dropPages(b)
	}
}
