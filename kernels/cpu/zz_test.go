package cpu

import (
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"sort"
	"syscall"
	"testing"
	"time"

	"svae/kernels"
)

func cpuNow() float64 {
	var r syscall.Rusage
	syscall.Getrusage(0, &r)
	return float64(r.Utime.Nano()+r.Stime.Nano()) / 1e9
}

// meas prints medians of amount/(cpu seconds) and amount/wall.
func meas(name string, amount float64, f func()) {
	f()
	var c, w []float64
	for len(c) < 3 {
		c0, t0 := cpuNow(), time.Now()
		n := 0
		for time.Since(t0) < 10*time.Millisecond || n == 0 {
			f()
			n++
		}
		c = append(c, (cpuNow()-c0)/float64(n))
		w = append(w, time.Since(t0).Seconds()/float64(n))
	}
	sort.Float64s(c)
	sort.Float64s(w)
	fmt.Printf("%-44s cpu: %8.3f ms %7.2f G/s   wall: %8.3f ms %7.2f best %7.2f\n", name, c[len(c)/2]*1e3, amount/c[len(c)/2]/1e9, w[len(w)/2]*1e3, amount/w[len(w)/2]/1e9, amount/w[0]/1e9)
}

func TestZZ(t *testing.T) {
	if os.Getenv("ZZ") == "" {
		t.Skip()
	}
	r := rand.New(rand.NewPCG(1, 2))
	be := New().(*Backend)
	fmt.Println("procs", runtime.GOMAXPROCS(0))
	none := kernels.Buf{}
	sel := os.Getenv("ZZ")
	has := func(s string) bool { return sel == "all" || sel == s }
	if has("gemm") || has("peak") {
		a, bb, c := random(r, 6*256), random(r, 16*256), random(r, 96)
		meas("kernel in L1", 2*6*16*256*1000, func() {
			for range 1000 {
				kernel(6, 256, a, 1, 6, bb, 16, c, 16, modeAdd)
			}
		})
		meas("kernel in L1 direct", 2*6*16*256*1000, func() {
			for range 1000 {
				kernel(6, 256, a, 256, 1, bb, 16, c, 16, modeAdd)
			}
		})
	}
	if has("gemm") {
		for _, s := range [][3]int{{2048, 768, 3072}, {2048, 3072, 768}, {2048, 768, 768}, {512, 128, 512}, {64, 768, 3072}} {
			N, I, O := s[0], s[1], s[2]
			x, w, out := kernels.Of(random(r, N*I)), kernels.Of(random(r, O*I)), kernels.Of(random(r, N*O))
			dX, dW := be.Alloc(N*I), be.Alloc(O*I)
			fl := 2 * float64(N) * float64(I) * float64(O)
			nm := fmt.Sprintf("%dx%dx%d ", N, I, O)
			meas(nm+"fwd", fl, func() { be.Linear(out, none, x, w, none, kernels.None, N, I, O) })
			be.Pack(w, O, I)
			meas(nm+"packed", fl, func() { be.Linear(out, none, x, w, none, kernels.None, N, I, O) })
			be.Unpack(w)
			meas(nm+"dX", fl, func() { be.LinearBackwardX(dX, out, w, N, I, O) })
			meas(nm+"dW", fl, func() { be.LinearBackwardW(dW, out, x, N, I, O) })
		}
	}
	if has("gemv") {
		I, O := 768, 3072
		const copies = 28
		ws := make([]kernels.Buf, copies)
		for i := range ws {
			ws[i] = kernels.Of(random(r, O*I))
		}
		for _, pack := range []bool{false, true} {
			for _, w := range ws {
				if pack {
					be.Pack(w, O, I)
				}
			}
			for _, N := range []int{1, 2, 4, 6, 8} {
				x, out := kernels.Of(random(r, N*I)), be.Alloc(N*O)
				i := 0
				meas(fmt.Sprintf("gemv %dx%dx%d packed=%v", N, I, O, pack), 4*float64(I*O), func() {
					be.Linear(out, none, x, ws[i%copies], none, kernels.None, N, I, O)
					i++
				})
			}
		}
		I, O = 128, 512
		w := kernels.Of(random(r, O*I))
		x, out := kernels.Of(random(r, I)), be.Alloc(O)
		meas("1x128x512 unpacked (GB/s)", 4*float64(I*O), func() { be.Linear(out, none, x, w, none, kernels.None, 1, I, O) })
		be.Pack(w, O, I)
		meas("1x128x512 packed (GB/s)", 4*float64(I*O), func() { be.Linear(out, none, x, w, none, kernels.None, 1, I, O) })
	}
	if has("attn") {
		for _, s := range [][4]int{{1, 2048, 2048, 1}, {4, 512, 512, 1}, {100, 20, 20, 1}, {64, 64, 64, 1}, {1, 1, 1024, 1}, {1, 1, 16384, 1}, {1, 1, 64, 1}, {1, 1, 1024, 4}} {
			S, n, m, G := s[0], s[1], s[2], s[3]
			H, K := 12, 64
			KV := H / G
			N, M := S*n, S*m
			sp := &kernels.Spans{Q: []int32{0}, Causal: true}
			for i := range S {
				sp.Q = append(sp.Q, int32((i+1)*n))
				sp.KLo = append(sp.KLo, int32(i*m))
				sp.KHi = append(sp.KHi, int32((i+1)*m))
			}
			al := func(n int) kernels.Buf { return kernels.Of(random(r, n)) }
			a := &kernels.Attention{Out: al(N * H * K), Lse: al(N * H), Q: al(N * H * K), K: al(M * KV * K), V: al(M * KV * K), DQ: al(N * H * K), DK: al(M * KV * K), DV: al(M * KV * K), DOut: al(N * H * K), Spans: sp, N: N, M: M, H: H, KV: KV, HeadDim: K, Scale: 0.125}
			pairs := 0.0
			for i := range n {
				pairs += float64(m - n + i + 1)
			}
			fl := 4 * pairs * float64(S*H*K)
			meas(fmt.Sprintf("attn S=%d n=%d m=%d G=%d fwd", S, n, m, G), fl, func() { be.Attention(a) })
			if n == 1 {
				fmt.Printf("   KV bytes %.3f MB\n", float64(8*M*KV*K)/1e6)
				continue
			}
			meas(fmt.Sprintf("attn S=%d n=%d m=%d G=%d bwd", S, n, m, G), 2.5*fl, func() { be.AttentionBackward(a) })
		}
	}
	if has("xent") {
		for _, s := range [][3]int{{480, 768, 50272}, {512, 128, 8000}} {
			N, D, V := s[0], s[1], s[2]
			x, w := kernels.Of(random(r, N*D)), kernels.Of(random(r, V*D))
			tg := make([]int32, N)
			for i := range tg {
				tg[i] = int32(r.IntN(V))
			}
			a := &kernels.Xent{Nats: be.Alloc(N), X: x, W: w, Targets: tg, N: N, D: D, V: V}
			meas(fmt.Sprintf("xent %v eval", s), 2*float64(N)*float64(D)*float64(V), func() { be.Xent(a) })
			a.DX, a.DW, a.DB = be.Alloc(N*D), be.Alloc(V*D), be.Alloc(V)
			meas(fmt.Sprintf("xent %v train", s), 6*float64(N)*float64(D)*float64(V), func() { be.Xent(a) })
		}
	}
	if has("elem") {
		N, D := 2048, 768
		al := func(n int) kernels.Buf { return kernels.Of(random(r, n)) }
		n := N * D
		x, y, z, u, v := al(n), al(n), al(n), al(n), al(n)
		w, b, mean, rstd := al(D), al(D), be.Alloc(N), be.Alloc(N)
		at := []int32{0}
		for len(at) <= 128 {
			at = append(at, int32(len(at)*16))
		}
		fr := make([]float64, 32)
		for i := range fr {
			fr[i] = 1 / float64(i+1)
		}
		pos := make([]int32, N)
		for i := range pos {
			pos[i] = int32(i)
		}
		idx := make([]int32, N)
		for i := range idx {
			idx[i] = int32(r.IntN(N))
		}
		e := float64(n)
		meas("add", e, func() { be.Add(x, y, z, n) })
		meas("addscaled", e, func() { be.AddScaled(x, 0.001, z, n) })
		meas("relu back", e, func() { be.ActBackward(x, y, z, kernels.ReLU, n) })
		meas("gelu back", e, func() { be.ActBackward(x, y, z, kernels.GELU, n) })
		meas("swiglu", e, func() { be.SwiGLU(x, y, z, n) })
		meas("swiglu back", e, func() { be.SwiGLUBackward(x, u, y, z, v, n) })
		meas("layernorm", e, func() { be.LayerNorm(x, mean, rstd, y, w, b, 1e-5, N, D) })
		meas("layernorm back", e, func() { be.LayerNormBackward(x, w, b, z, y, w, mean, rstd, N, D) })
		meas("layernorm 1 row", float64(D), func() { be.LayerNorm(x, mean, rstd, y, w, b, 1e-5, 1, D) })
		meas("rotary", e, func() { be.Rotary(x, y, pos, fr, false, N, 12, 64) })
		meas("adamw", e, func() {
			be.AdamW(x, u, z, y, kernels.AdamW{LR: 1e-3, Beta1: .9, Beta2: .99, Eps: 1e-8, GradScale: 1, Step: 3}, n)
		})
		meas("sumsquares", e, func() { be.SumSquares(x, n) })
		meas("dropout", e, func() { be.Dropout(x, y, .1, 3, n) })
		meas("noise", e, func() { be.Noise(x, y, .1, 3, n) })
		meas("gather", e, func() { be.Gather(x, y, idx, 0, N, N, D) })
		meas("scatteradd", e, func() { be.ScatterAdd(x, y, idx, 0, N, N, D) })
		meas("segmentsum", e, func() { be.SegmentSum(x, y, at, 128, D) })
		meas("segmentadd", e, func() { be.SegmentAdd(x, y, z, at, 128, D) })
		meas("colsums", e, func() { be.LinearBackwardB(w, y, N, D) })
		meas("zero", e, func() { be.Zero(x) })
		a128, b128 := al(128), al(128)
		meas("add 128", 128, func() { be.Add(a128, a128, b128, 128) })
		meas("layernorm 1x128", 128, func() { be.LayerNorm(a128, mean, rstd, b128, w, b, 1e-5, 1, 128) })
	}
}
