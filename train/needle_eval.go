package train

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"svae/data"
	"svae/kernels/kv"
	"svae/sllm"
)

// NeedleVariant says what is asked, and when.
type NeedleVariant string

// The variants. In all but TwoTurn the prompt ends with the (first) question, so that a policy which looks at the end of the
// prompt knows what will be needed.
const (
	Single     NeedleVariant = "single"     // one needle, asked for at the end of the prompt
	MultiKey   NeedleVariant = "multikey"   // many needles, one asked for
	MultiQuery NeedleVariant = "multiquery" // many needles, several asked for in turn
	TwoTurn    NeedleVariant = "twoturn"    // many needles; the prompt ends with prose, the question comes as a second turn
)

// NeedleVariants are all of them.
var NeedleVariants = []NeedleVariant{Single, MultiKey, MultiQuery, TwoTurn}

// NeedleConfig says what NeedleEval asks.
type NeedleConfig struct {
	Style    NeedleStyle
	Haystack *Haystack
	Variants []NeedleVariant
	Lengths  []int     // tokens of the prompt
	Depths   []float64 // 0..1
	Samples  int       // documents for each variant, length and depth
	Needles  int       // in a document of the variants with many
	Queries  int       // that multiquery asks
	Seed     uint64
	Ways     []sllm.KVOptions // how to read the past, beside dense
	Chunk    int              // rows of the prompt at once; 0: 512
	// Progress, unless nil, is told how many of all documents are done.
	Progress func(done, all int)
}

// NeedleRow counts the answers of one policy over all depths of a variant and length.
type NeedleRow struct {
	Policy  string        `json:"policy"`
	Budget  string        `json:"budget"`
	Type    string        `json:"type"`
	Variant NeedleVariant `json:"variant"`
	Tokens  int           `json:"tokens"`
	Asked   int           `json:"asked"` // questions; but of dense those that dense answered
	Right   int           `json:"right"`
	Rows    float64       `json:"rows_percent"` // of the past that a token reads, on average
	Depths  []NeedleDepth `json:"depths"`

	read, past float64
}

// NeedleDepth is the part of a row that belongs to one depth.
type NeedleDepth struct {
	Depth float64 `json:"depth"`
	Asked int     `json:"asked"`
	Right int     `json:"right"`
}

// Share returns the share of answers that were right; NaN if nothing was asked.
func (r *NeedleRow) Share() float64 { return float64(r.Right) / float64(r.Asked) }

func (r *NeedleRow) count(depth float64, right bool) {
	i := slices.IndexFunc(r.Depths, func(d NeedleDepth) bool { return d.Depth == depth })
	if i < 0 {
		i = len(r.Depths)
		r.Depths = append(r.Depths, NeedleDepth{Depth: depth})
	}
	r.Asked++
	r.Depths[i].Asked++
	if right {
		r.Right++
		r.Depths[i].Right++
	}
}

// needleTail is how many tokens of prose follow the last needle where the question is a second turn: more than the window
// at the end of a prompt that policies look at, so that no needle stands in it.
const needleTail = 64

// Validate reports the first value that cannot be, before a model is opened.
func (c *NeedleConfig) Validate() error {
	if err := c.Style.Validate(); err != nil {
		return err
	}
	for _, v := range c.Variants {
		if !slices.Contains(NeedleVariants, v) {
			return fmt.Errorf("variant %q is not known (use single, multikey, multiquery or twoturn)", v)
		}
	}
	for _, d := range c.Depths {
		if !(d >= 0 && d <= 1) {
			return fmt.Errorf("depth %v %% is not in 0..100", 100*d)
		}
	}
	if len(c.Variants) == 0 || len(c.Depths) == 0 || len(c.Lengths) == 0 {
		return errors.New("no variant, length or depth is given")
	}
	if c.Samples < 1 || c.Needles < 1 || c.Needles > len(c.Style.Keys) || c.Queries < 1 || c.Queries > c.Needles {
		return fmt.Errorf("samples %d, needles %d, queries %d: want at least one sample, 1..%d needles and no more queries than needles",
			c.Samples, c.Needles, c.Queries, len(c.Style.Keys))
	}
	return nil
}

// needleCase is one document as tokens, with what is asked about it.
type needleCase struct {
	ids    []int32
	prompt int      // tokens of ids that are read at once
	ends   []int    // rows of ids before which sentences end
	asked  [][2]int // of each question: where its answer begins and ends in ids
}

// NeedleEval asks a token-level model for needles, with all of the past at hand (dense) and by each way to read it. The
// prompt is read at once; what follows it, the beginning of the answer included, is read one token at a time. An answer is
// right if the model's first choice is right at each of its tokens. Rows come in the order dense, then c.Ways, for each
// variant and length. A way is only asked what dense answers.
func NeedleEval(ctx context.Context, f *sllm.Folder, codec *data.Codec, c NeedleConfig) ([]NeedleRow, error) {
	if f.Kind != sllm.KindLM {
		return nil, fmt.Errorf("%s: is a %s; needles are for token-level models", f.Path, f.Kind)
	}
	if err := c.Validate(); err != nil {
		return nil, err
	}
	for _, n := range c.Lengths {
		if n < 64 || n > f.LM.Positions {
			return nil, fmt.Errorf("length %d is not in 64..%d (the model has %d positions)", n, f.LM.Positions, f.LM.Positions)
		}
	}
	if c.Chunk == 0 {
		c.Chunk = 512
	}
	ways := append([]sllm.KVOptions{{Policy: "dense", Budget: kv.Budget{Exact: true}}}, c.Ways...)
	trial, err := sllm.NewKVTrial(&f.LM, f.Store, ways)
	if err != nil {
		return nil, err
	}
	defer trial.Close()
	m := &needleMaker{c: &c, codec: codec, bos: f.LM.BOS, counts: map[string]int{}}
	var rows []NeedleRow
	done, all := 0, len(c.Variants)*len(c.Lengths)*len(c.Depths)*c.Samples
	for _, v := range c.Variants {
		for _, n := range c.Lengths {
			group := make([]NeedleRow, len(ways))
			for i, w := range ways {
				group[i] = NeedleRow{Policy: w.Policy, Budget: w.Budget.String(), Type: w.Type.String(), Variant: v, Tokens: n}
			}
			for _, depth := range c.Depths {
				for s := range c.Samples {
					nc, err := m.make(v, n, depth, c.Seed<<20+uint64(s))
					if err != nil {
						return nil, err
					}
					if len(nc.ids) > f.LM.Positions {
						return nil, fmt.Errorf("%d tokens of document and questions are more than the model's %d positions (ask for shorter ones)", len(nc.ids), f.LM.Positions)
					}
					if err := c.ask(ctx, trial, nc, group, depth); err != nil {
						return nil, err
					}
					if done++; c.Progress != nil {
						c.Progress(done, all)
					}
				}
			}
			for i := range group {
				group[i].Rows = 100 * group[i].read / group[i].past
			}
			rows = append(rows, group...)
		}
	}
	return rows, nil
}

// ask runs one case under every way and counts the answers.
func (c *NeedleConfig) ask(ctx context.Context, trial *sllm.KVTrial, nc needleCase, rows []NeedleRow, depth float64) error {
	if err := trial.Prefill(nc.ids[:nc.prompt], nc.ends, c.Chunk); err != nil {
		return err
	}
	nats := make([]float64, len(rows))
	at := nc.prompt
	step := func() error {
		if err := ctx.Err(); err != nil {
			return err
		}
		at++
		return trial.Step(nc.ids[at-1], nc.ids[at], nats)
	}
	for _, span := range nc.asked {
		right := make([]bool, len(rows))
		for i := range right {
			right[i] = true
		}
		for at < span[1]-1 {
			if err := step(); err != nil {
				return err
			}
			if at < span[0] {
				continue
			}
			for i := range right {
				right[i] = right[i] && trial.Likeliest(i) == nc.ids[at]
			}
		}
		for i := range rows {
			if i == 0 || right[0] {
				rows[i].count(depth, right[i])
			}
		}
	}
	for i := range rows {
		u := trial.Use(i)
		rows[i].read += u.Rows * float64(u.Steps)
		rows[i].past += u.Past * float64(u.Steps)
	}
	return nil
}

// needleMaker makes cases.
type needleMaker struct {
	c      *NeedleConfig
	codec  *data.Codec
	bos    int32
	counts map[string]int // tokens of sentences counted before
}

func (m *needleMaker) count(s string) int {
	n, ok := m.counts[s]
	if !ok {
		n = len(m.codec.Tokenizer().Encode([]byte(s)))
		m.counts[s] = n
	}
	return n
}

// make makes the document of a variant and turns it into tokens.
func (m *needleMaker) make(v NeedleVariant, tokens int, depth float64, seed uint64) (needleCase, error) {
	shape := NeedleShape{Tokens: tokens, Needles: m.c.Needles, Depth: depth}
	switch v {
	case Single:
		shape.Needles = 1
	case TwoTurn:
		shape.Tail = needleTail
	}
	doc, err := m.c.Style.Document(m.c.Haystack, shape, m.count, seed)
	if err != nil {
		return needleCase{}, err
	}
	asked := doc.Needles[doc.Asked : doc.Asked+1]
	if v == MultiQuery {
		asked = slices.Clone(asked)
		for i := 1; i < m.c.Queries; i++ {
			asked = append(asked, doc.Needles[(doc.Asked+i)%len(doc.Needles)])
		}
	}
	var nc needleCase
	if m.bos >= 0 {
		nc.ids = append(nc.ids, m.bos)
	}
	m.add(&nc, doc.Text)
	if v != TwoTurn {
		m.add(&nc, asked[0].Question)
	}
	nc.prompt = len(nc.ids)
	_, closing, _ := strings.Cut(m.c.Style.Template, "{value}")
	for i, n := range asked {
		switch {
		case i > 0:
			m.add(&nc, closing+n.Question)
		case v == TwoTurn:
			m.add(&nc, n.Question)
		}
		m.answer(&nc, n)
	}
	ends := m.codec.NewEnds()
	for i, id := range nc.ids {
		if (i > 0 || id != m.bos) && ends.Push(id) { // a begin mark belongs to the first sentence
			nc.ends = append(nc.ends, i+1)
		}
	}
	return nc, nil
}

// add appends the tokens of a text.
func (m *needleMaker) add(nc *needleCase, text string) {
	nc.ids = append(nc.ids, m.codec.Tokenizer().Encode([]byte(text))...)
}

// answer appends the sentence of a needle up to its end and notes where its answer stands: from the first token in which
// the sentence with and without its value differ.
func (m *needleMaker) answer(nc *needleCase, n Needle) {
	begin, whole := m.codec.Tokenizer().Encode([]byte(n.Begin)), m.codec.Tokenizer().Encode([]byte(n.Begin+n.Answer))
	same := 0
	for same < len(begin) && same < len(whole) && begin[same] == whole[same] {
		same++
	}
	first := len(nc.ids)
	nc.ids = append(nc.ids, whole...)
	nc.asked = append(nc.asked, [2]int{first + same, len(nc.ids)})
}
