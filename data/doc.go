// Package data turns text into shards of token ids and shards into training batches.
//
// Build reads JSONL and plain text, packed or not, tokenises every document, cuts it into sentences and writes a data
// set: a folder of Arrow IPC files part-NNNNN.arrow and, last, a dataset.json with their counts and checksums. Open opens
// one, Dataset.Documents reads it in order, and a Loader deals it out as batches.
//
// A shard has one row for each document:
//
//	id              utf8         the document's name
//	ids             list<int32>  (N) token ids of all sentences, one after the other
//	sentence_tokens list<int32>  (S) tokens of each sentence, at least 1; they sum to N
//	sentence_bytes  list<int32>  (S) bytes of the source text each sentence stands for
//
// Its schema's metadata holds the fingerprints of the tokenizer, the segmenter and the source. There are no dictionary
// columns, and no document is ever split between rows. The files can be read by any Arrow implementation; this package
// compares the checksum of every part before it looks into it, so that a changed byte is an error and never other data.
//
// Batches hold packed rows: sentences of any length one behind the other, and the offsets at which they begin. Nothing is
// padded. The order is a function of a seed and the epoch, and a Position of three numbers says where a run stands, so that
// a run that was interrupted sees exactly the batches it would have seen.
//
// A Codec does the same for text that comes in while a model runs.
package data
