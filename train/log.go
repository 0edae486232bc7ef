package train

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"
)

// logger writes one line a step to metrics.jsonl, and some of them for people.
type logger struct {
	cfg   *Config
	w     io.Writer
	file  *os.File
	begin time.Time
	first int // step at which this process began
	shown time.Time
	last  []Metrics // of the last steps
}

// Metrics is a line of metrics.jsonl.
type Metrics struct {
	Step      int     `json:"step"`
	Loss      float64 `json:"loss"` // nats a scored token, all costs counted
	BPB       float64 `json:"bits_per_byte"`
	Nats      Nats    `json:"nats"`
	Tokens    int     `json:"tokens"`
	Seen      int64   `json:"seen_tokens"`
	Bytes     int64   `json:"bytes"`
	LR        float64 `json:"lr"`
	GradNorm  float64 `json:"grad_norm"`
	TokensSec float64 `json:"tokens_per_second"`
}

func newLogger(c *Config, w io.Writer, s state) (*logger, error) {
	f, err := os.OpenFile(filepath.Join(c.Out, "metrics.jsonl"), os.O_CREATE|os.O_RDWR, 0o666)
	if err != nil {
		return nil, err
	}
	l := &logger{cfg: c, w: w, file: f, begin: time.Now(), first: s.Step}
	if err := l.goOn(s.Metrics); err != nil {
		f.Close()
		return nil, err
	}
	return l, nil
}

// goOn cuts the file to the length that it had at the checkpoint and reads the last losses from it.
func (l *logger) goOn(size int64) error {
	st, err := l.file.Stat()
	if err != nil {
		return err
	}
	size = min(size, st.Size()) // a file that was cut or removed meanwhile grows no zeros
	if err := l.file.Truncate(size); err != nil {
		return err
	}
	const most = 64 << 10 // more than window lines have
	tail := make([]byte, min(size, most))
	if _, err := l.file.ReadAt(tail, size-int64(len(tail))); err != nil {
		return err
	}
	for _, line := range bytes.Split(tail, []byte("\n")) {
		var m Metrics
		if json.Unmarshal(line, &m) == nil && m.Step > 0 {
			l.last = append(l.last, m)
		}
	}
	l.last = l.last[max(0, len(l.last)-window):]
	_, err = l.file.Seek(0, io.SeekEnd)
	return err
}

// every is how often people see a step line.
const every = 5 * time.Second

// window is how many steps the loss that people see is taken over.
const window = 20

func (l *logger) step(s *state, n Nats, tokens int, bytes int64, norm, lr float64, took time.Duration) error {
	m := Metrics{Step: s.Step, Loss: n.Total() / float64(tokens), BPB: bits(n.Total(), bytes), Nats: n, Tokens: tokens, Seen: s.Tokens,
		Bytes: bytes, LR: lr, GradNorm: norm, TokensSec: float64(tokens) / took.Seconds()}
	if l.last = append(l.last, m); len(l.last) > window {
		l.last = l.last[1:]
	}
	b, err := json.Marshal(m)
	if err != nil {
		return err
	}
	if _, err := l.file.Write(append(b, '\n')); err != nil {
		return err
	}
	if now := time.Now(); now.Sub(l.shown) >= every || s.Step == l.cfg.Steps || s.Step == 1 {
		l.shown = now
		left := time.Duration(float64(now.Sub(l.begin)) / float64(s.Step-l.first) * float64(l.cfg.Steps-s.Step))
		loss, bpb := l.mean()
		fmt.Fprintf(l.w, "step %5d/%d  loss %.3f nats/token  %.3f bits/byte  lr %.2g  |g| %.2f  %.0f tokens/s  eta %s\n",
			s.Step, l.cfg.Steps, loss, bpb, lr, norm, m.TokensSec, left.Round(time.Second))
	}
	return nil
}

// mean returns the loss in nats a token and in bits a byte over the last steps.
func (l *logger) mean() (loss, bpb float64) {
	var nats float64
	var tokens int
	var size int64
	for _, m := range l.last {
		nats += m.Nats.Total()
		tokens += m.Tokens
		size += m.Bytes
	}
	return nats / float64(max(1, tokens)), bits(nats, max(1, size))
}

// sync puts the file on disk and returns its length.
func (l *logger) sync() (int64, error) {
	if err := l.file.Sync(); err != nil {
		return 0, err
	}
	return l.file.Seek(0, io.SeekCurrent)
}

func (l *logger) close() { l.file.Close() }
