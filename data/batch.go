package data

// Document is one row of a shard: a document as token ids, cut into sentences.
type Document struct {
	ID             string
	IDs            []int32 // (N) token ids of all sentences, one after the other
	SentenceTokens []int32 // (S) tokens of each sentence, at least 1; they sum to N
	SentenceBytes  []int32 // (S) bytes of the source text each sentence stands for
}

// Batch is packed rows without padding: pieces of documents, each a run of whole sentences.
type Batch struct {
	IDs    []int32   // (N) token ids of all sentences, one after the other
	Sent   []int32   // (S+1) first token of each sentence; Sent[S] = N
	Doc    []int32   // (B+1) first sentence of each piece; Doc[B] = S
	Bytes  []int32   // (S) bytes of the source text each sentence stands for
	Begin  []bool    // (B) the piece starts where its document starts
	End    []bool    // (B) the piece ends where its document ends; only then is "stop" a target
	Before [][]int32 // (B) the raw tokens that stand before the piece in its document, at most LoaderConfig.Context; nil at the start
	Names  []string  // (B) document ids
}

// Tokens returns N, the number of tokens.
func (b *Batch) Tokens() int { return len(b.IDs) }

// Sentences returns S, the number of sentences.
func (b *Batch) Sentences() int { return len(b.Bytes) }

// Pieces returns B, the number of pieces.
func (b *Batch) Pieces() int { return len(b.Names) }

// SourceBytes returns the number of bytes of text the batch stands for.
func (b *Batch) SourceBytes() int64 {
	var n int64
	for _, v := range b.Bytes {
		n += int64(v)
	}
	return n
}

// piece is a run of whole sentences of one document.
type piece struct {
	doc      *Document
	from, to int32 // sentences
	at, end  int32 // tokens
}

func (p piece) tokens() int { return int(p.end - p.at) }

// add appends a piece.
func (b *Batch) add(p piece, context int) {
	if len(b.Sent) == 0 {
		b.Sent, b.Doc = append(b.Sent, 0), append(b.Doc, 0)
	}
	at := int32(len(b.IDs))
	b.IDs = append(b.IDs, p.doc.IDs[p.at:p.end]...)
	for _, n := range p.doc.SentenceTokens[p.from:p.to] {
		at += n
		b.Sent = append(b.Sent, at)
	}
	b.Bytes = append(b.Bytes, p.doc.SentenceBytes[p.from:p.to]...)
	b.Doc = append(b.Doc, int32(len(b.Bytes)))
	b.Begin = append(b.Begin, p.from == 0)
	b.End = append(b.End, int(p.to) == len(p.doc.SentenceTokens))
	var before []int32
	if context > 0 && p.at > 0 {
		before = append(before, p.doc.IDs[max(0, int(p.at)-context):p.at]...)
	}
	b.Before = append(b.Before, before)
	b.Names = append(b.Names, p.doc.ID)
}

// cutPieces appends the pieces of doc: at most sentences sentences and tokens tokens each, 0 being no limit. A sentence
// that is over tokens by itself is a piece by itself. If doc does not fit into one piece, the first piece has skip
// fewer sentences, or, where only tokens limits, skip fewer tokens.
func cutPieces(out []piece, doc *Document, sentences, tokens int, skip func(limit int) int) []piece {
	S := len(doc.SentenceTokens)
	maxS, maxT := sentences, tokens
	if maxS <= 0 {
		maxS = S
	}
	if maxT <= 0 {
		maxT = len(doc.IDs)
	}
	p := piece{doc: doc}
	start := len(out)
	limS, limT := maxS, maxT
	if skip != nil && (S > maxS || len(doc.IDs) > maxT) {
		if sentences > 0 {
			limS -= skip(maxS)
		} else {
			limT -= skip(maxT)
		}
	}
	for s, n := range doc.SentenceTokens {
		if p.to > p.from && (int(p.to-p.from) >= limS || p.tokens()+int(n) > limT) {
			out = append(out, p)
			p = piece{doc: doc, from: int32(s), to: int32(s), at: p.end, end: p.end}
			limS, limT = maxS, maxT
		}
		p.to++
		p.end += n
	}
	if p.to > p.from || len(out) == start && S > 0 {
		out = append(out, p)
	}
	return out
}
