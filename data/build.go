package data

import (
	"context"

	"svae/data/segment"
)

// What to do with a line that is not a document (BuildConfig.BadLines).
const (
	BadFail       = "fail"       // stop with an error that names file and line
	BadSkip       = "skip"       // count and leave out
	BadQuarantine = "quarantine" // count and copy to quarantine.jsonl in the output folder
)

// BuildConfig says how a data set is built.
type BuildConfig struct {
	Inputs        []string                // files and folders; see Build
	Out           string                  // folder to write
	Holdout       float64                 // fraction of documents, by a hash of the id, that go to Out/heldout, the others to Out/train; 0: all go to Out
	Split         string                  // regular expression; plain text starts a new document at each match
	Unwrap        bool                    // join the hard line breaks of plain text: a single one becomes a space, blank lines one line break
	BadLines      string                  // BadFail, BadSkip or BadQuarantine; "" = BadFail
	Segment       segment.Config          //
	Tokenizer     Tokenizer               //
	TokenizerName string                  // for people; stored in dataset.json
	Workers       int                     // goroutines that tokenise; 0 = one for each core. The output does not depend on it
	ShardBytes    int64                   // a shard ends when it has this size; 0 = 64 MiB
	MaxLineBytes  int                     // largest line and largest document; 0 = 64 MiB
	Force         bool                    // replace what an earlier build left in Out
	Progress      func(done, total int64) // bytes of input read, of all; each file is read twice. Never called by two goroutines at once
}

// Report says what a build did.
type Report struct {
	Files      int64    `json:"files"`
	Lines      int64    `json:"lines"`       // of JSONL
	BlankLines int64    `json:"blank_lines"` // of JSONL
	BadLines   int64    `json:"bad_lines"`
	BadSamples []string `json:"bad_samples,omitempty"` // file:line: reason, of the first few
	Empty      int64    `json:"empty"`                 // documents without text, left out
	Duplicates int64    `json:"duplicates"`            // documents whose id came before; they are kept
	Replaced   int64    `json:"replaced"`              // lone surrogates and invalid bytes in JSON strings that became U+FFFD
	Dropped    int64    `json:"dropped_bytes"`         // bytes of documents that the segmenter "reference" left out
	Skipped    int64    `json:"skipped_files"`         // members of archives that are not text
	Train      Counts   `json:"train"`
	Heldout    Counts   `json:"heldout"`
	Shards     int      `json:"shards"`
	Resumed    int      `json:"resumed_shards"` // of Shards, those an earlier, interrupted build had finished
}

// Build reads documents, tokenises them, cuts them into sentences and writes shards, and last a dataset.json for each
// data set. An input is
//
//   - JSONL in the schema of WanJuan, {"id": string, "content": string}, other keys being ignored; an id may be a number
//     or missing (then it is file:line);
//   - plain text: a file is a document, or several with Split; its id is the file's name;
//   - either of them packed with gzip or tar or both, recognised by content;
//   - a folder, of which the files are read whose names end as those of the above.
//
// The output depends on the inputs and the configuration, not on Workers. After an error or a crash the same call
// takes up again the shards that were finished. Build refuses a folder that holds anything else, unless Force is set;
// then it removes what an earlier build wrote there and leaves other files alone.
// Memory is bounded by Workers times the longest document.
func Build(ctx context.Context, c BuildConfig) (*Report, error) {
	b, err := newBuilder(c)
	if err != nil {
		return nil, err
	}
	return b.run(ctx)
}
