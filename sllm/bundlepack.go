package sllm

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"unsafe"

	"svae/checkpoints"
	"svae/kernels"
	"svae/vae"
)

// encodeWeight returns the tensors that hold a weight in the form dt.
func encodeWeight(w vae.Weight, from *checkpoints.Tensor, dt kernels.DType) []checkpoints.Named {
	of := weightOf{w, from}
	switch dt {
	case kernels.F32:
		return []checkpoints.Named{{Name: w.Name, DType: checkpoints.F32, Shape: w.Shape, Write: func(to io.Writer) error {
			return of.eachRows(func(_ int, v []float32) error { return write(to, v) })
		}}}
	case kernels.BF16:
		return []checkpoints.Named{{Name: w.Name, DType: checkpoints.BF16, Shape: w.Shape, Write: func(to io.Writer) error {
			return of.eachBF16(func(_ int, _ []float32, h []uint16) error { return write(to, h) })
		}}}
	}
	scales := make([]float32, w.Shape[0])
	return []checkpoints.Named{
		{Name: w.Name, DType: checkpoints.I8, Shape: w.Shape, Write: func(to io.Writer) error {
			return of.eachRows(func(lo int, v []float32) error {
				q, err := of.quantize(scales, lo, v, "int8 needs finite weights: --dtype f32 or bf16")
				if err != nil {
					return err
				}
				return write(to, q)
			})
		}},
		{Name: w.Name + scalesOf, DType: checkpoints.F32, Shape: w.Shape[:1], Write: func(to io.Writer) error { // behind the weights
			return write(to, scales)
		}},
	}
}

// encodeHead returns the tensors that let the greedy choice pass by most of a vocabulary projection that is held in dt: its
// int8 copy, the scales of that, and how far it is off.
func encodeHead(w vae.Weight, from *checkpoints.Tensor, dt kernels.DType) []checkpoints.Named {
	of := weightOf{w, from}
	V, D := w.Shape[0], w.Shape[1]
	scales, bounds := make([]float32, V), make([]float32, 2*V)
	copyOf := func(to io.Writer, lo int, v []float32, held kernels.Buf) error {
		q, err := of.quantize(scales, lo, v, "the vocabulary head needs finite weights in every type")
		if err != nil {
			return err
		}
		n := len(v) / D
		part := make([]float32, 2*n)
		kernels.HeadBounds(part, held, kernels.Int8Of(q, scales[lo:lo+n], D), n, D)
		copy(bounds[lo:], part[:n])
		copy(bounds[V+lo:], part[n:])
		return write(to, q)
	}
	return []checkpoints.Named{
		{Name: w.Name + headOf, DType: checkpoints.I8, Shape: w.Shape, Write: func(to io.Writer) error {
			if dt == kernels.BF16 {
				return of.eachBF16(func(lo int, wide []float32, h []uint16) error {
					kernels.WidenBF16(wide, h)
					return copyOf(to, lo, wide, kernels.BF16Of(h))
				})
			}
			return of.eachRows(func(lo int, v []float32) error { return copyOf(to, lo, v, kernels.Of(v)) })
		}},
		{Name: w.Name + headOf + scalesOf, DType: checkpoints.F32, Shape: []int{V}, Write: func(to io.Writer) error {
			return write(to, scales)
		}},
		{Name: w.Name + boundsOf, DType: checkpoints.F32, Shape: []int{2, V}, Write: func(to io.Writer) error {
			return write(to, bounds)
		}},
	}
}

// eachBF16 is eachRows with the rows rounded to bfloat16 too. It returns an error where that makes a number infinite.
func (w weightOf) eachBF16(f func(lo int, v []float32, h []uint16) error) error {
	var h []uint16
	return w.eachRows(func(lo int, v []float32) error {
		if len(h) < len(v) {
			h = make([]uint16, len(v))
		}
		kernels.RoundBF16(h[:len(v)], v)
		for i, x := range h[:len(v)] {
			if x&0x7fff == 0x7f80 && !math.IsInf(float64(v[i]), 0) {
				return fmt.Errorf("tensor %q: %g is beyond bfloat16 (--dtype f32 holds it)", w.Name, v[i])
			}
		}
		return f(lo, v, h[:len(v)])
	})
}

// quantize rounds rows from lo on to int8 and sets their scales.
func (w weightOf) quantize(scales []float32, lo int, v []float32, wayOut string) ([]int8, error) {
	width := w.Shape[1]
	for i, x := range v {
		if x-x != 0 {
			return nil, fmt.Errorf("tensor %q: NaN or infinity in row %d (%s)", w.Name, lo+i/width, wayOut)
		}
	}
	q, n := make([]int8, len(v)), len(v)/width
	return q, kernels.QuantizeInt8(q, scales[lo:lo+n], v, n, width)
}

// littleEndian returns an error on a machine that puts the high byte of a number first: there, elements do not lie in memory
// as they do in the file.
func littleEndian() error {
	if binary.NativeEndian.Uint16([]byte{1, 0}) == 1 {
		return nil
	}
	return errors.New("runtime bundles need a machine that puts the low byte of a number first (use the model folder)")
}

// write writes the memory of v, which is how the file has it; see littleEndian.
func write[T float32 | uint16 | int8](to io.Writer, v []T) error {
	var z T
	_, err := to.Write(unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(v))), len(v)*int(unsafe.Sizeof(z))))
	return err
}
