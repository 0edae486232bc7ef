package checkpoints

import (
	"bytes"
	"io"
	"os"
	"strconv"
	"strings"
	"testing"
)

// resident returns the bytes of mapped files in this process's memory.
func resident(t *testing.T) int {
	t.Helper()
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Skip(err)
	}
	_, rest, ok := strings.Cut(string(b), "RssFile:")
	if !ok {
		t.Skip("the system does not tell how much of its files is resident")
	}
	n, err := strconv.Atoi(strings.Fields(rest)[0])
	if err != nil {
		t.Fatal(err)
	}
	return n << 10
}

// peak is a writer that remembers how much was resident at most.
type peak struct {
	t   *testing.T
	max int
}

func (p *peak) Write(b []byte) (int, error) {
	p.max = max(p.max, resident(p.t))
	return len(b), nil
}

// TestPagesAreGivenBack: a tensor larger than the window that is kept passes through without staying in memory, in its own
// order and converted; a view is given back at its end. The pages come back when the tensor is read again.
func TestPagesAreGivenBack(t *testing.T) {
	const size = 48 << 20
	v := make([]float32, size/4)
	for i := range v {
		v[i] = float32(i % 1021)
	}
	path := put(t, "x", nil)
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := WriteSafetensors(f, []Named{FromFloat32("w", []int{4096, size / 4 / 4096}, v)}, nil); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	x := get(t, open(t, path), "w")
	before := resident(t)
	for name, n := range map[string]Named{"as stored": FromTensor(x), "converted": FromTensor(x).As(F16)} {
		p := &peak{t: t}
		if err := n.Write(p); err != nil {
			t.Fatal(err)
		}
		if grew := p.max - before; grew > 24<<20 {
			t.Errorf("%s: %d MiB of %d were resident", name, grew>>20, size>>20)
		}
	}
	for name, view := range map[string]*Tensor{"halves": x.HalfRows(4), "transposed": x.T()} {
		if err := FromTensor(view).Write(io.Discard); err != nil {
			t.Fatal(err)
		}
		if grew := resident(t) - before; grew > 8<<20 {
			t.Errorf("%s: %d MiB stay resident", name, grew>>20)
		}
	}
	raw, err := x.Raw()
	if err != nil || !bytes.Equal(raw, f32bytes(v)) {
		t.Errorf("the tensor changed, %v", err)
	}
}
