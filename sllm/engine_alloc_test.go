//go:build !race

package sllm

import (
	"testing"

	"svae/kernels"
	"svae/kernels/cpu"
	"svae/kernels/op"
	"svae/vae"
	"svae/vae/vaetest"
)

// TestStepAllocations checks that a step which writes tokens allocates nothing once it is warm, and a sentence of an SLLM
// only what it leaves behind in the cache of latents.
func TestStepAllocations(t *testing.T) {
	for _, dt := range []kernels.DType{kernels.F32, kernels.BF16, kernels.I8} {
		for name, a := range tinyBases() {
			a.Positions = 400
			s := vaetest.RandomStore(t, cpu.New(), vae.List(func(b vae.Build[op.Mat]) { NewLM(&a, b) }), 1)
			e := NewLMEngine(&a, narrowed(t, s, dt, HeadName(&a), ""))
			var jobs []*job[*text]
			for i := range 3 {
				j := &job[*text]{req: Request{MaxTokens: 300, IgnoreStop: true}, tokens: make(chan Token, 1)}
				j.state = &text{ids: append(make([]int32, 0, 400), 1, 5, 6), prompt: 3, sampler: vae.NewSampler(vae.Sampling{Temperature: float64(i)})}
				if err := e.openText(j); err != nil {
					t.Fatal(err)
				}
				jobs = append(jobs, j)
			}
			steps(t, "lm "+name, e.step, jobs, 70, 0)
		}
		for name, c := range tinyConfigs() {
			if c.VAE.EndMark { // sentences end as they please
				continue
			}
			c.Base.Positions, c.VAE.Arch.Positions, c.VAE.MaxSentence = 400, 400, 100
			s := vaetest.RandomStore(t, cpu.New(), vae.List(func(b vae.Build[op.Mat]) { New(&c, b) }), 1)
			head, bias := vae.HeadNames(&c.VAE)
			e := NewEngine(&c, narrowed(t, s, dt, head, bias))
			var jobs []*job[*story]
			for i := range 3 {
				j := &job[*story]{req: Request{MaxTokens: 300, IgnoreStop: true}, tokens: make(chan Token, 1)}
				j.state = &story{text: append(make([]int32, 0, 400), 5, 6), read: [][]int32{{5, 6}}, sampler: vae.NewSampler(vae.Sampling{Temperature: float64(i)})}
				if err := e.openStory(j); err != nil {
					t.Fatal(err)
				}
				jobs = append(jobs, j)
			}
			steps(t, name, e.step, jobs, 40, 0)
		}
	}
}

// steps warms up and counts.
func steps[T any](t *testing.T, name string, step func([]*job[T]), jobs []*job[T], warm int, most float64) {
	t.Helper()
	one := func() {
		step(jobs)
		for _, j := range jobs {
			if j.over || len(j.tokens) != 1 {
				t.Fatalf("%s: no token: %v %v", name, j.res.Finish, j.err)
			}
			<-j.tokens
		}
	}
	for range warm {
		one()
	}
	if n := testing.AllocsPerRun(20, one); n > most {
		t.Errorf("%s: %v allocations a step", name, n)
	}
}
