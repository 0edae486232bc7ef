package train

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"svae/data"
	"svae/kernels/op"
	"svae/sllm"
	"svae/vae"
)

// Bucket is how sentences of some lengths came back.
type Bucket struct {
	Tokens     string  `json:"tokens"` // range of lengths
	Sentences  int     `json:"sentences"`
	Exact      int     `json:"exact"`
	Share      float64 `json:"exact_share"`
	FirstError float64 `json:"first_error"` // mean place of the first wrong token, as a share of the length; 1 if none
}

// ReconResult says how well an autoencoder reproduces sentences, free-running: each token is chosen from those that the
// decoder itself wrote before.
type ReconResult struct {
	Model   string   `json:"model"`
	All     Bucket   `json:"all"`
	Lengths []Bucket `json:"lengths"`
}

var errEnough = errors.New("enough")

// Recon encodes and decodes up to most sentences of a data set (0: all), greedily. The function progress, unless nil, is
// told after each how many are behind, and of how many.
func Recon(ctx context.Context, f *sllm.Folder, ds *data.Dataset, b vae.Boundary, most int, progress func(done, total int64)) (ReconResult, error) {
	if f.Kind != sllm.KindVAE {
		return ReconResult{}, fmt.Errorf("%s: is a %s; only a sentence autoencoder (svae train vae) reproduces sentences", f.Path, f.Kind)
	}
	f.Store.Pack()
	defer f.Store.Unpack()
	codec := vae.NewCodec(&f.SVAE, f.Store)
	greedy := vae.NewSampler(vae.Sampling{})
	r := ReconResult{Model: f.Path, All: Bucket{Tokens: "all"}}
	for _, name := range []string{"1-8", "9-16", "17-32", "33+"} {
		r.Lengths = append(r.Lengths, Bucket{Tokens: name})
	}
	total := ds.Meta().Sentences
	if most > 0 {
		total = min(total, int64(most))
	}
	cfg := EvalConfig{Sentences: 64, BatchTokens: 1024}
	err := batches(ctx, ds, cfg, f.SVAE.Context, func(batch *data.Batch) error {
		z, at, err := codec.Encode(batch.IDs, batch.Sent)
		if err != nil {
			return err
		}
		piece := 0
		for s := range batch.Sentences() {
			if int(batch.Doc[piece+1]) <= s {
				piece++
			}
			if most > 0 && r.All.Sentences == most {
				return errEnough
			}
			want := batch.IDs[batch.Sent[s]:batch.Sent[s+1]]
			before := slices.Concat(batch.Before[piece], batch.IDs[batch.Sent[batch.Doc[piece]]:batch.Sent[s]])
			got, err := roundTrip(codec, f.SVAE.EndMark, z.Rows(int(at[s]), int(at[s+1])), before, want, b, greedy)
			if err != nil {
				return err
			}
			r.All.add(got, want)
			r.Lengths[bucketOf(len(want))].add(got, want)
			if progress != nil {
				progress(int64(r.All.Sentences), total)
			}
		}
		return nil
	})
	if err != nil && !errors.Is(err, errEnough) {
		return r, err
	}
	r.All.finish()
	for i := range r.Lengths {
		r.Lengths[i].finish()
	}
	return r, nil
}

// roundTrip decodes one sentence. Where a rule ends sentences, the last one of a document may stop before it would: what
// the decoder writes beyond is not counted then.
func roundTrip(c *vae.Codec, endMark bool, z op.Mat, before, want []int32, b vae.Boundary, s *vae.Sampler) ([]int32, error) {
	if endMark { // the decoder itself must end the sentence
		return c.Decode(z, before, nil, s)
	}
	b.Reset()
	whole := false
	for _, id := range want {
		whole = b.Push(id)
	}
	b.Reset()
	got, err := c.Decode(z, before, b, s)
	if !whole && len(got) > len(want) {
		got = got[:len(want)]
	}
	return got, err
}

func bucketOf(n int) int {
	switch {
	case n <= 8:
		return 0
	case n <= 16:
		return 1
	case n <= 32:
		return 2
	}
	return 3
}

func (b *Bucket) add(got, want []int32) {
	b.Sentences++
	if slices.Equal(got, want) {
		b.Exact++
		b.FirstError++
		return
	}
	i := 0
	for i < len(got) && i < len(want) && got[i] == want[i] {
		i++
	}
	b.FirstError += float64(i) / float64(len(want))
}

func (b *Bucket) finish() {
	if b.Sentences > 0 {
		b.Share = float64(b.Exact) / float64(b.Sentences)
		b.FirstError /= float64(b.Sentences)
	}
}
