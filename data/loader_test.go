package data

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
)

// smallSet is a data set of several shards and record batches: documents of one sentence, of none, and long ones.
func smallSet(t testing.TB) *Dataset {
	var shards [][]Document
	for s := range 3 {
		var docs []Document
		for i := range 7 {
			var lens []int32
			for k := range (i * i) % 17 {
				lens = append(lens, int32(1+(k*7+i+s)%9))
			}
			docs = append(docs, doc(fmt.Sprintf("d%d.%d", s, i), lens...))
		}
		shards = append(shards, docs)
	}
	shards = append(shards, nil, []Document{doc("none")}, []Document{doc("long", 65536, 3, 2), doc("after", 2, 2)})
	return writeDataset(t, shards...)
}

var configs = map[string]LoaderConfig{
	"plain":         {BatchTokens: 40},
	"one piece":     {BatchTokens: 1},
	"sentences":     {BatchTokens: 40, Sentences: 4},
	"tokens":        {BatchTokens: 60, Tokens: 20},
	"both":          {BatchTokens: 60, Sentences: 5, Tokens: 20, Context: 3},
	"shuffle":       {BatchTokens: 50, Sentences: 4, Shuffle: true, Seed: 1},
	"random start":  {BatchTokens: 50, Sentences: 6, Shuffle: true, Seed: 2, RandomStart: true, Context: 5},
	"random tokens": {BatchTokens: 50, Tokens: 25, Shuffle: true, Seed: 3, RandomStart: true},
	"large":         {BatchTokens: 1 << 20, Sentences: 8, Shuffle: true},
}

// collect returns all batches and the position after each.
func collect(t testing.TB, l *Loader) (batches []*Batch, at []Position) {
	t.Helper()
	defer l.Close()
	for {
		b, err := l.Next()
		if err == io.EOF {
			if _, err := l.Next(); err != io.EOF {
				t.Errorf("error %v after the end", err)
			}
			return batches, at
		}
		if err != nil {
			t.Fatal(err)
		}
		batches, at = append(batches, b), append(at, l.Position())
	}
}

func open(t testing.TB, d *Dataset, c LoaderConfig, at Position) *Loader {
	t.Helper()
	l, err := newLoader(d, c, at, 100) // blocks of one or two record batches
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// checkBatch checks what a Batch promises.
func checkBatch(t *testing.T, b *Batch, c LoaderConfig) {
	t.Helper()
	N, S, B := len(b.IDs), len(b.Bytes), len(b.Names)
	if B < 1 || len(b.Sent) != S+1 || len(b.Doc) != B+1 || len(b.Begin) != B || len(b.End) != B || len(b.Before) != B {
		t.Fatalf("%d tokens, %d sentences, %d pieces: lengths do not fit: %+v", N, S, B, b)
	}
	if b.Tokens() != N || b.Sentences() != S || b.Pieces() != B {
		t.Fatal("sizes do not fit")
	}
	if b.Sent[0] != 0 || b.Doc[0] != 0 || int(b.Sent[S]) != N || int(b.Doc[B]) != S {
		t.Fatalf("offsets do not span the batch: %+v", b)
	}
	if B > 1 && N > c.BatchTokens {
		t.Errorf("%d pieces of %d tokens, the limit is %d", B, N, c.BatchTokens)
	}
	for i := range B {
		from, to := b.Doc[i], b.Doc[i+1]
		if from >= to {
			t.Fatalf("piece %d has no sentence", i)
		}
		if c.Sentences > 0 && int(to-from) > c.Sentences {
			t.Errorf("piece of %d sentences, the limit is %d", to-from, c.Sentences)
		}
		if n := int(b.Sent[to] - b.Sent[from]); c.Tokens > 0 && n > c.Tokens && to-from > 1 {
			t.Errorf("piece of %d tokens, the limit is %d", n, c.Tokens)
		}
		if b.Begin[i] != (b.Before[i] == nil) && c.Context > 0 || len(b.Before[i]) > c.Context {
			t.Errorf("piece %d: begin %v, %d tokens before it", i, b.Begin[i], len(b.Before[i]))
		}
	}
	for s := range S {
		if b.Sent[s] >= b.Sent[s+1] || b.Bytes[s] != 2*(b.Sent[s+1]-b.Sent[s]) {
			t.Fatalf("sentence %d has tokens %d to %d and %d bytes", s, b.Sent[s], b.Sent[s+1], b.Bytes[s])
		}
	}
}

// TestLoaderCovers: in each epoch every sentence comes exactly once, in its place.
func TestLoaderCovers(t *testing.T) {
	d := smallSet(t)
	docs := make(map[string]Document)
	for _, doc := range documents(t, d) {
		docs[doc.ID] = doc
	}
	for name, c := range configs {
		t.Run(name, func(t *testing.T) {
			const epochs = 3
			c.Epochs = epochs
			for _, b := range first(collect(t, open(t, d, c, Position{}))) {
				checkBatch(t, b, c)
			}
			// A context as long as any document tells where a piece stands.
			whole := c
			whole.Context = 1 << 20
			tokens := make(map[string]map[int]int) // document -> token -> how often
			for _, b := range first(collect(t, open(t, d, whole, Position{}))) {
				for i, id := range b.Names {
					doc, at := docs[id], len(b.Before[i])
					ids := b.IDs[b.Sent[b.Doc[i]]:b.Sent[b.Doc[i+1]]]
					if !slices.Equal(ids, doc.IDs[at:at+len(ids)]) || !slices.Equal(b.Before[i], doc.IDs[:at]) {
						t.Fatalf("piece of %s at %d has other tokens", id, at)
					}
					if b.Begin[i] != (at == 0) || b.End[i] != (at+len(ids) == len(doc.IDs)) {
						t.Errorf("piece of %s at %d of %d tokens: begin %v, end %v", id, at, len(ids), b.Begin[i], b.End[i])
					}
					if tokens[id] == nil {
						tokens[id] = make(map[int]int)
					}
					for k := range ids {
						tokens[id][at+k]++
					}
				}
			}
			for id, doc := range docs {
				for k := range doc.IDs {
					if tokens[id][k] != epochs {
						t.Fatalf("token %d of %s came %d times in %d epochs", k, id, tokens[id][k], epochs)
					}
				}
			}
		})
	}
}

func first[A, B any](a A, _ B) A { return a }

// TestLoaderResumes: from every position the batches that follow are those of the unbroken run.
func TestLoaderResumes(t *testing.T) {
	d := smallSet(t)
	for name, c := range configs {
		t.Run(name, func(t *testing.T) {
			c.Epochs = 2
			want, at := collect(t, open(t, d, c, Position{}))
			again, _ := collect(t, open(t, d, c, Position{}))
			if !reflect.DeepEqual(again, want) {
				t.Fatal("the same loader gives other batches")
			}
			for k, p := range at {
				text, err := json.Marshal(p)
				if err != nil {
					t.Fatal(err)
				}
				var q Position
				if err := json.Unmarshal(text, &q); err != nil || q != p {
					t.Fatalf("position %+v becomes %s and %+v", p, text, q)
				}
				l := open(t, d, c, q)
				if l.Position() != p {
					t.Errorf("a loader made at %+v says %+v", p, l.Position())
				}
				if k < len(at)-1 && k%7 != 0 { // all to the end is too much; the next ones tell
					for n := k + 1; n < min(k+4, len(want)); n++ {
						if got, err := l.Next(); err != nil || !reflect.DeepEqual(got, want[n]) {
							t.Fatalf("resumed at %+v: batch %d differs (%v)", p, n, err)
						}
						if l.Position() != at[n] {
							t.Fatalf("resumed at %+v: position %+v after batch %d, want %+v", p, l.Position(), n, at[n])
						}
					}
					l.Close()
					continue
				}
				if got, _ := collect(t, l); len(got) != len(want)-k-1 || len(got) > 0 && !reflect.DeepEqual(got, want[k+1:]) {
					t.Fatalf("resumed at %+v: %d batches that differ, want %d", p, len(got), len(want)-k-1)
				}
			}
		})
	}
}

func TestLoaderOrder(t *testing.T) {
	d := smallSet(t)
	names := func(c LoaderConfig, at Position) (all []string) {
		c.Epochs = at.Epoch + 1
		for _, b := range first(collect(t, open(t, d, c, at))) {
			for i, name := range b.Names {
				all = append(all, fmt.Sprintf("%s/%d", name, b.Doc[i+1]-b.Doc[i]))
			}
		}
		return all
	}
	c := LoaderConfig{BatchTokens: 30, Sentences: 4, Shuffle: true, RandomStart: true, Seed: 7}
	a, b := names(c, Position{}), names(c, Position{Epoch: 1})
	other := c
	other.Seed = 8
	if slices.Equal(a, b) || slices.Equal(a, names(other, Position{})) {
		t.Error("epochs or seeds have the same order")
	}
	if !slices.Equal(b, names(c, Position{Epoch: 1})) {
		t.Error("an epoch does not come again in the same order")
	}
	// The order must never change from one version to the next: checkpoints depend on it.
	want := "long/1 long/1 long/1 after/2"
	if got := strings.Join(names(LoaderConfig{BatchTokens: 1 << 20, Tokens: 4, Shuffle: false}, Position{})[len(names(LoaderConfig{BatchTokens: 1 << 20, Tokens: 4}, Position{}))-4:], " "); got != want {
		t.Errorf("plain order ends with %q, want %q", got, want)
	}
	if got, want := strings.Join(a[:8], " "), pinnedOrder; got != want {
		t.Errorf("shuffled order starts with %q, want %q", got, want)
	}
}

const pinnedOrder = "long/3 after/2 d0.5/3 d0.5/4 d0.4/4 d0.6/2 d0.4/4 d0.2/4"

// TestLoaderRandomStart: with it, boundaries move from epoch to epoch, but a document that fits in one piece stays whole.
func TestLoaderRandomStart(t *testing.T) {
	d := writeDataset(t, []Document{doc("short", 2, 2, 2), doc("long", slices.Repeat([]int32{2}, 40)...)})
	l, err := NewLoader(d, LoaderConfig{BatchTokens: 1, Sentences: 8, RandomStart: true, Epochs: 50}, Position{})
	if err != nil {
		t.Fatal(err)
	}
	starts := make(map[int]bool)
	for _, b := range first(collect(t, l)) {
		if n := len(b.Bytes); b.Names[0] == "short" && n != 3 {
			t.Errorf("a piece of %d sentences of the short document", n)
		} else if b.Names[0] == "long" && b.Begin[0] {
			starts[n] = true
		}
	}
	if len(starts) < 6 || starts[0] || starts[9] {
		t.Errorf("first pieces of %v sentences", starts)
	}
}

func TestLoaderEndless(t *testing.T) {
	d := writeDataset(t, []Document{doc("a", 2), doc("b", 3)})
	l, err := NewLoader(d, LoaderConfig{BatchTokens: 3, Shuffle: true}, Position{})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for range 100 {
		if b, err := l.Next(); err != nil || b.Pieces() != 1 {
			t.Fatalf("%+v, error %v", b, err)
		}
	}
	if l.Position().Epoch < 49 {
		t.Errorf("position %+v after 50 epochs", l.Position())
	}
}

func TestLoaderRefuses(t *testing.T) {
	d := smallSet(t)
	ok := LoaderConfig{BatchTokens: 10}
	for _, c := range []struct {
		c    LoaderConfig
		at   Position
		want string
	}{
		{LoaderConfig{}, Position{}, "batch tokens 0"},
		{LoaderConfig{BatchTokens: -1}, Position{}, "batch tokens -1"},
		{LoaderConfig{BatchTokens: 1, Sentences: -1}, Position{}, "negative"},
		{ok, Position{Epoch: -1}, "negative"},
		{ok, Position{Block: 1000}, "other data"},
		{ok, Position{Piece: 1000}, "other data"},
	} {
		if l, err := NewLoader(d, c.c, c.at); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v at %+v: %v, error %v, want %q", c.c, c.at, l, err, c.want)
		}
	}
	for _, empty := range []*Dataset{writeDataset(t), writeDataset(t, nil), writeDataset(t, []Document{doc("none")})} {
		if _, err := NewLoader(empty, ok, Position{}); err == nil || !strings.Contains(err.Error(), "no sentences") {
			t.Errorf("no data: error %v", err)
		}
	}
	l, err := NewLoader(d, LoaderConfig{BatchTokens: 10, Epochs: 1}, Position{Epoch: 1})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := l.Next(); err != io.EOF {
		t.Errorf("resumed after the last epoch: error %v", err)
	}
}

// TestLoaderShardChanges: a shard that is gone or rewritten during a run ends it with the file's name.
func TestLoaderShardChanges(t *testing.T) {
	for name, change := range map[string]func(path string) error{
		"gone":    os.Remove,
		"emptied": func(path string) error { return os.Truncate(path, 0) },
		"rewritten": func(path string) error {
			text, err := os.ReadFile(path)
			if err == nil {
				text[len(text)/3] ^= 0x10
				os.Remove(path)
				err = os.WriteFile(path, text, 0o644)
			}
			return err
		},
	} {
		d := smallSet(t)
		path := filepath.Join(d.Dir(), "part-00002.arrow")
		l := open(t, d, LoaderConfig{BatchTokens: 30}, Position{})
		if _, err := l.Next(); err != nil {
			t.Fatal(err)
		}
		if err := change(path); err != nil {
			t.Fatal(err)
		}
		var err error
		last := l.Position()
		for err == nil {
			last = l.Position()
			_, err = l.Next()
		}
		if err == io.EOF || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: error %v, want one about %s", name, err, path)
		}
		if l.Position() != last {
			t.Errorf("%s: position %+v after the error, want that of the last batch, %+v", name, l.Position(), last)
		}
		l.Close()
	}
}

// TestLoaderConcurrent: loaders of one data set do not disturb each other.
func TestLoaderConcurrent(t *testing.T) {
	d := smallSet(t)
	c := LoaderConfig{BatchTokens: 30, Sentences: 3, Shuffle: true, Epochs: 2}
	want, _ := collect(t, open(t, d, c, Position{}))
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			l, err := newLoader(d, c, Position{}, 100)
			if err != nil {
				t.Error(err)
				return
			}
			defer l.Close()
			for i := range want {
				if b, err := l.Next(); err != nil || !reflect.DeepEqual(b, want[i]) {
					t.Errorf("batch %d differs (%v)", i, err)
					return
				}
			}
		})
	}
	wg.Wait()
}

func BenchmarkLoader(b *testing.B) {
	d, _ := mustBuild(b, BuildConfig{}, write(b, "a.jsonl", corpus(4000, 30, 1)))
	l, err := NewLoader(d, LoaderConfig{BatchTokens: 4096, Sentences: 32, Shuffle: true, RandomStart: true}, Position{})
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	tokens := 0
	for b.Loop() {
		batch, err := l.Next()
		if err != nil {
			b.Fatal(err)
		}
		tokens += batch.Tokens()
	}
	b.ReportMetric(float64(tokens)/b.Elapsed().Seconds(), "tokens/s")
}
