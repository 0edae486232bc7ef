package sllm

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// writeYAML makes files in a temporary folder and returns it.
func writeYAML(t testing.TB, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		path := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// The files of a sentence-level and of an autoencoder run, laid out as the reference's are.
var yamlRuns = map[string]string{
	"sllm/base.yaml": "device: \"cuda\"\ndtype: \"fp32\"\nsvae:\n  learnable_add: false\n  ref_model_dir: \"models/opt-125m\"\n  model_path: null\n" +
		"  finetune_embedding: true\nllm:\n  ref_model_dir: models/opt-125m\n  ref_model_dtype: null\n  finetune_layers: -1\nfinetune_svae: true\n" +
		"max_sen_len: 64\nmax_sen_num: 64\nbatch_size: 1\nbase_lr: 1e-6\nmax_iters: 1600000\nwarmup_iters: 5000\n" +
		"save_checkpoint_iters: 5000\nmax_keep_ckpts: 2\ncosineannealinglr_tmax: 20000\n",
	"sllm/350m/base.yaml": "__base__: !include ../base.yaml\nsvae:\n  ref_model_dir: models/opt-350m\nllm:\n  ref_model_dir: models/opt-350m/\n",
	"sllm/350m/h2.yaml":   "__base__: !include ./base.yaml\n\nsvae:\n  num_hidden_layers: 2\nllm: {finetune_layers: 4}\n",
	"svae/h4.yaml":        "__base__: !include base.yaml\nnum_hidden_layers: 4\n", "svae/base.yaml": "ref_model_dir: models/opt-125m\nnum_hidden_layers: 1\nmax_seq_len: 64\nbatch_size: 128\n" +
		"base_lr: 0.0000001\nlearnable_add: true\nload_ref_model: false\nmax_iters: 300000\n",
}

func TestReadYAML(t *testing.T) {
	dir := writeYAML(t, yamlRuns)
	got, err := ReadYAML(filepath.Join(dir, "sllm/350m/h2.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]any{"device": "cuda", "dtype": "fp32", "finetune_svae": true, "max_sen_len": 64, "max_sen_num": 64, "batch_size": 1,
		"base_lr": 1e-6, "max_iters": 1600000, "warmup_iters": 5000, "save_checkpoint_iters": 5000, "max_keep_ckpts": 2, "cosineannealinglr_tmax": 20000,
		"svae": map[string]any{"learnable_add": false, "ref_model_dir": "models/opt-350m", "model_path": nil, "finetune_embedding": true, "num_hidden_layers": 2},
		"llm":  map[string]any{"ref_model_dir": "models/opt-350m/", "ref_model_dtype": nil, "finetune_layers": 4}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("read %v\nwant %v", got, want)
	}
	dir = writeYAML(t, map[string]string{
		"a/top.yaml":   "__base__: !include b/mid.yaml\nlist: [1, 0x10, .5, ~, yes, 'yes', 2024-01-02, &x {k: v}, *x]\nother: !include b/leaf.yml\n",
		"a/b/mid.yaml": "__base__: !include leaf2.yaml\nk: mid\n", // leaf2 lies beside the top file
		"a/leaf2.yaml": "k: leaf\nm: {a: {b: 1}}\n", "a/b/leaf.yml": "m: 1\n", "empty.yaml": "# nothing\n",
	})
	got, err = ReadYAML(filepath.Join(dir, "a/top.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	kv := map[string]any{"k": "v"}
	want = map[string]any{"k": "mid", "m": map[string]any{"a": map[string]any{"b": 1}}, "other": map[string]any{"m": 1},
		"list": []any{1, 16, .5, nil, "yes", "yes", "2024-01-02", kv, kv}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("read %v\nwant %v", got, want)
	}
	if got, err := ReadYAML(filepath.Join(dir, "empty.yaml")); err != nil || len(got) != 0 {
		t.Errorf("an empty file is %v, %v", got, err)
	}
}

func TestReadYAMLRefuses(t *testing.T) {
	laughs := "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n"
	for i := range 9 {
		laughs += fmt.Sprintf("a%d: &a%d [*a%d,*a%d,*a%d,*a%d,*a%d,*a%d,*a%d,*a%d,*a%d]\n", i+1, i+1, i, i, i, i, i, i, i, i, i)
	}
	many := map[string]string{"x.yaml": ""}
	for i := range maxYAMLFiles + 1 {
		many["x.yaml"] += fmt.Sprintf("k%d: !include y.yml\n", i)
	}
	many["y.yml"] = "a: 1\n"
	chain := map[string]string{"x.yaml": "__base__: !include 0.yaml\n"}
	for i := range maxYAMLNest + 1 {
		chain[fmt.Sprint(i, ".yaml")] = fmt.Sprintf("__base__: !include %d.yaml\n", i+1)
	}
	for name, c := range map[string]struct {
		files map[string]string
		want  string
	}{
		"itself":        {map[string]string{"x.yaml": "__base__: !include x.yaml\n"}, "x.yaml: includes itself"},
		"circle":        {map[string]string{"x.yaml": "a: 1\n__base__: !include y.yaml\n", "y.yaml": "__base__: !include ./x.yaml\n"}, "x.yaml: includes itself"},
		"chain":         {chain, "included through more than"},
		"many":          {many, "more than 64 files"},
		"missing":       {map[string]string{"x.yaml": "a: 1\n__base__: !include y.yaml\n"}, `x.yaml:2: include "y.yaml"`},
		"not yaml":      {map[string]string{"x.yaml": "a: !include /etc/passwd\n"}, "x.yaml:1: cannot include"},
		"absolute":      {map[string]string{"x.yaml": "a: !include /etc/x.yaml\n"}, "cannot include"},
		"no mapping":    {map[string]string{"x.yaml": "[1]\n"}, "want a mapping"},
		"base no map":   {map[string]string{"x.yaml": "__base__: 3\n"}, "__base__ is no mapping"},
		"twice":         {map[string]string{"x.yaml": "a: 1\nb: 2\na: 3\n"}, `x.yaml:3: the key "a"`},
		"key no text":   {map[string]string{"x.yaml": "1: 1\n"}, `the key "1" is no text`},
		"merge key":     {map[string]string{"x.yaml": "a: &a {b: 1}\nc:\n  <<: *a\n"}, `the key "<<"`},
		"tag":           {map[string]string{"x.yaml": "a: !!python/object:os.system x\n"}, "the tag"},
		"documents":     {map[string]string{"x.yaml": "a: 1\n---\nb: 1\n"}, "more than one"},
		"broken":        {map[string]string{"x.yaml": "a: [1\n"}, "x.yaml"},
		"laughs":        {map[string]string{"x.yaml": laughs}, "more than 65536 values"},
		"holds itself":  {map[string]string{"x.yaml": "a: &a [*a]\n"}, "nested more than"},
		"deep":          {map[string]string{"x.yaml": "a: " + strings.Repeat("[", 100) + strings.Repeat("]", 100)}, "nested more than"},
		"large":         {map[string]string{"x.yaml": "a: " + strings.Repeat("x", maxYAML)}, "more than 1048576 bytes"},
		"large number":  {map[string]string{"x.yaml": "a: 99999999999999999999999\nb: 18446744073709551615\n"}, "out of range"},
		"there is none": {nil, "no such file"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := ReadYAML(filepath.Join(writeYAML(t, c.files), "x.yaml"))
			if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("error %v, want %q in it", err, c.want)
			}
		})
	}
}

func TestReferenceRun(t *testing.T) {
	dir := writeYAML(t, yamlRuns)
	for name, c := range map[string]struct {
		toml   string
		unused []string
	}{
		"sllm/350m/h2.yaml": {"base = \"models/opt-350m/\"\nbatch_tokens = 4096\nkeep = 2\nlr = 1e-06\npreset = \"paper\"\nsave_every = 5000\nsentences = 64\n" +
			"stage = \"sllm\"\nsteps = 1600000\nwarmup = 5000\n\n[model]\ndecoder_layers = 2\nencoder_layers = 2\n",
			[]string{"cosineannealinglr_tmax = 20000", "device = cuda", "llm.finetune_layers = 4", "max_sen_len = 64"}},
		"svae/h4.yaml": {"base = \"models/opt-125m\"\nbatch_tokens = 8192\nlr = 1.28e-05\npreset = \"paper\"\nstage = \"vae\"\nsteps = 300000\n\n" +
			"[model]\ndecoder_layers = 4\nencoder_layers = 4\n", []string{"learnable_add = true", "max_seq_len = 64"}},
	} {
		m, err := ReadYAML(filepath.Join(dir, filepath.FromSlash(name)))
		if err != nil {
			t.Fatal(err)
		}
		toml, unused, err := ReferenceRun(m)
		if err != nil || toml != c.toml || !slices.Equal(unused, c.unused) {
			t.Errorf("%s: %v\n%s%q\nwant\n%s%q", name, err, toml, unused, c.toml, c.unused)
		}
	}
	for want, m := range map[string]map[string]any{
		"batch_size is many, want a whole number above 0":       {"batch_size": "many"},
		"max_iters is 0, want":                                  {"max_iters": 0},
		"base_lr is [1], want a number":                         {"base_lr": []any{1}},
		"ref_model_dir is 3, want a path":                       {"ref_model_dir": 3},
		"svae.num_hidden_layers is -1, want a whole number abo": {"llm": map[string]any{"x": 1}, "svae": map[string]any{"num_hidden_layers": -1}},
	} {
		if _, _, err := ReferenceRun(m); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want %q in it", err, want)
		}
	}
	toml, _, err := ReferenceRun(map[string]any{"ref_model_dir": "a\"b\\c\x01é", "base_lr": "1e-6", "batch_size": 2})
	if want := "base = \"a\\\"b\\\\c\\u0001é\"\nlr = 2e-06\n"; err != nil || !strings.HasPrefix(toml, want) {
		t.Errorf("%v\n%s\nwant %s", err, toml, want)
	}
}

// FuzzReadYAML reads any file: no panic, and what is read is of the types that are promised.
func FuzzReadYAML(f *testing.F) {
	for _, text := range yamlRuns {
		f.Add(text)
	}
	f.Add("a: &a [1, *a]\nb: !include y.yaml\nc: {d: !!float 1, ? [x] : y}\n<<: {}\n")
	f.Add("a: |\n  text\nb: !!binary aGk=\nc: 0b1\nd: .inf\n--- x\n")
	f.Add("!%0a")
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, text string) {
		v, err := (&yamlReader{top: dir}).parse(filepath.Join(dir, "x.yaml"), []byte(text))
		if err != nil {
			if strings.Contains(err.Error(), "\n") {
				t.Errorf("an error of several lines: %v", err)
			}
			return
		}
		var check func(v any)
		check = func(v any) {
			switch v := v.(type) {
			case nil, bool, int, float64, string:
			case []any:
				for _, e := range v {
					check(e)
				}
			case map[string]any:
				for _, e := range v {
					check(e)
				}
			default:
				t.Errorf("a value of type %T", v)
			}
		}
		check(v)
		if m, ok := v.(map[string]any); ok {
			ReferenceRun(m)
		}
	})
}
