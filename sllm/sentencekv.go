package sllm

import (
	"encoding/json"
	"fmt"
	"slices"
	"sync"

	"svae/kernels"
	"svae/kernels/kv"
	"svae/kernels/op"
	"svae/vae"
)

// KVOptions say how a model keeps the keys and values of its past and which of them a step reads.
type KVOptions struct {
	Policy  string     // one of kv.Policies
	Budget  kv.Budget  // of rows that a step reads
	Options kv.Options // of the policy
	Type    kv.Type    // of the rows kept
	// Segment is the rows at which a sentence is cut, or what has no sentences (0: 64); Shortest the fewest rows of one that
	// is not joined to the next: 0 for what suits the policy, 4 for paper and reference, whose unit is the sentence, and
	// kv.Config's default for the others.
	Segment, Shortest int
	RAM               int64  // bytes of rows in memory; the others lie in a file. 0: no limit
	File              string // that file; "": one in the system's temporary folder
	Prefix            int64  // bytes of rows remembered for later requests that begin alike; 0: none
}

// Store returns the store's configuration for rows of these sizes.
func (o *KVOptions) Store(layers, heads, keyHeads, headDim int) kv.Config {
	c := kv.Config{Layers: layers, Heads: heads, KVHeads: keyHeads, HeadDim: headDim, Type: o.Type, MaxSegment: o.Segment, MinSegment: o.Shortest}
	if o.Shortest == 0 && (o.Policy == "paper" || o.Policy == "reference") {
		c.MinSegment = 4
	}
	return c
}

// SentenceKV makes KVs that keep every row of a sequence, cut into its sentences, of which a step reads those that a
// policy chooses (SentenceKV, arXiv 2504.00970, and what else kv.NewPolicy knows). It is safe for concurrent use; a KV
// that it makes belongs to one request.
//
// Rows of a prompt, and several rows at once later, attend to all rows before them, as without it. The policy chooses for
// each single row that follows. With a budget of all rows, or the policy dense, and rows kept in float32 the results
// are those of vae.Cache to the bit.
type SentenceKV struct {
	be   kernels.Backend
	o    KVOptions
	cfg  kv.Config
	pool *kv.Pool
	tree *kv.Tree

	mu   sync.Mutex
	free []*sentenceRows // whose memory the next request takes over
}

// NewSentenceKV returns a SentenceKV for the sequences of a model. The fingerprint names its weights: rows that are
// remembered or saved are taken over only by a model of the same fingerprint and architecture.
func NewSentenceKV(a *vae.Arch, be kernels.Backend, fingerprint string, o KVOptions) (*SentenceKV, error) {
	if be.DType() != kernels.F32 || be.Name() == "cuda" {
		return nil, fmt.Errorf("sentencekv: rows are chosen in the host's memory, not on %s (use --device cpu, or leave --kv out)", be.Name())
	}
	arch, err := json.Marshal(a)
	if err != nil {
		return nil, err
	}
	k := &SentenceKV{be: be, o: o, cfg: o.Store(a.NumLayers, a.NumHeads, a.NumKVHeads, a.HeadDim)}
	k.cfg.Fingerprint = fingerprint + " " + string(arch)
	k.pool = kv.NewPool(o.RAM, o.File)
	if o.Prefix > 0 {
		k.tree = kv.NewTree(o.Prefix)
	}
	s, err := kv.New(k.cfg, be, k.pool) // says now what every Open would say
	if err != nil {
		return nil, err
	}
	defer s.Close()
	k.cfg = s.Config()
	p, err := kv.NewPolicy(o.Policy, o.Options)
	if err != nil {
		return nil, err
	}
	_, err = kv.NewReader(s, p, o.Budget)
	return k, err
}

// Discard forgets the remembered rows and removes the file. KVs that are open must be closed before.
func (k *SentenceKV) Discard() error {
	if k.tree != nil {
		k.tree.Close()
	}
	return k.pool.Close()
}

// Options returns what the SentenceKV was made with.
func (k *SentenceKV) Options() KVOptions { return k.o }

// Pool returns the counters of the tiers, shared by all sequences.
func (k *SentenceKV) Pool() kv.PoolStats { return k.pool.Stats() }

// Prefixes returns the counters of the remembered beginnings.
func (k *SentenceKV) Prefixes() kv.TreeStats {
	if k.tree == nil {
		return kv.TreeStats{}
	}
	return k.tree.Stats()
}

// window is how many queries at the end of a prompt a policy may look at.
func (k *SentenceKV) window() int {
	if k.o.Options.Window > 0 {
		return k.o.Options.Window
	}
	return 32
}

// Open implements Keeper. At least the last 32 rows of a prompt (Options.Window) are never taken over from an earlier
// request: the policy must see their queries. h2o, which must see all queries, takes nothing over.
func (k *SentenceKV) Open(ids []int32, ends []int) (vae.KV, error) {
	s, err := k.lookup(ids, ends)
	if err == nil && s == nil {
		s, err = kv.New(k.cfg, k.be, k.pool)
	}
	if err != nil {
		return nil, err
	}
	p, err := kv.NewPolicy(k.o.Policy, k.o.Options)
	if err != nil {
		s.Close()
		return nil, err
	}
	return k.rows(s, p, len(ids), ends)
}

// OpenOver is Open for a benchmark: the first rows are those that fill adds to an empty store, whatever the tokens.
func (k *SentenceKV) OpenOver(fill func(*kv.Store) error, ids []int32, ends []int) (vae.KV, error) {
	s, err := kv.New(k.cfg, k.be, k.pool)
	if err != nil {
		return nil, err
	}
	p, err := kv.NewPolicy(k.o.Policy, k.o.Options)
	if err == nil {
		err = fill(s)
	}
	if err != nil {
		s.Close()
		return nil, err
	}
	return k.rows(s, p, len(ids), ends)
}

// rows returns a KV over a store whose first rows may be there.
func (k *SentenceKV) rows(s *kv.Store, p kv.Policy, prompt int, ends []int) (*sentenceRows, error) {
	r, err := kv.NewReader(s, p, k.o.Budget)
	if err != nil {
		s.Close()
		return nil, err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	x := &sentenceRows{k: k}
	if n := len(k.free); n > 0 {
		x, k.free = k.free[n-1], k.free[:n-1]
	}
	x.reset(s, r, prompt, ends)
	return x, nil
}

// lookup returns a store of rows of an earlier request that began alike, or nil.
func (k *SentenceKV) lookup(ids []int32, ends []int) (*kv.Store, error) {
	if k.tree == nil || k.o.Policy == "h2o" {
		return nil, nil
	}
	at, err := k.cfg.Ends(ends)
	if err != nil {
		return nil, err
	}
	most, _ := slices.BinarySearch(at, len(ids)-k.window()+1)
	s, _, err := k.tree.Lookup(k.cfg, ids, at[:most])
	return s, err
}

// Close implements Keeper.
func (k *SentenceKV) Close(c vae.KV, ids []int32) {
	x, ok := c.(*sentenceRows)
	if !ok || x.store == nil {
		return
	}
	if k.tree != nil && len(ids) >= x.store.Sealed() {
		k.tree.Insert(x.store, ids)
	}
	x.close()
	k.mu.Lock()
	defer k.mu.Unlock()
	const most = 16
	if len(k.free) < most {
		k.free = append(k.free, x)
	}
}

// sentenceRows is the KV of one sequence.
type sentenceRows struct {
	k         *SentenceKV
	store     *kv.Store
	reader    *kv.Reader
	observers []kv.Policy // told the queries of prompts
	prompt    int         // rows before this one belong to a prompt
	ends      []int       // of sentences, ascending, not sealed yet
	layers    []layerQueries
	use       kvUse
	before    kv.PoolStats
	measured  kvSize
	reused    int // rows taken over

	keys, values, gather []float32
	args                 kernels.Attention
}

// layerQueries is the latest queries of a layer: that of row r stands at r modulo the window.
type layerQueries struct {
	ring     []float32
	rows     int // of the layer whose queries came, this far
	from     int // the first of an unbroken run of them
	observed int // rows whose queries the policy was told, this far
}

// kvUse adds up what the steps of a sequence read.
type kvUse struct {
	steps, widened  int
	rows, past      float64 // read, and there, of a key head, summed over steps and layers
	bytes, scanned  int64
	delta, estimate float64 // sums of the certified and the estimated share of the mass missed, over steps and layers
	estimates       int
}

var (
	_ Keeper   = (*SentenceKV)(nil)
	_ Sealer   = (*sentenceRows)(nil)
	_ Reporter = (*sentenceRows)(nil)
)

func (x *sentenceRows) reset(s *kv.Store, r *kv.Reader, prompt int, ends []int) {
	x.store, x.reader, x.prompt, x.use, x.reused, x.before = s, r, prompt, kvUse{}, s.Len(), x.k.pool.Stats()
	x.measured = kvSize{}
	x.observers = append(x.observers[:0], r.Policy)
	x.ends = x.ends[:0]
	for _, e := range ends {
		if e > s.Sealed() {
			x.ends = append(x.ends, e)
		}
	}
	x.layers = slices.Grow(x.layers[:0], x.k.cfg.Layers)[:x.k.cfg.Layers]
	for l := range x.layers {
		x.layers[l].rows, x.layers[l].from, x.layers[l].observed = s.Len(), s.Len(), s.Len()
	}
}

func (x *sentenceRows) close() {
	x.store.Close()
	x.store, x.reader = nil, nil
	clear(x.observers)
	x.observers = x.observers[:0]
}

// Len returns the number of rows that every layer has.
func (x *sentenceRows) Len() int { return x.store.Len() }

// kvSize is the bytes of so many rows.
type kvSize struct {
	rows  int
	bytes int64
}

// Bytes returns the bytes of the rows kept, in every tier. Between full blocks of 64 rows it adds up what came since it
// counted them.
func (x *sentenceRows) Bytes() int64 {
	const block = 64
	n, m := x.store.Len(), &x.measured
	if n < m.rows || n/block != m.rows/block || m.rows == 0 {
		st := x.store.Stats()
		m.rows, m.bytes = n, st.BlockBytes+st.TailBytes
	}
	c := &x.k.cfg
	return m.bytes + int64(n-m.rows)*int64(8*c.Layers*c.KVHeads*c.HeadDim)
}

// Stats implements Reporter. Hits, misses and the time waited are those of all sequences meanwhile.
func (x *sentenceRows) Stats() KVStats {
	st, pool, u := x.store.Stats(), x.k.pool.Stats(), &x.use
	return KVStats{Rows: st.Rows, Sentences: st.Segments, Bytes: st.BlockBytes + st.TailBytes, Reused: x.reused,
		Steps: u.steps, Selected: int64(u.rows), Scanned: u.bytes + u.scanned, Hits: pool.Hits - x.before.Hits,
		Misses: pool.Misses - x.before.Misses, FileBytes: st.FileBytes, StallNs: int64(pool.Stall - x.before.Stall)}
}

// Prompt says that rows up to n-1 belong to a prompt, such as a further turn: they attend to everything, also where they
// come one at a time.
func (x *sentenceRows) Prompt(n int) { x.prompt = max(x.prompt, n) }

// Seal says that a sentence ends before row n. It is best said before that row's predecessor comes: only then does the
// policy know, at the step of the sentence's last token, that it is the last.
func (x *sentenceRows) Seal(n int) error {
	if i, there := slices.BinarySearch(x.ends, n); !there && n > x.store.Sealed() {
		x.ends = slices.Insert(x.ends, i, n)
	}
	return x.seal()
}

// seal cuts the rows that every layer has.
func (x *sentenceRows) seal() error {
	n, done := x.store.Len(), 0
	for ; done < len(x.ends) && x.ends[done] <= n; done++ {
		if err := x.store.Seal(x.ends[done]); err != nil {
			return err
		}
	}
	x.ends = append(x.ends[:0], x.ends[done:]...)
	if n-x.store.Sealed() >= x.k.cfg.MaxSegment {
		return x.store.Split(n)
	}
	return nil
}

// Attend implements vae.KV.
func (x *sentenceRows) Attend(out, q, k, v op.Mat, layer int, spans *kernels.Spans, h op.Heads) error {
	if q.R == 0 {
		return nil
	}
	first := x.store.Rows(layer)
	if err := x.store.Append(layer, k.F32(), v.F32()); err != nil {
		return err
	}
	var err error
	// A row that sees all others takes a step; so does each of a few that all see one another, as the latents of one sentence.
	all := len(spans.KLo) == 1 && spans.KLo[0] == 0 && int(spans.KHi[0]) == first+q.R && (q.R == 1 || !spans.Causal)
	if first < x.prompt || first == 0 || !all {
		if err = x.dense(out, q, k, v, layer, first, spans, h); err == nil {
			err = x.observe(layer, first, q)
		}
	} else {
		for r := 0; r < q.R && err == nil; r++ {
			err = x.step(out.Rows(r, r+1), q.Rows(r, r+1), layer, first+r)
		}
	}
	x.layers[layer].keep(q.F32(), first, x.k.window(), q.C)
	if err == nil && layer == len(x.layers)-1 {
		err = x.seal()
	}
	return err
}

// step lets one row attend to what the policy chooses.
func (x *sentenceRows) step(out, q op.Mat, layer, row int) error {
	_, ends := slices.BinarySearch(x.ends, row+1)
	rep, err := x.reader.Step(out.F32(), kv.Query{Layer: layer, Q: q.F32(), Ends: ends})
	if err != nil {
		return err
	}
	u := &x.use
	if layer == 0 {
		u.steps++
	}
	if rep.Widened {
		u.widened++
	}
	u.rows += rep.Rows
	u.past += float64(x.store.Rows(layer))
	u.bytes += rep.Bytes
	u.scanned += rep.Scanned
	u.delta += rep.Delta
	for _, m := range rep.Mass {
		if m == m {
			u.estimate += float64(1 - m)
			u.estimates++
		}
	}
	return nil
}

// dense lets rows from first on attend to all rows that the spans name.
func (x *sentenceRows) dense(out, q, k, v op.Mat, layer, first int, spans *kernels.Spans, h op.Heads) error {
	n := first + k.R
	x.args = kernels.Attention{Out: out.Buf, Q: q.Buf, K: k.Buf, V: v.Buf, Spans: spans, N: q.R, M: n, H: h.Query, KV: h.KV,
		HeadDim: h.Size, Scale: h.Scale}
	if first > 0 || x.k.cfg.Type != kv.F32 {
		if size := n * k.C; len(x.keys) < size {
			x.keys, x.values = make([]float32, 2*size), make([]float32, 2*size)
		}
		keys, values := x.keys[:n*k.C], x.values[:n*k.C]
		if err := x.store.Read(keys, values, layer, 0, n); err != nil {
			return err
		}
		x.args.K, x.args.V = kernels.Of(keys), kernels.Of(values)
	}
	x.k.be.Attention(&x.args)
	return nil
}

// observe tells the policy the queries of rows of a prompt. Where rows were written since the last prompt, a policy that
// looks at a window of queries is told the latest of those too, so that a short turn does not leave it with few.
func (x *sentenceRows) observe(layer, first int, q op.Mat) error {
	l, queries, from := &x.layers[layer], q.F32(), first
	if short := x.k.window() - q.R; first > l.observed && short > 0 && l.rows == first {
		m := min(short, first-l.from)
		x.gather = x.gather[:0]
		for r := first - m; r < first; r++ {
			at := r % x.k.window() * q.C
			x.gather = append(x.gather, l.ring[at:at+q.C]...)
		}
		x.gather = append(x.gather, queries...)
		queries, from = x.gather, first-m
	}
	l.observed = first + q.R
	for _, p := range x.observers {
		at, rows := from, queries
		if p.Name() == "h2o" { // it has counted what the written rows attended to
			at, rows = first, q.F32()
		}
		if err := p.Observe(x.store, layer, at, rows); err != nil {
			return err
		}
	}
	return nil
}

// keep remembers the queries of rows from first on.
func (l *layerQueries) keep(q []float32, first, window, width int) {
	if len(l.ring) != window*width {
		l.ring = make([]float32, window*width)
	}
	n := len(q) / width
	if l.rows != first {
		l.from = first
	}
	l.rows = first + n
	l.from = max(l.from, l.rows-window)
	for r := max(0, n-window); r < n; r++ {
		copy(l.ring[(first+r)%window*width:], q[r*width:(r+1)*width])
	}
}
