package checkpoints

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
)

// Sums are the SHA-256 sums of a file, of every Chunk bytes of it, the last chunk being what is left.
type Sums struct {
	Size  int64
	Chunk int64
	SHA   []string // in hex
}

// Check reports what is wrong with the numbers themselves.
func (s *Sums) Check() error {
	switch {
	case s.Size < 0 || s.Chunk < minChunk || s.Chunk > maxChunk:
		return formatf("%d bytes in chunks of %d are out of range", s.Size, s.Chunk)
	case int64(len(s.SHA)) != s.count():
		return formatf("%d sums for %d bytes in chunks of %d", len(s.SHA), s.Size, s.Chunk)
	}
	for i, sum := range s.SHA {
		if !IsSHA256(sum) {
			return formatf("sum %d is %q, not a SHA-256", i, clip(sum))
		}
	}
	return nil
}

const (
	minChunk = 1 << 10
	maxChunk = 1 << 30
)

func (s *Sums) count() int64 {
	n := s.Size / s.Chunk
	if s.Size%s.Chunk != 0 {
		n++
	}
	return n
}

// IsSHA256 says that s is a SHA-256 sum in lower-case hex.
func IsSHA256(s string) bool {
	if len(s) != 2*sha256.Size {
		return false
	}
	for _, c := range []byte(s) {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

// A Summer computes [Sums] of what is written to it.
type Summer struct {
	sums Sums
	h    hash.Hash
	left int64 // of the chunk
}

// NewSummer returns a Summer with chunks of so many bytes.
func NewSummer(chunk int64) *Summer {
	return &Summer{sums: Sums{Chunk: chunk}, h: sha256.New(), left: chunk}
}

// Write adds to the sums. It returns no error.
func (s *Summer) Write(p []byte) (int, error) {
	all := len(p)
	for len(p) > 0 {
		n := min(int64(len(p)), s.left)
		s.h.Write(p[:n])
		s.sums.Size += n
		if s.left -= n; s.left == 0 {
			s.end()
		}
		p = p[n:]
	}
	return all, nil
}

func (s *Summer) end() {
	s.sums.SHA = append(s.sums.SHA, hex.EncodeToString(s.h.Sum(nil)))
	s.h.Reset()
	s.left = s.sums.Chunk
}

// Sums ends the last chunk and returns the sums. Nothing may be written afterwards.
func (s *Summer) Sums() Sums {
	if s.left < s.sums.Chunk {
		s.end()
	}
	return s.sums
}

// Sum returns the size and the SHA-256 of a file of the folder that was written and closed.
func (d *Dir) Sum(name string) (File, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if f := d.files[name]; f != nil {
		return *f, nil
	}
	return File{}, fmt.Errorf("%s in %s: not a file that was closed", name, d.path)
}

// OpenChecked maps a safetensors file whose every byte agrees with sums; the error names the first chunk that does not. All
// threads hash chunks at a time; pages that were hashed may leave memory again. The file must not change afterwards.
func OpenChecked(path string, sums Sums) (*Weights, error) {
	if err := sums.Check(); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	info, err := os.Stat(path) // before the file is opened: a pipe would wait
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || info.Size() != sums.Size {
		return nil, fmt.Errorf("%s: %w", path, formatf("%d bytes, want a file of %d", info.Size(), sums.Size))
	}
	m, err := openMapping(path)
	if err != nil {
		return nil, err
	}
	w, err := m.checked(&sums)
	if err != nil {
		m.close()
		return nil, err
	}
	return w, nil
}

// checked is openMapped after the file was compared with sums.
func (m *mapping) checked(sums *Sums) (*Weights, error) {
	if int64(len(m.data)) != sums.Size {
		return nil, fmt.Errorf("%s changed while it was opened", m.path)
	}
	if err := m.verify(sums); err != nil {
		return nil, err
	}
	w, err := openMapped(m)
	if err == nil && w.format != "safetensors" {
		err = fmt.Errorf("%s: %w", m.path, formatf("a file of the format %s, want safetensors", w.format))
	}
	return w, err
}

// verify compares the chunks of a mapping with sums.
func (m *mapping) verify(sums *Sums) error {
	var (
		next   atomic.Int64
		wg     sync.WaitGroup
		mu     sync.Mutex
		failed = sums.count() // the first chunk that failed
		first  error
	)
	for range min(int64(runtime.GOMAXPROCS(0)), sums.count()) {
		wg.Go(func() {
			h := sha256.New()
			for {
				i := next.Add(1) - 1
				mu.Lock()
				stop := i >= failed
				mu.Unlock()
				if stop {
					return
				}
				if err := m.verifyChunk(h, sums, i); err != nil {
					mu.Lock()
					if i < failed {
						failed, first = i, err
					}
					mu.Unlock()
				}
			}
		})
	}
	wg.Wait()
	return first
}

// verifyChunk compares chunk i.
func (m *mapping) verifyChunk(h hash.Hash, sums *Sums, i int64) error {
	at := i * sums.Chunk
	end := min(at+sums.Chunk, sums.Size)
	h.Reset()
	err := m.use(func() error {
		h.Write(m.data[at:end])
		m.release(m.data[at:end])
		return nil
	})
	if err != nil {
		return err
	}
	var sum [sha256.Size]byte
	if hex.EncodeToString(h.Sum(sum[:0])) != sums.SHA[i] {
		return fmt.Errorf("%s: %w", m.path, formatf("chunk %d, bytes %d to %d: its SHA-256 is not the one on record", i, at, end-1))
	}
	return nil
}
