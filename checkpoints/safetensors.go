package checkpoints

import (
	"cmp"
	"encoding/binary"
	"slices"
)

// readSafetensors reads the header of a safetensors file: the length of the header in 8 bytes, the header in JSON, then the
// tensors, which must fill the rest of the file without holes or overlaps.
func readSafetensors(w *Weights, m *mapping) error {
	b := m.data
	if len(b) < 8 {
		return formatf("%d bytes are too few for any format (want safetensors, PyTorch, GGUF or llama2.c)", len(b))
	}
	n := binary.LittleEndian.Uint64(b)
	switch rest := uint64(len(b) - 8); {
	case len(b) == 8 || b[8] != '{':
		return formatf("neither safetensors nor PyTorch, GGUF or whole llama2.c (begins with % x)", b[:min(len(b), 12)])
	case n < 8: // the shortest that is written: {} and padding
		return formatf("safetensors header of %d bytes", n)
	case n > maxHeader:
		return formatf("safetensors header of %d bytes exceeds the limit of %d", n, maxHeader)
	case n > rest:
		return formatf("safetensors header of %d bytes, but only %d follow: the file is cut (copy it again)", n, rest)
	}
	w.format = "safetensors"
	data := b[8+n:]
	ts, err := parseHeader(w, b[:8+n])
	if err != nil {
		return err
	}
	for _, t := range ts {
		if t.end > len(data) {
			return formatf("tensor %q lies at %d to %d, but the file has %d bytes of data: it is cut (copy it again)",
				clip(t.Name), t.start, t.end, len(data))
		}
		t.m, t.File, t.Offset = m, m.path, int64(8+n)+int64(t.start)
		t.storage, t.start = data[t.start:t.end:t.end], 0
		w.tensors[t.Name] = &t.Tensor
	}
	return covered(ts, len(data))
}

// stored is a tensor of a header; start and end count from the end of the header.
type stored struct {
	Tensor
	begin, end int
}

// parseHeader parses the JSON that begins 8 bytes into b, so that errors give offsets in the file.
func parseHeader(w *Weights, b []byte) ([]*stored, error) {
	s := &scanner{b: b, i: 8}
	var ts []*stored
	s.object(func(key string) {
		if key == "__metadata__" {
			s.object(func(k string) { w.meta[k] = s.string() })
			return
		}
		if len(key) > maxName {
			s.fail("name of %d bytes exceeds the limit of %d", len(key), maxName)
			return
		}
		if t := s.entry(key); s.err == nil {
			ts = append(ts, t)
		}
	})
	s.end()
	return ts, s.err
}

// entry reads the description of one tensor and checks that its range fits its shape.
func (s *scanner) entry(name string) *stored {
	t := &stored{Tensor: Tensor{Name: name}}
	at := s.i
	var offsets []int
	var have [3]bool
	s.object(func(key string) {
		switch key {
		case "dtype":
			t.TypeName, have[0] = s.string(), true
		case "shape":
			t.Shape, have[1] = s.sizes(), true
		case "data_offsets":
			offsets, have[2] = s.sizes(), true
		default:
			s.skip(0)
		}
	})
	if s.err != nil {
		return nil
	}
	t.DType = Unsupported
	if d, ok := dtypeByName[t.TypeName]; ok {
		t.DType = d
	}
	n, ok := product(append([]int{max(t.DType.Size(), 1)}, t.Shape...)...)
	end := s.i
	s.i = at // where an error points to
	switch {
	case have != [3]bool{true, true, true}:
		s.fail("tensor %q needs dtype, shape and data_offsets", clip(name))
	case len(offsets) != 2 || offsets[0] > offsets[1]:
		s.fail("tensor %q: data_offsets %v are not a range", clip(name), offsets)
	case !ok:
		s.fail("tensor %q: shape %v is out of range", clip(name), t.Shape)
	case t.DType != Unsupported && n != offsets[1]-offsets[0]:
		s.fail("tensor %q: %s %v needs %d bytes, data_offsets give %d", clip(name), t.DType, t.Shape, n, offsets[1]-offsets[0])
	case n/maxPacked > offsets[1]-offsets[0]:
		s.fail("tensor %q: shape %v does not fit into %d bytes", clip(name), t.Shape, offsets[1]-offsets[0])
	default:
		t.start, t.begin, t.end = offsets[0], offsets[0], offsets[1]
		s.i = end
	}
	return t
}

// sizes reads an array of integers that are not negative.
func (s *scanner) sizes() []int {
	v := []int{}
	s.array(func() {
		if len(v) == maxDims {
			s.fail("more than %d dimensions", maxDims)
			return
		}
		v = append(v, s.size())
	})
	return v
}

// covered checks that the tensors fill size bytes without holes or overlaps.
func covered(ts []*stored, size int) error {
	slices.SortFunc(ts, func(a, b *stored) int { return cmp.Or(a.begin-b.begin, a.end-b.end) })
	at := 0
	for _, t := range ts {
		switch {
		case t.begin < at:
			return formatf("tensor %q at %d overlaps the one before, which ends at %d", clip(t.Name), t.begin, at)
		case t.begin > at:
			return formatf("hole of %d bytes before tensor %q", t.begin-at, clip(t.Name))
		}
		at = t.end
	}
	if at != size {
		return formatf("%d bytes follow the last tensor", size-at)
	}
	return nil
}
