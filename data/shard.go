package data

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/array"
	"github.com/apache/arrow/go/v15/arrow/ipc"
	"github.com/apache/arrow/go/v15/arrow/memory"
)

// batchTokens is how many tokens a record batch gathers before it is written. A document is never split, so that a
// batch may be larger by one document.
const batchTokens = 64 << 10

// maxBatchBytes is the largest record batch that is read.
const maxBatchBytes = 1 << 30

var crcTable = crc32.MakeTable(crc32.Castagnoli)

// shardSchema is the schema of every shard of m.
func shardSchema(m *Meta) *arrow.Schema {
	ints := arrow.ListOfNonNullable(arrow.PrimitiveTypes.Int32)
	meta := arrow.NewMetadata(
		[]string{"svae.format", "svae.tokenizer", "svae.segmenter", "svae.source_sha256", "svae.vocab_size",
			"svae.bos_token_id", "svae.eos_token_id", "svae.pad_token_id"},
		[]string{strconv.Itoa(m.Format), m.TokenizerFingerprint, m.SegmenterFingerprint, m.SourceSHA256, strconv.Itoa(m.VocabSize),
			strconv.Itoa(int(m.BOS)), strconv.Itoa(int(m.EOS)), strconv.Itoa(int(m.PAD))})
	return arrow.NewSchema([]arrow.Field{
		{Name: "id", Type: arrow.BinaryTypes.String},
		{Name: "ids", Type: ints},
		{Name: "sentence_tokens", Type: ints},
		{Name: "sentence_bytes", Type: ints},
	}, &meta)
}

// shardHead returns how every shard of m begins: Arrow's magic and the schema message.
func shardHead(m *Meta) ([]byte, error) {
	var b bytes.Buffer
	b.WriteString("ARROW1\x00\x00")
	w := ipc.NewWriter(&b, ipc.WithSchema(shardSchema(m)))
	if err := w.Close(); err != nil {
		return nil, fmt.Errorf("encode schema: %w", err)
	}
	return b.Bytes()[:b.Len()-8], nil // less the end mark of a stream
}

// shardWriter writes one shard to a temporary file and gives it its name when it is complete.
type shardWriter struct {
	path   string
	f      *os.File
	out    *sumWriter
	w      *ipc.FileWriter
	rows   *array.RecordBuilder
	head   int64 // bytes before the first record batch
	tokens int64 // in rows
	shard  Shard
}

func newShardWriter(dir, name string, m *Meta) (*shardWriter, error) {
	schema := shardSchema(m)
	head, err := shardHead(m)
	if err != nil {
		return nil, fmt.Errorf("create shard: %w", err)
	}
	f, err := os.CreateTemp(dir, "."+name+"-*.tmp")
	if err != nil {
		return nil, fmt.Errorf("create shard: %w", err)
	}
	s := &shardWriter{path: filepath.Join(dir, name), f: f, head: int64(len(head)), shard: Shard{Name: name}}
	s.out = &sumWriter{w: bufio.NewWriterSize(f, 256<<10), sha: sha256.New()}
	s.w, err = ipc.NewFileWriter(s.out, ipc.WithSchema(schema))
	if err != nil {
		s.abort()
		return nil, fmt.Errorf("create shard %s: %w", s.path, err)
	}
	s.rows = array.NewRecordBuilder(memory.DefaultAllocator, schema)
	return s, nil
}

// size returns about how many bytes the shard would have if it ended now.
func (s *shardWriter) size() int64 { return s.out.n + 4*s.tokens }

func (s *shardWriter) add(d *Document) error {
	s.rows.Field(0).(*array.StringBuilder).Append(d.ID)
	for i, v := range [][]int32{d.IDs, d.SentenceTokens, d.SentenceBytes} {
		l := s.rows.Field(i + 1).(*array.ListBuilder)
		l.Append(true)
		l.ValueBuilder().(*array.Int32Builder).AppendValues(v, nil)
	}
	s.tokens += int64(len(d.IDs))
	s.shard.Counts.add(d.counts())
	if s.tokens >= batchTokens {
		return s.flush()
	}
	return nil
}

// counts returns what d adds to a data set's counts.
func (d *Document) counts() Counts {
	c := Counts{Documents: 1, Sentences: int64(len(d.SentenceTokens)), Tokens: int64(len(d.IDs))}
	for _, n := range d.SentenceBytes {
		c.Bytes += int64(n)
	}
	return c
}

// flush writes the gathered rows as one record batch.
func (s *shardWriter) flush() error {
	rec := s.rows.NewRecord()
	defer rec.Release()
	if rec.NumRows() == 0 {
		return nil
	}
	at := max(s.out.n, s.head) // the first batch is written together with the head
	s.out.startCRC(at)
	if err := s.w.Write(rec); err != nil {
		return fmt.Errorf("write %s: %w", s.path, err)
	}
	s.shard.Batches = append(s.shard.Batches, RecordBatch{Offset: at, Size: s.out.n - at, Documents: rec.NumRows(), Tokens: s.tokens, CRC: s.out.crc})
	s.tokens = 0
	return nil
}

// finish completes the file: footer, fsync, its name, fsync of the folder.
func (s *shardWriter) finish() (Shard, error) {
	err := s.flush()
	if err == nil {
		s.out.startCRC(max(s.out.n, s.head))
		err = s.w.Close()
	}
	if err == nil {
		err = s.out.w.Flush()
	}
	if err != nil {
		s.abort()
		return Shard{}, fmt.Errorf("write %s: %w", s.path, err)
	}
	s.shard.FooterCRC, s.shard.Size = s.out.crc, s.out.n
	s.shard.SHA256 = hex.EncodeToString(s.out.sha.Sum(nil))
	if err := publish(s.f, s.path); err != nil {
		return Shard{}, err
	}
	return s.shard, nil
}

// abort removes the temporary file.
func (s *shardWriter) abort() {
	s.f.Close()
	os.Remove(s.f.Name())
}

// publish syncs and closes the temporary file f and renames it to path; the folder is synced too. If that fails the
// temporary file is removed.
func publish(f *os.File, path string) error {
	err := f.Sync()
	if err == nil {
		err = f.Chmod(0o644)
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		os.Remove(f.Name())
		return fmt.Errorf("write %s: %w", path, err)
	}
	return syncDir(filepath.Dir(path))
}

// writeFile puts text under path in one step: the old file or the new one, never a part.
func writeFile(path string, text []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*.tmp")
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	if _, err := f.Write(text); err != nil {
		f.Close()
		os.Remove(f.Name())
		return fmt.Errorf("write %s: %w", path, err)
	}
	return publish(f, path)
}

// sumWriter counts and hashes what it passes on.
type sumWriter struct {
	w    *bufio.Writer
	n    int64
	sha  hash.Hash
	crc  uint32 // of what was written from position from on
	from int64
}

// startCRC makes crc that of what is written from position at on.
func (s *sumWriter) startCRC(at int64) { s.crc, s.from = 0, at }

func (s *sumWriter) Write(p []byte) (int, error) {
	n, err := s.w.Write(p)
	s.sha.Write(p[:n])
	s.crc = crc32.Update(s.crc, crcTable, p[min(max(s.from-s.n, 0), int64(n)):n])
	s.n += int64(n)
	return n, err
}

// Seek tells the position, all that the Arrow writer asks for.
func (s *sumWriter) Seek(offset int64, whence int) (int64, error) {
	if offset != 0 || whence != io.SeekCurrent {
		return 0, errors.ErrUnsupported
	}
	return s.n, nil
}

// shardReader reads the record batches of one shard. Of the file, Arrow is shown a record batch after its checksum was
// compared, and nothing else: the schema is our own, and the footer is for other programs.
type shardReader struct {
	path  string
	info  *Shard
	vocab int32
	head  []byte
	f     *os.File
}

// openShard opens a shard of dir. An error says if the file is not the one that dataset.json describes.
func openShard(dir string, m *Meta, info *Shard) (_ *shardReader, err error) {
	s := &shardReader{path: filepath.Join(dir, info.Name), info: info, vocab: int32(m.VocabSize)}
	if s.head, err = shardHead(m); err != nil {
		return nil, err
	}
	if s.f, err = os.Open(s.path); err != nil {
		return nil, fmt.Errorf("open shard: %w (restore it or build the data set again)", err)
	}
	if err := s.check(); err != nil {
		s.f.Close()
		return nil, err
	}
	return s, nil
}

// check compares the size, the head and the footer of the file with dataset.json.
func (s *shardReader) check() error {
	if err := checkSize(s.f.Stat, s.path, s.info); err != nil {
		return err
	}
	foot := int64(len(s.head))
	if n := len(s.info.Batches); n > 0 {
		if at := s.info.Batches[0].Offset; at != foot {
			return fmt.Errorf("%s: first record batch at %d, want %d", s.path, at, foot)
		}
		foot = s.info.Batches[n-1].Offset + s.info.Batches[n-1].Size
	}
	head := make([]byte, len(s.head))
	if _, err := s.f.ReadAt(head, 0); err != nil {
		return fmt.Errorf("read %s: %w", s.path, err)
	}
	if !bytes.Equal(head, s.head) {
		return fmt.Errorf("%s: columns or fingerprints at 0 are not those of %s (the file changed or belongs to another data set)", s.path, metaName)
	}
	_, err := s.region(foot, s.info.Size-foot, s.info.FooterCRC)
	return err
}

func checkSize(stat func() (os.FileInfo, error), path string, info *Shard) error {
	fi, err := stat()
	if err != nil {
		return fmt.Errorf("open shard: %w (restore it or build the data set again)", err)
	}
	if fi.Size() != info.Size || !fi.Mode().IsRegular() {
		return fmt.Errorf("%s: %d bytes, %s says %d (restore it or build the data set again)", path, fi.Size(), metaName, info.Size)
	}
	return nil
}

func (s *shardReader) close() { s.f.Close() }

// region reads size bytes at offset and compares their checksum.
func (s *shardReader) region(offset, size int64, crc uint32) ([]byte, error) {
	if size < 0 || size > maxBatchBytes {
		return nil, fmt.Errorf("%s: record batch or footer of %d bytes at %d, the limit is %d", s.path, size, offset, maxBatchBytes)
	}
	buf := make([]byte, size)
	if _, err := s.f.ReadAt(buf, offset); err != nil {
		return nil, fmt.Errorf("read %s at %d: %w", s.path, offset, err)
	}
	if crc32.Checksum(buf, crcTable) != crc {
		return nil, fmt.Errorf("%s: checksum of %d bytes at %d is wrong, the file changed (restore it or build the data set again)", s.path, size, offset)
	}
	return buf, nil
}

// documents reads record batch i.
func (s *shardReader) documents(i int) ([]Document, error) {
	if i < 0 || i >= len(s.info.Batches) {
		return nil, fmt.Errorf("%s: no record batch %d of %d", s.path, i, len(s.info.Batches))
	}
	b := s.info.Batches[i]
	buf, err := s.region(b.Offset, b.Size, b.CRC)
	if err != nil {
		return nil, err
	}
	var docs []Document
	err = guard(func() (err error) {
		docs, err = s.decode(buf, b)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("%s: record batch at %d: %w", s.path, b.Offset, err)
	}
	return docs, nil
}

// record reads the one record batch in buf.
func (s *shardReader) record(buf []byte) (arrow.Record, error) {
	// Arrow believes the message's length, so look at it first: 0xffffffff, length, message, body.
	if len(buf) < 8 || binary.LittleEndian.Uint32(buf) != 0xffffffff || int64(binary.LittleEndian.Uint32(buf[4:])) > int64(len(buf)-8) {
		return nil, errors.New("not an arrow message")
	}
	in := io.MultiReader(bytes.NewReader(s.head[8:]), bytes.NewReader(buf))
	// No part of a plain record batch is larger than the whole; Arrow rounds its buffers up to 64 bytes.
	mem := boundedAllocator{int64(len(buf) + 64)}
	r, err := ipc.NewReader(in, ipc.WithAllocator(mem))
	if err != nil {
		return nil, err
	}
	return r.Read() // r is not released: the record is in Go's memory and stays
}

// decode takes the record batch in buf apart. The documents keep its memory.
func (s *shardReader) decode(buf []byte, b RecordBatch) ([]Document, error) {
	rec, err := s.record(buf)
	if err != nil {
		return nil, err
	}
	if rec.NumRows() != b.Documents {
		return nil, fmt.Errorf("%d rows, not %d", rec.NumRows(), b.Documents)
	}
	id := rec.Column(0).(*array.String)
	var lists [3]*array.List
	var values [3][]int32
	for c := range lists {
		lists[c] = rec.Column(c + 1).(*array.List)
		values[c] = lists[c].ListValues().(*array.Int32).Int32Values()
	}
	docs := make([]Document, b.Documents)
	var tokens int64
	for i := range docs {
		d := &docs[i]
		d.ID = strings.Clone(id.Value(i))
		for c, p := range []*[]int32{&d.IDs, &d.SentenceTokens, &d.SentenceBytes} {
			from, to := lists[c].ValueOffsets(i)
			if from < 0 || to < from || to > int64(len(values[c])) {
				return nil, fmt.Errorf("row %d: list from %d to %d of %d values", i, from, to, len(values[c]))
			}
			*p = values[c][from:to:to]
		}
		if err := d.check(s.vocab); err != nil {
			return nil, fmt.Errorf("row %d: %w", i, err)
		}
		tokens += int64(len(d.IDs))
	}
	if tokens != b.Tokens {
		return nil, fmt.Errorf("%d tokens, not %d", tokens, b.Tokens)
	}
	return docs, nil
}

// check says what is wrong with d.
func (d *Document) check(vocab int32) error {
	if len(d.SentenceTokens) != len(d.SentenceBytes) {
		return fmt.Errorf("%d sentences, but bytes of %d", len(d.SentenceTokens), len(d.SentenceBytes))
	}
	var n int64
	for i, t := range d.SentenceTokens {
		if t < 1 || d.SentenceBytes[i] < 0 {
			return fmt.Errorf("sentence %d of %d tokens and %d bytes", i, t, d.SentenceBytes[i])
		}
		n += int64(t)
	}
	if n != int64(len(d.IDs)) {
		return fmt.Errorf("sentences of %d tokens, but %d ids", n, len(d.IDs))
	}
	if i := slices.IndexFunc(d.IDs, func(id int32) bool { return id < 0 || id >= vocab }); i >= 0 {
		return fmt.Errorf("token %d has id %d, the vocabulary %d", i, d.IDs[i], vocab)
	}
	return nil
}

// guard turns a panic of f into an error: the Arrow reader panics on some malformed input.
func guard(f func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("malformed arrow data: %v", p)
		}
	}()
	return f()
}

// boundedAllocator is Go's allocator with a limit on one allocation; over it, it panics, which guard turns into an error.
type boundedAllocator struct{ limit int64 }

func (a boundedAllocator) check(size int) {
	if size < 0 || int64(size) > a.limit {
		panic(fmt.Sprintf("buffer of %d bytes", size))
	}
}

func (a boundedAllocator) Allocate(size int) []byte {
	a.check(size)
	return memory.DefaultAllocator.Allocate(size)
}

func (a boundedAllocator) Reallocate(size int, b []byte) []byte {
	a.check(size)
	return memory.DefaultAllocator.Reallocate(size, b)
}

func (a boundedAllocator) Free(b []byte) { memory.DefaultAllocator.Free(b) }
