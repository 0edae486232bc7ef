package kerneltest

import (
	"hash/fnv"
	"math"
	"math/rand/v2"

	"svae/kernels"
)

// env makes the operands of one call, each in the middle of a larger buffer whose margins must stay as they are, and
// reads them back. The margins of inputs are NaN, so that a read past the end shows; outputs are NaN before the call,
// so that what is not overwritten shows. Values come from the label of the call: every env of a label gets the same.
type env struct {
	*rand.Rand
	b        kernels.Backend
	shift    int // moves the operands' alignment
	short    int // number of the operand that is made one element too short, counted from 1; 0 for none
	operands []*operand
}

// operand is a buffer of a call. A scalar result is an operand without memory.
type operand struct {
	name   string
	whole  kernels.Buf
	before []float64        // whole, before the call
	at, n  int              // where the operand lies in whole
	kept   bool             // an input
	got    []float64        // after the call
	read   func() []float64 // what whole holds, of narrow weights, which have no whole
	tol    float64
	mag    func() []float64
}

const (
	margin = 8      // elements before the largest shift and after the end
	guard  = 4096.5 // in the margins of outputs; exact in float32
)

func newEnv(b kernels.Backend, label string, shift int) *env {
	h := fnv.New64a()
	h.Write([]byte(label))
	return &env{Rand: rand.New(rand.NewPCG(h.Sum64(), 1)), b: b, shift: shift}
}

// normal returns n standard normal numbers that float32 holds exactly.
func (e *env) normal(n int) []float64 { return e.normals(n, 1) }

// normals returns n normal numbers of a given deviation that float32 holds exactly.
func (e *env) normals(n int, sigma float64) []float64 {
	v := make([]float64, n)
	for i := range v {
		v[i] = round(sigma * e.NormFloat64())
	}
	return v
}

// in makes an input.
func (e *env) in(name string, v []float64) kernels.Buf {
	return e.add(&operand{name: name, kept: true}, v, math.NaN())
}

// out makes an output of n elements. Its error may be tol times mag(), which is evaluated for the measure alone; a nil
// mag stands for the largest magnitude in the output, +Inf for an element that the contract leaves open.
func (e *env) out(name string, n int, tol float64, mag func() []float64) kernels.Buf {
	v := make([]float64, n)
	for i := range v {
		v[i] = math.NaN()
	}
	return e.inout(name, v, tol, mag)
}

// inout makes an output that holds v before the call.
func (e *env) inout(name string, v []float64, tol float64, mag func() []float64) kernels.Buf {
	return e.add(&operand{name: name, tol: tol, mag: mag}, v, guard)
}

// scalar records a result that is not in a buffer.
func (e *env) scalar(name string, x, tol float64, mag func() []float64) {
	e.operands = append(e.operands, &operand{name: name, got: []float64{x}, tol: tol, mag: mag})
}

func (e *env) add(o *operand, v []float64, fill float64) kernels.Buf {
	o.n = len(v)
	o.at = margin + 1 + (e.shift+3*len(e.operands))%7
	o.before = make([]float64, o.at+o.n+margin)
	for i := range o.before {
		o.before[i] = fill
	}
	copy(o.before[o.at:], v)
	o.whole = upload(e.b, o.before)
	e.operands = append(e.operands, o)
	end := o.at + o.n
	if e.short == len(e.operands) {
		end--
	}
	return o.whole.Slice(o.at, end)
}

// finish reads every operand back and reports what the call had no right to touch.
func (e *env) finish(s *suite, label string) {
	s.Helper()
	for _, o := range e.operands {
		if o.before == nil {
			continue
		}
		var after []float64
		if o.read != nil {
			after = o.read()
		} else {
			after = download(e.b, o.whole)
		}
		for i, x := range after {
			inside := o.at <= i && i < o.at+o.n
			if (o.kept || !inside) && !same(x, o.before[i]) {
				s.fail("%s: %s: %s[%d] changed from %v to %v (it has %d elements)", e.b.Name(), label, o.name, i-o.at,
					o.before[i], x, o.n)
				break
			}
		}
		o.got = after[o.at : o.at+o.n]
	}
}

// run makes one call on a backend.
func (s *suite) run(b kernels.Backend, label string, shift int, call func(*env)) *env {
	s.Helper()
	e := newEnv(b, label, shift)
	call(e)
	e.finish(s, label)
	return e
}

// check makes a call on the backend under test, at two alignments, which must give the same bits, and compares what
// comes out with the measure.
func (s *suite) check(label string, call func(*env)) {
	s.Helper()
	got := s.run(s.b, label, 0, call)
	s.sameBits(label+", twice", got, s.run(s.b, label, 4, call))
	want := s.run(s.ref, label, 0, call)
	for k, o := range want.operands {
		if !o.kept {
			s.near(label, o, got.operands[k].got)
		}
	}
}

// near reports the first element of got that is further from the measure than its tolerance.
func (s *suite) near(label string, want *operand, got []float64) {
	s.Helper()
	tol := want.tol
	if s.b.DType() == kernels.F64 {
		tol = tol64
	}
	var mags []float64
	if want.mag != nil {
		mags = want.mag()
	}
	top := 0.0
	for _, x := range want.got {
		if !math.IsInf(x, 0) {
			top = max(top, math.Abs(x))
		}
	}
	for i, x := range want.got {
		mag := top
		if mags != nil {
			mag = mags[i]
		}
		if math.IsInf(mag, 0) || same(x, got[i]) {
			continue
		}
		if d := math.Abs(got[i] - x); !(d <= tol*mag+tiny) {
			s.fail("%s: %s[%d] = %v, want %v: off by %.2g of %.3g, allowed %.2g", label, want.name, i, got[i], x, d/mag, mag,
				tol)
			return
		}
	}
}

// sameBits reports the first output in which two envs differ.
func (s *suite) sameBits(label string, a, b *env) {
	s.Helper()
	for k, o := range a.operands {
		if i := differ(o.got, b.operands[k].got); i >= 0 {
			s.fail("%s: %s[%d] is %v and %v", label, o.name, i, o.got[i], b.operands[k].got[i])
			return
		}
	}
}

// differ returns the first index at which a and b differ in a bit, or -1.
func differ(a, b []float64) int {
	for i := range a {
		if !same(a[i], b[i]) {
			return i
		}
	}
	return -1
}

// same says that x and y are equal to the bit, or both NaN.
func same(x, y float64) bool {
	return math.Float64bits(x) == math.Float64bits(y) || x != x && y != y
}

// upload returns a buffer of the backend that holds v, which float32 holds exactly.
func upload(b kernels.Backend, v []float64) kernels.Buf {
	f := make([]float32, len(v))
	for i, x := range v {
		f[i] = float32(x)
	}
	buf := b.Alloc(len(f))
	b.Upload(buf, f)
	return buf
}

// download returns the elements of a buffer. Backends in float64 are host backends.
func download(b kernels.Backend, buf kernels.Buf) []float64 {
	v := make([]float64, buf.Len())
	if b.DType() == kernels.F64 {
		copy(v, kernels.Host[float64](buf))
		return v
	}
	f := make([]float32, buf.Len())
	b.Download(f, buf)
	for i, x := range f {
		v[i] = float64(x)
	}
	return v
}

// round returns the float32 nearest to x.
func round(x float64) float64 { return float64(float32(x)) }

// rounded returns v with every element rounded to float32.
func rounded(v []float64) []float64 {
	r := make([]float64, len(v))
	for i, x := range v {
		r[i] = round(x)
	}
	return r
}

// abs returns the magnitudes of v, nil for nil.
func abs(v []float64) []float64 {
	if v == nil {
		return nil
	}
	a := make([]float64, len(v))
	for i, x := range v {
		a[i] = math.Abs(x)
	}
	return a
}
