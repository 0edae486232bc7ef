package hub

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

const testCommit = "0123456789abcdef0123456789abcdef01234567"

// random returns bytes that do not repeat.
func random(n int) []byte {
	b := make([]byte, n)
	r := rand.NewChaCha8([32]byte{1})
	r.Read(b)
	return b
}

// start serves one repository, o/m, of small files and a large model.safetensors.
func start(t *testing.T) (*fakeHub, *fakeRepo, Options) {
	t.Helper()
	h := newFakeHub()
	t.Cleanup(h.close)
	for _, k := range []string{"HF_HOME", "HF_HUB_CACHE", "HF_TOKEN", "HF_TOKEN_PATH", "HUGGING_FACE_HUB_TOKEN", "HUGGINGFACE_HUB_CACHE",
		"HF_ENDPOINT", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "http_proxy", "HTTP_PROXY"} {
		t.Setenv(k, "")
	}
	t.Setenv("HF_HOME", t.TempDir())
	repo := &fakeRepo{commit: testCommit, large: map[string]bool{"model.safetensors": true}, files: map[string][]byte{
		"config.json": []byte(`{"model_type": "opt"}`), "tokenizer.json": []byte("{}"), "README.md": []byte("read me"),
		"pytorch_model.bin": []byte("old"), "model.safetensors": random(3 << 20),
	}}
	h.repos["o/m"] = repo
	return h, repo, Options{Endpoint: h.URL, Cache: t.TempDir(), wait: func(ctx context.Context, _ time.Duration) error { return ctx.Err() }}
}

func fetch(t *testing.T, ref string, o Options) string {
	t.Helper()
	dir, err := Fetch(t.Context(), ref, o)
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// refuses fails unless Fetch gives an error of one line that holds all of want, and nothing secret.
func refuses(t *testing.T, ref string, o Options, want ...string) error {
	t.Helper()
	dir, err := Fetch(t.Context(), ref, o)
	if err == nil {
		t.Fatalf("Fetch(%s) = %s, want an error", ref, dir)
	}
	for _, w := range want {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("Fetch(%s): %v\nwant %q in it", ref, err, w)
		}
	}
	if strings.ContainsFunc(err.Error(), func(c rune) bool { return !strconv.IsPrint(c) }) {
		t.Errorf("Fetch(%s): the error holds what a terminal obeys: %q", ref, err)
	}
	for _, secret := range []string{"hf_secret", "Signature", "\n"} {
		if strings.Contains(err.Error(), secret) {
			t.Errorf("Fetch(%s): the error holds %q: %v", ref, secret, err)
		}
	}
	return err
}

func same(t *testing.T, dir string, repo *fakeRepo, names ...string) {
	t.Helper()
	for _, name := range names {
		got, err := os.ReadFile(filepath.Join(dir, filepath.FromSlash(name)))
		if err != nil || !bytes.Equal(got, repo.files[name]) {
			t.Errorf("%s: %d bytes, %v; want %d", name, len(got), err, len(repo.files[name]))
		}
	}
}

func listDir(t *testing.T, dir string) []string {
	t.Helper()
	es, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range es {
		names = append(names, e.Name())
	}
	return names
}

func TestFetch(t *testing.T) {
	h, repo, o := start(t)
	o.Token = "hf_secret"
	last := map[string]int64{}
	o.Progress = func(file string, done, total int64) {
		if total != int64(len(repo.files[file])) || done < last[file] {
			t.Errorf("%s: %d of %d after %d", file, done, total, last[file])
		}
		last[file] = done
	}
	dir := fetch(t, "hf:o/m", o)
	want := []string{"config.json", "model.safetensors", "tokenizer.json"}
	if got := listDir(t, dir); !slices.Equal(got, want) {
		t.Errorf("the folder holds %v, want %v", got, want)
	}
	same(t, dir, repo, want...)
	for _, name := range want {
		if last[name] != int64(len(repo.files[name])) {
			t.Errorf("progress of %s ended at %d", name, last[name])
		}
	}
	root := filepath.Join(o.Cache, "models--o--m")
	if dir != filepath.Join(root, "snapshots", testCommit) {
		t.Errorf("the folder is %s", dir)
	}
	if ref, _ := os.ReadFile(filepath.Join(root, "refs", "main")); string(ref) != testCommit {
		t.Errorf("refs/main is %q", ref)
	}
	blobs := []string{gitSHA(repo.files["config.json"]), gitSHA(repo.files["tokenizer.json"]), repo.sum("model.safetensors")}
	slices.Sort(blobs)
	if got := listDir(t, filepath.Join(root, "blobs")); !slices.Equal(got, blobs) {
		t.Errorf("blobs are %v, want %v", got, blobs)
	}
	if link, err := os.Readlink(filepath.Join(dir, "model.safetensors")); runtime.GOOS != "windows" && link != "../../blobs/"+repo.sum("model.safetensors") {
		t.Errorf("the link is %q, %v", link, err)
	}
	for _, l := range h.asked("") {
		if strings.Contains(l, " cdn ") == strings.Contains(l, "hf_secret") {
			t.Errorf("the token must go to the hub and nowhere else: %s", l)
		}
	}
	// Again: only the listing is asked for. Offline: nothing.
	if again := fetch(t, "hf:o/m", o); again != dir {
		t.Errorf("again: %s", again)
	}
	if l := h.asked(""); len(l) != 1 || !strings.Contains(l[0], "/api/models/o/m/revision/main") {
		t.Errorf("requests for a model in the cache: %q", l)
	}
	o.Offline = true
	if again := fetch(t, "hf:o/m", o); again != dir {
		t.Errorf("offline: %s", again)
	}
	if again := fetch(t, "hf:o/m@"+testCommit, o); again != dir {
		t.Errorf("offline, by commit: %s", again)
	}
	if l := h.asked(""); len(l) != 0 {
		t.Errorf("requests though offline: %q", l)
	}
}

func TestFetchEnvironment(t *testing.T) {
	h, repo, o := start(t)
	repo.private, h.token = true, "hf_secret"
	home := t.TempDir()
	t.Setenv("HF_ENDPOINT", h.URL+"/")
	t.Setenv("HF_HOME", home)
	if err := os.WriteFile(filepath.Join(home, "token"), []byte("hf_secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	dir := fetch(t, "hf:o/m", Options{wait: o.wait})
	if want := filepath.Join(home, "hub", "models--o--m", "snapshots", testCommit); dir != want {
		t.Errorf("the folder is %s, want %s", dir, want)
	}
	t.Setenv("HF_HUB_OFFLINE", "1")
	h.close()
	if again := fetch(t, "hf:o/m", Options{}); again != dir {
		t.Errorf("offline: %s", again)
	}
	refuses(t, "hf:o/other", Options{}, "o/other", "HF_HUB_OFFLINE", "give its folder")
	os.Remove(filepath.Join(dir, "model.safetensors"))
	refuses(t, "hf:o/m", Options{}, "weights")
	t.Setenv("HF_HUB_OFFLINE", "")
	if err := os.WriteFile(filepath.Join(home, "token"), []byte("hf_secret\x00"), 0o600); err != nil {
		t.Fatal(err)
	}
	refuses(t, "hf:o/m", Options{}, "characters", filepath.Join(home, "token"))
	os.Remove(filepath.Join(home, "token"))
	t.Setenv("HF_TOKEN", "two\nlines")
	refuses(t, "hf:o/m", Options{}, "HF_TOKEN")
	t.Setenv("HF_TOKEN", "")
	t.Setenv("HF_ENDPOINT", "ftp://x")
	refuses(t, "hf:o/m", Options{}, "HF_ENDPOINT")
}

func TestChoose(t *testing.T) {
	index := []byte(`{"weight_map": {"a": "m-1.safetensors", "b": "m-2.safetensors", "c": "m-1.safetensors"}}`)
	files := func(names ...string) map[string][]byte {
		m := map[string][]byte{}
		for _, n := range names {
			m[n] = []byte(n)
			if strings.HasSuffix(n, ".index.json") {
				m[n] = index
			}
		}
		return m
	}
	for _, c := range []struct {
		name, ref string
		files     map[string][]byte
		want      []string // of the snapshot
		path      string   // of the result in the snapshot
		err       string
	}{
		{"safetensors first", "hf:o/m", files("pytorch_model.bin", "model.safetensors", "model.gguf", "x.h5"), []string{"model.safetensors"}, "", ""},
		{"shards", "hf:o/m", files("model.safetensors.index.json", "m-1.safetensors", "m-2.safetensors", "m-3.safetensors", "pytorch_model.bin"),
			[]string{"m-1.safetensors", "m-2.safetensors", "model.safetensors.index.json"}, "", ""},
		{"missing shard", "hf:o/m", files("model.safetensors.index.json", "m-1.safetensors"), nil, "", "shard m-2.safetensors of model.safetensors.index.json is not in the repository"},
		{"bin", "hf:o/m", files("pytorch_model.bin", "pytorch_model.bin.index.json", "tokenizer.model"), []string{"pytorch_model.bin", "tokenizer.model"}, "", ""},
		{"bin shards", "hf:o/m", files("pytorch_model.bin.index.json", "m-1.safetensors", "m-2.safetensors"),
			[]string{"m-1.safetensors", "m-2.safetensors", "pytorch_model.bin.index.json"}, "", ""},
		{"one gguf", "hf:o/m", files("a.Q8_0.gguf", "config.json", "b.bin"), []string{"a.Q8_0.gguf", "config.json"}, "a.Q8_0.gguf", ""},
		{"two gguf", "hf:o/m", files("b.gguf", "a.gguf"), nil, "", "several files may hold the weights: a.gguf, b.gguf (hf:o/m/FILE picks one)"},
		{"split gguf", "hf:o/m", files("a-00001-of-00003.gguf", "a-00002-of-00003.gguf", "a-00003-of-00003.gguf", "tokenizer.json", "b.bin"),
			[]string{"a-00001-of-00003.gguf", "a-00002-of-00003.gguf", "a-00003-of-00003.gguf", "tokenizer.json"}, "", ""},
		{"split gguf, named", "hf:o/m/a-00001-of-00002.gguf", files("a-00001-of-00002.gguf", "a-00002-of-00002.gguf", "b.gguf"),
			[]string{"a-00001-of-00002.gguf", "a-00002-of-00002.gguf"}, "a-00001-of-00002.gguf", ""},
		{"split gguf, in a folder", "hf:o/m/q/a-00001-of-00002.gguf", files("q/a-00001-of-00002.gguf", "q/a-00002-of-00002.gguf", "q/a-00003-of-00003.gguf"),
			[]string{"q/a-00001-of-00002.gguf", "q/a-00002-of-00002.gguf"}, "q/a-00001-of-00002.gguf", ""},
		{"split gguf of one part", "hf:o/m", files("a-00001-of-00001.gguf"), []string{"a-00001-of-00001.gguf"}, "a-00001-of-00001.gguf", ""},
		{"second part named", "hf:o/m/a-00002-of-00002.gguf@" + testCommit, files("a-00001-of-00002.gguf", "a-00002-of-00002.gguf"), nil, "",
			"part 2 of 2 of a model (name the first, hf:o/m/a-00001-of-00002.gguf@" + testCommit + ")"},
		{"missing part", "hf:o/m", files("a-00001-of-00003.gguf", "a-00003-of-00003.gguf"), nil, "",
			"a model in 3 parts, and the repository has no a-00002-of-00003.gguf at revision main"},
		{"missing part, named", "hf:o/m/a-00001-of-00002.gguf", files("a-00001-of-00002.gguf"), nil, "", "no a-00002-of-00002.gguf"},
		{"only the second part", "hf:o/m", files("a-00002-of-00002.gguf"), nil, "", "no a-00001-of-00002.gguf"},
		{"two split models", "hf:o/m", files("a-00001-of-00002.gguf", "a-00002-of-00002.gguf", "b-00001-of-00002.gguf", "b-00002-of-00002.gguf"), nil, "",
			"several files may hold the weights: a-00001-of-00002.gguf, b-00001-of-00002.gguf (hf:o/m/FILE picks one)"},
		{"named", "hf:o/m/b.gguf", files("b.gguf", "a.gguf", "model.safetensors"), []string{"b.gguf"}, "b.gguf", ""},
		{"in a folder", "hf:o/m/q/b.gguf@" + testCommit, files("q/b.gguf", "q/config.json", "config.json"), []string{"q/b.gguf", "q/config.json"}, "q/b.gguf", ""},
		{"one pth", "hf:o/m", files("SVAE.pth", "README.md"), []string{"SVAE.pth"}, "SVAE.pth", ""},
		{"none", "hf:o/m", files("README.md", "model.onnx"), nil, "", "holds no weights at revision main"},
		{"not there", "hf:o/m/c.gguf", files("a.gguf"), nil, "", "has no file c.gguf at revision main: a.gguf"},
		{"branch with a slash", "hf:o/m@refs/pr/1", files("model.safetensors"), []string{"model.safetensors"}, "", ""},
		{"names that are not for files", "hf:o/m", files("../model.safetensors", "/etc/model.safetensors", "..", "a\\b.gguf", "\x1b[2J.gguf", "\u009b2J.gguf", "\u202eab.gguf"), nil, "",
			"holds no weights"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, repo, o := start(t)
			repo.files = c.files
			if c.err != "" {
				refuses(t, c.ref, o, c.err)
				return
			}
			got := fetch(t, c.ref, o)
			dir := filepath.Join(o.Cache, "models--o--m", "snapshots", testCommit)
			if want := filepath.Join(dir, filepath.FromSlash(c.path)); got != want {
				t.Errorf("Fetch returns %s, want %s", got, want)
			}
			names, err := filesIn(dir)
			if err != nil || !slices.Equal(names, c.want) {
				t.Errorf("the snapshot holds %q, %v; want %q", names, err, c.want)
			}
			same(t, dir, repo, c.want...)
			o.Offline = true
			if again := fetch(t, c.ref, o); again != got {
				t.Errorf("offline: %s, want %s", again, got)
			}
		})
	}
}

func TestHostileShards(t *testing.T) {
	for _, shard := range []string{"../x", "/etc/passwd", "a/b", `a\\b`, "c:x", "", "..", "http://h/x"} {
		_, repo, o := start(t)
		repo.files = map[string][]byte{"model.safetensors.index.json": fmt.Appendf(nil, `{"weight_map": {"a": %q}}`, shard), shard: []byte("x")}
		if shard == `a\\b` {
			repo.files["model.safetensors.index.json"] = []byte(`{"weight_map": {"a": "a\\b"}}`)
		}
		refuses(t, "hf:o/m", o, "is not the name of a file in the same folder")
	}
	for _, index := range []string{"[]", "{}", "{", `{"weight_map": {"a": 1}}`} {
		_, repo, o := start(t)
		repo.files = map[string][]byte{"model.safetensors.index.json": []byte(index)}
		refuses(t, "hf:o/m", o, "not an index of shards")
	}
}

func TestHostileListings(t *testing.T) {
	for answer, want := range map[string]string{
		`{"sha": "../../x", "siblings": []}`: "names no commit",
		`{"siblings": []}`:                   "names no commit",
		`{"sha": "` + testCommit + `", "siblings": [{"rfilename": "model.safetensors", "size": 1, "blobId": "../../../x"}]}`:                                               "no size and checksum",
		`{"sha": "` + testCommit + `", "siblings": [{"rfilename": "model.safetensors", "lfs": {"sha256": "00", "size": 1}}]}`:                                              "no size and checksum",
		`{"sha": "` + testCommit + `", "siblings": [{"rfilename": "model.safetensors", "size": -1, "blobId": "` + testCommit + `"}]}`:                                      "no size and checksum",
		`{"sha": "` + testCommit + `", "siblings": [{"rfilename": "model.safetensors", "size": 1099511627777, "blobId": "` + testCommit + `"}]}`:                           "announces 1099511627777 bytes, the limit",
		`{"sha": "` + testCommit + `", "siblings": [{"rfilename": "model.safetensors", "lfs": {"sha256": "` + strings.Repeat("ab", 32) + `", "size": 9000000000000000}}]}`: "announces 9000000000000000 bytes, the limit",
		`{"sha": "` + testCommit + `", "siblings": {}}`: "not a hub's",
		`<html>`: "not a hub's",
		`{"sha": "` + testCommit + `", "siblings": [` + strings.Repeat("{},", maxFiles) + `{}]}`: "more than 100000 files",
		strings.Repeat(" ", maxListing+1): "exceeds",
	} {
		h, _, o := start(t)
		h.hook = func(_ string, w http.ResponseWriter, r *http.Request) bool {
			if strings.HasPrefix(r.URL.Path, "/api/") {
				w.Write([]byte(answer))
				return true
			}
			return false
		}
		refuses(t, "hf:o/m", o, want)
		if names, _ := filepath.Glob(filepath.Join(o.Cache, "*", "*", "*")); len(names) != 0 {
			t.Errorf("%.60s: left %v", answer, names)
		}
	}
}

func TestRefusals(t *testing.T) {
	h, repo, o := start(t)
	refuses(t, "hf:o/none", o, "o/none: no such repository", "HF_TOKEN")
	refuses(t, "hf:o/m@dev", o, "o/m has no revision dev")
	refuses(t, "hf:o/m/x.gguf", o, "no file x.gguf")
	with := o
	with.Token = "hf_secret"
	refuses(t, "hf:o/none", with, "o/none: no such repository")
	repo.gated, h.token = true, "hf_granted"
	refuses(t, "hf:o/m", o, "o/m is gated: accept its licence at "+h.URL+"/o/m, then set HF_TOKEN")
	refuses(t, "hf:o/m", with, "gated")
	with.Token = "hf_granted"
	fetch(t, "hf:o/m", with)
	repo.gated, repo.private = false, true
	refuses(t, "hf:o/m", o, "private")

	status, code := 0, ""
	h.hook = func(_ string, w http.ResponseWriter, r *http.Request) bool {
		if strings.HasSuffix(r.URL.Path, "/revision/main") {
			refuse(w, status, code)
			return true
		}
		return false
	}
	repo.private = false
	status = 404 // a server without error codes: the repository is there, so the revision is not
	refuses(t, "hf:o/m", o, "has no revision main")
	refuses(t, "hf:o/x", o, "o/x: no such repository")
	status = 403
	refuses(t, "hf:o/m", o, "access is refused", "licence")
	status = 418
	refuses(t, "hf:o/m", o, "answers 418")
	status = 503
	h.asked("")
	refuses(t, "hf:o/m", o, "answers 503", "gave up after 5 attempts")
	if n := len(h.asked("")); n != maxTries {
		t.Errorf("%d attempts", n)
	}
	for ref, want := range map[string]string{"hf:": "names no repository", "hf:o/../m": "names no repository", "hf:o/m/": "not a path", "hf:o/m/../x": "not a path",
		"hf:o/m@": "not a branch", "hf:o/m@../x": "not a branch", "hf:o/m@a//b": "not a branch", "hf:-o/m": "names no repository", "hf:o/m/a\\b": "not a path",
		"hf:o--p/m": "names no repository", "hf:o/m@a\nb": "not a branch"} {
		if err := refuses(t, ref, o, want); strings.ContainsAny(err.Error(), "\n\x00") {
			t.Errorf("%q: %v", ref, err)
		}
	}
}

func TestRetryAfter(t *testing.T) {
	h, repo, o := start(t)
	busy := 2
	after := "7"
	h.hook = func(_ string, w http.ResponseWriter, r *http.Request) bool {
		if busy--; busy >= 0 {
			w.Header().Set("Retry-After", after)
			refuse(w, http.StatusTooManyRequests, "")
		}
		return busy >= 0
	}
	var waits []time.Duration
	o.wait = func(_ context.Context, d time.Duration) error { waits = append(waits, d); return nil }
	same(t, fetch(t, "hf:o/m", o), repo, "model.safetensors")
	if !slices.Equal(waits, []time.Duration{7 * time.Second, 7 * time.Second}) {
		t.Errorf("waited %v", waits)
	}
	busy, after = 1, time.Now().Add(time.Hour+30*time.Second).UTC().Format(http.TimeFormat)
	refuses(t, "hf:o/m", o, "429", "asks to come back in 1h")
}

func TestUnreachable(t *testing.T) {
	h, _, o := start(t)
	h.close()
	waited := false
	o.wait = func(context.Context, time.Duration) error { waited = true; return nil }
	refuses(t, "hf:o/m", o, "cannot reach "+h.URL, "refused", "download o/m elsewhere and give the folder")
	if waited {
		t.Error("asked again though there is no network")
	}
}

func TestRedirects(t *testing.T) {
	h, repo, o := start(t)
	h.repos["old/m"] = &fakeRepo{moved: "o/m"}
	same(t, fetch(t, "hf:old/m", o), repo, "model.safetensors", "config.json")
	loop := h.URL
	h.hook = func(_ string, w http.ResponseWriter, r *http.Request) bool {
		w.Header().Set("Location", loop+r.URL.Path)
		w.WriteHeader(http.StatusFound)
		return true
	}
	refuses(t, "hf:o/m", o, "more than 10 redirects")
	loop = "file:///etc/passwd?"
	refuses(t, "hf:o/m", o, "not followed")
	// The token does not come back from another host either.
	o.Token = "hf_secret"
	h.hook = func(host string, w http.ResponseWriter, r *http.Request) bool {
		switch {
		case r.URL.Path == "/back":
			w.Write([]byte("{}"))
		case host == "hub":
			http.Redirect(w, r, h.cdn.URL+r.URL.Path, http.StatusFound)
		default:
			http.Redirect(w, r, h.URL+"/back", http.StatusFound)
		}
		return true
	}
	h.asked("")
	refuses(t, "hf:o/m", o, "names no commit")
	if l := h.asked("hf_secret"); len(l) != 1 || strings.Contains(l[0], "/back") {
		t.Errorf("the token went to %q", l)
	}
}

// A file of a token that is there and cannot be read is not the same as none.
func TestTokenFile(t *testing.T) {
	h, repo, o := start(t)
	file := filepath.Join(t.TempDir(), "token")
	t.Setenv("HF_TOKEN_PATH", file)
	same(t, fetch(t, "hf:o/m", o), repo, "config.json") // none
	if err := os.Mkdir(file, 0o777); err != nil {
		t.Fatal(err)
	}
	h.asked("")
	refuses(t, "hf:o/m", o, "read the token", file, "set HF_TOKEN")
	o.Token = "hf_granted"
	fetch(t, "hf:o/m", o) // the file is not needed
	o.Token = ""
	os.Remove(file)
	if err := os.WriteFile(file, make([]byte, maxToken+1), 0o600); err != nil {
		t.Fatal(err)
	}
	refuses(t, "hf:o/m", o, "read the token", file, "more than 4096 bytes")
	if runtime.GOOS == "windows" || os.Geteuid() == 0 {
		return // every file can be read
	}
	if err := os.Chmod(file, 0); err != nil {
		t.Fatal(err)
	}
	refuses(t, "hf:o/m", o, "read the token", file, "permission denied")
}

// What a server says must not move the cursor, retitle the window or hide text.
func TestTerminal(t *testing.T) {
	h, _, o := start(t)
	var answer string
	h.hook = func(host string, w http.ResponseWriter, r *http.Request) bool {
		if host == "hub" && !strings.HasSuffix(r.URL.Path, "/model.safetensors") == strings.Contains(answer, "Content-Range") {
			return false
		}
		c, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			t.Error(err)
			return true
		}
		fmt.Fprint(c, answer)
		c.Close()
		return true
	}
	const osc = "\x1b]0;mine\x07\r\u009b2J\u202e"
	for _, c := range []struct{ answer, want string }{
		{"HTTP/1.1 418 " + osc + "\r\nContent-Length: 0\r\n\r\n", "answers 418 I'm a teapot"},
		{"HTTP/1.1 599 " + osc + "\r\nContent-Length: 0\r\n\r\n", "answers 599 (gave up"},
		{"HTTP/1.1 200 OK\r\nno colon " + osc + "\r\n\r\n", `\x1b]0;mine`},
		{"HTTP/1.1 302 Found\r\nContent-Length: 0\r\nLocation: http://a\u009bb.invalid/\r\n\r\n", ""},
		{"HTTP/1.1 302 Found\r\nContent-Length: 0\r\nLocation: http://[::1%25\u009b]:1/\r\n\r\n", ""},
		{"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nno colon " + osc + "\r\n\r\n", `\x1b]0;mine`},
		{"HTTP/1.1 206 Partial\r\nContent-Length: 0\r\nContent-Range: \u009b2J\u202e\r\n\r\n", "the server sends"},
	} {
		answer = c.answer
		refuses(t, "hf:o/m", o, c.want)
	}
}

func TestClip(t *testing.T) {
	for in, want := range map[string]string{
		`plain "text" of \ größe 模型 'it'`: `plain "text" of \ größe 模型 'it'`,
		"\x1b[31m\r\n\x07\x00\x7f":        `\x1b[31m\r\n\a\x00\x7f`,
		"a\u009bb\u202ec\u2028":           `a\u009bb\u202ec\u2028`,
		"bad \xff utf-8":                  "bad ? utf-8",
		strings.Repeat("é", 150):          strings.Repeat("é", 100) + "...",
		"x" + strings.Repeat("é", 150):    "x" + strings.Repeat("é", 99) + "?...",
	} {
		if got := clip(in); got != want {
			t.Errorf("clip(%q) = %q, want %q", in, got, want)
		}
	}
}
