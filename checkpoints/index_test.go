package checkpoints

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// shards makes a folder of two shards, one tensor each, and an index with the given weight_map.
func shards(t testing.TB, weightMap string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	write(t, filepath.Join(dir, "model.safetensors.index.json"), []byte(`{"metadata":{"total_size":16},"weight_map":{`+weightMap+`}}`))
	write(t, filepath.Join(dir, "1.safetensors"), stOf("{"+stEntry("a", "F32", "[2]", 0, 8)+"}", 8))
	write(t, filepath.Join(dir, "2.bin"), torchOf(t, pickDict("b", goodView.pick(), "unlisted", goodView.pick())))
	return dir
}

func write(t testing.TB, path string, data []byte) {
	t.Helper()
	if err := os.WriteFile(path, data, 0o666); err != nil {
		t.Fatal(err)
	}
}

func TestIndexFaults(t *testing.T) {
	const good = `"a":"1.safetensors","b":"2.bin"`
	w := open(t, shards(t, good))
	if got := fmt.Sprintf("%q %q %d %s", w.Names(), w.Tied(), len(w.Files()), w.Metadata()["total_size"]); got != `["a" "b"] [] 2 16` {
		t.Error(got)
	}
	for weightMap, want := range map[string]string{
		`"a":"../1.safetensors"`:             `tensor "a": shard "../1.safetensors" is not the name of a file in the same folder`,
		`"a":"/etc/passwd"`:                  `shard "/etc/passwd" is not the name`,
		`"a":"sub/1.safetensors"`:            `is not the name`,
		`"a":"sub\\1.safetensors"`:           `is not the name`,
		`"a":"https://x.org/a"`:              `is not the name`,
		`"a":"file:a"`:                       `is not the name`,
		`"a":".."`:                           `is not the name`,
		`"a":"."`:                            `is not the name`,
		`"a":""`:                             `is not the name`,
		`"a":"1.safetensors\u0000"`:          `is not the name`,
		`"a":1`:                              `want a string`,
		`"a":null`:                           `want a string`,
		`"a":["1.safetensors"]`:              `want a string`,
		`"a":"1.safetensors","a":"2.bin"`:    `key "a" comes twice`,
		``:                                   `the index has no weight_map`,
		`"b":"1.safetensors"`:                `tensor "b" is not in its shard`,
		`"a":"1.safetensors","c":"2.bin"`:    `tensor "c" is not in its shard`,
		`"a":"link.safetensors"`:             `is a symbolic link out of its folder`,
		`"a":"folder"`:                       `not a regular file`,
		`"a":"model.safetensors.index.json"`: `neither safetensors`,
	} {
		dir := shards(t, weightMap)
		outside := put(t, "x.safetensors", stOf("{"+stEntry("a", "F32", "[2]", 0, 8)+"}", 8))
		if err := os.Symlink(outside, filepath.Join(dir, "link.safetensors")); err != nil {
			t.Skip(err)
		}
		if err := os.Mkdir(filepath.Join(dir, "folder"), 0o777); err != nil {
			t.Fatal(err)
		}
		fails(t, dir, want)
	}
	_, err := Open(shards(t, `"a":"1.safetensors","c":"3.safetensors"`))
	if !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), `tensor "c"`) || !strings.Contains(err.Error(), "3.safetensors is missing") {
		t.Errorf("missing shard: %v", err)
	}
	for text, want := range map[string]string{
		`{}`: "no weight_map", `[]`: "want '{'", ``: "want '{'", `{"weight_map":{"a":"b"}`: "want ','", `{"weight_map":[]}`: "want '{'",
		`{"weight_map":{},"weight_map":{"a":"1"}}`: "comes twice",
	} {
		fails(t, put(t, "model.safetensors.index.json", []byte(text)), want)
	}
}

// TestHubCache: the files of a Hugging Face cache are links into a folder of blobs.
func TestHubCache(t *testing.T) {
	root := t.TempDir()
	dir := filepath.Join(root, "snapshots", "0123abc")
	for _, d := range []string{dir, filepath.Join(root, "blobs")} {
		if err := os.MkdirAll(d, 0o777); err != nil {
			t.Fatal(err)
		}
	}
	for blob, name := range map[string]string{"b1": "model-1.safetensors", "b2": "model.safetensors.index.json"} {
		data := stOf("{"+stEntry("a", "F32", "[2]", 0, 8)+"}", 8)
		if strings.HasSuffix(name, ".json") {
			data = []byte(`{"weight_map":{"a":"model-1.safetensors"}}`)
		}
		write(t, filepath.Join(root, "blobs", blob), data)
		if err := os.Symlink(filepath.Join("..", "..", "blobs", blob), filepath.Join(dir, name)); err != nil {
			t.Skip(err)
		}
	}
	if w := open(t, dir); len(w.Names()) != 1 {
		t.Errorf("names %q", w.Names())
	}
}

// TestManyIndexed: an index of 100,000 tensors is read in time that grows with its size.
func TestManyIndexed(t *testing.T) {
	var b bytes.Buffer
	for i := range 100_000 {
		fmt.Fprintf(&b, `%s"model.layers.%d.weight":"1.safetensors"`, map[bool]string{true: ","}[i > 0], i)
	}
	dir := shards(t, b.String())
	fails(t, dir, "is not in its shard")
}
