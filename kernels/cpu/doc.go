// Package cpu is the fast backend in host memory: float32, all cores, AVX2 and FMA in Go assembly where the processor
// has them, plain Go elsewhere and with the build tag noasm.
//
// # Products
//
// Every product goes through one kernel, which computes up to 6 rows by 16 columns of C (gemm_amd64.s). B is laid out in
// panels of 16 columns, so that a step of the kernel reads one line; A is read where it lies if its rows are dense, and
// laid out in groups of 6 rows if not. gemm.go cuts C into tiles. A tile packs what it needs into scratch, unless Pack
// has kept the panels: then up to 12 rows read each panel once, from end to end, as decoding wants it.
//
// An element of C is a sum of chains of blockK fused multiply-adds in ascending order. Neither the tiles, nor the
// workers, nor the number of rows in a kernel's hands changes a chain: that is why a row alone has the bits of a row in
// a batch.
//
// Bf16 weights go through the same kernel, which widens a row of a panel with a shift and a mask: the chains, and so the
// bits, are those of float32. Weights that Pack has not seen are turned into panels on the way, which costs one row about
// half its speed.
//
// Int8 weights stay in rows (int8.go): 64 columns of a row and of x are multiplied and summed as integers, then scaled and
// added in float32, in eight lanes. One row of x goes by four rows of the weights, four rows of x by each.
//
// The greedy choice (top.go) looks through int8 scores and their bounds in strips, and computes the logits of the few ids
// that are left as Linear does.
//
// # Attention
//
// Scores of up to 48 rows and 512 keys exist at a time; a row that sees more keys rescales its sums block by block. A key
// that only some rows of a kernel see is added to those alone, so that not even a NaN of an unseen row comes through.
// Attention over ranges takes its keys tile by tile from a list, as if they lay one after the other (attention_ranges.go).
// The backward pass recomputes the probabilities from the kept log-sum-exp.
//
// # Work and memory
//
// A job is cut into numbered parts, which the caller and the helpers of a pool take from a counter (pool.go). Small jobs
// stay on the caller's goroutine. Jobs and scratch come from free lists, so that a step allocates nothing once warm.
// Parts write disjoint memory, and sums over rows are cut by columns, so that their order never changes.
//
// Files: x.go holds the operation, x_amd64.s its assembly, x_amd64.go the stubs, x_noasm.go the way around them. An
// assembly function computes the Go loop that bears its name.
package cpu
