package serve

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"strings"
	"unicode/utf8"
)

// call is a decoded request for completions.
type call struct {
	Request           // but for the prompt
	model      string // empty: not given
	prompts    []string
	stops      []string
	echo       bool
	stream     bool
	usage      bool // a stream ends with the usage
	bySentence bool
	probs      int // of logprobs; -1: not asked for
}

// field reads the value of one field, which is not null.
type field func(c *call, raw json.RawMessage, cfg *Config) error

// fields are what a request may hold. A field of OpenAI's that this server does not have is taken with the one value that
// changes nothing.
var fields = map[string]field{
	"model": func(c *call, raw json.RawMessage, _ *Config) error {
		if json.Unmarshal(raw, &c.model) != nil || c.model == "" {
			return errors.New("must be the name of a model")
		}
		return nil
	},
	"prompt": readPrompt,
	"stop":   readStop,
	"max_tokens": func(c *call, raw json.RawMessage, cfg *Config) error {
		return integer(raw, &c.MaxTokens, 1, cfg.MaxTokens)
	},
	"max_sentences": func(c *call, raw json.RawMessage, cfg *Config) error {
		return integer(raw, &c.MaxSentences, 1, cfg.MaxTokens)
	},
	"temperature": func(c *call, raw json.RawMessage, _ *Config) error { return number(raw, &c.Temperature, 0, 2) },
	"top_p":       func(c *call, raw json.RawMessage, _ *Config) error { return number(raw, &c.TopP, 0, 1) },
	"top_k":       func(c *call, raw json.RawMessage, _ *Config) error { return integer(raw, &c.TopK, 0, 1<<20) },
	"seed": func(c *call, raw json.RawMessage, _ *Config) error {
		var n int64
		if json.Unmarshal(raw, &n) != nil {
			return errors.New("must be an integer of 64 bits")
		}
		c.Seed = uint64(n)
		return nil
	},
	"logprobs": func(c *call, raw json.RawMessage, _ *Config) error {
		c.LogProbs = true
		if integer(raw, &c.probs, 0, 5) != nil || c.probs > 1 {
			return errors.New("must be 0, for the log-probability of each token, or, at temperature 0, 1")
		}
		return nil
	},
	"echo":           func(c *call, raw json.RawMessage, _ *Config) error { return boolean(raw, &c.echo) },
	"stream":         func(c *call, raw json.RawMessage, _ *Config) error { return boolean(raw, &c.stream) },
	"stream_options": readStreamOptions,
	"stream_by": func(c *call, raw json.RawMessage, _ *Config) error {
		var s string
		if json.Unmarshal(raw, &s) != nil || s != "token" && s != "sentence" {
			return errors.New(`must be "token" or "sentence"`)
		}
		c.bySentence = s == "sentence"
		return nil
	},
	"user": func(_ *call, raw json.RawMessage, _ *Config) error {
		var s string
		if json.Unmarshal(raw, &s) != nil {
			return errors.New("must be a string")
		}
		return nil
	},
	"n":                 only("1"),
	"best_of":           only("1"),
	"suffix":            only(`""`),
	"logit_bias":        only("{}"),
	"presence_penalty":  only("0"),
	"frequency_penalty": only("0"),
}

// only returns a field that has no effect and may have no other value.
func only(want string) field {
	var v any
	if err := json.Unmarshal([]byte(want), &v); err != nil {
		panic(err)
	}
	return func(_ *call, raw json.RawMessage, _ *Config) error {
		var got any
		if json.Unmarshal(raw, &got) != nil || fmt.Sprintf("%T%v", got, got) != fmt.Sprintf("%T%v", v, v) {
			return fmt.Errorf("can only be %s, as this server does not have it", want)
		}
		return nil
	}
}

// decode reads the body of a request for completions. Every error is an InputError.
func decode(body []byte, cfg *Config) (*call, error) {
	c := &call{Request: Request{MaxTokens: min(16, cfg.MaxTokens), Temperature: 1, TopP: 1, Seed: rand.Uint64()}, probs: -1}
	given := map[string]bool{} // false: as null
	err := object(body, func(name string, raw json.RawMessage) error {
		read, ok := fields[name]
		if !ok {
			return refusal(clip(name), "field %q is not known", clip(name))
		}
		if _, twice := given[name]; twice {
			return refusal(name, "field %q stands there twice", name)
		}
		given[name] = string(raw) != "null"
		if !given[name] {
			return nil
		}
		if err := read(c, raw, cfg); err != nil {
			return refusal(name, "%s %v", name, err)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return c, c.check(cfg, given)
}

// check looks at what fields say together.
func (c *call) check(cfg *Config, given map[string]bool) error {
	switch {
	case c.prompts == nil:
		return refusal("prompt", "prompt is missing")
	case given["stream_options"] && !c.stream:
		return refusal("stream_options", "stream_options has no effect without stream")
	case given["stream_by"] && !c.stream:
		return refusal("stream_by", "stream_by has no effect without stream")
	case c.echo && c.LogProbs:
		return refusal("logprobs", "logprobs cannot be had with echo: the prompt's tokens have none")
	case c.probs > 0 && c.Temperature > 0 && c.TopP > 0 && c.TopK != 1:
		return refusal("logprobs", "logprobs can only be 0, for the log-probability of each token, when tokens are drawn (temperature 0 takes 1)")
	}
	bytes := 0
	for _, p := range c.prompts {
		bytes += len(p)
	}
	if bytes > cfg.MaxPrompt {
		return refusal("prompt", "prompt has %d bytes, more than the %d that this server takes", bytes, cfg.MaxPrompt)
	}
	if c.TopP == 0 { // no probability at all is left to all but the first
		c.TopP, c.TopK = 1, 1
	}
	return nil
}

// object calls f for every field of a JSON object, which must be all there is.
func object(b []byte, f func(name string, raw json.RawMessage) error) error {
	if !utf8.Valid(b) {
		return refusal("", "the body is not UTF-8")
	}
	d := json.NewDecoder(bytes.NewReader(b))
	if t, err := d.Token(); err != nil {
		return malformed(err, d)
	} else if t != json.Delim('{') {
		return refusal("", "the body is not a JSON object")
	}
	for d.More() {
		t, err := d.Token()
		if err != nil {
			return malformed(err, d)
		}
		var raw json.RawMessage
		if err := d.Decode(&raw); err != nil {
			return malformed(err, d)
		}
		if err := f(t.(string), raw); err != nil { // a decoder lets nothing else stand for a name
			return err
		}
	}
	if _, err := d.Token(); err != nil { // the brace
		return malformed(err, d)
	}
	if _, err := d.Token(); err != io.EOF {
		return refusal("", "the body goes on after the JSON object, at byte %d", d.InputOffset())
	}
	return nil
}

func malformed(err error, d *json.Decoder) error {
	at := d.InputOffset()
	if s := (*json.SyntaxError)(nil); errors.As(err, &s) {
		at = s.Offset
	}
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		err = errors.New("it ends too early")
	}
	return refusal("", "the body is not JSON: %s (byte %d)", clip(err.Error()), at)
}

// clip shortens what a client sent to what an answer may repeat.
func clip(s string) string {
	const most = 100
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "..."
}

func readPrompt(c *call, raw json.RawMessage, _ *Config) error {
	list, err := texts(raw)
	switch {
	case err != nil || len(list) == 0:
		return errors.New("must be a text or a list of texts; lists of token ids are not taken")
	case len(list) > maxPrompts:
		return fmt.Errorf("has %d texts, more than the %d that this server takes", len(list), maxPrompts)
	}
	c.prompts = list
	return nil
}

func readStop(c *call, raw json.RawMessage, _ *Config) error {
	list, err := texts(raw)
	if err != nil {
		return errors.New("must be a text or a list of texts")
	}
	if len(list) > maxStops {
		return fmt.Errorf("has %d texts, more than the %d that a request may have", len(list), maxStops)
	}
	for _, s := range list {
		if s == "" || len(s) > maxStopBytes {
			return fmt.Errorf("has a text of %d bytes; 1..%d are allowed", len(s), maxStopBytes)
		}
	}
	c.stops = list
	return nil
}

func readStreamOptions(c *call, raw json.RawMessage, _ *Config) error {
	if len(raw) > 0 && raw[0] != '{' {
		return errors.New("must be an object")
	}
	var pad bool // padding that hides the lengths of tokens
	at := map[string]*bool{"include_usage": &c.usage, "include_obfuscation": &pad}
	err := object(raw, func(name string, raw json.RawMessage) error {
		v, ok := at[name]
		if !ok {
			return fmt.Errorf("has a field %q, which is not known", clip(name))
		}
		if string(raw) == "null" {
			return nil
		}
		if err := boolean(raw, v); err != nil {
			return fmt.Errorf("%s %w", name, err)
		}
		return nil
	})
	if err == nil && pad {
		err = errors.New("include_obfuscation can only be false, as this server does not have it")
	}
	return err
}

// texts reads a string or a list of strings.
func texts(raw json.RawMessage) ([]string, error) {
	var one string
	if json.Unmarshal(raw, &one) == nil {
		return []string{one}, nil
	}
	var list []*string
	if err := json.Unmarshal(raw, &list); err != nil {
		return nil, err
	}
	out := make([]string, len(list))
	for i, s := range list {
		if s == nil {
			return nil, errors.New("null is no text")
		}
		out[i] = *s
	}
	return out, nil
}

func integer(raw json.RawMessage, v *int, lo, hi int) error {
	var n int64
	if json.Unmarshal(raw, &n) != nil || n < int64(lo) || n > int64(hi) {
		return fmt.Errorf("must be an integer in %d..%d", lo, hi)
	}
	*v = int(n)
	return nil
}

func number(raw json.RawMessage, v *float64, lo, hi float64) error {
	n := math.NaN()
	if json.Unmarshal(raw, &n) != nil || !(n >= lo && n <= hi) {
		return fmt.Errorf("must be a number in %v..%v", lo, hi)
	}
	*v = n
	return nil
}

func boolean(raw json.RawMessage, v *bool) error {
	if json.Unmarshal(raw, v) != nil {
		return errors.New("must be true or false")
	}
	return nil
}
