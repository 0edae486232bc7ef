package kv

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math"
	"os"
	"path/filepath"

	"svae/kernels"
)

// A saved sequence is
//
//	magic (8), byte order (4), length of the header (4), header (JSON), checksum of all this (4)
//	for each layer and key head: each full block and its checksum; the rows after them, keys then values, and theirs
//
// Checksums are CRC-32C. Summaries are not saved: they are functions of the rows, computed again.
const (
	fileMagic   = "svae-kv1"
	fileOrder   = 0x01020304
	maxHeader   = 64 << 20 // a header holds the ends of all segments, in decimal
	maxFileRows = 1 << 30
)

type fileHeader struct {
	Layers      int     `json:"layers"`
	Heads       int     `json:"heads"`
	KVHeads     int     `json:"kv_heads"`
	HeadDim     int     `json:"head_dim"`
	Type        string  `json:"type"`
	Scale       float64 `json:"scale"`
	MaxSegment  int     `json:"max_segment"`
	MinSegment  int     `json:"min_segment"`
	Fingerprint string  `json:"fingerprint"`
	Rows        int     `json:"rows"`
	Ends        []int   `json:"ends"`
}

// Save writes the rows and boundaries of a sequence to a new file at path, which it replaces only once all is written.
// All layers must have the same number of rows.
func (s *Store) Save(path string) (err error) {
	for _, l := range s.layers {
		if l.rows != s.Len() {
			return fmt.Errorf("kv: save in the middle of a step: layers have %d to %d rows", s.Len(), l.rows)
		}
	}
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*.tmp")
	if err != nil {
		return fmt.Errorf("save cached rows: %w", err)
	}
	defer func() {
		if err != nil {
			f.Close()
			os.Remove(f.Name())
			err = fmt.Errorf("save cached rows to %s: %w", path, err)
		}
	}()
	w := bufio.NewWriterSize(f, 1<<20)
	if err = s.write(w); err != nil {
		return err
	}
	if err = w.Flush(); err != nil {
		return err
	}
	if err = f.Sync(); err != nil {
		return err
	}
	if err = f.Close(); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

func (s *Store) write(w io.Writer) error {
	c := s.cfg
	head, err := json.Marshal(fileHeader{c.Layers, c.Heads, c.KVHeads, c.HeadDim, c.Type.String(), c.Scale, c.MaxSegment, c.MinSegment,
		c.Fingerprint, s.Len(), append([]int{}, s.ends...)})
	if err != nil {
		return err
	}
	if len(head) > maxHeader {
		return fmt.Errorf("%d segments are too many", len(s.ends))
	}
	var b bytes.Buffer
	b.WriteString(fileMagic)
	b.Write(binary.NativeEndian.AppendUint32(nil, fileOrder))
	b.Write(binary.NativeEndian.AppendUint32(nil, uint32(len(head))))
	b.Write(head)
	if err := writeSummed(w, b.Bytes()); err != nil {
		return err
	}
	for l := range s.layers {
		for h := range s.layers[l].heads {
			hd := &s.layers[l].heads[h]
			for _, b := range hd.blocks {
				words, err := s.pool.acquire(b)
				if err != nil {
					return err
				}
				err = writeSummed(w, asBytes(words))
				s.pool.unpin(b)
				if err != nil {
					return err
				}
			}
			if err := writeSummed(w, floatBytes(hd.k, hd.v)); err != nil {
				return err
			}
		}
	}
	return nil
}

func writeSummed(w io.Writer, b []byte) error {
	if _, err := w.Write(b); err != nil {
		return err
	}
	_, err := w.Write(binary.NativeEndian.AppendUint32(nil, crc32.Checksum(b, castagnoli)))
	return err
}

func floatBytes(xs ...[]float32) []byte {
	var b []byte
	for _, x := range xs {
		for _, v := range x {
			b = binary.NativeEndian.AppendUint32(b, math.Float32bits(v))
		}
	}
	return b
}

// Load returns the store that Save wrote. cfg must be that of the saved store: the same sizes, type, segment lengths and
// fingerprint, or the error is ErrModel; a file that is damaged, or something else, gives ErrFormat.
func Load(path string, cfg Config, b kernels.Backend, pool *Pool) (*Store, error) {
	s, err := New(cfg, b, pool)
	if err != nil {
		return nil, err
	}
	f, err := os.Open(path)
	if err != nil {
		s.Close()
		return nil, fmt.Errorf("load cached rows: %w", err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err == nil {
		r := &fileReader{r: bufio.NewReaderSize(f, 1<<20), left: st.Size()}
		err = s.restore(r)
		if err != nil && !errors.Is(err, ErrModel) {
			err = fmt.Errorf("at byte %d: %w", st.Size()-r.left, err)
		}
	}
	if err != nil {
		s.Close()
		return nil, fmt.Errorf("load cached rows of %s: %w (remove the file to compute them again)", path, err)
	}
	return s, nil
}

// fileReader reads pieces that a checksum follows.
type fileReader struct {
	r    io.Reader
	left int64
	sum  uint32
}

func (r *fileReader) read(b []byte) error {
	if int64(len(b)) > r.left {
		return fmt.Errorf("%w: it is cut", ErrFormat)
	}
	if _, err := io.ReadFull(r.r, b); err != nil {
		return err
	}
	r.left -= int64(len(b))
	r.sum = crc32.Update(r.sum, castagnoli, b)
	return nil
}

// check reads the checksum of what was read since the last one.
func (r *fileReader) check() error {
	var b [4]byte
	want := r.sum
	if err := r.read(b[:]); err != nil {
		return err
	}
	r.sum = 0
	if binary.NativeEndian.Uint32(b[:]) != want {
		return fmt.Errorf("%w: a checksum differs, it is damaged", ErrFormat)
	}
	return nil
}

func (s *Store) restore(r *fileReader) error {
	var fixed [16]byte
	if err := r.read(fixed[:]); err != nil {
		return err
	}
	if string(fixed[:8]) != fileMagic {
		return fmt.Errorf("%w: it begins with %q", ErrFormat, fixed[:8])
	}
	if o := binary.NativeEndian.Uint32(fixed[8:]); o != fileOrder {
		return fmt.Errorf("%w: byte order %#x of another machine", ErrFormat, o)
	}
	n := binary.NativeEndian.Uint32(fixed[12:])
	if n > maxHeader || int64(n) > r.left {
		return fmt.Errorf("%w: header of %d bytes", ErrFormat, n)
	}
	raw := make([]byte, n)
	if err := r.read(raw); err != nil {
		return err
	}
	if err := r.check(); err != nil {
		return err
	}
	var head fileHeader
	if err := json.Unmarshal(raw, &head); err != nil {
		return fmt.Errorf("%w: %w", ErrFormat, err)
	}
	if err := s.accept(&head, r.left); err != nil {
		return err
	}
	for l := range s.layers {
		for h := range s.layers[l].heads {
			if err := s.restoreHead(r, &s.layers[l].heads[h], head.Rows); err != nil {
				return fmt.Errorf("layer %d head %d: %w", l, h, err)
			}
		}
		s.layers[l].rows = head.Rows
	}
	if r.left != 0 {
		return fmt.Errorf("%w: %d bytes too many", ErrFormat, r.left)
	}
	for _, n := range head.Ends {
		if err := s.close(n); err != nil {
			return err
		}
	}
	return nil
}

// accept compares a header with the configuration and with the bytes that follow.
func (s *Store) accept(h *fileHeader, left int64) error {
	c := s.cfg
	switch {
	case h.Fingerprint != c.Fingerprint:
		return fmt.Errorf("%w: rows of %q, want those of %q", ErrModel, clip(h.Fingerprint), clip(c.Fingerprint))
	case h.Layers != c.Layers || h.Heads != c.Heads || h.KVHeads != c.KVHeads || h.HeadDim != c.HeadDim || h.Scale != c.Scale:
		return fmt.Errorf("%w: %d layers of %d/%d heads of %d elements, want %d of %d/%d of %d", ErrModel, h.Layers, h.Heads, h.KVHeads,
			h.HeadDim, c.Layers, c.Heads, c.KVHeads, c.HeadDim)
	case h.Type != c.Type.String():
		return fmt.Errorf("%w: rows in %q, want %s", ErrModel, clip(h.Type), c.Type)
	case h.MaxSegment != c.MaxSegment || h.MinSegment != c.MinSegment:
		return fmt.Errorf("%w: segments of %d to %d rows, want %d to %d", ErrModel, h.MinSegment, h.MaxSegment, c.MinSegment, c.MaxSegment)
	case h.Rows < 0 || h.Rows > maxFileRows:
		return fmt.Errorf("%w: %d rows", ErrFormat, h.Rows)
	}
	at := 0
	for _, e := range h.Ends {
		if e-at < c.MinSegment || e-at > c.MaxSegment || e > h.Rows {
			return fmt.Errorf("%w: segment %d to %d of %d rows", ErrFormat, at, e, h.Rows)
		}
		at = e
	}
	blocks, rest := int64(h.Rows/blockRows), int64(h.Rows%blockRows)
	each := blocks*int64(4*blockWords(c.Type, c.HeadDim)+4) + rest*8*int64(c.HeadDim) + 4
	if want := each * int64(c.Layers) * int64(c.KVHeads); left != want {
		return fmt.Errorf("%w: %d bytes of rows, want %d", ErrFormat, left, want)
	}
	return nil
}

func (s *Store) restoreHead(r *fileReader, hd *head, rows int) error {
	K := s.cfg.HeadDim
	for range rows / blockRows {
		w := s.pool.memory(blockWords(s.cfg.Type, K))
		if err := r.read(asBytes(w)); err != nil {
			return err
		}
		if err := r.check(); err != nil {
			return err
		}
		b, err := s.pool.add(w)
		hd.blocks = append(hd.blocks, b)
		if err != nil {
			return err
		}
	}
	n := rows % blockRows * K
	raw := make([]byte, 8*n)
	if err := r.read(raw); err != nil {
		return err
	}
	x := make([]float32, 2*n)
	for i := range x {
		x[i] = math.Float32frombits(binary.NativeEndian.Uint32(raw[4*i:]))
	}
	hd.k, hd.v = x[:n:n], x[n:]
	return r.check()
}

// clip shortens a name that a file gives.
func clip(s string) string {
	if len(s) > 80 {
		return s[:80] + "..."
	}
	return s
}
