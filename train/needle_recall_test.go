package train

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"os"
	"strings"
	"testing"

	"svae/data"
	"svae/kernels/cpu"
	"svae/kernels/kv"
	"svae/sllm"
)

// book returns the first chapters of the demo's book as a haystack.
func book(t *testing.T, codec *data.Codec, chapters int) *Haystack {
	t.Helper()
	f, err := os.Open("../cmd/svae/demo/moby-dick.jsonl.gz")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	var text bytes.Buffer
	lines := bufio.NewScanner(z)
	lines.Buffer(nil, 1<<20)
	for i := 0; i < chapters && lines.Scan(); i++ {
		var d struct{ Content string }
		if err := json.Unmarshal(lines.Bytes(), &d); err != nil {
			t.Fatal(err)
		}
		text.WriteString(" " + strings.Join(strings.Fields(d.Content), " "))
	}
	if lines.Err() != nil {
		t.Fatal(lines.Err())
	}
	_, tokens, lens := codec.Split(text.Bytes())
	var sentences []string
	counts := make([]int, len(tokens))
	for i, n := range lens {
		sentences, counts[i] = append(sentences, string(text.Next(int(n)))), int(tokens[i])
	}
	h, err := NewHaystack(sentences, counts)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// recallModel opens the model of testdata/recall, which was trained to answer with what a document said long before.
func recallModel(t *testing.T) *sllm.Folder {
	t.Helper()
	f, err := sllm.Load("testdata/recall/model", cpu.New())
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// TestNeedleRecall: a model that recalls with all of its past at hand still does so where ours reads until the certified
// error is small, also where the question comes only after the prompt has been read. There, policies that drop rows at the
// end of the prompt lose most of the answers at a tenth of the rows.
func TestNeedleRecall(t *testing.T) {
	f, codec := recallModel(t), newCodec(t)
	tenth := kv.Budget{Percent: 10}
	c := NeedleConfig{Style: Words, Haystack: book(t, codec, 20), Variants: []NeedleVariant{MultiKey, TwoTurn}, Lengths: []int{2048},
		Depths: []float64{0.2, 0.4, 0.6}, Samples: 4, Needles: 16, Queries: 1, Seed: 11}
	c.Ways = []sllm.KVOptions{{Policy: "snapkv", Budget: tenth}, {Policy: "paper", Budget: tenth},
		{Policy: "ours", Budget: kv.Budget{Bounded: true, Eps: 0.05, Percent: 10}}}
	rows, err := NeedleEval(t.Context(), f, codec, c)
	if err != nil {
		t.Fatal(err)
	}
	cell := map[string]NeedleRow{}
	for _, r := range rows {
		cell[string(r.Variant)+" "+r.Policy] = r
		t.Logf("%s %s %s: %d of %d, reading %.1f %%", r.Variant, r.Policy, r.Budget, r.Right, r.Asked, r.Rows)
	}
	for _, v := range []string{"multikey ", "twoturn "} {
		dense, ours := cell[v+"dense"], cell[v+"ours"]
		if dense.Asked != 12 || dense.Right < 11 || dense.Rows != 100 {
			t.Errorf("%s: dense answers %d of %d, reading %.1f %%", v, dense.Right, dense.Asked, dense.Rows)
		}
		if ours.Asked != dense.Right || ours.Right < ours.Asked {
			t.Errorf("%s: ours answers %d of %d that dense answers", v, ours.Right, ours.Asked)
		}
	}
	for _, p := range []string{"snapkv", "paper"} {
		r := cell["twoturn "+p]
		if r.Asked != cell["twoturn dense"].Right || 3*r.Right > 2*r.Asked || r.Rows > 11 {
			t.Errorf("%s answers %d of %d whose question it did not see, reading %.1f %%", p, r.Right, r.Asked, r.Rows)
		}
	}
	if r := cell["multikey snapkv"]; 2*r.Right < r.Asked {
		t.Errorf("snapkv answers %d of %d whose question ended the prompt", r.Right, r.Asked)
	}
}
