// Package kv keeps the keys and values of a sequence as segments, and chooses which of them a step reads.
//
// # Rows and segments
//
// A Store holds, for every layer, rows of keys and values in token order (for a sentence-level model: one row a
// sentence). Nothing is ever evicted. One array of boundaries, shared by all layers and heads, cuts the rows into
// segments: sentences of 16 to 64 rows, short ones joined to the next. Sixteen segments form a paragraph. Each segment and paragraph has, for each key
// head, a summary: the number of rows, the mean key and its variance, the box and the ball around the keys, the mean value.
//
// # Reading
//
// A Policy looks at the summaries and answers with a Selection: ranges of rows for each key head. Attend computes softmax
// attention over exactly these rows, in ascending order, through kernels.Backend's own attention; so ranges that cover all
// rows give the bits of dense attention, whatever tier the rows lie in. A Reader joins the two and, for a bounded budget,
// widens a selection until the certified error is small enough.
//
// # What is kept for how many bytes
//
// Softmax mass of the rows read, mean over the heads of every third layer of SmolLM2-135M-Instruct and 32 positions after
// 4096 tokens of prose, keys and values in float32. All bytes count: rows, indices, and mean values for the estimate of the
// rest, as a share of the bytes of all rows. An index of float32 is what Quest's and the paper's policy keep; the lines
// "index free" give them all the bytes for rows.
//
//	policy                                            5 %     10 %
//	ours (segments of 16 or more, means in bytes)    .795    .859    0.6 % are index, 0.5 % mean values
//	ours, NoRest                                     .803    .863    output further off: .213, .129 against .186, .128
//	paper (segments of 4 or more)                    .723    .774    (4.8 % rather than 5)
//	paper, index free                                .746    .787
//	quest, index free                                .699    .801    (its float32 index alone is 6.2 %)
//
// In a simulation over the same keys, without mean values, where the default has .805 and .863, other choices were worse or
// the same at equal bytes: segments of 8 to 16 rows .796 and .861, with variances in bytes .773 and .857, means and
// variances over 16 rows or more .797 and .862. The rows that truly hold most, found for nothing, hold .877 and .916.
//
// # Long sequences
//
// Over more than Options.FlatLimit segments (2048), ours first ranks paragraphs by their centers, and looks at the segments of
// one of eight, or 128, or of what holds four times the rows it may read. On the keys of SmolLM2-135M extended to 131072 and
// 400000 rows, 1024 rows read keep .690 and .541 of the mass, with this as without it; the bytes looked at fall from 1.38 to
// 0.75 and from 4.03 to 1.27 MB a step.
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
