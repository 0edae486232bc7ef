package checkpoints

import (
	"fmt"
	"strings"

	"github.com/nlpodyssey/gopickle/types"
)

// The allow-list of pickle globals. Nothing here runs code: what has a meaning for weights is built in Go, everything else
// becomes an opaque value. The list only keeps a file that wants more from being taken for a checkpoint.

// opaquePackages are the Python packages whose every global is admitted.
var opaquePackages = map[string]bool{
	"torch": true, "numpy": true, "collections": true, "argparse": true, "mmengine": true, "mmcv": true, "omegaconf": true,
}

// harmless are the other admitted globals, under the names of Python 3 and of Python 2, which protocol 2 writes.
var harmless = func() map[string]bool {
	m := map[string]bool{
		"_codecs.encode": true, "copyreg._reconstructor": true, "copyreg.__newobj__": true, "copy_reg._reconstructor": true,
		"copy_reg.__newobj__": true,
	}
	// getattr comes with objects of mmengine, as (class, "method").
	for _, name := range strings.Fields("set frozenset bytearray complex slice range list dict tuple int float bool str bytes object getattr Ellipsis NotImplemented") {
		m["builtins."+name] = true
		m["__builtin__."+name] = true
	}
	for _, name := range strings.Fields("xrange long unicode") {
		m["__builtin__."+name] = true
	}
	for _, name := range strings.Fields(`datetime.datetime datetime.date datetime.time datetime.timedelta datetime.timezone
		decimal.Decimal fractions.Fraction uuid.UUID types.SimpleNamespace typing.Any typing.Union
		pathlib.Path pathlib.PosixPath pathlib.WindowsPath pathlib.PurePath pathlib.PurePosixPath pathlib.PureWindowsPath
		pathlib._local.PosixPath pathlib._local.WindowsPath pathlib._local.PurePosixPath pathlib._local.PureWindowsPath`) {
		m[name] = true
	}
	return m
}()

// admitGlobal refuses, by name, each global that is not on the list.
func admitGlobal(module, name string) error {
	root, _, _ := strings.Cut(module, ".")
	if opaquePackages[root] || harmless[module+"."+name] {
		return nil
	}
	return fmt.Errorf("refuses global %s.%s (only weights are loaded: re-save model.state_dict() alone)", clip(module), clip(name))
}

// findClass returns what a global of the allow-list stands for.
func findClass(module, name string) (any, error) {
	if err := admitGlobal(module, name); err != nil {
		return nil, err
	}
	full := module + "." + name
	switch full {
	case "torch._utils._rebuild_tensor_v2", "torch._utils._rebuild_tensor":
		return function(rebuildTensor), nil
	case "torch._utils._rebuild_tensor_v3":
		return function(rebuildTensorV3), nil
	case "torch._utils._rebuild_parameter", "torch._utils._rebuild_parameter_with_state", "torch.Size",
		"torch._utils._rebuild_device_tensor_from_cpu_tensor":
		return function(firstArgument), nil
	case "torch._tensor._rebuild_from_type_v2", "torch._tensor._rebuild_from_type", "torch.tensor._rebuild_from_type":
		return function(rebuildFromType), nil
	case "torch._utils._rebuild_sparse_tensor":
		return function(func(args []any) (any, error) { return unreadable("sparse", args, 1, 2), nil }), nil
	case "torch._utils._rebuild_qtensor":
		return function(func(args []any) (any, error) { return unreadable("quantized", args, 2), nil }), nil
	case "torch._utils._rebuild_nested_tensor":
		return function(func(args []any) (any, error) { return unreadable("nested", args), nil }), nil
	case "torch._utils._rebuild_meta_tensor_no_storage":
		return function(func(args []any) (any, error) { return unreadable("meta", args, 1), nil }), nil
	}
	if module == "torch._utils" && strings.HasPrefix(name, "_rebuild_") {
		return function(func(args []any) (any, error) { return unreadable(name, args), nil }), nil
	}
	switch full {
	case "collections.OrderedDict", "collections.defaultdict":
		return &dictClass{}, nil
	case "copyreg._reconstructor":
		return &types.Reconstructor{}, nil
	case "builtins.object":
		return &types.ObjectClass{}, nil
	}
	if module == "torch" || module == "torch.storage" || module == "torch.cuda" {
		if d, ok := storageTypes[name]; ok {
			full = strings.Replace(full, "torch.cuda.", "torch.", 1)
			return &storageType{name: full, dtype: d, width: max(d.Size(), storageWidths[name])}, nil
		}
		if d, ok := torchTypes[name]; ok && module == "torch" {
			return &torchType{name: full, dtype: d}, nil
		}
	}
	return &opaqueClass{full}, nil
}

// A function is a global that builds a value which matters.
type function func(args []any) (any, error)

func (f function) Call(args ...any) (any, error) { return f(args) }

// PyNew makes torch.Size a class, as NEWOBJ wants.
func (f function) PyNew(args ...any) (any, error) { return f(args) }

// firstArgument is for wrappers that add nothing: Parameter, Size.
func firstArgument(args []any) (any, error) {
	if len(args) == 0 {
		return nil, fmt.Errorf("call without arguments")
	}
	return args[0], nil
}

// A dictClass makes a dictionary, whatever its arguments (a defaultdict has a factory, which is never called).
type dictClass struct{}

func (*dictClass) Call(...any) (any, error)  { return types.NewOrderedDict(), nil }
func (*dictClass) PyNew(...any) (any, error) { return types.NewOrderedDict(), nil }

// An opaqueClass is a global without meaning here. What it makes is skipped.
type opaqueClass struct{ name string }

func (c *opaqueClass) Call(...any) (any, error)  { return &opaque{c.name}, nil }
func (c *opaqueClass) PyNew(...any) (any, error) { return &opaque{c.name}, nil }

// An opaque takes whatever a pickle does to a value, and keeps none of it.
type opaque struct{ class string }

func (*opaque) PySetState(any) error        { return nil }
func (*opaque) Set(_, _ any)                {}
func (*opaque) Append(any)                  {}
func (*opaque) Add(any)                     {}
func (o *opaque) Call(...any) (any, error)  { return o, nil }
func (o *opaque) PyNew(...any) (any, error) { return o, nil }

// storageTypes maps torch's storage classes to types.
var storageTypes = map[string]DType{
	"FloatStorage": F32, "HalfStorage": F16, "BFloat16Storage": BF16, "DoubleStorage": F64,
	"LongStorage": I64, "IntStorage": I32, "ShortStorage": I16, "CharStorage": I8, "ByteStorage": U8, "BoolStorage": Bool,
	"ComplexFloatStorage": C64, "UntypedStorage": U8,
	"ComplexDoubleStorage": Unsupported, "QInt8Storage": I8, "QUInt8Storage": U8, "QInt32Storage": I32,
	"QUInt4x2Storage": U8, "QUInt2x4Storage": U8,
}

// storageWidths holds the bytes of an element of the classes whose type is unsupported.
var storageWidths = map[string]int{"ComplexDoubleStorage": 16}

// torchTypes maps torch's element types to ours.
var torchTypes = map[string]DType{
	"float32": F32, "float": F32, "float16": F16, "half": F16, "bfloat16": BF16, "float64": F64, "double": F64,
	"int64": I64, "int32": I32, "int16": I16, "int8": I8, "uint8": U8, "bool": Bool,
	"uint64": U64, "uint32": U32, "uint16": U16, "complex64": C64,
	"float8_e4m3fn": F8E4M3, "float8_e5m2": F8E5M2, "float8_e8m0fnu": F8E8M0,
	"float8_e4m3fnuz": F8E4M3FNUZ, "float8_e5m2fnuz": F8E5M2FNUZ,
	"complex128": Unsupported, "complex32": Unsupported,
}

// storageType is a storage class, torchType an element type.
type (
	storageType struct {
		name  string
		dtype DType
		width int // bytes of an element
	}
	torchType struct {
		name  string
		dtype DType
	}
)
