package data

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/apache/arrow/go/v15/arrow/array"
	"github.com/apache/arrow/go/v15/arrow/ipc"
)

// writeDataset writes documents as a data set without Build.
func writeDataset(t testing.TB, shards ...[]Document) *Dataset {
	t.Helper()
	dir := t.TempDir()
	tok := newWordTokenizer()
	codec, err := NewCodec(tok, (&BuildConfig{}).Segment)
	if err != nil {
		t.Fatal(err)
	}
	m := &Meta{Format: Format, TokenizerFingerprint: tok.Fingerprint(), Segmenter: codec.Segmenter(), SegmenterFingerprint: codec.Segmenter().Fingerprint(),
		VocabSize: tok.VocabSize(), BOS: tok.BOS(), EOS: tok.EOS(), PAD: tok.PAD()}
	for i, docs := range shards {
		w, err := newShardWriter(dir, fmt.Sprintf("part-%05d.arrow", i), m)
		if err != nil {
			t.Fatal(err)
		}
		for k := range docs {
			if err := w.add(&docs[k]); err != nil {
				t.Fatal(err)
			}
		}
		s, err := w.finish()
		if err != nil {
			t.Fatal(err)
		}
		m.Shards = append(m.Shards, s)
		m.Counts.add(s.Counts)
	}
	text, err := encodeMeta(m)
	if err != nil {
		t.Fatal(err)
	}
	if err := writeFile(filepath.Join(dir, metaName), text); err != nil {
		t.Fatal(err)
	}
	d, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// doc makes a document of sentences with the given numbers of tokens.
func doc(id string, sentences ...int32) Document {
	d := Document{ID: id}
	for s, n := range sentences {
		for k := range n {
			d.IDs = append(d.IDs, (int32(s)*10+k)%200)
		}
		d.SentenceTokens = append(d.SentenceTokens, n)
		d.SentenceBytes = append(d.SentenceBytes, 2*n)
	}
	return d
}

func sameDocuments(a, b []Document) bool {
	return slices.EqualFunc(a, b, func(a, b Document) bool {
		return a.ID == b.ID && slices.Equal(a.IDs, b.IDs) && slices.Equal(a.SentenceTokens, b.SentenceTokens) && slices.Equal(a.SentenceBytes, b.SentenceBytes)
	})
}

func TestShardRoundTrip(t *testing.T) {
	a := []Document{doc("a", 3, 4), doc("", 1), doc("no sentences"), doc("a", 70000, 1), doc("é", 2)}
	b := []Document{doc("last", 5)}
	d := writeDataset(t, a, nil, b)
	if got, want := documents(t, d), slices.Concat(a, b); !sameDocuments(got, want) {
		t.Errorf("read %d documents, other than the %d written", len(got), len(want))
	}
	m := d.Meta()
	if want := (Counts{Documents: 6, Sentences: 7, Tokens: 70016, Bytes: 140032}); m.Counts != want {
		t.Errorf("counts %+v, want %+v", m.Counts, want)
	}
	if len(m.Shards[0].Batches) != 2 || len(m.Shards[1].Batches) != 0 || m.Shards[0].Batches[0].Documents != 4 {
		t.Errorf("record batches %+v", m.Shards)
	}
	if err := d.Verify(); err != nil {
		t.Error(err)
	}
	for range d.Documents() { // a reader may stop early
		break
	}
}

// TestShardIsArrow: a shard can be read without this package, by its columns and metadata alone.
func TestShardIsArrow(t *testing.T) {
	d := writeDataset(t, []Document{doc("a", 3, 4), doc("b", 1)})
	f, err := os.Open(filepath.Join(d.Dir(), "part-00000.arrow"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r, err := ipc.NewFileReader(f)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, c := range r.Schema().Fields() {
		names = append(names, c.Name+" "+c.Type.String())
	}
	want := []string{"id utf8", "ids list<item: int32>", "sentence_tokens list<item: int32>", "sentence_bytes list<item: int32>"}
	if !slices.Equal(names, want) || r.NumDictionaries() != 0 {
		t.Errorf("columns %q, want %q", names, want)
	}
	if v, ok := r.Schema().Metadata().GetValue("svae.tokenizer"); !ok || v != newWordTokenizer().Fingerprint() {
		t.Errorf("metadata %v", r.Schema().Metadata())
	}
	rec, err := r.Record(0)
	if err != nil || rec.NumRows() != 2 || rec.Column(0).(*array.String).Value(1) != "b" {
		t.Errorf("record %v, error %v", rec, err)
	}
}

// readAll opens dir and returns its documents.
func readAll(dir string) ([]Document, error) {
	d, err := Open(dir)
	if err != nil {
		return nil, err
	}
	var docs []Document
	for doc, err := range d.Documents() {
		if err != nil {
			return nil, err
		}
		docs = append(docs, doc)
	}
	return docs, nil
}

// TestFlippedBytes: any changed byte of a shard gives an error or the same data.
func TestFlippedBytes(t *testing.T) {
	d := writeDataset(t, []Document{doc("a", 3, 4), doc("b", 1, 2, 3)})
	want := documents(t, d)
	path := filepath.Join(d.Dir(), "part-00000.arrow")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	put := func(i int, b byte) {
		if _, err := f.WriteAt([]byte{b}, int64(i)); err != nil {
			t.Fatal(err)
		}
	}
	failed := 0
	for i := range text {
		put(i, text[i]^[]byte{0x01, 0x80, 0xff}[i%3])
		if docs, err := readShard(d, &d.Meta().Shards[0]); err != nil {
			failed++
			if !strings.Contains(err.Error(), path) {
				t.Fatalf("byte %d: error without the file: %v", i, err)
			}
		} else if !sameDocuments(docs, want) {
			t.Fatalf("byte %d: other documents and no error", i)
		}
		put(i, text[i])
	}
	if failed != len(text) {
		t.Errorf("%d changed bytes of %d were noticed, want all: the head is compared, the rest has checksums", failed, len(text))
	}
}

func readShard(d *Dataset, info *Shard) (all []Document, err error) {
	s, err := openShard(d.Dir(), d.Meta(), info)
	if err != nil {
		return nil, err
	}
	defer s.close()
	for i := range info.Batches {
		docs, err := s.documents(i)
		if err != nil {
			return nil, err
		}
		all = append(all, docs...)
	}
	return all, nil
}

// TestMalformedBatch: a record batch that is malformed though its checksum is right gives an error or documents that
// keep their promises; no panic, and no memory beyond its size.
func TestMalformedBatch(t *testing.T) {
	d := writeDataset(t, []Document{doc("a", 3, 4), doc("b", 1, 2, 3)})
	s, err := openShard(d.Dir(), d.Meta(), &d.Meta().Shards[0])
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	b := s.info.Batches[0]
	buf, err := s.region(b.Offset, b.Size, b.CRC)
	if err != nil {
		t.Fatal(err)
	}
	failed := 0
	read := func(buf []byte) {
		var docs []Document
		err := guard(func() (err error) {
			docs, err = s.decode(buf, b)
			return err
		})
		if err != nil {
			failed++
			if strings.Contains(err.Error(), "\n") {
				t.Fatalf("error of several lines: %v", err)
			}
			return
		}
		for i := range docs {
			if err := docs[i].check(s.vocab); err != nil {
				t.Fatal(err)
			}
		}
	}
	for i := range buf {
		for _, flip := range []byte{0x01, 0x02, 0x40, 0x80, 0xff} {
			buf[i] ^= flip
			read(buf)
			buf[i] ^= flip
		}
		read(buf[:i])
	}
	if failed < len(buf) {
		t.Errorf("%d errors", failed)
	}
}

// TestFlippedMeta: any changed byte of dataset.json gives an error or the same documents.
func TestFlippedMeta(t *testing.T) {
	d := writeDataset(t, []Document{doc("a", 3, 4), doc("b", 1, 2, 3)})
	want := documents(t, d)
	path := filepath.Join(d.Dir(), metaName)
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for i := range text {
		flip := []byte{0x01, 0x80, 0x04}[i%3]
		text[i] ^= flip
		if err := os.WriteFile(path, text, 0o644); err != nil {
			t.Fatal(err)
		}
		if docs, err := readAll(d.Dir()); err == nil && !sameDocuments(docs, want) {
			t.Fatalf("byte %d (%s): other documents and no error", i, text)
		}
		text[i] ^= flip
	}
}

func TestOpenRefuses(t *testing.T) {
	d := writeDataset(t, []Document{doc("a", 3, 4)}, []Document{doc("b", 5)})
	meta, err := os.ReadFile(filepath.Join(d.Dir(), metaName))
	if err != nil {
		t.Fatal(err)
	}
	shard, err := os.ReadFile(filepath.Join(d.Dir(), "part-00001.arrow"))
	if err != nil {
		t.Fatal(err)
	}
	other := writeDataset(t, []Document{doc("a", 3, 5)}, []Document{doc("b", 5)})
	otherShard, err := os.ReadFile(filepath.Join(other.Dir(), "part-00001.arrow"))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(shard, otherShard) {
		t.Error("equal documents give other bytes")
	}
	edit := func(old, new string) []byte {
		if !bytes.Contains(meta, []byte(old)) {
			t.Fatalf("dataset.json has no %q", old)
		}
		return bytes.Replace(meta, []byte(old), []byte(new), 1)
	}
	for _, c := range []struct {
		name  string
		meta  []byte
		shard []byte // nil: none
		want  string
	}{
		{"shard is gone", meta, nil, "part-00001.arrow"},
		{"shard is short", meta, shard[:len(shard)-1], "restore it or build the data set again"},
		{"shard is empty", meta, []byte{}, "0 bytes"},
		{"meta is cut", meta[:len(meta)/2], shard, "dataset.json"},
		{"other format", edit(`"format": 1`, `"format": 2`), shard, "format 2"},
		{"other tokenizer", edit(`"tokenizer_fingerprint": "`, `"tokenizer_fingerprint": "x`), shard, "another data set"},
		{"other vocabulary", edit(`"vocab_size": 3`, `"vocab_size": 4`), shard, "another data set"},
		{"other segmenter", edit(`"segmenter_fingerprint": "default-v1`, `"segmenter_fingerprint": "default-v0`), shard, "default-v0"},
		{"counts", edit(`"documents": 2`, `"documents": 3`), shard, "add up"},
		{"path", edit(`part-00001.arrow`, `../part-00001.arrow`), shard, "plain file name"},
		{"absolute path", edit(`part-00001.arrow`, `/part-00001.arrow`), shard, "plain file name"},
		{"batch", edit(`"batches":[[`, `"batches":[[1`), shard, "impossible bounds"},
		{"batch moved", edit(`"batches":[[`, `"batches":[[-`), shard, "impossible bounds"},
		{"batch of six", edit(`"batches":[[`, `"batches":[[0,`), shard, "record batch is not"},
	} {
		if err := os.WriteFile(filepath.Join(d.Dir(), metaName), c.meta, 0o644); err != nil {
			t.Fatal(err)
		}
		os.Remove(filepath.Join(d.Dir(), "part-00001.arrow"))
		if c.shard != nil {
			if err := os.WriteFile(filepath.Join(d.Dir(), "part-00001.arrow"), c.shard, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := readAll(d.Dir()); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want %q", c.name, err, c.want)
		}
	}
	if _, err := Open(t.TempDir()); err == nil || !strings.Contains(err.Error(), "svae data build") {
		t.Errorf("empty folder: error %v, want the way out", err)
	}
	for _, name := range []string{metaName, "part-00000.arrow"} {
		path := filepath.Join(writeDataset(t, []Document{doc("a", 1)}).Dir(), name)
		if _, err := Open(path); err == nil || err.Error() != "open data set: "+path+" is a file; give the folder that svae data build wrote" {
			t.Errorf("a file: error %v, want the way out", err)
		}
	}
}

func TestVerify(t *testing.T) {
	d := writeDataset(t, []Document{doc("a", 3, 4)})
	path := filepath.Join(d.Dir(), "part-00000.arrow")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	text[10] ^= 1
	if err := os.WriteFile(path, text, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := d.Verify(); err == nil || !strings.Contains(err.Error(), "sha256") {
		t.Errorf("error %v, want one about the sha256", err)
	}
	os.Remove(path)
	if err := d.Verify(); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("error %v, want one about the file", err)
	}
}

func TestMetaRoundTrip(t *testing.T) {
	d := writeDataset(t, []Document{doc("a", 3, 4), doc("b", 70000)}, []Document{doc("c", 1)})
	text, err := encodeMeta(d.Meta())
	if err != nil {
		t.Fatal(err)
	}
	var m Meta
	if err := json.Unmarshal(text, &m); err != nil || !reflect.DeepEqual(&m, d.Meta()) {
		t.Errorf("read %+v (%v), wrote %+v", m, err, d.Meta())
	}
	if n := bytes.Count(text, []byte("\n")); n > 40 {
		t.Errorf("%d lines", n)
	}
}
