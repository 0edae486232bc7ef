package sllm

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"maps"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"svae/checkpoints"
	"svae/kernels"
	"svae/kernels/cpu"
	"svae/kernels/op"
	"svae/kernels/ref"
	"svae/vae"
	"svae/vae/vaetest"
)

// familyFile is a model that transformers computed; testdata/make_families.py says what a file holds.
type familyFile struct {
	*checkpoints.Weights
	t   *testing.T
	ids []int32
}

// eachFamily runs a test on every fixture.
func eachFamily(t *testing.T, f func(t *testing.T, name string, x *familyFile)) {
	paths, err := filepath.Glob("testdata/families/*.safetensors")
	if err != nil || len(paths) != 14 {
		t.Fatalf("%d fixtures, want 14 (%v)", len(paths), err)
	}
	for _, path := range paths {
		name := strings.TrimSuffix(filepath.Base(path), ".safetensors")
		t.Run(name, func(t *testing.T) { f(t, name, openFamily(t, path)) })
	}
}

func openFamily(t *testing.T, path string) *familyFile {
	t.Helper()
	w, err := checkpoints.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.Close() })
	x := &familyFile{Weights: w, t: t}
	ids, ok := w.Get("ids")
	if !ok {
		t.Fatal("no ids")
	}
	raw, err := ids.Raw()
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(raw); i += 4 {
		x.ids = append(x.ids, int32(binary.LittleEndian.Uint32(raw[i:])))
	}
	return x
}

// folder writes the tensors that begin with prefix as a Hugging Face folder; rename may change a name, or drop it with "".
func (x *familyFile) folder(prefix, config string, rename func(string) string, more ...checkpoints.Named) string {
	x.t.Helper()
	dir := x.t.TempDir()
	var ts []checkpoints.Named
	for _, name := range x.Names() {
		inner, ok := strings.CutPrefix(name, prefix)
		if rename != nil && ok {
			inner = rename(inner)
		}
		if ok && inner != "" {
			t, _ := x.Get(name)
			n := checkpoints.FromTensor(t)
			n.Name = inner
			ts = append(ts, n)
		}
	}
	f, err := os.Create(filepath.Join(dir, "model.safetensors"))
	if err == nil {
		err = errors.Join(checkpoints.WriteSafetensors(f, append(ts, more...), nil), f.Close(),
			os.WriteFile(filepath.Join(dir, "config.json"), []byte(x.Metadata()[config]), 0o666))
	}
	if err != nil {
		x.t.Fatal(err)
	}
	return dir
}

// near fails unless got is the tensor but for a share tol of its largest element.
func (x *familyFile) near(name string, got []float64, tol float64) {
	x.t.Helper()
	t, ok := x.Get(name)
	if !ok || t.Len() != len(got) {
		x.t.Fatalf("%s: %d elements, the file has %v", name, len(got), t)
	}
	want := make([]float32, len(got))
	if err := t.Float32(want); err != nil {
		x.t.Fatal(err)
	}
	top := 0.0
	for _, v := range want {
		top = max(top, math.Abs(float64(v)))
	}
	for i, v := range want {
		if off := math.Abs(got[i]-float64(v)) / top; !(off <= tol) {
			x.t.Fatalf("%s[%d] is %.9g, transformers has %.9g: off by %.2g of %.3g, more than %.0e", name, i, got[i], v, off, top, tol)
		}
	}
}

// logits returns those of all positions, computed at once.
func logits(t *testing.T, f *Folder, ids []int32) []float64 {
	t.Helper()
	o, m := op.NewEager(f.Store.Backend()), NewLM(&f.LM, f.Store.Mat)
	var seq vae.Seq
	seq.Next(0, len(ids), f.LM.PosOffset())
	l := o.Linear(m.Hidden(o, &op.Ints{V: ids}, &seq, nil), m.head, op.Mat{}, kernels.None)
	if err := o.Err(); err != nil {
		t.Fatal(err)
	}
	return vaetest.Host(f.Store.Backend(), l.Buf)
}

func load(t *testing.T, dir string, be kernels.Backend) *Folder {
	t.Helper()
	f, err := Load(dir, be)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// TestFamilyLogits loads every family and compares its logits with transformers', at once and token by token, from a
// config.json of transformers 5 and of 4, and from files as the inner module writes them, with what no model needs.
func TestFamilyLogits(t *testing.T) {
	eachFamily(t, func(t *testing.T, name string, x *familyFile) {
		dir := x.folder("w.", "config", nil)
		// The file holds float32, whose rounding is 6e-8 of an element; float32 rounds at every one of some thirty steps.
		x.near("logits", logits(t, load(t, dir, ref.New(kernels.F64)), x.ids), 2e-7)
		f := load(t, dir, cpu.New())
		all := logits(t, f, x.ids)
		x.near("logits", all, 5e-6)

		e := NewLMEngine(&f.LM, f.Store)
		var steps []float64
		for _, id := range x.ids {
			row, err := e.Forward([]int32{id})
			if err != nil {
				t.Fatal(err)
			}
			for _, v := range row {
				steps = append(steps, float64(v))
			}
		}
		equal(t, "logits token by token", steps, all)

		if x.Metadata()["config4"] != "" {
			f4 := load(t, x.folder("w.", "config4", nil), cpu.New())
			if !reflect.DeepEqual(f4.LM, f.LM) {
				t.Errorf("config.json of version 4 gives %+v, of 5 %+v", f4.LM, f.LM)
			}
			equal(t, "logits with a config.json of version 4", logits(t, f4, x.ids), all)
		}
		if f.LM.Tied {
			zeros := func(name string, shape ...int) checkpoints.Named {
				n := 1
				for _, d := range shape {
					n *= d
				}
				return checkpoints.FromFloat32(name, shape, make([]float32, n))
			}
			head := func(change float32) checkpoints.Named {
				table, _ := x.Get("w." + f.LM.EmbedName())
				v := values(t, table)
				v[len(v)-1] += change
				return checkpoints.FromFloat32("lm_head.weight", table.Shape, v)
			}
			if _, err := Load(x.folder("w.", "config", nil, head(1)), cpu.New()); err == nil || !strings.Contains(err.Error(), "tie_word_embeddings: false") {
				t.Errorf("a tied head that is not the table: %v", err)
			}
			inner := load(t, x.folder("w.", "config", func(name string) string {
				return strings.TrimPrefix(strings.TrimPrefix(name, "model."), "transformer.")
			}, head(0), zeros("h.0.attn.bias", 1, 1, 24, 24), zeros("h.0.attn.masked_bias"),
				zeros("layers.0.self_attn.rotary_emb.inv_freq", 4), zeros("decoder.version", 1)), cpu.New())
			equal(t, "logits from the inner module's names", logits(t, inner, x.ids), all)
		}
	})
}

// TestFamilyWrite checks that a folder comes out as it went in: the same names, shapes, bits and keys.
func TestFamilyWrite(t *testing.T) {
	eachFamily(t, func(t *testing.T, name string, x *familyFile) {
		f := load(t, x.folder("w.", "config", nil), cpu.New())
		dst := filepath.Join(t.TempDir(), "out")
		d, err := checkpoints.CreateDir(dst, false)
		if err == nil {
			err = errors.Join(f.Write(d), d.Commit())
		}
		if err != nil {
			t.Fatal(err)
		}
		w, err := checkpoints.Open(dst)
		if err != nil {
			t.Fatal(err)
		}
		defer w.Close()
		var want []string
		for _, name := range x.Names() {
			inner, ok := strings.CutPrefix(name, "w.")
			if !ok {
				continue
			}
			want = append(want, inner)
			a, _ := x.Get(name)
			b, ok := w.Get(inner)
			if !ok {
				continue
			}
			rawA, errA := a.Raw()
			rawB, errB := b.Raw()
			if errA != nil || errB != nil || !slices.Equal(a.Shape, b.Shape) || !slices.Equal(rawA, rawB) {
				t.Errorf("%s %v came out as another %v (%v, %v)", inner, a.Shape, b.Shape, errA, errB)
			}
		}
		equal(t, "names", w.Names(), want)
		var before, after map[string]any
		c, err := os.ReadFile(filepath.Join(dst, "config.json"))
		if err = errors.Join(err, json.Unmarshal(c, &after), json.Unmarshal([]byte(x.Metadata()["config"]), &before)); err != nil {
			t.Fatal(err)
		}
		for _, m := range []map[string]any{before, after} {
			delete(m, "dtype")
			delete(m, "torch_dtype")
		}
		if !maps.EqualFunc(before, after, func(a, b any) bool { return reflect.DeepEqual(a, b) }) {
			t.Errorf("config.json came out as %v, was %v", after, before)
		}
	})
}

// TestFamilyGradients compares the gradients of the token loss with PyTorch's.
func TestFamilyGradients(t *testing.T) {
	tested := 0
	eachFamily(t, func(t *testing.T, name string, x *familyFile) {
		if !slices.ContainsFunc(x.Names(), func(n string) bool { return strings.HasPrefix(n, "g.") }) {
			return // the logits are compared elsewhere
		}
		tested++
		for backend, be := range vaetest.Backends() {
			tol := 3e-6
			if be.DType() == kernels.F64 {
				tol = 3e-7
			}
			f := load(t, x.folder("w.", "config", nil), be)
			feed := LMFeed{Targets: op.Targets{IDs: x.ids[1:]}, IDs: op.Ints{V: x.ids[:len(x.ids)-1]}}
			feed.Seq.Next(0, len(feed.IDs.V), f.LM.PosOffset())
			g := op.NewGraph(be)
			m, err := g.Compile(NewLM(&f.LM, vaetest.Graph(g, f.Store)).Loss(g, &feed))
			if err == nil {
				_, err = m.Run(0)
			}
			if err != nil {
				t.Fatal(err)
			}
			got := map[string]*checkpoints.Tensor{} // of the file, by name
			src, err := checkpoints.Open(x.folder("g.", "config", nil))
			if err == nil {
				got, err = Find(f.Weights(), f.Layout(), src)
			}
			if err != nil {
				t.Fatal(err)
			}
			for _, d := range m.Grads() {
				want := make([]float32, got[d.Name].Len())
				if err := got[d.Name].Float32(want); err != nil {
					t.Fatal(err)
				}
				top := 0.1 // a bias of keys without rotation shifts all scores of a row alike: its gradient is rounding
				for _, v := range want {
					top = max(top, math.Abs(float64(v)))
				}
				for i, v := range vaetest.Host(be, d.Data) {
					if off := math.Abs(v-float64(want[i])) / top; !(off <= tol) {
						t.Errorf("%s: gradient of %s[%d] is %.9g, PyTorch's %.9g: off by %.2g of %.3g", backend, d.Name, i, v, want[i], off, top)
						break
					}
				}
			}
			src.Close()
			m.Close()
		}
	})
	if tested != 3 {
		t.Errorf("%d fixtures have gradients, want 3", tested)
	}
}
