package hub

import (
	"fmt"
	"io/fs"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"unicode"
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
			return r, fmt.Errorf("%s names no repository %s", quote(s), form)
		}
	}
	switch {
	case len(parts) == 3 && !localName(r.file):
		return r, fmt.Errorf("%s: %s is not a path in a repository %s", quote(s), quote(r.file), form)
	case !revision.MatchString(r.rev) || !localName(r.rev):
		return r, fmt.Errorf("%s: %s is not a branch, tag or commit %s", quote(s), quote(r.rev), form)
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

// localName reports whether a path with slashes stays inside the folder that it is joined to, on every system, and can be
// shown.
func localName(name string) bool {
	return len(name) <= 1024 && fs.ValidPath(name) && name != "." && filepath.IsLocal(filepath.FromSlash(name)) &&
		!strings.ContainsFunc(name, func(c rune) bool { return !unicode.IsGraphic(c) || strings.ContainsRune(`\:`, c) })
}

// quote makes text from outside fit for a message: short, in quotes, and nothing in it that a terminal obeys.
func quote(s string) string { return strconv.Quote(cut(s)) }

// clip does as quote, without quotes. What prints stays as it is.
func clip(s string) string {
	var b strings.Builder
	for _, c := range strings.ToValidUTF8(cut(s), "?") {
		if strconv.IsPrint(c) {
			b.WriteRune(c)
		} else {
			b.WriteString(strings.Trim(strconv.QuoteRune(c), "'"))
		}
	}
	return b.String()
}

func cut(s string) string {
	const most = 200
	if len(s) > most {
		return strings.ToValidUTF8(s[:most], "?") + "..."
	}
	return s
}

// plain is an error whose text comes from outside in part.
type plain struct{ error }

func (p plain) Error() string { return clip(p.error.Error()) }
func (p plain) Unwrap() error { return p.error }
