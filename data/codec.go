package data

import (
	"fmt"

	"svae/data/segment"
)

// Tokenizer turns text into token ids and back; svae/data/tokenizer has one. Its methods may be called from several
// goroutines at once.
type Tokenizer interface {
	// Encode returns the ids of text, without begin or end marks.
	Encode(text []byte) []int32
	// EncodeLens returns the ids of text and how many bytes of text each stands for; the lengths sum to len(text).
	EncodeLens(text []byte) (ids, lens []int32)
	// Decode returns the text of ids.
	Decode(ids []int32) []byte
	// Piece returns the bytes of one token as they stand inside a text; nil for a mark such as end of text.
	Piece(id int32) []byte
	// VocabSize is one more than the largest id.
	VocabSize() int
	// BOS, EOS and PAD are the ids of the marks, or -1 where the tokenizer has none.
	BOS() int32
	EOS() int32
	PAD() int32
	// Fingerprint is equal for two tokenizers exactly if they encode every text alike.
	Fingerprint() string
}

// Codec turns text into sentences of ids. It is safe for concurrent use.
type Codec struct {
	tok    Tokenizer
	seg    segment.Config
	pieces [][]byte // (V) the bytes of every token
}

// NewCodec joins a tokenizer and a segmenter. It fails if the segmenter's configuration is not valid.
func NewCodec(tok Tokenizer, seg segment.Config) (*Codec, error) {
	if err := seg.Validate(); err != nil {
		return nil, err
	}
	c := &Codec{tok: tok, seg: seg.Resolved()}
	if c.seg.Name == segment.DefaultName {
		c.pieces = make([][]byte, tok.VocabSize())
		for i := range c.pieces {
			c.pieces[i] = tok.Piece(int32(i))
		}
	}
	return c, nil
}

// Segmenter returns the segmenter's configuration, with no zero left that stands for a default.
func (c *Codec) Segmenter() segment.Config { return c.seg }

// Tokenizer returns the tokenizer.
func (c *Codec) Tokenizer() Tokenizer { return c.tok }

// Split encodes text and cuts it into sentences.
//
//	ids            (N)  token ids of all sentences, one after the other
//	sentenceTokens (S)  tokens of each sentence, at least 1; they sum to N
//	sentenceBytes  (S)  bytes of text each sentence stands for
//
// The bytes sum to len(text), except with the segmenter "reference", which drops text as the paper's code does: what
// follows the last mark, the end of a sentence over MaxTokens, and all beyond MaxSentences. A space that the tokenizer
// puts in front of a document counts no byte.
func (c *Codec) Split(text []byte) (ids, sentenceTokens, sentenceBytes []int32) {
	if c.seg.Name != segment.DefaultName {
		return c.splitReference(text)
	}
	ids, lens := c.tok.EncodeLens(text)
	sentenceTokens = segment.Cut(func(i int) []byte { return c.piece(ids[i]) }, len(ids), c.seg.MinTokens, c.seg.MaxTokens)
	sentenceBytes = make([]int32, len(sentenceTokens))
	at := 0
	for s, n := range sentenceTokens {
		for range n {
			sentenceBytes[s] += lens[at]
			at++
		}
	}
	return ids, sentenceTokens, sentenceBytes
}

func (c *Codec) piece(id int32) []byte {
	if id < 0 || int(id) >= len(c.pieces) {
		return nil
	}
	return c.pieces[id]
}

// splitReference encodes every segment by itself, as the paper's code does.
func (c *Codec) splitReference(text []byte) (ids, sentenceTokens, sentenceBytes []int32) {
	lossless := c.seg.Name == segment.LosslessName
	var segments []string
	if lossless {
		segments = segment.ReferenceLossless(string(text))
	} else {
		segments = segment.Reference(string(text), c.seg.MaxSentences)
	}
	most := c.seg.MaxTokens - 1 // beside the begin mark
	var lost int32              // bytes of segments that gave no token
	for _, s := range segments {
		got, lens := c.tok.EncodeLens([]byte(s))
		if len(got) == 0 {
			lost += int32(len(s))
		}
		for len(got) > 0 {
			n := min(len(got), most)
			ids = append(ids, got[:n]...)
			sentenceTokens = append(sentenceTokens, int32(n))
			bytes := lost
			for _, l := range lens[:n] {
				bytes += l
			}
			sentenceBytes = append(sentenceBytes, bytes)
			lost = 0
			if !lossless {
				break
			}
			got, lens = got[n:], lens[n:]
		}
	}
	if n := len(sentenceBytes); n > 0 {
		sentenceBytes[n-1] += lost
	}
	return ids, sentenceTokens, sentenceBytes
}

// Sentences encodes text and returns the ids of each sentence. The slices share one array.
func (c *Codec) Sentences(text []byte) [][]int32 {
	ids, tokens, _ := c.Split(text)
	out := make([][]int32, len(tokens))
	for s, n := range tokens {
		out[s], ids = ids[:n:n], ids[n:]
	}
	return out
}

// Decode returns the text of ids.
func (c *Codec) Decode(ids []int32) []byte { return c.tok.Decode(ids) }

// Ends says of a stream of ids where its sentences end, as Split does; generation asks it after each token.
type Ends struct {
	c    *Codec
	rule *segment.Rule
	n    int
}

// NewEnds returns an Ends that stands at the beginning of a sentence.
func (c *Codec) NewEnds() *Ends {
	e := &Ends{c: c}
	if c.seg.Name == segment.DefaultName {
		e.rule = segment.NewRule(c.seg.MinTokens, c.seg.MaxTokens)
	}
	return e
}

// Reset goes to the beginning of a sentence.
func (e *Ends) Reset() {
	e.n = 0
	if e.rule != nil {
		e.rule.Reset()
	}
}

// Push takes the next id and reports whether the sentence ends with it. With the reference segmenters a sentence ends
// with the tokenizer's end mark, which the model has to predict, or when MaxTokens are full.
func (e *Ends) Push(id int32) bool {
	if e.rule != nil {
		return e.rule.Push(e.c.piece(id))
	}
	e.n++
	if id == e.c.tok.EOS() || e.n >= e.c.seg.MaxTokens-1 {
		e.n = 0
		return true
	}
	return false
}

// checkTokenizer says whether tok can be used at all.
func checkTokenizer(tok Tokenizer) error {
	if tok == nil {
		return fmt.Errorf("no tokenizer given")
	}
	if v := tok.VocabSize(); v < 1 {
		return fmt.Errorf("tokenizer has a vocabulary of %d", v)
	}
	return nil
}
