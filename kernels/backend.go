package kernels

import "errors"

// ErrNotBuilt says that this binary holds no support for the device asked for.
var ErrNotBuilt = errors.New("this binary was built without GPU support")

// Act is an activation function applied to the output of a linear map.
type Act uint8

// The activations. GELU is the exact one, x·Φ(x); GELUTanh its approximation by tanh (Hendrycks & Gimpel 2016, §2),
// 0.5·x·(1 + tanh(√(2/π)·(x + 0.044715·x³))).
const (
	None Act = iota
	ReLU
	GELU
	GELUTanh
)

// KeepsInput says that the gradient of the activation is computed from its input and not from its output.
func (a Act) KeepsInput() bool { return a == GELU || a == GELUTanh }

// Spans says which key rows each query row may see. Query rows Q[s] to Q[s+1]-1 form segment s; its keys are rows
// KLo[s] to KHi[s]-1. If Causal, query i of a segment's n queries over its m keys sees the first m-n+i+1 of them (so
// that queries are the last rows of their keys, as in a cached step); it needs m >= n. Otherwise it sees all m.
// A query that sees no key gets a row of zeros.
type Spans struct {
	Q        []int32 // (S+1)
	KLo, KHi []int32 // (S)
	Causal   bool
}

// Attention holds the operands of scaled dot-product attention over packed rows (Vaswani et al. 2017, §3.2.1), with
// KV heads shared by groups of H/KV query heads (Ainslie et al. 2023).
//
//	Q, Out, DQ, DOut (N, H*K)    K, V, DK, DV (M, KV*K)    Lse (N, H) log-sum-exp of the scaled scores
//
// Forward overwrites Out and, unless absent, Lse. Backward reads Q, K, V, Out, Lse and DOut and overwrites DQ, DK, DV
// (key rows that no query sees get zeros).
type Attention struct {
	Out, Lse, Q, K, V    Buf
	DQ, DK, DV, DOut     Buf
	Spans                *Spans
	N, M, H, KV, HeadDim int
	Scale                float64
}

// Ranges holds the operands of attention over lists of key rows, one for each query row and key head, forward only. The
// list of query n and key head g is the ranges At[n*KV+g] to At[n*KV+g+1]-1, of the rows Lo to Hi-1 each, in the order of
// the list; rows that stand there twice count twice.
//
//	Q, Out (N, H*K)    K, V (M, KV*K)    Lse (N, H) or absent    At (N*KV+1)    Lo, Hi (At[N*KV])
//
// Out and Lse are overwritten, to the bit with what Attention gives over a copy of those rows. A query head whose list is
// empty gets zeros and Lse = -Inf.
type Ranges struct {
	Out, Lse, Q, K, V    Buf
	At, Lo, Hi           []int32
	N, M, H, KV, HeadDim int
	Scale                float64
}

// Xent holds the operands of the vocabulary projection fused with softmax and cross-entropy, computed in row chunks so
// that the logits never exist whole: logits = X·Wᵀ + B, nats = -ln softmax(logits)[target].
//
//	X, DX (N, D)    W, DW (V, D)    B, DB (V) or absent    Nats (N)    Targets, Top (N)
//
// With Gamma > 0 the loss of a row is the focal loss (1-p)^Gamma·nats (Lin et al. 2017); Nats holds plain nats all the
// same. A negative target is ignored: its loss, nats and gradient are 0. DX, DW and DB, each unless absent, are
// overwritten with the gradient of the sum of the row losses. Top, unless nil, gets the best token of each row (the lowest
// id of equals).
type Xent struct {
	Nats, DX, DW, DB Buf
	X, W, B          Buf
	Targets, Top     []int32
	Gamma            float64
	N, D, V          int
}

// AdamW holds one update of decoupled weight decay Adam (Loshchilov & Hutter 2019), as torch.optim.AdamW does it:
// w *= 1-LR·WeightDecay; m, v from g·GradScale; w -= LR·m̂/(√v̂+Eps), bias-corrected for Step = 1, 2, ...
type AdamW struct {
	LR, Beta1, Beta2, Eps, WeightDecay float64
	GradScale                          float64 // multiplies the gradient first: 1/count, and the clip
	Step                               int
}

// Backend computes the operations on one device. See the package comment for what all of them promise.
type Backend interface {
	Name() string // "ref", "cpu", "cuda"
	DType() DType

	Alloc(n int) Buf // n zeros
	Upload(dst Buf, src []float32)
	Download(dst []float32, src Buf)
	Zero(x Buf)
	Copy(dst, src Buf)

	// Pack tells the backend that the weights w (O, I) of a linear map will not change until Unpack, so that it may
	// keep a faster layout of them beside. Results stay the same to the bit.
	Pack(w Buf, O, I int)
	Unpack(w Buf)

	// Gather copies rows: out[i] = src[idx[i]-lo] for every i with lo <= idx[i] < lo+R; other rows of out are kept.
	//	out (N, D)    src (R, D)    idx (N)
	Gather(out, src Buf, idx []int32, lo, N, R, D int)
	// ScatterAdd adds rows: dSrc[idx[i]-lo] += dOut[i], in ascending order of i.
	ScatterAdd(dSrc, dOut Buf, idx []int32, lo, N, R, D int)

	// Linear overwrites out = act(x·wᵀ + b). With a GELU and pre not absent, pre keeps x·wᵀ + b for ActBackward.
	//	out, pre (N, O)    x (N, I)    w (O, I)    b (O) or absent
	Linear(out, pre, x, w, b Buf, act Act, N, I, O int)
	// ActBackward overwrites dPre = dOut·act'(...), reading the output of ReLU or the kept input of a GELU.
	// dPre may be dOut.
	ActBackward(dPre, dOut, saved Buf, act Act, n int)
	LinearBackwardX(dX, dOut, w Buf, N, I, O int) // dX (N, I) = dOut·w, overwritten
	LinearBackwardW(dW, dOut, x Buf, N, I, O int) // dW (O, I) = dOutᵀ·x, overwritten
	LinearBackwardB(dB, dOut Buf, N, O int)       // dB (O) = column sums of dOut, overwritten

	// SwiGLU overwrites out = silu(gate)·up (Shazeer 2020), all of n elements.
	SwiGLU(out, gate, up Buf, n int)
	SwiGLUBackward(dGate, dUp, dOut, gate, up Buf, n int)
	// GeGLU overwrites out = gelu(gate)·up with the tanh form of GELU, all of n elements.
	GeGLU(out, gate, up Buf, n int)
	GeGLUBackward(dGate, dUp, dOut, gate, up Buf, n int)

	// LayerNorm (Ba et al. 2016, §3) and RMSNorm (Zhang & Sennrich 2019) over rows; the variance is the biased one.
	// mean and rstd (N) are kept for the backward pass unless absent. b may be absent. The backward pass overwrites
	// dX, dW and dB, each unless absent.
	//	out, x (N, D)    w, b (D)
	LayerNorm(out, mean, rstd, x, w, b Buf, eps float64, N, D int)
	LayerNormBackward(dX, dW, dB, dOut, x, w, mean, rstd Buf, N, D int)
	RMSNorm(out, rstd, x, w Buf, eps float64, N, D int)
	RMSNormBackward(dX, dW, dOut, x, w, rstd Buf, N, D int)

	// Rotary turns pairs (j, j+K/2) of each head by the angle pos·freqs[j] (Su et al. 2021; half-split order, as Hugging
	// Face's Llama). inverse turns back, which is the backward pass. out may be x.
	//	out, x (N, H*K)    pos (N)    freqs (K/2) in radians a position
	Rotary(out, x Buf, pos []int32, freqs []float64, inverse bool, N, H, K int)

	Attention(a *Attention)
	AttentionBackward(a *Attention)
	AttentionRanges(a *Ranges)

	// SegmentSum overwrites out[s] = Σ x[i] for at[s] <= i < at[s+1].
	//	out (S, D)    x (N, D)    at (S+1)
	SegmentSum(out, x Buf, at []int32, S, D int)
	// SegmentAdd overwrites out[i] = x[i] + c[s] for the segment s of row i; with x absent it spreads c alone.
	//	out, x (N, D)    c (S, D)    at (S+1), at[0] = 0, at[S] = N
	SegmentAdd(out, x, c Buf, at []int32, S, D int)

	Add(out, a, b Buf, n int)                     // out = a + b; out may be a or b
	AddScaled(y Buf, alpha float64, x Buf, n int) // y += alpha·x
	Scale(y Buf, alpha float64, x Buf, n int)     // y = alpha·x; y may be x

	// Dropout overwrites out = x·m/(1-p), where m is 0 with probability p, drawn from (seed, index) alone, so that the
	// same call on a gradient is the backward pass. out may be x.
	Dropout(out, x Buf, p float64, seed uint64, n int)
	// Noise overwrites out = x + sigma·g, g standard normal, drawn from (seed, index) alone. out may be x.
	Noise(out, x Buf, sigma float64, seed uint64, n int)

	Xent(a *Xent) (loss float64) // the sum of the row losses

	Top(t *Top) // sets t.IDs, t.Scores and t.Scored

	AdamW(w, m, v, g Buf, p AdamW, n int)
	SumSquares(x Buf, n int) float64
}
