package checkpoints

import (
	"fmt"
	"hash/crc32"
	"math/bits"
	"os"
	"runtime/debug"
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

	m       *mapping
	storage []byte    // the bytes it is a view of
	start   int       // its first element in storage, in bytes
	view    []axis    // nil when row-major without gaps
	sum     *checksum // of storage, nil when the format has none
	problem string    // why its data cannot be read, with the way out
}

// axis is a dimension of a view: n elements, each stride elements apart.
type axis struct{ n, stride int }

// Len returns the number of elements, the product of Shape.
func (t *Tensor) Len() int {
	n := 1
	for _, d := range t.Shape {
		n *= d
	}
	return n
}

// Float32 writes the Len() elements into dst, row-major whatever the strides in the file. F16, BF16 and F32 convert
// exactly; F64 and integers round to the nearest float32, ties to even; true is 1. It returns an error that names the
// tensor and its type for the other types, and one when len(dst) is not Len().
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
		if t.view == nil {
			decode(dst, t.storage[t.start:], t.DType)
			return nil
		}
		return t.gather(func(b []byte) error {
			n := len(b) / t.DType.Size()
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

// bytes returns the size of what Raw returns.
func (t *Tensor) bytes() int {
	if t.DType == Unsupported {
		return len(t.storage) - t.start
	}
	return t.Len() * t.DType.Size()
}

// stream hands the bytes of Raw to emit in pieces, without holding more than one.
func (t *Tensor) stream(emit func([]byte) error) error {
	if t.problem != "" {
		return t.errorf("%s", t.problem)
	}
	return t.read(func() error {
		if t.view != nil {
			return t.gather(emit)
		}
		b := t.storage[t.start : t.start+t.bytes()]
		for len(b) > 0 {
			n := min(len(b), 1<<20)
			if err := emit(b[:n]); err != nil {
				return err
			}
			b = b[n:]
		}
		return nil
	})
}

// gather hands the elements of a strided view to emit in row-major order, some thousand at a time.
func (t *Tensor) gather(emit func([]byte) error) error {
	size := t.DType.Size()
	buf := make([]byte, 0, 4096*size)
	outer, inner := t.view[:len(t.view)-1], t.view[len(t.view)-1]
	index := make([]int, len(outer))
	at := t.start
	for {
		for i, p := 0, at; i < inner.n; {
			if inner.stride == 1 { // a run of neighbours
				n := min(inner.n-i, (cap(buf)-len(buf))/size)
				buf = append(buf, t.storage[p:p+n*size]...)
				i, p = i+n, p+n*size
			} else {
				buf = append(buf, t.storage[p:p+size]...)
				i, p = i+1, p+inner.stride*size
			}
			if len(buf) == cap(buf) {
				if err := emit(buf); err != nil {
					return err
				}
				buf = buf[:0]
			}
		}
		d := len(outer) - 1
		for ; d >= 0; d-- {
			at += outer[d].stride * size
			if index[d]++; index[d] < outer[d].n {
				break
			}
			at -= outer[d].n * outer[d].stride * size
			index[d] = 0
		}
		if d < 0 {
			return emit(buf)
		}
	}
}

// read runs f while the mapping is held open, after the storage's checksum was compared once.
func (t *Tensor) read(f func() error) error {
	if t.Len() == 0 {
		return nil
	}
	err := t.m.use(func() error {
		if t.sum != nil {
			if err := t.sum.check(t.storage); err != nil {
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
	once sync.Once
	want uint32
	err  error
}

func (c *checksum) check(b []byte) error {
	c.once.Do(func() {
		if got := crc32.ChecksumIEEE(b); got != c.want {
			c.err = formatf("checksum %08x, the file says %08x: the file is damaged (copy it again)", got, c.want)
		}
	})
	return c.err
}

// A mapping is a file in memory, read only.
type mapping struct {
	path  string
	data  []byte
	unmap func() error

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
	m := &mapping{path: path}
	m.data, m.unmap, err = mapFile(f, int(info.Size()))
	if err != nil {
		return nil, err
	}
	return m, nil
}

// use runs f while the mapping is held open. Pages that are gone, since the file was cut or its disk fails, are an error
// and not the end of the process.
func (m *mapping) use(f func() error) (err error) {
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
