package hub

import (
	"bytes"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"time"
)

// A fakeHub is a server that speaks the hub's paths, and a second one to which it sends for large files.
type fakeHub struct {
	*httptest.Server
	cdn   *httptest.Server
	repos map[string]*fakeRepo

	mu  sync.Mutex
	log []string // "GET hub /path token=T range=R"

	token   string // what a gated or private repository asks for
	noBlobs bool   // the listing has no sizes and sums
	// hook may answer a request instead; host is "hub" or "cdn".
	hook func(host string, w http.ResponseWriter, r *http.Request) bool
}

type fakeRepo struct {
	commit         string
	files          map[string][]byte
	large          map[string]bool // stored in LFS
	gated, private bool
	moved          string            // another repository, to which requests are sent
	sums           map[string]string // wrong ones, by file
}

func newFakeHub() *fakeHub {
	h := &fakeHub{repos: map[string]*fakeRepo{}}
	h.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { h.serve("hub", w, r) }))
	h.cdn = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { h.serve("cdn", w, r) }))
	return h
}

func (h *fakeHub) close() {
	for _, s := range []*httptest.Server{h.Server, h.cdn} {
		s.CloseClientConnections()
		s.Close()
	}
}

func (h *fakeHub) serve(host string, w http.ResponseWriter, r *http.Request) {
	token := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
	h.mu.Lock()
	h.log = append(h.log, fmt.Sprintf("%s %s %s token=%s range=%s", r.Method, host, r.URL.EscapedPath(), token, r.Header.Get("Range")))
	hook := h.hook
	h.mu.Unlock()
	switch {
	case hook != nil && hook(host, w, r):
	case host == "cdn":
		h.object(w, r, token)
	case strings.HasPrefix(r.URL.Path, "/api/models/"):
		h.model(w, r, token)
	default:
		h.resolve(w, r, token)
	}
}

func refuse(w http.ResponseWriter, status int, code string) {
	if code != "" {
		w.Header().Set("X-Error-Code", code)
	}
	http.Error(w, "no", status)
}

// repo finds the repository "owner/name" of a path and what follows.
func (h *fakeHub) repo(path string) (repo *fakeRepo, name, rest string) {
	parts := strings.SplitN(path, "/", 3)
	name = strings.Join(parts[:min(2, len(parts))], "/")
	if len(parts) == 3 {
		rest = parts[2]
	}
	return h.repos[name], name, rest
}

func (h *fakeHub) model(w http.ResponseWriter, r *http.Request, token string) {
	repo, name, rest := h.repo(strings.TrimPrefix(r.URL.Path, "/api/models/"))
	switch {
	case repo == nil || repo.private && token != h.token:
		refuse(w, map[bool]int{true: 404, false: 401}[token != ""], "RepoNotFound")
		return
	case repo.moved != "":
		http.Redirect(w, r, "/api/models/"+repo.moved+strings.TrimPrefix(r.URL.Path, "/api/models/"+name)+"?"+r.URL.RawQuery, http.StatusTemporaryRedirect)
		return
	case rest != "" && rest != "revision/main" && rest != "revision/refs/pr/1" && rest != "revision/"+repo.commit:
		refuse(w, 404, "RevisionNotFound")
		return
	}
	type m = map[string]any
	list := []m{}
	for _, name := range slices.Sorted(maps.Keys(repo.files)) {
		f := m{"rfilename": name}
		if r.URL.Query().Get("blobs") == "true" && !h.noBlobs {
			data := repo.files[name]
			f["size"], f["blobId"] = len(data), gitSHA(data)
			if repo.large[name] {
				f["blobId"] = strings.Repeat("0", 40)
				f["lfs"] = m{"sha256": repo.sum(name), "size": len(data), "pointerSize": 130}
			}
		}
		list = append(list, f)
	}
	json.NewEncoder(w).Encode(m{"id": name, "sha": repo.commit, "gated": repo.gated, "siblings": list})
}

func (r *fakeRepo) sum(name string) string {
	if s := r.sums[name]; s != "" {
		return s
	}
	return fmt.Sprintf("%x", sha256.Sum256(r.files[name]))
}

func gitSHA(data []byte) string {
	s := sha1.New()
	fmt.Fprintf(s, "blob %d\x00", len(data))
	s.Write(data)
	return fmt.Sprintf("%x", s.Sum(nil))
}

func (h *fakeHub) resolve(w http.ResponseWriter, r *http.Request, token string) {
	repo, name, rest := h.repo(strings.TrimPrefix(r.URL.Path, "/"))
	if repo == nil || repo.private && token != h.token {
		refuse(w, 401, "RepoNotFound")
		return
	}
	if repo.moved != "" {
		http.Redirect(w, r, "/"+repo.moved+strings.TrimPrefix(r.URL.Path, "/"+name), http.StatusTemporaryRedirect)
		return
	}
	parts := strings.SplitN(rest, "/", 3)
	if len(parts) != 3 || parts[0] != "resolve" || parts[1] != "main" && parts[1] != repo.commit {
		refuse(w, 404, "RevisionNotFound")
		return
	}
	w.Header().Set("X-Repo-Commit", repo.commit)
	data, ok := repo.files[parts[2]]
	switch {
	case repo.gated && token != h.token:
		refuse(w, 401, "GatedRepo")
	case !ok:
		refuse(w, 404, "EntryNotFound")
	case repo.large[parts[2]]:
		w.Header().Set("X-Linked-Size", fmt.Sprint(len(data)))
		w.Header().Set("X-Linked-Etag", `"`+repo.sum(parts[2])+`"`)
		w.Header().Set("ETag", `"pointer"`)
		w.Header().Set("Location", h.cdn.URL+"/"+name+"/"+parts[2]+"?X-Amz-Signature=secret")
		w.WriteHeader(http.StatusFound)
	default:
		w.Header().Set("ETag", `"`+gitSHA(data)+`"`)
		w.Header().Set("Content-Type", "application/octet-stream")
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(data))
	}
}

// object serves a large file; like real object stores it refuses a request that is signed twice.
func (h *fakeHub) object(w http.ResponseWriter, r *http.Request, token string) {
	repo, _, rest := h.repo(strings.TrimPrefix(r.URL.Path, "/"))
	if token != "" || repo == nil || repo.files[rest] == nil {
		http.Error(w, "only one authorisation is allowed", http.StatusBadRequest)
		return
	}
	w.Header().Set("ETag", `"of-the-store"`)
	w.Header().Set("Content-Type", "application/octet-stream")
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(repo.files[rest]))
}

// asked returns the requests since the last call that contain s.
func (h *fakeHub) asked(s string) []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	var found []string
	for _, l := range h.log {
		if strings.Contains(l, s) {
			found = append(found, l)
		}
	}
	h.log = nil
	return found
}
