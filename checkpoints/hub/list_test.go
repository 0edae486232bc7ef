package hub

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"svae/checkpoints"
)

func list(t *testing.T, ref string, o Options) []File {
	t.Helper()
	files, err := List(t.Context(), ref, o)
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func TestList(t *testing.T) {
	h, repo, o := start(t)
	want := []File{{"config.json", 21, 0}, {"tokenizer.json", 2, 0}, {"model.safetensors", 3 << 20, 0}}
	if got := list(t, "hf:o/m", o); !slices.Equal(got, want) {
		t.Errorf("List = %v, want %v", got, want)
	}
	if l := h.asked("/resolve/"); len(l) != 0 {
		t.Errorf("asked for %q", l)
	}
	if names := listDir(t, o.Cache); len(names) != 0 {
		t.Errorf("the cache holds %q", names)
	}
	h.noBlobs = true // sizes are then asked for, file by file
	if got := list(t, "hf:o/m", o); !slices.Equal(got, want) {
		t.Errorf("without sizes in the listing List = %v, want %v", got, want)
	}
	if l := h.asked("GET hub /o/m/resolve"); len(l) != 0 {
		t.Errorf("asked for %q", l)
	}
	h.noBlobs = false
	part := cacheOf(o.Cache, "o/m").part(repo.sum("model.safetensors"))
	if err := os.MkdirAll(filepath.Dir(part), 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(part, repo.files["model.safetensors"][:1000], 0o666); err != nil {
		t.Fatal(err)
	}
	want[2].Cached = 1000
	if got := list(t, "hf:o/m", o); !slices.Equal(got, want) {
		t.Errorf("after a broken download List = %v, want %v", got, want)
	}
	fetch(t, "hf:o/m", o)
	for i := range want {
		want[i].Cached = want[i].Size
	}
	if got := list(t, "hf:o/m", o); !slices.Equal(got, want) {
		t.Errorf("after Fetch List = %v, want %v", got, want)
	}
	o.Offline = true
	h.asked("")
	if got := list(t, "hf:o/m", o); !slices.Equal(got, want) {
		t.Errorf("offline List = %v, want %v", got, want)
	}
	if l := h.asked(""); len(l) != 0 {
		t.Errorf("requests though offline: %q", l)
	}
	if _, err := List(t.Context(), "hf:o/none", o); err == nil || !strings.Contains(err.Error(), "HF_HUB_OFFLINE") {
		t.Errorf("List of what the cache lacks: %v", err)
	}
	repo.private, h.token, o.Offline = true, "hf_granted", false
	if _, err := List(t.Context(), "hf:o/m", o); err == nil || !strings.Contains(err.Error(), "private") {
		t.Errorf("List of a private repository: %v", err)
	}
}

// The index of shards comes, the shards do not.
func TestListShards(t *testing.T) {
	h, repo, o := start(t)
	repo.files = map[string][]byte{"model.safetensors.index.json": []byte(`{"weight_map": {"a": "m-1.safetensors", "b": "m-2.safetensors"}}`),
		"m-1.safetensors": random(10), "m-2.safetensors": random(20)}
	n := int64(len(repo.files["model.safetensors.index.json"]))
	want := []File{{"model.safetensors.index.json", n, n}, {"m-1.safetensors", 10, 0}, {"m-2.safetensors", 20, 0}}
	if got := list(t, "hf:o/m", o); !slices.Equal(got, want) {
		t.Errorf("List = %v, want %v", got, want)
	}
	if l := h.asked("/resolve/"); len(l) != 1 || !strings.Contains(l[0], "index.json") {
		t.Errorf("asked for %q", l)
	}
	repo.files = map[string][]byte{"a-00001-of-00002.gguf": random(10), "a-00002-of-00002.gguf": random(20)}
	want = []File{{"a-00001-of-00002.gguf", 10, 0}, {"a-00002-of-00002.gguf", 20, 0}}
	if got := list(t, "hf:o/m", o); !slices.Equal(got, want) {
		t.Errorf("List = %v, want %v", got, want)
	}
}

// A model that is refused is refused before its weights come.
func TestCheck(t *testing.T) {
	h, repo, o := start(t)
	maps.Copy(repo.files, map[string][]byte{"q/b.gguf": random(9), "q/config.json": []byte("{}"), "other/c.gguf": random(8)})
	refusal := errors.New("no such architecture")
	var dirs []string
	o.Check = func(dir string) error {
		dirs = append(dirs, dir)
		same(t, dir, repo, "config.json", "tokenizer.json")
		return refusal
	}
	snapshot := filepath.Join(o.Cache, "models--o--m", "snapshots", testCommit)
	if err := refuses(t, "hf:o/m", o, "no such architecture"); err != refusal {
		t.Errorf("Fetch: %v, want the error of Check", err)
	}
	if _, err := List(t.Context(), "hf:o/m", o); err != refusal {
		t.Errorf("List: %v, want the error of Check", err)
	}
	if want := []string{snapshot, snapshot}; !slices.Equal(dirs, want) {
		t.Errorf("Check was called with %q, want %q", dirs, want)
	}
	if l := h.asked("model.safetensors"); len(l) != 0 {
		t.Errorf("asked for %q", l)
	}
	// Beside weights in a folder; not at all where there is no config.json.
	o.Check = func(dir string) error { dirs = append(dirs, dir); return nil }
	dirs = nil
	fetch(t, "hf:o/m/q/b.gguf", o)
	fetch(t, "hf:o/m/other/c.gguf", o)
	if want := []string{filepath.Join(snapshot, "q")}; !slices.Equal(dirs, want) {
		t.Errorf("Check was called with %q, want %q", dirs, want)
	}
	fetch(t, "hf:o/m", o)
	o.Offline, o.Check = true, func(string) error { return refusal }
	if _, err := Fetch(t.Context(), "hf:o/m", o); err != refusal {
		t.Errorf("offline: %v, want the error of Check", err)
	}
	if _, err := List(t.Context(), "hf:o/m", o); err != refusal {
		t.Errorf("List offline: %v, want the error of Check", err)
	}
}

// What Fetch returns of a split model opens, all of it.
func TestSplitOpens(t *testing.T) {
	_, repo, o := start(t)
	repo.files = map[string][]byte{"config.json": []byte("{}")}
	for i, name := range []string{"a-00001-of-00002.gguf", "a-00002-of-00002.gguf"} {
		var b bytes.Buffer
		kv := []checkpoints.KV{{Key: "split.no", Value: int32(i)}, {Key: "split.count", Value: int32(2)}}
		tensors := []checkpoints.Named{checkpoints.FromFloat32(fmt.Sprint("t", i), []int{2}, []float32{1, 2})}
		if err := checkpoints.WriteGGUF(&b, kv, tensors); err != nil {
			t.Fatal(err)
		}
		repo.files[name] = b.Bytes()
	}
	for _, ref := range []string{"hf:o/m", "hf:o/m/a-00001-of-00002.gguf"} {
		w, err := checkpoints.Open(fetch(t, ref, o))
		if err != nil {
			t.Fatalf("%s: %v", ref, err)
		}
		defer w.Close()
		if names := w.Names(); !slices.Equal(names, []string{"t0", "t1"}) {
			t.Errorf("%s: tensors %q", ref, names)
		}
	}
}
