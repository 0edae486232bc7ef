package cpu

import (
	"sync"

	"svae/kernels"
)

var _ kernels.Joint = (*Backend)(nil)

// mostJoint is how many linear maps Linears computes together.
const mostJoint = 3

// joint is several products of the same few rows: its parts are shares of their columns, put one behind the other.
type joint struct {
	floats [mostJoint]*gemm // or
	bytes  [mostJoint]*int8Linear
	at     [mostJoint + 1]int // first column of each
	n      int
	cols   share
}

var joints = sync.Pool{New: func() any { return new(joint) }}

// Linears is kernels.Joint's.
func (b *Backend) Linears(maps []kernels.LinearMap, x kernels.Buf, N, I int) {
	if !b.joins(maps, N, I) {
		for _, m := range maps {
			b.Linear(m.Out, kernels.Buf{}, x, m.W, m.B, kernels.None, N, I, m.O)
		}
		return
	}
	kernels.CheckLen(x, N*I)
	j := joints.Get().(*joint)
	j.n = len(maps)
	bytes := 4 * I
	for i, m := range maps {
		kernels.CheckLen(m.Out, N*m.O)
		kernels.CheckLen(m.W, m.O*I)
		if !m.B.Absent() {
			kernels.CheckLen(m.B, m.O)
		}
		j.at[i+1] = j.at[i] + m.O
		r := result{c: m.Out.F32(), ldc: m.O, bias: m.B.F32()}
		if m.W.DType() == kernels.I8 {
			j.bytes[i], bytes = b.int8Of(r, x.F32(), m.W, N, I, m.O), I
			continue
		}
		if j.floats[i] = b.gemmOf(r, x.F32(), m.W, N, I, m.O); j.floats[i].h != nil {
			bytes = 2 * I
		}
	}
	j.cols.cut(j.at[j.n], rowCols, tileCols, leastWeights/bytes, b.pool.workers)
	var s *scratch
	if first := j.bytes[0]; first != nil {
		s = first.round(b.pool)
		for _, q := range j.bytes[1:j.n] {
			q.xq, q.xs = first.xq, first.xs
		}
	}
	b.pool.do(len(j.cols.ends), j)
	if s != nil {
		s.put()
	}
	j.forget()
}

// joins says that Linears may put maps together: a few rows, and weights of one type that are read once, in whole blocks
// of columns.
func (b *Backend) joins(maps []kernels.LinearMap, N, I int) bool {
	if len(maps) < 2 || len(maps) > mostJoint || N < 1 || N > int8Few || I < 1 {
		return false
	}
	for _, m := range maps {
		dt := m.W.DType()
		if dt != maps[0].W.DType() || m.O < 1 || m.O%rowCols != 0 || dt == kernels.F32 && b.packedOf(m.W, m.O, I).f == nil {
			return false
		}
	}
	return true
}

func (j *joint) run(part int) {
	lo, hi := j.cols.part(part)
	for i := range j.n {
		from, to := max(lo, j.at[i])-j.at[i], min(hi, j.at[i+1])-j.at[i]
		if from >= to {
			continue
		}
		if q := j.bytes[i]; q != nil {
			q.runShare(from, to)
		} else {
			j.floats[i].runShare(from, to)
		}
	}
}

func (j *joint) forget() {
	for i := range j.n {
		if g := j.floats[i]; g != nil {
			*g = gemm{}
			gemms.Put(g)
		} else {
			j.bytes[i].forget()
		}
	}
	*j = joint{cols: share{j.cols.ends[:0]}}
	joints.Put(j)
}
