package data

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"svae/data/segment"
)

// Format is the version of the shards and of dataset.json that this package writes and reads.
const Format = 1

// metaName is the file that is written last into a data set's folder: with it the data set is complete.
const metaName = "dataset.json"

// maxMetaBytes bounds dataset.json: about 40 bytes for each record batch of 64K tokens.
const maxMetaBytes = 1 << 30

// Counts says how much text a data set or a shard holds.
type Counts struct {
	Documents int64 `json:"documents"`
	Sentences int64 `json:"sentences"`
	Tokens    int64 `json:"tokens"`
	Bytes     int64 `json:"bytes"` // of source text that the sentences stand for
}

func (c *Counts) add(o Counts) {
	c.Documents += o.Documents
	c.Sentences += o.Sentences
	c.Tokens += o.Tokens
	c.Bytes += o.Bytes
}

// Meta describes a data set: what dataset.json says.
type Meta struct {
	Format               int            `json:"format"`
	Tokenizer            string         `json:"tokenizer,omitempty"` // a name for people
	TokenizerFingerprint string         `json:"tokenizer_fingerprint"`
	Segmenter            segment.Config `json:"segmenter"`
	SegmenterFingerprint string         `json:"segmenter_fingerprint"`
	VocabSize            int            `json:"vocab_size"`
	BOS                  int32          `json:"bos_token_id"` // -1: none
	EOS                  int32          `json:"eos_token_id"`
	PAD                  int32          `json:"pad_token_id"`
	SourceSHA256         string         `json:"source_sha256"` // over the inputs' names, sizes and hashes
	Split                string         `json:"split,omitempty"`
	Holdout              float64        `json:"holdout,omitempty"`
	Counts
	BadLines   int64   `json:"bad_lines"`
	Empty      int64   `json:"empty"`      // documents without text
	Duplicates int64   `json:"duplicates"` // documents whose id came before
	Shards     []Shard `json:"shards"`
}

// Shard is one part-NNNNN.arrow of a data set.
type Shard struct {
	Name   string `json:"name"`
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"`
	Counts
	FooterCRC uint32        `json:"footer_crc"` // of what follows the last record batch
	Batches   []RecordBatch `json:"batches"`
}

// RecordBatch is where one record batch of a shard lies and what it holds. The record batches lie one behind the other,
// between the file's head and its footer. In JSON it is an array of its fields in this order.
type RecordBatch struct {
	Offset, Size      int64
	Documents, Tokens int64
	CRC               uint32 // CRC-32C of the bytes
}

// MarshalJSON writes [offset, size, documents, tokens, crc].
func (b RecordBatch) MarshalJSON() ([]byte, error) {
	return fmt.Appendf(nil, "[%d,%d,%d,%d,%d]", b.Offset, b.Size, b.Documents, b.Tokens, b.CRC), nil
}

// UnmarshalJSON reads what MarshalJSON writes.
func (b *RecordBatch) UnmarshalJSON(text []byte) error {
	var v []int64
	if err := json.Unmarshal(text, &v); err != nil {
		return err
	}
	if len(v) != 5 || v[4] < 0 || v[4] > 1<<32-1 {
		return errors.New("record batch is not [offset, size, documents, tokens, crc]")
	}
	*b = RecordBatch{Offset: v[0], Size: v[1], Documents: v[2], Tokens: v[3], CRC: uint32(v[4])}
	return nil
}

// encodeMeta writes m as JSON with one line for each shard.
func encodeMeta(m *Meta) ([]byte, error) {
	head := *m
	head.Shards = []Shard{}
	text, err := json.MarshalIndent(&head, "", "  ")
	if err != nil {
		return nil, err
	}
	out := bytes.TrimSuffix(text, []byte("[]\n}"))
	if len(out) == len(text) {
		return nil, errors.New("shards are not the last field of dataset.json")
	}
	out = append(out, '[')
	for i := range m.Shards {
		line, err := json.Marshal(&m.Shards[i])
		if err != nil {
			return nil, err
		}
		if i > 0 {
			out = append(out, ',')
		}
		out = append(append(out, "\n    "...), line...)
	}
	return append(out, "\n  ]\n}\n"...), nil
}

// readMeta reads and checks dir's dataset.json.
func readMeta(dir string) (*Meta, error) {
	path := filepath.Join(dir, metaName)
	text, err := readSmall(path, maxMetaBytes)
	if info, serr := os.Stat(dir); err != nil && serr == nil && !info.IsDir() {
		return nil, fmt.Errorf("open data set: %s is a file; give the folder that svae data build wrote", dir)
	}
	if errors.Is(err, fs.ErrNotExist) {
		if _, err := os.Stat(filepath.Join(dir, "train", metaName)); err == nil {
			return nil, fmt.Errorf("open data set %s: it holds two, train and heldout (name one of them)", dir)
		}
		return nil, fmt.Errorf("open data set %s: no %s (make one with svae data build)", dir, metaName)
	}
	if err != nil {
		return nil, fmt.Errorf("open data set: %w", err)
	}
	m := new(Meta)
	if err := json.Unmarshal(text, m); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if err := m.check(); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return m, nil
}

// readSmall reads a file of at most limit bytes.
func readSmall(path string, limit int64) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s: not a regular file", path)
	}
	if info.Size() > limit {
		return nil, fmt.Errorf("%s: %d bytes, more than the limit of %d", path, info.Size(), limit)
	}
	return os.ReadFile(path)
}

// check says what is wrong with m. What passes can be read without a look beyond a shard's size.
func (m *Meta) check() error {
	if m.Format != Format {
		return fmt.Errorf("format %d, but this program reads format %d (build the data set again)", m.Format, Format)
	}
	if m.TokenizerFingerprint == "" || m.VocabSize < 1 {
		return errors.New("no tokenizer fingerprint or no vocabulary size")
	}
	if err := m.Segmenter.Validate(); err != nil {
		return err
	}
	if got := m.Segmenter.Fingerprint(); got != m.SegmenterFingerprint {
		return fmt.Errorf("sentences were cut by %q, this program cuts by %q (build the data set again)", m.SegmenterFingerprint, got)
	}
	var sum Counts
	for i := range m.Shards {
		if err := m.Shards[i].check(); err != nil {
			return fmt.Errorf("shard %d: %w", i, err)
		}
		sum.add(m.Shards[i].Counts)
	}
	if sum != m.Counts {
		return fmt.Errorf("counts of the shards add up to %+v, not %+v", sum, m.Counts)
	}
	return nil
}

func (s *Shard) check() error {
	if s.Name == "" || s.Name != filepath.Base(s.Name) || strings.ContainsAny(s.Name, `/\`) || !filepath.IsLocal(s.Name) {
		return fmt.Errorf("name %q is not a plain file name", s.Name)
	}
	var at, docs, tokens int64
	if len(s.Batches) > 0 {
		at = s.Batches[0].Offset
	}
	for i, b := range s.Batches {
		if b.Offset != at || at < 1 || b.Size < 1 || b.Size > s.Size-at || b.Documents < 1 || b.Tokens < 0 || b.Documents > b.Size || b.Tokens > b.Size {
			return fmt.Errorf("%s: record batch %d has impossible bounds", s.Name, i)
		}
		at += b.Size
		docs += b.Documents
		tokens += b.Tokens
	}
	if at >= s.Size {
		return fmt.Errorf("%s: no room for a footer", s.Name)
	}
	if docs != s.Documents || tokens != s.Tokens {
		return fmt.Errorf("%s: record batches hold %d documents and %d tokens, not %d and %d", s.Name, docs, tokens, s.Documents, s.Tokens)
	}
	return nil
}

// Identity is equal for two data sets exactly if they hold the same tokens in the same order: a hash over the tokenizer,
// the segmenter and every shard.
func (m *Meta) Identity() string {
	h := sha256.New()
	fmt.Fprintf(h, "%s\n%s\n", m.TokenizerFingerprint, m.SegmenterFingerprint)
	for _, s := range m.Shards {
		fmt.Fprintln(h, s.SHA256)
	}
	return hex.EncodeToString(h.Sum(nil))
}
