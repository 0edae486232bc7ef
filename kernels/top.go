package kernels

import "math"

// Top holds the operands of the greedy choice over a vocabulary: for each row of X the id whose logit X·Wᵀ + B is the
// largest, the lowest of equals. The logits are those of Linear over W, to the bit; but few of the rows of W are read:
// those that the int8 copy Q cannot rule out.
//
//	IDs (N)    Scores (N) or absent    X (N, D)    W, Q (V, D)    B (V) or absent    Bounds (2, V)
//
// IDs and Scores, the logits of the IDs, are overwritten. W is float32 or bf16. Bounds come from HeadBounds. Scored is set
// to the number of logits that were computed from W, over all N rows. X should hold no NaN: a row with one costs as much
// as all logits, and its id means nothing.
//
// # Why no row is missed
//
// Let x^ be a row of X as Linear over int8 rounds it and w^ what a row of Q stands for. By Cauchy and Schwarz
//
//	|x·w - x^·w^| = |x·(w-w^) + (x-x^)·w^| <= |x|·|w-w^| + |x-x^|·|w^|
//
// in Euclidean norms; Bounds holds those of the weights, and those of x are computed from x. The logit c of w in float32
// and the int8 score s are each off by their roundings: at most D+1 for c, of sums of absolute terms within |x|·|w|+|B|;
// at most D/64+6 for s, within |x^|·|w^|+|B|; two more where s and its bound are added and compared. With unit 2^-24 all of
// them stay below g·((|x|+|x-x^|)·(|w^|+|w-w^|) + |B|) for g = (D+16)·2^-23, twice what is needed, and what underflow adds
// below (D+64)·2^-148. So each row has a bound e with |c-s| <= e. The largest logit is at least L = max(s-e), and a row
// with s+e < L cannot have it. A row whose s or e is so large that something may overflow is never ruled out.
type Top struct {
	IDs             []int32
	Scores, X, W, B Buf
	Q, Bounds       Buf
	N, D, V         int
	Scored          int
}

// Slack returns the bound of a row of weights as factors of its radius |w-w^|, its norm |w^| and the magnitude of its
// bias, and a constant, for a row of x: s and c differ by at most radius·byRadius + norm·byNorm + |B|·byBias + rest.
func (t *Top) Slack(x, rounded float64) (byRadius, byNorm, byBias, rest float32) {
	const up = 1 + 0x1p-20 // the roundings of these numbers and of their use
	g := float64(t.D+16) * 0x1p-23
	more := g * (x + rounded)
	return float32((x + more) * up), float32((rounded + more) * up), float32(g * up), float32(float64(t.D+64) * 0x1p-148)
}

// Bounds and scores from here on rule nothing out: a sum may overflow. With g >= 2^-19, a bound below TopBound keeps all
// sums below 1e38.
const (
	TopBound = 1e32
	TopScore = 1e38
)

// HeadBounds overwrites the first row of bounds with the radii, the distances of the rows of w from the rows of q that
// stand for them, and the second with the norms of the rows of q, all rounded up.
//
//	bounds (2, V)    w (V, D) float32 or bf16    q (V, D) int8
func HeadBounds(bounds []float32, w, q Buf, V, D int) {
	CheckLen(Of(bounds), 2*V)
	CheckLen(w, V*D)
	CheckLen(q, V*D)
	all, scales := q.Int8(D)
	wide := make([]float32, D)
	for v := range V {
		row := wide
		if w.DType() == BF16 {
			WidenBF16(row, w.BF16()[v*D:(v+1)*D])
		} else {
			row = w.F32()[v*D : (v+1)*D]
		}
		var far, size float64
		for i, x := range row {
			y := float64(scales[v]) * float64(all[v*D+i])
			far += (float64(x) - y) * (float64(x) - y)
			size += y * y
		}
		bounds[v], bounds[V+v] = roundedUp(math.Sqrt(far)), roundedUp(math.Sqrt(size))
	}
}

// RowNorms returns the norm of a row of x, and of what is lost when it is rounded to xq with scales, rounded up.
func RowNorms(x []float32, xq []int16, scales []float32) (norm, lost float64) {
	for i, v := range x {
		e := float64(v) - float64(scales[i/I8Block])*float64(xq[i])
		norm += float64(v) * float64(v)
		lost += e * e
	}
	const up = 1 + 0x1p-30 // of the sums
	return math.Sqrt(norm) * up, math.Sqrt(lost) * up
}

// roundedUp returns a float32 above x, whose own roundings in float64 are far smaller than the difference. NaN gives
// infinity.
func roundedUp(x float64) float32 {
	if x != x {
		return float32(math.Inf(1))
	}
	return math.Nextafter32(float32(x), float32(math.Inf(1)))
}

// CheckTop panics unless every operand has its size and its type.
func CheckTop(t *Top) {
	if len(t.IDs) < t.N {
		panic(ShortIndex)
	}
	if t.V == 0 && t.N > 0 {
		panic(BadTarget)
	}
	CheckLen(t.X, t.N*t.D)
	CheckLen(t.W, t.V*t.D)
	CheckLen(t.Q, t.V*t.D)
	CheckLen(t.Bounds, 2*t.V)
	if t.W.DType() == I8 {
		panic(NarrowWeights)
	}
	if t.Q.DType() != I8 {
		panic(badType)
	}
	if !t.B.Absent() {
		CheckLen(t.B, t.V)
	}
	if !t.Scores.Absent() {
		CheckLen(t.Scores, t.N)
	}
}
