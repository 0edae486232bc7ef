package cpu

import (
	"math"
	"sync"

	"svae/kernels"
	"svae/kernels/ref"
)

// elementPart is how many elements of a vector a part of a job takes, a multiple of the vector width.
const elementPart = 1 << 14

// elements is an element-wise job: f does elements lo to hi-1.
type elements struct {
	f             func(e *elements, lo, hi int)
	a, b, c, d, e []float32 // outputs first
	n             int
	alpha         float32
	sigma         float64
	seed, least   uint64
	adam          adam
	sums          []float64
}

var elementJobs = sync.Pool{New: func() any { return new(elements) }}

func (e *elements) run(part int) { e.f(e, part*elementPart, min((part+1)*elementPart, e.n)) }

// start returns a job over n elements, all of whose vectors must be as long.
func start(n int, f func(e *elements, lo, hi int), xs ...kernels.Buf) *elements {
	e := elementJobs.Get().(*elements)
	for _, x := range xs {
		kernels.CheckLen(x, n)
	}
	e.f, e.n = f, n
	for i, p := range [...]*[]float32{&e.a, &e.b, &e.c, &e.d, &e.e} {
		if i < len(xs) {
			*p = xs[i].F32()
		}
	}
	return e
}

// do runs the job and forgets it.
func (e *elements) do(p *pool) {
	p.do((e.n+elementPart-1)/elementPart, e)
	*e = elements{sums: e.sums[:0]}
	elementJobs.Put(e)
}

// Upload is kernels.Backend's.
func (b *Backend) Upload(dst kernels.Buf, src []float32) { b.Copy(dst, kernels.Of(src)) }

// Download is kernels.Backend's.
func (b *Backend) Download(dst []float32, src kernels.Buf) {
	kernels.CheckLen(src, len(dst))
	b.Copy(kernels.Of(dst), src.Slice(0, len(dst)))
}

// Zero is kernels.Backend's.
func (b *Backend) Zero(x kernels.Buf) {
	start(x.Len(), func(e *elements, lo, hi int) { clear(e.a[lo:hi]) }, x).do(b.pool)
}

// Copy is kernels.Backend's.
func (b *Backend) Copy(dst, src kernels.Buf) {
	start(src.Len(), func(e *elements, lo, hi int) { copy(e.a[lo:hi], e.b[lo:hi]) }, dst, src).do(b.pool)
}

// Add is kernels.Backend's.
func (b *Backend) Add(out, x, y kernels.Buf, n int) {
	start(n, func(e *elements, lo, hi int) { add(e.a[lo:hi], e.b[lo:hi], e.c[lo:hi]) }, out, x, y).do(b.pool)
}

// AddScaled is kernels.Backend's.
func (b *Backend) AddScaled(y kernels.Buf, alpha float64, x kernels.Buf, n int) {
	e := start(n, func(e *elements, lo, hi int) { mulAdd(e.a[lo:hi], e.b[lo:hi], e.alpha) }, y, x)
	e.alpha = float32(alpha)
	e.do(b.pool)
}

// Scale is kernels.Backend's.
func (b *Backend) Scale(y kernels.Buf, alpha float64, x kernels.Buf, n int) {
	e := start(n, func(e *elements, lo, hi int) { scale(e.a[lo:hi], e.b[lo:hi], e.alpha) }, y, x)
	e.alpha = float32(alpha)
	e.do(b.pool)
}

// ActBackward is kernels.Backend's.
func (b *Backend) ActBackward(dPre, dOut, saved kernels.Buf, act kernels.Act, n int) {
	switch act {
	case kernels.ReLU:
		start(n, func(e *elements, lo, hi int) { reluBack(e.a[lo:hi], e.b[lo:hi], e.c[lo:hi]) }, dPre, dOut, saved).do(b.pool)
	case kernels.GELU:
		start(n, func(e *elements, lo, hi int) { geluBack(e.a[lo:hi], e.b[lo:hi], e.c[lo:hi]) }, dPre, dOut, saved).do(b.pool)
	case kernels.GELUTanh:
		start(n, func(e *elements, lo, hi int) { geluTanhBack(e.a[lo:hi], e.b[lo:hi], e.c[lo:hi]) }, dPre, dOut, saved).do(b.pool)
	default:
		start(n, func(e *elements, lo, hi int) { copy(e.a[lo:hi], e.b[lo:hi]) }, dPre, dOut).do(b.pool)
	}
}

// SwiGLU is kernels.Backend's.
func (b *Backend) SwiGLU(out, gate, up kernels.Buf, n int) {
	start(n, func(e *elements, lo, hi int) { swiglu(e.a[lo:hi], e.b[lo:hi], e.c[lo:hi]) }, out, gate, up).do(b.pool)
}

// SwiGLUBackward is kernels.Backend's.
func (b *Backend) SwiGLUBackward(dGate, dUp, dOut, gate, up kernels.Buf, n int) {
	start(n, func(e *elements, lo, hi int) {
		swigluBack(e.a[lo:hi], e.b[lo:hi], e.c[lo:hi], e.d[lo:hi], e.e[lo:hi])
	}, dGate, dUp, dOut, gate, up).do(b.pool)
}

// GeGLU is kernels.Backend's.
func (b *Backend) GeGLU(out, gate, up kernels.Buf, n int) {
	start(n, func(e *elements, lo, hi int) { geglu(e.a[lo:hi], e.b[lo:hi], e.c[lo:hi]) }, out, gate, up).do(b.pool)
}

// GeGLUBackward is kernels.Backend's.
func (b *Backend) GeGLUBackward(dGate, dUp, dOut, gate, up kernels.Buf, n int) {
	start(n, func(e *elements, lo, hi int) {
		gegluBack(e.a[lo:hi], e.b[lo:hi], e.c[lo:hi], e.d[lo:hi], e.e[lo:hi])
	}, dGate, dUp, dOut, gate, up).do(b.pool)
}

// Dropout is kernels.Backend's; which elements it keeps is ref.Dropout's choice.
func (b *Backend) Dropout(out, x kernels.Buf, p float64, seed uint64, n int) {
	e := start(n, (*elements).drop, out, x)
	e.alpha = float32(1 / (1 - p))
	// Element i is kept if output i of SplitMix64, shifted right by 11 bits, is no less than p·2⁵³.
	e.seed, e.least = mix(seed), uint64(math.Ceil(p*(1<<53)))
	e.do(b.pool)
}

func (e *elements) drop(lo, hi int) {
	state := e.seed + uint64(lo)*golden
	for i, v := range e.b[lo:hi] {
		state += golden
		v *= e.alpha
		if mix(state)>>11 < e.least {
			v = 0
		}
		e.a[lo+i] = v
	}
}

const golden = 0x9e3779b97f4a7c15 // the increment of SplitMix64 (Steele et al. 2014)

// mix is the finalizer of SplitMix64.
func mix(z uint64) uint64 {
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

// Noise is kernels.Backend's; its numbers are ref.Noise's.
func (b *Backend) Noise(out, x kernels.Buf, sigma float64, seed uint64, n int) {
	e := start(n, func(e *elements, lo, hi int) {
		for i := lo; i < hi; i++ {
			e.a[i] = e.b[i] + float32(e.sigma*ref.Normal(e.seed, i))
		}
	}, out, x)
	e.sigma, e.seed = sigma, seed
	e.do(b.pool)
}

// AdamW is kernels.Backend's.
func (b *Backend) AdamW(w, m, v, g kernels.Buf, p kernels.AdamW, n int) {
	e := start(n, func(e *elements, lo, hi int) { adamw(e.a[lo:hi], e.b[lo:hi], e.c[lo:hi], e.d[lo:hi], &e.adam) }, w, m, v, g)
	step := float64(p.Step)
	e.adam = adam{
		scale: float32(p.GradScale), decay: float32(1 - p.LR*p.WeightDecay), eps: float32(p.Eps),
		b1: float32(p.Beta1), c1: float32(1 - p.Beta1), b2: float32(p.Beta2), c2: float32(1 - p.Beta2),
		step: float32(p.LR / (1 - math.Pow(p.Beta1, step))), root: float32(1 / math.Sqrt(1-math.Pow(p.Beta2, step))),
	}
	e.do(b.pool)
}

// SumSquares is kernels.Backend's. The parts are added in order.
func (b *Backend) SumSquares(x kernels.Buf, n int) (sum float64) {
	e := start(n, func(e *elements, lo, hi int) { e.sums[lo/elementPart] = sumSquares(e.a[lo:hi]) }, x)
	parts := (n + elementPart - 1) / elementPart
	if cap(e.sums) < parts {
		e.sums = make([]float64, parts)
	}
	e.sums = e.sums[:parts]
	b.pool.do(parts, e)
	for _, s := range e.sums {
		sum += s
	}
	*e = elements{sums: e.sums[:0]}
	elementJobs.Put(e)
	return sum
}
