package hub

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Options say where a model comes from and goes to. A zero value is filled from the environment, as huggingface_hub does.
type Options struct {
	Endpoint string // URL of the hub; HF_ENDPOINT, else https://huggingface.co
	Token    string // HF_TOKEN, else the file HF_TOKEN_PATH, else the file $HF_HOME/token
	Cache    string // folder; HF_HUB_CACHE, else $HF_HOME/hub, else ~/.cache/huggingface/hub

	// Progress, unless nil, is told of every file that is downloaded: done of total bytes, from where an earlier download
	// ended. It is called by the goroutine of Fetch.
	Progress func(file string, done, total int64)

	// Check, unless nil, is called where the repository has a config.json beside the weights, before any weights are
	// downloaded: with the folder where config.json and the tokenizer files now lie. Its error ends Fetch or List, which
	// return it as it is.
	Check func(dir string) error

	// Offline takes what the cache holds and asks no server; HF_HUB_OFFLINE=1.
	Offline bool

	wait   func(context.Context, time.Duration) error // between attempts
	stall  time.Duration                              // longest silence of a server
	window time.Duration                              // in which a download brings progress bytes at least
}

// fill sets zero values from the environment.
func (o *Options) fill() error {
	home, err := hubHome()
	if err != nil {
		return err
	}
	o.Endpoint = strings.TrimRight(first(o.Endpoint, env("HF_ENDPOINT"), "https://huggingface.co"), "/")
	o.Cache = expandHome(first(o.Cache, env("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"), filepath.Join(home, "hub")))
	switch strings.ToUpper(env("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")) {
	case "1", "ON", "YES", "TRUE":
		o.Offline = true
	}
	if !o.Offline {
		if err := o.fillToken(home); err != nil {
			return err
		}
	}
	if o.wait == nil {
		o.wait = sleep
	}
	if o.stall == 0 {
		o.stall = stall
	}
	if o.window == 0 {
		o.window = window
	}
	return nil
}

// fillToken finds the token and checks it. No file of a token is no error; one that cannot be read is.
func (o *Options) fillToken(home string) error {
	from := "HF_TOKEN"
	o.Token = first(o.Token, env("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"))
	if o.Token == "" {
		from = expandHome(first(env("HF_TOKEN_PATH"), filepath.Join(home, "token")))
		f, err := os.Open(from)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		var b []byte
		if err == nil {
			defer f.Close()
			b, err = io.ReadAll(io.LimitReader(f, maxToken+1))
		}
		if err == nil && len(b) > maxToken {
			err = fmt.Errorf("%s: more than %d bytes", from, maxToken)
		}
		if err != nil {
			return fmt.Errorf("read the token: %w (mend or remove that file, or set HF_TOKEN)", err)
		}
		o.Token = string(b)
	}
	o.Token = strings.TrimSpace(o.Token)
	if strings.ContainsFunc(o.Token, func(c rune) bool { return c <= ' ' || c > '~' }) {
		return fmt.Errorf("the token holds characters that no token has (check %s)", from)
	}
	return nil
}

// check calls Check if there is a config.json in the folder of the weights.
func (o *Options) check(snapshot string, c choice) error {
	dir := path.Dir(c.weights)
	if o.Check == nil || !slices.Contains(c.beside, path.Join(dir, configFile)) {
		return nil
	}
	return o.Check(filepath.Join(snapshot, filepath.FromSlash(dir)))
}

// hubHome is the folder of huggingface_hub.
func hubHome() (string, error) {
	if home := env("HF_HOME"); home != "" {
		return home, nil
	}
	cache := env("XDG_CACHE_HOME")
	if cache == "" {
		user, err := os.UserHomeDir()
		if err != nil {
			return "", fmt.Errorf("find the home folder: %w (set HF_HOME)", err)
		}
		cache = filepath.Join(user, ".cache")
	}
	return filepath.Join(cache, "huggingface"), nil
}

// env returns the first of the variables that is set.
func env(keys ...string) string {
	for _, k := range keys {
		if v := os.Getenv(k); v != "" {
			return v
		}
	}
	return ""
}

// first returns the first text that is not empty.
func first(texts ...string) string {
	for _, s := range texts {
		if s != "" {
			return s
		}
	}
	return ""
}

func expandHome(path string) string {
	if rest, ok := strings.CutPrefix(path, "~/"); ok {
		if home, err := os.UserHomeDir(); err == nil {
			return filepath.Join(home, rest)
		}
	}
	return path
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

// endpointURL checks the address of the hub.
func endpointURL(s string) (*url.URL, error) {
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return nil, errors.New("the endpoint is not the address of a hub (set HF_ENDPOINT to one such as https://huggingface.co)")
	}
	return u, nil
}
