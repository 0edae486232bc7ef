package kv

// table is a growing matrix of float32 that forks share. Entries below frozen may be those of another table too: they
// are copied before one of them is changed.
type table struct {
	f             []float32
	width, frozen int
}

func (t *table) rows() int { return len(t.f) / t.width }

// row returns entry i to read.
func (t *table) row(i int) []float32 { return t.f[i*t.width : (i+1)*t.width] }

// set returns entry i to write, which may be the one after the last.
func (t *table) set(i int) []float32 {
	if i < t.frozen {
		t.f, t.frozen = append([]float32(nil), t.f...), 0
	}
	if n := (i + 1) * t.width; n > len(t.f) {
		t.f = append(t.f, make([]float32, n-len(t.f))...)
	}
	return t.row(i)
}

// truncate drops entries from n on.
func (t *table) truncate(n int) {
	if n < t.rows() {
		t.f = t.f[:n*t.width]
	}
}

// fork returns a table of the same entries. What either grows by, the other does not see.
func (t *table) fork() table {
	t.frozen = max(t.frozen, t.rows())
	c := *t
	c.f = c.f[:len(c.f):len(c.f)]
	return c
}
