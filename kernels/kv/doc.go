// Package kv keeps the keys and values of a sequence as segments, and chooses which of them a step reads.
//
// # Rows and segments
//
// A Store holds, for every layer, rows of keys and values in token order (for a sentence-level model: one row a
// sentence). Nothing is ever evicted. One array of boundaries, shared by all layers and heads, cuts the rows into
// segments: sentences of 4 to 64 rows. Sixteen segments form a paragraph. Each segment and paragraph has, for each key
// head, a summary: the number of rows, the mean key and its variance, the box and the ball around the keys, the mean value.
//
// # Reading
//
// A Policy looks at the summaries and answers with a Selection: ranges of rows for each key head. Attend computes softmax
// attention over exactly these rows, in ascending order, through kernels.Backend's own attention; so ranges that cover all
// rows give the bits of dense attention, whatever tier the rows lie in. A Reader joins the two and, for a bounded budget,
// widens a selection until the certified error is small enough.
//
// # Memory
//
// Rows are kept in blocks of 64 rows of one layer and head, which never change once full: forks, prefixes and saved
// sequences share them by reference counts. The rows after the last full block are private float32. A Pool bounds the
// bytes of blocks in RAM; the least recently used ones go to a file and come back by explicit reads. Copies of the few
// scattered rows that every step reads stay in RAM beside (Stats.HotBytes).
//
// Dimension letters are those of package kernels: N rows, M rows attended to, H query heads, KV key heads, K head size.
// Additional ones: G = H/KV query heads of a key head, S segments, P paragraphs.
package kv
