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

	"svae/checkpoints"
)

// Write writes the target: a folder or file appears whole, under its name, or not at all. progress, which may be nil, is told
// the bytes of weights written so far and in all. When ctx ends, so does Write, and nothing is left.
func (p *Plan) Write(ctx context.Context, progress func(done, total int64)) error {
	if err := p.Writable(); err != nil {
		return err
	}
	checkpoints.RemoveTemp(filepath.Dir(p.Target.Path)) // of conversions that were killed
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

// file writes one file.
func (p *Plan) file(write func(io.Writer) error) error {
	return checkpoints.WriteFile(p.Target.Path, p.Target.Force, write)
}

// Writable refuses a destination whose replacement would lose anything but a model of this program's making, or the source.
func (p *Plan) Writable() error { return p.Target.Writable(p.Source.Weights.Files()...) }

// Writable is [Plan.Writable] before there is a plan: source are the files of weights, as far as they are known.
func (t *Target) Writable(source ...string) error {
	dst := t.Path
	st, err := os.Stat(dst)
	file := t.Format == GGUF || t.Format == Reference
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case !file && !st.IsDir():
		return fmt.Errorf("%s: exists and is a file (give another DST)", dst)
	case file && st.IsDir():
		return fmt.Errorf("%s: exists and is a folder (give another DST)", dst)
	case !t.Force:
		return fmt.Errorf("%s: exists already (--force replaces a model)", dst)
	}
	for _, name := range source {
		if inside, err := holds(dst, st, name); err != nil || inside {
			return errors.Join(err, fmt.Errorf("%s: holds the source %s (give another DST)", dst, name))
		}
	}
	if file {
		return replaceableFile(dst, st)
	}
	es, err := os.ReadDir(dst)
	if err != nil {
		return err
	}
	ours := append([]string{"config.json", checkpoints.ManifestName}, checkpoints.SideFiles...)
	for _, e := range es {
		if !e.Type().IsRegular() || !weightsName.MatchString(e.Name()) && !slices.Contains(ours, e.Name()) {
			return fmt.Errorf("%s: holds %s, which is not a converted model's (give another DST)", dst, e.Name())
		}
	}
	return nil
}

// holds says that a source file is dst itself or lies below it, by whatever names.
func holds(dst string, st os.FileInfo, source string) (bool, error) {
	path, err := filepath.EvalSymlinks(source)
	if err == nil {
		path, err = filepath.Abs(path)
	}
	for err == nil {
		var at os.FileInfo
		if at, err = os.Stat(path); err == nil && os.SameFile(at, st) {
			return true, nil
		}
		up := filepath.Dir(path)
		if up == path {
			break
		}
		path = up
	}
	return false, err
}

// replaceableFile refuses a file that is not of a kind that this program writes.
func replaceableFile(path string, st os.FileInfo) error {
	head := make([]byte, 4)
	if st.Mode().IsRegular() {
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		if _, err := io.ReadFull(f, head); err == nil && (string(head) == "GGUF" || string(head) == "PK\x03\x04") {
			return nil
		}
	}
	return fmt.Errorf("%s: exists and is no model (give another DST)", path)
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
