package train

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"slices"

	"svae/data"
	"svae/kernels/op"
	"svae/sllm"
)

// EvalConfig says how a model is scored. Models that are compared must be scored with the same values on the same data:
// they then see the same bytes in the same pieces, each piece from a cold start.
type EvalConfig struct {
	Sentences   int // most sentences of a piece; 0: whole documents
	PieceTokens int // most tokens of a piece; 0: no limit
	// Truncate scores only the first PieceTokens tokens of each document, and no end, as some published perplexities of
	// token-level models do. TokenBytes then says how many bytes a token stands for.
	Truncate    bool
	TokenBytes  func(id int32) int
	BatchTokens int          // most tokens of a packed batch; changes only what shuffled latents and MaxBytes take
	MaxBytes    int64        // stop after this many bytes; 0: all
	Latents     sllm.Latents // plans given to a sentence-level model's decoder
	Seed        uint64       // of the bootstrap
	// Progress, if given, is told after each batch how many bytes of text are behind, and of how many.
	Progress func(done, total int64)
}

// total returns how many bytes of a data set are scored, at most.
func (c *EvalConfig) total(ds *data.Dataset) int64 {
	if n := ds.Meta().Bytes; c.MaxBytes == 0 || n < c.MaxBytes {
		return n
	}
	return c.MaxBytes
}

// Result is a model's score. The headline is bits per byte: everything that the model needs to reproduce the text, over
// the bytes of the text.
type Result struct {
	Model     string  `json:"model"`
	Kind      string  `json:"kind"`
	Latents   string  `json:"latents,omitempty"`
	Documents int     `json:"documents"`
	Pieces    int     `json:"pieces"`
	Sentences int     `json:"sentences"`
	Tokens    int     `json:"tokens"` // of the text, scored; the divisor of both perplexities
	Bytes     int64   `json:"bytes"`
	Nats      Nats    `json:"nats"`
	BPB       float64 `json:"bits_per_byte"`
	Low       float64 `json:"bits_per_byte_low"` // 95 % interval, bootstrap over documents (test noise only)
	High      float64 `json:"bits_per_byte_high"`
	BPBEnds   float64 `json:"bits_per_byte_ends"`  // of which: end marks
	BPBStops  float64 `json:"bits_per_byte_stops"` // of which: stop flags
	PPL       float64 `json:"ppl"`                 // exp(all nats / tokens)
	TokenPPL  float64 `json:"token_ppl"`           // exp(nats of the text's tokens / tokens)
	MacroPPL  float64 `json:"ppl_mean_of_pieces"`  // exp(mean over pieces of nats/token), as some papers average
	Accuracy  float64 `json:"token_accuracy,omitempty"`
}

// pieceCost is what a piece, or a document, cost.
type pieceCost struct {
	nats   float64
	bytes  int64
	tokens int
}

// batches calls f with the pieces of a data set in order, packed.
func batches(ctx context.Context, ds *data.Dataset, c EvalConfig, context int, f func(*data.Batch) error) error {
	lc := data.LoaderConfig{Sentences: c.Sentences, Tokens: c.PieceTokens, BatchTokens: c.BatchTokens, Context: context, Epochs: 1}
	if c.Truncate {
		lc.Sentences, lc.Tokens = 0, 0
	}
	l, err := data.NewLoader(ds, lc, data.Position{})
	if err != nil {
		return err
	}
	defer l.Close()
	total := c.total(ds)
	for seen, done := int64(0), int64(0); c.MaxBytes == 0 || seen < c.MaxBytes; {
		if err := ctx.Err(); err != nil {
			return err
		}
		b, err := l.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err == nil {
			done += b.SourceBytes()
			if c.Truncate {
				b = c.heads(b)
			}
			err = f(b)
			seen += b.SourceBytes()
		}
		if err != nil {
			return err
		}
		if c.Progress != nil {
			c.Progress(min(done, total), total)
		}
	}
	return nil
}

// heads cuts every document of a batch after PieceTokens tokens.
func (c *EvalConfig) heads(b *data.Batch) *data.Batch {
	out := &data.Batch{Sent: []int32{0}, Doc: []int32{0}}
	for p := range b.Pieces() {
		left := c.PieceTokens
		for s := b.Doc[p]; s < b.Doc[p+1] && left > 0; s++ {
			ids, bytes := b.IDs[b.Sent[s]:b.Sent[s+1]], b.Bytes[s]
			if len(ids) > left {
				ids, bytes = ids[:left], 0
				for _, id := range ids {
					bytes += int32(c.TokenBytes(id))
				}
			}
			left -= len(ids)
			out.IDs, out.Bytes = append(out.IDs, ids...), append(out.Bytes, bytes)
			out.Sent = append(out.Sent, int32(len(out.IDs)))
		}
		out.Doc = append(out.Doc, int32(len(out.Sent)-1))
		out.Begin, out.End = append(out.Begin, true), append(out.End, false)
		out.Before, out.Names = append(out.Before, nil), append(out.Names, b.Names[p])
	}
	return out
}

// Eval scores a model on a data set.
func Eval(ctx context.Context, f *sllm.Folder, ds *data.Dataset, c EvalConfig) (Result, error) {
	m := &model{folder: f}
	e := op.NewEager(f.Store.Backend())
	m.vae.Dec.Targets.Best, m.lm.Targets.Best, m.sllm.Dec.Targets.Best = true, true, true
	forward := m.eager()
	s := &scorer{cfg: c}
	s.res = Result{Model: f.Path, Kind: string(f.Kind)}
	switch f.Kind {
	case sllm.KindSLLM:
		s.res.Latents = latentNames[c.Latents]
	case sllm.KindVAE:
		s.res.Latents = Own
	}
	f.Store.Pack()
	defer f.Store.Unpack()
	err := batches(ctx, ds, c, m.context(), func(b *data.Batch) error {
		if err := m.set(b, c.Latents); err != nil {
			return err
		}
		e.Reset()
		forward(e)
		if err := e.Err(); err != nil {
			return err
		}
		pieces, _ := m.cost(b)
		if f.Kind == sllm.KindLM && f.LM.BOS < 0 { // nothing predicts a piece's first token: it costs a uniform guess
			for p := range pieces {
				pieces[p].Tokens += math.Log(float64(f.LM.VocabSize))
			}
		}
		s.add(b, pieces)
		s.hits(m)
		return nil
	})
	if err != nil {
		return s.res, err
	}
	return s.finish()
}

// Own is what Result.Latents says of an autoencoder: its decoder is given the latents of the sentence itself.
const Own = "own"

var latentNames = map[sllm.Latents]string{sllm.Real: "real", sllm.None: "none", sllm.Shuffled: "shuffled"}

// ParseLatents reads the name of a kind of plan.
func ParseLatents(name string) (sllm.Latents, error) {
	for l, n := range latentNames {
		if n == name {
			return l, nil
		}
	}
	return 0, fmt.Errorf("latents %q is not known (use real, none or shuffled)", name)
}

// scorer adds up the cost of pieces.
type scorer struct {
	cfg             EvalConfig
	res             Result
	pieces          []pieceCost
	documents       []pieceCost
	right, predicts int
}

func (s *scorer) add(b *data.Batch, cost []Nats) {
	r := &s.res
	for p, n := range cost {
		var bytes int64
		for _, v := range b.Bytes[b.Doc[p]:b.Doc[p+1]] {
			bytes += int64(v)
		}
		tokens := int(b.Sent[b.Doc[p+1]] - b.Sent[b.Doc[p]])
		s.pieces = append(s.pieces, pieceCost{n.Total(), bytes, tokens})
		if b.Begin[p] || len(s.documents) == 0 {
			s.documents = append(s.documents, pieceCost{})
		}
		d := &s.documents[len(s.documents)-1]
		d.nats, d.bytes, d.tokens = d.nats+n.Total(), d.bytes+bytes, d.tokens+tokens
		r.Nats.add(n)
		r.Bytes += bytes
		r.Tokens += tokens
		if b.Begin[p] {
			r.Documents++
		}
	}
	r.Pieces += b.Pieces()
	r.Sentences += b.Sentences()
}

// hits counts the targets that were the most probable token.
func (s *scorer) hits(m *model) {
	t := &m.sllm.Dec.Targets
	switch m.folder.Kind {
	case sllm.KindLM:
		t = &m.lm.Targets
	case sllm.KindVAE:
		t = &m.vae.Dec.Targets
	}
	for i, id := range t.IDs {
		if id >= 0 {
			s.predicts++
			if t.Top[i] == id {
				s.right++
			}
		}
	}
}

func (s *scorer) finish() (Result, error) {
	r := &s.res
	if r.Bytes == 0 {
		return *r, fmt.Errorf("the data set holds no text to score")
	}
	total := r.Nats.Total()
	if math.IsNaN(total) || math.IsInf(total, 0) {
		return *r, fmt.Errorf("%s: the score is %v: the weights are broken", r.Model, total)
	}
	r.BPB, r.BPBEnds, r.BPBStops = bits(total, r.Bytes), bits(r.Nats.Ends, r.Bytes), bits(r.Nats.Stops, r.Bytes)
	r.PPL, r.TokenPPL = math.Exp(total/float64(r.Tokens)), math.Exp(r.Nats.Tokens/float64(r.Tokens))
	var macro float64
	for _, p := range s.pieces {
		macro += p.nats / float64(p.tokens)
	}
	r.MacroPPL = math.Exp(macro / float64(len(s.pieces)))
	if s.predicts > 0 {
		r.Accuracy = float64(s.right) / float64(s.predicts)
	}
	r.Low, r.High = bootstrap(s.documents, s.cfg.Seed)
	return *r, nil
}

// bootstrap returns the 95 % interval of bits per byte over documents drawn with replacement.
func bootstrap(ps []pieceCost, seed uint64) (low, high float64) {
	rng := rand.New(rand.NewPCG(seed, 1))
	const draws = 1000
	v := make([]float64, draws)
	for i := range v {
		var nats float64
		var bytes int64
		for range ps {
			p := ps[rng.IntN(len(ps))]
			nats += p.nats
			bytes += p.bytes
		}
		v[i] = bits(nats, max(1, bytes))
	}
	slices.Sort(v)
	return v[draws*25/1000], v[draws*975/1000]
}
