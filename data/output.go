package data

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
)

// Files of an output folder beside the shards and dataset.json. The log lists the shards that are finished, so that an
// interrupted build goes on from there; it is removed when the build is complete.
const (
	logName        = "build.log"
	quarantineName = "quarantine.jsonl"
)

// maxLogBytes bounds the log that is read.
const maxLogBytes = 1 << 30

// logHead is the first line of the log, logLine every other one.
type logHead struct {
	Key string `json:"key"`
}

type logLine struct {
	Part    string `json:"part"`    // "", "train" or "heldout"
	Last    int64  `json:"last"`    // all records up to this one that belong to the part are in its finished shards
	Unsplit int64  `json:"unsplit"` // documents of the part up to there that gave no token
	Shard   Shard  `json:"shard"`
}

// output writes the data sets of one build.
type output struct {
	dir   string
	keep  bool // the folder was there before
	parts []*part
	log   *os.File
	bad   *os.File // quarantine, under a temporary name
	badW  *bufio.Writer
}

// part is one data set of the output: all of it, or the training or held-out documents.
type part struct {
	out        *output
	name, dir  string
	meta       Meta
	shardBytes int64
	w          *shardWriter
	last       int64 // as in logLine, of the shards taken over
	unsplit    int64
	resumed    int
}

// part returns the data set that a document belongs to.
func (o *output) part(heldout bool) *part {
	if heldout {
		return o.parts[len(o.parts)-1]
	}
	return o.parts[0]
}

// openOutput prepares the output folder: a new one, or one in which the same build was interrupted, or any with Force.
func openOutput(c *BuildConfig, m *Meta, key string) (_ *output, err error) {
	o := &output{dir: c.Out}
	names := []string{""}
	if c.Holdout > 0 {
		names = []string{"train", "heldout"}
	}
	lines, err := o.inspect(key, c.Force)
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		p := &part{out: o, name: name, dir: filepath.Join(o.dir, name), meta: *m, shardBytes: c.ShardBytes}
		if name != "" {
			p.meta.Split = name
		}
		if err := os.MkdirAll(p.dir, 0o755); err != nil {
			return nil, fmt.Errorf("create output: %w", err)
		}
		o.parts = append(o.parts, p)
	}
	kept := o.takeOver(lines)
	if err := o.clean(kept); err != nil {
		return nil, err
	}
	if err := o.startLog(key, kept); err != nil {
		return nil, err
	}
	if c.BadLines == BadQuarantine {
		if o.bad, err = os.CreateTemp(o.dir, "."+quarantineName+"-*.tmp"); err != nil {
			o.log.Close()
			return nil, fmt.Errorf("create output: %w", err)
		}
		o.badW = bufio.NewWriter(o.bad)
	}
	return o, nil
}

// inspect says whether the folder may be written, and returns the log of the same build if that was interrupted there.
func (o *output) inspect(key string, force bool) ([]logLine, error) {
	entries, err := os.ReadDir(o.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("create output: %w", err)
	}
	o.keep = true
	if len(entries) == 0 {
		return nil, nil
	}
	text, err := readSmall(filepath.Join(o.dir, logName), maxLogBytes)
	if err == nil {
		head, rest, _ := bytes.Cut(text, []byte("\n"))
		var h logHead
		if json.Unmarshal(head, &h) == nil && h.Key == key {
			return parseLog(rest), nil
		}
		if !force {
			return nil, fmt.Errorf("output folder %s holds an unfinished build of other inputs or settings (replace it with --force)", o.dir)
		}
	}
	if !force {
		return nil, fmt.Errorf("output folder %s is not empty (replace the data set in it with --force)", o.dir)
	}
	return nil, nil
}

// parseLog returns the lines of a log up to the first that is not whole.
func parseLog(text []byte) []logLine {
	var lines []logLine
	for {
		line, rest, whole := bytes.Cut(text, []byte("\n"))
		var l logLine
		if !whole || json.Unmarshal(line, &l) != nil || l.Shard.check() != nil {
			return lines
		}
		lines, text = append(lines, l), rest
	}
}

// takeOver adds the finished shards of the log to the parts, up to the first of each part that is not in order.
func (o *output) takeOver(lines []logLine) (kept []logLine) {
	broken := make(map[string]bool)
	for _, l := range lines {
		for _, p := range o.parts {
			if p.name != l.Part || broken[p.name] {
				continue
			}
			if l.Shard.Name != p.nextName() || l.Last <= p.last || verifyShard(p.dir, &l.Shard) != nil {
				broken[p.name] = true
				continue
			}
			p.take(l.Shard)
			p.last, p.unsplit = l.Last, l.Unsplit
			p.resumed++
			kept = append(kept, l)
		}
	}
	return kept
}

func (p *part) nextName() string { return fmt.Sprintf("part-%05d.arrow", len(p.meta.Shards)) }

func (p *part) take(s Shard) {
	p.meta.Shards = append(p.meta.Shards, s)
	p.meta.Counts.add(s.Counts)
}

var ours = regexp.MustCompile(`^(part-\d{5,}\.arrow|\.(part-\d{5,}\.arrow|dataset\.json|build\.log|quarantine\.jsonl)-\d*\.tmp|dataset\.json|build\.log|quarantine\.jsonl)$`)

// clean removes what earlier builds left in the folder, dataset.json first, except the shards taken over. Files that no
// build writes are left alone.
func (o *output) clean(kept []logLine) error {
	keep := make(map[string]bool)
	for _, l := range kept {
		keep[filepath.Join(o.dir, l.Part, l.Shard.Name)] = true
	}
	for _, sub := range []string{"", "train", "heldout"} {
		dir := filepath.Join(o.dir, sub)
		if err := os.Remove(filepath.Join(dir, metaName)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("clean output: %w", err)
		}
		entries, err := os.ReadDir(dir)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return fmt.Errorf("clean output: %w", err)
		}
		for _, e := range entries {
			path := filepath.Join(dir, e.Name())
			if e.IsDir() || keep[path] || !ours.MatchString(e.Name()) || sub == "" && e.Name() == logName {
				continue
			}
			if err := os.Remove(path); err != nil {
				return fmt.Errorf("clean output: %w", err)
			}
		}
		if sub != "" && !o.has(sub) {
			os.Remove(dir) // if it is empty
		}
	}
	return nil
}

func (o *output) has(name string) bool {
	for _, p := range o.parts {
		if p.name == name {
			return true
		}
	}
	return false
}

// startLog writes the log anew and leaves it open for more.
func (o *output) startLog(key string, kept []logLine) error {
	text, err := json.Marshal(logHead{key})
	if err != nil {
		return fmt.Errorf("write %s: %w", logName, err)
	}
	text = append(text, '\n')
	for _, l := range kept {
		line, err := json.Marshal(l)
		if err != nil {
			return fmt.Errorf("write %s: %w", logName, err)
		}
		text = append(append(text, line...), '\n')
	}
	path := filepath.Join(o.dir, logName)
	if err := writeFile(path, text); err != nil {
		return err
	}
	if o.log, err = os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

// add writes a document, which was record seq.
func (p *part) add(d *Document, seq int64) (err error) {
	if len(d.SentenceTokens) == 0 {
		p.unsplit++
		return nil
	}
	if p.w == nil {
		if p.w, err = newShardWriter(p.dir, p.nextName(), &p.meta); err != nil {
			return err
		}
	}
	if err := p.w.add(d); err != nil {
		return err
	}
	if p.w.size() >= p.shardBytes {
		return p.finishShard(seq)
	}
	return nil
}

// finishShard gives the current shard its name and notes it in the log.
func (p *part) finishShard(last int64) error {
	w := p.w
	p.w = nil
	s, err := w.finish()
	if err != nil {
		return err
	}
	p.take(s)
	line, err := json.Marshal(logLine{p.name, last, p.unsplit, s})
	if err != nil {
		return fmt.Errorf("write %s: %w", logName, err)
	}
	if _, err = p.out.log.Write(append(line, '\n')); err == nil {
		err = p.out.log.Sync()
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", p.out.log.Name(), err)
	}
	return nil
}

// quarantine copies a bad line. One that was too long to be held is only counted.
func (o *output) quarantine(r *record) error {
	if r.text == nil {
		return nil
	}
	o.badW.Write(r.text)
	if err := o.badW.WriteByte('\n'); err != nil {
		return fmt.Errorf("write %s: %w", quarantineName, err)
	}
	return nil
}

// finish completes the last shards, then the quarantine, then each dataset.json, and fills in the report.
func (o *output) finish(r *Report) error {
	for _, p := range o.parts {
		if p.w != nil {
			if err := p.finishShard(1 << 62); err != nil {
				return err
			}
		}
		r.Empty += p.unsplit
		r.Shards += len(p.meta.Shards)
		r.Resumed += p.resumed
		r.Dropped -= p.meta.Bytes
	}
	r.Train = o.parts[0].meta.Counts
	if len(o.parts) > 1 {
		r.Heldout = o.parts[1].meta.Counts
	}
	if r.Train.Documents+r.Heldout.Documents == 0 {
		return fmt.Errorf("build: no document in %d files (%d bad lines, %d empty)", r.Files, r.BadLines, r.Empty)
	}
	if o.bad != nil {
		if err := o.finishQuarantine(r.BadLines); err != nil {
			return err
		}
	}
	for _, p := range o.parts {
		p.meta.BadLines, p.meta.Empty, p.meta.Duplicates = r.BadLines, r.Empty, r.Duplicates
		text, err := encodeMeta(&p.meta)
		if err != nil {
			return fmt.Errorf("write %s: %w", metaName, err)
		}
		if err := writeFile(filepath.Join(p.dir, metaName), text); err != nil {
			return err
		}
	}
	o.log.Close()
	if err := os.Remove(o.log.Name()); err != nil {
		return fmt.Errorf("finish output: %w", err)
	}
	return syncDir(o.dir)
}

func (o *output) finishQuarantine(lines int64) error {
	f := o.bad
	o.bad = nil
	if lines == 0 {
		f.Close()
		return os.Remove(f.Name())
	}
	if err := o.badW.Flush(); err != nil {
		f.Close()
		os.Remove(f.Name())
		return fmt.Errorf("write %s: %w", quarantineName, err)
	}
	return publish(f, filepath.Join(o.dir, quarantineName))
}

// abort removes what is half done. The finished shards and their log stay for another run, unless there are none or
// they are of no use.
func (o *output) abort(useless bool) {
	shards := 0
	for _, p := range o.parts {
		if p.w != nil {
			p.w.abort()
			p.w = nil
		}
		shards += len(p.meta.Shards)
	}
	if o.bad != nil {
		o.bad.Close()
		os.Remove(o.bad.Name())
	}
	o.log.Close()
	if shards > 0 && !useless {
		return
	}
	for _, p := range o.parts {
		for _, s := range p.meta.Shards {
			os.Remove(filepath.Join(p.dir, s.Name))
		}
	}
	os.Remove(o.log.Name())
	for _, p := range o.parts {
		if p.name != "" {
			os.Remove(p.dir) // if it is empty
		}
	}
	if !o.keep {
		os.Remove(o.dir)
	}
}
