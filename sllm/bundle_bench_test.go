package sllm

import (
	"io"
	"math/rand/v2"
	"path/filepath"
	"testing"

	"svae/checkpoints"
	"svae/kernels/cpu"
	"svae/vae"
)

// BenchmarkOpenBundle opens a bundle of a Llama of 124 million weights, each byte of which is checked, and reports the bytes of
// weights that it holds. Its pages are in the system's cache.
func BenchmarkOpenBundle(b *testing.B) {
	a := vae.Arch{ModelType: "llama", HiddenSize: 768, NumLayers: 12, NumHeads: 12, NumKVHeads: 12, HeadDim: 64, Intermediate: 2048,
		VocabSize: 50272, Positions: 2048, Tied: true, RMSNormEps: 1e-5, RopeTheta: 1e4, BOS: 1, EOS: 2, PAD: -1}
	f := &Folder{Kind: KindLM, LM: a, Files: map[string][]byte{"tokenizer.json": []byte("{}")}}
	dir := filepath.Join(b.TempDir(), "model")
	d, err := checkpoints.CreateDir(dir, false)
	if err != nil {
		b.Fatal(err)
	}
	defer d.Abort()
	config, err := f.Config()
	if err == nil {
		err = d.WriteFile("config.json", config)
	}
	if err == nil {
		err = d.WriteFile("tokenizer.json", f.Files["tokenizer.json"])
	}
	r := rand.New(rand.NewPCG(1, 1))
	var ts []checkpoints.Named
	for _, w := range f.Weights() {
		ts = append(ts, checkpoints.Named{Name: w.Name, DType: checkpoints.F32, Shape: w.Shape, Write: func(to io.Writer) error {
			v := make([]float32, w.Elements())
			for i := range v {
				v[i] = (r.Float32() - 0.5) / 16
			}
			return write(to, v)
		}})
	}
	if err == nil {
		err = WriteTensors(d, "model.safetensors", ts)
	}
	if err == nil {
		err = d.Commit()
	}
	if err != nil {
		b.Fatal(err)
	}
	for _, dtype := range BundleTypes {
		bundle, e := exported(b, ExportOptions{Model: dir, DType: dtype})
		b.Run(dtype, func(b *testing.B) {
			be := cpu.New()
			b.SetBytes(e.Bytes)
			for b.Loop() {
				x, err := OpenBundle(bundle, be)
				if err != nil {
					b.Fatal(err)
				}
				x.Close()
			}
		})
	}
}
