// Package kernels holds the contract of the fused operations that every model here is written in, and the seam to the
// devices that compute them.
//
// # Layout
//
// Every matrix is row-major and dense. Weights are (out, in), as PyTorch stores them. A batch is N real rows, flat;
// which rows form a sentence or a document is said by offsets. Nothing is padded.
//
// Dimension letters: B pieces, S sentences, T tokens in a sentence, N rows, M rows attended to, D hidden size, H query
// heads, KV key and value heads, K head size, F feed-forward size, V vocabulary, I and O the in and out width of a
// linear map. Sizes come last in an argument list, destinations first.
//
// # Numbers
//
// Values are float32 on every device; the reference backend also runs in float64, for gradient checks. Sums over a row
// of a product accumulate in the value's type, in ascending order of the summed index within blocks whose size depends
// on nothing but that dimension. Sums of losses and of squares accumulate in float64.
//
// Weights may also be bf16 or int8 for inference: weights.go says which operations take them and what comes out. Top
// (top.go) uses an int8 copy of a vocabulary head to find the best token of the float head, exactly.
//
// # Promises of every backend
//
//   - A row's result depends on nothing but that row's inputs (and, in attention, on the rows it may see): adding,
//     removing or changing other rows of the batch leaves it equal to the bit. A path for few rows gives the same bits
//     as the path for many.
//   - The number of threads changes no bit: no sum is split in a way that depends on it.
//   - Gradients marked "overwritten" are written whole; those marked "added to" are accumulated.
//   - Buffers must not overlap unless the operation says that they may.
//   - Wrong sizes are a programmer's mistake and panic with one of the strings of check.go.
//   - Operations on disjoint buffers may run at the same time from several goroutines.
package kernels
