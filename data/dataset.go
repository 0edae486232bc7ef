package data

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"iter"
	"os"
	"path/filepath"
)

// Dataset is a folder of shards. It is safe for concurrent use: readers open their own files.
type Dataset struct {
	dir  string
	meta *Meta
}

// Open opens the data set in dir. It checks dataset.json, the presence and size of every shard, and the columns and
// fingerprints of the first one; those of the others are checked when they are read, as is every checksum.
func Open(dir string) (*Dataset, error) {
	m, err := readMeta(dir)
	if err != nil {
		return nil, err
	}
	d := &Dataset{dir: dir, meta: m}
	for i := range m.Shards {
		path := filepath.Join(dir, m.Shards[i].Name)
		if err := checkSize(func() (os.FileInfo, error) { return os.Stat(path) }, path, &m.Shards[i]); err != nil {
			return nil, err
		}
	}
	if len(m.Shards) > 0 {
		s, err := openShard(dir, m, &m.Shards[0])
		if err != nil {
			return nil, err
		}
		s.close()
	}
	return d, nil
}

// Meta returns what dataset.json says. It is shared: do not change it.
func (d *Dataset) Meta() *Meta { return d.meta }

// Dir returns the folder.
func (d *Dataset) Dir() string { return d.dir }

// Verify reads every shard and compares its sha256 with dataset.json.
func (d *Dataset) Verify() error {
	for i := range d.meta.Shards {
		if err := verifyShard(d.dir, &d.meta.Shards[i]); err != nil {
			return err
		}
	}
	return nil
}

func verifyShard(dir string, info *Shard) error {
	path := filepath.Join(dir, info.Name)
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("open shard: %w (restore it or build the data set again)", err)
	}
	defer f.Close()
	if err := checkSize(f.Stat, path, info); err != nil {
		return err
	}
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return fmt.Errorf("read %s: %w", path, err)
	}
	if got := hex.EncodeToString(h.Sum(nil)); got != info.SHA256 {
		return fmt.Errorf("%s: sha256 %s, %s says %s (restore it or build the data set again)", path, got, metaName, info.SHA256)
	}
	return nil
}

// Documents yields all documents in order, holding one record batch in memory at a time. After an error it yields no
// more.
func (d *Dataset) Documents() iter.Seq2[Document, error] {
	return func(yield func(Document, error) bool) {
		for i := range d.meta.Shards {
			if !d.shardDocuments(i, yield) {
				return
			}
		}
	}
}

func (d *Dataset) shardDocuments(i int, yield func(Document, error) bool) bool {
	s, err := openShard(d.dir, d.meta, &d.meta.Shards[i])
	if err != nil {
		yield(Document{}, err)
		return false
	}
	defer s.close()
	for b := range s.info.Batches {
		docs, err := s.documents(b)
		if err != nil {
			yield(Document{}, err)
			return false
		}
		for _, doc := range docs {
			if !yield(doc, nil) {
				return false
			}
		}
	}
	return true
}
