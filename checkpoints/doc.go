// Package checkpoints reads and writes the weights of models.
//
// [Open] reads a safetensors file, a PyTorch file (.bin, .pt, .pth; zip, or legacy from before version 1.6), a GGUF file
// (version 2 or 3), a model of llama2.c (version 0 or 1), or a folder of these, sharded or not. Files are mapped into memory
// and tensors are read on demand, so opening costs milliseconds whatever the size, and converting holds some megabytes. What a
// file is, its content decides, never its name.
//
// [Tensor.Rows], [Tensor.T], [Tensor.HalfRows] and [Tensor.PairRows] give views of a tensor, and [Stack] puts several
// together, for files that store weights fused, transposed or in another order. Nothing is copied. The types of GGUF that
// store elements in blocks, from [Q4_0] to [Q6_K], convert to float32 bit for bit as ggml does it.
//
// Every reader treats its input as hostile. Sizes are checked before anything is allocated, a view must lie inside its
// storage, and a malformed file is one error that wraps [ErrFormat]. Pickles run under an allow-list: no code executes, a
// listed class becomes an opaque value that is skipped and counted ([Weights.Opaque]), and any other global is refused by
// name. A refused file is never tried again under laxer rules.
//
// [WriteSafetensors], [WriteTorch] and [WriteGGUF] write a file as a stream. A [Dir] makes a whole folder appear at once or
// not at all, with a manifest of sizes and SHA-256 sums that [Verify] compares.
package checkpoints

import (
	"errors"
	"fmt"
)

// ErrFormat is wrapped by the error of every file that is not a checkpoint, is malformed, or holds what is refused.
var ErrFormat = errors.New("not a checkpoint")

// Limits on what a file may ask for. A file beyond one is refused with an error that wraps [ErrFormat]. Numbers of things are
// compared with the bytes that follow before anything is allocated; a GGUF header takes at most 25 times its size in memory.
const (
	maxHeader      = 100 << 20 // bytes of a safetensors header, as in the reference implementation, or of a GGUF header
	maxIndex       = 100 << 20 // bytes of an index.json
	maxPickle      = 64 << 20  // bytes of data.pkl, or of a pickle of a legacy file
	maxPickleHeap  = 1 << 30   // bytes that decoding data.pkl may be estimated to allocate
	maxPickleDepth = 1000      // open MARKs in a pickle
	maxLong        = 1024      // bytes of one integer in a pickle
	maxWalk        = 4 << 20   // values visited in the decoded pickle, shared ones counted each time
	maxNest        = 64        // dictionaries and lists around a tensor
	maxName        = 4096      // bytes of a tensor's name
	maxNames       = 256 << 20 // bytes of all names of a PyTorch file, and 256 more for each tensor
	maxDirectory   = 32 << 20  // bytes of a zip file's directory
	maxDims        = 64        // dimensions of a tensor
	maxExpand      = 1 << 24   // elements of a view that has more elements than its storage
	maxManifest    = 16 << 20  // bytes of a manifest.json
	maxAlignment   = 1 << 16   // bytes to which the tensors of a GGUF file are aligned
	maxSplits      = 1000      // files of a split GGUF model
	maxPacked      = 64        // elements of an unknown type in one byte
	maxArrays      = 4         // arrays around a value of a GGUF header
)

// formatf makes an error that wraps ErrFormat.
func formatf(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{ErrFormat}, args...)...)
}
