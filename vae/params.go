package vae

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"

	"svae/kernels"
	"svae/kernels/op"
)

// Weight describes one weight of a model: its name in the model folder, its shape and how it starts.
type Weight struct {
	Name  string
	Shape []int
	Base  string  // tensor of the base model that it is a copy of at the start; "" for none
	Std   float64 // standard deviation of a random start; 0 with One 0: zeros
	One   float64 // constant start, or the diagonal of a square start
	New   bool    // not taken from the base: trains at the full learning rate
	Rate  float64 // factor of the learning rate; 0 is 1
	Table bool    // rows of it are looked up; no linear map reads it
	Const func([]float32)
}

// Elements returns the number of elements.
func (w Weight) Elements() int {
	n := 1
	for _, d := range w.Shape {
		n *= d
	}
	return n
}

// Build hands out the value of a weight: a graph node, a matrix in memory, or nothing while the weights are listed. A
// model's structure is walked once for each of these; so every weight stands in the code once.
type Build[X comparable] func(w Weight) X

// List returns the weights that a walk asks for, in order. Constants, which no folder holds, are left out.
func List(walk func(Build[op.Mat])) []Weight {
	var ws []Weight
	walk(func(w Weight) op.Mat {
		if w.Const == nil {
			ws = append(ws, w)
		}
		return op.Mat{}
	})
	return ws
}

// Store holds the weights of a model in a backend's memory, by name.
type Store struct {
	be     kernels.Backend
	list   []Weight
	byName map[string]int
	bufs   []kernels.Buf
	consts map[string]kernels.Buf
	heads  map[string]*op.Head
	fixed  bool // the memory is not ours to write to
}

// NewStore returns a store of the given weights, all zero.
func NewStore(be kernels.Backend, ws []Weight) (*Store, error) {
	s, err := newStore(be, ws)
	if err != nil {
		return nil, err
	}
	for _, w := range ws {
		s.bufs = append(s.bufs, be.Alloc(w.Elements()))
	}
	return s, nil
}

// NewStoreOf returns a store of the given weights over memory that is there already, that others may share, and that may be
// read-only: bufs[i] holds ws[i], in float32 or narrower; see kernels.BF16Of. Int8 rows are as long as the weight's. The
// weights do not change: Init refuses them.
func NewStoreOf(be kernels.Backend, ws []Weight, bufs []kernels.Buf) (*Store, error) {
	s, err := newStore(be, ws)
	if err != nil {
		return nil, err
	}
	if len(bufs) != len(ws) {
		return nil, fmt.Errorf("vae: %d buffers for %d weights", len(bufs), len(ws))
	}
	for i, w := range ws {
		if bufs[i].Len() != w.Elements() {
			return nil, fmt.Errorf("vae: weight %q %v in a buffer of %d elements", w.Name, w.Shape, bufs[i].Len())
		}
	}
	s.bufs, s.fixed = bufs, true
	return s, nil
}

// newStore returns a store without memory.
func newStore(be kernels.Backend, ws []Weight) (*Store, error) {
	s := &Store{be: be, list: ws, byName: map[string]int{}, consts: map[string]kernels.Buf{}, heads: map[string]*op.Head{}}
	for i, w := range ws {
		if _, twice := s.byName[w.Name]; twice {
			return nil, fmt.Errorf("vae: weight %q stands twice in the model", w.Name)
		}
		s.byName[w.Name] = i
	}
	return s, nil
}

// SetHead keeps what makes the greedy choice over the vocabulary projection of that name cheap; see op.Head.
func (s *Store) SetHead(name string, h *op.Head) { s.heads[name] = h }

// Head returns what SetHead kept for the weight of that name, the matrix of a vocabulary projection, or nil. The weights
// of a runtime bundle have it; see HeadNames and sllm.HeadName for the names.
func (s *Store) Head(name string) *op.Head { return s.heads[name] }

// HeadNames returns the names of the weights that make up a decoder's vocabulary projection; bias is "" if it has none.
func HeadNames(c *Config) (weight, bias string) {
	d := NewDecoder(c, func(w Weight) string { return w.Name })
	return d.Head, d.Bias
}

// Backend returns the backend that holds the weights.
func (s *Store) Backend() kernels.Backend { return s.be }

// Weights lists what the store holds, in the model's order.
func (s *Store) Weights() []Weight { return s.list }

// ScaleRates lets embedding tables whose spread is above that of usual ones, 0.05, learn in proportion to it: a table
// that holds a scale of √D folded in (as deep and thin models want it) would hardly move otherwise. It reads the weights
// as they are at the start of training.
func (s *Store) ScaleRates(tied bool) {
	for i := range s.list {
		w := &s.list[i]
		if w.Rate = 1; tied || !isEmbedding(w.Name) {
			continue
		}
		w.Rate = max(1, s.Spread(w.Name)/0.05)
	}
}

// isEmbedding says that a weight of that name is an embedding table of some family.
func isEmbedding(name string) bool {
	for _, f := range families {
		if strings.HasSuffix(name, f.names.embed+".weight") {
			return true
		}
	}
	return false
}

// SetRates sets the factors of the learning rate, by weight; a weight that is not named has 1.
func (s *Store) SetRates(rates map[string]float64) {
	for i := range s.list {
		if s.list[i].Rate = rates[s.list[i].Name]; s.list[i].Rate == 0 {
			s.list[i].Rate = 1
		}
	}
}

// Spread returns the root mean square of a weight.
func (s *Store) Spread(name string) float64 {
	b := s.Buf(name)
	var sum float64
	switch b.DType() {
	case kernels.BF16:
		for _, h := range b.BF16() {
			x := float64(math.Float32frombits(uint32(h) << 16))
			sum += x * x
		}
	case kernels.I8:
		shape := s.list[s.byName[name]].Shape
		width := shape[len(shape)-1]
		q, scales := b.Int8(width)
		for i, v := range q {
			x := float64(scales[i/width]) * float64(v)
			sum += x * x
		}
	default:
		sum = s.be.SumSquares(b, b.Len())
	}
	return math.Sqrt(sum / float64(max(1, b.Len())))
}

// Elements returns the number of weights.
func (s *Store) Elements() int {
	n := 0
	for _, w := range s.list {
		n += w.Elements()
	}
	return n
}

// Buf returns the memory of a weight; absent if there is none of that name.
func (s *Store) Buf(name string) kernels.Buf {
	if i, ok := s.byName[name]; ok {
		return s.bufs[i]
	}
	return kernels.Buf{}
}

// Mat returns a weight as a matrix, for eager use. It is a Build.
func (s *Store) Mat(w Weight) op.Mat {
	m := op.Mat{Buf: s.Buf(w.Name), R: 1, C: w.Shape[len(w.Shape)-1]}
	if len(w.Shape) == 2 {
		m.R = w.Shape[0]
	}
	if w.Const != nil {
		m.Buf = s.constant(w)
	}
	return m
}

func (s *Store) constant(w Weight) kernels.Buf {
	if b, ok := s.consts[w.Name]; ok {
		return b
	}
	v := make([]float32, w.Elements())
	w.Const(v)
	b := s.be.Alloc(len(v))
	s.be.Upload(b, v)
	s.consts[w.Name] = b
	return b
}

// Pack lets the backend keep a faster layout of every linear map, and of the int8 copies that Head returns, until Unpack: the
// weights must not change meanwhile.
func (s *Store) Pack() { s.eachMatrix(s.be.Pack) }

// Unpack ends Pack.
func (s *Store) Unpack() { s.eachMatrix(func(b kernels.Buf, _, _ int) { s.be.Unpack(b) }) }

func (s *Store) eachMatrix(f func(b kernels.Buf, o, i int)) {
	for i, w := range s.list {
		if len(w.Shape) == 2 && !w.Table {
			f(s.bufs[i], w.Shape[0], w.Shape[1])
		}
	}
	for _, h := range s.heads {
		f(h.Q.Buf, h.Q.R, h.Q.C)
	}
}

// Init starts every weight as its description says; base gives the elements of a tensor of the base model, or nil if
// the base holds none of that name. The same seed gives the same weights. The draw of one weight does not depend on
// which others there are.
func (s *Store) Init(seed uint64, base func(name string) ([]float32, error)) error {
	if s.fixed {
		return errors.New("vae: the weights of this store are given and cannot be started")
	}
	for i, w := range s.list {
		v := make([]float32, w.Elements())
		if w.Base != "" && base != nil {
			b, err := base(w.Base)
			if err != nil {
				return err
			}
			if b != nil && len(b) != len(v) {
				return fmt.Errorf("vae: weight %q %v starts from %q, which has %d elements", w.Name, w.Shape, w.Base, len(b))
			}
			if b != nil {
				s.be.Upload(s.bufs[i], b)
				continue
			}
		}
		w.start(v, seed)
		s.be.Upload(s.bufs[i], v)
	}
	return nil
}

// start fills v with the weight's random or constant start.
func (w Weight) start(v []float32, seed uint64) {
	if w.Std > 0 {
		var h uint64 = 14695981039346656037 // FNV-1a of the name
		for _, c := range []byte(w.Name) {
			h = (h ^ uint64(c)) * 1099511628211
		}
		r := rand.New(rand.NewPCG(seed, h))
		for i := range v {
			v[i] = float32(r.NormFloat64() * w.Std)
		}
	}
	if w.One != 0 {
		if len(w.Shape) == 1 {
			for i := range v {
				v[i] = float32(w.One)
			}
			return
		}
		for i := 0; i < min(w.Shape[0], w.Shape[1]); i++ {
			v[i*w.Shape[1]+i] = float32(w.One)
		}
	}
}

// sinusoid fills a table of fixed positions: PE[p,2i] = sin(p·10000^(-2i/D)), PE[p,2i+1] = cos(...) (Vaswani et al.
// 2017, §3.5).
func sinusoid(d int) func([]float32) {
	return func(v []float32) {
		for i := range v {
			p, j := i/d, i%d
			a := float64(p) * math.Pow(10000, -float64(j&^1)/float64(d))
			if j%2 == 0 {
				v[i] = float32(math.Sin(a))
			} else {
				v[i] = float32(math.Cos(a))
			}
		}
	}
}
