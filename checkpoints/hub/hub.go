package hub

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
)

// Fetch downloads what a conversion needs of a reference into the cache: configuration, tokenizer and weights. It takes
// model.safetensors, else its shards, else pytorch_model.bin, else its shards, else the only .gguf file, else the parts of the
// only split GGUF model, else the only other file of weights.
//
//	hf:owner/name                  branch main
//	hf:owner/name@revision         a branch, a tag or a commit
//	hf:owner/name/FILE[@revision]  these weights and no other; all parts, where FILE is the first of a split GGUF model
//
// It returns the folder of the commit; or the path of the weights in it, where they were named or are one file under another
// name than Hugging Face's. The error is one line that says what to do: accept a licence, set HF_TOKEN, correct the name, free
// disk space, or download the model elsewhere and give its folder.
func Fetch(ctx context.Context, ref string, o Options) (dir string, err error) {
	s, err := open(ref, o)
	if err != nil {
		return "", err
	}
	if s.o.Offline {
		l, err := s.cache.find(s.ref)
		if err == nil {
			err = s.o.check(l.dir, l.choice)
		}
		if err != nil {
			return "", err
		}
		return l.result(l.dir), nil
	}
	return s.fetch(ctx)
}

// A File is one that [Fetch] takes.
type File struct {
	Name   string // in the repository, with slashes
	Size   int64  // bytes
	Cached int64  // bytes of it that the cache holds: all, or what an earlier download left
}

// List returns what [Fetch] would take of a reference, in that order, and downloads no weights. Into the cache it brings the
// index of shards, where there is one, and for Options.Check configuration and tokenizer. Its errors are Fetch's.
func List(ctx context.Context, ref string, o Options) ([]File, error) {
	s, err := open(ref, o)
	if err != nil {
		return nil, err
	}
	if s.o.Offline {
		l, err := s.cache.find(s.ref)
		if err == nil {
			err = s.o.check(l.dir, l.choice)
		}
		if err != nil {
			return nil, err
		}
		return l.files()
	}
	return s.files(ctx)
}

// open reads a reference and the options.
func open(ref string, o Options) (*session, error) {
	r, err := parse(ref)
	if err != nil {
		return nil, err
	}
	if err := o.fill(); err != nil {
		return nil, err
	}
	return newSession(o, r, cacheOf(o.Cache, r.repo))
}

// A remote is what is wanted of a repository at one commit.
type remote struct {
	choice
	commit string
	files  map[string]sibling // all of the repository
}

// remote asks the hub what the reference means.
func (s *session) remote(ctx context.Context) (remote, error) {
	l, err := s.list(ctx)
	if err != nil {
		return remote{}, err
	}
	names := make([]string, 0, len(l.Siblings))
	r := remote{commit: l.SHA, files: map[string]sibling{}}
	for _, f := range l.Siblings {
		names = append(names, f.Name)
		r.files[f.Name] = f
	}
	r.choice, err = choose(s.ref, names)
	return r, err
}

// fetch does the work of Fetch.
func (s *session) fetch(ctx context.Context) (string, error) {
	r, err := s.remote(ctx)
	if err != nil {
		return "", err
	}
	if err := s.beside(ctx, r); err != nil {
		return "", err
	}
	weights, err := s.weights(ctx, r)
	if err != nil {
		return "", err
	}
	for _, f := range weights {
		if _, err := s.file(ctx, r.commit, f); err != nil {
			return "", err
		}
	}
	if err := s.cache.setRef(s.ref.rev, r.commit); err != nil {
		return "", err
	}
	return r.result(s.cache.snapshot(r.commit)), nil
}

// files does the work of List.
func (s *session) files(ctx context.Context) ([]File, error) {
	r, err := s.remote(ctx)
	if err == nil && s.o.Check != nil {
		err = s.beside(ctx, r)
	}
	if err != nil {
		return nil, err
	}
	weights, err := s.weights(ctx, r)
	if err != nil {
		return nil, err
	}
	var all []sibling
	for _, name := range r.choice.beside {
		all = append(all, r.files[name])
	}
	var files []File
	for _, f := range append(all, weights...) {
		sum, size, err := s.contents(ctx, r.commit, f)
		if err != nil {
			return nil, err
		}
		files = append(files, File{f.Name, size, s.cache.held(r.commit, f.Name, sum, size)})
	}
	return files, nil
}

// beside downloads the files beside the weights and lets them be checked.
func (s *session) beside(ctx context.Context, r remote) error {
	for _, name := range r.choice.beside {
		if _, err := s.file(ctx, r.commit, r.files[name]); err != nil {
			return err
		}
	}
	return s.o.check(s.cache.snapshot(r.commit), r.choice)
}

// weights returns the files of the weights. An index of shards is downloaded, for what it names.
func (s *session) weights(ctx context.Context, r remote) ([]sibling, error) {
	index := ""
	if r.indexed() {
		var err error
		if index, err = s.file(ctx, r.commit, r.files[r.choice.weights]); err != nil {
			return nil, err
		}
	}
	names, err := r.all(index)
	if err != nil {
		return nil, err
	}
	var files []sibling
	for _, name := range names {
		f, ok := r.files[name]
		if !ok {
			return nil, fmt.Errorf("%s: shard %s of %s is not in the repository at commit %s", s.ref.repo, name, r.choice.weights, r.commit)
		}
		files = append(files, f)
	}
	return files, nil
}

// A local is what the cache holds of a reference.
type local struct {
	choice
	dir   string   // the folder of the commit
	found []string // the files of the weights
}

// find returns what the cache holds of a reference, if that is all.
func (c cache) find(r reference) (l local, err error) {
	missing := func(what string) error {
		return fmt.Errorf("%s: %s in the cache %s, and HF_HUB_OFFLINE is set (unset it, or download the model elsewhere and give its folder)",
			r, what, c.dir)
	}
	commit, err := c.commit(r.rev)
	if err != nil {
		return l, missing("is not")
	}
	l.dir = c.snapshot(commit)
	names, err := filesIn(l.dir)
	if err != nil {
		return l, missing("is not")
	}
	if l.choice, err = choose(r, names); err != nil {
		return l, missing("its weights are not")
	}
	if l.found, err = l.all(filepath.Join(l.dir, filepath.FromSlash(l.choice.weights))); err != nil {
		return l, err
	}
	for _, name := range l.found {
		if !slices.Contains(names, name) {
			return l, missing("its shard " + name + " is not")
		}
	}
	return l, nil
}

// files returns what List does.
func (l local) files() ([]File, error) {
	var files []File
	for _, name := range append(slices.Clone(l.beside), l.found...) {
		info, err := os.Stat(filepath.Join(l.dir, filepath.FromSlash(name)))
		if err != nil {
			return nil, err
		}
		files = append(files, File{name, info.Size(), info.Size()})
	}
	return files, nil
}
