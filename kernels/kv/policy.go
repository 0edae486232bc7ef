package kv

import (
	"fmt"
	"math"
	"slices"
	"strings"
)

// Query is what a step knows when a layer is about to attend.
type Query struct {
	Layer int
	Q     []float32 // (H, K), after rotation
	Ends  bool      // the step's own row, the latest of the layer, ends a sentence
}

// Policy chooses the rows that a step reads. It belongs to one sequence: it may remember what it saw of it.
type Policy interface {
	Name() string

	// Observe is told the queries of rows of the prompt, which the layer has and which attended to everything before
	// them. Calls for a layer come in the order of the rows; a prompt may come in any number of them.
	//
	//	q (N, H*K)    queries of rows first to first+N-1
	Observe(s *Store, layer, first int, q []float32) error

	// Select overwrites sel with the rows to read for a step whose own row is the latest of the layer.
	Select(s *Store, q Query, b Budget, sel *Selection) error

	// Fork returns a policy that remembers the same and goes its own way from here.
	Fork() Policy
}

// widener is a policy that can certify the error of a selection and widen it.
type widener interface {
	// widen adds rows to sel until the missing mass of every head is certainly at most eps, given the log-sum-exp that
	// the rows of sel have, and says whether it added any. With eps = 1 it only sets sel.Missing. certifies says
	// whether that is wanted under a budget that is not bounded.
	widen(s *Store, q Query, lse []float32, eps float64, sel *Selection) (bool, error)
	certifies() bool
}

// Selection is a policy's answer.
type Selection struct {
	Ranges [][]Range // of each key head, or of each head; ascending, disjoint

	// Mass estimates the share of the softmax mass that the rows hold, of each head; NaN if the policy has no estimate.
	Mass []float32
	// Missing is at least the log-sum-exp of the scores of all rows that are not read, of each head: +Inf if the policy
	// has no bound, -Inf if all are read.
	Missing []float64

	// Scanned is the bytes that the choice itself read: summaries, and keys looked at.
	Scanned int64

	rest []remainder // of each key head: an estimate of what is not read
}

// reset makes room for lists of ranges and forgets everything else.
func (sel *Selection) reset(lists, H int) {
	sel.Ranges = sized(sel.Ranges, lists)
	for i := range sel.Ranges {
		sel.Ranges[i] = sel.Ranges[i][:0]
	}
	sel.Mass, sel.Missing = sized(sel.Mass, H), sized(sel.Missing, H)
	for h := range H {
		sel.Mass[h], sel.Missing[h] = float32(math.NaN()), math.Inf(1)
	}
	for i := range sel.rest {
		sel.rest[i].reset()
	}
	sel.rest, sel.Scanned = sel.rest[:0], 0
}

// all selects n rows for every list.
func (sel *Selection) all(n int) {
	for i := range sel.Ranges {
		sel.Ranges[i] = extend(sel.Ranges[i][:0], 0, n)
	}
	for h := range sel.Mass {
		sel.Mass[h], sel.Missing[h] = 1, math.Inf(-1)
	}
	for i := range sel.rest {
		sel.rest[i].reset()
	}
}

// Rows returns the rows read, on average over the lists.
func (sel *Selection) Rows() float64 {
	n := 0
	for _, rs := range sel.Ranges {
		n += rowsOf(rs)
	}
	return float64(n) / float64(max(len(sel.Ranges), 1))
}

// sized returns s with length n, its elements kept where they exist.
func sized[T any](s []T, n int) []T {
	if n <= cap(s) {
		return s[:n]
	}
	return append(s[:cap(s)], make([]T, n-cap(s))...)
}

// Options are the parameters of the policies. The zero value gives the defaults named here.
type Options struct {
	Sinks       int     // first rows always read: 4; 32 for paper and reference
	Recent      int     // latest rows always read: 32
	Window      int     // queries at the end of the prompt that snapkv, paper, reference and ours look at: 32
	Prior       float64 // ours: the share of the budget for the rows that these attend to most: 0.4; none if negative
	Pool        int     // width of the max-pooling of snapkv and reference: 7
	Keep        float64 // paper and reference keep Keep times the budget of the prompt: 3
	Page        int     // rows of a page of quest: 16
	DenseLayers int     // layers that quest and ours read whole
	Floor       int     // rows that ours gives every key head at least, up to the budget: 64
	Cap         int     // how many times the budget ours gives a key head at most: 4
	FlatLimit   int     // segments up to which ours looks at all of them: 2048; -1 to go through two levels by bounds
	Full        bool    // paper: read everything kept at the token that ends a sentence and the next, as the published code does
	Certify     bool    // ours: bound the error under every budget
	Spread      bool    // ours: rank by the variances of the keys besides their means, in float32; nine times the bytes to look at
	NoRest      bool    // ours: leave out the estimate of what is not read
	NoAdapt     bool    // ours: the same budget for every key head
}

// Policies are the names that NewPolicy knows.
var Policies = []string{"dense", "recent", "h2o", "snapkv", "quest", "paper", "reference", "ours"}

// NewPolicy returns the policy of that name:
//
//	dense      every row
//	recent     the first rows and the latest (Xiao et al. 2023, "sinks")
//	h2o        the latest half, and the rows with the largest attention so far; others are dropped for ever (Zhang et al. 2023)
//	snapkv     the rows that the end of the prompt attends to; others are dropped for ever (Li et al. 2024)
//	quest      pages of 16 rows, by the box around their keys (Tang et al. 2024)
//	paper      SentenceKV as published (arXiv 2504.00970), for each key head
//	reference  SentenceKV as its published code behaves, for each query head
//	ours       segments by estimated mass for each row, two levels, bounds, and an estimate of the rest
func NewPolicy(name string, o Options) (Policy, error) {
	def := func(p *int, v int) {
		if *p == 0 {
			*p = v
		}
	}
	if name == "paper" || name == "reference" {
		def(&o.Sinks, 32)
	}
	def(&o.Sinks, 4)
	def(&o.Recent, 32)
	def(&o.Window, 32)
	def(&o.Pool, 7)
	def(&o.Page, 16)
	def(&o.Floor, 64)
	def(&o.Cap, 4)
	def(&o.FlatLimit, 2048)
	if o.Keep == 0 {
		o.Keep = 3
	}
	if o.Prior == 0 {
		o.Prior = 0.4
	}
	if o.Sinks < 0 || o.Recent < 1 || o.Window < 1 || o.Pool < 1 || o.Page < 1 || o.Keep < 1 || o.Floor < 0 || o.Cap < 1 ||
		!(o.Prior <= 1) {
		return nil, fmt.Errorf("kv: policy options out of range: %+v", o)
	}
	switch name {
	case "dense":
		return dense{}, nil
	case "recent":
		return recent{o}, nil
	case "h2o":
		return &h2o{o: o}, nil
	case "snapkv":
		return &snapkv{o: o}, nil
	case "quest":
		return &quest{o: o}, nil
	case "paper":
		return &paper{o: o}, nil
	case "reference":
		return &reference{o: o}, nil
	case "ours":
		return &ours{o: o}, nil
	}
	return nil, fmt.Errorf("kv: unknown policy %q (want %s)", name, strings.Join(Policies, ", "))
}

// Reader reads a store by a policy under a budget, step by step. It belongs to one sequence.
type Reader struct {
	Store  *Store
	Policy Policy
	Budget Budget

	sel  Selection
	lse  []float32
	last [][][]Range // of each layer: what the last step read
}

// Report says what a step read.
type Report struct {
	Rows    float64   // for each key head, on average
	Lists   int       // KV, or H for a policy that chooses for each head
	Bytes   int64     // of the rows, as they are kept
	Scanned int64     // bytes that the choice read besides
	Mass    []float32 // estimate of the softmax mass that the rows hold, of each head; valid until the next step
	Delta   float64   // certified: no head misses more of its softmax mass; 1 if nothing is known
	Err     float64   // certified: no head's output is further off, in the 2-norm; +Inf if nothing is known
	Widened bool      // the first selection was not good enough
}

// NewReader checks that policy and budget go together.
func NewReader(s *Store, p Policy, b Budget) (*Reader, error) {
	if _, ok := p.(widener); b.Bounded && !ok {
		return nil, fmt.Errorf("kv: policy %s has no certified bound (want ours for budget %s)", p.Name(), b)
	}
	if !b.Exact && b.Rows <= 0 && !(b.Percent > 0) {
		return nil, fmt.Errorf("kv: empty budget")
	}
	return &Reader{Store: s, Policy: p, Budget: b, last: make([][][]Range, s.cfg.Layers)}, nil
}

// Fork returns a reader of a fork of the store. Its store must be closed.
func (r *Reader) Fork() *Reader {
	return &Reader{Store: r.Store.Fork(), Policy: r.Policy.Fork(), Budget: r.Budget, last: make([][][]Range, r.Store.cfg.Layers)}
}

// Step overwrites out (H, K) with the attention of a query whose own row is the latest of the layer. It asks for the
// rows that the next layer read one step ago to be read ahead.
func (r *Reader) Step(out []float32, q Query) (Report, error) {
	s, n := r.Store, r.Store.layers[q.Layer].rows
	if n == 0 {
		return Report{}, fmt.Errorf("kv: layer %d has no rows to attend to", q.Layer)
	}
	r.lse = sized(r.lse, s.cfg.Heads)
	if next := (q.Layer + 1) % s.cfg.Layers; r.last[next] != nil {
		s.Prefetch(next, r.last[next])
	}
	if err := r.Policy.Select(s, q, r.Budget, &r.sel); err != nil {
		return Report{}, err
	}
	if err := s.Attend(out, r.lse, q.Q, q.Layer, r.sel.Ranges); err != nil {
		return Report{}, err
	}
	rep := Report{Lists: len(r.sel.Ranges)}
	if w, ok := r.Policy.(widener); ok && (r.Budget.Bounded || w.certifies()) {
		eps := 1.0
		if r.Budget.Bounded {
			eps = r.Budget.Eps
		}
		more, err := w.widen(s, q, r.lse, eps, &r.sel)
		if err != nil {
			return Report{}, err
		}
		if rep.Widened = more; more {
			if err := s.Attend(out, r.lse, q.Q, q.Layer, r.sel.Ranges); err != nil {
				return Report{}, err
			}
		}
	}
	rep.Rows, rep.Mass, rep.Scanned = r.sel.Rows(), r.sel.Mass, r.sel.Scanned
	rep.Bytes = int64(rep.Rows*float64(rep.Lists)+0.5) * int64(4*blockWords(s.cfg.Type, s.cfg.HeadDim)) / blockRows
	rep.Delta, rep.Err = s.certify(&r.sel, r.lse, q.Layer)
	s.blend(out, r.lse, &r.sel)
	if s.pool.limit > 0 {
		r.remember(q.Layer)
	}
	return rep, nil
}

// LogSumExp returns the log-sum-exp of the scores of the rows that the last step read, of each head; valid until the next
// step. Less that of all rows, it is the logarithm of the softmax mass that was read.
func (r *Reader) LogSumExp() []float32 { return r.lse }

func (r *Reader) remember(layer int) {
	r.last[layer] = sized(r.last[layer], len(r.sel.Ranges))
	for i, rs := range r.sel.Ranges {
		r.last[layer][i] = append(r.last[layer][i][:0], rs...)
	}
}

// certify returns bounds on the softmax mass that a selection misses, and on the error of the output, over all heads.
//
// With Z the sum of exp over the rows read and T <= U over the others, the missing mass is τ = T/(Z+T) <= U/(Z+U) = δ.
// Let o be the output of all rows, o' that of the rows read and t that of the others: o = (1-τ)o' + τt. The answer is
// (1-ρ)o' + ρr, where r, made of mean values, estimates t, and ρ estimates τ (there may be no estimate: ρ = 0). So
// |o - answer| = |(ρ-τ)o' + τt - ρr| <= 2·max(δ, ρ)·max‖v‖.
func (s *Store) certify(sel *Selection, lse []float32, layer int) (delta, norm float64) {
	group := s.cfg.Heads / s.cfg.KVHeads
	for h, missing := range sel.Missing {
		if math.IsInf(missing, -1) {
			continue
		}
		if math.IsInf(missing, 1) {
			return 1, math.Inf(1)
		}
		d := missingShare(float64(lse[h]), missing)
		rho := 0.0
		if len(sel.rest) > 0 {
			rho = sel.rest[h/group].share(h%group, group, float64(lse[h]))
		}
		delta, norm = max(delta, d), max(norm, 2*max(d, rho)*s.largestValue(layer, h/group))
	}
	return delta, norm
}

// missingShare returns U/(Z+U) from the logarithms, with Z a little less than lse says, as that was rounded.
func missingShare(lse, missing float64) float64 {
	lse -= 1e-5 * (10 + math.Abs(lse))
	return 1 / (1 + math.Exp(lse-missing))
}

// largestValue returns at least the largest norm of a value of a head, in any row that has a summary or lies open.
func (s *Store) largestValue(layer, kvHead int) float64 {
	hd := &s.layers[layer].heads[kvHead]
	var most float64
	for p := range hd.par.len() {
		most = max(most, float64(hd.par.info.row(p)[infoValue]))
	}
	for i := hd.par.len() * paragraph; i < hd.seg.len(); i++ {
		most = max(most, float64(hd.seg.info.row(i)[infoValue]))
	}
	sc := s.scratch.Get().(*scratch)
	defer s.put(sc)
	n, K := s.layers[layer].rows-s.Sealed(), s.cfg.HeadDim
	v := sc.floats(n * K)
	if err := s.read(nil, v, hd, s.Sealed(), s.layers[layer].rows); err != nil {
		return math.Inf(1)
	}
	for r := range n {
		most = max(most, math.Sqrt(norm2(v[r*K:(r+1)*K]))*(1+1e-6))
	}
	return most
}

// edges returns how many of n rows are read at the start and at the end under a budget of b rows for each key head: at
// most sinks and recent, and at most half the budget at the start.
func edges(n, b, sinks, recent int) (first, last int) {
	b = min(b, n)
	first = min(sinks, b/2)
	return first, min(recent, b-first)
}

type dense struct{}

func (dense) Name() string                              { return "dense" }
func (dense) Observe(*Store, int, int, []float32) error { return nil }
func (d dense) Fork() Policy                            { return d }

func (dense) Select(s *Store, q Query, _ Budget, sel *Selection) error {
	sel.reset(s.cfg.KVHeads, s.cfg.Heads)
	sel.all(s.layers[q.Layer].rows)
	return nil
}

type recent struct{ o Options }

func (recent) Name() string                              { return "recent" }
func (recent) Observe(*Store, int, int, []float32) error { return nil }
func (p recent) Fork() Policy                            { return p }

func (p recent) Select(s *Store, q Query, b Budget, sel *Selection) error {
	sel.reset(s.cfg.KVHeads, s.cfg.Heads)
	n := s.layers[q.Layer].rows
	if b.Of(n) >= n {
		sel.all(n)
		return nil
	}
	first, last := edges(n, b.Of(n), p.o.Sinks, n)
	for i := range sel.Ranges {
		sel.Ranges[i] = extend(extend(sel.Ranges[i], 0, first), n-last, n)
	}
	return nil
}

// layerStates is what a policy remembers of each layer.
type layerStates[T any] []*T

// of returns the state of a layer, made by fresh the first time.
func (l *layerStates[T]) of(layer int, fresh func() *T) *T {
	for len(*l) <= layer {
		*l = append(*l, nil)
	}
	if (*l)[layer] == nil {
		(*l)[layer] = fresh()
	}
	return (*l)[layer]
}

func (l layerStates[T]) fork(copyOf func(*T) *T) layerStates[T] {
	c := slices.Clone(l)
	for i, t := range c {
		if t != nil {
			c[i] = copyOf(t)
		}
	}
	return c
}
