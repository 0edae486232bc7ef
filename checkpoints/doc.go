// Package checkpoints reads and writes the weights of models.
//
// [Open] reads a safetensors file, a PyTorch zip file (.bin, .pt, .pth) or a folder of either, sharded or not. Files are
// mapped into memory and tensors are read on demand, so opening costs milliseconds whatever the size. What a file is, its
// content decides, never its name.
//
// Every reader treats its input as hostile. Sizes are checked before anything is allocated, a view must lie inside its
// storage, and a malformed file is one error that wraps [ErrFormat]. Pickles run under an allow-list: no code executes, a
// listed class becomes an opaque value that is skipped and counted ([Weights.Opaque]), and any other global is refused by
// name. A refused file is never tried again under laxer rules.
//
// [WriteSafetensors] writes a file as a stream. A [Dir] makes a whole folder appear at once or not at all, with a manifest
// of sizes and SHA-256 sums that [Verify] compares.
package checkpoints

import (
	"errors"
	"fmt"
)

// ErrFormat is wrapped by the error of every file that is not a checkpoint, is malformed, or holds what is refused.
var ErrFormat = errors.New("not a checkpoint")

// Limits on what a file may ask for. A file beyond one is refused with an error that wraps [ErrFormat].
const (
	maxHeader      = 100 << 20 // bytes of a safetensors header, as in the reference implementation
	maxIndex       = 100 << 20 // bytes of an index.json
	maxPickle      = 64 << 20  // bytes of data.pkl
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
)

// formatf makes an error that wraps ErrFormat.
func formatf(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{ErrFormat}, args...)...)
}
