// Package op joins the kernels to gorgonia. A model is written once, in the operations of Set; run over graph nodes it
// trains (Graph), run over buffers it infers (Eager). The backward passes live here and in kernels alone: whatever is
// composed of these operations, a new loss or an adapter, needs none of its own.
package op

import "svae/kernels"

// Ints is a list of integers that the operations read when they run: token ids, offsets, positions. A graph keeps the
// pointer, so that rewriting V before a run gives the same compiled graph another batch of another geometry.
type Ints struct{ V []int32 }

// Targets are the tokens that a loss scores and what it found out.
type Targets struct {
	IDs   []int32   // (N) token to predict at each row; negative: the row is not scored
	Gamma float64   // exponent of the focal loss; 0 is cross-entropy
	Best  bool      // fill Top
	Nats  []float64 // (N) filled: -ln p of each target, 0 where there is none
	Top   []int32   // (N) filled if Best: the most probable token
	Loss  float64   // filled: the sum of the row losses
}

// Heads says how the columns of queries, keys and values divide into heads. KV heads are shared by groups of queries.
type Heads struct {
	Query, KV, Size int
	Scale           float64 // of the scores, usually 1/√Size
}

// Set is the operations that a model is made of, over values X: *gorgonia.Node in training, Mat in inference. The zero
// X stands for an operand that is absent. Matrices are (rows, columns), weights (out, in) as in PyTorch. The first
// failure is kept and returned by Err; operations after it do nothing of use.
type Set[X comparable] interface {
	// Gather stacks rows: row i of the result is row idx[i] of all sources put one below the other.
	//	idx (N)    from: (R1, D), (R2, D), ...    returns (N, D)
	Gather(idx *Ints, from ...X) X
	Linear(x, w, b X, act kernels.Act) X // (N, I), (O, I), (O) -> act(x·wᵀ + b) (N, O); b may be absent
	SwiGLU(gate, up X) X                 // silu(gate)·up
	GeGLU(gate, up X) X                  // gelu(gate)·up, in the tanh form
	LayerNorm(x, w, b X, eps float64) X
	// RMSNorm divides rows x (N, D) by their root mean square and multiplies them by w (D) + shift, or every group of K
	// columns of x (N, H·K) by itself with w (K).
	RMSNorm(x, w X, shift, eps float64) X
	// Rotary turns the pairs (j, j+K/2) of every head of K = 2·len(freqs) columns by pos·freqs[j] radians.
	Rotary(x X, pos *Ints, freqs []float64) X
	// Attention is scaled dot-product attention of query rows over the key rows that spans lets them see.
	//	q (N, H·K)    k, v (M, KV·K)    returns (N, H·K)
	Attention(q, k, v X, spans *kernels.Spans, h Heads) X
	SegmentSum(x X, at *Ints) X    // (N, D), offsets (S+1) -> sums over segments (S, D)
	SegmentAdd(x, c X, at *Ints) X // adds row s of c (S, D) to every row of segment s of x (N, D)
	Add(a, b X) X
	Scale(x X, by float64) X
	Dropout(x X, p float64) X   // in training only (Srivastava et al. 2014)
	Noise(x X, sigma float64) X // adds Gaussian noise, in training only
	// Xent is the vocabulary projection fused with softmax and cross-entropy or focal loss: the sum of the row losses.
	//	x (N, D)    w (V, D)    b (V) or absent    returns a scalar
	Xent(x, w, b X, t *Targets) X
	// Sum is Σ weights[i]·losses[i] over scalars.
	Sum(weights []float64, losses ...X) X
	Err() error
}

// Joint is a Set that computes linear maps of the same rows together, where that is faster. The results are those of
// Linear without an activation, to the bit.
type Joint[X comparable] interface {
	Linear2(x, w0, b0, w1, b1 X) (y0, y1 X)
	Linear3(x, w0, b0, w1, b1, w2, b2 X) (y0, y1, y2 X)
}
