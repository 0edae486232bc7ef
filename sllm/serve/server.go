package serve

import (
	"cmp"
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"runtime/debug"
	"slices"
	"strings"
	"time"
)

// Server is an http.Handler that serves models.
type Server struct {
	cfg    Config
	models map[string]Model
	hosts  map[string]bool
	key    [sha256.Size]byte
	queue  *queue
	begun  time.Time
}

// New returns a server. It fails if the configuration is not valid.
func New(c Config) (*Server, error) {
	c, err := c.resolved()
	if err != nil {
		return nil, err
	}
	s := &Server{cfg: c, models: map[string]Model{}, hosts: map[string]bool{"localhost": true, "127.0.0.1": true, "::1": true},
		key: sha256.Sum256([]byte(c.Key)), queue: newQueue(c.Parallel, c.Queue), begun: time.Now()}
	for _, m := range c.Models {
		s.models[m.Name()] = m
	}
	for _, h := range c.Hosts {
		s.hosts[strings.ToLower(h)] = true
	}
	return s, nil
}

// Serve answers requests on a listener, which it closes, until ctx ends. Then it takes no more, turns away those that wait,
// gives the others Config.Grace to finish and cancels them. cut says that some had to be cancelled.
func (s *Server) Serve(ctx context.Context, ln net.Listener) (cut bool, err error) {
	base, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	defer cancel(errShutdown)
	open := conns{most: s.cfg.MaxConns}
	h := &http.Server{
		Handler: s, ConnState: open.changed,
		ReadHeaderTimeout: s.cfg.Header, IdleTimeout: s.cfg.Idle, MaxHeaderBytes: maxHeader,
		// No ReadTimeout: its deadline would end the context of a request that is being answered. See ServeHTTP.
		DisableGeneralOptionsHandler: true,
		BaseContext:                  func(net.Listener) context.Context { return base },
		ErrorLog:                     slog.NewLogLogger(s.cfg.Log.Handler(), slog.LevelWarn),
	}
	failed := make(chan error, 1)
	go func() { failed <- h.Serve(ln) }()
	select {
	case err := <-failed:
		return false, err
	case <-ctx.Done():
	}
	s.queue.close()
	if shutdown(h, s.cfg.Grace) == nil {
		return false, nil
	}
	cancel(errShutdown)
	err = shutdown(h, s.cfg.Write+time.Second) // what is left ends within a token and an answer's write
	return true, errors.Join(err, h.Close())
}

func shutdown(h *http.Server, d time.Duration) error {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	defer cancel()
	return h.Shutdown(ctx)
}

// ErrReachable is an address that other machines can reach.
var ErrReachable = errors.New("other machines can reach it")

// Listen listens on a TCP address. Unless open, one that other machines can reach is refused with ErrReachable.
func Listen(ctx context.Context, addr string, open bool) (net.Listener, error) {
	a, err := net.ResolveTCPAddr("tcp", addr)
	if err != nil {
		return nil, err
	}
	if !open && !a.IP.IsLoopback() {
		return nil, fmt.Errorf("%s: %w", addr, ErrReachable)
	}
	var lc net.ListenConfig
	return lc.Listen(ctx, "tcp", a.String())
}

// record is what the log says of a request, and the state of its answer.
type record struct {
	http.ResponseWriter
	rc      *http.ResponseController
	timeout time.Duration
	status  int // 0: nothing was sent yet

	model  string
	usage  Usage
	waited time.Duration // in the queue
	end    string        // why it ended, if not by an answer
	gone   bool          // the client takes no answer
}

func (w *record) WriteHeader(status int) {
	w.status = cmp.Or(w.status, status)
	w.ResponseWriter.WriteHeader(status)
}

// Write writes within the time that a client may take.
func (w *record) Write(b []byte) (int, error) {
	w.status = cmp.Or(w.status, http.StatusOK)
	w.rc.SetWriteDeadline(time.Now().Add(w.timeout))
	return w.ResponseWriter.Write(b)
}

// Unwrap is for http.ResponseController.
func (w *record) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// ServeHTTP answers one request. A panic ends that request alone.
func (s *Server) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	begin := time.Now()
	w := &record{ResponseWriter: rw, rc: http.NewResponseController(rw), timeout: s.cfg.Write}
	w.rc.SetReadDeadline(begin.Add(s.cfg.Body)) // lifted when the body is there
	w.rc.SetWriteDeadline(begin.Add(s.cfg.Timeout + s.cfg.Write))
	h := w.Header()
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cache-Control", "no-store")
	defer func() {
		v := recover()
		if v != nil {
			s.panicked(v)
			w.end = "panic"
			if w.status == 0 {
				sendError(w, errPanic)
				v = nil
			}
		}
		if w.gone && w.status == 0 {
			w.status = statusGone
		}
		s.log(w, r, time.Since(begin))
		if v != nil || w.gone { // whoever still reads must see that the answer is cut
			panic(http.ErrAbortHandler)
		}
	}()
	if err := s.route(w, r); err != nil {
		sendError(w, err)
	}
}

// errPanic stands for a panic, which the log tells of.
var errPanic = errors.New("panic")

func (s *Server) panicked(v any) {
	s.cfg.Log.Error("panic", "value", fmt.Sprint(v), "stack", string(debug.Stack()))
}

func (s *Server) log(w *record, r *http.Request, took time.Duration) {
	a := []any{"method", clip(r.Method), "path", clip(r.URL.Path), "status", w.status, "ms", took.Milliseconds()}
	if w.model != "" {
		a = append(a, "model", w.model, "prompt_tokens", w.usage.Prompt, "tokens", w.usage.Tokens, "waited_ms", w.waited.Milliseconds())
	}
	if w.usage.Finish != "" {
		a = append(a, "finish", string(w.usage.Finish))
	}
	if w.end != "" {
		a = append(a, "end", w.end)
	}
	s.cfg.Log.Info("request", a...)
}

// route checks who asks and calls what is asked for.
func (s *Server) route(w *record, r *http.Request) error {
	if err := s.foreign(r); err != nil {
		return err
	}
	path := r.URL.Path
	name, one := strings.CutPrefix(path, "/v1/models/")
	if path == "/health" {
		if done, err := allow(w, r, http.MethodGet, http.MethodHead); done || err != nil {
			return err
		}
		return sendJSON(w, http.StatusOK, map[string]string{"status": "ok"})
	}
	if s.cfg.Key != "" && r.Method != http.MethodOptions && !s.authorized(r) {
		w.Header().Set("WWW-Authenticate", "Bearer")
		return &InputError{status: http.StatusUnauthorized, code: "invalid_api_key", Message: "the API key is missing or wrong (send it as Authorization: Bearer KEY)"}
	}
	switch {
	case path == "/v1/completions":
		if done, err := allow(w, r, http.MethodPost); done || err != nil {
			return err
		}
		return s.completions(w, r)
	case path == "/v1/models" || one:
		if done, err := allow(w, r, http.MethodGet, http.MethodHead); done || err != nil {
			return err
		}
		if one {
			return s.model(w, name)
		}
		return s.list(w)
	}
	return &InputError{status: http.StatusNotFound, code: "not_found", Message: "there is nothing at this path (try /v1/completions, /v1/models or /health)"}
}

// allow answers OPTIONS and refuses methods that are not listed.
func allow(w *record, r *http.Request, methods ...string) (done bool, err error) {
	if slices.Contains(methods, r.Method) {
		return false, nil
	}
	w.Header().Set("Allow", strings.Join(append(methods, http.MethodOptions), ", "))
	if r.Method == http.MethodOptions {
		w.WriteHeader(http.StatusNoContent)
		return true, nil
	}
	return true, &InputError{status: http.StatusMethodNotAllowed, code: "method_not_allowed", Message: "this path takes " + strings.Join(methods, " and ") + " only"}
}

// foreign refuses a request under a name that is not this server's, and one from a page of another site.
func (s *Server) foreign(r *http.Request) error {
	if !s.ours(r, r.Host) {
		return &InputError{status: http.StatusForbidden, code: "foreign_host", Message: "the Host header does not name this server (--allow-host NAME allows a name)"}
	}
	for _, origin := range r.Header.Values("Origin") {
		if u, err := url.Parse(origin); err != nil || !s.ours(r, u.Host) {
			return &InputError{status: http.StatusForbidden, code: "foreign_origin", Message: "pages of other sites may not use this server (--allow-host NAME allows a name)"}
		}
	}
	return nil
}

// ours says whether a host, with or without a port, is this server.
func (s *Server) ours(r *http.Request, host string) bool {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	} else {
		host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	}
	if s.hosts[strings.ToLower(host)] {
		return true
	}
	local, ok := r.Context().Value(http.LocalAddrContextKey).(*net.TCPAddr) // an address is no name that could be made to point here
	return ok && local.IP.Equal(net.ParseIP(host))
}

func (s *Server) authorized(r *http.Request) bool {
	scheme, key, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	got := sha256.Sum256([]byte(strings.TrimSpace(key)))
	return subtle.ConstantTimeCompare(got[:], s.key[:]) == 1 && strings.EqualFold(scheme, "Bearer")
}

// modelObject is how OpenAI describes a model.
type modelObject struct {
	ID      string `json:"id"`
	Object  string `json:"object"`
	Created int64  `json:"created"` // when the server began, in seconds of Unix time
	OwnedBy string `json:"owned_by"`
}

func (s *Server) object(name string) modelObject {
	return modelObject{name, "model", s.begun.Unix(), "svae"}
}

func (s *Server) list(w *record) error {
	list := make([]modelObject, len(s.cfg.Models))
	for i, m := range s.cfg.Models {
		list[i] = s.object(m.Name())
	}
	return sendJSON(w, http.StatusOK, map[string]any{"object": "list", "data": list})
}

func (s *Server) model(w *record, name string) error {
	m, err := s.find(name)
	if err != nil {
		return err
	}
	return sendJSON(w, http.StatusOK, s.object(m.Name()))
}

// find looks a model up by its name. The only model needs no name.
func (s *Server) find(name string) (Model, error) {
	if name == "" && len(s.cfg.Models) == 1 {
		return s.cfg.Models[0], nil
	}
	if name == "" {
		return nil, refusal("model", "model is missing (GET /v1/models lists them)")
	}
	if m, ok := s.models[name]; ok {
		return m, nil
	}
	return nil, &InputError{status: http.StatusNotFound, Param: "model", code: "model_not_found", Message: fmt.Sprintf("there is no model %q here (GET /v1/models lists them)", clip(name))}
}
