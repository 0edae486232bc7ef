package kernels

// Panic strings of wrong arguments, constant as in gonum/blas.
const (
	badType  = "kernels: buffer of another element type"
	badSlice = "kernels: slice bounds out of range"
	// NarrowWeights says that bf16 or int8 weights met an operation that takes none, a gradient above all.
	NarrowWeights = "kernels: bf16 or int8 weights where float values go (they serve inference; train in float32)"
	badScales     = "kernels: not one scale a row of int8 weights"
	badWidth      = "kernels: int8 weights with rows of another width"

	ShortBuf    = "kernels: buffer too short"
	ShortIndex  = "kernels: index slice too short"
	BadIndex    = "kernels: index out of range"
	BadSpans    = "kernels: spans out of order or out of range"
	BadHeads    = "kernels: query heads are not a multiple of key heads"
	BadHeadSize = "kernels: odd head size in rotary"
	BadTarget   = "kernels: target out of range"
)

// CheckLen panics unless b holds at least n elements.
func CheckLen(b Buf, n int) {
	if b.n < n {
		panic(ShortBuf)
	}
}

// CheckSpans panics unless sp is in order and lies inside n query rows and m key rows.
func CheckSpans(sp *Spans, n, m int) {
	s := len(sp.KLo)
	if len(sp.Q) != s+1 || len(sp.KHi) != s || sp.Q[0] != 0 || int(sp.Q[s]) != n {
		panic(BadSpans)
	}
	for i := range s {
		q, k := sp.Q[i+1]-sp.Q[i], sp.KHi[i]-sp.KLo[i]
		if q < 0 || k < 0 || sp.KLo[i] < 0 || int(sp.KHi[i]) > m || sp.Causal && k < q {
			panic(BadSpans)
		}
	}
}

// CheckRanges panics unless the operands have their sizes and every range lies inside the key rows.
func CheckRanges(a *Ranges) {
	if a.KV <= 0 || a.H%a.KV != 0 {
		panic(BadHeads)
	}
	n := a.N * a.KV
	if len(a.At) < n+1 {
		panic(ShortIndex)
	}
	for i, at := range a.At[:n+1] {
		if at < 0 || i > 0 && at < a.At[i-1] {
			panic(BadSpans)
		}
	}
	last := int(a.At[n])
	if len(a.Lo) < last || len(a.Hi) < last {
		panic(ShortIndex)
	}
	for i := int(a.At[0]); i < last; i++ {
		if lo, hi := a.Lo[i], a.Hi[i]; lo < 0 || hi < lo || int(hi) > a.M {
			panic(BadSpans)
		}
	}
	CheckLen(a.Q, a.N*a.H*a.HeadDim)
	CheckLen(a.Out, a.N*a.H*a.HeadDim)
	CheckLen(a.K, a.M*a.KV*a.HeadDim)
	CheckLen(a.V, a.M*a.KV*a.HeadDim)
	if !a.Lse.Absent() {
		CheckLen(a.Lse, a.N*a.H)
	}
}
