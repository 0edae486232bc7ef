package convert

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"svae/checkpoints"
	"svae/sllm"
	"svae/vae"
)

// base is the demo's base model: Llama in float16, from PyTorch.
const base = "../../cmd/svae/demo/base"

func plan(t *testing.T, src string, target Target) *Plan {
	t.Helper()
	s, err := Open(src, Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	p, err := s.Plan(target)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// TestVerify: what was written is equal to the source, and one flipped bit of it is found.
func TestVerify(t *testing.T) {
	for _, c := range []struct {
		target Target
		file   string // that is changed
	}{
		{Target{Path: "m", Format: Folder}, "m/model.safetensors"},
		{Target{Path: "m", Format: Folder, DType: "bf16", ShardBytes: 3_000_000}, "m/model-00002-of-00002.safetensors"},
		{Target{Path: "m", Format: Torch, DType: "f32"}, "m/pytorch_model.bin"},
		{Target{Path: "m.gguf", Format: GGUF}, "m.gguf"},
		{Target{Path: "m.gguf", Format: GGUF, DType: "q8_0"}, "m.gguf"},
	} {
		dir := t.TempDir()
		c.target.Path = filepath.Join(dir, c.target.Path)
		p := plan(t, base, c.target)
		var last, total int64
		if err := p.Write(t.Context(), func(done, all int64) { last, total = done, all }); err != nil {
			t.Fatal(err)
		}
		if last != total || total != p.Bytes {
			t.Errorf("%v: progress ends at %d of %d bytes, the plan says %d", c.target, last, total, p.Bytes)
		}
		n, err := p.Verify(t.Context())
		want := 0
		for _, w := range p.Source.Folder.Weights() {
			want += w.Elements()
		}
		if err != nil || n != want {
			t.Errorf("%v: %d of %d weights are equal: %v", c.target, n, want, err)
		}
		path := filepath.Join(dir, c.file)
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		b[len(b)-len(b)/3] ^= 4
		if err := os.WriteFile(path, b, 0o666); err != nil {
			t.Fatal(err)
		}
		if _, err := p.Verify(t.Context()); err == nil || !strings.Contains(err.Error(), c.file) {
			t.Errorf("%v: a flipped bit is not found: %v", c.target, err)
		}
	}
}

// TestLargeTokenizer: a tokenizer with more tokens than the model is refused, and names itself.
func TestLargeTokenizer(t *testing.T) {
	dir := t.TempDir()
	f := sllm.Folder{Kind: sllm.KindLM, Raw: []byte(`{"model_type": "llama", "hidden_size": 4, "num_hidden_layers": 1, "num_attention_heads": 2,
		"intermediate_size": 4, "vocab_size": 100, "max_position_embeddings": 8, "bos_token_id": 1, "eos_token_id": 2}`)}
	var err error
	if f.LM, err = vae.ParseArch(f.Raw); err != nil {
		t.Fatal(err)
	}
	var ts []checkpoints.Named
	for _, w := range f.Weights() {
		ts = append(ts, checkpoints.FromFloat32(w.Name, w.Shape, make([]float32, w.Elements())))
	}
	path := filepath.Join(dir, "model.safetensors")
	err = checkpoints.WriteFile(path, false, func(w io.Writer) error { return checkpoints.WriteSafetensors(w, ts, nil) })
	if err := errors.Join(err, os.WriteFile(filepath.Join(dir, "config.json"), f.Raw, 0o666)); err != nil {
		t.Fatal(err)
	}
	_, err = Open(path, Options{Tokenizer: base})
	if want := base + ": the tokenizer has 2048 ids, the model a vocabulary of 100"; err == nil || err.Error() != want {
		t.Errorf("error %v, want %s", err, want)
	}
}

// TestEqual: a comparison sees every byte, the lengths, and failures to read.
func TestEqual(t *testing.T) {
	of := func(v ...float32) checkpoints.Named { return checkpoints.FromFloat32("x", []int{len(v)}, v) }
	broken := checkpoints.Named{Name: "x", Write: func(io.Writer) error { return os.ErrClosed }}
	for i, c := range []struct {
		a, b checkpoints.Named
		want bool
		err  error
	}{
		{of(1, 2, 3), of(1, 2, 3), true, nil}, {of(1, 2, 3), of(1, 2, 4), false, nil}, {of(), of(), true, nil},
		{of(1, 2, 3), of(1, 2), false, nil}, {of(1, 2), of(1, 2, 3), false, nil}, {of(), of(1), false, nil}, {of(1), of(), false, nil},
		{broken, of(1), false, os.ErrClosed}, {of(1), broken, false, os.ErrClosed},
	} {
		if got, err := equal(c.a, c.b); got != c.want || !errors.Is(err, c.err) {
			t.Errorf("%d: %v, %v, want %v, %v", i, got, err, c.want, c.err)
		}
	}
}

// TestCancelled: a conversion that is told to stop leaves nothing behind.
func TestCancelled(t *testing.T) {
	for _, name := range []string{"m", "m.gguf", "t"} {
		dir := t.TempDir()
		target := Target{Path: filepath.Join(dir, name), Format: FormatOf(name)}
		if name == "t" {
			target.Format = Torch
		}
		ctx, cancel := context.WithCancel(t.Context())
		err := plan(t, base, target).Write(ctx, func(done, total int64) {
			if done > total/2 {
				cancel()
			}
		})
		left, readErr := os.ReadDir(dir)
		if !errors.Is(err, context.Canceled) || readErr != nil || len(left) > 0 {
			t.Errorf("%s: %v, and %v is left", name, err, left)
		}
	}
}

// TestSourceKept: force never replaces the source, under whatever name, nor a file that is no model.
func TestSourceKept(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	if err := plan(t, base, Target{Path: at("m"), Format: Folder}).Write(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if err := plan(t, at("m"), Target{Path: at("one/m.gguf"), Format: GGUF}).Write(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{os.Symlink(at("m"), at("alias")), os.WriteFile(at("notes.gguf"), []byte("notes"), 0o666),
		os.Symlink(at("one/m.gguf"), at("link.gguf")), os.Mkdir(at("other"), 0o777), os.WriteFile(at("other/notes"), nil, 0o666)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct{ src, dst, want string }{
		{"m", "m", "holds the source"}, {"alias", "m", "holds the source"}, {"m", "alias", "holds the source"},
		{"m/model.safetensors", "m", "holds the source"}, {"m", ".", "holds the source"},
		{"one", "one/m.gguf", "holds the source"}, {"link.gguf", "one/m.gguf", "holds the source"}, {"one/m.gguf", "link.gguf", "holds the source"},
		{"m", "notes.gguf", "exists and is no model"}, {"m", "other", "holds notes"}, {"m", "one/m.gguf", ""},
	} {
		err := plan(t, at(c.src), Target{Path: at(c.dst), Format: FormatOf(c.dst), Force: true}).Writable()
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s to %s: %v, want %q", c.src, c.dst, err, c.want)
		}
	}
}

// TestWithDType: config.json says what the weights are, whichever key it uses.
func TestWithDType(t *testing.T) {
	for _, c := range []struct{ raw, want string }{
		{`{"torch_dtype": "float16"}`, `{"torch_dtype": "float16"}`}, {`{"dtype": "float16"}`, `{"dtype": "float16"}`},
		{`{"dtype": "float32"}`, "{\n  \"torch_dtype\": \"float16\"\n}\n"}, {`{}`, "{\n  \"torch_dtype\": \"float16\"\n}\n"},
		{`{"torch_dtype": "float32", "dtype": "float16"}`, "{\n  \"torch_dtype\": \"float16\"\n}\n"},
	} {
		if got, err := withDType([]byte(c.raw), "float16"); err != nil || string(got) != c.want {
			t.Errorf("%s becomes %s, %v, want %s", c.raw, got, err, c.want)
		}
	}
}

// TestDryRun: planning reads headers alone and writes nothing.
func TestDryRun(t *testing.T) {
	dst := filepath.Join(t.TempDir(), "m.gguf")
	p := plan(t, base, Target{Path: dst, Format: GGUF, DType: "q8_0"})
	var bytes int64
	for _, m := range p.Moves {
		bytes += m.Bytes
		if vector := len(m.Shape) == 1; len(m.From) != 1 || m.FromType != "F16" || (m.Type == "F32") != vector {
			t.Errorf("%+v", m)
		}
	}
	if bytes != p.Bytes || p.Memory <= 0 {
		t.Errorf("%d bytes, %d in memory, the tensors have %d", p.Bytes, p.Memory, bytes)
	}
	if _, err := os.Stat(dst); err == nil {
		t.Error("a plan wrote")
	}
}

// TestWatcher: values that are not finite are found at their place, however the bytes come.
func TestWatcher(t *testing.T) {
	put := func(size int, bits uint64, at, n int) []byte {
		b := make([]byte, size*n)
		switch size {
		case 2:
			binary.LittleEndian.PutUint16(b[at*size:], uint16(bits))
		case 4:
			binary.LittleEndian.PutUint32(b[at*size:], uint32(bits))
		case 8:
			binary.LittleEndian.PutUint64(b[at*size:], bits)
		default:
			binary.LittleEndian.PutUint16(b[at*size:], uint16(bits))
		}
		return b
	}
	for _, c := range []struct {
		d    checkpoints.DType
		bits uint64
		want string
	}{
		{checkpoints.F32, uint64(math.Float32bits(float32(math.Inf(1)))), "+Inf"},
		{checkpoints.F32, 0xff800000, "-Inf"}, {checkpoints.F32, 0x7fc00000, "NaN"}, {checkpoints.F32, 0xff800001, "NaN"},
		{checkpoints.F32, uint64(math.Float32bits(math.MaxFloat32)), ""},
		{checkpoints.F16, 0x7c00, "+Inf"}, {checkpoints.F16, 0xfe00, "NaN"}, {checkpoints.F16, 0x7bff, ""},
		{checkpoints.BF16, 0xff80, "-Inf"}, {checkpoints.BF16, 0x7f81, "NaN"}, {checkpoints.BF16, 0x7f7f, ""},
		{checkpoints.F64, math.Float64bits(math.Inf(-1)), "-Inf"}, {checkpoints.F64, math.Float64bits(math.MaxFloat64), ""},
		{checkpoints.Q8_0, 0x7c00, "+Inf"}, {checkpoints.Q8_0, 0x3c00, ""},
	} {
		k := special(c.d)
		b := put(k.size, c.bits, 7, 11)
		for _, step := range []int{1, 3, 5, 64, len(b)} {
			n := 0
			w := &watcher{w: io.Discard, count: func(m int) error { n += m; return nil }, special: k}
			for at := 0; at < len(b); at += step {
				if _, err := w.Write(b[at:min(at+step, len(b))]); err != nil {
					t.Fatal(err)
				}
			}
			if w.bad != c.want || c.want != "" && w.at != 7 || n != len(b) {
				t.Errorf("%v %x in steps of %d: %q at %d after %d bytes, want %q at 7 of %d", c.d, c.bits, step, w.bad, w.at, n, c.want, len(b))
			}
		}
	}
}
