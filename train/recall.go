package train

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"runtime"
	"slices"
	"sync"

	"svae/kernels"
	"svae/kernels/kv"
	"svae/sllm"
)

// Oracle is the name of the row that every policy is measured against: each query head reads the rows that hold most of its
// own softmax mass, found by looking at all of them, which is counted as nothing.
const Oracle = "oracle"

// RecallConfig says how policies are measured on the attention of a real text.
type RecallConfig struct {
	Ways []sllm.KVOptions
	Last int // the queries of so many last rows are the steps; the rows before are the prompt
	// RowsOnly lets a budget count the rows of keys and values alone. Otherwise it counts bytes, those that the choice reads
	// besides included: a policy with a large index reads fewer rows.
	RowsOnly bool
	// Progress, unless nil, is told how many layers are done.
	Progress func(layers, of int)
}

// RecallRow is what one policy keeps under one budget, over all layers, steps and heads.
type RecallRow struct {
	Policy string  `json:"policy"`
	Budget string  `json:"budget"`
	Type   string  `json:"type"`
	Mass   float64 `json:"mass"`    // softmax mass of the rows read, on average
	MassP5 float64 `json:"mass_p5"` // its 5th percentile
	// Estimated says that Mass is the policy's own estimate, under a bounded budget, and that Overlap is not known.
	Estimated bool    `json:"mass_estimated,omitempty"`
	Error     float64 `json:"error"`     // ‖o-o'‖/‖o‖ of the output, on average
	ErrP95    float64 `json:"error_p95"` // its 95th percentile
	// Overlap is the share of the rows read at a step that the step before read too: what a cache of rows would hit.
	Overlap float64 `json:"overlap"`
	// On average over steps and layers:
	Rows       float64 `json:"rows"`         // read by a key head
	Share      float64 `json:"rows_percent"` // of those there are
	KVBytes    float64 `json:"kv_bytes"`     // of a layer
	IndexBytes float64 `json:"index_bytes"`
	Bytes      float64 `json:"bytes_percent"` // both, of the bytes of keys and values that there are
}

// Recall runs policies over the captured attention of a text. ends are the rows before which its sentences end.
func Recall(ctx context.Context, be kernels.Backend, x *sllm.KVCapture, ends []int, c RecallConfig) ([]RecallRow, error) {
	if c.Last < 2 || c.Last >= x.Rows {
		return nil, fmt.Errorf("recall: %d rows hold no prompt before the last %d (give a longer text, or fewer steps)", x.Rows, c.Last)
	}
	sums := make([]recallSum, len(c.Ways))
	for l := range x.K {
		r, err := newRecallLayer(be, x, ends, l, &c)
		if err != nil {
			return nil, fmt.Errorf("layer %d: %w", l, err)
		}
		err = r.each(len(c.Ways), func(i int) error {
			if err := ctx.Err(); err != nil {
				return err
			}
			return r.way(c.Ways[i], &sums[i])
		})
		r.close()
		if err != nil {
			return nil, fmt.Errorf("layer %d: %w", l, err)
		}
		if c.Progress != nil {
			c.Progress(l+1, len(x.K))
		}
	}
	var rows []RecallRow
	for i, o := range c.Ways {
		rows = append(rows, sums[i].row(o))
	}
	return rows, nil
}

// recallSum gathers the figures of one policy.
type recallSum struct {
	mass, off           []float32 // of every head of every step
	rows, past          float64
	bytes, index, whole float64
	steps               int
	again, before       float64
}

func (s *recallSum) row(o sllm.KVOptions) RecallRow {
	n := float64(max(s.steps, 1))
	return RecallRow{Policy: o.Policy, Budget: o.Budget.String(), Type: o.Type.String(), Estimated: o.Budget.Bounded, Mass: average(s.mass), MassP5: quantile(s.mass, 0.05),
		Error: average(s.off), ErrP95: quantile(s.off, 0.95), Overlap: s.again / max(s.before, 1), Rows: s.rows / n, Share: 100 * s.rows / s.past,
		KVBytes: s.bytes / n, IndexBytes: s.index / n, Bytes: 100 * (s.bytes + s.index) / s.whole}
}

func average(x []float32) float64 {
	var sum float64
	for _, v := range x {
		sum += float64(v)
	}
	return sum / float64(max(len(x), 1))
}

// quantile returns the smallest element that at least a share q of the elements do not exceed. It sorts x.
func quantile(x []float32, q float64) float64 {
	if len(x) == 0 {
		return 0
	}
	slices.Sort(x)
	return float64(x[max(int(math.Ceil(q*float64(len(x))))-1, 0)])
}

// recallLayer is the attention of one layer: what the steps should give, and the prompt as each type keeps it.
type recallLayer struct {
	be     kernels.Backend
	x      *sllm.KVCapture
	cfg    *RecallConfig
	layer  int
	ends   []int
	first  int // the first step's row
	out    []float32
	lse    []float32
	prompt map[kv.Config]*kv.Store
	told   map[string]kv.Policy // policies that have observed the prompt, by store, name and options
	mu     sync.Mutex
}

func newRecallLayer(be kernels.Backend, x *sllm.KVCapture, ends []int, layer int, c *RecallConfig) (*recallLayer, error) {
	r := &recallLayer{be: be, x: x, cfg: c, layer: layer, ends: ends, first: x.Rows - c.Last, prompt: map[kv.Config]*kv.Store{}, told: map[string]kv.Policy{}}
	w := x.Heads * x.HeadDim
	r.out, r.lse = make([]float32, c.Last*w), make([]float32, c.Last*x.Heads)
	be.Attention(&kernels.Attention{Out: kernels.Of(r.out), Lse: kernels.Of(r.lse), Q: kernels.Of(x.Q[layer][r.first*w:]), K: kernels.Of(x.K[layer]),
		V: kernels.Of(x.V[layer]), Spans: &kernels.Spans{Q: []int32{0, int32(c.Last)}, KLo: []int32{0}, KHi: []int32{int32(x.Rows)}, Causal: true},
		N: c.Last, M: x.Rows, H: x.Heads, KV: x.KVHeads, HeadDim: x.HeadDim, Scale: x.Scale})
	for _, o := range c.Ways {
		if err := r.tell(o); err != nil {
			r.close()
			return nil, err
		}
	}
	return r, nil
}

func (r *recallLayer) close() {
	for _, s := range r.prompt {
		s.Close()
	}
}

// each calls f for 0 to n-1, at the same time where the machine has processors for it: a step of one query leaves most of
// them without work.
func (r *recallLayer) each(n int, f func(int) error) error {
	errs := make([]error, n)
	var next int
	var wg sync.WaitGroup
	for range min(runtime.GOMAXPROCS(0), n) {
		wg.Go(func() {
			for {
				r.mu.Lock()
				i := next
				next++
				r.mu.Unlock()
				if i >= n {
					return
				}
				errs[i] = f(i)
			}
		})
	}
	wg.Wait()
	return cmp.Or(errs...)
}

func (r *recallLayer) store(o sllm.KVOptions) kv.Config {
	c := o.Store(1, r.x.Heads, r.x.KVHeads, r.x.HeadDim)
	c.Scale = r.x.Scale
	return c
}

func (r *recallLayer) toldKey(o sllm.KVOptions) string {
	return fmt.Sprint(r.store(o), o.Policy, o.Options)
}

// tell builds the prompt in the way's type and lets its policy observe it, once for all budgets.
func (r *recallLayer) tell(o sllm.KVOptions) error {
	x := r.x
	s := r.prompt[r.store(o)]
	if s == nil {
		var err error
		if s, err = kv.New(r.store(o), r.be, nil); err != nil {
			return err
		}
		r.prompt[r.store(o)] = s
		w := x.KVHeads * x.HeadDim
		if err := s.Append(0, x.K[r.layer][:r.first*w], x.V[r.layer][:r.first*w]); err != nil {
			return err
		}
		for _, e := range r.ends {
			if e <= r.first {
				if err := s.Seal(e); err != nil {
					return err
				}
			}
		}
	}
	if r.told[r.toldKey(o)] != nil {
		return nil
	}
	p, err := r.policy(o)
	if err != nil {
		return err
	}
	r.told[r.toldKey(o)] = p
	from, w := max(r.first-max(o.Options.Window, 32), 0), x.Heads*x.HeadDim
	if o.Policy == "h2o" { // which counts every query
		from = 0
	}
	return p.Observe(s, 0, from, x.Q[r.layer][from*w:r.first*w])
}

func (r *recallLayer) policy(o sllm.KVOptions) (kv.Policy, error) {
	if o.Policy == Oracle {
		return &oracle{scale: r.x.Scale}, nil
	}
	return kv.NewPolicy(o.Policy, o.Options)
}

// way takes the steps under one policy and budget.
func (r *recallLayer) way(o sllm.KVOptions, sum *recallSum) error {
	x := r.x
	r.mu.Lock() // a fork marks what it shares
	s, p := r.prompt[r.store(o)].Fork(), &watched{Policy: r.told[r.toldKey(o)].Fork()}
	r.mu.Unlock()
	defer s.Close()
	var seen kv.Policy = p
	if o.Budget.Bounded { // the rows that a bound adds are not seen by who only watches
		seen = p.Policy
	}
	rd, err := kv.NewReader(s, seen, o.Budget)
	if err != nil {
		return err
	}
	w, wkv := x.Heads*x.HeadDim, x.KVHeads*x.HeadDim
	out, tmp, lse := make([]float32, w), make([]float32, w), make([]float32, x.Heads)
	last, err := r.calibrate(rd, o, s, p)
	if err != nil {
		return err
	}
	for t := range r.cfg.Last {
		row := r.first + t
		if err := s.Append(0, x.K[r.layer][row*wkv:(row+1)*wkv], x.V[r.layer][row*wkv:(row+1)*wkv]); err != nil {
			return err
		}
		_, ends := slices.BinarySearch(r.ends, row+1)
		q := x.Q[r.layer][row*w : (row+1)*w]
		rep, err := rd.Step(out, kv.Query{Q: q, Ends: ends})
		if err != nil {
			return err
		}
		index := float64(rep.Scanned)
		if o.Policy == "h2o" { // its weights are those of the attention itself: the keys are read once
			index = 0
		}
		if o.Policy == Oracle {
			rep.Lists = x.KVHeads
			rep.Bytes = int64(rep.Rows * float64(x.KVHeads) * rowBytes(s))
		}
		sum.steps++
		sum.rows += rep.Rows
		sum.past += float64(row + 1)
		sum.bytes += float64(rep.Bytes)
		sum.index += index
		sum.whole += float64(row+1) * float64(x.KVHeads) * rowBytes(s)
		if index > 0 { // else it had no room to look
			last = index
		}
		r.budget(rd, o, s, row+2, last, rep.Lists)
		want := r.out[t*w : (t+1)*w]
		for h := range x.Heads {
			sum.off = append(sum.off, float32(distance(out[h*x.HeadDim:(h+1)*x.HeadDim], want[h*x.HeadDim:(h+1)*x.HeadDim])))
		}
		if !o.Budget.Bounded {
			if err := s.Attend(tmp, lse, q, 0, p.ranges); err != nil {
				return err
			}
			for h := range x.Heads {
				sum.mass = append(sum.mass, float32(min(math.Exp(float64(lse[h]-r.lse[t*x.Heads+h])), 1)))
			}
			p.overlap(sum)
		} else {
			sum.mass = append(sum.mass, rep.Mass...)
		}
		if ends {
			err = s.Seal(row + 1)
		} else {
			err = s.Split(row + 1)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// rowBytes returns the bytes that a row of one key head takes in a full block.
func rowBytes(s *kv.Store) float64 {
	c := s.Config()
	switch c.Type {
	case kv.BF16:
		return 4 * float64(c.HeadDim)
	case kv.I8: // and a scale for each value row, and for each channel of a block's keys
		return 2*float64(c.HeadDim) + 4 + 4*float64(c.HeadDim)/64
	}
	return 8 * float64(c.HeadDim)
}

// calibrate sets the budget of the first step, by what forks of the policy read to choose, and returns that. Some read
// less where they may keep less, so it looks a few times.
func (r *recallLayer) calibrate(rd *kv.Reader, o sllm.KVOptions, s *kv.Store, p *watched) (index float64, err error) {
	if r.cfg.RowsOnly || o.Budget.Exact || o.Budget.Bounded {
		return 0, nil
	}
	w := r.x.Heads * r.x.HeadDim
	row := r.first - 1 // the latest that the store has
	for range 3 {
		var sel kv.Selection
		f := p.Policy.Fork()
		if err := f.Select(s, kv.Query{Q: r.x.Q[r.layer][row*w : (row+1)*w]}, rd.Budget, &sel); err != nil {
			return 0, err
		}
		lists := len(sel.Ranges)
		if o.Policy == Oracle {
			lists = r.x.KVHeads
		}
		if n := float64(sel.Scanned); n > 0 && o.Policy != "h2o" {
			index = n
		}
		r.budget(rd, o, s, r.first+1, index, lists)
		if index == 0 || rd.Budget.Rows == 1 {
			break
		}
	}
	return index, nil
}

// budget sets the rows that the next step may read, when there are n, so that they and the index come to the budget's share
// of all bytes; at least one row. index is what the last choice read, lists the lists of rows that a step reads.
func (r *recallLayer) budget(rd *kv.Reader, o sllm.KVOptions, s *kv.Store, n int, index float64, lists int) {
	if r.cfg.RowsOnly || o.Budget.Exact || o.Budget.Bounded {
		return
	}
	bytes := float64(o.Budget.Of(n)*r.x.KVHeads)*rowBytes(s) - index
	rd.Budget = kv.Budget{Rows: max(int(bytes/rowBytes(s)/float64(lists)), 1)}
}

// distance returns ‖a-b‖/‖b‖.
func distance(a, b []float32) float64 {
	var off, size float64
	for i := range b {
		d := float64(a[i]) - float64(b[i])
		off += d * d
		size += float64(b[i]) * float64(b[i])
	}
	return math.Sqrt(off / max(size, 1e-30))
}

// watched remembers what a policy chose at the last two steps.
type watched struct {
	kv.Policy
	ranges, before [][]kv.Range
}

// Select is Policy's.
func (w *watched) Select(s *kv.Store, q kv.Query, b kv.Budget, sel *kv.Selection) error {
	err := w.Policy.Select(s, q, b, sel)
	w.ranges, w.before = w.before, w.ranges
	for len(w.ranges) < len(sel.Ranges) {
		w.ranges = append(w.ranges, nil)
	}
	w.ranges = w.ranges[:len(sel.Ranges)]
	for i, rs := range sel.Ranges {
		w.ranges[i] = append(w.ranges[i][:0], rs...)
	}
	return err
}

// overlap counts the rows of this step that the last one read too. The step's own row is none of them.
func (w *watched) overlap(sum *recallSum) {
	if len(w.before) != len(w.ranges) {
		return
	}
	for i, now := range w.ranges {
		was := w.before[i]
		for _, r := range now {
			sum.before += float64(r.Len())
			for len(was) > 0 && was[0].Hi <= r.Lo {
				was = was[1:]
			}
			for _, o := range was {
				if o.Lo >= r.Hi {
					break
				}
				sum.again += float64(min(o.Hi, r.Hi) - max(o.Lo, r.Lo))
			}
		}
	}
}

// oracle reads, for each query head, the rows with the largest scores.
type oracle struct {
	scale float64
	keys  []float32
}

func (*oracle) Name() string                                 { return Oracle }
func (*oracle) Observe(*kv.Store, int, int, []float32) error { return nil }
func (o *oracle) Fork() kv.Policy                            { return &oracle{scale: o.scale} }

// Select is Policy's.
func (o *oracle) Select(s *kv.Store, q kv.Query, b kv.Budget, sel *kv.Selection) error {
	c, n := s.Config(), s.Rows(q.Layer)
	K, budget := c.HeadDim, b.Of(s.Rows(q.Layer))
	*sel = kv.Selection{Ranges: make([][]kv.Range, c.Heads), Mass: make([]float32, c.Heads), Missing: make([]float64, c.Heads)}
	if len(o.keys) < n*K {
		o.keys = make([]float32, 2*n*K)
	}
	order, score := make([]int, n), make([]float32, n)
	for h := range c.Heads {
		sel.Mass[h], sel.Missing[h] = float32(math.NaN()), math.Inf(1)
		group := c.Heads / c.KVHeads
		if h%group == 0 {
			if err := s.Keys(o.keys[:n*K], q.Layer, h/group, []kv.Range{{Lo: 0, Hi: n}}); err != nil {
				return err
			}
		}
		for i := range n {
			order[i], score[i] = i, dot32(q.Q[h*K:(h+1)*K], o.keys[i*K:(i+1)*K])
		}
		slices.SortFunc(order, func(a, b int) int { return cmp.Or(cmp.Compare(score[b], score[a]), a-b) })
		top := order[:budget]
		slices.Sort(top)
		for _, i := range top {
			if k := len(sel.Ranges[h]); k > 0 && sel.Ranges[h][k-1].Hi == i {
				sel.Ranges[h][k-1].Hi++
			} else {
				sel.Ranges[h] = append(sel.Ranges[h], kv.Range{Lo: i, Hi: i + 1})
			}
		}
	}
	return nil
}

func dot32(a, b []float32) float32 {
	var s float32
	for i, v := range a {
		s += v * b[i]
	}
	return s
}
