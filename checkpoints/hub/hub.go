package hub

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Options say where a model comes from and goes to. A zero value is filled from the environment, as huggingface_hub does.
type Options struct {
	Endpoint string // URL of the hub; HF_ENDPOINT, else https://huggingface.co
	Token    string // HF_TOKEN, else the file $HF_HOME/token
	Cache    string // folder; HF_HUB_CACHE, else $HF_HOME/hub, else ~/.cache/huggingface/hub

	// Progress, unless nil, is told of every file that is downloaded: done of total bytes, from where an earlier download
	// ended. It is called by the goroutine of Fetch.
	Progress func(file string, done, total int64)

	// Offline takes what the cache holds and asks no server; HF_HUB_OFFLINE=1.
	Offline bool

	wait  func(context.Context, time.Duration) error // between attempts
	stall time.Duration                              // longest silence of a server
}

// Fetch downloads what a conversion needs of a reference into the cache: configuration, tokenizer and weights. It takes
// model.safetensors, else its shards, else pytorch_model.bin, else its shards, else the only .gguf file, else the only other
// file of weights.
//
//	hf:owner/name                  branch main
//	hf:owner/name@revision         a branch, a tag or a commit
//	hf:owner/name/FILE[@revision]  these weights and no other
//
// It returns the folder of the commit; or the path of the weights in it, where they are one file under another name than
// Hugging Face's. The error is one line that says what to do: accept a licence, set HF_TOKEN, correct the name, free disk
// space, or download the model elsewhere and give its folder.
func Fetch(ctx context.Context, ref string, o Options) (dir string, err error) {
	r, err := parse(ref)
	if err != nil {
		return "", err
	}
	if err := o.fill(); err != nil {
		return "", err
	}
	c := cacheOf(o.Cache, r.repo)
	if o.Offline {
		return c.find(r)
	}
	s, err := newSession(o, r, c)
	if err != nil {
		return "", err
	}
	return s.fetch(ctx)
}

// fill sets zero values from the environment.
func (o *Options) fill() error {
	env := func(keys ...string) string {
		for _, k := range keys {
			if v := os.Getenv(k); v != "" {
				return v
			}
		}
		return ""
	}
	home := env("HF_HOME")
	if home == "" {
		cache := env("XDG_CACHE_HOME")
		if cache == "" {
			user, err := os.UserHomeDir()
			if err != nil {
				return fmt.Errorf("find the home folder: %w (set HF_HOME)", err)
			}
			cache = filepath.Join(user, ".cache")
		}
		home = filepath.Join(cache, "huggingface")
	}
	if o.Endpoint == "" {
		o.Endpoint = env("HF_ENDPOINT")
	}
	if o.Endpoint == "" {
		o.Endpoint = "https://huggingface.co"
	}
	o.Endpoint = strings.TrimRight(o.Endpoint, "/")
	if o.Cache == "" {
		o.Cache = env("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE")
	}
	if o.Cache == "" {
		o.Cache = filepath.Join(home, "hub")
	}
	o.Cache = expandHome(o.Cache)
	if o.Token == "" {
		o.Token = env("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")
	}
	if o.Token == "" {
		file := env("HF_TOKEN_PATH")
		if file == "" {
			file = filepath.Join(home, "token")
		}
		if b, err := os.ReadFile(expandHome(file)); err == nil && len(b) < 4096 {
			o.Token = string(b)
		}
	}
	o.Token = strings.TrimSpace(o.Token)
	if strings.ContainsFunc(o.Token, func(c rune) bool { return c <= ' ' || c > '~' }) {
		return errors.New("the token holds characters that no token has (check HF_TOKEN)")
	}
	switch strings.ToUpper(env("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")) {
	case "1", "ON", "YES", "TRUE":
		o.Offline = true
	}
	if o.wait == nil {
		o.wait = sleep
	}
	if o.stall == 0 {
		o.stall = time.Minute
	}
	return nil
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

// fetch does the work of Fetch.
func (s *session) fetch(ctx context.Context) (string, error) {
	l, err := s.list(ctx)
	if err != nil {
		return "", err
	}
	names := make([]string, 0, len(l.Siblings))
	byName := map[string]sibling{}
	for _, f := range l.Siblings {
		names = append(names, f.Name)
		byName[f.Name] = f
	}
	c, err := choose(s.ref, names)
	if err != nil {
		return "", err
	}
	get := func(name string) (string, error) {
		f, ok := byName[name]
		if !ok {
			return "", fmt.Errorf("%s: shard %s of %s is not in the repository at commit %s", s.ref.repo, name, c.weights, l.SHA)
		}
		return s.file(ctx, l.SHA, f)
	}
	for _, name := range c.beside {
		if _, err := get(name); err != nil {
			return "", err
		}
	}
	weights, err := get(c.weights)
	if err != nil {
		return "", err
	}
	parts, err := shards(c.weights, weights)
	if err != nil {
		return "", err
	}
	for _, name := range parts {
		if _, err := get(name); err != nil {
			return "", err
		}
	}
	if err := s.cache.setRef(s.ref.rev, l.SHA); err != nil {
		return "", err
	}
	return c.result(s.cache.snapshot(l.SHA)), nil
}

// result returns what the caller opens.
func (c choice) result(dir string) string {
	if c.single {
		return filepath.Join(dir, filepath.FromSlash(c.weights))
	}
	return dir
}

// find returns what the cache holds of a reference, if that is all.
func (c cache) find(r reference) (string, error) {
	missing := func(what string) error {
		return fmt.Errorf("%s: %s in the cache %s, and HF_HUB_OFFLINE is set (unset it, or download the model elsewhere and give its folder)",
			r, what, c.dir)
	}
	commit, err := c.commit(r.rev)
	if err != nil {
		return "", missing("is not")
	}
	dir := c.snapshot(commit)
	names, err := filesIn(dir)
	if err != nil {
		return "", missing("is not")
	}
	ch, err := choose(r, names)
	if err != nil {
		return "", missing("its weights are not")
	}
	parts, err := shards(ch.weights, filepath.Join(dir, filepath.FromSlash(ch.weights)))
	if err != nil {
		return "", err
	}
	for _, name := range parts {
		if !slices.Contains(names, name) {
			return "", missing("its shard " + name + " is not")
		}
	}
	return ch.result(dir), nil
}

// endpointURL checks the address of the hub.
func endpointURL(s string) (*url.URL, error) {
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return nil, errors.New("the endpoint is not the address of a hub (set HF_ENDPOINT to one such as https://huggingface.co)")
	}
	return u, nil
}
