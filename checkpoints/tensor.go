package checkpoints

import (
	"fmt"
	"hash/crc32"
	"math/bits"
	"sync"
)

// A Tensor names a tensor in an open file. Its data stay in the file until they are asked for. All methods may be called
// from several goroutines.
type Tensor struct {
	Name     string
	DType    DType
	TypeName string // the type as the file names it: "BF16", "torch.HalfStorage", "sparse"
	Shape    []int  // empty for a scalar
	File     string // the file that holds it
	Offset   int64  // where its first element lies in File, in bytes

	m       *mapping  // nil for a tensor in memory
	storage []byte    // the bytes it is a view of
	start   int       // its first element in storage, in bytes
	view    []axis    // nil when row-major without gaps
	sum     *checksum // of storage, nil when the format has none
	problem string    // why its data cannot be read, with the way out
}

// Len returns the number of elements, the product of Shape.
func (t *Tensor) Len() int {
	n := 1
	for _, d := range t.Shape {
		n *= d
	}
	return n
}

// Bytes returns the size of its elements as they are stored, that of what Raw returns.
func (t *Tensor) Bytes() int64 { return int64(t.bytes()) }

// Float32 writes the Len() elements into dst, row-major whatever the strides in the file. F16, BF16 and F32 convert
// exactly; F64 and integers round to the nearest float32, ties to even; true is 1; blocks give what ggml gives for them, bit
// for bit. It returns an error that names the tensor and its type for the other types, and one when len(dst) is not Len().
func (t *Tensor) Float32(dst []float32) error {
	if t.problem != "" {
		return t.errorf("%s", t.problem)
	}
	if !t.DType.Numeric() {
		return t.errorf("cannot convert %s to float32 (store the tensor as float32, float16 or bfloat16)", t.typeName())
	}
	if len(dst) != t.Len() {
		return t.errorf("has %d elements, the destination %d", t.Len(), len(dst))
	}
	return t.read(func() error {
		elements, size := t.DType.Block()
		return t.pieces(func(b []byte) error {
			n := len(b) / size * elements
			decode(dst[:n], b, t.DType)
			dst = dst[n:]
			return nil
		})
	})
}

// Raw returns the elements as they are stored, little-endian, row-major without gaps. It is a view of the mapped file
// where that is possible: then it must not be written to, and not be used after [Weights.Close].
func (t *Tensor) Raw() ([]byte, error) {
	if t.problem != "" {
		return nil, t.errorf("%s", t.problem)
	}
	var raw []byte
	err := t.read(func() error {
		if t.view == nil {
			raw = t.storage[t.start : t.start+t.bytes() : t.start+t.bytes()]
			return nil
		}
		raw = make([]byte, 0, t.bytes())
		return t.gather(func(b []byte) error {
			raw = append(raw, b...)
			return nil
		})
	})
	return raw, err
}

func (t *Tensor) bytes() int {
	if t.DType == Unsupported {
		return len(t.storage) - t.start
	}
	elements, size := t.DType.Block()
	return t.Len() / elements * size
}

// stream hands the bytes of Raw to emit in pieces of whole elements, without holding more than one. The file's pages do not
// stay in memory. That the storage is damaged may be an error only after all of it was handed on.
func (t *Tensor) stream(emit func([]byte) error) error {
	if t.problem != "" {
		return t.errorf("%s", t.problem)
	}
	if t.sum == nil || t.sum.known() || t.view != nil || t.bytes() != len(t.storage) {
		return t.read(func() error { return t.pieces(emit) })
	}
	err := t.m.use(func() error { // the sum of what is handed on anyway: a storage is read once
		got := uint32(0)
		err := t.pieces(func(b []byte) error {
			got = crc32.Update(got, crc32.IEEETable, b)
			return emit(b)
		})
		if err != nil {
			return err
		}
		return t.sum.compare(got)
	})
	if err != nil {
		return t.errorf("%w", err)
	}
	return nil
}

// pieces hands the elements to emit in row-major order and gives back the pages of the mapping that it has read. Without
// that, a process that converts a large file would come to hold all of it.
func (t *Tensor) pieces(emit func([]byte) error) error {
	if t.view != nil {
		lo, hi := t.span()
		defer t.m.release(t.storage[lo:hi])
		return t.gather(emit)
	}
	_, size := t.DType.Block()
	size = max(size, 1)
	return t.m.inPieces(t.storage[t.start:t.start+t.bytes()], size, emit)
}

// read runs f while the mapping is held open, after the storage's checksum was compared once.
func (t *Tensor) read(f func() error) error {
	if t.Len() == 0 {
		return nil
	}
	err := t.m.use(func() error {
		if t.sum != nil {
			if err := t.sum.check(t.m, t.storage); err != nil {
				return err
			}
		}
		return f()
	})
	if err != nil {
		return t.errorf("%w", err)
	}
	return nil
}

func (t *Tensor) typeName() string {
	if t.DType == Unsupported {
		return clip(t.TypeName)
	}
	return t.DType.String()
}

func (t *Tensor) errorf(format string, args ...any) error {
	return fmt.Errorf("%s: tensor %q: "+format, append([]any{t.File, t.Name}, args...)...)
}

// product multiplies non-negative sizes; false when the product exceeds an int.
func product(sizes ...int) (int, bool) {
	n, zero := uint64(1), false
	for _, s := range sizes {
		if s < 0 {
			return 0, false
		}
		if s == 0 {
			zero = true
			continue
		}
		hi, lo := bits.Mul64(n, uint64(s))
		if hi != 0 || lo > uint64(maxInt) {
			return 0, false
		}
		n = lo
	}
	if zero {
		return 0, true
	}
	return int(n), true
}

const maxInt = int(^uint(0) >> 1)

// A checksum is the CRC-32 of a storage, compared when the storage is first read.
type checksum struct {
	want uint32

	mu   sync.Mutex
	done bool
	err  error
}

// check compares with the sum of b, which lies in m, unless that was done before.
func (c *checksum) check(m *mapping, b []byte) error {
	c.mu.Lock()
	done, err := c.done, c.err
	c.mu.Unlock()
	if done {
		return err
	}
	got := uint32(0)
	m.inPieces(b, 1, func(p []byte) error {
		got = crc32.Update(got, crc32.IEEETable, p)
		return nil
	})
	return c.compare(got)
}

// known reports whether the sum was compared before.
func (c *checksum) known() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.done
}

func (c *checksum) compare(got uint32) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.done = true; got != c.want {
		c.err = formatf("checksum %08x, the file says %08x: the file is damaged (copy it again)", got, c.want)
	}
	return c.err
}
