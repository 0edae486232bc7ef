package sllm

import (
	"context"
	"fmt"
	"math"

	"svae/kernels"
	"svae/kernels/op"
	"svae/vae"
)

// KVCapture is the queries, keys and values of a text, of every layer of a token-level model, behind the rotation.
type KVCapture struct {
	Heads, KVHeads, HeadDim int
	Rows                    int // N, one a token
	Scale                   float64
	Freqs                   []float64   // rotary frequencies (K/2) in radians a position; nil with learned positions
	Q                       [][]float32 // of each layer (N, H*K)
	K, V                    [][]float32 // of each layer (N, KV*K)
}

// CaptureKV runs a model over tokens, chunk of them at a time, and keeps what its attention works on: for SmolLM2-135M
// 113 KiB a token. It packs the weights.
func CaptureKV(ctx context.Context, a *vae.Arch, s *vae.Store, ids []int32, chunk int) (*KVCapture, error) {
	be := s.Backend()
	switch {
	case be.DType() != kernels.F32:
		return nil, fmt.Errorf("capture of keys and values: the backend computes in another type than float32")
	case len(ids) == 0 || len(ids) > a.Positions:
		return nil, fmt.Errorf("capture of keys and values: %d tokens, the model has %d positions (shorten the text)", len(ids), a.Positions)
	}
	s.Pack()
	c := &KVCapture{Heads: a.NumHeads, KVHeads: a.NumKVHeads, HeadDim: a.HeadDim, Rows: len(ids), Scale: 1 / math.Sqrt(float64(a.HeadDim)),
		Freqs: ropeFreqs(a)}
	for range a.NumLayers {
		c.Q = append(c.Q, make([]float32, 0, len(ids)*a.NumHeads*a.HeadDim))
		c.K = append(c.K, make([]float32, 0, len(ids)*a.NumKVHeads*a.HeadDim))
		c.V = append(c.V, make([]float32, 0, len(ids)*a.NumKVHeads*a.HeadDim))
	}
	take := func(to *[]float32, m op.Mat) {
		n := len(*to)
		*to = (*to)[:n+m.R*m.C]
		be.Download((*to)[n:], m.Buf)
	}
	o, model, cache := op.NewEager(be), NewLM(a, s.Mat), vae.NewCache(be)
	keep := cache.Past(o)
	past := func(layer int, q, k, v op.Mat, seq *vae.Seq, h op.Heads) op.Mat {
		take(&c.Q[layer], q)
		take(&c.K[layer], k)
		take(&c.V[layer], v)
		return keep(layer, q, k, v, seq, h)
	}
	var in op.Ints
	var seq vae.Seq
	for at := 0; at < len(ids); at += chunk {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		n := min(chunk, len(ids)-at)
		o.Reset()
		in.V = append(in.V[:0], ids[at:at+n]...)
		seq.Next(at, n, a.PosOffset())
		model.Hidden(o, &in, &seq, past)
		if err := o.Err(); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// ropeFreqs returns the rotary frequencies of an architecture, or nil.
func ropeFreqs(a *vae.Arch) []float64 {
	if a.Learned() {
		return nil
	}
	f := a.RopeFactors()
	for j, by := range f {
		f[j] = math.Pow(a.RopeTheta, -2*float64(j)/float64(a.HeadDim)) / by
	}
	return f
}
