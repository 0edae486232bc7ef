// Package bench measures what a policy of package kv costs and what it keeps: time of attention for one token against
// dense attention in the same run, the bytes that it read, and the true softmax mass of the rows that it read.
//
// Keys come from a model: a Sequence holds the keys, values and queries of some layers over a text, extended to any length
// by Extend: sentences again and again in another order, each key turned back by its own position and forward by the new
// one, with noise; and some needles, keys far back that a query of the end looks for. Without a model there is a generator of
// drifting topics, whose mass says little about text.
package bench
