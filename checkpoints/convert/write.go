package convert

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"svae/checkpoints"
	"svae/sllm"
)

// Write writes the target: a folder or file appears whole, under its name, or not at all. progress, which may be nil, is told
// the bytes of weights written so far and in all. When ctx ends, so does Write, and nothing is left.
func (p *Plan) Write(ctx context.Context, progress func(done, total int64)) error {
	if err := p.Writable(); err != nil {
		return err
	}
	ts := slices.Clone(p.tensors)
	var done int64
	for i := range ts {
		ts[i] = p.watched(ts[i], func(n int) error {
			if done += int64(n); progress != nil {
				progress(done, p.Bytes)
			}
			return ctx.Err()
		})
	}
	switch p.Target.Format {
	case GGUF:
		return p.file(func(w io.Writer) error { return checkpoints.WriteGGUF(w, p.header, ts) })
	case Reference:
		return p.file(func(w io.Writer) error {
			return checkpoints.WriteTorch(w, ts, checkpoints.TorchOptions{Key: "state_dict", Meta: map[string]any{"meta": map[string]any{}}})
		})
	}
	d, err := checkpoints.CreateDir(p.Target.Path, p.Target.Force)
	if err != nil {
		return err
	}
	defer d.Abort()
	for name, b := range p.Files {
		if err := d.WriteFile(name, b); err != nil {
			return err
		}
	}
	if p.Target.Format == Torch {
		err = checkpoints.WriteTorchShards(d, ts, p.Target.ShardBytes)
	} else {
		err = checkpoints.WriteShards(d, ts, p.Target.ShardBytes, map[string]string{"format": "pt"})
	}
	if err != nil {
		return err
	}
	return d.Commit()
}

// file writes one file under a temporary name and renames it.
func (p *Plan) file(write func(io.Writer) error) (err error) {
	dst := p.Target.Path
	if err := os.MkdirAll(filepath.Dir(dst), 0o777); err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(dst), "."+filepath.Base(dst)+".tmp-")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	if err = write(f); err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := os.Chmod(f.Name(), 0o644); err != nil {
		return err
	}
	return os.Rename(f.Name(), dst)
}

// Writable refuses a destination whose replacement would lose anything but a model of this program's making.
func (p *Plan) Writable() error {
	src, dst := p.Source.Path, p.Target.Path
	st, err := os.Stat(dst)
	file := p.Target.Format == GGUF || p.Target.Format == Reference
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case !file && !st.IsDir():
		return fmt.Errorf("%s: exists and is a file (give another DST)", dst)
	case file && st.IsDir():
		return fmt.Errorf("%s: exists and is a folder (give another DST)", dst)
	case !p.Target.Force:
		return fmt.Errorf("%s: exists already (--force replaces a model)", dst)
	}
	a, errA := filepath.Abs(src)
	b, errB := filepath.Abs(dst)
	if errA != nil || errB != nil || a == b || strings.HasPrefix(a, b+string(filepath.Separator)) {
		return fmt.Errorf("%s: holds the source (give another DST)", dst)
	}
	if file {
		return nil
	}
	es, err := os.ReadDir(dst)
	if err != nil {
		return err
	}
	ours := append([]string{"config.json", checkpoints.ManifestName}, sllm.SideFiles...)
	for _, e := range es {
		if !e.Type().IsRegular() || !weightsName.MatchString(e.Name()) && !slices.Contains(ours, e.Name()) {
			return fmt.Errorf("%s: holds %s, which is not a converted model's (give another DST)", dst, e.Name())
		}
	}
	return nil
}

// weightsName matches the files of weights in a model folder.
var weightsName = regexp.MustCompile(`^(model(-\d+-of-\d+)?\.safetensors|pytorch_model(-\d+-of-\d+)?\.bin|(model\.safetensors|pytorch_model\.bin)\.index\.json)$`)

// watched counts the bytes of a tensor while it is written, and refuses values that are not finite.
func (p *Plan) watched(n checkpoints.Named, count func(int) error) checkpoints.Named {
	write := n.Write
	n.Write = func(w io.Writer) error {
		c := &watcher{w: w, count: count}
		if !p.Target.NonFinite {
			c.special = special(n.DType)
		}
		if err := write(c); err != nil {
			return err
		}
		if c.bad == "" {
			return nil
		}
		was := ""
		for _, m := range p.Moves {
			if m.Name == n.Name && m.FromType != m.Type {
				was = fmt.Sprintf(", or finite in %s and too large for %s", m.FromType, m.Type)
			}
		}
		return fmt.Errorf("%s: %s holds %s at %d%s (--allow-nonfinite converts it all the same)", p.Source.Path, n.Name, c.bad, c.at, was)
	}
	return n
}

// kind says how to tell that an element is not finite: its bytes, and where the exponent and the rest of it are.
type kind struct {
	size      int // bytes of an element
	exp, rest uint64
}

// special returns how elements of a type are checked; nil for types without exponents.
func special(d checkpoints.DType) *kind {
	switch d {
	case checkpoints.F32:
		return &kind{4, 0x7f800000, 0x007fffff}
	case checkpoints.F16:
		return &kind{2, 0x7c00, 0x03ff}
	case checkpoints.BF16:
		return &kind{2, 0x7f80, 0x007f}
	case checkpoints.F64:
		return &kind{8, 0x7ff << 52, 1<<52 - 1}
	case checkpoints.Q8_0:
		return &kind{34, 0x7c00, 0x03ff} // its scale
	}
	return nil
}

// watcher passes bytes on. Writes may cut an element anywhere.
type watcher struct {
	w       io.Writer
	count   func(int) error
	special *kind
	rest    []byte
	n       int // elements seen
	bad     string
	at      int
}

func (c *watcher) Write(b []byte) (int, error) {
	if k := c.special; k != nil && c.bad == "" {
		p := b
		if len(c.rest) > 0 {
			m := min(k.size-len(c.rest), len(p))
			c.rest, p = append(c.rest, p[:m]...), p[m:]
			if len(c.rest) == k.size {
				c.check(k, c.rest)
				c.rest = c.rest[:0]
			}
		}
		whole := len(p) / k.size * k.size
		c.check(k, p[:whole])
		c.rest = append(c.rest, p[whole:]...)
	}
	n, err := c.w.Write(b)
	return n, errors.Join(err, c.count(n))
}

// check looks at whole elements.
func (c *watcher) check(k *kind, b []byte) {
	for i := 0; i+k.size <= len(b); i += k.size {
		var v uint64
		switch k.size {
		case 4:
			v = uint64(b[i]) | uint64(b[i+1])<<8 | uint64(b[i+2])<<16 | uint64(b[i+3])<<24
		case 8:
			for j := 7; j >= 0; j-- {
				v = v<<8 | uint64(b[i+j])
			}
		default:
			v = uint64(b[i]) | uint64(b[i+1])<<8
		}
		if v&k.exp == k.exp {
			c.bad, c.at = fmt.Sprint(math.Inf(1)), c.n+i/k.size
			if v&k.rest != 0 {
				c.bad = "NaN"
			} else if v&^(k.exp|k.rest) != 0 {
				c.bad = fmt.Sprint(math.Inf(-1))
			}
			return
		}
	}
	c.n += len(b) / k.size
}
