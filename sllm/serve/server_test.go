package serve

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// exchange sends a request as it is and returns the status and the body of the answer.
func (r *running) exchange(t *testing.T, text string) (*http.Response, string) {
	t.Helper()
	c := r.raw(t, text)
	method, _, _ := strings.Cut(text, " ")
	resp, err := http.ReadResponse(bufio.NewReader(c), &http.Request{Method: method})
	if err != nil {
		t.Fatalf("%q: %v", text, err)
	}
	return resp, read(t, resp)
}

func TestHost(t *testing.T) {
	s := start(t, Config{Hosts: []string{"Models.example.org", "fd00::1"}}, &fake{name: "m"})
	_, port, _ := net.SplitHostPort(s.addr)
	for _, host := range []string{"localhost", "LOCALHOST:" + port, "127.0.0.1", "127.0.0.1:1", "[::1]:" + port, "[::1]", "models.example.org", "[fd00::1]:80"} {
		if resp, body := s.exchange(t, "GET /health HTTP/1.1\r\nHost: "+host+"\r\n\r\n"); resp.StatusCode != 200 {
			t.Errorf("host %s: %s", host, body)
		}
	}
	for _, host := range []string{"evil.example", "evil.example:" + port, "127.0.0.1.evil.example", "localhost.evil.example", "192.168.1.1", "0.0.0.0", "", "localhost:1:2", "127.0.0.2"} {
		resp, body := s.exchange(t, "GET /v1/models HTTP/1.1\r\nHost: "+host+"\r\n\r\n")
		wantError(t, resp, body, 403, "does not name this server")
	}
	for _, req := range []string{"GET /health HTTP/1.0\r\n\r\n", "GET http://evil.example/health HTTP/1.1\r\nHost: localhost\r\n\r\n"} {
		resp, body := s.exchange(t, req)
		wantError(t, resp, body, 403, "does not name this server")
	}
	if resp, _ := s.exchange(t, "GET /health HTTP/1.1\r\n\r\n"); resp.StatusCode != 400 {
		t.Error("no Host at all: ", resp.Status)
	}
	for origin, want := range map[string]int{"http://localhost:3000": 200, "http://127.0.0.1": 200, "https://evil.example": 403, "null": 403, "": 403, "http://localhost.evil.example": 403, "%zz": 403} {
		if resp, body := s.exchange(t, "GET /health HTTP/1.1\r\nHost: localhost\r\nOrigin: "+origin+"\r\n\r\n"); resp.StatusCode != want {
			t.Errorf("origin %q: %s, want %d: %s", origin, resp.Status, want, body)
		}
	}
}

func TestKey(t *testing.T) {
	const key = "sk-0123456789abcdef"
	m := &fake{name: "m", pieces: words("a")}
	s := start(t, Config{Key: key}, m)
	for _, auth := range []string{"", "Bearer", "Bearer ", "Bearer " + key[:18], "Bearer " + key + "0", "Basic " + key, key, "bearer\t" + key} {
		for _, req := range []string{"GET /v1/models HTTP/1.1", "GET /nowhere HTTP/1.1", "POST /v1/completions HTTP/1.1\r\nContent-Type: application/json\r\nContent-Length: 14"} {
			resp, body := s.exchange(t, req+"\r\nHost: localhost\r\nAuthorization: "+auth+"\r\n\r\n"+`{"prompt":"p"}`)
			wantError(t, resp, body, 401, "API key")
			if resp.Header.Get("WWW-Authenticate") != "Bearer" {
				t.Error("no WWW-Authenticate")
			}
		}
	}
	if resp, body := s.exchange(t, "GET /v1/models HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer "+key+"\r\n\r\n"); resp.StatusCode != 200 {
		t.Fatal(body)
	}
	if resp, body := s.exchange(t, "GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"); resp.StatusCode != 200 || body != "{\"status\":\"ok\"}\n" {
		t.Fatal(body)
	}
	if m.calls.Load() != 0 || strings.Contains(s.log.String(), "0123456789") {
		t.Fatal("the model was called, or the key is in the log")
	}
}

func TestMethods(t *testing.T) {
	s := start(t, Config{}, &fake{name: "m"})
	for _, c := range []struct {
		method, path string
		status       int
		allow        string
	}{
		{"GET", "/v1/completions", 405, "POST, OPTIONS"}, {"HEAD", "/v1/completions", 405, "POST, OPTIONS"}, {"PUT", "/v1/completions", 405, "POST, OPTIONS"},
		{"OPTIONS", "/v1/completions", 204, "POST, OPTIONS"}, {"POST", "/v1/models", 405, "GET, HEAD, OPTIONS"}, {"DELETE", "/v1/models/m", 405, "GET, HEAD, OPTIONS"},
		{"HEAD", "/v1/models", 200, ""}, {"HEAD", "/health", 200, ""}, {"OPTIONS", "/health", 204, "GET, HEAD, OPTIONS"}, {"POST", "/health", 405, "GET, HEAD, OPTIONS"},
		{"GET", "/", 404, ""}, {"POST", "/v1/completions/", 404, ""}, {"POST", "//v1/completions", 404, ""}, {"GET", "/v1/../health", 404, ""}, {"POST", "/api/pull", 404, ""},
		{"OPTIONS", "*", 404, ""}, {"CONNECT", "localhost:1", 404, ""},
	} {
		resp, body := s.exchange(t, c.method+" "+c.path+" HTTP/1.1\r\nHost: localhost\r\n\r\n")
		if resp.StatusCode != c.status || resp.Header.Get("Allow") != c.allow || resp.Header.Get("Access-Control-Allow-Origin") != "" {
			t.Errorf("%s %s: %s, Allow %q: %s", c.method, c.path, resp.Status, resp.Header.Get("Allow"), body)
		}
		if c.status >= 400 && c.method != "HEAD" {
			wantError(t, resp, body, c.status, "")
		}
		if c.method == "HEAD" && body != "" {
			t.Errorf("HEAD %s has a body", c.path)
		}
	}
}

func TestBody(t *testing.T) {
	m := &fake{name: "m", pieces: words("a")}
	s := start(t, Config{MaxPrompt: 1 << 20}, m)
	post := func(kind, encoding string, body io.Reader) (*http.Response, string) {
		req, _ := http.NewRequest("POST", s.url+"/v1/completions", body)
		req.Header.Set("Content-Type", kind)
		if encoding != "" {
			req.Header.Set("Content-Encoding", encoding)
		}
		resp, err := http.DefaultTransport.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		return resp, read(t, resp)
	}
	for kind, status := range map[string]int{"application/json": 200, "application/json; charset=UTF-8": 200, "Application/JSON": 200, "text/plain": 415, "": 415, "application/x-www-form-urlencoded": 415,
		"application/json; charset=latin1": 415, "multipart/form-data; boundary=x": 415, "application/json/x": 415} {
		if resp, body := post(kind, "", strings.NewReader(`{"prompt":"p"}`)); resp.StatusCode != status {
			t.Errorf("%q: %s %s", kind, resp.Status, body)
		}
	}
	resp, body := post("application/json", "gzip", strings.NewReader(`{"prompt":"p"}`))
	wantError(t, resp, body, 415, "plain JSON")
	// a prompt of the greatest size, all of it escaped, still fits
	if resp, body := post("application/json", "", strings.NewReader(`{"prompt":"`+strings.Repeat(`\u9cb8`, 1<<20/3)+`"}`)); resp.StatusCode != 200 {
		t.Fatal(resp.Status, body)
	}
	if n := len(m.request().Prompt); n != 1<<20/3*3 {
		t.Fatal(n)
	}
	// too large, with a length and without
	big := func() io.Reader { return io.LimitReader(spaces{}, 100<<20) }
	req := "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 104857600\r\n\r\n{"
	resp, body = s.exchange(t, req)
	wantError(t, resp, body, 413, "2162688 bytes")
	c := s.raw(t, "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n")
	go func(c net.Conn) {
		b := make([]byte, 1<<16)
		for r := big(); ; {
			n, _ := r.Read(b)
			if _, err := fmt.Fprintf(c, "%x\r\n%s\r\n", n, b[:n]); err != nil || n == 0 {
				return
			}
		}
	}(c)
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != 413 {
		t.Fatal(resp.Status)
	}
	// one that ends too early
	c = s.raw(t, "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{")
	c.(*net.TCPConn).CloseWrite()
	if resp, err = http.ReadResponse(bufio.NewReader(c), nil); err != nil || resp.StatusCode != 408 {
		t.Fatal(resp, err)
	}
	// and a header that is too large
	if resp, _ := s.exchange(t, "GET /health HTTP/1.1\r\nHost: localhost\r\nX: "+strings.Repeat("x", 64<<10)+"\r\n\r\n"); resp.StatusCode != 431 {
		t.Fatal(resp.Status)
	}
}

// spaces is a reader of blanks without end.
type spaces struct{}

func (spaces) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = ' '
	}
	return len(b), nil
}

func TestListen(t *testing.T) {
	for _, addr := range []string{":0", "0.0.0.0:0", "[::]:0"} {
		if ln, err := Listen(t.Context(), addr, false); !errors.Is(err, ErrReachable) {
			t.Errorf("%s: %v", addr, err)
			if err == nil {
				ln.Close()
			}
		}
	}
	ln, err := Listen(t.Context(), "localhost:0", false)
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	if !ln.Addr().(*net.TCPAddr).IP.IsLoopback() {
		t.Fatal(ln.Addr())
	}
	if _, err := Listen(t.Context(), ln.Addr().String(), false); err == nil {
		t.Fatal("the address is in use")
	}
	if _, err := Listen(t.Context(), "nonsense", false); err == nil {
		t.Fatal("nonsense is no address")
	}
	if ln, err := Listen(t.Context(), ":0", true); err != nil {
		t.Fatal(err)
	} else {
		ln.Close()
	}
}

func TestConfig(t *testing.T) {
	m := &fake{name: "m"}
	for want, c := range map[string]Config{
		"no model":             {},
		"two models are":       {Models: []Model{m, m}},
		"has no name":          {Models: []Model{&fake{}}},
		"queue -1":             {Models: []Model{m}, Queue: -1},
		"timeout -1s":          {Models: []Model{m}, Timeout: -time.Second},
		`"a/b" is no host`:     {Models: []Model{m}, Hosts: []string{"a/b"}},
		`"a:80" is no host`:    {Models: []Model{m}, Hosts: []string{"a:80"}},
		`"*.a.org" is no host`: {Models: []Model{m}, Hosts: []string{"*.a.org"}},
	} {
		if _, err := New(c); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

// TestHandler uses the server as a handler of another one, whose writer has no deadlines.
func TestHandler(t *testing.T) {
	s, err := New(Config{Models: []Model{&fake{name: "m", pieces: words("a", "b")}}})
	if err != nil {
		t.Fatal(err)
	}
	r := httptest.NewRequest("POST", "http://localhost/v1/completions", strings.NewReader(`{"prompt":"p","stream":true}`))
	r.Header.Set("Content-Type", "application/json")
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	if data, _, err := events(w.Body); err != nil || len(data) != 4 || data[3] != "[DONE]" {
		t.Fatal(data, err)
	}
}
