package data

import (
	"errors"
	"fmt"
	"io"
	"math/bits"
)

// windowTokens is about how many tokens of documents a Loader holds in memory and shuffles the pieces of.
const windowTokens = 8 * batchTokens

// maxOpenShards is how many shards a Loader keeps open.
const maxOpenShards = 16

// LoaderConfig says what a Loader's batches look like and in which order they come.
type LoaderConfig struct {
	Sentences   int    // most sentences in a piece; 0 = no limit
	Tokens      int    // most tokens in a piece; 0 = no limit. A piece ends before the sentence that would exceed it
	BatchTokens int    // pieces are added until the next would exceed it; a batch holds at least one
	Seed        uint64 // of the order and of RandomStart
	Shuffle     bool   // otherwise the order of the shards
	// RandomStart makes the first piece of a document that needs several shorter by a random number of sentences, so that
	// the boundaries move from epoch to epoch.
	RandomStart bool
	Context     int // most raw tokens given in Batch.Before
	Epochs      int // 0 = endless
}

func (c LoaderConfig) check() error {
	switch {
	case c.Sentences < 0 || c.Tokens < 0 || c.Context < 0 || c.Epochs < 0:
		return errors.New("loader: sentences, tokens, context and epochs must not be negative")
	case c.BatchTokens < 1 || c.BatchTokens > 1<<30:
		return fmt.Errorf("loader: batch tokens %d is not in 1..%d", c.BatchTokens, 1<<30)
	}
	return nil
}

// Position is where a Loader's next batch starts: the epoch, the window of record batches in the epoch's order, and the
// piece in the window's order. It fits one data set and one LoaderConfig; the zero Position is the beginning.
type Position struct {
	Epoch int `json:"epoch"`
	Block int `json:"block"`
	Piece int `json:"piece"`
}

// Loader reads a data set as batches. The order is a function of the seed and the epoch alone: in each epoch the record
// batches are shuffled, and the pieces of a window of a few record batches are shuffled among each other. A batch may
// span windows and epochs; every sentence comes exactly once in each epoch. Memory is bounded by the window and the
// longest document, whatever the data set's size. A Loader is not safe for concurrent use.
type Loader struct {
	d  *Dataset
	c  LoaderConfig
	at Position

	window int64      // about how many tokens of documents a block has
	all    []batchRef // record batches in the order of the shards
	// Of the epoch that was last looked at:
	epoch  int
	order  []uint32 // permutation of all
	starts []int    // blocks[i] = order[starts[i]:starts[i+1]]
	// Of the block that was last looked at:
	block  int
	pieces []piece

	open []*shardReader // the last used is the last
}

type batchRef struct{ shard, batch int32 }

// NewLoader returns a Loader of d that starts at a position, as returned by Position, or at the zero Position.
func NewLoader(d *Dataset, c LoaderConfig, at Position) (*Loader, error) {
	return newLoader(d, c, at, windowTokens)
}

func newLoader(d *Dataset, c LoaderConfig, at Position, window int64) (*Loader, error) {
	if err := c.check(); err != nil {
		return nil, err
	}
	if d.meta.Sentences == 0 {
		return nil, fmt.Errorf("loader: data set %s has no sentences", d.dir)
	}
	l := &Loader{d: d, c: c, at: at, window: window, epoch: -1, block: -1}
	for s := range d.meta.Shards {
		for b := range d.meta.Shards[s].Batches {
			l.all = append(l.all, batchRef{int32(s), int32(b)})
		}
	}
	if at.Epoch < 0 || at.Block < 0 || at.Piece < 0 {
		return nil, fmt.Errorf("loader: position %+v is negative", at)
	}
	if l.done() {
		return l, nil
	}
	l.setEpoch(at.Epoch)
	if at.Block >= l.blocks() {
		return nil, fmt.Errorf("loader: position %+v is beyond the %d blocks of data set %s (it belongs to other data)", at, l.blocks(), d.dir)
	}
	if err := l.setBlock(at.Block); err != nil {
		l.Close()
		return nil, err
	}
	if at.Piece > len(l.pieces) {
		l.Close()
		return nil, fmt.Errorf("loader: position %+v is beyond the %d pieces of its block (it belongs to other data or settings)", at, len(l.pieces))
	}
	return l, nil
}

// Position returns where the batch after the last one returned starts. A Loader made with it goes on with exactly the
// batches that this one would return.
func (l *Loader) Position() Position { return l.at }

// Close closes the files. The Loader must not be used after it.
func (l *Loader) Close() {
	for _, s := range l.open {
		s.close()
	}
	l.open, l.pieces = nil, nil
}

func (l *Loader) done() bool  { return l.c.Epochs > 0 && l.at.Epoch >= l.c.Epochs }
func (l *Loader) blocks() int { return len(l.starts) - 1 }

// Next returns the next batch, or io.EOF after the last epoch. The batch is the caller's. After another error the
// position is that of the last batch returned.
func (l *Loader) Next() (*Batch, error) {
	start := l.at
	b := new(Batch)
	for {
		p, err := l.peek()
		if err == io.EOF && len(b.Names) > 0 {
			return b, nil
		}
		if err != nil {
			l.at = start
			return nil, err
		}
		if len(b.Names) > 0 && len(b.IDs)+p.tokens() > l.c.BatchTokens {
			return b, nil
		}
		b.add(p, l.c.Context)
		l.at.Piece++
	}
}

// peek moves the position over what is used up and returns the piece there.
func (l *Loader) peek() (piece, error) {
	for {
		if l.done() {
			return piece{}, io.EOF
		}
		l.setEpoch(l.at.Epoch)
		if l.at.Block >= l.blocks() {
			l.at = Position{Epoch: l.at.Epoch + 1}
			continue
		}
		if err := l.setBlock(l.at.Block); err != nil {
			return piece{}, err
		}
		if l.at.Piece < len(l.pieces) {
			return l.pieces[l.at.Piece], nil
		}
		l.at.Block, l.at.Piece = l.at.Block+1, 0
	}
}

// setEpoch makes the order of an epoch and cuts it into blocks.
func (l *Loader) setEpoch(epoch int) {
	if l.epoch == epoch {
		return
	}
	l.epoch, l.block = epoch, -1
	l.order = l.order[:0]
	for i := range l.all {
		l.order = append(l.order, uint32(i))
	}
	if l.c.Shuffle {
		r := newRandom(l.c.Seed, saltOrder, uint64(epoch))
		shuffle(&r, l.order)
	}
	l.starts = append(l.starts[:0], 0)
	var tokens int64
	for i, ref := range l.order {
		at := l.all[ref]
		n := l.d.meta.Shards[at.shard].Batches[at.batch].Tokens
		if i > l.starts[len(l.starts)-1] && tokens+n > l.window {
			l.starts = append(l.starts, i)
			tokens = 0
		}
		tokens += n
	}
	l.starts = append(l.starts, len(l.order))
}

// setBlock reads a block of the current epoch and puts its pieces in order.
func (l *Loader) setBlock(block int) error {
	if l.block == block {
		return nil
	}
	l.block, l.pieces = -1, nil
	var pieces []piece
	for _, ref := range l.order[l.starts[block]:l.starts[block+1]] {
		at := l.all[ref]
		s, err := l.shard(int(at.shard))
		if err != nil {
			return err
		}
		docs, err := s.documents(int(at.batch))
		if err != nil {
			return err
		}
		for i := range docs {
			pieces = cutPieces(pieces, &docs[i], l.c.Sentences, l.c.Tokens, l.start(ref, i))
		}
	}
	if l.c.Shuffle {
		r := newRandom(l.c.Seed, saltPieces, uint64(l.epoch), uint64(block))
		shuffle(&r, pieces)
	}
	l.block, l.pieces = block, pieces
	return nil
}

// start returns RandomStart's choice for row i of record batch ref.
func (l *Loader) start(ref uint32, i int) func(limit int) int {
	if !l.c.RandomStart {
		return nil
	}
	return func(limit int) int {
		r := newRandom(l.c.Seed, saltStart, uint64(l.epoch), uint64(ref), uint64(i))
		return int(r.below(uint64(limit)))
	}
}

// shard returns an open shard, closing the one that was longest unused if there are too many.
func (l *Loader) shard(i int) (*shardReader, error) {
	info := &l.d.meta.Shards[i]
	for k, s := range l.open {
		if s.info == info {
			copy(l.open[k:], l.open[k+1:])
			l.open[len(l.open)-1] = s
			return s, nil
		}
	}
	s, err := openShard(l.d.dir, l.d.meta, info)
	if err != nil {
		return nil, err
	}
	if len(l.open) == maxOpenShards {
		l.open[0].close()
		l.open = append(l.open[:0], l.open[1:]...)
	}
	l.open = append(l.open, s)
	return s, nil
}

// Salts keep the streams of random numbers of one seed apart.
const (
	saltOrder = iota + 1
	saltPieces
	saltStart
)

// random is splitmix64 (Steele, Lea and Flood 2014). It is written out here because the order of a data set must not
// change with the Go version.
type random uint64

func newRandom(words ...uint64) random {
	var r random
	for _, w := range words {
		r = random(r.next() ^ w)
	}
	return r
}

func (r *random) next() uint64 {
	*r += 0x9e3779b97f4a7c15
	z := uint64(*r)
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

// below returns a number in [0, n).
func (r *random) below(n uint64) uint64 {
	hi, _ := bits.Mul64(r.next(), n)
	return hi
}

func shuffle[T any](r *random, x []T) {
	for i := len(x) - 1; i > 0; i-- {
		j := r.below(uint64(i + 1))
		x[i], x[j] = x[j], x[i]
	}
}
