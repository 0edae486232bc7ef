package main

import (
	"math"
	"strings"
	"testing"

	"svae/train"
)

// TestJudge: a base continued that is not below the bigram floor fails the demo, and latents that are worth little are noted.
func TestJudge(t *testing.T) {
	for _, k := range []struct {
		name                       string
		bigram, continued, without float64
		note, fails                string
	}{
		{"good", 2.3, 1.9, 2.03, "", ""},
		{"no use of latents", 2.3, 1.9, 2.015, "The latents did not earn their place: without them the SLLM loses only 0.0150 bits per byte.", ""},
		{"above the floor", 2.3, 2.31, 2.03, "is not below the bigram floor (2.3000)", "The base continued (2.3100 bits per byte) is not below"},
		{"at the floor", 2.3, 2.3, 2.015, "is not below the bigram floor", "means anything"},
	} {
		score := func(bits float64) train.Result { return train.Result{BPB: bits} }
		var r report
		err := r.judge(score(k.bigram), score(k.continued), score(2), score(k.without), score(2.4))
		if (err != nil) != (k.fails != "") || err != nil && !strings.Contains(err.Error(), k.fails) {
			t.Errorf("%s: error %v, want %q", k.name, err, k.fails)
		}
		if (r.Note == "") != (k.note == "") || !strings.Contains(r.Note, k.note) {
			t.Errorf("%s: note %q, want %q", k.name, r.Note, k.note)
		}
		for _, v := range [][2]float64{{r.Gap, 2/k.continued - 1}, {r.Latents, k.without - 2}, {r.Context, 2.4 - k.continued}} {
			if math.Abs(v[0]-v[1]) > 1e-12 {
				t.Errorf("%s: %v, want %v", k.name, v[0], v[1])
			}
		}
	}
}
