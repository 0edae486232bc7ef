package hub

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// A cache is the folder of one repository in the cache of huggingface_hub:
//
//	models--owner--name/blobs/SUM              files, each by its checksum; SUM.part while it is downloaded
//	models--owner--name/refs/REVISION          the commit of a branch or tag
//	models--owner--name/snapshots/COMMIT/FILE  links into blobs
//	.locks/models--owner--name/SUM.lock        held while a blob is downloaded
type cache struct{ dir, locks string }

func cacheOf(root, repo string) cache {
	name := "models--" + strings.ReplaceAll(repo, "/", "--")
	return cache{filepath.Join(root, name), filepath.Join(root, ".locks", name)}
}

func (c cache) blob(sum string) string { return filepath.Join(c.dir, "blobs", sum) }

func (c cache) part(sum string) string { return c.blob(sum) + ".part" }

func (c cache) snapshot(commit string) string { return filepath.Join(c.dir, "snapshots", commit) }

func (c cache) refFile(rev string) string {
	return filepath.Join(c.dir, "refs", filepath.FromSlash(rev))
}

// commit returns the commit of a revision as the cache knows it.
func (c cache) commit(rev string) (string, error) {
	if commitSum.MatchString(rev) {
		return rev, nil
	}
	f, err := os.Open(c.refFile(rev))
	if err != nil {
		return "", err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, 128))
	if err != nil {
		return "", err
	}
	s := strings.TrimSpace(string(b))
	if !commitSum.MatchString(s) {
		return "", fmt.Errorf("%s: holds no commit", c.refFile(rev))
	}
	return s, nil
}

// setRef keeps the commit of a branch or tag, unless it is known already.
func (c cache) setRef(rev, commit string) error {
	if rev == commit {
		return nil
	}
	if old, err := c.commit(rev); err == nil && old == commit {
		return nil
	}
	path := c.refFile(rev)
	if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
		return err
	}
	return replace(path, func(temp string) error { return os.WriteFile(temp, []byte(commit), 0o666) })
}

// replace makes a file under a temporary name and renames it to path.
func replace(path string, create func(temp string) error) error {
	temp := path + ".tmp-" + rand.Text()[:12]
	err := create(temp)
	if err == nil {
		err = os.Rename(temp, path)
	}
	if err != nil {
		os.Remove(temp)
	}
	return err
}

// link puts a blob into a snapshot under its name: as a relative symbolic link where the system has them, else as a hard
// link, else as a copy.
func (c cache) link(commit, name, sum string) error {
	path := filepath.Join(c.snapshot(commit), filepath.FromSlash(name))
	if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
		return err
	}
	target := filepath.Join(strings.Repeat(".."+string(filepath.Separator), 2+strings.Count(name, "/")), "blobs", sum)
	if old, err := os.Readlink(path); err == nil && old == target {
		return nil
	}
	return replace(path, func(temp string) error {
		if os.Symlink(target, temp) == nil || os.Link(c.blob(sum), temp) == nil {
			return nil
		}
		return copyFile(temp, c.blob(sum))
	})
}

func copyFile(dst, src string) error {
	from, err := os.Open(src)
	if err != nil {
		return err
	}
	defer from.Close()
	to, err := os.OpenFile(dst, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
	if err != nil {
		return err
	}
	_, err = io.Copy(to, from)
	return errors.Join(err, to.Close())
}

// has reports whether a file of the wanted size is at path, followed through links.
func has(path string, size int64) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular() && info.Size() == size
}

// held returns the bytes of a file that are there, whole or in part.
func (c cache) held(commit, name, sum string, size int64) int64 {
	if has(filepath.Join(c.snapshot(commit), filepath.FromSlash(name)), size) || has(c.blob(sum), size) {
		return size
	}
	if info, err := os.Stat(c.part(sum)); err == nil && info.Mode().IsRegular() && info.Size() <= size {
		return info.Size()
	}
	return 0
}

// filesIn lists the files of a snapshot whose contents are there, with slashes.
func filesIn(dir string) ([]string, error) {
	var names []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		if info, err := os.Stat(path); err != nil || !info.Mode().IsRegular() {
			return nil // a link to a blob that is gone
		}
		rel, err := filepath.Rel(dir, path)
		if names = append(names, filepath.ToSlash(rel)); len(names) > maxFiles {
			return fmt.Errorf("%s: more than %d files", dir, maxFiles)
		}
		return err
	})
	return names, err
}
