package kerneltest

// Errors allowed in float32, relative to the magnitude that the case states: the sum of the absolute terms where the
// result is a sum. One rounding is 6e-8. A backend in float64 gets tol64 everywhere.
const (
	tolCopy   = 0     // no arithmetic
	tolOne    = 2e-7  // at most three roundings of one element
	tolSum    = 2e-6  // a sum of up to a few thousand terms: roundings walk at random, their root is some 50
	tolAct    = 2e-6  // exp or erf by polynomial, then a few products
	tolNorm   = 3e-6  // two sums over the row, a root, three products
	tolRotary = 4e-7  // sine and cosine rounded once, two products
	tolAttn   = 4e-6  // two sums, exp by polynomial on a rounded score, the softmax sum
	tolXent   = 5e-6  // as attention, over the vocabulary
	tolAdamW  = 1e-6  // some ten roundings an element, and a root
	tolSquare = 1e-12 // summed in float64
	tol64     = 1e-12 // float64: sums in another order than the measure's, no more
	tiny      = 1e-37 // what may be flushed to zero
)
