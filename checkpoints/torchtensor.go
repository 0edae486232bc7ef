package checkpoints

import (
	"fmt"
	"slices"
	"strings"

	"github.com/nlpodyssey/gopickle/types"
)

// torchTensor is a tensor as a pickle describes it: a view of a storage, or one that cannot be read.
type torchTensor struct {
	s       *torchStorage
	dtype   DType
	name    string // of the type
	offset  int    // elements
	shape   []int
	strides []int // elements
	problem string
}

// PySetState takes the attributes of a Parameter, which have no meaning here.
func (*torchTensor) PySetState(any) error { return nil }

// rebuildTensor is _rebuild_tensor_v2(storage, offset, size, stride, requires_grad, hooks, metadata); the old
// _rebuild_tensor ends with stride, and metadata came with PyTorch 2.
func rebuildTensor(args []any) (any, error) {
	if len(args) < 4 {
		return nil, fmt.Errorf("tensor with %d arguments instead of 4 or more", len(args))
	}
	s, ok := args[0].(*torchStorage)
	if !ok {
		return nil, fmt.Errorf("tensor without a storage")
	}
	t, err := newTorchTensor(s, s.typ.dtype, s.typ.name, args[1], args[2], args[3])
	if err == nil && len(args) > 6 && lazy(args[6]) {
		t.problem = "its negation or conjugation is still to be done (save tensor.resolve_neg().resolve_conj())"
	}
	return t, err
}

// lazy reports whether the metadata of a tensor have a bit set by which PyTorch defers work.
func lazy(metadata any) bool {
	d, ok := metadata.(*types.Dict)
	if !ok {
		return false
	}
	for _, e := range *d {
		if set, ok := e.Value.(bool); ok && set {
			return true
		}
	}
	return false
}

// rebuildTensorV3 is for types without a storage class: it has the type in argument 6, and counts bytes in its storage.
func rebuildTensorV3(args []any) (any, error) {
	if len(args) < 7 {
		return nil, fmt.Errorf("tensor with %d arguments instead of 7 or more", len(args))
	}
	s, ok := args[0].(*torchStorage)
	if !ok {
		return nil, fmt.Errorf("tensor without a storage")
	}
	switch typ := args[6].(type) {
	case *torchType:
		return newTorchTensor(s, typ.dtype, typ.name, args[1], args[2], args[3])
	case *opaqueClass: // a type of torch that is unknown here
		return newTorchTensor(s, Unsupported, typ.name, args[1], args[2], args[3])
	}
	return nil, fmt.Errorf("tensor without a type")
}

// rebuildFromType is _rebuild_from_type_v2(function, type, arguments, state), without _v2 before PyTorch 1.10: a tensor with attributes or of a subclass.
func rebuildFromType(args []any) (any, error) {
	if len(args) >= 3 {
		f, ok1 := args[0].(types.Callable)
		a, ok2 := args[2].(*types.Tuple)
		if ok1 && ok2 {
			return f.Call(*a...)
		}
	}
	return nil, fmt.Errorf("tensor of a subclass without a function to build it")
}

// newTorchTensor checks that a view lies inside its storage.
func newTorchTensor(s *torchStorage, d DType, name string, offset, shape, strides any) (*torchTensor, error) {
	t := &torchTensor{s: s, dtype: d, name: name}
	var ok bool
	if t.offset, ok = offset.(int); !ok || t.offset < 0 {
		return nil, fmt.Errorf("tensor of storage %q: bad offset", clip(s.key))
	}
	var ok1, ok2 bool
	t.shape, ok1 = intTuple(shape)
	t.strides, ok2 = intTuple(strides)
	if !ok1 || !ok2 || len(t.shape) != len(t.strides) {
		return nil, fmt.Errorf("tensor of storage %q: bad shape or strides", clip(s.key))
	}
	switch {
	case strings.Contains(name, ".Q"):
		t.problem = "quantized tensors are not supported (save tensor.dequantize())"
	case d == Unsupported:
		t.problem = clip(name) + " is not supported (save the tensor as float32, float16 or bfloat16)"
	}
	count, ok := product(t.shape...)
	if !ok {
		return nil, fmt.Errorf("tensor of storage %q: shape %v is out of range", clip(s.key), t.shape)
	}
	if d == Unsupported || count == 0 {
		return t, nil
	}
	have := s.size / d.Size()
	last := t.offset // the largest element index, as strides are not negative
	for i, n := range t.shape {
		span, ok := product(n-1, t.strides[i])
		if !ok || span > maxInt-last {
			return nil, fmt.Errorf("tensor of storage %q: strides %v are out of range", clip(s.key), t.strides)
		}
		last += span
	}
	if last >= have {
		return nil, fmt.Errorf("tensor of storage %q with %d elements: offset %d, shape %v and strides %v reach element %d",
			clip(s.key), have, t.offset, t.shape, t.strides, last)
	}
	if _, ok := product(count, d.Size()); !ok || count > max(have, maxExpand) {
		return nil, fmt.Errorf("tensor of storage %q: shape %v expands %d elements beyond the limit of %d", clip(s.key), t.shape, have, maxExpand)
	}
	return t, nil
}

// intTuple reads a tuple of integers that are not negative.
func intTuple(v any) ([]int, bool) {
	t, ok := v.(*types.Tuple)
	if !ok || t.Len() > maxDims {
		return nil, false
	}
	ints := make([]int, t.Len())
	for i, e := range *t {
		if ints[i], ok = e.(int); !ok || ints[i] < 0 {
			return nil, false
		}
	}
	return ints, true
}

// unreadable stands for a tensor of a layout that is not supported; its shape is in the arguments at the given indices, each
// an index into what the one before gave.
func unreadable(kind string, args []any, at ...int) *torchTensor {
	t := &torchTensor{dtype: Unsupported, name: kind}
	t.problem = map[string]string{
		"sparse":    "sparse tensors are not supported (save tensor.to_dense())",
		"quantized": "quantized tensors are not supported (save tensor.dequantize())",
		"nested":    "nested tensors are not supported (save tensor.to_padded_tensor(0))",
		"meta":      "a tensor on the meta device has no data (save the model after its weights are loaded)",
	}[kind]
	if t.problem == "" {
		t.problem = "a tensor of torch._utils." + clip(kind) + " is not supported (save tensor.cpu())"
	}
	value := any((*types.Tuple)(&args))
	for _, i := range at {
		tuple, ok := value.(*types.Tuple)
		if !ok || i >= tuple.Len() {
			return t
		}
		value = tuple.Get(i)
	}
	if shape, ok := intTuple(value); ok && len(at) > 0 {
		if _, ok := product(shape...); ok {
			t.shape = shape
		}
	}
	return t
}

// tensor makes the Tensor of a view.
func (t *torchTensor) tensor(name string, m *mapping) *Tensor {
	r := &Tensor{Name: name, DType: t.dtype, TypeName: t.name, Shape: slices.Clone(t.shape), File: m.path, m: m, problem: t.problem}
	if r.Shape == nil {
		r.Shape = []int{}
	}
	if t.s == nil {
		return r
	}
	r.storage, r.sum, r.Offset = t.s.data, t.s.sum, int64(t.s.at)
	if r.Len() == 0 || t.dtype == Unsupported {
		return r
	}
	r.start = t.offset * t.dtype.Size()
	r.Offset += int64(r.start)
	r.view = axes(t.shape, t.strides)
	return r
}

// axes makes the view of a shape and its strides.
func axes(shape, strides []int) []axis {
	view := make([]axis, len(shape))
	for i, n := range shape {
		view[i] = axis{n: n, stride: strides[i]}
	}
	return joined(view)
}
