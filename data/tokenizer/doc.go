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
// Encoding loses nothing: Decode(Encode(x)) is x for any bytes, also for bytes that are not UTF-8. There are three
// exceptions. A tokenizer with the NFC normalizer (Qwen) gives NFC(x); invalid UTF-8 inside x is kept as it is. A
// SentencePiece tokenizer without byte fallback turns unknown characters into its unknown token. An added token with lstrip
// or rstrip swallows the white space beside it.
//
// Ids equal those of the Hugging Face library except where its rule would lose text. Under add_prefix_space, or Metaspace,
// text that begins with a space gets the dummy space all the same (as SentencePiece does; the library leaves it
// out). With byte fallback a literal U+2581 is written as its three bytes (the library makes it a space). The library's NFC
// follows older Unicode tables, so a few combining marks added since (such as U+1DF6) are ordered otherwise there.
package tokenizer

// Limits on what is read. Memory in use stays within a small multiple of the file sizes, plus about 6 bytes for each id up
// to the highest, plus at most about 25 MB for the word cache.
const (
	maxFile  = 512 << 20 // bytes of one source file
	maxID    = 1 << 24   // highest token id
	maxAdded = 4096      // bytes of one added token
	maxWord  = 1 << 28   // bytes merged as one word; a longer word is cut here
)
