package checkpoints

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"unicode/utf8"
)

// A KV is a value in the header of a GGUF file: string, bool, uint32, int32, uint64, float32, []string, []int32, []float32 or
// []bool.
type KV struct {
	Key   string
	Value any
}

// Limits of ggml on what it reads.
const (
	ggufNameLen = 63 // bytes of a tensor's name
	ggufKeyLen  = 1<<16 - 1
	ggufDims    = 4
)

// WriteGGUF writes a GGUF file, version 3, as a stream: values and tensors in the given order, each tensor aligned to 32
// bytes. The same arguments give the same bytes. It returns an error that names the value or tensor which the format cannot
// hold, before it writes anything.
func WriteGGUF(w io.Writer, kv []KV, ts []Named) error {
	h, err := ggufHeader(kv, ts)
	if err != nil {
		return err
	}
	bw := bufio.NewWriterSize(w, 1<<20)
	if _, err := bw.Write(h); err != nil {
		return err
	}
	var zeros [ggufAlignment]byte
	for _, t := range ts {
		size, _ := ggufSize(t)
		c := &counter{w: bw, left: int64(size)}
		if err := t.Write(c); err != nil {
			return fmt.Errorf("write tensor %q: %w", t.Name, err)
		}
		if c.left != 0 {
			return fmt.Errorf("write tensor %q: %d bytes are missing of %s %v", t.Name, c.left, t.DType, t.Shape)
		}
		if _, err := bw.Write(zeros[:ggufPad(size)]); err != nil {
			return err
		}
	}
	return bw.Flush()
}

// ggufPad returns the bytes that are missing to the alignment.
func ggufPad(n int) int { return -n & (ggufAlignment - 1) }

// ggufSize returns the bytes of a tensor; false when its shape is out of range or splits a block.
func ggufSize(t Named) (int, bool) {
	n, ok := product(t.Shape...)
	block, size := t.DType.Block()
	row := 1
	if len(t.Shape) > 0 {
		row = t.Shape[len(t.Shape)-1]
	}
	if !ok || row%block != 0 {
		return 0, false
	}
	n, ok = product(n/block, size)
	return n, ok && n < maxInt/4
}

// ggufHeader returns all that comes before the first tensor.
func ggufHeader(kv []KV, ts []Named) ([]byte, error) {
	le := binary.LittleEndian
	h := le.AppendUint32([]byte("GGUF"), 3)
	h = le.AppendUint64(h, uint64(len(ts)))
	h = le.AppendUint64(h, uint64(len(kv)))
	keys := make(map[string]bool, len(kv))
	for _, e := range kv {
		switch {
		case e.Key == "" || len(e.Key) > ggufKeyLen || !utf8.ValidString(e.Key):
			return nil, fmt.Errorf("key %q: a GGUF file cannot hold it", clip(e.Key))
		case keys[e.Key]:
			return nil, fmt.Errorf("key %q: the name is taken twice", e.Key)
		case e.Key == "general.alignment":
			return nil, fmt.Errorf("key %q: the alignment is always %d (leave the key out)", e.Key, ggufAlignment)
		}
		keys[e.Key] = true
		var ok bool
		if h, ok = appendGGUF(appendGGUFString(h, e.Key), e.Value); !ok {
			return nil, fmt.Errorf("key %q: a GGUF file cannot hold a %T", e.Key, e.Value)
		}
	}
	names := make(map[string]bool, len(ts))
	at := uint64(0)
	for _, t := range ts {
		number, err := ggufCheck(t, names)
		if err != nil {
			return nil, err
		}
		size, _ := ggufSize(t)
		if at > uint64(maxInt/2) {
			return nil, fmt.Errorf("tensor %q: the file becomes too large", t.Name)
		}
		h = le.AppendUint32(appendGGUFString(h, t.Name), uint32(len(t.Shape)))
		for i := len(t.Shape) - 1; i >= 0; i-- {
			h = le.AppendUint64(h, uint64(t.Shape[i]))
		}
		h = le.AppendUint64(le.AppendUint32(h, uint32(number)), at)
		at += uint64(size + ggufPad(size))
	}
	return append(h, make([]byte, ggufPad(len(h)))...), nil
}

// ggufCheck returns the number of a tensor's type, or why the format cannot hold the tensor.
func ggufCheck(t Named, names map[string]bool) (int, error) {
	number := -1
	for i, typ := range ggufTypes {
		if typ.block > 0 && typ.dtype == t.DType && t.DType != Unsupported {
			number = i
		}
	}
	_, ok := ggufSize(t)
	switch {
	case t.Name == "" || len(t.Name) > ggufNameLen || !utf8.ValidString(t.Name):
		return 0, fmt.Errorf("tensor %q: the name has %d bytes (a GGUF file takes 1 to %d of UTF-8)", clip(t.Name), len(t.Name), ggufNameLen)
	case names[t.Name]:
		return 0, fmt.Errorf("tensor %q: the name is taken twice", t.Name)
	case number < 0:
		return 0, fmt.Errorf("tensor %q: a GGUF file cannot hold %s (convert it to F32 or F16 first)", t.Name, t.DType)
	case len(t.Shape) > ggufDims:
		return 0, fmt.Errorf("tensor %q: %d dimensions (a GGUF file takes %d)", t.Name, len(t.Shape), ggufDims)
	case !ok:
		return 0, fmt.Errorf("tensor %q: %s cannot hold the shape %v", t.Name, t.DType, t.Shape)
	}
	names[t.Name] = true
	return number, nil
}

func appendGGUFString(h []byte, s string) []byte {
	return append(binary.LittleEndian.AppendUint64(h, uint64(len(s))), s...)
}

// appendGGUF appends the type and the bytes of a value; false for a Go type that has no counterpart.
func appendGGUF(h []byte, value any) ([]byte, bool) {
	le := binary.LittleEndian
	kind := func(k uint32) []byte { return le.AppendUint32(h, k) }
	switch v := value.(type) {
	case string:
		return appendGGUFString(kind(ggufString), v), true
	case bool:
		return appendGGUFBool(kind(ggufBool), v), true
	case uint32:
		return le.AppendUint32(kind(ggufUint32), v), true
	case int32:
		return le.AppendUint32(kind(ggufInt32), uint32(v)), true
	case uint64:
		return le.AppendUint64(kind(ggufUint64), v), true
	case float32:
		return le.AppendUint32(kind(ggufFloat32), math.Float32bits(v)), true
	}
	array := func(k uint32, n int) []byte {
		return le.AppendUint64(le.AppendUint32(kind(ggufArray), k), uint64(n))
	}
	switch v := value.(type) {
	case []string:
		h = array(ggufString, len(v))
		for _, s := range v {
			h = appendGGUFString(h, s)
		}
	case []int32:
		h = array(ggufInt32, len(v))
		for _, x := range v {
			h = le.AppendUint32(h, uint32(x))
		}
	case []float32:
		h = array(ggufFloat32, len(v))
		for _, x := range v {
			h = le.AppendUint32(h, math.Float32bits(x))
		}
	case []bool:
		h = array(ggufBool, len(v))
		for _, x := range v {
			h = appendGGUFBool(h, x)
		}
	default:
		return h, false
	}
	return h, true
}

func appendGGUFBool(h []byte, v bool) []byte {
	if v {
		return append(h, 1)
	}
	return append(h, 0)
}
