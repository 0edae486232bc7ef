package data

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"svae/data/segment"
)

func TestBuildEdgeLines(t *testing.T) {
	path := testdata(t, "wanjuan-edge.jsonl")

	t.Run("fail", func(t *testing.T) {
		out := filepath.Join(t.TempDir(), "out")
		_, err := build(t, BuildConfig{Out: out}, path)
		if err == nil || !strings.HasPrefix(err.Error(), path+":4: no content") || !strings.Contains(err.Error(), "--bad-lines") {
			t.Errorf("error %v, want %s:4: no content ... and the way out", err, path)
		}
		if _, err := os.Stat(out); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("the output folder is there (%v)", err)
		}
	})

	want := Report{Files: 1, Lines: 22, BlankLines: 1, BadLines: 5, Empty: 2, Duplicates: 1, Replaced: 1, Shards: 1}
	reasons := []string{"4: no content", "5: content is null", "8: broken json at byte 56: line ends", "9: broken json at byte 0: want an object", "10: broken json at byte 0: want an object"}
	check := func(t *testing.T, out string, r *Report) {
		for i, sample := range r.BadSamples {
			if !strings.HasPrefix(sample, path+":"+reasons[i]) {
				t.Errorf("bad line %q, want %q", sample, reasons[i])
			}
		}
		d, err := Open(out)
		if err != nil {
			t.Fatal(err)
		}
		want := want
		want.BadSamples, want.Train = r.BadSamples, d.Meta().Counts
		if len(r.BadSamples) != 5 || !reflect.DeepEqual(*r, want) {
			t.Errorf("report %+v, want %+v", *r, want)
		}
		docs := texts(t, d)
		if m := d.Meta(); m.Documents != 14 || m.BadLines != 5 || m.Empty != 2 || m.Duplicates != 1 || len(docs) != 14 {
			t.Errorf("dataset.json says %+v, %d documents are there", m, len(docs))
		}
		for i, want := range map[int][2]string{
			0:  {"edge01", "A plain document. It has two sentences."},
			1:  {"606", "The id of this line is a number, not a string."},
			4:  {"edge13", "Escaped emoji \U0001f600 and a lone surrogate \ufffd here. Next sentence."},
			10: {"edge19", "This line starts with a byte order mark. It should still parse."},
			11: {"edge20", "Windows\r\nline ends.\r\nThree of them.\r\n"},
			12: {"edge01", "A second line with the same id. Duplicates happen."},
			13: {"edge22", "The last line has no newline at its end."},
		} {
			if docs[i] != want {
				t.Errorf("document %d is %q, want %q", i, docs[i], want)
			}
		}
	}

	t.Run("skip", func(t *testing.T) {
		out := filepath.Join(t.TempDir(), "out")
		r, err := build(t, BuildConfig{Out: out, BadLines: BadSkip}, path)
		if err != nil {
			t.Fatal(err)
		}
		check(t, out, r)
		if _, err := os.Stat(filepath.Join(out, quarantineName)); err == nil {
			t.Error("skip wrote a quarantine")
		}
	})
	t.Run("quarantine", func(t *testing.T) {
		out := filepath.Join(t.TempDir(), "out")
		r, err := build(t, BuildConfig{Out: out, BadLines: BadQuarantine}, path)
		if err != nil {
			t.Fatal(err)
		}
		check(t, out, r)
		got, err := os.ReadFile(filepath.Join(out, quarantineName))
		if want := "{\"id\": \"edge04\"}\n{\"id\": \"edge05\", \"content\": null}\n{\"id\": \"edge08\", \"content\": \"This line is cut in the mid\n[1, 2, 3]\nnot json at all\n"; err != nil || string(got) != want {
			t.Errorf("quarantine holds %q (%v), want %q", got, err, want)
		}
	})
}

func gz(t testing.TB, parts ...[]byte) []byte {
	t.Helper()
	var b bytes.Buffer
	for _, p := range parts {
		w := gzip.NewWriter(&b)
		if _, err := w.Write(p); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
	}
	return b.Bytes()
}

func tarball(t testing.TB, files ...string) []byte { // name, text, name, text ...
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for i := 0; i < len(files); i += 2 {
		if err := w.WriteHeader(&tar.Header{Name: files[i], Size: int64(len(files[i+1])), Mode: 0o644, Typeflag: tar.TypeReg}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(files[i+1])); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// TestBuildPacked: however the same lines are packed, and whatever the file is called, the documents are the same.
func TestBuildPacked(t *testing.T) {
	lines := corpus(40, 6, 1)
	half := bytes.Index(lines, []byte(`{"id": "doc20"`))
	a, b := lines[:half], lines[half:]
	plain, _ := mustBuild(t, BuildConfig{}, write(t, "a.jsonl", lines))
	want := texts(t, plain)
	for _, c := range []struct {
		name, file string
		text       []byte
	}{
		{"gzip", "a.jsonl.gz", gz(t, lines)},
		{"gzip members", "a.jsonl.gz", gz(t, a, b, nil)},
		{"gzip without the name", "a.jsonl", gz(t, lines)},
		{"the name without gzip", "a.jsonl.gz", lines},
		{"any name", "part-004964", lines},
		{"tar.gz", "a.tar.gz", gz(t, tarball(t, "EN/x.jsonl", string(lines)))},
		{"jsonl.tar.gz", "a.jsonl.tar.gz", gz(t, tarball(t, "EN/x.jsonl", string(a), "EN/y.jsonl", string(b)))},
		{"tar", "a.tar", tarball(t, "x.jsonl", string(lines))},
		{"tgz", "a.tgz", gz(t, tarball(t, "x.jsonl", string(lines)))},
		{"gzip in tar.gz", "a.tar.gz", gz(t, tarball(t, "x.jsonl.gz", string(gz(t, lines))))},
		{"beside a picture", "a.tar", tarball(t, "x.png", "\x89PNG\x00", "x.jsonl", string(lines))},
		{"crlf", "a.jsonl", bytes.ReplaceAll(lines, []byte("\n"), []byte("\r\n"))},
		{"bom", "a.jsonl", append([]byte("\xef\xbb\xbf"), lines...)},
		{"no last line end", "a.jsonl", bytes.TrimSuffix(lines, []byte("\n"))},
	} {
		t.Run(c.name, func(t *testing.T) {
			d, r := mustBuild(t, BuildConfig{}, write(t, c.file, c.text))
			if got := texts(t, d); !reflect.DeepEqual(got, want) {
				t.Errorf("documents differ: %d, want %d", len(got), len(want))
			}
			if skipped := strings.Contains(c.name, "picture"); r.Skipped == 1 != skipped {
				t.Errorf("%d files skipped", r.Skipped)
			}
		})
	}
}

func TestBuildBrokenPacks(t *testing.T) {
	lines := corpus(300, 6, 2)
	whole := gz(t, lines)
	crc := bytes.Clone(whole)
	crc[len(crc)-6] ^= 1
	tgz := gz(t, tarball(t, "x.jsonl", string(lines)))
	badTgz := bytes.Clone(tgz)
	badTgz[len(badTgz)-6] ^= 1
	for _, c := range []struct {
		name string
		text []byte
		want string // besides the file's name
	}{
		{"a.jsonl.gz", whole[:len(whole)/2], "gzip, at byte"},
		{"a.jsonl.gz", whole[:len(whole)-3], fmt.Sprintf("gzip, at byte %d of the unpacked data: the file is cut short", len(lines))},
		{"a.jsonl.gz", crc, fmt.Sprintf("gzip, at byte %d of the unpacked data: gzip: invalid checksum", len(lines))},
		{"a.jsonl.gz", whole[:5], "cut short"},
		{"a.jsonl.gz", append(bytes.Clone(whole), "garbage"...), "gzip"},
		{"a.tar.gz", tgz[:len(tgz)*3/4], "gzip, at byte"},
		{"a.tar.gz", badTgz, "invalid checksum"},
		{"a.tar", tarball(t, "x.jsonl", string(lines))[:5000], "unexpected EOF"},
		{"a.gz", gz(t, gz(t, gz(t, gz(t, lines)))), "packed more than 3 times"},
		{"a.jsonl.gz", gz(t, bytes.Repeat([]byte(" "), 40<<20)), "more than 200 times its size"},
		{"a.bin", []byte("\x7fELF\x00\x01"), "neither text"},
	} {
		path := write(t, c.name, c.text)
		out := filepath.Join(t.TempDir(), "out")
		_, err := build(t, BuildConfig{Out: out}, path)
		if err == nil || !strings.Contains(err.Error(), c.want) || strings.Count(err.Error(), path) != 1 || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: error %q, want one line with the path once and %q", c.name, err, c.want)
		}
		if _, err := os.Stat(out); err == nil {
			t.Errorf("%s: the output folder was left", c.name)
		}
	}
}

func TestBuildText(t *testing.T) {
	text := "\xef\xbb\xbfTitle\r\n\r\nCHAPTER 1\r\nIt was  \r\n  a line.\r\n\r\n\r\nThe end.\r\nCHAPTER 2\r\nmore"
	for _, c := range []struct {
		name string
		c    BuildConfig
		want [][2]string
	}{
		{"whole", BuildConfig{}, [][2]string{{"b.txt", "Title\n\nCHAPTER 1\nIt was  \n  a line.\n\n\nThe end.\nCHAPTER 2\nmore"}}},
		{"split", BuildConfig{Split: "(?m)^CHAPTER "}, [][2]string{{"b.txt#1", "Title\n\n"}, {"b.txt#2", "CHAPTER 1\nIt was  \n  a line.\n\n\nThe end.\n"}, {"b.txt#3", "CHAPTER 2\nmore"}}},
		{"unwrap", BuildConfig{Unwrap: true}, [][2]string{{"b.txt", "Title\nCHAPTER 1 It was a line.\nThe end. CHAPTER 2 more"}}},
		{"both", BuildConfig{Unwrap: true, Split: "CHAPTER "}, [][2]string{{"b.txt#1", "Title"}, {"b.txt#2", "CHAPTER 1 It was a line.\nThe end."}, {"b.txt#3", "CHAPTER 2 more"}}},
		{"no match", BuildConfig{Split: "PART"}, [][2]string{{"b.txt#1", "Title\n\nCHAPTER 1\nIt was  \n  a line.\n\n\nThe end.\nCHAPTER 2\nmore"}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			d, _ := mustBuild(t, c.c, write(t, "b.txt", []byte(text)))
			if got := texts(t, d); !reflect.DeepEqual(got, c.want) {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
	// Bytes that are no UTF-8 come through plain text unchanged, and a text may begin with a brace.
	d, _ := mustBuild(t, BuildConfig{}, write(t, "b.txt", []byte("{ \xff\xfe }")))
	if got := texts(t, d); !reflect.DeepEqual(got, [][2]string{{"b.txt", "{ \xff\xfe }"}}) {
		t.Errorf("got %q", got)
	}
}

func TestBuildFolder(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"b.jsonl":              `{"id":"b","content":"b."}`,
		"a/z.jsonl":            `{"content":"no id."}`,
		"a/z.txt":              "text.",
		"c.jsonl.gz":           string(gz(t, []byte(`{"id":"c","content":"c."}`))),
		"d.tar.gz":             string(gz(t, tarball(t, "d.jsonl", `{"content":"d."}`))),
		"ignored.html":         "x",
		"out/quarantine.jsonl": "{}",
	} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	out := filepath.Join(dir, "out")
	if _, err := build(t, BuildConfig{Out: out}, dir); err == nil || !strings.Contains(err.Error(), "not empty") {
		t.Errorf("error %v, want that the folder is not empty", err)
	}
	d, r := mustBuild(t, BuildConfig{Out: out, Force: true}, dir)
	want := [][2]string{{"a/z.jsonl:1", "no id."}, {"a/z.txt", "text."}, {"b", "b."}, {"c", "c."}, {"d.tar/d.jsonl:1", "d."}}
	if got := texts(t, d); !reflect.DeepEqual(got, want) || r.Files != 5 {
		t.Errorf("got %q of %d files, want %q", got, r.Files, want)
	}
	if _, err := build(t, BuildConfig{}, t.TempDir()); err == nil || !strings.Contains(err.Error(), "no file in") {
		t.Errorf("error %v for an empty folder", err)
	}
}

func TestBuildLongLine(t *testing.T) {
	long := `{"id":"long","content":"` + strings.Repeat("x", 1000) + `"}`
	text := `{"id":"a","content":"one."}` + "\n" + long + "\n" + `{"id":"b","content":"two."}` + "\n" + long
	d, r := mustBuild(t, BuildConfig{MaxLineBytes: 500, BadLines: BadQuarantine}, write(t, "a.jsonl", []byte(text)))
	if got := texts(t, d); r.BadLines != 2 || len(got) != 2 || !strings.Contains(r.BadSamples[0], fmt.Sprintf(":2: %d bytes, the limit for a document is 500", len(long))) {
		t.Errorf("report %+v, documents %q", r, got)
	}
	if _, r := mustBuild(t, BuildConfig{MaxLineBytes: len(long)}, write(t, "a.jsonl", []byte(text))); r.Train.Documents != 4 {
		t.Errorf("report %+v: a line just within the limit is bad", r)
	}
	_, err := build(t, BuildConfig{MaxLineBytes: 500}, write(t, "a.txt", []byte(long)))
	if err == nil || !strings.Contains(err.Error(), "the limit for a document is 500") {
		t.Errorf("error %v for a long text", err)
	}
}

func TestBuildDeterministic(t *testing.T) {
	path := write(t, "a.jsonl", corpus(3000, 12, 3))
	var want map[string]string
	for _, workers := range []int{1, 2, 7} {
		out := filepath.Join(t.TempDir(), "out")
		d, r := mustBuild(t, BuildConfig{Out: out, Workers: workers, ShardBytes: 200 << 10, Holdout: 0.2}, path)
		if r.Shards < 4 || len(d.Meta().Shards[0].Batches) != 1 {
			t.Fatalf("%d shards, the first of %d record batches", r.Shards, len(d.Meta().Shards[0].Batches))
		}
		got := tree(t, out)
		if want == nil {
			want = got
			if _, ok := want["train/part-00001.arrow"]; !ok || len(want) != r.Shards+2 {
				t.Fatalf("%d files, %d shards", len(want), r.Shards)
			}
		}
		sameTree(t, got, want)
	}
}

func TestBuildHoldout(t *testing.T) {
	lines := bytes.SplitAfter(bytes.TrimSpace(corpus(2000, 2, 4)), []byte("\n"))
	side := func(text []byte) map[string]bool { // id -> held out
		out := filepath.Join(t.TempDir(), "out")
		_, r := mustBuild(t, BuildConfig{Out: out, Holdout: 0.1}, write(t, "a.jsonl", text))
		held := make(map[string]bool)
		for name, want := range map[string]Counts{"train": r.Train, "heldout": r.Heldout} {
			d, err := Open(filepath.Join(out, name))
			if err != nil {
				t.Fatal(err)
			}
			if d.Meta().Split != name || d.Meta().Counts != want {
				t.Errorf("%s: meta %+v, want %+v", name, d.Meta().Counts, want)
			}
			for _, doc := range documents(t, d) {
				if _, twice := held[doc.ID]; twice {
					t.Errorf("%s is in both", doc.ID)
				}
				held[doc.ID] = name == "heldout"
			}
		}
		if _, err := Open(out); err == nil || !strings.Contains(err.Error(), "train and heldout") {
			t.Errorf("error %v for the folder above", err)
		}
		return held
	}
	all := side(bytes.Join(lines, nil))
	n := 0
	for _, held := range all {
		if held {
			n++
		}
	}
	if len(all) != 2000 || n < 150 || n > 250 {
		t.Errorf("%d of %d documents are held out, want about 200", n, len(all))
	}
	for id, held := range side(bytes.Join(lines[500:], nil)) {
		if all[id] != held {
			t.Errorf("%s changed sides when other documents were left out", id)
		}
	}
}

// cancelTokenizer cancels the build when it has seen some documents and a first shard is there.
type cancelTokenizer struct {
	*wordTokenizer
	left   *atomic.Int64
	wait   string // pattern of the shard's path; "" to wait for none
	cancel func()
}

func (t cancelTokenizer) EncodeLens(text []byte) (ids, lens []int32) {
	if t.left.Add(-1) == 0 {
		for range 1000 {
			if found, _ := filepath.Glob(t.wait); t.wait == "" || len(found) > 0 {
				break
			}
			time.Sleep(10 * time.Millisecond)
		}
		t.cancel()
	}
	return t.wordTokenizer.EncodeLens(text)
}

// TestBuildResume: a build that was interrupted and run again gives the bytes of an unbroken one.
func TestBuildResume(t *testing.T) {
	text := append(corpus(2500, 12, 5), "not json\n{\"id\":\"e\",\"content\":\" \"}\n"...)
	path := write(t, "a.jsonl", text)
	for _, holdout := range []float64{0, 0.3} {
		c := BuildConfig{Workers: 2, ShardBytes: 200 << 10, Holdout: holdout, BadLines: BadQuarantine}
		c.Out = filepath.Join(t.TempDir(), "whole")
		_, unbroken := mustBuild(t, c, path)
		want := tree(t, c.Out)

		for _, after := range []int64{1, 1100, 2400} { // chunks are of 512 documents: the ones before are written
			c := c
			c.Out = filepath.Join(t.TempDir(), "out")
			interrupt(t, c, path, after)
			names := names(c.Out)
			for _, name := range names {
				if strings.HasSuffix(name, ".tmp") || strings.HasSuffix(name, metaName) {
					t.Errorf("%s was left", name)
				}
			}
			if len(names) > 0 {
				other := c
				other.Unwrap = true
				if _, err := build(t, other, path); err == nil || !strings.Contains(err.Error(), "unfinished build") {
					t.Errorf("error %v for other settings", err)
				}
			}
			r, err := build(t, c, path)
			if err != nil {
				t.Fatal(err)
			}
			if r.Resumed == 0 && after > 1 {
				t.Error("no shard was taken over")
			}
			again := *r
			again.Resumed = 0
			if !reflect.DeepEqual(again, *unbroken) {
				t.Errorf("report %+v, want %+v", again, *unbroken)
			}
			sameTree(t, tree(t, c.Out), want)
		}
	}
}

// interrupt starts a build and cancels it when some documents are tokenised.
func interrupt(t *testing.T, c BuildConfig, path string, after int64) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	tok := cancelTokenizer{wordTokenizer: newWordTokenizer(), left: new(atomic.Int64), cancel: cancel}
	tok.left.Store(after)
	if after > 1 {
		tok.wait = filepath.Join(c.Out, "part-*.arrow")
		if c.Holdout > 0 {
			tok.wait = filepath.Join(c.Out, "train", "part-*.arrow")
		}
	}
	c.Inputs, c.Tokenizer, c.Workers = []string{path}, tok, 1 // one worker takes the chunks in order
	if _, err := Build(ctx, c); !errors.Is(err, context.Canceled) {
		t.Fatalf("error %v, want %v", err, context.Canceled)
	}
}

// names returns the files under dir, if it is there.
func names(dir string) (out []string) {
	filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			out = append(out, path)
		}
		return nil
	})
	return out
}

// TestBuildResumeDamaged: a shard that changed after the interruption is made again.
func TestBuildResumeDamaged(t *testing.T) {
	path := write(t, "a.jsonl", append(corpus(1500, 12, 6), "not json\n"...))
	c := BuildConfig{ShardBytes: 60 << 10, Out: filepath.Join(t.TempDir(), "whole"), BadLines: BadSkip}
	mustBuild(t, c, path)
	want := tree(t, c.Out)

	c.Out, c.BadLines = filepath.Join(t.TempDir(), "out"), BadFail
	if _, err := build(t, c, path); err == nil {
		t.Fatal("no error for a bad line")
	}
	shard := filepath.Join(c.Out, "part-00001.arrow")
	text, err := os.ReadFile(shard)
	if err != nil {
		t.Fatal(err)
	}
	text[len(text)/2] ^= 1
	if err := os.WriteFile(shard, text, 0o644); err != nil {
		t.Fatal(err)
	}
	log := filepath.Join(c.Out, logName)
	if text, err = os.ReadFile(log); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(log, text[:len(text)-5], 0o644); err != nil { // a line that was not written out
		t.Fatal(err)
	}
	c.BadLines = BadSkip // the policy does not change the shards
	r, err := build(t, c, path)
	if err != nil || r.Resumed != 1 {
		t.Fatalf("report %+v, error %v, want 1 shard taken over", r, err)
	}
	sameTree(t, tree(t, c.Out), want)
}

func TestBuildForce(t *testing.T) {
	out := filepath.Join(t.TempDir(), "out")
	mustBuild(t, BuildConfig{Out: out, Holdout: 0.5}, write(t, "a.jsonl", corpus(50, 3, 7)))
	if err := os.WriteFile(filepath.Join(out, "notes"), []byte("mine"), 0o644); err != nil {
		t.Fatal(err)
	}
	path := write(t, "b.jsonl", corpus(10, 3, 8))
	if _, err := build(t, BuildConfig{Out: out}, path); err == nil || !strings.Contains(err.Error(), "--force") {
		t.Errorf("error %v, want the way out", err)
	}
	if _, err := build(t, BuildConfig{Out: out, Force: true}, filepath.Join(out, "notes")); err == nil || !strings.Contains(err.Error(), "lies in the output folder") {
		t.Errorf("error %v for an input in the output folder", err)
	}
	mustBuild(t, BuildConfig{Out: out, Force: true}, path)
	got := tree(t, out)
	if len(got) != 3 || got["notes"] != "mine" || got[metaName] == "" || got["part-00000.arrow"] == "" {
		t.Errorf("%d files", len(got))
	}
}

func TestBuildReference(t *testing.T) {
	path := write(t, "a.jsonl", []byte(`{"id":"a","content":"one, two. tail"}`+"\n"+`{"id":"b","content":"no mark"}`+"\n"+`{"id":"c","content":"a, b, c, d."}`))
	d, r := mustBuild(t, BuildConfig{Segment: segment.Config{Name: "reference", MaxSentences: 3}}, path)
	want := [][2]string{{"a", "one, two. "}, {"c", "a, b, c, "}}
	if got := texts(t, d); !reflect.DeepEqual(got, want) || r.Empty != 1 || r.Dropped != int64(len("tail")+len("no mark")+len("d.")) {
		t.Errorf("documents %q, report %+v", got, r)
	}
}

func TestBuildRefuses(t *testing.T) {
	path := write(t, "a.jsonl", corpus(3, 2, 9))
	for _, c := range []struct {
		c    BuildConfig
		in   string
		want string
	}{
		{BuildConfig{Holdout: 1}, path, "holdout"},
		{BuildConfig{Holdout: -0.1}, path, "holdout"},
		{BuildConfig{BadLines: "x"}, path, "bad lines"},
		{BuildConfig{Split: "("}, path, "split"},
		{BuildConfig{MaxLineBytes: 1 << 30}, path, "line limit"},
		{BuildConfig{Segment: segment.Config{Name: "x"}}, path, "segmenter"},
		{BuildConfig{}, path + ".absent", "no such file"},
		{BuildConfig{}, write(t, "e.jsonl", nil), "no document in 1 files"},
		{BuildConfig{}, write(t, "e.jsonl", []byte("\n\n")), "no document in 1 files"},
	} {
		if _, err := build(t, c.c, c.in); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("error %v, want %q", err, c.want)
		}
	}
	if _, err := Build(context.Background(), BuildConfig{Inputs: []string{path}, Out: t.TempDir()}); err == nil {
		t.Error("no error without a tokenizer")
	}
}

func TestBuildProgress(t *testing.T) {
	path := write(t, "a.jsonl", corpus(100, 3, 10))
	var done, total int64
	mustBuild(t, BuildConfig{Progress: func(d, n int64) {
		if d < done {
			t.Errorf("progress goes from %d to %d", done, d)
		}
		done, total = d, n
	}}, path)
	if done == 0 || done != total {
		t.Errorf("progress ends at %d of %d", done, total)
	}
}

func TestIDSet(t *testing.T) {
	var s idSet
	for i := range uint64(5000) {
		if s.add(i*2 + 1) {
			t.Fatalf("%d was there", i)
		}
	}
	for i := range uint64(5000) {
		if !s.add(i*2 + 1) {
			t.Fatalf("%d was not there", i)
		}
	}
}
