package hub

import (
	"fmt"
	"io/fs"
	"path/filepath"
	"regexp"
	"strings"
)

// Prefix begins every reference.
const Prefix = "hf:"

// IsRef reports whether a source is meant for [Fetch], not the name of a file or folder.
func IsRef(source string) bool { return strings.HasPrefix(source, Prefix) }

// A reference names a repository, a revision of it, and perhaps the one file that is wanted.
type reference struct {
	repo string // "owner/name", or "name" for the oldest models
	file string // "" when the weights are to be chosen
	rev  string // branch, tag or commit
}

var (
	repoPart  = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9._-]{0,95}$`)
	revision  = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9._/+-]{0,254}$`)
	commitSum = regexp.MustCompile(`^[0-9a-f]{40}$`)
)

// parse reads hf:[owner/]name[/FILE][@revision].
func parse(s string) (reference, error) {
	const form = "(want hf:owner/name, hf:owner/name@revision or hf:owner/name/FILE)"
	r := reference{rev: "main"}
	path, rev, hasRev := strings.Cut(strings.TrimPrefix(s, Prefix), "@")
	if hasRev {
		r.rev = rev
	}
	parts := strings.SplitN(path, "/", 3)
	r.repo = strings.Join(parts[:min(2, len(parts))], "/")
	if len(parts) == 3 {
		r.file = parts[2]
	}
	for _, p := range parts[:min(2, len(parts))] {
		if !repoPart.MatchString(p) || strings.Contains(p, "--") || strings.Contains(p, "..") {
			return r, fmt.Errorf("%q names no repository %s", clip(s), form)
		}
	}
	switch {
	case len(parts) == 3 && !localName(r.file):
		return r, fmt.Errorf("%q: %q is not a path in a repository %s", clip(s), clip(r.file), form)
	case !revision.MatchString(r.rev) || !localName(r.rev):
		return r, fmt.Errorf("%q: %q is not a branch, tag or commit %s", clip(s), clip(r.rev), form)
	}
	return r, nil
}

func (r reference) String() string {
	s := Prefix + r.repo
	if r.file != "" {
		s += "/" + r.file
	}
	if r.rev != "main" {
		s += "@" + r.rev
	}
	return s
}

// localName reports whether a path with slashes stays inside the folder that it is joined to, on every system.
func localName(name string) bool {
	return len(name) <= 1024 && fs.ValidPath(name) && name != "." && filepath.IsLocal(filepath.FromSlash(name)) &&
		!strings.ContainsFunc(name, func(c rune) bool { return c < ' ' || c == 0x7f || strings.ContainsRune(`\:`, c) })
}

// clip makes text from outside fit for a message: short, and on one line.
func clip(s string) string {
	if len(s) > 200 {
		s = s[:200] + "..."
	}
	return strings.ToValidUTF8(s, "?")
}
