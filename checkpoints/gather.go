package checkpoints

import (
	"encoding/binary"
	"slices"
)

// An axis is a dimension of a view. It has n steps, each stride units apart. When at is not nil, step i lies at[i] units from
// the first instead. A unit is an element, or a block of a type that stores blocks.
type axis struct {
	n, stride int
	at        []int
}

// step returns how far step i lies from the first.
func (a axis) step(i int) int {
	if a.at != nil {
		return a.at[i]
	}
	return i * a.stride
}

// run reports whether the steps are neighbours.
func (a axis) run() bool { return a.at == nil && a.stride == 1 }

// joined drops dimensions of one step and joins neighbours without a gap. It returns nil when nothing but one run is left.
func joined(dims []axis) []axis {
	var view []axis
	for _, d := range dims {
		if d.n == 1 {
			continue
		}
		d = even(d)
		if k := len(view) - 1; k >= 0 && d.at == nil && view[k].at == nil && d.stride > 0 && view[k].stride == d.n*d.stride {
			view[k] = axis{n: view[k].n * d.n, stride: d.stride}
			continue
		}
		view = append(view, d)
	}
	if len(view) == 0 || len(view) == 1 && view[0].run() {
		return nil
	}
	return view
}

// even returns the axis without a list when its steps are equal.
func even(a axis) axis {
	if a.at == nil {
		return a
	}
	stride := a.at[1]
	for i, p := range a.at {
		if p != i*stride {
			return a
		}
	}
	return axis{n: a.n, stride: stride}
}

// dims returns one axis for each dimension of the shape: what joined made of them, taken apart again.
func (t *Tensor) dims() []axis {
	dims := make([]axis, len(t.Shape))
	for i, n := range t.Shape {
		dims[i].n = n
	}
	if k := len(dims) - 1; k >= 0 {
		elements, _ := t.DType.Block()
		dims[k].n /= elements
	}
	view := t.view
	if view == nil {
		view = []axis{{n: max(t.Len(), 1), stride: 1}}
	}
	k := len(view) - 1
	rest := view[k]
	for i := len(dims) - 1; i >= 0; i-- {
		n := dims[i].n
		if n == 1 {
			continue
		}
		if rest.n == 1 && k > 0 {
			k--
			rest = view[k]
		}
		dims[i].stride, dims[i].at = rest.stride, rest.at
		rest.stride *= n
		rest.n = max(rest.n/max(n, 1), 1)
	}
	return dims
}

// span returns where in the storage the units of a view lie, in bytes. The first of them need not be the lowest.
func (t *Tensor) span() (lo, hi int) {
	for _, a := range t.view {
		least, most := 0, a.step(a.n-1)
		if a.at != nil {
			least, most = slices.Min(a.at), slices.Max(a.at)
		}
		lo, hi = lo+min(least, most), hi+max(least, most)
	}
	_, size := t.DType.Block()
	return t.start + lo*size, t.start + (hi+1)*size
}

// gather hands the units of a view to emit in row-major order, some thousand at a time.
func (t *Tensor) gather(emit func([]byte) error) error {
	_, size := t.DType.Block()
	g := &gatherer{storage: t.storage, size: size, emit: emit}
	outer, inner := t.view[:len(t.view)-1], t.view[len(t.view)-1:]
	line := g.line
	if n := len(outer); n > 0 && outer[n-1].run() && inner[0].at == nil && (size == 2 || size == 4) {
		outer, inner, line = outer[:n-1], t.view[n-1:], g.transpose
	} else {
		g.buf = make([]byte, 0, max(1<<16/size, 1)*size)
	}
	index := make([]int, len(outer))
	at := t.start
	for {
		if err := line(at, inner); err != nil {
			return err
		}
		d := len(outer) - 1
		for ; d >= 0; d-- {
			at -= outer[d].step(index[d]) * size
			if index[d]++; index[d] < outer[d].n {
				at += outer[d].step(index[d]) * size
				break
			}
			index[d] = 0
		}
		if d < 0 {
			return g.flush()
		}
	}
}

// A gatherer collects units of size bytes.
type gatherer struct {
	storage []byte
	size    int
	emit    func([]byte) error
	buf     []byte // what is to be emitted
	tile    []byte // of transpose
}

func (g *gatherer) flush() error {
	if len(g.buf) == 0 {
		return nil
	}
	err := g.emit(g.buf)
	g.buf = g.buf[:0]
	return err
}

// line takes the units of the innermost axis, the first of which lies at byte p.
func (g *gatherer) line(p int, inner []axis) error {
	a := inner[0]
	if a.run() {
		b := g.storage[p : p+a.n*g.size]
		if len(b) >= cap(g.buf) { // as it is
			if err := g.flush(); err != nil {
				return err
			}
			return g.emit(b)
		}
		if len(b) > cap(g.buf)-len(g.buf) {
			if err := g.flush(); err != nil {
				return err
			}
		}
		g.buf = append(g.buf, b...)
		return nil
	}
	for i := range a.n {
		if len(g.buf) == cap(g.buf) {
			if err := g.flush(); err != nil {
				return err
			}
		}
		q := p + a.step(i)*g.size
		g.buf = append(g.buf, g.storage[q:q+g.size]...)
	}
	return nil
}

// transpose takes a matrix whose second axis is the one that lies far apart in the file, some columns of the file at a time,
// so that each of its cache lines is fetched once.
func (g *gatherer) transpose(p int, axes []axis) error {
	const limit = 4 << 20 // bytes of columns together
	cols, rows := axes[0], axes[1]
	line := rows.n * g.size
	pitch := line // from one column to the next in the tile
	if line >= 1<<12 {
		pitch = (line+63)/64*64 | 64 // an odd number of cache lines: powers of two would compete for the same few places
	}
	width := min(cols.n, max(limit/pitch, 1), 64)
	if g.tile == nil {
		g.tile = make([]byte, width*pitch)
	}
	tile := g.tile
	for c := 0; c < cols.n; c += width {
		w := min(width, cols.n-c)
		for r := range rows.n {
			q := p + (c+r*rows.stride)*g.size
			if src, dst := g.storage[q:q+w*g.size], tile[r*g.size:]; g.size == 2 {
				spread16(dst, src, pitch)
			} else {
				spread32(dst, src, pitch)
			}
		}
		if pitch == line {
			if err := g.emit(tile[:w*line]); err != nil {
				return err
			}
			continue
		}
		for i := range w {
			if err := g.emit(tile[i*pitch : i*pitch+line]); err != nil {
				return err
			}
		}
	}
	return nil
}

// spread16 writes the elements of src, of two bytes each, pitch bytes apart.
func spread16(dst, src []byte, pitch int) {
	for at := 0; len(src) >= 2; at += pitch {
		binary.LittleEndian.PutUint16(dst[at:], binary.LittleEndian.Uint16(src))
		src = src[2:]
	}
}

// spread32 is spread16 of four bytes each.
func spread32(dst, src []byte, pitch int) {
	for at := 0; len(src) >= 4; at += pitch {
		binary.LittleEndian.PutUint32(dst[at:], binary.LittleEndian.Uint32(src))
		src = src[4:]
	}
}
