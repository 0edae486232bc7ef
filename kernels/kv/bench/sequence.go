package bench

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"unsafe"
)

// ErrFormat says that a file does not hold a sequence.
var ErrFormat = errors.New("bench: not a dump of keys")

// Sequence is the attention of a model over a text of N tokens, as its caller recorded it.
type Sequence struct {
	Heads, KVHeads, HeadDim int

	Scale       float64   // multiplies q·k; 0 means 1/√HeadDim
	RopeFreqs   []float32 // radians a position of each of HeadDim/2 pairs of channels (c, c+HeadDim/2); nil if keys do not turn
	Interleaved bool      // pairs are (2c, 2c+1) instead
	Boundaries  []int     // where sentences end, ascending; nil stands for every 24 rows
	Layers      []Layer
}

// Layer is what one layer attended with. Row 0 is the first token of the text, which may be one that everything attends to.
type Layer struct {
	K, V []float32 // (N, KVHeads*HeadDim), keys after rotation
	Q    []float32 // (N, Heads*HeadDim), after rotation
}

// Len returns N.
func (s *Sequence) Len() int {
	if len(s.Layers) == 0 || s.KVHeads*s.HeadDim == 0 {
		return 0
	}
	return len(s.Layers[0].K) / (s.KVHeads * s.HeadDim)
}

// check says what is wrong with the sizes.
func (s *Sequence) check() error {
	n := s.Len()
	switch {
	case s.Heads <= 0 || s.KVHeads <= 0 || s.HeadDim <= 0 || s.Heads%s.KVHeads != 0:
		return fmt.Errorf("bench: %d heads over %d key heads of %d elements", s.Heads, s.KVHeads, s.HeadDim)
	case s.RopeFreqs != nil && len(s.RopeFreqs) != s.HeadDim/2:
		return fmt.Errorf("bench: %d rotary frequencies for %d elements (want half as many)", len(s.RopeFreqs), s.HeadDim)
	case n < 2*minTail:
		return fmt.Errorf("bench: a text of %d tokens (want at least %d)", n, 2*minTail)
	}
	for i, l := range s.Layers {
		if len(l.K) != n*s.KVHeads*s.HeadDim || len(l.V) != len(l.K) || len(l.Q) != n*s.Heads*s.HeadDim {
			return fmt.Errorf("bench: layer %d has %d, %d and %d elements for %d tokens", i, len(l.K), len(l.V), len(l.Q), n)
		}
	}
	at := 0
	for _, b := range s.Boundaries {
		if b <= at || b > n {
			return fmt.Errorf("bench: a sentence ends at row %d after %d of %d", b, at, n)
		}
		at = b
	}
	return nil
}

// turn rotates a key or query of one head by some positions.
func (s *Sequence) turn(x []float32, by int) {
	half := s.HeadDim / 2
	for c, f := range s.RopeFreqs {
		sin, cos := math.Sincos(float64(f) * float64(by))
		i, j := c, c+half
		if s.Interleaved {
			i, j = 2*c, 2*c+1
		}
		a, b := float64(x[i]), float64(x[j])
		x[i], x[j] = float32(a*cos-b*sin), float32(b*cos+a*sin)
	}
}

const magic = "svae-keys1\n"

type header struct {
	Heads       int       `json:"heads"`
	KVHeads     int       `json:"kv_heads"`
	HeadDim     int       `json:"head_dim"`
	Layers      int       `json:"layers"`
	Rows        int       `json:"rows"`
	Scale       float64   `json:"scale"`
	RopeFreqs   []float32 `json:"rope_freqs"`
	Interleaved bool      `json:"interleaved"`
	Boundaries  []int     `json:"boundaries"`
}

// Write writes a sequence: a line of magic, a line of JSON, then K, V and Q of each layer as little-endian float32.
func (s *Sequence) Write(w io.Writer) error {
	if err := s.check(); err != nil {
		return err
	}
	b := bufio.NewWriterSize(w, 1<<20)
	head, err := json.Marshal(header{s.Heads, s.KVHeads, s.HeadDim, len(s.Layers), s.Len(), s.Scale, s.RopeFreqs, s.Interleaved,
		s.Boundaries})
	if err != nil {
		return err
	}
	b.WriteString(magic)
	b.Write(head)
	b.WriteByte('\n')
	for _, l := range s.Layers {
		for _, x := range [][]float32{l.K, l.V, l.Q} {
			var word [4]byte
			for _, v := range x {
				binary.LittleEndian.PutUint32(word[:], math.Float32bits(v))
				b.Write(word[:])
			}
		}
	}
	return b.Flush()
}

// ReadSequence reads what Write wrote. Memory is bounded by the size of the file.
func ReadSequence(path string) (*Sequence, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read keys: %w", err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err == nil {
		var s *Sequence
		if s, err = read(bufio.NewReaderSize(f, 1<<20), st.Size()); err == nil {
			return s, nil
		}
	}
	return nil, fmt.Errorf("read keys of %s: %w (dump them again)", path, err)
}

const maxHeader = 16 << 20

func read(r *bufio.Reader, size int64) (*Sequence, error) {
	got := make([]byte, len(magic))
	if _, err := io.ReadFull(r, got); err != nil || string(got) != magic {
		return nil, fmt.Errorf("%w: it begins with %q", ErrFormat, got)
	}
	var line []byte
	for {
		part, err := r.ReadSlice('\n')
		line = append(line, part...)
		if err == nil {
			break
		}
		if !errors.Is(err, bufio.ErrBufferFull) || len(line) > maxHeader {
			return nil, fmt.Errorf("%w: no header in %d bytes", ErrFormat, len(line))
		}
	}
	var h header
	if err := json.Unmarshal(line, &h); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrFormat, err)
	}
	const most = 1 << 31 // of each size: so that products of three fit
	s := &Sequence{Heads: h.Heads, KVHeads: h.KVHeads, HeadDim: h.HeadDim, Scale: h.Scale, RopeFreqs: h.RopeFreqs,
		Interleaved: h.Interleaved, Boundaries: h.Boundaries}
	left := size - int64(len(magic)+len(line))
	if h.Heads <= 0 || h.KVHeads <= 0 || h.HeadDim <= 0 || h.Rows <= 0 || h.Layers <= 0 || h.Heads > 1<<12 || h.KVHeads > 1<<12 ||
		h.HeadDim > 1<<12 || h.Layers > 1<<12 || h.Rows > most {
		return nil, fmt.Errorf("%w: %d layers of %d rows, %d and %d heads of %d", ErrFormat, h.Layers, h.Rows, h.Heads, h.KVHeads, h.HeadDim)
	}
	row := int64(h.HeadDim) * int64(2*h.KVHeads+h.Heads) * 4
	if want := row * int64(h.Layers); int64(h.Rows) > left/want || int64(h.Rows)*want != left {
		return nil, fmt.Errorf("%w: %d bytes for %d rows of %d", ErrFormat, left, h.Rows, want)
	}
	for range h.Layers {
		var l Layer
		for _, x := range []struct {
			to *[]float32
			n  int
		}{{&l.K, h.KVHeads}, {&l.V, h.KVHeads}, {&l.Q, h.Heads}} {
			*x.to = make([]float32, h.Rows*x.n*h.HeadDim)
			if err := readFloats(r, *x.to); err != nil {
				return nil, err
			}
		}
		s.Layers = append(s.Layers, l)
	}
	return s, s.check()
}

// readFloats reads little-endian numbers, all of them finite.
func readFloats(r io.Reader, x []float32) error {
	b := unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(x))), 4*len(x))
	if _, err := io.ReadFull(r, b); err != nil {
		return fmt.Errorf("%w: it is cut", ErrFormat)
	}
	for i := range x {
		x[i] = math.Float32frombits(binary.LittleEndian.Uint32(b[4*i:]))
		if x[i]-x[i] != 0 {
			return fmt.Errorf("%w: it holds %v", ErrFormat, x[i])
		}
	}
	return nil
}
