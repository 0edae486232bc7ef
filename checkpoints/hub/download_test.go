package hub

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// breaks makes the store close the connection after the first n bytes of every answer.
func breaks(h *fakeHub, repo *fakeRepo, n int) {
	h.hook = func(host string, w http.ResponseWriter, r *http.Request) bool {
		if host != "cdn" {
			return false
		}
		data, from := repo.files["model.safetensors"], 0
		status := http.StatusOK
		if _, err := fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-", &from); err == nil {
			status = http.StatusPartialContent
			w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, len(data)-1, len(data)))
		}
		w.Header().Set("Content-Length", fmt.Sprint(len(data)-from))
		w.WriteHeader(status)
		w.Write(data[from:min(from+n, len(data))])
		if from+n < len(data) {
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		}
		return true
	}
}

func TestBrokenConnections(t *testing.T) {
	h, repo, o := start(t)
	breaks(h, repo, 1<<20+7)
	same(t, fetch(t, "hf:o/m", o), repo, "model.safetensors")
	var ranges []string
	for _, l := range h.asked(" cdn ") {
		ranges = append(ranges, l[strings.Index(l, "range="):])
	}
	if want := []string{"range=", "range=bytes=1048583-", "range=bytes=2097166-"}; !slices.Equal(ranges, want) {
		t.Errorf("asked for %v, want %v", ranges, want)
	}
	// Little by little is not for ever; what came stays for the next time.
	_, repo2, o2 := start(t)
	breaks(h, repo2, 1000)
	h.repos["o/m"], o2.Endpoint = repo2, h.URL
	refuses(t, "hf:o/m", o2, "broke at byte 5000 of 3145728", "gave up after 5 attempts")
	part := filepath.Join(o2.Cache, "models--o--m", "blobs", repo2.sum("model.safetensors")+".part")
	if !has(part, 5000) {
		t.Error("the part file is not there")
	}
	h.hook = nil
	h.asked("")
	same(t, fetch(t, "hf:o/m", o2), repo2, "model.safetensors")
	if l := h.asked(" cdn "); len(l) != 1 || !strings.HasSuffix(l[0], "bytes=5000-") {
		t.Errorf("asked for %q", l)
	}
	if has(part, int64(len(repo2.files["model.safetensors"]))) {
		t.Error("the part file is still there")
	}
}

func TestPartFiles(t *testing.T) {
	for name, c := range map[string]struct {
		part func(data []byte) []byte
		hook func(w http.ResponseWriter, r *http.Request, data []byte) bool
		err  string
	}{
		"whole":     {part: func(d []byte) []byte { return d }},
		"too long":  {part: func(d []byte) []byte { return append(bytes.Clone(d), 1) }},
		"damaged":   {part: func(d []byte) []byte { return make([]byte, 100) }, err: "checksum"},
		"no ranges": {part: func(d []byte) []byte { return d[:100] }, hook: func(w http.ResponseWriter, _ *http.Request, d []byte) bool { w.Write(d); return true }},
		"wrong range": {part: func(d []byte) []byte { return d[:100] }, hook: func(w http.ResponseWriter, r *http.Request, d []byte) bool {
			if r.Header.Get("Range") != "" {
				w.Header().Set("Content-Range", fmt.Sprintf("bytes 0-%d/%d", len(d)-1, len(d)))
				w.WriteHeader(http.StatusPartialContent)
			}
			w.Write(d)
			return true
		}},
		"range refused": {part: func(d []byte) []byte { return d[:100] }, hook: func(w http.ResponseWriter, r *http.Request, d []byte) bool {
			if r.Header.Get("Range") != "" {
				w.WriteHeader(http.StatusRequestedRangeNotSatisfiable)
				return true
			}
			return false
		}},
		"too much": {hook: func(w http.ResponseWriter, _ *http.Request, d []byte) bool { w.Write(d); w.Write(d); return true }, err: "more than"},
		"link ran out": {hook: func(w http.ResponseWriter, _ *http.Request, d []byte) bool {
			w.WriteHeader(http.StatusForbidden)
			return true
		}, err: "403"},
	} {
		t.Run(name, func(t *testing.T) {
			h, repo, o := start(t)
			data := repo.files["model.safetensors"]
			part := filepath.Join(o.Cache, "models--o--m", "blobs", repo.sum("model.safetensors")+".part")
			if c.part != nil {
				os.MkdirAll(filepath.Dir(part), 0o777)
				if err := os.WriteFile(part, c.part(data), 0o666); err != nil {
					t.Fatal(err)
				}
			}
			h.hook = func(host string, w http.ResponseWriter, r *http.Request) bool {
				return host == "cdn" && c.hook != nil && c.hook(w, r, data)
			}
			if c.err != "" {
				refuses(t, "hf:o/m", o, "o/m/model.safetensors", c.err)
				if c.err != "403" {
					if _, err := os.Stat(part); !errors.Is(err, os.ErrNotExist) {
						t.Error("the part file is still there")
					}
				}
				return
			}
			same(t, fetch(t, "hf:o/m", o), repo, "model.safetensors")
		})
	}
}

func TestWrongSums(t *testing.T) {
	h, repo, o := start(t)
	repo.sums = map[string]string{"model.safetensors": strings.Repeat("ab", 32)}
	refuses(t, "hf:o/m", o, "o/m/model.safetensors", "checksum", "removed", "try again")
	for _, name := range listDir(t, filepath.Join(o.Cache, "models--o--m", "blobs")) {
		if strings.HasPrefix(name, "abab") {
			t.Errorf("%s is left", name)
		}
	}
	repo.sums = nil
	h.hook = func(_ string, w http.ResponseWriter, r *http.Request) bool { // a small file that is not what its sum says
		if strings.HasSuffix(r.URL.Path, "/resolve/"+testCommit+"/config.json") {
			w.Write([]byte(`{"model_type": "xyz"}`))
			return true
		}
		return false
	}
	_, _, fresh := start(t)
	fresh.Endpoint = h.URL
	refuses(t, "hf:o/m", fresh, "o/m/config.json", "checksum")
}

// A server whose listing lacks sizes and sums is asked for headers.
func TestNoBlobs(t *testing.T) {
	h, repo, o := start(t)
	h.noBlobs = true
	dir := fetch(t, "hf:o/m", o)
	same(t, dir, repo, "config.json", "model.safetensors", "tokenizer.json")
	if l := h.asked("HEAD cdn"); len(l) != 0 {
		t.Errorf("asked the store for a header: %q", l)
	}
	fetch(t, "hf:o/m", o)
	if l := h.asked("GET hub /o/m/resolve"); len(l) != 0 {
		t.Errorf("data asked for again: %q", l)
	}
}

func TestSilence(t *testing.T) {
	h, _, o := start(t)
	o.stall = 50 * time.Millisecond
	release := make(chan struct{})
	defer close(release)
	h.hook = func(host string, w http.ResponseWriter, r *http.Request) bool {
		if host == "cdn" {
			w.Header().Set("Content-Length", fmt.Sprint(3<<20))
			w.Write(make([]byte, 10))
			w.(http.Flusher).Flush()
			<-release
		}
		return host == "cdn"
	}
	refuses(t, "hf:o/m", o, "no answer for too long", "gave up")
	ctx, cancel := context.WithCancel(t.Context())
	o.stall = time.Minute
	o.Progress = func(string, int64, int64) { cancel() }
	if _, err := Fetch(ctx, "hf:o/m", o); !errors.Is(err, context.Canceled) {
		t.Errorf("after cancel: %v", err)
	}
}

// A server that is never silent and never done is given up; what came stays.
func TestTrickle(t *testing.T) {
	h, repo, o := start(t)
	o.stall, o.window = time.Second, 60*time.Millisecond
	h.hook = func(host string, w http.ResponseWriter, r *http.Request) bool {
		if host != "cdn" {
			return false
		}
		data, from := repo.files["model.safetensors"], 0
		if _, err := fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-", &from); err == nil {
			w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, len(data)-1, len(data)))
			w.WriteHeader(http.StatusPartialContent)
		}
		for ; from < len(data) && r.Context().Err() == nil; from++ {
			w.Write(data[from : from+1])
			w.(http.Flusher).Flush()
			time.Sleep(5 * time.Millisecond)
		}
		return true
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	_, err := Fetch(ctx, "hf:o/m", o)
	if err == nil || !strings.Contains(err.Error(), "less than 1048576: too slow (gave up after 5 attempts") {
		t.Errorf("Fetch: %v", err)
	}
	h.mu.Lock()
	h.hook = nil
	h.mu.Unlock()
	h.asked("")
	same(t, fetch(t, "hf:o/m", o), repo, "model.safetensors")
	if l := h.asked(" cdn "); len(l) != 1 || !strings.Contains(l[0], "range=bytes=") {
		t.Errorf("asked for %q", l)
	}
}

// A server that brings enough in every window is not too slow, however long it takes.
func TestSteady(t *testing.T) {
	h, repo, o := start(t)
	o.window = 150 * time.Millisecond
	h.hook = func(host string, w http.ResponseWriter, r *http.Request) bool {
		data := repo.files["model.safetensors"]
		if host != "cdn" {
			return false
		}
		w.Header().Set("Content-Length", fmt.Sprint(len(data)))
		for len(data) > 0 {
			n := min(len(data), 512<<10)
			w.Write(data[:n])
			w.(http.Flusher).Flush()
			data = data[n:]
			time.Sleep(40 * time.Millisecond)
		}
		return true
	}
	same(t, fetch(t, "hf:o/m", o), repo, "model.safetensors")
	if l := h.asked(" cdn "); len(l) != 1 {
		t.Errorf("asked for %q", l)
	}
}

// Two at once: each blob comes once.
func TestTogether(t *testing.T) {
	h, repo, o := start(t)
	h.hook = func(host string, w http.ResponseWriter, r *http.Request) bool {
		if host == "cdn" {
			time.Sleep(50 * time.Millisecond)
		}
		return false
	}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			dir, err := Fetch(t.Context(), "hf:o/m", o)
			if err != nil {
				t.Error(err)
				return
			}
			same(t, dir, repo, "model.safetensors")
		})
	}
	wg.Wait()
	if l := h.asked(" cdn "); len(l) != 1 {
		t.Errorf("asked for %q", l)
	}
}

// A process that is killed in mid-file leaves what it had, and the next goes on from there.
func TestKilled(t *testing.T) {
	if url := os.Getenv("HUB_TEST_ENDPOINT"); url != "" {
		_, err := Fetch(t.Context(), "hf:o/m", Options{Endpoint: url, Cache: os.Getenv("HUB_TEST_CACHE")})
		t.Fatalf("the server should never have ended: %v", err)
	}
	h, repo, o := start(t)
	data := repo.files["model.safetensors"]
	const sent = 2 << 20
	release := make(chan struct{})
	h.mu.Lock()
	h.hook = func(host string, w http.ResponseWriter, r *http.Request) bool {
		if host != "cdn" {
			return false
		}
		w.Header().Set("Content-Length", fmt.Sprint(len(data)))
		w.Write(data[:sent])
		w.(http.Flusher).Flush()
		<-release
		return true
	}
	h.mu.Unlock()
	cmd := exec.Command(os.Args[0], "-test.run=^TestKilled$")
	cmd.Env = append(os.Environ(), "HUB_TEST_ENDPOINT="+h.URL, "HUB_TEST_CACHE="+o.Cache)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	part := filepath.Join(o.Cache, "models--o--m", "blobs", repo.sum("model.safetensors")+".part")
	for begin := time.Now(); !has(part, sent); time.Sleep(5 * time.Millisecond) {
		if time.Since(begin) > 20*time.Second {
			cmd.Process.Kill()
			t.Fatal("the part file never had what was sent")
		}
	}
	cmd.Process.Kill()
	cmd.Wait()
	close(release)
	h.mu.Lock()
	h.hook = nil
	h.mu.Unlock()
	h.asked("")
	same(t, fetch(t, "hf:o/m", o), repo, "config.json", "model.safetensors")
	if l := h.asked(" cdn "); len(l) != 1 || !strings.HasSuffix(l[0], fmt.Sprintf("bytes=%d-", sent)) {
		t.Errorf("asked for %q", l)
	}
}

func TestDiskFull(t *testing.T) {
	if _, err := os.Stat("/dev/full"); err != nil {
		t.Skip("no /dev/full on this system")
	}
	_, repo, o := start(t)
	r, err := parse("hf:o/m")
	if err == nil {
		err = o.fill()
	}
	if err != nil {
		t.Fatal(err)
	}
	s, err := newSession(o, r, cacheOf(o.Cache, r.repo))
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	const name = "model.safetensors"
	d := &download{s: s, name: name, path: s.path(testCommit, name), part: "CACHE/x.part", sum: repo.sum(name), size: 3 << 20, f: f, hash: sha256.New()}
	err = d.attempt(t.Context())
	const want = "o/m/model.safetensors: no space left in CACHE, 3145728 bytes are missing (free them and try again, or set HF_HUB_CACHE to a folder on another disk)"
	if err == nil || err.Error() != want {
		t.Errorf("attempt: %v\nwant %s", err, want)
	}
}
