package checkpoints

import (
	"bufio"
	"cmp"
	"encoding/binary"
	"fmt"
	"io"
	"math/bits"
	"slices"
)

// WriteAligned writes a safetensors file for readers that use its tensors where they lie. The data begin at a multiple of
// align, a power of two from 8 up, and tensors come in the order of the largest power of two, up to align, that divides
// their size: so each begins at a multiple of that of its own size, and of its element size, and none is padded, which the
// format forbids. The same arguments give the same bytes.
func WriteAligned(w io.Writer, ts []Named, metadata map[string]string, align int) error {
	ts = slices.Clone(ts)
	slices.SortStableFunc(ts, func(a, b Named) int { return cmp.Compare(divisor(b, align), divisor(a, align)) })
	header, err := safetensorsHeader(ts, metadata)
	if err != nil {
		return err
	}
	for len(header)%align != 0 {
		header = append(header, ' ')
	}
	if len(header)-8 > maxHeader {
		return fmt.Errorf("header of %d bytes exceeds the format's %d", len(header)-8, maxHeader)
	}
	binary.LittleEndian.PutUint64(header, uint64(len(header)-8))
	if _, err := w.Write(header); err != nil {
		return err
	}
	bw := bufio.NewWriterSize(w, 1<<16)
	for _, t := range ts {
		n, _ := product(t.Shape...)
		c := &counter{w: bw, left: int64(n) * int64(t.DType.Size())}
		if err := t.Write(c); err != nil {
			return fmt.Errorf("write tensor %q: %w", t.Name, err)
		}
		if c.left != 0 {
			return fmt.Errorf("write tensor %q: %d bytes are missing of %s %v", t.Name, c.left, t.DType, t.Shape)
		}
	}
	return bw.Flush()
}

// divisor returns the largest power of two, up to most, that divides the bytes of a tensor.
func divisor(t Named, most int) int {
	n, _ := product(t.Shape...)
	return min(most, 1<<min(bits.TrailingZeros64(uint64(n)*uint64(t.DType.Size())), 62))
}
