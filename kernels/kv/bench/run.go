package bench

import (
	"context"
	"fmt"
	"math"
	"slices"
	"time"

	"svae/kernels"
	"svae/kernels/kv"
)

// Config says what Run measures. The zero value of a field gives the default named beside it.
type Config struct {
	Rows     []int     // lengths: 4096, 32768, 131072
	Layers   int       // layers of the keys, the first ones: 1
	Type     kv.Type   // of the store; dense attention always reads contiguous float32
	Budget   kv.Budget // 1024 rows
	Policies []string  // ours
	Options  kv.Options

	Keys     string    // path of a dump of a model's keys (Sequence.Write)
	Sequence *Sequence // the keys themselves; with neither, those of Generate

	MinSegment int     // of the store; 0 for its default
	Steps      int     // timed tokens: 16
	Noise      float64 // of Extend: 0.2; none if negative
	Needles    int     // of Extend: 4; none if negative
	Seed       uint64
	RAMShare   float64 // of the store's rows that may lie in RAM; 0 for all
	Path       string  // of the files for the others, less the policy's name; empty for some in the system's temporary folder

	Backend kernels.Backend                  // "cpu"
	Log     func(format string, args ...any) // of progress; may be nil

	weights, hidden, projected kernels.Buf // of before
}

// Row is one policy at one length. Times are medians over the steps of all layers, for one token and layer; dense and the
// policies take turns at every step, each after the projections of a token, as in a layer.
type Row struct {
	Policy        string
	Rows          int
	Type          string
	Dense, Time   time.Duration
	Ratio         float64       // Dense / Time
	RooflineShare float64       // the least time that Dense can take, over Dense
	Mass          float64       // true softmax mass of the rows read, mean over heads and steps
	MassP5        float64       // the fifth percentile
	RowsRead      float64       // for each key head
	BytesRead     int64         // of rows, a step
	BytesScanned  int64         // besides, to choose them
	StoreBytes    int64         // of all rows
	SummaryBytes  int64         // of summaries and indices in RAM
	Build         time.Duration // boundaries and summaries of all rows, a layer
	Prepare       time.Duration // what the policy computes at the end of the prompt, a layer: the first step less the median one
	HitRatio      float64       // of blocks asked for by a step, with RAMShare
	Stall         time.Duration // a step, with RAMShare
}

func (c *Config) fill() (err error) {
	if len(c.Rows) == 0 {
		c.Rows = []int{4096, 32768, 131072}
	}
	if len(c.Policies) == 0 {
		c.Policies = []string{"ours"}
	}
	if c.Budget == (kv.Budget{}) {
		c.Budget.Rows = 1024
	}
	for p, v := range map[*int]int{&c.Layers: 1, &c.Steps: 16, &c.Needles: 4} {
		if *p == 0 {
			*p = v
		}
	}
	if c.Noise == 0 {
		c.Noise = 0.2
	}
	if c.Backend == nil {
		if c.Backend, err = kernels.Open("cpu"); err != nil {
			return err
		}
	}
	if c.Log == nil {
		c.Log = func(string, ...any) {}
	}
	if c.Sequence == nil && c.Keys != "" {
		if c.Sequence, err = ReadSequence(c.Keys); err != nil {
			return err
		}
	}
	if c.Sequence == nil {
		c.Sequence = Generate(c.Layers, 4096, 70)
	}
	if err := c.Sequence.check(); err != nil {
		return err
	}
	if c.Steps < 1 || c.Steps > c.Sequence.Len()-window-1 {
		return fmt.Errorf("bench: %d steps after a text of %d tokens", c.Steps, c.Sequence.Len())
	}
	c.Layers = min(c.Layers, len(c.Sequence.Layers))
	for _, n := range c.Rows {
		if n < window+c.Steps+1 || n > 1<<30/(c.Sequence.KVHeads*c.Sequence.HeadDim)*16 {
			return fmt.Errorf("bench: %d rows", n)
		}
	}
	return nil
}

// window is how many queries of the end of the prompt a policy is shown.
const window = 32

// Run measures every policy at every length.
func Run(ctx context.Context, c Config) ([]Row, error) {
	if err := c.fill(); err != nil {
		return nil, err
	}
	var out []Row
	for _, n := range c.Rows {
		ms := make([]measured, len(c.Policies))
		for l := range c.Layers {
			if err := c.layer(ctx, l, n, ms); err != nil {
				return nil, err
			}
		}
		roof := c.roofline(n)
		for i, name := range c.Policies {
			out = append(out, ms[i].row(name, n, roof))
		}
	}
	return out, nil
}

// measured is what the steps of a policy gave, over all layers.
type measured struct {
	Row
	dense, time, prepare, build []time.Duration
	mass                        []float64
	rows, read, scanned         float64
	hits, misses                int64
	stall                       time.Duration
}

func (m *measured) row(name string, n int, roof time.Duration) Row {
	r, steps := m.Row, float64(len(m.time))
	r.Policy, r.Rows = name, n
	r.Dense, r.Time, r.Build = median(m.dense), median(m.time), median(m.build)
	r.Prepare = max(median(m.prepare)-r.Time, 0)
	r.Ratio = float64(r.Dense) / float64(r.Time)
	r.RooflineShare = float64(roof) / float64(r.Dense)
	slices.Sort(m.mass)
	for _, x := range m.mass {
		r.Mass += x / float64(len(m.mass))
	}
	r.MassP5 = m.mass[len(m.mass)/20]
	r.RowsRead, r.BytesRead, r.BytesScanned = m.rows/steps, int64(m.read/steps), int64(m.scanned/steps)
	if m.hits+m.misses > 0 {
		r.HitRatio = float64(m.hits) / float64(m.hits+m.misses)
	}
	r.Stall = m.stall / time.Duration(len(m.time))
	return r
}

func median(d []time.Duration) time.Duration {
	if len(d) == 0 {
		return 0
	}
	d = slices.Clone(d)
	slices.Sort(d)
	return d[len(d)/2]
}

// layer measures all policies on one layer.
func (c *Config) layer(ctx context.Context, l, n int, ms []measured) error {
	s := c.Sequence
	W, wq := s.KVHeads*s.HeadDim, s.Heads*s.HeadDim
	k, v := c.Backend.Alloc(n*W), c.Backend.Alloc(n*W)
	t := s.Extend(k.F32(), v.F32(), l, n, window+c.Steps, max(c.Noise, 0), max(c.Needles, 0), c.Seed)
	c.Log("%d rows, layer %d: %d sentences, %d needles", n, l, len(t.Boundaries), len(t.Needles))
	prompt := n - c.Steps
	readers := make([]*kv.Reader, len(c.Policies))
	pools := make([]*kv.Pool, len(c.Policies))
	defer func() {
		for i, r := range readers {
			if r != nil {
				r.Store.Close()
			}
			if pools[i] != nil {
				pools[i].Close()
			}
		}
	}()
	for i, name := range c.Policies {
		if err := ctx.Err(); err != nil {
			return err
		}
		r, pool, build, err := c.reader(name, t, prompt)
		readers[i], pools[i] = r, pool
		if err != nil {
			return err
		}
		ms[i].build = append(ms[i].build, build)
		if err := r.Policy.Observe(r.Store, 0, prompt-window, t.Q[:window*wq]); err != nil {
			return err
		}
	}
	if len(readers) > 0 && c.Type != kv.F32 { // dense attention reads what the stores hold
		if err := c.rounded(readers[0].Store, k.F32(), v.F32(), prompt); err != nil {
			return err
		}
	}
	for step := range c.Steps {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := c.step(t, k, v, prompt+step, step, readers, pools, ms); err != nil {
			return err
		}
	}
	for i, r := range readers {
		st := r.Store.Stats()
		ms[i].Type = c.Type.String()
		ms[i].StoreBytes, ms[i].SummaryBytes = st.BlockBytes+st.TailBytes, st.SummaryBytes
	}
	return nil
}

// reader makes a store of the prompt and a reader of it.
func (c *Config) reader(name string, t *Text, n int) (*kv.Reader, *kv.Pool, time.Duration, error) {
	s := c.Sequence
	W := s.KVHeads * s.HeadDim
	cfg := kv.Config{Layers: 1, Heads: s.Heads, KVHeads: s.KVHeads, HeadDim: s.HeadDim, Type: c.Type, Scale: s.Scale, MinSegment: c.MinSegment}
	var pool *kv.Pool
	if c.RAMShare > 0 {
		bytes := map[kv.Type]int{kv.F32: 4, kv.BF16: 2, kv.I8: 1}[c.Type]
		path := c.Path
		if path != "" {
			path += "." + name
		}
		pool = kv.NewPool(max(int64(float64(2*n*W*bytes)*c.RAMShare), 1), path)
	}
	st, err := kv.New(cfg, c.Backend, pool)
	if err != nil {
		return nil, pool, 0, err
	}
	r := &kv.Reader{Store: st}
	for at := 0; at < n; at += 8192 {
		to := min(at+8192, n)
		if err := st.Append(0, t.K[at*W:to*W], t.V[at*W:to*W]); err != nil {
			return r, pool, 0, err
		}
	}
	begin := time.Now()
	for _, b := range t.Boundaries {
		if b <= n {
			if err := st.Seal(b); err != nil {
				return r, pool, 0, err
			}
		}
	}
	build := time.Since(begin)
	p, err := kv.NewPolicy(name, c.Options)
	if err != nil {
		return r, pool, 0, err
	}
	full, err := kv.NewReader(st, p, c.Budget)
	if err != nil {
		return r, pool, 0, err
	}
	return full, pool, build, nil
}

// rounded overwrites rows with what a store made of them.
func (c *Config) rounded(st *kv.Store, k, v []float32, n int) error {
	W := c.Sequence.KVHeads * c.Sequence.HeadDim
	for at := 0; at < n; at += 8192 {
		to := min(at+8192, n)
		if err := st.Read(k[at*W:to*W], v[at*W:to*W], 0, at, to); err != nil {
			return err
		}
	}
	return nil
}

// before does what comes before attention in a layer: the projections of a token. Attention by itself would begin with
// workers asleep, which takes some hundred microseconds to change.
func (c *Config) before() {
	s := c.Sequence
	I, O := s.Heads*s.HeadDim, (s.Heads+2*s.KVHeads)*s.HeadDim
	if c.weights.Absent() {
		c.weights, c.hidden, c.projected = c.Backend.Alloc(I*O), c.Backend.Alloc(I), c.Backend.Alloc(O)
	}
	c.Backend.Linear(c.projected, kernels.Buf{}, c.hidden, c.weights, kernels.Buf{}, kernels.None, 1, I, O)
}

// step writes row at, whose query is row step after the window, and times dense attention and every policy on it.
func (c *Config) step(t *Text, k, v kernels.Buf, at, step int, readers []*kv.Reader, pools []*kv.Pool, ms []measured) error {
	s := c.Sequence
	W, wq := s.KVHeads*s.HeadDim, s.Heads*s.HeadDim
	q, out, lse := t.Q[(window+step)*wq:(window+step+1)*wq], make([]float32, wq), make([]float32, s.Heads)
	scale := s.Scale
	if scale == 0 {
		scale = 1 / math.Sqrt(float64(s.HeadDim))
	}
	_, ends := slices.BinarySearch(t.Boundaries, at+1)
	a := kernels.Attention{Out: kernels.Of(out), Lse: kernels.Of(lse), Q: kernels.Of(q), K: k, V: v,
		Spans: &kernels.Spans{Q: []int32{0, 1}, KLo: []int32{0}, KHi: []int32{int32(at + 1)}}, N: 1, M: at + 1, H: s.Heads, KV: s.KVHeads,
		HeadDim: s.HeadDim, Scale: scale}
	got := make([]float32, wq)
	for i, r := range readers {
		c.before()
		begin := time.Now()
		c.Backend.Attention(&a)
		ms[i].dense = append(ms[i].dense, time.Since(begin))
		if err := r.Store.Append(0, t.K[at*W:(at+1)*W], t.V[at*W:(at+1)*W]); err != nil {
			return err
		}
		var before kv.PoolStats
		if pools[i] != nil {
			before = pools[i].Stats()
		}
		c.before()
		begin = time.Now()
		rep, err := r.Step(got, kv.Query{Q: q, Ends: ends})
		took := time.Since(begin)
		if err != nil {
			return err
		}
		if err := seal(r.Store, at+1, ends); err != nil {
			return err
		}
		if step == 0 { // the first step settles what the prompt leaves
			ms[i].prepare = append(ms[i].prepare, took)
			if c.Steps > 1 {
				continue
			}
		}
		m := &ms[i]
		m.time = append(m.time, took)
		m.rows += rep.Rows
		m.read += float64(rep.Bytes)
		m.scanned += float64(rep.Scanned)
		for h, x := range r.LogSumExp() {
			m.mass = append(m.mass, min(math.Exp(float64(x)-float64(lse[h])), 1))
		}
		if pools[i] != nil {
			after := pools[i].Stats()
			m.hits, m.misses, m.stall = m.hits+after.Hits-before.Hits, m.misses+after.Misses-before.Misses, m.stall+after.Stall-before.Stall
		}
	}
	return nil
}

func seal(st *kv.Store, n int, ends bool) error {
	if ends {
		return st.Seal(n)
	}
	return st.Split(n)
}
