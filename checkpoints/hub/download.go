package hub

import (
	"context"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// file brings one file of a commit into the cache and returns its path in the snapshot.
func (s *session) file(ctx context.Context, commit string, f sibling) (string, error) {
	if !localName(f.Name) {
		return "", fmt.Errorf("%s: %s is not a name for a file", s.ref.repo, quote(f.Name))
	}
	sum, size, err := s.contents(ctx, commit, f)
	if err != nil {
		return "", err
	}
	path := filepath.Join(s.cache.snapshot(commit), filepath.FromSlash(f.Name))
	if has(path, size) {
		return path, nil
	}
	for _, dir := range []string{filepath.Dir(s.cache.blob(sum)), s.cache.locks} {
		if err := os.MkdirAll(dir, 0o777); err != nil {
			return "", fmt.Errorf("%w (set HF_HUB_CACHE to a folder that can be written to)", err)
		}
	}
	unlock, err := s.lock(ctx, filepath.Join(s.cache.locks, sum+".lock"))
	if err != nil {
		return "", err
	}
	defer unlock()
	if !has(s.cache.blob(sum), size) {
		d := &download{s: s, name: f.Name, path: s.path(commit, f.Name), part: s.cache.part(sum), sum: sum, size: size}
		if err := d.run(ctx); err != nil {
			return "", err
		}
		if err := os.Rename(d.part, s.cache.blob(sum)); err != nil {
			return "", err
		}
	}
	return path, s.cache.link(commit, f.Name, sum)
}

// lock waits until no other process downloads the same blob.
func (s *session) lock(ctx context.Context, path string) (unlock func(), err error) {
	for {
		unlock, err = tryLock(path)
		if !errors.Is(err, errLocked) {
			if err != nil {
				err = fmt.Errorf("lock %s: %w", path, err)
			}
			return unlock, err
		}
		if err := sleep(ctx, 100*time.Millisecond); err != nil {
			return nil, err
		}
	}
}

// A download writes one blob into its part file, after what an earlier download left there.
type download struct {
	s          *session
	name, path string // in the repository, on the server
	part       string
	sum        string // SHA-256, or git's SHA-1
	size       int64

	f    *os.File
	n    int64 // bytes in f, all of them hashed
	hash hash.Hash
}

// run leaves the whole and checked content in the part file.
func (d *download) run(ctx context.Context) (err error) {
	if d.f, err = os.OpenFile(d.part, os.O_RDWR|os.O_CREATE, 0o666); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.f.Close()) }()
	if err := d.takeUp(ctx); err != nil {
		return err
	}
	err = d.s.retry(ctx, func() int64 { return d.n }, func() error {
		d.tell()
		if d.n == d.size {
			return nil
		}
		return d.attempt(ctx)
	})
	if err != nil {
		return err
	}
	if got := hex.EncodeToString(d.hash.Sum(nil)); got != d.sum {
		return d.drop(fmt.Errorf("%s: the checksum of what came is %s, the server says %s: what came was removed (try again)", d.what(), got, d.sum))
	}
	return d.f.Sync()
}

func (d *download) what() string { return d.s.ref.repo + "/" + d.name }

func (d *download) tell() {
	if d.s.o.Progress != nil {
		d.s.o.Progress(d.name, d.n, d.size)
	}
}

// drop removes the part file after an error. Where an open file cannot be removed, it is empty.
func (d *download) drop(err error) error {
	return errors.Join(err, d.restart(true), os.Remove(d.part))
}

// takeUp hashes what the part file holds.
func (d *download) takeUp(ctx context.Context) error {
	if err := d.restart(false); err != nil {
		return err
	}
	buf := make([]byte, 1<<20)
	for {
		n, err := d.f.Read(buf)
		d.hash.Write(buf[:n])
		d.n += int64(n)
		switch {
		case d.n > d.size:
			return d.restart(true)
		case err == io.EOF:
			return nil
		case err != nil:
			return err
		case ctx.Err() != nil:
			return ctx.Err()
		}
	}
}

// restart begins the file anew, and empties it if asked.
func (d *download) restart(empty bool) error {
	d.n = 0
	if d.hash = sha256.New(); len(d.sum) == 40 { // git's sum covers a header
		d.hash = sha1.New()
		fmt.Fprintf(d.hash, "blob %d\x00", d.size)
	}
	if _, err := d.f.Seek(0, io.SeekStart); err != nil || !empty {
		return err
	}
	return d.f.Truncate(0)
}

// attempt asks for what is missing and appends it.
func (d *download) attempt(ctx context.Context) error {
	ctx, heard, stop := d.s.watch(ctx)
	defer stop(nil)
	header := http.Header{}
	if d.n > 0 {
		header.Set("Range", fmt.Sprintf("bytes=%d-", d.n))
	}
	r, err := d.s.do(ctx, http.MethodGet, d.path, header)
	if err != nil {
		return err
	}
	defer r.Body.Close()
	heard()
	if (gitSum.MatchString(r.sum) || sha256Sum.MatchString(r.sum)) && len(r.sum) == len(d.sum) && r.sum != d.sum {
		return fmt.Errorf("%s: the server gives two checksums, %s and %s (try again later)", d.what(), d.sum, r.sum)
	}
	switch r.StatusCode {
	case http.StatusOK: // the server has no ranges
		if d.n > 0 {
			if err := d.restart(true); err != nil {
				return err
			}
		}
	case http.StatusPartialContent:
		if want := fmt.Sprintf("bytes %d-%d/%d", d.n, d.size-1, d.size); r.Header.Get("Content-Range") != want {
			return d.anew(fmt.Sprintf("the server sends %s, not %q", quote(r.Header.Get("Content-Range")), want))
		}
	case http.StatusRequestedRangeNotSatisfiable:
		if d.n == 0 {
			return fmt.Errorf("%s: %s", d.what(), r.answers())
		}
		return d.anew("the server refuses to go on from where the download had ended")
	default:
		return d.s.refused(r, d.what())
	}
	return d.append(ctx, r, heard)
}

// anew empties the part file and asks for another attempt.
func (d *download) anew(why string) error {
	if err := d.restart(true); err != nil {
		return err
	}
	return &transient{err: fmt.Errorf("%s: %s", d.what(), why)}
}

// append writes an answer's body behind what is there. An answer that never falls silent and yet brings next to nothing is
// given up.
func (d *download) append(ctx context.Context, r *response, heard func()) error {
	buf := make([]byte, 256<<10)
	begin, had := time.Now(), d.n
	for {
		if time.Since(begin) >= d.s.o.window {
			if d.n-had < progress {
				return &transient{err: fmt.Errorf("%s: %s sent %d bytes in %s, less than %d: too slow", d.what(), origin(r.Request.URL), d.n-had,
					d.s.o.window, progress)}
			}
			begin, had = time.Now(), d.n
		}
		n, err := r.Body.Read(buf)
		heard()
		if int64(n) > d.size-d.n {
			return d.drop(fmt.Errorf("%s: the server sends more than the %d bytes that it promised", d.what(), d.size))
		}
		if n > 0 {
			if _, err := d.f.Write(buf[:n]); err != nil {
				return d.unwritable(err)
			}
			d.hash.Write(buf[:n])
			d.n += int64(n)
			d.tell()
		}
		switch {
		case err == io.EOF && d.n == d.size:
			return nil
		case err == nil:
		case context.Cause(ctx) != nil && !errors.Is(context.Cause(ctx), errStalled):
			return context.Cause(ctx)
		default:
			if errors.Is(context.Cause(ctx), errStalled) {
				err = errStalled
			}
			if err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return &transient{err: fmt.Errorf("%s: the connection to %s broke at byte %d of %d: %w", d.what(), origin(r.Request.URL), d.n, d.size, plain{err})}
		}
	}
}

// unwritable explains why the part file cannot be written. What was hashed lies in it; a torn piece behind that is cut off,
// or else found by the checksum.
func (d *download) unwritable(err error) error {
	d.f.Truncate(d.n)
	if errors.Is(err, syscall.ENOSPC) || strings.Contains(err.Error(), "not enough space") {
		return fmt.Errorf("%s: no space left in %s, %d bytes are missing (free them and try again, or set HF_HUB_CACHE to a folder on another disk)",
			d.what(), filepath.Dir(d.part), d.size-d.n)
	}
	return fmt.Errorf("%s: %w", d.what(), err)
}
