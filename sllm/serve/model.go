package serve

import (
	"context"
	"fmt"
)

// Model continues text. Its methods are called from many goroutines at once.
type Model interface {
	// Name is what clients call the model.
	Name() string
	// Complete continues r.Prompt. It hands every piece of text to emit, in order, from one goroutine at a time and never after
	// it has returned; emit does not block. When emit returns false the request has ended, without an error. When ctx ends,
	// Complete returns within a token. Usage counts what was done also where an error is returned. A prompt that the model
	// cannot take is an InputError.
	Complete(ctx context.Context, r Request, emit func(Piece) bool) (Usage, error)
}

// Request is what to continue and how. All its fields are within the limits of the server.
type Request struct {
	Prompt       string
	MaxTokens    int     // at least 1
	MaxSentences int     // 0: no cap
	Temperature  float64 // 0 takes the most probable token
	TopP         float64 // in (0, 1]; 1: all tokens
	TopK         int     // 0: all tokens
	Seed         uint64
	LogProbs     bool // every Piece lists its tokens
}

// Piece is a part of the answer, in whole UTF-8 characters.
type Piece struct {
	Text  string
	Probs []Token // the tokens that it is made of if Request.LogProbs, else empty
	Ends  bool    // a sentence ends with it
}

// Token is one token of a piece.
type Token struct {
	Text    string // as it is shown: of a token that is no whole character "bytes:" and its bytes as \xhh
	LogProb float32
}

// Usage counts the tokens of a request and says why it ended.
type Usage struct {
	Prompt int    // tokens of the prompt
	Tokens int    // written
	Finish Finish // empty if emit or ctx ended it
}

// Finish says why an answer ended.
type Finish string

// The reasons.
const (
	Stop   Finish = "stop"   // the model ended the text, or a stop string came
	Length Finish = "length" // a cap
)

// InputError is a request that cannot be served as it is; the client is told why.
type InputError struct {
	Param   string // the field at fault, if it is one
	Message string
	code    string
	status  int // 400 unless set
}

func (e *InputError) Error() string { return e.Message }

// refusal returns an InputError of a field.
func refusal(param, format string, a ...any) *InputError {
	return &InputError{Param: param, Message: fmt.Sprintf(format, a...)}
}
