package checkpoints

import (
	"bytes"
	"encoding/binary"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// A fault is a file that must be refused with one line that says want, without much memory or time.
type fault struct {
	name string
	file []byte
	want string
}

// TestFaults holds one test or more for each kind of attack and damage that has been seen on model files, by number: 1 to 3
// and 7 pickles that want to run or to exhaust, 4 names that lie, 5 and 6 zip files, 8 and 9 tensors that reach out of their
// storage or are of no plain layout, 10 to 12 safetensors headers, 13 an index, 16 numbers that are none. The tests of each
// reader have many more.
func TestFaults(t *testing.T) {
	// inBoth puts a pickle into a zip file and into a legacy file, with storage 0 of six numbers.
	inBoth := func(name, pickle, want string) []fault {
		return []fault{
			{name + " in a zip", torchOf(t, pickle), want},
			{name + " in a legacy file", legacyOf(pickle, legacyPart{6, sixFloats}), want},
		}
	}
	tensor := goodView.pick()
	good := pickDict("w", tensor)
	viewed := func(change func(*view)) string {
		v := goodView
		change(&v)
		return pickDict("w", v.pick())
	}
	call := func(global, args string) string { return pickDict("w", tensor, "x", global+args+"R") }
	st := func(entry string, n int) []byte { return stOf(`{"w":{`+entry+`}}`, n) }
	for number, faults := range map[string][]fault{
		"01": slices.Concat(
			inBoth("os.system", call("cos\nsystem\n", pickString("touch pwned")+"\x85"), "refuses global os.system"),
			inBoth("eval", call("cbuiltins\neval\n", pickString("1")+"\x85"), "refuses global builtins.eval"),
			inBoth("unknown class", call("cnobody\nKnows\n", ")"), "refuses global nobody.Knows"),
			inBoth("by name from the stack", call(pickString("subprocess")+pickString("Popen")+"\x93", ")"), "refuses global subprocess.Popen"),
			inBoth("call of a string", call(pickString("os.system"), ")"), "Callable"),
			inBoth("call of a tensor", call(tensor, ")"), "Callable"),
		),
		"02": { // what a laxer reader would take after the refusal
			{"zip with safetensors inside", zipOf(t, zipFile{"x/data.pkl", call("cos\nsystem\n", ")")}, zipFile{"x/data/0", sixFloats},
				zipFile{"model.safetensors", string(stOf("{}", 0))}), "refuses global os.system"},
			{"legacy file with a good zip behind", append(legacyOf(call("cos\nsystem\n", ")"), legacyPart{6, sixFloats}), torchOf(t, good)...), "refuses global os.system"},
			{"damaged zip with a good legacy file inside", slices.Concat([]byte("PK\x03\x04"), legacyOf(good, legacyPart{6, sixFloats})), "zip file without its directory"},
		},
		"03": slices.Concat(
			inBoth("global, then an unknown opcode", "\x80\x02cos\nsystem\n"+pickString("touch pwned")+"\x85R\xff", "refuses global os.system"),
			inBoth("global, then the end", "\x80\x02cos\nsystem\n"+pickString("touch pwned")+"\x85R", "refuses global os.system"),
			inBoth("unknown opcode first", "\x80\x02\xffcos\nsystem\n.", "opcode 0xff is not allowed"),
		),
		"04": {
			{"bare pickle", []byte(good), "a bare pickle, not a PyTorch zip file"},
			{"bare pickle that wants to run", []byte("\x80\x02cos\nsystem\n."), "a bare pickle"},
			{"web page", []byte("<!DOCTYPE html>"), "a web page"},
		},
		"05": {
			{"sum of data.pkl", replaced(torchOf(t, good), "_rebuild", "_Rebuild"), "data.pkl: not a checkpoint: checksum"},
			{"local name", replaced(torchOf(t, good), "x/data/0", "x/data/1"), "differs between the directory and its header"},
			{"entry twice", zipOf(t, zipFile{"x/data.pkl", good}, zipFile{"x/data/0", sixFloats}, zipFile{"x/data/0", sixFloats}), "comes twice"},
			{"entry above the archive", zipOf(t, zipFile{"x/data.pkl", good}, zipFile{"x/data/0", sixFloats}, zipFile{"../y", ""}), "stays in the archive"},
		},
		"06": {
			{"deflated data.pkl of 100 GB", hugeZip(good, 100<<30), `zip entry "x/data.pkl" is compressed`},
			{"stored data.pkl of 100 GB", hugeStored(good, 100<<30), "ends after the file"},
		},
		"07": slices.Concat(
			inBoth("nested tuples", "\x80\x02}"+pickString("w")+tensor+"s"+pickString("x")+"N"+times(1<<20, "\x85")+"s.", "nested more than 64 deep"),
			inBoth("shared 2^50 times", pickDict("w", tensor, "x", "K\x01\x85"+times(50, "q\x010h\x01h\x01\x86")), "more than 4194304 values"),
			inBoth("LONG4 of 2 GB", pickDict("x", "\x8b\xff\xff\xff\x7f"), "length of 2147483647 bytes exceeds the file"),
			inBoth("LONG4 of a negative length", pickDict("x", "\x8b\xfe\xff\xff\xff"), "exceeds the file"),
			inBoth("ten million entries", "\x80\x02}"+times(10<<20, "K\x01Ns")+".", "needs more memory"),
			inBoth("a million marks", "\x80\x02"+times(1<<20, "("), "more than 1000 open marks"),
		),
		"08": slices.Concat(
			inBoth("offset", viewed(func(v *view) { v.offset = 1 }), "reach element 6"),
			inBoth("stride", viewed(func(v *view) { v.strides = []int64{4, 1} }), "reach element 6"),
			inBoth("negative stride", viewed(func(v *view) { v.strides = []int64{-3, 1} }), "bad shape or strides"),
			inBoth("numel beyond int64", viewed(func(v *view) { v.shape, v.strides = []int64{1 << 32, 1 << 32}, []int64{0, 0} }), "out of range"),
			inBoth("storage longer than its data", viewed(func(v *view) { v.count = 7 }), `storage "0"`),
		),
		"10": {
			{"header of 0", st8(0, "{}"), "header of 0 bytes"},
			{"header of 7", st8(7, "{}     "), "header of 7 bytes"},
			{"header of 2^63", st8(1<<63, "{}"), "exceeds the limit of 104857600"},
			{"header of -1", st8(math.MaxUint64, "{}"), "exceeds the limit of 104857600"},
			{"header beyond the file", st8(100, "{}"), "the file is cut"},
			{"header beyond 100 MB", st8(maxHeader+1, "{}"), "exceeds the limit of 104857600"},
		},
		"11": {
			{"no offsets", st(`"dtype":"F32","shape":[2],"data_offsets":[]`, 8), "are not a range"},
			{"one offset", st(`"dtype":"F32","shape":[2],"data_offsets":[1]`, 8), "are not a range"},
			{"backwards", st(`"dtype":"F32","shape":[2],"data_offsets":[5,3]`, 8), "are not a range"},
			{"overlap", stOf("{"+stEntry("a", "F32", "[2]", 0, 8)+","+stEntry("b", "F32", "[2]", 4, 12)+"}", 12), "overlaps"},
			{"hole", stOf("{"+stEntry("a", "F32", "[1]", 0, 4)+","+stEntry("b", "F32", "[1]", 8, 12)+"}", 12), "hole of 4 bytes"},
			{"past the end", stOf("{"+stEntry("a", "F32", "[3]", 0, 12)+"}", 8), "it is cut"},
			{"zip behind", append(stOf("{"+stEntry("a", "F32", "[2]", 0, 8)+"}", 8), torchOf(t, good)...), "bytes follow the last tensor"},
		},
		"12": {
			{"shape", st(`"dtype":"F32","shape":[3],"data_offsets":[0,8]`, 8), "needs 12 bytes, data_offsets give 8"},
			{"shape beyond int64", st(`"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,8]`, 8), "out of range"},
			{"key twice", stOf("{"+stEntry("a", "F32", "[2]", 0, 8)+","+stEntry("a", "F32", "[2]", 0, 8)+"}", 8), `key "a" comes twice`},
		},
	} {
		for _, f := range faults {
			t.Run(number+" "+f.name, func(t *testing.T) {
				name := map[bool]string{true: "pytorch_model.bin", false: "model.safetensors"}[number < "10" && number != "04"]
				path := put(t, name, f.file)
				if alloc := cost(func() { fails(t, path, f.want) }); alloc > 300<<20 {
					t.Errorf("took %d MB", alloc>>20)
				}
			})
		}
	}
	if _, err := os.Stat("pwned"); err == nil {
		t.Fatal("a pickle was executed")
	}
	t.Run("04 a zip named .safetensors", func(t *testing.T) {
		if w := open(t, put(t, "model.safetensors", torchOf(t, good))); w.Format() != "pytorch" {
			t.Errorf("read as %s", w.Format())
		}
	})
	t.Run("05 sum of a storage", func(t *testing.T) {
		w := open(t, put(t, "x.pt", replaced(torchOf(t, good), sixFloats[:20], sixFloats[4:24])))
		x, _ := w.Get("w")
		if _, err := x.Raw(); err == nil || !strings.Contains(err.Error(), "the file is damaged") {
			t.Errorf("read with %v", err)
		}
	})
	t.Run("08 tied", func(t *testing.T) {
		for _, f := range inBoth("tied", pickDict("a", tensor, "b", tensor), "") {
			if w := open(t, put(t, "x.pt", f.file)); len(w.Names()) != 2 || len(w.Tied()) != 1 {
				t.Errorf("%s: %q, tied %q", f.name, w.Names(), w.Tied())
			}
		}
	})
	t.Run("09 sparse, quantized, complex", func(t *testing.T) {
		sparse := "ctorch._utils\n_rebuild_sparse_tensor\n(N(" + tensor + tensor + pickInts([]int64{3, 3}) + "ttR"
		quantized := "ctorch._utils\n_rebuild_qtensor\n(NK\x00" + pickInts([]int64{2}) + "NNNNtR"
		for _, f := range inBoth("", pickDict("w", tensor, "s", sparse, "q", quantized), "") {
			w := open(t, put(t, "x.pt", f.file))
			for name, want := range map[string]string{"s": "sparse tensors are not supported", "q": "quantized tensors are not supported"} {
				if x, ok := w.Get(name); !ok || !slices.Contains([]int{1, 2}, len(x.Shape)) || x.Float32(make([]float32, x.Len())) == nil ||
					!strings.Contains(x.Float32(nil).Error(), want) {
					t.Errorf("%s%s: %v", f.name, name, x)
				}
			}
			if x, _ := w.Get("w"); x.Float32(make([]float32, 6)) != nil {
				t.Errorf("%s: the tensor beside them does not load", f.name)
			}
		}
		w := open(t, "testdata/dtypes.pt")
		if x, _ := w.Get("c64"); x.Float32(make([]float32, x.Len())) == nil {
			t.Error("a complex tensor became real")
		}
	})
	t.Run("12 unknown type", func(t *testing.T) {
		w := open(t, put(t, "x", st(`"dtype":"Q9","shape":[2],"data_offsets":[0,8]`, 8)))
		x, _ := w.Get("w")
		if err := x.Float32(make([]float32, 2)); err == nil || !strings.Contains(err.Error(), "Q9") {
			t.Errorf("read with %v", err)
		}
	})
	for weightMap, want := range map[string]string{
		`"a":"../1.safetensors"`:     "is not the name of a file in the same folder",
		`"a":"/etc/passwd"`:          "is not the name",
		`"a":"https://x.org/a"`:      "is not the name",
		`"a":"link.safetensors"`:     "is a symbolic link out of its folder",
		`"missing":"1.safetensors"`:  `tensor "missing" is not in its shard`,
		`"a":"1.safetensors","a":""`: "comes twice",
	} {
		t.Run("13 "+weightMap, func(t *testing.T) {
			dir := shards(t, weightMap)
			outside := put(t, "x", stOf("{"+stEntry("a", "F32", "[2]", 0, 8)+"}", 8))
			if err := os.Symlink(outside, filepath.Join(dir, "link.safetensors")); err != nil {
				t.Skip(err)
			}
			fails(t, dir, want)
		})
	}
	t.Run("13 missing shard", func(t *testing.T) {
		_, err := Open(shards(t, `"a":"gone.safetensors"`))
		if err == nil || !strings.Contains(err.Error(), `tensor "a"`) || !strings.Contains(err.Error(), "gone.safetensors is missing") {
			t.Errorf("opened with %v", err)
		}
	})
	t.Run("16 NaN and infinity", func(t *testing.T) {
		odd := []uint32{0x7fc00000, 0x7f800001, 0xffc12345, 0x7f800000, 0xff800000, 0x80000000}
		data := make([]byte, 24)
		for i, v := range odd {
			binary.LittleEndian.PutUint32(data[4*i:], v)
		}
		for _, file := range [][]byte{
			replaced(legacyOf(good, legacyPart{6, sixFloats}), sixFloats, string(data)),
			zipOf(t, zipFile{"x/data.pkl", good}, zipFile{"x/data/0", string(data)}),
			append(stOf("{"+stEntry("w", "F32", "[2,3]", 0, 24)+"}", 0), data...),
		} {
			x, _ := open(t, put(t, "x", file)).Get("w")
			v := make([]float32, 6)
			raw, err := x.Raw()
			if err != nil || !bytes.Equal(raw, data) || x.Float32(v) != nil {
				t.Errorf("%x %v, want %x", raw, err, data)
			}
			if v[0] == v[0] || v[1] == v[1] || v[2] == v[2] || !math.IsInf(float64(v[3]), 1) || !math.IsInf(float64(v[4]), -1) {
				t.Errorf("%v", v)
			}
		}
	})
}

// st8 makes a safetensors file that claims a header of n bytes.
func st8(n uint64, rest string) []byte {
	return append(binary.LittleEndian.AppendUint64(nil, n), rest...)
}

// replaced changes the first occurrence of a text.
func replaced(b []byte, from, to string) []byte { return bytes.Replace(b, []byte(from), []byte(to), 1) }

// hugeStored is a PyTorch file whose data.pkl claims to have n bytes; hugeZip claims it for the unpacked text.
func hugeStored(pickle string, n uint64) []byte { return claim(pickle, 0, n, n) }

func hugeZip(pickle string, n uint64) []byte { return claim(pickle, 8, uint64(len(pickle)), n) }

func claim(pickle string, method uint16, packed, size uint64) []byte {
	le := binary.LittleEndian
	extra := le.AppendUint64(le.AppendUint64([]byte{1, 0, 16, 0}, size), packed)
	const name = "x/data.pkl"
	header := func(mark string, gap, tail int) []byte {
		h := append([]byte(mark), make([]byte, gap)...)
		h = le.AppendUint16(append(h, 45, 0, 0, 0), method)
		h = append(h, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, byte(len(name)), 0, byte(len(extra)), 0)
		return slices.Concat(h, make([]byte, tail), []byte(name), extra)
	}
	b := append(header("PK\x03\x04", 0, 0), pickle...)
	dir := header("PK\x01\x02", 2, 14)
	end := append([]byte("PK\x05\x06\x00\x00\x00\x00\x01\x00\x01\x00"), le.AppendUint32(le.AppendUint32(nil, uint32(len(dir))), uint32(len(b)))...)
	return slices.Concat(b, dir, end, []byte{0, 0})
}
