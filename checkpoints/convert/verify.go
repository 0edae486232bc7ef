package convert

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"svae/checkpoints"
	"svae/data/tokenizer"
	"svae/sllm"
	"svae/vae"
)

// Verify opens the target as [Open] does and compares with the source what the config comes to, the tokenizer, and every weight
// of the model, bit by bit, in the type that was written. It returns the number of weights, as elements, that are equal: all, or
// there is an error that names the first difference.
func (p *Plan) Verify(ctx context.Context) (elements int, err error) {
	if p.Target.Format == Folder || p.Target.Format == Torch {
		if err := checkpoints.Verify(p.Target.Path); err != nil {
			return 0, err
		}
	}
	o := Options{}
	if p.Target.Format == Reference { // it holds neither a tokenizer nor the number of heads
		w, err := checkpoints.Open(p.Target.Path)
		if err != nil {
			return 0, err
		}
		defer w.Close()
		_, got, err := sllm.ReadReference(w, sllm.ReferenceOptions{Heads: p.Source.Folder.SVAEConfig().Arch.NumHeads})
		if err != nil {
			return 0, err
		}
		return p.compare(ctx, got)
	}
	s, err := Open(p.Target.Path, o)
	if err != nil {
		return 0, fmt.Errorf("what was written does not open: %w", err)
	}
	defer s.Close()
	if err := sameTokenizer(p.Source.Tokenizer, s.Tokenizer); err != nil {
		return 0, fmt.Errorf("%s: %w", p.Target.Path, err)
	}
	if a, b := p.Source.Folder, s.Folder; a.Kind == sllm.KindLM {
		if err := errors.Join(vae.SameArch(a.LM, b.LM), vae.SameIDs(a.LM, b.LM)); err != nil {
			return 0, fmt.Errorf("%s computes something else than the source: %w", p.Target.Path, err)
		}
	}
	return p.compare(ctx, s.Tensors)
}

// sameTokenizer reports a difference between two tokenizers that may come from files of different formats: all tokens must
// stand for the same text, and text made of all of them must be cut alike.
func sameTokenizer(a, b *tokenizer.Tokenizer) error {
	var text []byte
	for id := range int32(a.VocabSize()) {
		if !bytes.Equal(a.Piece(id), b.Piece(id)) || a.Special(id) && !b.Special(id) {
			return fmt.Errorf("token %d is %q, in the source %q", id, b.Piece(id), a.Piece(id))
		}
		if text = append(text, a.Piece(id)...); id%16 > 0 && int(id)+1 < a.VocabSize() {
			continue
		}
		if got, want := b.Encode(text), a.Encode(text); !slices.Equal(got, want) {
			return fmt.Errorf("its tokenizer cuts %q into %v, the source's into %v", text, got, want)
		}
		text = text[:0]
	}
	return nil
}

// compare compares the model's weights.
func (p *Plan) compare(ctx context.Context, got map[string]*checkpoints.Tensor) (elements int, err error) {
	for _, w := range p.Source.Folder.Weights() {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		a, b := p.Source.Tensors[w.Name], got[w.Name]
		if b == nil || a.Len() != b.Len() {
			return 0, fmt.Errorf("%s: %s is not as in the source", p.Target.Path, w.Name)
		}
		same, err := equal(checkpoints.FromTensor(a).As(b.DType), checkpoints.FromTensor(b))
		if err != nil {
			return 0, err
		}
		if !same {
			return 0, fmt.Errorf("%s: %s differs from the source's %s", p.Target.Path, w.Name, a.Name)
		}
		elements += a.Len()
	}
	return elements, nil
}

// errDiffers ends a comparison.
var errDiffers = errors.New("differs")

// equal compares the bytes of two tensors without holding more of them than the pieces that they are written in.
func equal(a, b checkpoints.Named) (bool, error) {
	r, w := io.Pipe()
	go func() { w.CloseWithError(a.Write(w)) }()
	c := &comparer{want: r}
	err := b.Write(c)
	if err == nil {
		if _, err = io.ReadFull(r, make([]byte, 1)); err == nil {
			err = errDiffers // a is longer
		}
	}
	r.CloseWithError(errDiffers)
	switch {
	case errors.Is(err, errDiffers):
		return false, nil
	case err == io.EOF:
		return true, nil
	}
	return false, err
}

// comparer takes bytes and compares them with those that it reads.
type comparer struct {
	want io.Reader
	buf  []byte
}

func (c *comparer) Write(b []byte) (int, error) {
	if len(c.buf) < len(b) {
		c.buf = make([]byte, len(b))
	}
	if _, err := io.ReadFull(c.want, c.buf[:len(b)]); err == io.EOF || err == io.ErrUnexpectedEOF {
		return 0, errDiffers // a is shorter
	} else if err != nil {
		return 0, err
	}
	if !bytes.Equal(b, c.buf[:len(b)]) {
		return 0, errDiffers
	}
	return len(b), nil
}
