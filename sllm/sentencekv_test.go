package sllm

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"svae/kernels"
	"svae/kernels/cpu"
	"svae/kernels/kv"
	"svae/kernels/op"
	"svae/kernels/ref"
	"svae/vae"
)

// kvModel is a small random model whose logits are computed through a KV.
type kvModel struct {
	t     *testing.T
	arch  *vae.Arch
	store *vae.Store
	be    kernels.Backend
	model *LM[op.Mat]
	ids   []int32
	ends  []int
}

// kvArchs are the families: rotary positions with grouped heads, and learned positions before and after their offset.
func kvArchs() map[string]vae.Arch {
	yes := true
	return map[string]vae.Arch{
		"llama": {ModelType: "llama", HiddenSize: 48, NumLayers: 2, NumHeads: 6, NumKVHeads: 2, HeadDim: 8, VocabSize: 50, Positions: 512,
			Intermediate: 64, RMSNormEps: 1e-5, RopeTheta: 1e4, HiddenAct: "silu", BOS: 1, EOS: 2},
		"opt": {ModelType: "opt", HiddenSize: 32, NumLayers: 2, NumHeads: 4, NumKVHeads: 4, HeadDim: 8, VocabSize: 50, Positions: 512,
			FFNDim: 48, EmbedDim: 32, PreNorm: &yes, Act: "relu", Tied: true, BOS: 2, EOS: 2},
		"gpt2": {ModelType: "gpt2", HiddenSize: 32, NumLayers: 2, NumHeads: 4, NumKVHeads: 4, HeadDim: 8, VocabSize: 50, Positions: 512,
			FFNDim: 64, Act: "gelu_new", Tied: true, BOS: 2, EOS: 2},
	}
}

// newKVModel draws the weights of a model and a text of n tokens in sentences of 3 to 20, two of them longer than a segment.
func newKVModel(t *testing.T, a vae.Arch, n int) *kvModel {
	t.Helper()
	if err := a.Validate(); err != nil {
		t.Fatal(err)
	}
	be := cpu.New()
	s, err := vae.NewStore(be, lmWeights(&a))
	if err == nil {
		err = s.Init(7, nil)
	}
	if err != nil {
		t.Fatal(err)
	}
	s.Pack()
	m := &kvModel{t: t, arch: &a, store: s, be: be, model: NewLM(&a, s.Mat)}
	rng := rand.New(rand.NewPCG(3, uint64(n)))
	for len(m.ids) < n {
		long := 3 + rng.IntN(18)
		if len(m.ends) == 4 || len(m.ends) == 9 {
			long = 70
		}
		for range long {
			m.ids = append(m.ids, int32(3+rng.IntN(47)))
		}
		m.ends = append(m.ends, len(m.ids))
	}
	m.ids = m.ids[:n]
	return m
}

// run passes ids through a KV, chunk of them at a time, and returns the logits of every row. Where it goes one by one, it
// says ahead where sentences end.
func (m *kvModel) run(c vae.KV, ids []int32, chunk int) (logits [][]float32) {
	m.t.Helper()
	o := op.NewEager(m.be)
	for at := 0; at < len(ids); at += chunk {
		part := ids[at:min(at+chunk, len(ids))]
		first := c.Len()
		if s, ok := c.(Sealer); ok && slices.Contains(m.ends, first+1) && chunk == 1 {
			if err := s.Seal(first + 1); err != nil {
				m.t.Fatal(err)
			}
		}
		var seq vae.Seq
		seq.Next(first, len(part), m.arch.PosOffset())
		o.Reset()
		var failed error
		h := m.model.Hidden(o, &op.Ints{V: part}, &seq, func(layer int, q, k, v op.Mat, seq *vae.Seq, h op.Heads) op.Mat {
			out := o.New(q.R, q.C)
			if err := c.Attend(out, q, k, v, layer, &seq.Spans, h); err != nil && failed == nil {
				failed = err
			}
			return out
		})
		l := o.Linear(h, m.model.head, op.Mat{}, kernels.None)
		if failed != nil || o.Err() != nil {
			m.t.Fatal(failed, o.Err())
		}
		for r := range len(part) {
			logits = append(logits, slices.Clone(l.F32()[r*l.C:(r+1)*l.C]))
		}
	}
	return logits
}

func (m *kvModel) keeper(o KVOptions) *SentenceKV {
	m.t.Helper()
	k, err := NewSentenceKV(m.arch, m.be, "test", o)
	if err != nil {
		m.t.Fatal(err)
	}
	m.t.Cleanup(func() { k.Discard() })
	return k
}

// open returns the KV of a prompt of n tokens.
func (m *kvModel) open(k *SentenceKV, n int) *sentenceRows {
	m.t.Helper()
	i, _ := slices.BinarySearch(m.ends, n+1)
	c, err := k.Open(m.ids[:n], m.ends[:i])
	if err != nil {
		m.t.Fatal(err)
	}
	return c.(*sentenceRows)
}

// sameRows fails unless all logits have the same bits.
func sameRows(t *testing.T, what string, got, want [][]float32) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%s: %d rows, want %d", what, len(got), len(want))
	}
	for r := range want {
		if !slices.Equal(got[r], want[r]) {
			t.Fatalf("%s: the logits of row %d of %d are others", what, r, len(want))
		}
	}
}

// Three turns: a prompt, tokens written, a short second turn, tokens written.
const (
	kvPrompt  = 150
	kvWritten = 190
	kvTurn    = 199
	kvTokens  = 230
)

// turns runs all three.
func (m *kvModel) turns(c vae.KV, chunk int) [][]float32 {
	l := m.run(c, m.ids[c.Len():kvPrompt], chunk)
	l = append(l, m.run(c, m.ids[kvPrompt:kvWritten], 1)...)
	if p, ok := c.(interface{ Prompt(int) }); ok {
		p.Prompt(kvTurn)
	}
	l = append(l, m.run(c, m.ids[kvWritten:kvTurn], min(chunk, 8))...)
	return append(l, m.run(c, m.ids[kvTurn:kvTokens], 1)...)
}

// TestSentenceKVDense: a budget that allows every row gives the bits of the plain cache, at every token, in whatever chunks
// the prompt came.
func TestSentenceKVDense(t *testing.T) {
	for name, a := range kvArchs() {
		t.Run(name, func(t *testing.T) {
			m := newKVModel(t, a, kvTokens)
			want := m.turns(vae.NewCache(m.be), kvPrompt)
			for _, policy := range kv.Policies {
				if policy == "reference" { // which leaves rows out under every budget, as its original does
					continue
				}
				for _, b := range []kv.Budget{{Percent: 100}, {Exact: true}} {
					k := m.keeper(KVOptions{Policy: policy, Budget: b})
					for _, chunk := range []int{1, 7, 64, kvPrompt} {
						c := m.open(k, kvPrompt)
						sameRows(t, fmt.Sprintf("%s %s in chunks of %d", policy, b, chunk), m.turns(c, chunk), want)
						if got, plain := c.Bytes(), int64(2*4*kvTokens*a.NumLayers*a.NumKVHeads*a.HeadDim); got != plain {
							t.Errorf("%d bytes, want %d", got, plain)
						}
						k.Close(c, m.ids)
					}
				}
			}
			bounded := m.keeper(KVOptions{Policy: "ours", Budget: kv.Budget{Bounded: true, Eps: 0, Percent: 10}})
			sameRows(t, "ours bounded:0", m.turns(m.open(bounded, kvPrompt), 64), want)
		})
	}
}

// TestSentenceKVChunks: in whatever chunks the prompt comes, every policy chooses the same rows afterwards, and others than
// all: the logits have the same bits, which are not the plain cache's.
func TestSentenceKVChunks(t *testing.T) {
	m := newKVModel(t, kvArchs()["llama"], kvTokens)
	dense := m.turns(vae.NewCache(m.be), kvPrompt)
	for _, policy := range kv.Policies[1:] {
		for _, typ := range []kv.Type{kv.F32, kv.BF16} {
			k := m.keeper(KVOptions{Policy: policy, Budget: kv.Budget{Rows: 48}, Type: typ})
			want := m.turns(m.open(k, kvPrompt), kvPrompt)
			for _, chunk := range []int{1, 7, 64} {
				sameRows(t, fmt.Sprintf("%s %s in chunks of %d", policy, typ, chunk), m.turns(m.open(k, kvPrompt), chunk), want)
			}
			if typ == kv.F32 {
				sameRows(t, policy+": the prompt", want[:kvPrompt], dense[:kvPrompt])
				if slices.Equal(want[kvTokens-1], dense[kvTokens-1]) {
					t.Errorf("%s reads everything under a budget of 48 rows", policy)
				}
			}
		}
	}
}

// TestSentenceKVPrefix: a request that begins as an earlier one did takes its rows over, and computes what a cold one does,
// the choice of rows included.
func TestSentenceKVPrefix(t *testing.T) {
	m := newKVModel(t, kvArchs()["llama"], kvTokens)
	other := slices.Clone(m.ids)
	for i := 120; i < len(other); i++ {
		other[i] = (other[i]+11)%47 + 3
	}
	for _, policy := range kv.Policies {
		for _, typ := range []kv.Type{kv.F32, kv.BF16} {
			o := KVOptions{Policy: policy, Budget: kv.Budget{Rows: 48}, Type: typ}
			cold := m.turns(m.open(m.keeper(o), kvPrompt), 64)
			o.Prefix = 1 << 20
			k := m.keeper(o)
			first := *m
			first.ids = other
			c := first.open(k, kvPrompt)
			first.turns(c, 64)
			k.Close(c, other)
			c = m.open(k, kvPrompt)
			n := c.Len()
			switch {
			case policy == "h2o" && n != 0:
				t.Errorf("h2o took %d rows over, but not what it was told about them", n)
			case policy != "h2o" && (n < 64 || n > 120):
				t.Errorf("%s took %d rows over, of 120 shared ones", policy, n)
			}
			sameRows(t, policy+" behind a known beginning", m.turns(c, 64), cold[n:])
			if st := c.Stats(); st.Reused != n || st.Steps != kvTokens-kvPrompt-(kvTurn-kvWritten) || st.Rows != kvTokens {
				t.Errorf("%s counts %+v", policy, st)
			}
			k.Close(c, m.ids)
			c = m.open(k, kvPrompt) // all of it is known now
			if n := c.Len(); policy != "h2o" && (n > kvPrompt-32 || n < 90) {
				t.Errorf("%s took %d rows of a known prompt of %d over: the last 32 must be computed again", policy, n, kvPrompt)
			}
			n = c.Len()
			sameRows(t, policy+" behind a known prompt", m.turns(c, 7), cold[n:])
		}
	}
	k := m.keeper(KVOptions{Policy: "ours", Budget: kv.Budget{Rows: 48}, Prefix: 1 << 20})
	c := m.open(k, 20)
	m.run(c, m.ids[:20], 20)
	k.Close(c, m.ids[:20])
	if n := m.open(k, 20).Len(); n != 0 {
		t.Errorf("%d rows of a prompt of 20 taken over", n)
	}
}

// watch notes what a policy is told and what it chooses.
type watch struct {
	kv.Policy
	layer  int
	first  []int
	rows   []int
	q      [][]float32
	ends   []bool
	chosen [][][]kv.Range
}

func (w *watch) Observe(s *kv.Store, layer, first int, q []float32) error {
	if layer == w.layer {
		w.first, w.rows, w.q = append(w.first, first), append(w.rows, s.Rows(layer)), append(w.q, slices.Clone(q))
	}
	return w.Policy.Observe(s, layer, first, q)
}

func (w *watch) Select(s *kv.Store, q kv.Query, b kv.Budget, sel *kv.Selection) error {
	err := w.Policy.Select(s, q, b, sel)
	if q.Layer == w.layer {
		var lists [][]kv.Range
		for _, rs := range sel.Ranges {
			lists = append(lists, slices.Clone(rs))
		}
		w.ends, w.chosen = append(w.ends, q.Ends), append(w.chosen, lists)
	}
	return err
}

// watched opens a KV under a policy that is watched.
func (m *kvModel) watched(o KVOptions, prompt int) (*sentenceRows, *watch) {
	m.t.Helper()
	c := m.open(m.keeper(o), prompt)
	w := &watch{Policy: c.reader.Policy, layer: 1}
	r, err := kv.NewReader(c.store, w, o.Budget)
	if err != nil {
		m.t.Fatal(err)
	}
	c.reader, c.observers = r, []kv.Policy{w}
	return c, w
}

// TestSentenceKVWindow: a policy sees the last 32 queries of the text at the end of every turn, however short, and at each
// step whether its token ends a sentence.
func TestSentenceKVWindow(t *testing.T) {
	m := newKVModel(t, kvArchs()["llama"], kvTokens)
	all, err := CaptureKV(t.Context(), m.arch, m.store, m.ids, 33)
	if err != nil {
		t.Fatal(err)
	}
	c, w := m.watched(KVOptions{Policy: "dense", Budget: kv.Budget{Exact: true}, Shortest: 1}, kvPrompt)
	m.turns(c, 64)
	width := m.arch.NumHeads * m.arch.HeadDim
	if want := []int{0, 64, 128, kvTurn - 33, kvTurn - 1}; !slices.Equal(w.first, want) {
		t.Fatalf("told of queries from rows %v on, want %v", w.first, want)
	}
	for i, first := range w.first {
		n := len(w.q[i]) / width
		if first+n != w.rows[i] || !slices.Equal(w.q[i], all.Q[1][first*width:(first+n)*width]) {
			t.Errorf("call %d: other queries than those of rows %d to %d", i, first, first+n-1)
		}
	}
	step := 0
	for row := kvPrompt; row < kvTokens; row++ {
		if row >= kvWritten && row < kvTurn {
			continue
		}
		if w.ends[step] != slices.Contains(m.ends, row+1) {
			t.Errorf("row %d ends a sentence: the policy was told %v", row, w.ends[step])
		}
		step++
	}
	if n := c.store.Segments(); n < len(m.ends)-1 {
		t.Errorf("%d segments of %d sentences", n, len(m.ends))
	}
}

// paperChoice is SentenceKV's choice (arXiv 2504.00970, §3) for the first layer, from its formulas.
type paperChoice struct {
	all                  *KVCapture
	prompt, budget, keep int
	sinks, recent        int
	kept                 [][]bool // of each key head, rows of the prompt
	from                 int      // where the sentence that is written begins
}

func dot(a, b []float32) (sum float64) {
	for i := range a {
		sum += float64(a[i]) * float64(b[i])
	}
	return sum
}

func (p *paperChoice) key(h, r int) []float32 {
	K := p.all.HeadDim
	return p.all.K[0][(r*p.all.KVHeads+h)*K:][:K]
}

func (p *paperChoice) query(h, r int) []float32 {
	K := p.all.HeadDim
	return p.all.Q[0][(r*p.all.Heads+h)*K:][:K]
}

// prefill keeps the window and the rows that it attends to most.
func (p *paperChoice) prefill() {
	const window = 32
	group := p.all.Heads / p.all.KVHeads
	for h := range p.all.KVHeads {
		alpha := make([]float64, p.prompt-window)
		for r := p.prompt - window; r < p.prompt; r++ {
			for g := range group {
				e, sum := make([]float64, r+1), 0.0
				for i := range e {
					e[i] = math.Exp(dot(p.query(h*group+g, r), p.key(h, i)) * p.all.Scale)
					sum += e[i]
				}
				for i := range alpha {
					alpha[i] += e[i] / sum
				}
			}
		}
		order := make([]int, len(alpha))
		for i := range order {
			order[i] = i
		}
		slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(alpha[b], alpha[a]) })
		kept := make([]bool, p.prompt)
		for _, i := range order[:p.keep-window] {
			kept[i] = true
		}
		for i := p.prompt - window; i < p.prompt; i++ {
			kept[i] = true
		}
		p.kept = append(p.kept, kept)
	}
	p.from = p.prompt
}

// rows returns what key head h reads at the step of a row, given the segments before it.
func (p *paperChoice) rows(h, row int, segments []kv.Range) []int {
	n, K, group := row+1, p.all.HeadDim, p.all.Heads/p.all.KVHeads
	type bucket struct {
		rows  []int
		score float64
	}
	var buckets []bucket
	for _, s := range segments {
		var parts [2]bucket // a sentence that the prompt's end cut is two
		for r := s.Lo; r < s.Hi; r++ {
			if r >= p.prompt {
				parts[1].rows = append(parts[1].rows, r)
			} else if p.kept[h][r] {
				parts[0].rows = append(parts[0].rows, r)
			}
		}
		for _, b := range parts {
			if len(b.rows) == 0 {
				continue
			}
			mean := make([]float32, K)
			for c := range mean {
				var sum float64
				for _, r := range b.rows {
					sum += float64(p.key(h, r)[c])
				}
				mean[c] = float32(sum / float64(len(b.rows)))
			}
			b.score = math.Inf(-1)
			for g := range group {
				var sum float64
				for r := p.from; r <= row; r++ {
					sum += dot(p.query(h*group+g, r), mean)
				}
				b.score = max(b.score, sum/float64(row+1-p.from))
			}
			buckets = append(buckets, b)
		}
	}
	slices.SortStableFunc(buckets, func(a, b bucket) int { return cmp.Compare(b.score, a.score) })
	var read []int
	for i := range p.sinks {
		read = append(read, i)
	}
	for _, b := range buckets {
		for _, r := range b.rows {
			if r >= p.sinks && r < n-p.recent && len(read) < p.budget-p.recent {
				read = append(read, r)
			}
		}
	}
	for r := n - p.recent; r < n; r++ {
		read = append(read, r)
	}
	slices.Sort(read)
	return read
}

// TestSentenceKVPaper compares the rows that the paper's policy reads inside the model, at every step, with those that its
// formulas give on the model's own queries and keys. The queries of the first layer do not depend on what is read.
func TestSentenceKVPaper(t *testing.T) {
	m := newKVModel(t, kvArchs()["llama"], kvTokens)
	all, err := CaptureKV(t.Context(), m.arch, m.store, m.ids, 64)
	if err != nil {
		t.Fatal(err)
	}
	p := &paperChoice{all: all, prompt: kvPrompt, budget: 60, keep: 90, sinks: 8, recent: 16}
	c, w := m.watched(KVOptions{Policy: "paper", Budget: kv.Budget{Rows: 60}, Options: kv.Options{Keep: 1.5, Sinks: 8, Recent: 16}}, kvPrompt)
	w.layer = 0
	m.run(c, m.ids[:kvPrompt], 64)
	p.prefill()
	changes := 0
	for row := kvPrompt; row < kvTokens; row++ {
		var segments []kv.Range
		for i := range c.store.Segments() {
			segments = append(segments, c.store.Segment(i))
		}
		if end := c.store.Sealed(); end < kvPrompt { // the prompt's last words are a bucket of their own
			segments = append(segments, kv.Range{Lo: end, Hi: kvPrompt})
		}
		m.run(c, m.ids[row:row+1], 1)
		for h, rs := range w.chosen[row-kvPrompt] {
			var got []int
			for _, r := range rs {
				for i := r.Lo; i < r.Hi; i++ {
					got = append(got, i)
				}
			}
			if want := p.rows(h, row, segments); !slices.Equal(got, want) {
				t.Fatalf("row %d, key head %d reads rows %v, the paper's formulas say %v", row, h, got, want)
			}
		}
		if row > kvPrompt && !slices.EqualFunc(w.chosen[row-kvPrompt], w.chosen[row-kvPrompt-1], slices.Equal[[]kv.Range]) {
			changes++
		}
		if slices.Contains(m.ends, row+1) {
			p.from = row + 1
		}
	}
	if changes < 20 {
		t.Errorf("the choice changed %d times in %d steps", changes, kvTokens-kvPrompt)
	}
}

// TestKVTrial: ways that run side by side cost what each costs alone.
func TestKVTrial(t *testing.T) {
	m := newKVModel(t, kvArchs()["llama"], kvTokens)
	var ways []KVOptions
	for _, policy := range kv.Policies {
		ways = append(ways, KVOptions{Policy: policy, Budget: kv.Budget{Rows: 48}}, KVOptions{Policy: policy, Budget: kv.Budget{Percent: 50}, Type: kv.I8})
	}
	trial, err := NewKVTrial(m.arch, m.store, ways)
	if err != nil {
		t.Fatal(err)
	}
	defer trial.Close()
	nats := make([]float64, len(ways))
	var got [][]float64
	for range 2 { // the second text leaves nothing of the first
		if err := trial.Prefill(m.ids[:kvPrompt], m.ends, 64); err != nil {
			t.Fatal(err)
		}
		got = got[:0]
		for row := kvPrompt; row < kvTokens-1; row++ {
			if err := trial.Step(m.ids[row], m.ids[row+1], nats); err != nil {
				t.Fatal(err)
			}
			got = append(got, slices.Clone(nats))
		}
	}
	dense := m.run(vae.NewCache(m.be), m.ids, 64)
	for i, o := range ways {
		c := m.open(m.keeper(o), kvPrompt)
		m.run(c, m.ids[:kvPrompt], 64)
		for row := kvPrompt; row < kvTokens-1; row++ {
			l := m.run(c, m.ids[row:row+1], 1)
			if want := cost(l[0], m.ids[row+1]); got[row-kvPrompt][i] != want {
				t.Fatalf("%s %s %s: row %d costs %v, alone %v", o.Policy, o.Budget, o.Type, row, got[row-kvPrompt][i], want)
			}
			if o.Policy == "dense" && o.Type == kv.F32 && got[row-kvPrompt][i] != cost(dense[row], m.ids[row+1]) {
				t.Fatalf("dense: row %d costs another than with the plain cache", row)
			}
		}
		u := trial.Use(i)
		if u.Steps != kvTokens-1-kvPrompt || u.Past != float64(kvPrompt+kvTokens)/2 || u.Rows > u.Past || u.Bytes <= 0 {
			t.Errorf("%s %s: %+v", o.Policy, o.Budget, u)
		}
	}
}

// TestSentenceKVErrors: what can not work is refused at the start, what a model computes wrong at its row.
func TestSentenceKVErrors(t *testing.T) {
	m := newKVModel(t, kvArchs()["opt"], 40)
	for what, o := range map[string]KVOptions{
		"no such policy": {Policy: "best", Budget: kv.Budget{Rows: 5}},
		"no budget":      {Policy: "ours"},
		"no bound":       {Policy: "quest", Budget: kv.Budget{Bounded: true, Eps: 0.1, Percent: 10}},
		"no window":      {Policy: "ours", Budget: kv.Budget{Rows: 5}, Options: kv.Options{Window: -1}},
	} {
		if _, err := NewSentenceKV(m.arch, m.be, "", o); err == nil {
			t.Errorf("%s: accepted", what)
		}
	}
	if _, err := NewSentenceKV(m.arch, ref.New(kernels.F64), "", KVOptions{Policy: "dense", Budget: kv.Budget{Exact: true}}); err == nil {
		t.Error("float64: accepted")
	}
	c := m.open(m.keeper(KVOptions{Policy: "ours", Budget: kv.Budget{Rows: 5}}), 10)
	bad := make([]float32, 32)
	bad[3] = float32(math.NaN())
	row := op.Mat{Buf: kernels.Of(bad), R: 1, C: 32}
	if err := c.Attend(row, row, row, row, 0, &kernels.Spans{}, op.Heads{}); err == nil {
		t.Error("a key that is not a number: accepted")
	}
	if _, err := CaptureKV(t.Context(), m.arch, m.store, make([]int32, m.arch.Positions+1), 64); err == nil {
		t.Error("capture beyond the positions: accepted")
	}
}

// TestSentenceKVSave: rows that were saved serve a request of another SentenceKV as if it had computed them; those of another
// model, and damaged files, are refused.
func TestSentenceKVSave(t *testing.T) {
	m := newKVModel(t, kvArchs()["llama"], kvTokens)
	for _, typ := range []kv.Type{kv.F32, kv.BF16} {
		o := KVOptions{Policy: "ours", Budget: kv.Budget{Rows: 48}, Type: typ, Prefix: 1 << 20}
		k := m.keeper(o)
		c := m.open(k, kvPrompt)
		cold := m.turns(c, 64)
		path := filepath.Join(t.TempDir(), "rows")
		if err := k.Save(c, m.ids, path); err != nil {
			t.Fatal(err)
		}
		if err := k.Save(c, m.ids[1:], path); err == nil {
			t.Error("saved with too few tokens")
		}
		warm := m.keeper(o)
		if n, err := warm.Load(path); n != kvTokens || err != nil {
			t.Fatalf("%d rows, %v", n, err)
		}
		w := m.open(warm, kvPrompt)
		if w.Len() < 64 {
			t.Errorf("%d rows taken over from the file", w.Len())
		}
		sameRows(t, "behind saved rows", m.turns(w, 64), cold[w.Stats().Reused:])
		other, err := NewSentenceKV(m.arch, m.be, "other weights", o)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := other.Load(path); !errors.Is(err, kv.ErrModel) {
			t.Errorf("rows of another model: %v", err)
		}
		o.Prefix = 0
		if _, err := m.keeper(o).Load(path); err == nil {
			t.Error("loaded without room")
		}
		for _, name := range []string{path, path + ".ids"} {
			b, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			for _, bad := range [][]byte{nil, b[:len(b)-1], append(slices.Clone(b), 0), append(append(slices.Clone(b[:20]), b[20]^1), b[21:]...)} {
				if err := os.WriteFile(name, bad, 0o666); err != nil {
					t.Fatal(err)
				}
				if _, err := warm.Load(path); !errors.Is(err, kv.ErrFormat) && !errors.Is(err, kv.ErrModel) {
					t.Errorf("%s of %d bytes instead of %d: %v", filepath.Base(name), len(bad), len(b), err)
				}
			}
			if err := os.WriteFile(name, b, 0o666); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// TestSentenceKVTiers: with most rows in a file the results are the same.
func TestSentenceKVTiers(t *testing.T) {
	m := newKVModel(t, kvArchs()["llama"], kvTokens)
	o := KVOptions{Policy: "ours", Budget: kv.Budget{Rows: 48}}
	want := m.turns(m.open(m.keeper(o), kvPrompt), 64)
	o.RAM, o.File = 16<<10, filepath.Join(t.TempDir(), "rows")
	k := m.keeper(o)
	c := m.open(k, kvPrompt)
	sameRows(t, "with rows in a file", m.turns(c, 64), want)
	if st := c.Stats(); st.FileBytes == 0 || st.Misses == 0 {
		t.Errorf("nothing lay in the file: %+v", st)
	}
	k.Close(c, m.ids)
}
