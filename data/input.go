package data

import (
	"archive/tar"
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/klauspost/compress/gzip"
)

// Limits of what is read.
const (
	maxLine      = 64 << 20 // bytes of a line, and of a document
	maxText      = 1 << 30  // bytes of a file of plain text, unpacked
	maxNesting   = 3        // archives within archives
	maxGzipRatio = 200      // unpacked bytes for each packed one, beyond the first gzipSlack
	gzipSlack    = 16 << 20
)

// inputNames are the ends of the names that are read from a folder; a file that is named itself is always read.
var inputNames = []string{".jsonl", ".jsonl.gz", ".tar.gz", ".tgz", ".tar", ".txt", ".txt.gz"}

// input is one file to read.
type input struct {
	path string // as the caller gave it, for messages
	name string // its base name, or its path inside the folder given: it stands in ids and fingerprints
	size int64
	sha  string
}

// findInputs lists the files that paths stand for: files in the order given, folders in the order of their names. What
// lies under out is left out.
func findInputs(paths []string, out string) ([]input, error) {
	var list []input
	for _, path := range paths {
		info, err := os.Stat(path)
		if err != nil {
			return nil, fmt.Errorf("read input: %w", err)
		}
		if !info.IsDir() {
			if !info.Mode().IsRegular() {
				return nil, fmt.Errorf("read input: %s is not a regular file (it has to be read twice)", path)
			}
			if within(path, out) {
				return nil, fmt.Errorf("read input: %s lies in the output folder %s", path, out)
			}
			list = append(list, input{path: path, name: filepath.Base(path), size: info.Size()})
			continue
		}
		found, err := walkInputs(path, out)
		if err != nil {
			return nil, fmt.Errorf("read input: %w", err)
		}
		if len(found) == 0 {
			return nil, fmt.Errorf("read input: no file in %s ends in %s (name the files themselves to read others)", path, strings.Join(inputNames, ", "))
		}
		list = append(list, found...)
	}
	if len(list) == 0 {
		return nil, errors.New("read input: no file given")
	}
	return list, nil
}

// within reports whether the file path lies in the folder dir.
func within(path, dir string) bool {
	p, err1 := filepath.Abs(path)
	d, err2 := filepath.Abs(dir)
	rel, err3 := filepath.Rel(d, p)
	return err1 == nil && err2 == nil && err3 == nil && filepath.IsLocal(rel)
}

func walkInputs(dir, out string) ([]input, error) {
	skip, err := os.Stat(out)
	if err != nil {
		skip = nil
	}
	var list []input
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if info, err := d.Info(); err == nil && skip != nil && os.SameFile(info, skip) {
				return fs.SkipDir
			}
			return nil
		}
		if !hasEnd(d.Name(), inputNames) {
			return nil
		}
		info, err := os.Stat(path) // of what a link points to
		if err != nil {
			return err
		}
		if info.Mode().IsRegular() {
			rel, err := filepath.Rel(dir, path)
			if err != nil {
				return err
			}
			list = append(list, input{path: path, name: filepath.ToSlash(rel), size: info.Size()})
		}
		return nil
	})
	return list, err
}

func hasEnd(name string, ends []string) bool {
	for _, e := range ends {
		if strings.HasSuffix(strings.ToLower(name), e) {
			return true
		}
	}
	return false
}

// reader reads inputs as records. It runs in one goroutine.
type reader struct {
	ctx      context.Context
	split    *regexp.Regexp
	unwrap   bool
	maxLine  int
	progress func(n int64) // so many more bytes of input were read
	emit     func(record) error
	lines    int64 // of JSONL
	blank    int64 // of lines
	skipped  int64 // members of archives that are not text
}

// record is a line of JSONL or a document of plain text. Its bytes are the receiver's.
type record struct {
	path  string // for messages
	line  int64  // where it starts, from 1
	name  string // the id, if it has no other
	text  []byte
	plain bool // text is the document, not a line of JSONL
	over  int  // the size, if it is over the limit; then text is nil
}

// errChanged says that an input is not what it was when it was hashed.
var errChanged = errors.New("the file changed while it was read")

// hash reads an input for the sake of its sha256.
func (r *reader) hash(in *input) error {
	f, err := os.Open(in.path)
	if err != nil {
		return fmt.Errorf("read input: %w", err)
	}
	defer f.Close()
	src := &source{r: r, f: f, h: sha256.New()}
	if _, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, src, make([]byte, 1<<20)); err != nil {
		return fmt.Errorf("read %s: %w", in.path, err)
	}
	in.size, in.sha = src.n, hex.EncodeToString(src.h.Sum(nil))
	return nil
}

// read emits the records of an input.
func (r *reader) read(in *input) error {
	f, err := os.Open(in.path)
	if err != nil {
		return fmt.Errorf("read input: %w", err)
	}
	defer f.Close()
	src := &source{r: r, f: f, h: sha256.New()}
	if err := r.decode(src, in.path, in.name, 0); err != nil {
		return err
	}
	if _, err := io.Copy(struct{ io.Writer }{io.Discard}, src); err != nil {
		return fmt.Errorf("read %s: %w", in.path, err)
	}
	if hex.EncodeToString(src.h.Sum(nil)) != in.sha {
		return fmt.Errorf("read %s: %w", in.path, errChanged)
	}
	return nil
}

// source is a file of which the bytes are counted and hashed.
type source struct {
	r *reader
	f io.Reader
	n int64
	h hash.Hash
}

func (s *source) Read(p []byte) (int, error) {
	if err := s.r.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := s.f.Read(p)
	s.n += int64(n)
	s.h.Write(p[:n])
	s.r.progress(int64(n))
	return n, err
}

// decode looks at the content to tell what it is: gzip, tar, JSONL or plain text. The name decides only between the last
// two, and for a tar without its magic.
func (r *reader) decode(raw io.Reader, path, name string, depth int) error {
	b := bufio.NewReaderSize(raw, 64<<10)
	head, err := b.Peek(512)
	if err != nil && err != io.EOF {
		return r.failed(path, err)
	}
	switch {
	case len(head) >= 2 && head[0] == 0x1f && head[1] == 0x8b:
		if depth == maxNesting {
			return fmt.Errorf("read %s: packed more than %d times", path, maxNesting)
		}
		return r.gunzip(b, path, name, depth)
	case len(head) >= 262 && string(head[257:262]) == "ustar", len(head) > 0 && hasEnd(name, []string{".tar"}):
		if depth == maxNesting {
			return fmt.Errorf("read %s: packed more than %d times", path, maxNesting)
		}
		return r.untar(b, path, name, depth)
	case bytes.IndexByte(head, 0) >= 0:
		return fmt.Errorf("read %s: %w", path, errBinary)
	case isJSONL(name, head):
		return r.jsonl(b, path, name)
	}
	return r.plain(b, path, name)
}

var errBinary = errors.New("neither text, JSONL, gzip nor tar")

func isJSONL(name string, head []byte) bool {
	switch {
	case hasEnd(name, []string{".jsonl", ".ndjson", ".json"}):
		return true
	case hasEnd(name, []string{".txt", ".text", ".md"}):
		return false
	}
	head = bytes.TrimLeft(bytes.TrimPrefix(head, bom), " \t\r\n")
	return len(head) > 0 && head[0] == '{'
}

// located is an error that already names its place.
type located struct{ error }

func (e located) Unwrap() error { return e.error }

// failed names the file of a read error, once.
func (r *reader) failed(path string, err error) error {
	var l located
	if errors.As(err, &l) || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return fmt.Errorf("read %s: %w", path, err)
}

// unzip reads gzip members one after the other. Its errors name the file and the place in the unpacked data.
type unzip struct {
	path string
	in   *countReader
	z    *gzip.Reader
	n    int64
}

type countReader struct {
	r *bufio.Reader
	n int64
}

func (c *countReader) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	return n, err
}

func (c *countReader) ReadByte() (byte, error) {
	b, err := c.r.ReadByte()
	if err == nil {
		c.n++
	}
	return b, err
}

func (u *unzip) Read(p []byte) (int, error) {
	n, err := u.z.Read(p)
	u.n += int64(n)
	if u.n > gzipSlack && u.n > maxGzipRatio*u.in.n {
		err = fmt.Errorf("unpacks to more than %d times its size", maxGzipRatio)
		n = 0
	}
	if err != nil && err != io.EOF {
		err = u.wrap(err)
	}
	return n, err
}

func (u *unzip) wrap(err error) error {
	var l located
	if errors.As(err, &l) || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	if err == io.ErrUnexpectedEOF {
		err = errors.New("the file is cut short")
	}
	return located{fmt.Errorf("read %s: gzip, at byte %d of the unpacked data: %w", u.path, u.n, err)}
}

func (r *reader) gunzip(b *bufio.Reader, path, name string, depth int) error {
	u := &unzip{path: path, in: &countReader{r: b}}
	z, err := gzip.NewReader(u.in)
	if err != nil {
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return u.wrap(err)
	}
	defer z.Close()
	u.z = z
	switch lower := strings.ToLower(name); {
	case strings.HasSuffix(lower, ".tgz"):
		name = name[:len(name)-len(".tgz")] + ".tar"
	case strings.HasSuffix(lower, ".gz"):
		name = name[:len(name)-len(".gz")]
	}
	if err := r.decode(u, path, name, depth+1); err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, u) // to the checksum at the end
	return err
}

func (r *reader) untar(b *bufio.Reader, path, name string, depth int) error {
	t := tar.NewReader(b)
	for {
		h, err := t.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return r.failed(path, fmt.Errorf("tar: %w", err))
		}
		if h.Typeflag != tar.TypeReg {
			continue
		}
		err = r.decode(t, path+"/"+h.Name, name+"/"+h.Name, depth+1)
		if errors.Is(err, errBinary) {
			r.skipped++
			continue
		}
		if err != nil {
			return err
		}
	}
}

// jsonl emits the lines that are not blank.
func (r *reader) jsonl(b *bufio.Reader, path, name string) error {
	for n := int64(1); ; n++ {
		text, over, err := readLine(b, r.maxLine)
		if err != nil && err != io.EOF {
			return r.failed(fmt.Sprintf("%s:%d", path, n), err)
		}
		if err == io.EOF && len(text) == 0 && over == 0 {
			return nil
		}
		r.lines++
		text = bytes.TrimPrefix(text, bom)
		if over == 0 && len(bytes.Trim(text, " \t\r\n")) == 0 {
			r.blank++
		} else if e := r.emit(record{path: path, line: n, name: fmt.Sprintf("%s:%d", name, n), text: text, over: over}); e != nil {
			return e
		}
		if err == io.EOF {
			return nil
		}
	}
}

// readLine returns the next line without its line end, in memory of its own. A line of more than limit bytes is read
// over and its size returned instead. At the end of the input it returns what is there, with io.EOF.
func readLine(b *bufio.Reader, limit int) (text []byte, over int, err error) {
	n := 0
	for {
		part, err := b.ReadSlice('\n')
		n += len(part)
		if n-1 > limit {
			text = nil
		} else {
			text = append(text, part...)
		}
		if err == bufio.ErrBufferFull {
			continue
		}
		if err == nil {
			n--
			text = bytes.TrimSuffix(text, []byte("\n"))
		}
		if n > limit {
			return nil, n, err
		}
		return bytes.TrimSuffix(text, []byte("\r")), 0, err
	}
}

// plain emits the documents of a plain text.
func (r *reader) plain(b *bufio.Reader, path, name string) error {
	text, err := io.ReadAll(io.LimitReader(b, maxText+1))
	if err != nil {
		return r.failed(path, err)
	}
	if len(text) > maxText {
		return fmt.Errorf("read %s: plain text of more than %d bytes (cut it into several files)", path, maxText)
	}
	line := int64(1)
	for i, part := range splitText(plainText(text), r.split) {
		rec := record{path: path, line: line, name: name, plain: true, text: part}
		line += int64(bytes.Count(part, []byte("\n")))
		if r.split != nil {
			rec.name = fmt.Sprintf("%s#%d", name, i+1)
		}
		if r.unwrap {
			rec.text = unwrap(part)
		}
		if len(rec.text) > r.maxLine {
			rec.text, rec.over = nil, len(rec.text)
		}
		if err := r.emit(rec); err != nil {
			return err
		}
	}
	return nil
}
