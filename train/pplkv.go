package train

import (
	"context"
	"fmt"
	"math"

	"svae/data"
	"svae/kernels/kv"
	"svae/sllm"
)

// PPLKVConfig says how a token-level model is scored through its decode path.
type PPLKVConfig struct {
	EvalConfig
	Ways    []sllm.KVOptions // how to read the past; dense is scored besides
	Prefill int              // tokens of a piece that are read at once and not scored; 0: half of them
	MaxStep int              // tokens of a piece that are scored at most; 0: all that follow
	// Progress, unless nil, is told how many bytes have passed.
	Progress func(bytes int64)
}

// PPLKVRow is the score of one way to read the past.
type PPLKVRow struct {
	Policy string  `json:"policy"`
	Budget string  `json:"budget"`
	Type   string  `json:"type"`
	PPL    float64 `json:"ppl"`
	Delta  float64 `json:"delta_ppl_percent"` // against dense in float32
	// On average over the tokens scored:
	Rows       float64  `json:"rows"`         // read by a key head
	Share      float64  `json:"rows_percent"` // of those there are
	KVBytes    float64  `json:"kv_bytes"`     // of keys and values, in all layers
	IndexBytes float64  `json:"index_bytes"`  // that the choice read besides
	Missed     *float64 `json:"mass_missed_estimate,omitempty"`
	Bound      *float64 `json:"mass_missed_bound,omitempty"`

	nats float64
	use  sllm.KVUse
}

// PPLKVResult is the score of all ways on the same tokens.
type PPLKVResult struct {
	Model   string     `json:"model"`
	Pieces  int        `json:"pieces"`
	Short   int        `json:"pieces_too_short"`
	Prefill int        `json:"prefilled_tokens"`
	Tokens  int        `json:"tokens"` // scored
	Rows    []PPLKVRow `json:"rows"`   // the first is dense
}

// PPLKV scores tokens as a model meets them when it writes: of every piece the first ones are read at once, the others one
// by one, each attending to what the policy chooses of its past. All ways take each step together, in one row each.
func PPLKV(ctx context.Context, f *sllm.Folder, ds *data.Dataset, c PPLKVConfig) (PPLKVResult, error) {
	res := PPLKVResult{Model: f.Path}
	if f.Kind != sllm.KindLM {
		return res, fmt.Errorf("%s: only a token-level model is scored by how it reads its past", f.Path)
	}
	ways := append([]sllm.KVOptions{{Policy: "dense", Budget: kv.Budget{Exact: true}}}, c.Ways...)
	trial, err := sllm.NewKVTrial(&f.LM, f.Store, ways)
	if err != nil {
		return res, err
	}
	defer trial.Close()
	for _, w := range ways {
		res.Rows = append(res.Rows, PPLKVRow{Policy: w.Policy, Budget: w.Budget.String(), Type: w.Type.String()})
	}
	var seen int64
	err = batches(ctx, ds, c.EvalConfig, 0, func(b *data.Batch) error {
		for p := range b.Pieces() {
			if err := c.piece(ctx, f, b, p, trial, &res); err != nil {
				return err
			}
		}
		if seen += b.SourceBytes(); c.Progress != nil {
			c.Progress(seen)
		}
		return nil
	})
	if err != nil {
		return res, err
	}
	return res, res.finish()
}

// piece scores one piece.
func (c *PPLKVConfig) piece(ctx context.Context, f *sllm.Folder, b *data.Batch, p int, trial *sllm.KVTrial, res *PPLKVResult) error {
	ids, ends := pieceRows(f, b, p)
	read := c.Prefill
	if read == 0 {
		read = len(ids) / 2
	}
	last := len(ids) - 1
	if c.MaxStep > 0 {
		last = min(last, read+c.MaxStep)
	}
	if read < 1 || read >= last {
		res.Short++
		return nil
	}
	if err := trial.Prefill(ids[:read], ends, 512); err != nil {
		return err
	}
	res.Pieces++
	res.Prefill += read
	res.Tokens += last - read
	nats := make([]float64, len(res.Rows))
	for i := read; i < last; i++ {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := trial.Step(ids[i], ids[i+1], nats); err != nil {
			return err
		}
		for r := range nats {
			res.Rows[r].nats += nats[r]
		}
	}
	for r := range res.Rows {
		u, sum := trial.Use(r), &res.Rows[r].use
		n := float64(u.Steps)
		sum.Steps += u.Steps
		sum.Rows += n * u.Rows
		sum.Past += n * u.Past
		sum.Bytes += n * u.Bytes
		sum.Index += n * u.Index
		sum.Missed += n * u.Missed
		sum.Delta += n * u.Delta
	}
	return nil
}

// pieceRows returns the rows of a piece, BOS first where the model has one, and the rows before which its sentences end.
func pieceRows(f *sllm.Folder, b *data.Batch, p int) (ids []int32, ends []int) {
	if f.LM.BOS >= 0 {
		ids = append(ids, f.LM.BOS)
	}
	for s := b.Doc[p]; s < b.Doc[p+1]; s++ {
		ids = append(ids, b.IDs[b.Sent[s]:b.Sent[s+1]]...)
		ends = append(ends, len(ids))
	}
	return ids, ends
}

func (r *PPLKVResult) finish() error {
	if r.Tokens == 0 {
		return fmt.Errorf("no piece is long enough: %d of them end within the tokens that are read first (give a smaller --kv-prefill, or longer documents)", r.Short)
	}
	for i := range r.Rows {
		row := &r.Rows[i]
		if math.IsNaN(row.nats) || math.IsInf(row.nats, 0) {
			return fmt.Errorf("%s: the score under %s is %v: the weights are broken", r.Model, row.Policy, row.nats)
		}
		n := float64(r.Tokens)
		row.PPL = math.Exp(row.nats / n)
		row.Delta = 100 * math.Expm1((row.nats-r.Rows[0].nats)/n)
		u := &row.use
		row.Rows, row.Share = u.Rows/n, 100*u.Rows/u.Past
		row.KVBytes, row.IndexBytes = u.Bytes/n, u.Index/n
		if m := u.Missed / n; !math.IsNaN(m) {
			row.Missed = &m
		}
		if d := u.Delta / n; d < 1 {
			row.Bound = &d
		}
	}
	return nil
}
