package checkpoints

import (
	"archive/zip"
	"encoding/binary"
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"strconv"
	"unicode/utf8"
)

// TorchOptions says what stands around the tensors of a PyTorch file.
type TorchOptions struct {
	// Key is where the tensors stand in the top level dict, such as "state_dict". Empty: they are the top level.
	Key string

	// Meta is what stands beside Key: nil, string, bool, int, float64, map[string]any and []any of such values. It must be
	// empty when Key is.
	Meta map[string]any
}

// torchAlign is the alignment of a record in the file, in bytes, as torch.save keeps it: PyTorch maps records in place.
const torchAlign = 64

// WriteTorch writes a PyTorch file as a stream: the zip file of torch.save, which torch.load(weights_only=True) opens. Its
// tensors are an OrderedDict in the given order, each row-major in a storage of its own. No more than a piece of a tensor is
// held in memory, and the same arguments give the same bytes.
func WriteTorch(w io.Writer, ts []Named, o TorchOptions) error {
	pkl, err := torchPickle(ts, o)
	if err != nil {
		return err
	}
	z := &torchZip{z: zip.NewWriter(w)}
	bytes := func(b string) func(io.Writer) error {
		return func(w io.Writer) error {
			_, err := io.WriteString(w, b)
			return err
		}
	}
	z.add("data.pkl", int64(len(pkl)), bytes(string(pkl)))
	z.add(".format_version", 1, bytes("1"))
	z.add(".storage_alignment", 2, bytes(strconv.Itoa(torchAlign)))
	z.add("byteorder", 6, bytes("little"))
	for i, t := range ts {
		n, _ := product(append([]int{t.DType.Size()}, t.Shape...)...)
		z.add("data/"+strconv.Itoa(i), int64(n), t.Write)
		if z.err != nil {
			return fmt.Errorf("write tensor %q: %w", t.Name, z.err)
		}
	}
	z.add("version", 2, bytes("3\n"))
	if z.err != nil {
		return z.err
	}
	return z.z.Close()
}

// A torchZip lays out the records of a zip file. It keeps the first error.
type torchZip struct {
	z   *zip.Writer
	at  int64 // where the next record begins
	err error
}

// add stores a record of size bytes, with its data aligned. Like PyTorch's own writer it does not seek: the checksum and the
// sizes follow the data.
func (z *torchZip) add(name string, size int64, write func(io.Writer) error) {
	if z.err != nil {
		return
	}
	h := &zip.FileHeader{Name: "archive/" + name, Method: zip.Store}
	data := z.at + 30 + int64(len(h.Name)) + 4
	pad := (torchAlign - data%torchAlign) % torchAlign
	h.Extra = append(binary.LittleEndian.AppendUint16([]byte("FB"), uint16(pad)), slices.Repeat([]byte("Z"), int(pad))...)
	w, err := z.z.CreateHeader(h)
	if err != nil {
		z.err = err
		return
	}
	c := &counter{w: w, left: size}
	if z.err = write(c); z.err == nil && c.left != 0 {
		z.err = fmt.Errorf("%d bytes are missing of %d", c.left, size)
	}
	z.at = data + pad + size + 16 // the descriptor: a mark, the checksum, two sizes
	if size >= math.MaxUint32 {
		z.at += 8
	}
}

// torchPickle returns the data.pkl of a file.
func torchPickle(ts []Named, o TorchOptions) ([]byte, error) {
	p := &pickler{memo: map[string]int{}}
	p.raw("\x80\x02")
	if o.Key == "" {
		if len(o.Meta) > 0 {
			return nil, fmt.Errorf("values beside the tensors need a key for the tensors (name one, such as state_dict)")
		}
		p.tensors(ts)
	} else {
		if _, ok := o.Meta[o.Key]; ok {
			return nil, fmt.Errorf("key %q is taken twice", o.Key)
		}
		p.raw("}(")
		for _, k := range slices.Sorted(maps.Keys(o.Meta)) {
			p.text(k)
			p.value(k, o.Meta[k])
		}
		p.text(o.Key)
		p.tensors(ts)
		p.raw("u")
	}
	p.raw(".")
	if p.err == nil && len(p.b) > maxPickle {
		return nil, fmt.Errorf("%d tensors need a data.pkl of %d bytes, more than the limit of %d", len(ts), len(p.b), maxPickle)
	}
	return p.b, p.err
}

// A pickler writes a pickle of protocol 2. It keeps the first error.
type pickler struct {
	b    []byte
	memo map[string]int // opcodes of a value -> where it is kept
	err  error
}

func (p *pickler) raw(opcodes string) { p.b = append(p.b, opcodes...) }

// shared pushes a value that comes often: written once, then taken from the memo.
func (p *pickler) shared(opcodes string) {
	if i, ok := p.memo[opcodes]; ok {
		p.b = append(p.b, 'h', byte(i)) // fewer than 256: names of types and functions
		return
	}
	i := len(p.memo)
	p.memo[opcodes] = i
	p.raw(opcodes)
	p.b = append(p.b, 'q', byte(i))
}

func (p *pickler) global(module, name string) { p.shared("c" + module + "\n" + name + "\n") }

func (p *pickler) text(s string) { p.raw(p.textOps(s)) }

func (p *pickler) textOps(s string) string {
	if !utf8.ValidString(s) && p.err == nil {
		p.err = fmt.Errorf("%q is not valid UTF-8, which PyTorch needs", s)
	}
	return string(append(binary.LittleEndian.AppendUint32([]byte("X"), uint32(len(s))), s...))
}

func (p *pickler) int(n int) {
	le := binary.LittleEndian
	switch {
	case n >= 0 && n < 1<<8:
		p.b = append(p.b, 'K', byte(n))
	case n >= 0 && n < 1<<16:
		p.b = le.AppendUint16(append(p.b, 'M'), uint16(n))
	case n == int(int32(n)):
		p.b = le.AppendUint32(append(p.b, 'J'), uint32(n))
	default:
		p.b = le.AppendUint64(append(p.b, 0x8a, 8), uint64(n))
	}
}

func (p *pickler) ints(n []int) {
	if len(n) <= 3 {
		for _, v := range n {
			p.int(v)
		}
		p.b = append(p.b, ")\x85\x86\x87"[len(n)])
		return
	}
	p.raw("(")
	for _, v := range n {
		p.int(v)
	}
	p.raw("t")
}

// value pushes a value of TorchOptions.Meta, which stands at path.
func (p *pickler) value(path string, v any) {
	switch v := v.(type) {
	case nil:
		p.raw("N")
	case bool:
		p.raw(map[bool]string{false: "\x89", true: "\x88"}[v])
	case string:
		p.text(v)
	case int:
		p.int(v)
	case float64:
		p.b = binary.BigEndian.AppendUint64(append(p.b, 'G'), math.Float64bits(v))
	case []any:
		p.raw("](")
		for i, e := range v {
			p.value(path+"."+strconv.Itoa(i), e)
		}
		p.raw("e")
	case map[string]any:
		p.raw("}(")
		for _, k := range slices.Sorted(maps.Keys(v)) {
			p.text(k)
			p.value(path+"."+k, v[k])
		}
		p.raw("u")
	default:
		if p.err == nil {
			p.err = fmt.Errorf("value %q: a %T cannot be written to a PyTorch file", path, v)
		}
	}
}

// tensors pushes an OrderedDict of the tensors; the storage of ts[i] is named i.
func (p *pickler) tensors(ts []Named) {
	p.global("collections", "OrderedDict")
	p.raw(")R(")
	seen := make(map[string]bool, len(ts))
	for i, t := range ts {
		if seen[t.Name] && p.err == nil {
			p.err = fmt.Errorf("tensor %q: the name is taken twice", t.Name)
		}
		seen[t.Name] = true
		p.text(t.Name)
		p.tensor(strconv.Itoa(i), t)
	}
	p.raw("u")
}

// tensor pushes _rebuild_tensor_v2(storage, offset, size, stride, requires_grad, hooks), or v3 with the element type behind
// for types that have no storage class.
func (p *pickler) tensor(key string, t Named) {
	count, _ := product(t.Shape...)
	bytes, _ := product(append([]int{t.DType.Size()}, t.Shape...)...)
	full := []int{t.DType.Size()} // with a dimension of 0 as 1: its strides must be in range too
	for _, n := range t.Shape {
		if n == 0 {
			n = 1
		}
		full = append(full, n)
	}
	_, ok := product(full...)
	typ, known := torchWritten[t.DType]
	if p.err == nil {
		switch {
		case !known:
			p.err = fmt.Errorf("tensor %q: %s cannot be written to a PyTorch file (convert it to F32 or F16 first)", t.Name, t.DType)
		case !ok || len(t.Shape) > maxDims:
			p.err = fmt.Errorf("tensor %q: shape %v is out of range", t.Name, t.Shape)
		}
	}
	if p.err != nil {
		return
	}
	rebuild, storage := "_rebuild_tensor_v2", "torch\n"+typ.storage
	if typ.name != "" {
		rebuild, storage, count = "_rebuild_tensor_v3", "torch.storage\n"+typ.storage, bytes
	}
	p.global("torch._utils", rebuild)
	p.raw("((")
	p.shared(p.textOps("storage"))
	p.shared("c" + storage + "\n")
	p.text(key)
	p.shared(p.textOps("cpu"))
	p.int(count)
	p.raw("tQK\x00")
	p.ints(t.Shape)
	p.ints(contiguous(t.Shape))
	p.raw("\x89")
	p.global("collections", "OrderedDict")
	p.raw(")R")
	if typ.name != "" {
		p.global("torch", typ.name)
	}
	p.raw("tR")
}

// contiguous returns the strides of a row-major tensor, in elements, as PyTorch counts them: a dimension of 0 as 1.
func contiguous(shape []int) []int {
	strides := make([]int, len(shape))
	step := 1
	for i := len(shape) - 1; i >= 0; i-- {
		strides[i] = step
		step *= max(shape[i], 1)
	}
	return strides
}

// torchWritten holds each type's storage class, and the name of the type where the class does not tell it.
var torchWritten = map[DType]struct{ storage, name string }{
	F32: {"FloatStorage", ""}, F16: {"HalfStorage", ""}, BF16: {"BFloat16Storage", ""}, F64: {"DoubleStorage", ""},
	I64: {"LongStorage", ""}, I32: {"IntStorage", ""}, I16: {"ShortStorage", ""}, I8: {"CharStorage", ""},
	U8: {"ByteStorage", ""}, Bool: {"BoolStorage", ""}, C64: {"ComplexFloatStorage", ""},
	U64: {"UntypedStorage", "uint64"}, U32: {"UntypedStorage", "uint32"}, U16: {"UntypedStorage", "uint16"},
	F8E4M3: {"UntypedStorage", "float8_e4m3fn"}, F8E5M2: {"UntypedStorage", "float8_e5m2"},
	F8E8M0:     {"UntypedStorage", "float8_e8m0fnu"},
	F8E4M3FNUZ: {"UntypedStorage", "float8_e4m3fnuz"}, F8E5M2FNUZ: {"UntypedStorage", "float8_e5m2fnuz"},
}
