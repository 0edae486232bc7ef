package serve

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net"
	"strings"
	"time"
)

// Config is what a server serves and its limits. Zeros stand for the limits that the package comment lists, except in Queue.
type Config struct {
	Models []Model
	Hosts  []string // names, without a port, that requests may use beside localhost and the address they came to
	Key    string   // that clients must send as "Authorization: Bearer KEY"; empty: none

	Parallel  int // requests that run at once
	Queue     int // requests that may wait beside them; 0: none
	MaxTokens int // of one choice
	MaxPrompt int // bytes of all prompts of a request
	MaxConns  int // connections

	Header  time.Duration // to send a request's header
	Body    time.Duration // to send a request's body, after its header
	Idle    time.Duration // that a connection may do nothing
	Timeout time.Duration // of a request
	Grace   time.Duration // that running requests get when the server shuts down; 10 s
	Write   time.Duration // that a client may take to accept what is written
	Beat    time.Duration // between signs of life in a stream that has nothing to say; 10 s

	Log *slog.Logger // one line per request; nil: none
}

// The limits that Config does not hold.
const (
	maxPrompts   = 32
	maxStops     = 4
	maxStopBytes = 256
	maxHeader    = 32 << 10
)

// resolved returns the configuration with every zero replaced by what it stands for.
func (c Config) resolved() (Config, error) {
	for _, v := range []struct {
		name string
		v    *int
		or   int
	}{{"parallel", &c.Parallel, 8}, {"queue", &c.Queue, 0}, {"max-tokens", &c.MaxTokens, 4096}, {"max-prompt", &c.MaxPrompt, 512 << 10}, {"connections", &c.MaxConns, 512}} {
		if *v.v < 0 || *v.v > math.MaxInt32 {
			return c, fmt.Errorf("%s %d is not in 0..%d", v.name, *v.v, math.MaxInt32)
		}
		*v.v = cmp.Or(*v.v, v.or)
	}
	for _, v := range []struct {
		name string
		v    *time.Duration
		or   time.Duration
	}{{"header timeout", &c.Header, 10 * time.Second}, {"body timeout", &c.Body, 20 * time.Second}, {"idle timeout", &c.Idle, time.Minute},
		{"timeout", &c.Timeout, 10 * time.Minute}, {"grace", &c.Grace, 10 * time.Second}, {"write timeout", &c.Write, 15 * time.Second}, {"beat", &c.Beat, 10 * time.Second}} {
		if *v.v < 0 {
			return c, fmt.Errorf("%s %v is negative", v.name, *v.v)
		}
		*v.v = cmp.Or(*v.v, v.or)
	}
	if len(c.Models) == 0 {
		return c, errors.New("no model to serve")
	}
	seen := map[string]bool{}
	for _, m := range c.Models {
		if name := m.Name(); name == "" || seen[name] {
			return c, fmt.Errorf("two models are called %q, or one has no name (give one another name)", name)
		}
		seen[m.Name()] = true
	}
	for _, h := range c.Hosts {
		if h == "" || strings.ContainsAny(h, "/* ") || strings.Contains(h, ":") && net.ParseIP(h) == nil {
			return c, fmt.Errorf("%q is no host name or address without a port", h)
		}
	}
	if c.Log == nil {
		c.Log = slog.New(slog.NewTextHandler(io.Discard, nil))
	}
	return c, nil
}

// maxBody is how many bytes a request may have: JSON may write a character of three bytes as an escape of six, and there are
// other fields.
func (c *Config) maxBody() int64 { return 2*int64(c.MaxPrompt) + 64<<10 }
