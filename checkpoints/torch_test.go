package checkpoints

import (
	"archive/zip"
	"bytes"
	"encoding/binary"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
)

func TestTorchMinimal(t *testing.T) {
	column := view{"0", 6, 1, []int64{2}, []int64{3}}
	w := open(t, put(t, "a.safetensors", torchOf(t, pickDict("w", goodView.pick(), "c", column.pick(), "tied", goodView.pick()))))
	if w.Format() != "pytorch" {
		t.Errorf("the name decided: %s", w.Format())
	}
	if !slices.EqualFunc(w.Tied(), [][]string{{"tied", "w"}}, slices.Equal) {
		t.Errorf("tied %q", w.Tied())
	}
	x, _ := w.Get("c")
	v := make([]float32, 2)
	if err := x.Float32(v); err != nil || v[0] != 1 || v[1] != 4 {
		t.Errorf("column %v %v", v, err)
	}
	raw, err := os.ReadFile(x.File)
	if err != nil || !bytes.Equal(raw[x.Offset:x.Offset+4], f32bytes([]float32{1})) {
		t.Errorf("offset %d is wrong", x.Offset)
	}
	if err := x.Float32(make([]float32, 3)); err == nil || !strings.Contains(err.Error(), "has 2 elements, the destination 3") {
		t.Errorf("wrong length: %v", err)
	}
}

// TestTiedUnsupported: tensors whose type is not supported are tied by the same rule.
func TestTiedUnsupported(t *testing.T) {
	at := func(offset int64) string {
		v := view{"0", 2, offset, []int64{1}, []int64{1}}
		return strings.Replace(v.pick(), "FloatStorage", "ComplexDoubleStorage", 1)
	}
	pickle := pickDict("a", at(0), "b", at(1), "c", at(1))
	w := open(t, put(t, "x.pt", zipOf(t, zipFile{"x/data.pkl", pickle}, zipFile{"x/data/0", times(32, "x")})))
	if !slices.EqualFunc(w.Tied(), [][]string{{"b", "c"}}, slices.Equal) {
		t.Errorf("tied %q", w.Tied())
	}
}

// TestPickleFaults feeds data.pkl that no torch.save writes. Each must be an error, quickly and without much memory.
func TestPickleFaults(t *testing.T) {
	tensor := goodView.pick()
	good := func(change func(*view)) string {
		v := goodView
		change(&v)
		return pickDict("w", v.pick())
	}
	le64 := func(n uint64) string { return string(binary.LittleEndian.AppendUint64(nil, n)) }
	for name, c := range map[string]struct{ pickle, want string }{
		"global":                  {pickDict("w", tensor, "x", "cposix\nsystem\n"+pickString("id")+"\x85R"), "refuses global posix.system"},
		"global eval":             {pickDict("x", "cbuiltins\neval\n"), "refuses global builtins.eval"},
		"global of a likely name": {pickDict("x", "ctorchevil\nx\n"), "refuses global torchevil.x"},
		"global by inst":          {pickDict("x", "("+pickString("id")+"ios\nsystem\n"), "refuses global os.system"},
		"stack global":            {pickDict("x", "\x8c\x02os\x8c\x06system\x93"), "refuses global os.system"},
		"stack global from memo":  {pickDict("x", "\x8c\x02osq\x01\x8c\x06systemq\x020"+"h\x01h\x02\x93"), "refuses global os.system"},
		"hidden stack global":     {pickDict("x", "\x8c\x02os\x8c\x06system"+"N0"+"\x93"), "refuses global os.system"},
		"global, then cut":        {"\x80\x02cposix\nsystem\nX\xff\xff", "refuses global posix.system"},
		"global, then nonsense":   {"\x80\x02cposix\nsystem\n\xff", "refuses global posix.system"},
		"reduce a string":         {pickDict("x", pickString("os.system")+")R"), "Callable"},
		"extension":               {pickDict("x", "\x82\x01"), "opcode 0x82 is not allowed"},
		"out-of-band buffer":      {pickDict("x", "\x97"), "opcode 0x97 is not allowed"},
		"opcode 0xff":             {"\x80\x02\xff.", "opcode 0xff is not allowed"},
		"no STOP":                 {"\x80\x02}", "without STOP"},
		"empty":                   {"", "without STOP"},
		"nothing on the stack":    {"\x80\x02.", "stack"},
		"protocol 200":            {"\x80\xc8}.", "protocol"},
		"LONG1 of no bytes":       {pickDict("x", "\x8a\x00"), "integer of 0 bytes"},
		"LONG4 of 2 GB":           {pickDict("x", "\x8b\xff\xff\xff\x7f"), "length of 2147483647 bytes exceeds the file"},
		"LONG4 negative":          {pickDict("x", "\x8b\xff\xff\xff\xff"), "exceeds the file"},
		"long integer":            {pickDict("x", "\x8b\xa0\x86\x01\x00"+times(100000, "x")), "integer of 100000 bytes"},
		"BINSTRING negative":      {pickDict("x", "T\xff\xff\xff\xff"), "exceeds the file"},
		"huge BINBYTES8":          {pickDict("x", "\x8e"+le64(1<<62)), "exceeds the file"},
		"huge BYTEARRAY8":         {pickDict("x", "\x96"+le64(math.MaxUint64)), "exceeds the file"},
		"huge FRAME":              {"\x80\x04\x95" + le64(1<<40) + "}.", "frame of 1099511627776 bytes"},
		"frame within an opcode":  {"\x80\x04\x95" + le64(3) + pickString("abc") + ".", "frame"},
		"odd SETITEMS":            {"\x80\x02}(Nu.", "data.pkl near"},
		"odd DICT":                {"\x80\x02(Nd.", "data.pkl near"},
		"unhashable key":          {"\x80\x02ccollections\nOrderedDict\n)RC\x01aNs.", "data.pkl near"},
		"unknown memo":            {pickDict("x", "h\x05"), "memo 5 is read before it is written"},
		"marks":                   {"\x80\x02" + times(1<<20, "("), "more than 1000 open marks"},
		"dictionaries":            {"\x80\x02" + times(16<<20, "}"), "needs more memory"},
		"sets":                    {"\x80\x04" + times(16<<20, "\x8f"), "needs more memory"},
		"entries":                 {"\x80\x02}" + times(10<<20, "K\x01Ns") + ".", "needs more memory"},
		"nested tuples":           {"\x80\x02}" + pickString("x") + "N" + times(1<<20, "\x85") + "s.", "nested more than 64 deep"},
		"nested lists":            {"\x80\x02}" + pickString("x") + times(1<<16, "]") + times(1<<16-1, "a") + "s.", "nested more than 64 deep"},
		"holds itself":            {"\x80\x02}q\x00" + pickString("x") + "h\x00s.", "nested more than 64 deep"},
		"shared 2^50 times":       {pickDict("x", "K\x01\x85"+times(50, "q\x010h\x01h\x01\x86")), "more than 4194304 values"},
		"long names":              {"\x80\x02}(" + times(10, pickString(times(5000, "n"))+tensor) + "u.", "name of 5000 bytes"},
		"two of one name":         {pickDict("w", tensor, "w", tensor), `two tensors are named "w"`},
		"path of one name":        {pickDict("a.b", tensor, "a", "}"+pickString("b")+tensor+"s"), `two tensors are named "a.b"`},
		"no tensors":              {pickDict("x", "K\x01"), "holds no tensors"},
		"missing storage":         {good(func(v *view) { v.key = "7" }), `storage "7" is missing`},
		"storage out of the zip":  {good(func(v *view) { v.key = "../data.pkl" }), "is missing"},
		"storage too long":        {good(func(v *view) { v.count = 7 }), `storage "0" has 24 bytes`},
		"storage negative":        {good(func(v *view) { v.count = -6 }), `storage "0" has 24 bytes`},
		"storage overflows":       {good(func(v *view) { v.count = 1<<62 + 6 }), `storage "0" has 24 bytes`},
		"two counts":              {pickDict("a", tensor, "b", view{"0", 5, 0, []int64{1}, []int64{1}}.pick()), "described in two ways"},
		"offset":                  {good(func(v *view) { v.offset = 1 }), "reach element 6"},
		"offset negative":         {good(func(v *view) { v.offset = -1 }), "bad offset"},
		"offset overflows":        {good(func(v *view) { v.offset = math.MaxInt64 }), "out of range"},
		"stride":                  {good(func(v *view) { v.strides = []int64{4, 1} }), "reach element 6"},
		"stride negative":         {good(func(v *view) { v.strides = []int64{-3, 1} }), "bad shape or strides"},
		"stride overflows":        {good(func(v *view) { v.strides = []int64{1 << 62, 1} }), "reach element"},
		"strides overflow":        {good(func(v *view) { v.shape, v.strides = []int64{3, 3}, []int64{1 << 61, 1 << 61} }), "out of range"},
		"shape negative":          {good(func(v *view) { v.shape = []int64{-2, -3} }), "bad shape or strides"},
		"shape overflows":         {good(func(v *view) { v.shape, v.strides = []int64{1 << 32, 1 << 32}, []int64{0, 0} }), "out of range"},
		"shape without strides":   {good(func(v *view) { v.strides = v.strides[:1] }), "bad shape or strides"},
		"expanded beyond sense":   {good(func(v *view) { v.shape, v.strides = []int64{1 << 30, 1 << 10}, []int64{0, 0} }), "expands 6 elements"},
		"65 dimensions":           {good(func(v *view) { v.shape, v.strides = make([]int64, 65), make([]int64, 65) }), "bad shape or strides"},
		"persistent id":           {pickDict("x", "K\x01Q"), "persistent id is not a storage"},
		"tensor of no storage":    {pickDict("x", "ctorch._utils\n_rebuild_tensor_v2\n(NNNNtR"), "tensor without a storage"},
		"tensor of 3 arguments":   {pickDict("x", "ctorch._utils\n_rebuild_tensor_v2\n(NNNtR"), "3 arguments"},
	} {
		t.Run(name, func(t *testing.T) {
			path := put(t, "x.pt", torchOf(t, c.pickle))
			if alloc := cost(func() { fails(t, path, c.want) }); alloc > 300<<20 {
				t.Errorf("took %d MB", alloc>>20)
			}
		})
	}
}

// cost runs f and returns the bytes it allocated. That it ends in time the limit of go test sees to.
func cost(f func()) (alloc uint64) {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// TestHarmlessGlobals: what is on the list loads, and does not hide the tensors beside it.
func TestHarmlessGlobals(t *testing.T) {
	tensor := goodView.pick()
	for name, value := range map[string]string{
		"set":             "c__builtin__\nset\n](K\x01K\x02e\x85R",
		"encode":          "c_codecs\nencode\n" + pickString("a") + pickString("latin1") + "\x86R",
		"getattr":         "cbuiltins\ngetattr\ncmmengine.x\nY\n" + pickString("mean") + "\x86R",
		"reconstructor":   "ccopy_reg\n_reconstructor\n(cargparse\nNamespace\nc__builtin__\nobject\nNtR}" + pickString("a") + "K\x01sb",
		"reconstructor 3": "ccopyreg\n_reconstructor\n(cargparse\nNamespace\ncbuiltins\nobject\nNtR}b",
		"list subclass":   "cmmengine.config\nL\n)\x81(K\x01K\x02e",
		"dict subclass":   "cmmengine.config\nConfigDict\n)\x81(" + pickString("a") + "K\x01u",
		"set subclass":    "cmmengine.config\nS\n)\x81(K\x01\x90",
		"inst":            "(iargparse\nNamespace\n}b",
		"newobj_ex":       "cargparse\nNamespace\n)}\x92",
		"slots":           "cargparse\nNamespace\n)\x81N}\x86b",
	} {
		w := open(t, put(t, "x.pt", torchOf(t, pickDict("x", value, "w", tensor))))
		if !slices.Equal(w.Names(), []string{"w"}) || !slices.Equal(w.Opaque(), []string{"x"}) {
			t.Errorf("%s: tensors %q, opaque %q", name, w.Names(), w.Opaque())
		}
	}
}

// TestZipFaults changes a good archive.
func TestZipFaults(t *testing.T) {
	pickle := pickDict("w", goodView.pick())
	good := torchOf(t, pickle)
	open(t, put(t, "good.pt", good))
	central := bytes.Index(good, []byte("PK\x01\x02"))
	change := func(at int, v ...byte) []byte {
		b := slices.Clone(good)
		copy(b[at:], v)
		return b
	}
	deflated := func(name string) []byte {
		var b bytes.Buffer
		z := zip.NewWriter(&b)
		for _, f := range []zipFile{{"x/data.pkl", pickle}, {"x/data/0", sixFloats}} {
			h := &zip.FileHeader{Name: f.name, Method: zip.Store}
			if f.name == name {
				h.Method = zip.Deflate
			}
			w, err := z.CreateHeader(h)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := w.Write([]byte(f.data)); err != nil {
				t.Fatal(err)
			}
		}
		if err := z.Close(); err != nil {
			t.Fatal(err)
		}
		return b.Bytes()
	}
	data := zipFile{"x/data/0", sixFloats}
	for name, c := range map[string]struct {
		file []byte
		want string
	}{
		"pickle damaged":      {change(bytes.Index(good, []byte("_rebuild")), 'X'), "data.pkl: not a checkpoint: checksum"},
		"name in the header":  {change(30, 'y'), "differs between the directory and its header at 0"},
		"method in header":    {change(8, 8), "differs between the directory and its header"},
		"sizes in header":     {change(18, 1, 0, 0, 0), "differs between the directory and its header"},
		"encrypted":           {change(central+8, 9), "is encrypted"},
		"deflated pickle":     {deflated("x/data.pkl"), "is compressed (re-save"},
		"deflated storage":    {deflated("x/data/0"), "is compressed (re-save"},
		"twice":               {zipOf(t, zipFile{"x/data.pkl", pickle}, data, data), "comes twice"},
		"two pickles":         {zipOf(t, zipFile{"x/data.pkl", pickle}, zipFile{"y/data.pkl", pickle}, data), "2 data.pkl"},
		"no pickle":           {zipOf(t, data), "without data.pkl"},
		"nothing":             {zipOf(t), "without data.pkl"},
		"out of the archive":  {zipOf(t, zipFile{"x/data.pkl", pickle}, data, zipFile{"x/../../etc/y", ""}), "stays in the archive"},
		"absolute":            {zipOf(t, zipFile{"x/data.pkl", pickle}, data, zipFile{"/etc/y", ""}), "stays in the archive"},
		"backslash":           {zipOf(t, zipFile{"x/data.pkl", pickle}, data, zipFile{`x\y`, ""}), "stays in the archive"},
		"big-endian":          {zipOf(t, zipFile{"x/data.pkl", pickle}, zipFile{"x/byteorder", "big"}, data), `byte order is "big"`},
		"cut":                 {good[:len(good)-1], "without its directory"},
		"cut in the middle":   {good[:len(good)/2], "without its directory"},
		"something behind":    {append(slices.Clone(good), "x"...), "without its directory"},
		"something in front":  {append([]byte("MZ"), good...), "neither safetensors nor PyTorch"},
		"directory elsewhere": {change(len(good)-6, 0, 0, 0, 0), "zip directory of"},
		"number of entries":   {change(len(good)-14, 9, 0, 9, 0), "its end says 9"},
		"header elsewhere":    {change(central+42, 1), "has no header at 1"},
		"size beyond":         {change(central+20, 0xff, 0xff, 0xff, 0x7f, 0xff, 0xff, 0xff, 0x7f), "ends after the file"},
		"two sizes":           {change(central+20, 1), "two sizes"},
		"overlap":             {change(central+20, 0xb0, 1, 0, 0, 0xb0, 1, 0, 0), "overlap"},
	} {
		t.Run(name, func(t *testing.T) { fails(t, put(t, "x.pt", c.file), c.want) })
	}
}

// TestZipBomb: data.pkl larger than the limit is refused by its size. The file is sparse.
func TestZipBomb(t *testing.T) {
	path := filepath.Join(t.TempDir(), "bomb.pt")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z := zip.NewWriter(f)
	w, err := z.CreateHeader(&zip.FileHeader{Name: "x/data.pkl", Method: zip.Store})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(make([]byte, maxPickle+1)); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	if alloc := cost(func() { fails(t, path, "data.pkl of 67108865 bytes exceeds the limit") }); alloc > 1<<20 {
		t.Errorf("allocated %d bytes", alloc)
	}
}

// TestStorageDamaged: a flipped byte in a storage is seen when the storage is read, by every tensor of it.
func TestStorageDamaged(t *testing.T) {
	b := torchOf(t, pickDict("w", goodView.pick(), "v", view{"0", 6, 0, []int64{1}, []int64{1}}.pick()))
	b[bytes.Index(b, []byte(sixFloats))+23] ^= 1
	w := open(t, put(t, "x.pt", b))
	for _, name := range []string{"w", "v"} {
		x, _ := w.Get(name)
		if err := x.Float32(make([]float32, x.Len())); err == nil || !strings.Contains(err.Error(), "the file is damaged") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestStorageStreamed: a storage that is written on as a whole is summed up on the way. The error comes at its end, and stays;
// a write that failed before says nothing about the storage.
func TestStorageStreamed(t *testing.T) {
	good := torchOf(t, pickDict("w", goodView.pick()))
	bad := slices.Clone(good)
	bad[bytes.Index(bad, []byte(sixFloats))+23] ^= 1
	for _, b := range [][]byte{good, bad} {
		x, _ := open(t, put(t, "x.pt", b)).Get("w")
		var out bytes.Buffer
		if err := FromTensor(x).Write(failing{}); err == nil || !strings.Contains(err.Error(), "disk full") {
			t.Errorf("full disk: %v", err)
		}
		for range 2 {
			out.Reset()
			err := FromTensor(x).Write(&out)
			if bytes.Equal(b, good) {
				if err != nil || out.String() != sixFloats {
					t.Errorf("%x %v", out.Bytes(), err)
				}
			} else if err == nil || !strings.Contains(err.Error(), "the file is damaged") || !strings.Contains(err.Error(), `tensor "w"`) {
				t.Errorf("damaged: %v", err)
			}
		}
		if _, err := x.Raw(); (err == nil) != bytes.Equal(b, good) {
			t.Errorf("read afterwards: %v", err)
		}
	}
}

// TestShrunk: a file that is cut while it is mapped is an error, not a crash.
func TestShrunk(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("how a cut mapping behaves differs")
	}
	path := put(t, "x.safetensors", stOf("{"+stEntry("w", "F32", "[65536]", 0, 4*65536)+"}", 4*65536))
	w := open(t, path)
	if err := os.Truncate(path, 100); err != nil {
		t.Fatal(err)
	}
	x, _ := w.Get("w")
	if err := x.Float32(make([]float32, x.Len())); err == nil || !strings.Contains(err.Error(), "changed or became unreadable") {
		t.Errorf("cut file: %v", err)
	}
}

func TestClosed(t *testing.T) {
	w := open(t, "testdata/views.pt")
	x, _ := w.Get("sliced")
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := x.Float32(make([]float32, x.Len())); err == nil || !strings.Contains(err.Error(), "closed") {
		t.Errorf("read after Close: %v", err)
	}
}
