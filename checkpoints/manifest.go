package checkpoints

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// ReadManifest reads the manifest of a folder that [Dir] wrote.
func ReadManifest(dir string) (*Manifest, error) {
	path := filepath.Join(dir, ManifestName)
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s: no manifest: the folder is not complete (write it again, or use another one): %w", path, err)
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxManifest+1))
	if err != nil {
		return nil, err
	}
	if len(data) > maxManifest {
		return nil, fmt.Errorf("%s: %w", path, formatf("more than %d bytes", maxManifest))
	}
	var m Manifest
	if err := json.Unmarshal(data, &m); err != nil {
		return nil, fmt.Errorf("%s: %w", path, formatf("%v", err))
	}
	if m.Format != 1 {
		return nil, fmt.Errorf("%s: %w", path, formatf("format %d is unknown (use a newer version)", m.Format))
	}
	seen := map[string]bool{ManifestName: true}
	for _, e := range m.Files {
		if !validName(e.Name) || seen[e.Name] {
			return nil, fmt.Errorf("%s: %w", path, formatf("file name %q", e.Name))
		}
		seen[e.Name] = true
	}
	return &m, nil
}

// Verify compares every file of a folder with its manifest: size and SHA-256. The error names the first file that differs.
// Files that the manifest does not list are ignored.
func Verify(dir string) error {
	m, err := ReadManifest(dir)
	if err != nil {
		return err
	}
	for _, e := range m.Files {
		if err := e.verify(dir); err != nil {
			return err
		}
	}
	return nil
}

func (e File) verify(dir string) error {
	const wayOut = "(use an earlier checkpoint, or write this one again)"
	path := filepath.Join(dir, filepath.FromSlash(e.Name))
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s: listed in %s but missing %s: %w", path, ManifestName, wayOut, err)
	}
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() || info.Size() != e.Size {
		return fmt.Errorf("%s: %w", path, formatf("%d bytes, %s says %d: the file is damaged %s", info.Size(), ManifestName, e.Size, wayOut))
	}
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return err
	}
	if hex.EncodeToString(h.Sum(nil)) != e.SHA256 {
		return fmt.Errorf("%s: %w", path, formatf("its SHA-256 is not that of %s: the file is damaged %s", ManifestName, wayOut))
	}
	return nil
}

// RemoveTemp removes from a folder what processes that died left of a [Dir]. Those still being written, by any process,
// stay. A folder that was moved aside when its writer died comes back under its name, if nothing is there.
func RemoveTemp(parent string) {
	entries, err := os.ReadDir(parent)
	if err != nil {
		return
	}
	live := map[string]bool{}
	for _, e := range entries {
		name, ok := tempOf(e.Name(), tempMark)
		if !ok {
			continue
		}
		path := filepath.Join(parent, e.Name())
		if release, ok := claimOrphan(path); ok {
			os.RemoveAll(path)
			release()
		} else {
			live[name] = true
		}
	}
	for _, e := range entries {
		if name, ok := tempOf(e.Name(), oldMark); ok && !live[name] {
			restore(filepath.Join(parent, e.Name()), filepath.Join(parent, name))
		}
	}
}

// tempOf returns the name of the folder that a temporary name belongs to.
func tempOf(temp, mark string) (string, bool) {
	i := strings.LastIndex(temp, mark)
	if i < 2 || temp[0] != '.' || len(temp) != i+len(mark)+16 {
		return "", false
	}
	return temp[1:i], true
}

// restore brings back a folder that was moved aside, or removes it when its replacement is in place.
func restore(old, path string) {
	if _, err := os.Lstat(path); err == nil {
		os.RemoveAll(old)
	} else if errors.Is(err, fs.ErrNotExist) {
		os.Rename(old, path)
	}
}
