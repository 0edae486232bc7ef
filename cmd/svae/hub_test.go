package main

import (
	"bytes"
	"crypto/sha1"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// gitSum is the checksum under which git stores a file, the ETag of small files on the hub.
func gitSum(b []byte) string {
	return fmt.Sprintf("%x", sha1.Sum(append(fmt.Appendf(nil, "blob %d\x00", len(b)), b...)))
}

// TestHubSource: a model is converted from a server that speaks the hub's paths, once downloaded also without one.
func TestHubSource(t *testing.T) {
	const commit = "0123456789abcdef0123456789abcdef01234567"
	weights := 0 // requests
	mux := http.NewServeMux()
	mux.HandleFunc("/api/models/me/tiny/revision/main", func(w http.ResponseWriter, r *http.Request) {
		es, err := os.ReadDir("demo/base")
		if err != nil {
			t.Error(err)
		}
		var files []map[string]any
		for _, e := range es {
			b, err := os.ReadFile(filepath.Join("demo/base", e.Name()))
			if err != nil {
				t.Error(err)
			}
			files = append(files, map[string]any{"rfilename": e.Name(), "size": len(b), "blobId": gitSum(b)})
		}
		json.NewEncoder(w).Encode(map[string]any{"sha": commit, "siblings": files})
	})
	mux.HandleFunc("/me/tiny/resolve/"+commit+"/{file}", func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.PathValue("file"), ".bin") {
			weights++
		}
		b, err := os.ReadFile(filepath.Join("demo/base", r.PathValue("file")))
		if err != nil {
			t.Error(err)
		}
		w.Header().Set("ETag", `"`+gitSum(b)+`"`)
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(b))
	})
	s := httptest.NewServer(mux)
	t.Setenv("HF_ENDPOINT", s.URL)
	t.Setenv("HF_HOME", t.TempDir())
	dir := t.TempDir()
	convert := func(name string, more ...string) (int, string) {
		var out, errs strings.Builder
		code := run(append([]string{"svae", "convert", "hf:me/tiny", filepath.Join(dir, name)}, more...), &out, &errs)
		return code, out.String() + errs.String()
	}
	if code, said := convert("a", "--dry-run"); code != 0 || !strings.Contains(said, "pytorch_model.bin") || !strings.Contains(said, "would download 4026472 of") {
		t.Fatalf("exit %d: %s", code, said)
	}
	if weights > 0 {
		t.Error("a dry run downloads weights")
	}
	if code, said := convert("a", "--verify"); code != 0 || !strings.Contains(said, "weights are equal") {
		t.Fatalf("exit %d: %s", code, said)
	}
	if weights == 0 {
		t.Error("nothing was downloaded")
	}
	s.Close()
	if code, said := convert("b"); code != 1 || !strings.Contains(said, "cannot reach "+s.URL) || !strings.Contains(said, "HF_HUB_OFFLINE=1 takes the copy") || strings.Count(said, "\n") != 1 {
		t.Errorf("without a server: exit %d: %s", code, said)
	}
	t.Setenv("HF_HUB_OFFLINE", "1")
	if code, said := convert("c"); code != 0 {
		t.Errorf("offline: exit %d: %s", code, said)
	}
	a, errA := os.ReadFile(filepath.Join(dir, "a", "model.safetensors"))
	c, errC := os.ReadFile(filepath.Join(dir, "c", "model.safetensors"))
	if errA != nil || errC != nil || string(a) != string(c) {
		t.Errorf("what was converted offline differs: %v, %v", errA, errC)
	}
}
