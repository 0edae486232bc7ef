package checkpoints

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// legacyHead is the number, the version and the facts that a legacy file begins with.
var legacyHead = "\x80\x02" + legacyMagic + "\x80\x02M\xe9\x03.\x80\x02}."

// A legacyPart is one storage as a legacy file ends with it.
type legacyPart struct {
	count int64
	data  string
}

// legacyOf makes a legacy file of a pickle and storages, whose keys are 0, 1, ...
func legacyOf(pickle string, parts ...legacyPart) []byte {
	keys := "\x80\x02]("
	for i := range parts {
		keys += pickString(fmt.Sprint(i))
	}
	return legacyWith(pickle, keys+"e.", parts...)
}

func legacyWith(pickle, keys string, parts ...legacyPart) []byte {
	s := legacyHead + pickle + keys
	for _, p := range parts {
		s += string(binary.LittleEndian.AppendUint64(nil, uint64(p.count))) + p.data
	}
	return []byte(s)
}

// legacyPick gives the opcodes of a tensor over a view of storage 0, as PyTorch up to 0.4 wrote it.
func legacyPick(root int64, key string, offset, count int64, shape, strides []int64) string {
	return "ctorch._utils\n_rebuild_tensor\n(" +
		"(" + pickString("storage") + "ctorch.cuda\nFloatStorage\n" + pickString("0") + pickString("cuda:0") + pickInt(root) +
		"(" + pickString(key) + pickInt(offset) + pickInt(count) + "ttQ" + pickInt(0) + pickInts(shape) + pickInts(strides) + "tR"
}

func TestLegacyMinimal(t *testing.T) {
	six := legacyPart{6, sixFloats}
	row := legacyPick(6, "9", 2, 3, []int64{3}, []int64{1})
	column := view{"0", 6, 1, []int64{2}, []int64{3}}
	pickle := pickDict("w", legacyPick(6, "8", 0, 6, []int64{2, 3}, []int64{3, 1}), "row", row, "again", row,
		"tied", view{"0", 6, 2, []int64{3}, []int64{1}}.pick(), "column", column.pick())
	w := open(t, put(t, "a.safetensors", legacyOf(pickle, six)))
	if w.Format() != "pytorch-legacy" {
		t.Errorf("format %s", w.Format())
	}
	if !slices.EqualFunc(w.Tied(), [][]string{{"again", "row", "tied"}}, slices.Equal) {
		t.Errorf("tied %q", w.Tied())
	}
	for name, want := range map[string][]float32{
		"w": {0, 1, 2, 3, 4, 5}, "row": {2, 3, 4}, "again": {2, 3, 4}, "tied": {2, 3, 4}, "column": {1, 4},
	} {
		x, ok := w.Get(name)
		if !ok {
			t.Fatalf("no tensor %q", name)
		}
		v := make([]float32, x.Len())
		if err := x.Float32(v); err != nil || !slices.Equal(v, want) {
			t.Errorf("%s: %v %v, want %v", name, v, err, want)
		}
		raw, err := os.ReadFile(x.File)
		if err != nil || !bytes.Equal(raw[x.Offset:x.Offset+4], f32bytes(want[:1])) {
			t.Errorf("%s: offset %d is wrong", name, x.Offset)
		}
	}
}

// TestLegacyFaults feeds files that no torch.save writes. Each must be an error, quickly and without much memory.
func TestLegacyFaults(t *testing.T) {
	six := legacyPart{6, sixFloats}
	good := pickDict("w", goodView.pick())
	at := len(legacyOf(good)) + len(pickString("0")) // where the storage begins
	pick := func(change func(*view)) string {
		v := goodView
		change(&v)
		return pickDict("w", v.pick())
	}
	old := func(root int64, key string, offset, count int64) string {
		return legacyPick(root, key, offset, count, []int64{count}, []int64{1})
	}
	keys := func(opcodes string) []byte { return legacyWith(good, "\x80\x02"+opcodes+".", six) }
	head := func(from, to string) []byte {
		return []byte(strings.Replace(string(legacyOf(good, six)), from, to, 1))
	}
	for name, c := range map[string]struct {
		file []byte
		want string
	}{
		"global":                  {legacyOf(pickDict("w", goodView.pick(), "x", "cposix\nsystem\n"+pickString("id")+"\x85R"), six), "refuses global posix.system"},
		"global in the facts":     {head("\x80\x02}.", "\x80\x02cposix\nsystem\n)R."), "pickle at 23: refuses global posix.system"},
		"global in the keys":      {keys("cos\nsystem\n)R"), "refuses global os.system"},
		"global, then cut":        {[]byte(legacyHead + "\x80\x02cposix\nsystem\nX\xff\xff"), "refuses global posix.system"},
		"another number":          {head("\x50\x19.", "\x50\x1a."), "a bare pickle"},
		"another number in text":  {[]byte(legacyMagicText[:20]), "neither safetensors"},
		"a larger number":         {head("\x8a\x0a\x6c", "\x8a\x0a\x6c"+legacyMagic), "a bare pickle"},
		"version":                 {head("M\xe9\x03", "M\xea\x03"), "legacy PyTorch file of version 1002 instead of 1001"},
		"version of no number":    {head("M\xe9\x03", "N"), "version 0 instead of 1001"},
		"only the number":         {[]byte("\x80\x02" + legacyMagic), "pickle ends at 15 without STOP"},
		"only the head":           {[]byte(legacyHead), "pickle ends at 25 without STOP"},
		"no keys":                 {[]byte(legacyHead + good), "without STOP"},
		"keys not a list":         {keys("K\x00"), "the keys of the storages are not a list"},
		"key of no tensor":        {keys("](" + pickString("0") + pickString("1") + "e"), `storage "1" is listed twice or belongs to no tensor`},
		"key twice":               {keys("](" + pickString("0") + pickString("0") + "e"), `storage "0" is listed twice`},
		"key not a string":        {keys("](K\x00e"), `storage "0" is listed twice or belongs to no tensor`},
		"key missing":             {keys("]"), `storage "0" is missing from the file`},
		"storage in the facts":    {head("\x80\x02}.", "\x80\x02K\x01Q."), "persistent id outside of the value"},
		"count too small":         {legacyOf(good, legacyPart{5, sixFloats}), fmt.Sprintf(`storage "0" at %d has 5 elements, the pickle says 6`, at)},
		"count negative":          {legacyOf(good, legacyPart{-6, sixFloats}), "has 18446744073709551610 elements"},
		"count huge":              {legacyOf(good, legacyPart{math.MaxInt64, sixFloats}), "the pickle says 6"},
		"data cut":                {legacyOf(good, legacyPart{6, sixFloats[:23]}), fmt.Sprintf(`storage "0" of 24 bytes at %d ends after the file: it is cut`, at)},
		"count cut":               {legacyOf(good, six)[:at+7], "ends after the file: it is cut"},
		"data behind":             {append(legacyOf(good, six), 0), fmt.Sprintf("1 bytes follow the last storage at %d", at+32)},
		"declared too large":      {legacyOf(pick(func(v *view) { v.count = 1 << 40 }), six), `storage "0" of 1099511627776 elements of torch.FloatStorage exceeds the file`},
		"declared negative":       {legacyOf(pick(func(v *view) { v.count = -1 }), six), "exceeds the file"},
		"declared overflows":      {legacyOf(pick(func(v *view) { v.count = 1 << 62 }), six), "exceeds the file"},
		"two counts":              {legacyOf(pickDict("a", goodView.pick(), "b", view{"0", 5, 0, []int64{1}, []int64{1}}.pick()), six), "described in two ways"},
		"offset":                  {legacyOf(pick(func(v *view) { v.offset = 1 }), six), "reach element 6"},
		"stride negative":         {legacyOf(pick(func(v *view) { v.strides = []int64{-3, 1} }), six), "bad shape or strides"},
		"shape overflows":         {legacyOf(pick(func(v *view) { v.shape, v.strides = []int64{1 << 32, 1 << 32}, []int64{0, 0} }), six), "out of range"},
		"view behind the end":     {legacyOf(pickDict("w", old(6, "9", 4, 3)), six), `storage "0" of 6 elements: its view`},
		"view negative":           {legacyOf(pickDict("w", old(6, "9", -1, 3)), six), "lies outside"},
		"view overflows":          {legacyOf(pickDict("w", old(6, "9", math.MaxInt64, math.MaxInt64)), six), "lies outside"},
		"view in two ways":        {legacyOf(pickDict("a", old(6, "9", 0, 3), "b", old(6, "9", 1, 3)), six), `view "9" of storage "0" is described in two ways`},
		"view of nothing":         {legacyOf(strings.Replace(pickDict("w", old(6, "9", 0, 3)), pickString("9"), "N", 1), six), "lies outside"},
		"view not a tuple":        {legacyOf(strings.Replace(good, pickInt(6)+"tQ", pickInt(6)+"K\x01tQ", 1), six), "is not (key, offset, size)"},
		"module of no class":      {legacyOf(pickDict("x", "("+pickString("module")+"NNNtQ"), six), "persistent id is not a storage"},
		"dictionaries":            {legacyOf("\x80\x02"+times(16<<20, "}"), six), "needs more memory"},
		"pickle beyond the limit": {[]byte(legacyHead + "\x80\x02}0" + times(65<<10, "X\x00\x04\x00\x00"+times(1<<10, "x")+"0")), "pickle at 25 exceeds the limit of 67108864 bytes"},
		"costs add up":            {legacyWith("\x80\x02}"+times(5<<20, "}0")+".", "\x80\x02"+times(5<<20, "}0")+"].", six), "needs more memory"},
	} {
		t.Run(name, func(t *testing.T) {
			path := put(t, "x.pt", c.file)
			alloc := cost(func() { fails(t, path, c.want) })
			if alloc > 2<<30 {
				t.Errorf("took %d MB", alloc>>20)
			}
		})
	}
}

// TestLegacyCut: a file that lost its end is refused, wherever it was cut.
func TestLegacyCut(t *testing.T) {
	for _, file := range []string{"legacy-dtypes.pt", "legacy-views.pt", "legacy-nested5.pt"} {
		b, err := os.ReadFile(filepath.Join("testdata", file))
		if err != nil {
			t.Fatal(err)
		}
		for _, lost := range []int{1, 4, 8, 100, 500, 1000, len(b) / 2, len(b) - 40} {
			want := ""
			if lost <= 8 { // within the data, and not within the pickle
				want = "it is cut (copy it again)"
			}
			fails(t, put(t, "x.pt", b[:len(b)-lost]), want)
		}
		for n := 16; n < len(b); n += 7 {
			m := &mapping{path: "x", data: b[:n], unmap: func() error { return nil }}
			if _, err := openMapped(m); err == nil {
				t.Fatalf("%s: opened with %d of %d bytes", file, n, len(b))
			}
		}
	}
}

// TestLegacyLazy: what opening costs does not grow with the data. The file is sparse.
func TestLegacyLazy(t *testing.T) {
	const n = 125_000_000
	path := put(t, "x.pt", legacyOf(pickDict("w", view{"0", n, 0, []int64{n}, []int64{1}}.pick()), legacyPart{count: n}))
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, info.Size()+4*n); err != nil {
		t.Skip(err)
	}
	alloc := cost(func() { open(t, path) })
	if alloc > 1<<20 {
		t.Errorf("opening took %d bytes", alloc)
	}
}

// TestGopickleFiles opens what gopickle tests itself with: each type, protocol and both formats. The files lie in the module
// cache.
func TestGopickleFiles(t *testing.T) {
	dir, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/nlpodyssey/gopickle").Output()
	if err != nil {
		t.Skip(err)
	}
	files, err := filepath.Glob(filepath.Join(strings.TrimSpace(string(dir)), "pytorch", "testdata", "tensor_*_proto*.pt"))
	if err != nil || len(files) == 0 {
		t.Skip("no files", err)
	}
	want := map[string][]float32{
		"float32": {1.2, -3.4, 5.6, -7.8}, "float64": {1.2, -3.4, 5.6, -7.8}, "uint8": {1, 10, 100, 255}, "bool": {1, 0, 1, 0},
		"float16": {1.2001953, -3.4003906, 5.6015625, -7.8007812}, "bfloat16": {1.203125, -3.40625, 5.59375, -7.8125},
		"int8": {1, -2, 3, -4}, "int16": {1, -2, 3, -4}, "int32": {1, -2, 3, -4}, "int64": {1, -2, 3, -4},
	}
	seen := map[string]int{}
	for _, file := range files {
		w := open(t, file)
		kind, _, _ := strings.Cut(strings.TrimPrefix(filepath.Base(file), "tensor_"), "_")
		x, ok := w.Get("tensor")
		if !ok || x.DType != torchNames[kind] || x.Len() != 4 {
			t.Errorf("%s: %q", file, w.Names())
			continue
		}
		v := make([]float32, 4)
		if err := x.Float32(v); err != nil || !slices.Equal(v, want[kind]) {
			t.Errorf("%s: %v %v, want %v", file, v, err, want[kind])
		}
		seen[w.Format()]++
	}
	if seen["pytorch"] != 50 || seen["pytorch-legacy"] != 50 {
		t.Errorf("opened %v", seen)
	}
}
