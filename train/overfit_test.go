package train

import (
	"compress/gzip"
	"encoding/json"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"svae/data"
	"svae/data/segment"
	"svae/kernels/cpu"
)

// TestOverfit: an autoencoder with one latent of 256 numbers, trained on 64 sentences of a book for some sixteen
// seconds of a core, writes all of them again, freely and byte for byte.
func TestOverfit(t *testing.T) {
	if testing.Short() {
		t.Skip("takes a quarter of a minute")
	}
	book := readBook(t)
	tok := loadTokenizer(t)
	codec, err := data.NewCodec(tok, segment.Config{})
	if err != nil {
		t.Fatal(err)
	}
	_, text, _ := strings.Cut(book, "Call me Ishmael.")
	text = "Call me Ishmael." + strings.Join(strings.Fields(" "+text[:20000]), " ")
	text = strings.Replace(text, "Ishmael.", "Ishmael. ", 1)
	sentences := codec.Sentences([]byte(text))[:64]
	var first strings.Builder
	tokens := 0
	for _, ids := range sentences {
		first.Write(tok.Decode(ids))
		tokens += len(ids)
	}

	c := tiny(t, VAE, shards(t, []string{first.String()}, segment.Config{}))
	if m := openShards(t, c.Data).Meta(); m.Sentences != 64 || int(m.Tokens) != tokens || m.Bytes != int64(first.Len()) {
		t.Fatalf("the data set holds %+v, want 64 sentences of %d tokens", m.Counts, tokens)
	}
	c.Model.HiddenSize, c.Model.NumHeads, c.Model.NumKVHeads, c.Model.FFNDim, c.Model.NumLayers = 256, 4, 4, 688, 2
	c.Base = newBase(t, c)
	c.Sentences, c.BatchTokens, c.Steps, c.Warmup, c.LR, c.WeightDecay = 64, tokens, 60, 10, 2e-3, 0
	if c.Model.Latents != 1 {
		t.Fatalf("%d latents, want 1", c.Model.Latents)
	}
	begin := time.Now()
	sum, err := Run(t.Context(), c, cpu.New(), io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	took := time.Since(begin)
	if sum.Tokens != int64(c.Steps*tokens) {
		t.Errorf("%d tokens in %d steps, want all %d in every step", sum.Tokens, c.Steps, tokens)
	}

	f := load(t, sum.Model)
	r, err := Recon(t.Context(), f, openShards(t, c.Data), codec.NewEnds(), 0, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("loss %.5f nats/token, %d of %d sentences exact after %v of training", sum.Loss, r.All.Exact, r.All.Sentences, took.Round(time.Second))
	if r.All.Exact != 64 || r.All.Sentences != 64 || r.All.FirstError != 1 {
		t.Errorf("%d of %d sentences came back, want 64: %+v", r.All.Exact, r.All.Sentences, r.Lengths)
	}
}

// readBook returns the text of the demo's book.
func readBook(t *testing.T) string {
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
	var text strings.Builder
	for d := json.NewDecoder(z); d.More(); {
		var doc struct{ Content string }
		if err := d.Decode(&doc); err != nil {
			t.Fatal(err)
		}
		text.WriteString(doc.Content)
	}
	return text.String()
}
