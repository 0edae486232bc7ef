package checkpoints

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// bytesOf makes tensors a, b, c, ... of the given sizes in bytes.
func bytesOf(sizes ...int) []Named {
	var ts []Named
	for i, n := range sizes {
		n := FromFloat32(string(rune('a'+i)), []int{n / 4}, make([]float32, n/4))
		ts = append(ts, n)
	}
	return ts
}

// TestSplitShards: the cuts are those of huggingface_hub's split_state_dict_into_shards_factory, run on the same sizes.
func TestSplitShards(t *testing.T) {
	for _, c := range []struct {
		sizes []int
		limit int64
		want  string
	}{
		{[]int{24, 24, 8, 24, 8, 8}, 40, "a|b c|d e f"},
		{[]int{24, 24, 8, 24, 8, 8}, 1000, "a b c d e f"},
		{[]int{24, 24, 8, 24, 8, 8}, 0, "a b c d e f"},
		{[]int{8, 100, 8, 8}, 20, "b|a c|d"},
		{[]int{100, 100}, 20, "a|b"},
		{[]int{100}, 20, "a"},
		{[]int{20, 20, 0}, 20, "a|b c"},
		{nil, 20, ""},
	} {
		shards, total, err := splitShards(bytesOf(c.sizes...), c.limit)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, s := range shards {
			var names []string
			for _, n := range s {
				names = append(names, n.Name)
			}
			got = append(got, strings.Join(names, " "))
		}
		want := int64(0)
		for _, n := range c.sizes {
			want += int64(n)
		}
		if strings.Join(got, "|") != c.want || total != want {
			t.Errorf("%v in %d: %q %d, want %q %d", c.sizes, c.limit, got, total, c.want, want)
		}
	}
}

func TestWriteShards(t *testing.T) {
	_, ts := everyType(t)
	want := open(t, "testdata/dtypes.pt")
	for _, c := range []struct {
		limit  int64
		torch  bool
		files  []string
		format string
	}{
		{0, false, []string{"model.safetensors"}, "safetensors"},
		{1 << 20, true, []string{"pytorch_model.bin"}, "pytorch"},
		{100, false, []string{"model-00001-of-00004.safetensors", "model-00002-of-00004.safetensors",
			"model-00003-of-00004.safetensors", "model-00004-of-00004.safetensors", "model.safetensors.index.json"}, "safetensors"},
		{100, true, []string{"pytorch_model-00001-of-00004.bin", "pytorch_model-00002-of-00004.bin",
			"pytorch_model-00003-of-00004.bin", "pytorch_model-00004-of-00004.bin", "pytorch_model.bin.index.json"}, "pytorch"},
	} {
		dir := filepath.Join(t.TempDir(), "m")
		d, err := CreateDir(dir, false)
		if err != nil {
			t.Fatal(err)
		}
		if c.torch {
			err = WriteTorchShards(d, ts, c.limit)
		} else {
			err = WriteShards(d, ts, c.limit, map[string]string{"format": "pt"})
		}
		if err != nil {
			t.Fatal(err)
		}
		if err := d.Commit(); err != nil {
			t.Fatal(err)
		}
		entries, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		var files []string
		for _, e := range entries {
			if e.Name() != ManifestName {
				files = append(files, e.Name())
			}
		}
		if !slices.Equal(files, c.files) {
			t.Errorf("files %q, want %q", files, c.files)
		}
		got := open(t, dir)
		if got.Format() != c.format || !c.torch && got.Metadata()["format"] != "pt" {
			t.Errorf("%s %q", got.Format(), got.Metadata())
		}
		sameWeights(t, got, want)
		if len(files) == 1 {
			continue
		}
		data, err := os.ReadFile(filepath.Join(dir, files[len(files)-1]))
		if err != nil {
			t.Fatal(err)
		}
		var index struct {
			Metadata  map[string]any
			WeightMap map[string]string `json:"weight_map"`
		}
		if err := json.Unmarshal(data, &index); err != nil {
			t.Fatal(err)
		}
		total := 0.0
		for _, n := range ts {
			x, _ := want.Get(n.Name)
			total += float64(x.bytes())
		}
		if index.Metadata["total_size"] != total || len(index.WeightMap) != len(ts) || !strings.HasSuffix(string(data), "}\n") {
			t.Errorf("index %v", index)
		}
	}
}

func TestWriteShardsFaults(t *testing.T) {
	for want, ts := range map[string][]Named{
		`tensor "a": the name is taken twice`: append(bytesOf(8, 8), bytesOf(8)...),
		`shape [-1] is out of range`:          {{Name: "x", DType: F32, Shape: []int{-1}}},
	} {
		d, err := CreateDir(filepath.Join(t.TempDir(), "m"), false)
		if err != nil {
			t.Fatal(err)
		}
		if err := WriteShards(d, ts, 8, nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
		d.Abort()
	}
}
