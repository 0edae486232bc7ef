package hub

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// A session talks to one hub about one repository.
type session struct {
	o       Options
	ref     reference
	cache   cache
	base    *url.URL
	client  *http.Client
	reached bool // the hub has answered
}

func newSession(o Options, r reference, c cache) (*session, error) {
	base, err := endpointURL(o.Endpoint)
	if err != nil {
		return nil, err
	}
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.DisableCompression = true // ranges and sizes are those of the file
	t.DialContext = (&net.Dialer{Timeout: 15 * time.Second}).DialContext
	return &session{o: o, ref: r, cache: c, base: base, client: &http.Client{Transport: t,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}, nil
}

// A transient error may be gone at the next attempt.
type transient struct {
	err   error
	after time.Duration // the server's wish; 0 for none
}

func (t *transient) Error() string { return t.err.Error() }
func (t *transient) Unwrap() error { return t.err }

// retry calls f again after transient errors. done returns the bytes that f has brought so far.
func (s *session) retry(ctx context.Context, done func() int64, f func() error) error {
	for tries, attempts := 1, 1; ; tries, attempts = tries+1, attempts+1 {
		before := done()
		err := f()
		var t *transient
		if !errors.As(err, &t) || ctx.Err() != nil {
			return err
		}
		if done()-before >= progress {
			tries = 1
		}
		if tries >= maxTries || attempts >= maxAttempts {
			return fmt.Errorf("%w (gave up after %d attempts; try again later)", err, attempts)
		}
		wait := time.Second << (tries - 1)
		wait += time.Duration(rand.Int64N(int64(wait)/4 + 1))
		if t.after > 0 {
			wait = t.after
		}
		if wait > 5*time.Minute {
			return fmt.Errorf("%w (it asks to come back in %s)", err, wait.Round(time.Second))
		}
		if err := s.o.wait(ctx, wait); err != nil {
			return err
		}
	}
}

// A response is an answer with what the hub said of the file before it sent the request elsewhere.
type response struct {
	*http.Response
	sum  string // of the content, "" if the hub gave none
	size int64  // of the content, -1 if the hub gave none
	hub  bool   // the hub answered, not the host of a redirect
}

// do sends one request to a path of the hub and follows redirects. The token goes to the hub only, and not even there once
// another host was asked. The caller closes the body.
func (s *session) do(ctx context.Context, method, path string, header http.Header) (*response, error) {
	u, err := url.Parse(s.o.Endpoint + path)
	if err != nil {
		return nil, err
	}
	r := &response{size: -1, hub: true}
	for range maxRedirects + 1 {
		req, err := http.NewRequestWithContext(ctx, method, u.String(), nil)
		if err != nil {
			return nil, err
		}
		req.Header = header.Clone()
		if req.Header == nil {
			req.Header = http.Header{}
		}
		req.Header.Set("User-Agent", "svae")
		if r.hub && s.o.Token != "" {
			req.Header.Set("Authorization", "Bearer "+s.o.Token)
		}
		if r.Response, err = s.client.Do(req); err != nil {
			return nil, s.unreachable(ctx, u, err)
		}
		if r.hub {
			s.reached = true
			r.note()
		}
		if !redirects(r.StatusCode) {
			return r, nil
		}
		next, err := r.Location()
		if err != nil || next.Scheme != "https" && (next.Scheme != "http" || u.Scheme == "https") {
			r.Body.Close()
			return nil, fmt.Errorf("%s: redirects to an address that is not followed", origin(u))
		}
		away := next.Scheme != s.base.Scheme || next.Host != s.base.Host
		if method == http.MethodHead && away { // all that is asked has been said
			return r, nil
		}
		r.Body.Close()
		r.hub = r.hub && !away
		u = next
	}
	return nil, fmt.Errorf("%s: more than %d redirects", s.o.Endpoint, maxRedirects)
}

func redirects(status int) bool {
	switch status {
	case http.StatusMovedPermanently, http.StatusFound, http.StatusSeeOther, http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
		return true
	}
	return false
}

// note keeps what an answer's header says of the file.
func (r *response) note() {
	sum := r.Header.Get("X-Linked-Etag")
	if sum == "" && !redirects(r.StatusCode) {
		sum = r.Header.Get("ETag")
	}
	if sum = strings.Trim(strings.TrimPrefix(sum, "W/"), `"`); sum != "" {
		r.sum = sum
	}
	size := r.Header.Get("X-Linked-Size")
	if size == "" && r.StatusCode == http.StatusOK {
		size = r.Header.Get("Content-Length")
	}
	if n, err := strconv.ParseInt(size, 10, 64); err == nil && n >= 0 {
		r.size = n
	}
}

// origin is what may be shown of an address: no path or query, which may hold a signature.
func origin(u *url.URL) string { return clip(u.Scheme + "://" + u.Host) }

// answers says who gave which status. The server's own words for it are left out.
func (r *response) answers() string {
	return strings.TrimSpace(fmt.Sprintf("%s answers %d %s", origin(r.Request.URL), r.StatusCode, http.StatusText(r.StatusCode)))
}

// unreachable explains why there was no answer.
func (s *session) unreachable(ctx context.Context, u *url.URL, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		err = cause
		if !errors.Is(err, errStalled) {
			return err
		}
	}
	var ue *url.Error
	if errors.As(err, &ue) {
		err = ue.Err
	}
	wayOut := fmt.Sprintf("download %s elsewhere and give the folder", s.ref.repo)
	if _, e := s.cache.find(s.ref); e == nil {
		wayOut = "HF_HUB_OFFLINE=1 takes the copy in the cache"
	}
	err = fmt.Errorf("cannot reach %s: %w; %s", origin(u), plain{err}, wayOut)
	var dial *net.OpError
	if !s.reached && errors.As(err, &dial) && dial.Op == "dial" {
		return err // no network: asking again would only take time
	}
	return &transient{err: err}
}

// refused explains an answer that is not a success.
func (s *session) refused(r *response, what string) error {
	page := s.o.Endpoint + "/" + s.ref.repo
	said := r.answers()
	code := r.Header.Get("X-Error-Code")
	switch status := r.StatusCode; {
	case status == http.StatusTooManyRequests || status == http.StatusRequestTimeout || status == http.StatusTooEarly || status >= 500:
		return &transient{fmt.Errorf("%s: %s", what, said), retryAfter(r.Header.Get("Retry-After"))}
	case !r.hub: // the signature of a redirect's address runs out; the next attempt gets a new one
		return &transient{err: fmt.Errorf("%s: %s", what, said)}
	case code == "GatedRepo":
		return fmt.Errorf("%s is gated: accept its licence at %s, then set HF_TOKEN to a token of that account", s.ref.repo, page)
	case code == "RevisionNotFound":
		return s.noRevision()
	case code == "EntryNotFound":
		return fmt.Errorf("%s: the repository has no such file at revision %s", what, s.ref.rev)
	case status == http.StatusUnauthorized && s.o.Token != "":
		return fmt.Errorf("%s: no such repository, or the token is not accepted there (check the name and HF_TOKEN)", s.ref.repo)
	case status == http.StatusForbidden:
		return fmt.Errorf("%s: access is refused: accept its licence at %s if it has one, then set HF_TOKEN to a token that may read it", s.ref.repo, page)
	case status == http.StatusUnauthorized, code == "RepoNotFound", status == http.StatusNotFound:
		return fmt.Errorf("%s: no such repository at %s, or it is private or gated (check the name; accept its licence at %s and set HF_TOKEN)",
			s.ref.repo, s.o.Endpoint, page)
	}
	return fmt.Errorf("%s: %s", what, said)
}

func (s *session) noRevision() error {
	return fmt.Errorf("%s has no revision %s (%s/%s lists its branches and commits)", s.ref.repo, s.ref.rev, s.o.Endpoint, s.ref.repo)
}

// retryAfter reads seconds or a date.
func retryAfter(v string) time.Duration {
	if n, err := strconv.Atoi(strings.TrimSpace(v)); err == nil && n > 0 {
		return time.Duration(min(n, 1<<20)) * time.Second
	}
	if t, err := http.ParseTime(v); err == nil {
		return max(0, time.Until(t))
	}
	return 0
}

var errStalled = errors.New("no answer for too long")

// watch returns a context that ends when nothing was heard for the session's limit, and a function that says that
// something was.
func (s *session) watch(ctx context.Context) (context.Context, func(), context.CancelCauseFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	timer := time.AfterFunc(s.o.stall, func() { cancel(errStalled) })
	return ctx, func() { timer.Reset(s.o.stall) }, func(err error) {
		timer.Stop()
		cancel(err)
	}
}

// A listing is what the hub says of a repository at one commit.
type listing struct {
	SHA      string   `json:"sha"`
	Siblings siblings `json:"siblings"`
}

// A sibling is one file of a repository.
type sibling struct {
	Name string `json:"rfilename"`
	Size *int64 `json:"size"`
	Blob string `json:"blobId"` // git's SHA-1 of a file that is not in LFS
	LFS  *struct {
		SHA256 string `json:"sha256"`
		Size   int64  `json:"size"`
	} `json:"lfs"`
}

type siblings []sibling

// UnmarshalJSON reads a list of at most maxFiles.
func (s *siblings) UnmarshalJSON(b []byte) error {
	d := json.NewDecoder(strings.NewReader(string(b)))
	if t, err := d.Token(); err != nil || t != json.Delim('[') {
		return errors.New("siblings is not a list")
	}
	for d.More() {
		var f sibling
		if err := d.Decode(&f); err != nil {
			return err
		}
		if *s = append(*s, f); len(*s) > maxFiles {
			return fmt.Errorf("more than %d files", maxFiles)
		}
	}
	return nil
}

// list asks for the files of the reference's revision.
func (s *session) list(ctx context.Context) (l listing, err error) {
	path := "/api/models/" + s.ref.repo
	err = s.json(ctx, path+"/revision/"+url.PathEscape(s.ref.rev)+"?blobs=true", &l)
	var missing *notFound
	if errors.As(err, &missing) { // of repository and revision, which is it?
		if s.json(ctx, path, &listing{}) == nil {
			err = s.noRevision()
		}
	}
	if err != nil {
		return l, err
	}
	if !commitSum.MatchString(l.SHA) {
		return l, fmt.Errorf("%s: the answer about %s names no commit (check HF_ENDPOINT)", s.o.Endpoint, s.ref.repo)
	}
	return l, nil
}

// notFound is a refusal that leaves open what was not found.
type notFound struct{ error }

func (s *session) json(ctx context.Context, path string, v any) error {
	return s.retry(ctx, func() int64 { return 0 }, func() error {
		ctx, heard, stop := s.watch(ctx)
		defer stop(nil)
		r, err := s.do(ctx, http.MethodGet, path, nil)
		if err != nil {
			return err
		}
		defer r.Body.Close()
		heard()
		if r.StatusCode != http.StatusOK {
			err := s.refused(r, s.ref.repo)
			if r.StatusCode == http.StatusNotFound && r.Header.Get("X-Error-Code") == "" {
				err = &notFound{err}
			}
			return err
		}
		data, err := io.ReadAll(io.LimitReader(r.Body, maxListing+1))
		if err != nil {
			return s.unreachable(ctx, r.Request.URL, err)
		}
		if len(data) > maxListing {
			return fmt.Errorf("%s: the answer about %s exceeds %d bytes", s.o.Endpoint, s.ref.repo, maxListing)
		}
		if err := json.Unmarshal(data, v); err != nil {
			return fmt.Errorf("%s: the answer about %s is not a hub's: %w (check HF_ENDPOINT)", s.o.Endpoint, s.ref.repo, plain{err})
		}
		return nil
	})
}

var (
	sha256Sum = regexp.MustCompile(`^[0-9a-f]{64}$`)
	gitSum    = regexp.MustCompile(`^[0-9a-f]{40}$`)
)

// contents returns the checksum and the size of a file. A server whose listing lacks them is asked for the file's header.
func (s *session) contents(ctx context.Context, commit string, f sibling) (sum string, size int64, err error) {
	switch {
	case f.LFS != nil:
		sum, size = f.LFS.SHA256, f.LFS.Size
	case f.Size != nil && f.Blob != "":
		sum, size = f.Blob, *f.Size
	default:
		err = s.retry(ctx, func() int64 { return 0 }, func() error {
			ctx, _, stop := s.watch(ctx)
			defer stop(nil)
			r, err := s.do(ctx, http.MethodHead, s.path(commit, f.Name), nil)
			if err != nil {
				return err
			}
			r.Body.Close()
			if r.StatusCode >= 400 {
				return s.refused(r, s.ref.repo+"/"+f.Name)
			}
			sum, size = r.sum, r.size
			return nil
		})
	}
	if err == nil && size > maxFile {
		return "", 0, fmt.Errorf("%s/%s: the server announces %d bytes, the limit of a file is %d", s.ref.repo, f.Name, size, int64(maxFile))
	}
	if err == nil && (size < 0 || !sha256Sum.MatchString(sum) && !gitSum.MatchString(sum)) {
		err = fmt.Errorf("%s/%s: the server gives no size and checksum (check HF_ENDPOINT)", s.ref.repo, f.Name)
	}
	return sum, size, err
}

// path is where a file of a commit lies.
func (s *session) path(commit, name string) string {
	return "/" + s.ref.repo + "/resolve/" + commit + "/" + (&url.URL{Path: name}).EscapedPath()
}
