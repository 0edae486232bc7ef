package checkpoints

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
)

// ManifestName is the file of a folder that lists the others; it is written last.
const ManifestName = "manifest.json"

// A Dir is a folder being written. Nothing is seen under its name before [Dir.Commit]: the files go into a temporary folder
// beside it, each is synced to disk and hashed, manifest.json comes last, and one rename puts the whole in place. A process
// that dies leaves the temporary folder and whatever was there before; [RemoveTemp] sweeps it.
//
// Files may be created from several goroutines.
type Dir struct {
	path, temp string
	force      bool
	lock       *os.File // of temp: held while this process lives

	mu    sync.Mutex
	files map[string]*File // by name, nil while open
	err   error            // the first failed write
	done  bool
}

// A Manifest lists the files of a folder.
type Manifest struct {
	Format int    `json:"format"` // 1
	Files  []File `json:"files"`  // sorted by name
}

// A File is one entry of a [Manifest].
type File struct {
	Name   string `json:"name"` // path inside the folder, with slashes
	Size   int64  `json:"size"` // bytes
	SHA256 string `json:"sha256"`
}

// Temporary folders are hidden siblings: ".NAME.tmp-RANDOM" is being written, ".NAME.old-RANDOM" was the folder NAME until
// its replacement was put in place.
const (
	tempMark = ".tmp-"
	oldMark  = ".old-"
)

// CreateDir begins the folder path; missing parents are made. It refuses a path that exists unless force is set: then what
// is there stays until [Dir.Commit] replaces it. Call Commit or [Dir.Abort] in the end.
func CreateDir(path string, force bool) (*Dir, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	if path == filepath.Dir(path) {
		return nil, fmt.Errorf("create folder %s: not a name", path)
	}
	if cwd, err := os.Getwd(); err == nil {
		if rel, err := filepath.Rel(path, cwd); err == nil && filepath.IsLocal(rel) {
			return nil, fmt.Errorf("create folder %s: it holds the working directory (name another one)", path)
		}
	}
	if _, err := os.Lstat(path); err == nil && !force {
		return nil, fmt.Errorf("create folder %s: %w (pass --force to replace it)", path, fs.ErrExist)
	} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
		return nil, err
	}
	d := &Dir{path: path, force: force, files: map[string]*File{}}
	for range 10 { // a sweep may take the folder before it is locked
		d.temp = sibling(path, tempMark)
		if err = os.Mkdir(d.temp, 0o777); err != nil {
			return nil, err
		}
		if d.lock, err = lockDir(d.temp); err == nil {
			return d, nil
		}
		os.Remove(d.temp)
	}
	return nil, fmt.Errorf("lock %s: %w", d.temp, err)
}

// sibling returns a new hidden name beside path.
func sibling(path, mark string) string {
	return filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+mark+rand.Text()[:16])
}

// Create begins a file of the folder. name is a relative path with slashes; folders in it are made. The file counts once it
// is closed without an error; one that is not closed makes Commit fail.
func (d *Dir) Create(name string) (io.WriteCloser, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.done {
		return nil, fmt.Errorf("create %s in %s: %w", name, d.path, os.ErrClosed)
	}
	if !validName(name) || name == ManifestName {
		return nil, fmt.Errorf("create %q in %s: not a name for a file", name, d.path)
	}
	if _, ok := d.files[name]; ok {
		return nil, fmt.Errorf("create %s in %s: %w", name, d.path, fs.ErrExist)
	}
	path := filepath.Join(d.temp, filepath.FromSlash(name))
	if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
	if err != nil {
		return nil, err
	}
	d.files[name] = nil
	return &dirFile{d: d, name: name, f: f, sum: sha256.New()}, nil
}

// WriteFile writes a whole file of the folder.
func (d *Dir) WriteFile(name string, data []byte) error {
	w, err := d.Create(name)
	if err != nil {
		return err
	}
	if _, err := w.Write(data); err != nil {
		w.Close()
		return err
	}
	return w.Close()
}

// validName reports whether name is a clean relative path that stays inside its folder.
func validName(name string) bool {
	return fs.ValidPath(name) && name != "." && filepath.IsLocal(filepath.FromSlash(name)) && !strings.ContainsAny(name, "\\\x00")
}

// A dirFile is a file of a Dir while it is written. Full buffers go to the system and, at the same time on another core, into
// the sum; the system is told early to bring them to the disk, so that Close has less to wait for.
type dirFile struct {
	d      *Dir
	name   string
	f      *os.File
	sum    hash.Hash
	buf    []byte
	other  []byte        // being hashed while buf fills
	hashed chan struct{} // receives when other is free; nil when it is
	size   int64         // bytes given to Write
	at     int64         // bytes written to f
	begun  int64         // of them, those that are on their way to the disk
	err    error
}

const (
	dirBuffer = 1 << 20
	dirBegin  = 32 << 20 // bytes that go to the disk at a time
)

func (w *dirFile) Write(p []byte) (int, error) {
	if w.f == nil {
		return 0, os.ErrClosed
	}
	if w.buf == nil {
		w.buf = make([]byte, 0, dirBuffer)
	}
	done := 0
	for done < len(p) && w.err == nil {
		n := copy(w.buf[len(w.buf):cap(w.buf)], p[done:])
		w.buf = w.buf[:len(w.buf)+n]
		done += n
		if len(w.buf) == cap(w.buf) {
			w.flush()
		}
	}
	w.size += int64(done)
	return done, w.err
}

// flush writes what is buffered. The first error stays.
func (w *dirFile) flush() {
	w.wait()
	if w.err != nil || len(w.buf) == 0 {
		return
	}
	b := w.buf
	w.hashed = make(chan struct{}, 1)
	go func() {
		w.sum.Write(b)
		w.hashed <- struct{}{}
	}()
	n, err := w.f.Write(b)
	w.at += int64(n)
	if err != nil {
		w.err = err
		w.d.fail(err)
	}
	if w.at-w.begun >= dirBegin {
		beginWriteback(w.f, w.begun, w.at-w.begun)
		w.begun = w.at
	}
	if w.other == nil {
		w.other = make([]byte, 0, dirBuffer)
	}
	w.buf, w.other = w.other[:0], b
}

// wait returns when nothing is being hashed.
func (w *dirFile) wait() {
	if w.hashed != nil {
		<-w.hashed
		w.hashed = nil
	}
}

// Close syncs the file to disk and enters it in the manifest.
func (w *dirFile) Close() error {
	if w.f == nil {
		return os.ErrClosed
	}
	w.flush()
	w.wait()
	err := w.err
	if err == nil {
		err = w.f.Sync()
	}
	if e := w.f.Close(); err == nil {
		err = e
	}
	w.f = nil
	if err != nil {
		w.d.fail(err)
		return err
	}
	w.d.mu.Lock()
	defer w.d.mu.Unlock()
	w.d.files[w.name] = &File{Name: w.name, Size: w.size, SHA256: hex.EncodeToString(w.sum.Sum(nil))}
	return nil
}

// fail keeps the first error: a folder with a failed write is never committed.
func (d *Dir) fail(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.err == nil {
		d.err = err
	}
}

// Commit writes the manifest and puts the folder in place. After an error the folder is gone, and what was under its name
// before is as it was.
func (d *Dir) Commit() error {
	err := d.commit()
	d.Abort()
	if err != nil {
		return fmt.Errorf("write folder %s: %w", d.path, err)
	}
	return nil
}

func (d *Dir) commit() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.done {
		return os.ErrClosed
	}
	if d.err != nil {
		return d.err
	}
	m := Manifest{Format: 1, Files: []File{}}
	folders := map[string]bool{d.temp: true}
	for name, f := range d.files {
		if f == nil {
			return fmt.Errorf("%s was not closed", name)
		}
		m.Files = append(m.Files, *f)
		for p := filepath.Dir(filepath.Join(d.temp, filepath.FromSlash(name))); p != d.temp; p = filepath.Dir(p) {
			folders[p] = true
		}
	}
	slices.SortFunc(m.Files, func(a, b File) int { return strings.Compare(a.Name, b.Name) })
	data, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return err
	}
	if err := writeSynced(filepath.Join(d.temp, ManifestName), append(data, '\n')); err != nil {
		return err
	}
	for p := range folders {
		if err := syncDir(p); err != nil {
			return err
		}
	}
	return d.place()
}

// place renames the finished folder to its name.
func (d *Dir) place() error {
	parent := filepath.Dir(d.path)
	_, err := os.Lstat(d.path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if err := os.Rename(d.temp, d.path); err != nil {
			return err
		}
		return syncDir(parent)
	case err != nil:
		return err
	case !d.force:
		return fmt.Errorf("%w by now (pass --force to replace it)", fs.ErrExist)
	}
	if exchange(d.temp, d.path) == nil { // what was there now lies under the temporary name, which Abort removes
		return syncDir(parent)
	}
	if err := replaceInTwo(d.temp, d.path); err != nil {
		return err
	}
	return syncDir(parent)
}

// replaceInTwo puts temp in the place of path where the two names cannot be swapped in one step. Between the two renames
// nothing is at path; RemoveTemp brings the old folder back if the process dies there.
func replaceInTwo(temp, path string) error {
	old := sibling(path, oldMark)
	if err := os.Rename(path, old); err != nil {
		return err
	}
	if err := os.Rename(temp, path); err != nil {
		return errors.Join(err, os.Rename(old, path))
	}
	return os.RemoveAll(old)
}

// Abort drops the folder; what was under its name before stays. It does nothing after Commit, so it may be deferred.
func (d *Dir) Abort() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.done {
		return
	}
	d.done = true
	os.RemoveAll(d.temp) // nothing is there after a plain rename
	d.lock.Close()
}

// writeSynced writes a file and syncs it to disk.
func writeSynced(path string, data []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}
