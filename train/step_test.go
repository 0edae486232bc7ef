package train

import (
	"io"
	"math"
	"strings"
	"testing"

	"svae/data/segment"
	"svae/kernels/cpu"
	"svae/sllm"
)

func TestSchedule(t *testing.T) {
	c := Config{Steps: 110, Warmup: 10, MinLR: 0.1}
	for _, k := range []struct {
		step int
		want float64
	}{{0, 0.1}, {4, 0.5}, {9, 1}, {10, 1}, {60, 0.55}, {110, 0.1}, {200, 0.1}} {
		if got := c.rate(k.step); math.Abs(got-k.want) > 1e-12 {
			t.Errorf("step %d: %v, want %v", k.step, got, k.want)
		}
	}
	for s := 10; s < 110; s++ {
		if c.rate(s+1) >= c.rate(s) {
			t.Fatalf("the rate does not fall at step %d", s)
		}
	}
	c = Config{Steps: 5, MinLR: 0.1}
	if c.rate(0) != 1 {
		t.Errorf("without warm-up the first step has the factor %v", c.rate(0))
	}
	c = Config{Steps: 5, Warmup: 50}
	if c.rate(0) != 1 || c.rate(4) >= c.rate(1) { // at most a quarter of the run warms up
		t.Errorf("a run shorter than its warm-up has the factors %v, %v and %v", c.rate(0), c.rate(1), c.rate(4))
	}
}

// TestGroups: in the splice, what is the base's own learns at a fraction of the rate, and not at all at 0.
func TestGroups(t *testing.T) {
	c := tiny(t, SLLM, shards(t, texts(8), segment.Config{}))
	c.Base = newBase(t, c)
	r := opened(t, c)
	for _, w := range r.model.folder.Store.Weights() {
		want := 1.0
		if !w.New {
			want = 0.5
		}
		if want *= max(1, w.Rate); r.opt.factor[w.Name] != want {
			t.Errorf("%s: factor %v, want %v", w.Name, r.opt.factor[w.Name], want)
		}
	}

	c.BaseLR, c.Out = 0, c.Out+"-frozen"
	r = opened(t, c)
	before := snapshot(r.model.folder.Store)
	for range 3 {
		if err := r.step(); err != nil {
			t.Fatal(err)
		}
	}
	after := snapshot(r.model.folder.Store)
	frozen := 0
	for _, w := range r.model.folder.Store.Weights() {
		same := sameBits(before[w.Name], after[w.Name])
		if same == w.New {
			t.Errorf("%s (new: %v): unchanged: %v", w.Name, w.New, same)
		}
		if !w.New {
			frozen++
			if !same {
				t.Errorf("%s is frozen and moved", w.Name)
			}
			if _, ok := r.opt.m[w.Name]; ok {
				t.Errorf("%s is frozen and has moments", w.Name)
			}
		}
	}
	if frozen < 10 {
		t.Errorf("only %d weights are the base's", frozen)
	}
}

// TestNotFinite: a weight or a gradient that is not finite stops the run before the update and is named.
func TestNotFinite(t *testing.T) {
	c := tiny(t, LM, shards(t, texts(8), segment.Config{}))
	r := opened(t, c)
	if err := r.step(); err != nil {
		t.Fatal(err)
	}
	s := r.model.folder.Store
	const name = "model.layers.1.mlp.up_proj.weight"
	good := host(s.Backend(), s.Buf(name))
	bad := append([]float32(nil), good...)
	bad[7] = float32(math.NaN())
	s.Backend().Upload(s.Buf(name), bad)
	before := snapshot(s)
	unchanged := func() {
		t.Helper()
		for n, v := range snapshot(s) {
			if !sameBits(v, before[n]) {
				t.Errorf("%s was updated", n)
			}
		}
		if r.state.Step != 1 {
			t.Errorf("%d steps were counted, want 1", r.state.Step)
		}
	}
	mustContain(t, r.step(), "step 1: the loss is NaN", "the weight "+name+" is not finite", "nothing was updated", "lower --lr")
	unchanged()

	s.Backend().Upload(s.Buf(name), good)
	before = snapshot(s)
	b, err := r.loader.Next()
	if err != nil {
		t.Fatal(err)
	}
	r.model.set(b, sllm.Real)
	if _, err := r.vm.Run(1); err != nil {
		t.Fatal(err)
	}
	grads := r.vm.Grads()
	g := grads[len(grads)/2]
	v := host(s.Backend(), g.Data)
	v[0] = float32(math.Inf(1))
	s.Backend().Upload(g.Data, v)
	_, err = r.opt.step(1, grads, 100)
	mustContain(t, err, "step 1", "the gradient of "+g.Name+" is not finite")
	unchanged()
}

// equalSentences returns documents that are one sentence of the same number of tokens each.
func equalSentences(t *testing.T, n int) (docs []string, tokens int) {
	tok := loadTokenizer(t)
	for _, text := range texts(60 * n) {
		s, _, _ := strings.Cut(text, ".")
		if s += "."; tokens == 0 {
			tokens = len(tok.Encode([]byte(s)))
		}
		if len(tok.Encode([]byte(s))) == tokens && len(docs) < n {
			docs = append(docs, s)
		}
	}
	if len(docs) < n || tokens > segment.DefaultMax {
		t.Fatalf("%d sentences of %d tokens, want %d", len(docs), tokens, n)
	}
	return docs, tokens
}

// TestAccumulate: the sums of the gradients of two batches are those of one batch of both, and so is the training.
func TestAccumulate(t *testing.T) {
	docs, n := equalSentences(t, 12)
	dir := shards(t, docs, segment.Config{})
	base := newBase(t, tiny(t, LM, dir))
	config := func(batch, accumulate int) Config {
		c := tiny(t, SLLM, dir)
		c.Base, c.BatchTokens, c.Accumulate, c.Steps = base, batch*n, accumulate, 6
		return c
	}
	one, two := opened(t, config(4, 1)), opened(t, config(2, 2))
	be := one.model.folder.Store.Backend()
	grads := func(r *run, add bool) {
		b, err := r.loader.Next()
		if err != nil {
			t.Fatal(err)
		}
		r.model.set(b, sllm.Real)
		if _, err := r.vm.Run(1); err != nil {
			t.Fatal(err)
		}
		if add {
			r.opt.accumulate(r.vm.Grads())
		}
	}
	grads(one, false)
	grads(two, true)
	grads(two, true)
	compared := 0
	for _, g := range one.vm.Grads() {
		if g.Data.Absent() {
			continue
		}
		want, got := host(be, g.Data), host(be, two.opt.sum[g.Name])
		var most, far float64
		for i := range want {
			most, far = max(most, math.Abs(float64(want[i]))), max(far, math.Abs(float64(want[i]-got[i])))
		}
		if far > 1e-5*most+1e-7 {
			t.Errorf("%s: gradients of up to %v differ by %v", g.Name, most, far)
		}
		compared++
	}
	if compared < 20 {
		t.Errorf("only %d gradients", compared)
	}

	a, b := config(4, 1), config(2, 2)
	for _, c := range []*Config{&a, &b} {
		if _, err := Run(t.Context(), *c, cpu.New(), io.Discard); err != nil {
			t.Fatal(err)
		}
	}
	x, y := metrics(t, a.Out), metrics(t, b.Out)
	for i := range x {
		if math.Abs(x[i].Loss-y[i].Loss) > 1e-5 || x[i].Tokens != y[i].Tokens || math.Abs(x[i].GradNorm-y[i].GradNorm) > 1e-4 {
			t.Errorf("step %d: %v nats of %d tokens, norm %v in one batch; %v, %d, %v in two", i, x[i].Loss, x[i].Tokens, x[i].GradNorm, y[i].Loss, y[i].Tokens, y[i].GradNorm)
		}
	}
}

// TestClip: the moments after the first step show how large the gradient was that the update saw.
func TestClip(t *testing.T) {
	dir := shards(t, texts(8), segment.Config{})
	for _, clip := range []float64{0, 0.01, 1e6} {
		c := tiny(t, LM, dir)
		c.Clip = clip
		r := opened(t, c)
		if err := r.step(); err != nil {
			t.Fatal(err)
		}
		be, sum := r.model.folder.Store.Backend(), 0.0
		for _, m := range r.opt.m {
			sum += be.SumSquares(m, m.Len())
		}
		seen := math.Sqrt(sum) / (1 - c.Beta1)
		norm := metrics(t, c.Out)[0].GradNorm
		want := norm
		if clip > 0 {
			want = min(norm, clip)
		}
		if math.Abs(seen-want) > 1e-4*want {
			t.Errorf("clip %v: the update saw a gradient of norm %v, want %v (unclipped %v)", clip, seen, want, norm)
		}
	}
}
