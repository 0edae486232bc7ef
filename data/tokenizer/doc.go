// Package tokenizer turns text into token ids and back, as the Hugging Face `tokenizers` library does for two families:
//
//   - byte-level BPE (GPT-2, OPT, Llama 3, Qwen 2 and 3): the text is cut into words by one of three known patterns, and
//     the bytes of each word are merged by rank (Sennrich et al. 2016; Radford et al. 2019, §2.2);
//   - SentencePiece-style BPE (Llama 2): a space is put in front, the whole text is one word, characters are merged by
//     rank, and a character without a token of its own becomes the tokens of its bytes.
//
// The patterns are scanned by hand-written code in linear time; no regular expression runs. A tokenizer whose pattern,
// normalizer or model is not one of these is refused by name at load.
//
// Tokenizers come from a Hugging Face folder, from a SentencePiece model (FromSentencePiece), from the header of a GGUF file
// (FromGGUF; GGUF writes one) and from llama2.c (FromLlama2C). The last three are turned into the tokenizer.json that encodes
// alike, so that one path leads to all tables, and what was read can be saved for other programs. What such a file could say and a
// tokenizer.json could not is refused by name.
//
// Encoding loses nothing: Decode(Encode(x)) is x for any bytes, also for bytes that are not UTF-8. There are these exceptions. A
// tokenizer with the NFC normalizer (Qwen) gives NFC(x), by the tables of the Hugging Face library, which are those of Unicode 9:
// younger marks stay where they are; invalid UTF-8 inside x is kept as it is. A SentencePiece tokenizer without byte fallback
// turns unknown characters into its unknown token, and one that removes extra white space does so. An added token with lstrip or
// rstrip swallows the white space beside it. A byte-level vocabulary without a token for some control characters (SmolLM's) drops
// those.
//
// Ids equal those of the Hugging Face library (0.23.3) except where its rule would lose text. Under add_prefix_space, or
// Metaspace, text that begins with a space gets the dummy space all the same (as SentencePiece does; the library leaves it out).
// With byte fallback a literal U+2581 is written as its three bytes (the library makes it a space). TestHardStrings compares
// over 11,000 texts, and counts those that differ for these two reasons.
package tokenizer

// Limits on what is read. Memory in use stays within a small multiple of the file sizes, plus about 6 bytes for each id up
// to the highest, plus at most about 25 MB for the word cache. Encoding takes time in proportion to the text (times the logarithm
// of the length of its longest word) and at most about 40 bytes for each byte of the text and its longest word.
const (
	maxFile  = 512 << 20 // bytes of one source file
	maxID    = 1 << 24   // highest token id
	maxGap   = 1 << 16   // ids that no token has, beyond four times the number of tokens
	maxAdded = 4096      // bytes of one added token
	maxWord  = 1 << 28   // bytes merged as one word; a longer word is cut here
)
