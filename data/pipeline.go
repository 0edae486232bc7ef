package data

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"regexp"
	"runtime"
	"sync"
)

// maxSamples is how many bad lines a report names.
const maxSamples = 10

// builder is one call of Build.
type builder struct {
	c     BuildConfig
	split *regexp.Regexp
	codec *Codec
	meta  Meta

	read   *reader
	report Report
	seen   idSet
	out    *output
}

func newBuilder(c BuildConfig) (*builder, error) {
	if err := checkTokenizer(c.Tokenizer); err != nil {
		return nil, err
	}
	if c.Workers <= 0 {
		c.Workers = runtime.GOMAXPROCS(0)
	}
	if c.ShardBytes <= 0 {
		c.ShardBytes = 64 << 20
	}
	if c.MaxLineBytes == 0 {
		c.MaxLineBytes = maxLine
	}
	if c.BadLines == "" {
		c.BadLines = BadFail
	}
	if c.Progress == nil {
		c.Progress = func(done, total int64) {}
	}
	switch {
	case c.Out == "":
		return nil, errors.New("build: no output folder given")
	case !(c.Holdout >= 0 && c.Holdout < 1):
		return nil, fmt.Errorf("build: holdout %v is not a fraction in 0..1", c.Holdout)
	case c.MaxLineBytes < 0 || c.MaxLineBytes > maxLine:
		return nil, fmt.Errorf("build: line limit of %d bytes is not in 1..%d", c.MaxLineBytes, maxLine)
	case c.BadLines != BadFail && c.BadLines != BadSkip && c.BadLines != BadQuarantine:
		return nil, fmt.Errorf("build: bad lines %q is none of %s, %s, %s", c.BadLines, BadFail, BadSkip, BadQuarantine)
	}
	b := &builder{c: c}
	var err error
	if c.Split != "" {
		if b.split, err = regexp.Compile(c.Split); err != nil {
			return nil, fmt.Errorf("build: split: %w", err)
		}
	}
	if b.codec, err = NewCodec(c.Tokenizer, c.Segment); err != nil {
		return nil, fmt.Errorf("build: %w", err)
	}
	seg := b.codec.Segmenter()
	b.meta = Meta{Format: Format, Tokenizer: c.TokenizerName, TokenizerFingerprint: c.Tokenizer.Fingerprint(),
		Segmenter: seg, SegmenterFingerprint: seg.Fingerprint(), VocabSize: c.Tokenizer.VocabSize(),
		BOS: c.Tokenizer.BOS(), EOS: c.Tokenizer.EOS(), PAD: c.Tokenizer.PAD(), Holdout: c.Holdout}
	return b, nil
}

// run is the whole build, in order.
func (b *builder) run(ctx context.Context) (_ *Report, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	inputs, err := findInputs(b.c.Inputs, b.c.Out)
	if err != nil {
		return nil, err
	}
	if err := b.hashInputs(ctx, inputs); err != nil {
		return nil, err
	}
	if b.out, err = openOutput(&b.c, &b.meta, b.key()); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			b.out.abort(errors.Is(err, errChanged))
		}
	}()
	if err := b.pipeline(ctx, cancel, inputs); err != nil {
		return nil, err
	}
	b.report.Files = int64(len(inputs))
	if err := b.out.finish(&b.report); err != nil {
		return nil, err
	}
	return &b.report, nil
}

// hashInputs reads every input once for its hash and prepares the reader that will read it again.
func (b *builder) hashInputs(ctx context.Context, inputs []input) error {
	var done, total int64
	for _, in := range inputs {
		total += 2 * in.size
	}
	b.read = &reader{ctx: ctx, split: b.split, unwrap: b.c.Unwrap, maxLine: b.c.MaxLineBytes}
	b.read.progress = func(n int64) {
		done += n
		b.c.Progress(done, total)
	}
	h := sha256.New()
	for i := range inputs {
		if err := b.read.hash(&inputs[i]); err != nil {
			return err
		}
		fmt.Fprintf(h, "%s %d %s\n", inputs[i].name, inputs[i].size, inputs[i].sha)
	}
	b.meta.SourceSHA256 = hex.EncodeToString(h.Sum(nil))
	return nil
}

// key names everything that the bytes of the shards depend on.
func (b *builder) key() string {
	text, err := json.Marshal([]any{b.meta.Format, b.meta.TokenizerFingerprint, b.meta.VocabSize, b.meta.BOS, b.meta.EOS, b.meta.PAD,
		b.meta.SegmenterFingerprint, b.meta.SourceSHA256, b.c.Split, b.c.Unwrap, b.c.Holdout, b.c.ShardBytes, b.c.MaxLineBytes, batchTokens})
	if err != nil {
		panic("data: build key: " + err.Error()) // none of these values fails to encode
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:])
}

// chunk is a run of records that one worker handles. done is closed when results is complete.
type chunk struct {
	records []record
	seq     int64 // number of the first record
	bytes   int
	results []result
	done    chan struct{}
	err     error // the reader ended with it after these records
}

const (
	chunkBytes   = 256 << 10
	chunkRecords = 512
)

// result is what became of a record.
type result struct {
	bad      string // why the record is no document
	err      error  // ends the build
	empty    bool
	doc      Document
	idHash   uint64
	heldout  bool
	done     bool // a shard of an earlier run has it
	bytes    int  // of text
	replaced int
}

// pipeline reads in one goroutine, works in several, and writes in this one, in the order of reading.
func (b *builder) pipeline(ctx context.Context, cancel func(), inputs []input) error {
	work := make(chan *chunk, b.c.Workers)
	order := make(chan *chunk, 2*b.c.Workers)
	var wg sync.WaitGroup
	wg.Go(func() {
		b.readAll(ctx, inputs, work, order)
		close(work)
		close(order)
	})
	for range b.c.Workers {
		wg.Go(func() {
			for c := range work {
				c.results = make([]result, len(c.records))
				for i := range c.records {
					c.results[i] = b.process(&c.records[i], c.seq+int64(i))
				}
				close(c.done)
			}
		})
	}
	var err error
	for c := range order {
		if err != nil {
			continue // drain
		}
		select {
		case <-c.done:
			if err = b.collect(c); err == nil {
				err = c.err
			}
		case <-ctx.Done(): // the chunk may never have reached a worker
			err = ctx.Err()
		}
		if err != nil {
			cancel()
		}
	}
	wg.Wait()
	if err == nil {
		err = ctx.Err()
	}
	b.report.Lines, b.report.BlankLines, b.report.Skipped = b.read.lines, b.read.blank, b.read.skipped
	return err
}

// readAll cuts the inputs into chunks and sends each to the workers and, in order, to the writer.
func (b *builder) readAll(ctx context.Context, inputs []input, work, order chan<- *chunk) {
	cur := &chunk{seq: 1, done: make(chan struct{})}
	send := func() error {
		for _, to := range []chan<- *chunk{order, work} {
			select {
			case to <- cur:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		cur = &chunk{seq: cur.seq + int64(len(cur.records)), done: make(chan struct{})}
		return nil
	}
	b.read.emit = func(r record) error {
		cur.records = append(cur.records, r)
		cur.bytes += len(r.text)
		if cur.bytes >= chunkBytes || len(cur.records) >= chunkRecords {
			return send()
		}
		return nil
	}
	for i := range inputs {
		if cur.err = b.read.read(&inputs[i]); cur.err != nil {
			break
		}
	}
	send()
}

// process turns a record into a document. It runs in the workers and changes nothing of b.
func (b *builder) process(r *record, seq int64) result {
	if r.over > 0 {
		return result{bad: fmt.Sprintf("%d bytes, the limit for a document is %d", r.over, b.c.MaxLineBytes)}
	}
	l := line{id: r.name, content: r.text}
	if !r.plain {
		var err error
		if l, err = parseLine(r.text); err != nil {
			return result{bad: err.Error()}
		}
		if l.id == "" {
			l.id = r.name
		}
	}
	sum := sha256.Sum256([]byte(l.id))
	res := result{doc: Document{ID: l.id}, replaced: l.replaced, bytes: len(l.content), idHash: binary.BigEndian.Uint64(sum[8:])}
	res.heldout = float64(binary.BigEndian.Uint64(sum[:])) < b.c.Holdout*math.MaxUint64
	if len(bytes.TrimSpace(l.content)) == 0 {
		res.empty = true
		return res
	}
	if seq <= b.out.part(res.heldout).last {
		res.done = true
		return res
	}
	d := &res.doc
	d.IDs, d.SentenceTokens, d.SentenceBytes = b.codec.Split(l.content)
	if err := d.check(int32(b.meta.VocabSize)); err != nil {
		res.err = fmt.Errorf("tokenise %s:%d: %w (the tokenizer is broken)", r.path, r.line, err)
	}
	return res
}

// collect counts and writes the results of a chunk.
func (b *builder) collect(c *chunk) error {
	for i := range c.results {
		r, rec := &c.results[i], &c.records[i]
		if r.err != nil {
			return r.err
		}
		if r.bad != "" {
			if err := b.badLine(rec, r.bad); err != nil {
				return err
			}
			continue
		}
		b.report.Replaced += int64(r.replaced)
		if b.seen.add(r.idHash) {
			b.report.Duplicates++
		}
		if r.empty {
			b.report.Empty++
			continue
		}
		b.report.Dropped += int64(r.bytes)
		if r.done {
			continue
		}
		if err := b.out.part(r.heldout).add(&r.doc, c.seq+int64(i)); err != nil {
			return err
		}
	}
	return nil
}

// badLine does with a bad line what the configuration says.
func (b *builder) badLine(r *record, why string) error {
	place := fmt.Sprintf("%s:%d: %s", r.path, r.line, why)
	if b.c.BadLines == BadFail {
		return fmt.Errorf("%s (leave such lines out with --bad-lines skip or quarantine)", place)
	}
	b.report.BadLines++
	if len(b.report.BadSamples) < maxSamples {
		b.report.BadSamples = append(b.report.BadSamples, place)
	}
	if b.c.BadLines == BadQuarantine {
		return b.out.quarantine(r)
	}
	return nil
}
