package kernels

// Panic strings of wrong arguments, constant as in gonum/blas.
const (
	badType     = "kernels: buffer of another element type"
	badSlice    = "kernels: slice bounds out of range"
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
