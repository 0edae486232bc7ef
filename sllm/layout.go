package sllm

import (
	"errors"
	"fmt"
	"math"
	"regexp"
	"slices"
	"strings"

	"svae/checkpoints"
	"svae/vae"
)

// A Stored is one tensor of a file and the weights of the model that it holds.
type Stored struct {
	Name       string   // in the file
	Parts      []string // names of weights (vae.Weight.Name), stacked along their rows
	Transposed bool     // the file holds the stack as (in, out): GPT-2's Conv1D
	Pairs      int      // > 0: the rows of each of so many heads of the only part stand in rotary pairs (GGUF, llama2.c)
}

// Layout returns how a Hugging Face folder of a's family stores the weights ws of a token-level model: one tensor a weight
// under the weight's name. GPT-2 alone differs: the maps inside its blocks are stored transposed, and those of queries, keys
// and values as one.
func Layout(a *vae.Arch, ws []vae.Weight) []Stored {
	if a.ModelType != "gpt2" {
		return plain(ws)
	}
	fuse := strings.NewReplacer(".attn.q_proj.", ".attn.c_attn.", ".attn.k_proj.", ".attn.c_attn.", ".attn.v_proj.", ".attn.c_attn.")
	var st []Stored
	for _, w := range ws {
		name := fuse.Replace(w.Name)
		if n := len(st); name != w.Name { // the parts of one tensor: its weights and its biases come in turn
			if i := slices.IndexFunc(st[max(0, n-2):], func(s Stored) bool { return s.Name == name }); i >= 0 {
				s := &st[max(0, n-2)+i]
				s.Parts = append(s.Parts, w.Name)
				continue
			}
		}
		inside := strings.Contains(name, ".attn.") || strings.Contains(name, ".mlp.")
		st = append(st, Stored{Name: name, Parts: []string{w.Name}, Transposed: inside && len(w.Shape) == 2})
	}
	return st
}

// plain is the layout of this program's own folders: one tensor a weight.
func plain(ws []vae.Weight) []Stored {
	st := make([]Stored, len(ws))
	for i, w := range ws {
		st[i] = Stored{Name: w.Name, Parts: []string{w.Name}}
	}
	return st
}

// Layout returns how the folder stores its weights.
func (f *Folder) Layout() []Stored {
	if f.Kind == KindLM {
		return Layout(&f.LM, f.Weights())
	}
	return plain(f.Weights())
}

// Find finds every weight in a source, as a view where it is part of a tensor. A name may stand with or without its outer
// prefix, as files written from the inner module have it. The error lists all tensors that are missing, mis-shaped, of a
// type that cannot be read or left over. Those that no model needs may be left over: rotary tables, GPT-2's masks, and a tied
// head stored again, which is compared with the embedding table. No other data are read.
func Find(ws []vae.Weight, st []Stored, src *checkpoints.Weights) (map[string]*checkpoints.Tensor, error) {
	spare := func(name string, found map[string]*checkpoints.Tensor) error {
		switch {
		case name == headName:
			return spareHead(src, found)
		case needless.MatchString(name):
			return nil
		}
		return errUnexpected
	}
	return find(ws, st, src, spare, "the weights do not fit config.json")
}

// errUnexpected says that a model has no use for a tensor.
var errUnexpected = errors.New("unexpected")

// find is Find with a rule for what may be left over beside what was found, and what its error begins with.
func find(ws []vae.Weight, st []Stored, src *checkpoints.Weights, spare func(string, map[string]*checkpoints.Tensor) error,
	fault string) (map[string]*checkpoints.Tensor, error) {
	byName := make(map[string]vae.Weight, len(ws))
	for _, w := range ws {
		byName[w.Name] = w
	}
	found, used, held := map[string]*checkpoints.Tensor{}, map[string]bool{}, map[string]bool{}
	var bad, extra []string
	for _, s := range st {
		shape, err := s.shape(byName)
		if err != nil {
			return nil, err
		}
		for _, part := range s.Parts {
			held[part] = true
		}
		name, t := lookUp(src, s.Name)
		used[name] = true
		switch {
		case t == nil:
			bad = append(bad, fmt.Sprintf("missing %s %v", s.Name, shape))
		case !slices.Equal(t.Shape, shape):
			bad = append(bad, fmt.Sprintf("%s is %v, want %v", name, t.Shape, shape))
		case checkpoints.F64 < t.DType && t.DType <= checkpoints.Bool:
			bad = append(bad, fmt.Sprintf("%s holds integers (a quantised model is not read: give the one it was made from)", name))
		case !t.DType.Numeric() || t.DType.Size() == 0 && !s.blocks(shape):
			bad = append(bad, fmt.Sprintf("%s has the unsupported type %s", name, t.TypeName))
		default:
			s.split(t, byName, found)
		}
	}
	for _, w := range ws {
		if !held[w.Name] {
			bad = append(bad, "no tensor holds "+w.Name)
		}
	}
	for _, name := range src.Names() {
		if used[name] {
			continue
		}
		switch err := spare(name, found); {
		case errors.Is(err, errUnexpected):
			extra = append(extra, "unexpected "+name)
		case err != nil:
			bad = append(bad, err.Error())
		}
	}
	if len(bad)+len(extra) == 0 {
		return found, nil
	}
	return nil, fmt.Errorf("%s: %s", fault, strings.Join(append(some(bad, 12), some(extra, 8)...), "; "))
}

// some returns the first of a list, and how many more there are.
func some(list []string, most int) []string {
	if n := len(list); n > most {
		return append(list[:most:most], fmt.Sprintf("and %d more", n-most))
	}
	return list
}

// lookUp returns a tensor of a source by its name, with or without the outer prefix, or inside the module that training on
// several cards or by a trainer puts around a model; nil if there is none.
func lookUp(src *checkpoints.Weights, name string) (string, *checkpoints.Tensor) {
	for _, prefix := range []string{"", "model.", "transformer."} {
		if inner, ok := strings.CutPrefix(name, prefix); ok {
			if t, ok := src.Get(inner); ok {
				return inner, t
			}
		}
	}
	for _, outer := range []string{"module.", "model."} {
		if t, ok := src.Get(outer + name); ok {
			return outer + name, t
		}
	}
	return "", nil
}

// shape returns the shape of the tensor in the file.
func (s Stored) shape(ws map[string]vae.Weight) ([]int, error) {
	var shape []int
	for _, part := range s.Parts {
		w, ok := ws[part]
		switch {
		case !ok:
			return nil, fmt.Errorf("%s would hold %s, which is no weight of the model", s.Name, part)
		case shape == nil:
			shape = slices.Clone(w.Shape)
		case !slices.Equal(shape[1:], w.Shape[1:]):
			return nil, fmt.Errorf("%s would hold %s %v, which does not stack on %v", s.Name, part, w.Shape, shape)
		default:
			shape[0] += w.Shape[0]
		}
	}
	if s.Transposed {
		slices.Reverse(shape)
	}
	return shape, nil
}

// blocks says that the tensor may be of a type that stores blocks of elements: its parts are runs of them.
func (s Stored) blocks(shape []int) bool {
	return !s.Transposed && (len(shape) == 2 || len(s.Parts) == 1 && s.Pairs == 0)
}

// split adds the weights of a tensor to found.
func (s Stored) split(t *checkpoints.Tensor, ws map[string]vae.Weight, found map[string]*checkpoints.Tensor) {
	if s.Transposed {
		t = t.T()
	}
	if s.Pairs > 0 {
		t = t.HalfRows(s.Pairs)
	}
	if len(s.Parts) == 1 {
		found[s.Parts[0]] = t
		return
	}
	at := 0
	for _, part := range s.Parts {
		n := ws[part].Shape[0]
		found[part] = t.Rows(at, at+n)
		at += n
	}
}

// needless matches the names of tensors that no model needs, with or without the outer prefix: tables that are computed, and
// the number of a format.
var needless = regexp.MustCompile(`^((model\.)?(layers\.\d+\.self_attn\.)?rotary_emb\.inv_freq|(model\.)?decoder\.version|` +
	`(transformer\.)?h\.\d+\.attn\.(bias|masked_bias)|` + regexp.QuoteMeta(ropeFactors) + `)$`)

// headName is the name of a head that is not the embedding table.
const headName = "lm_head.weight"

// spareHead reports that the head of a file whose config.json ties it is not the embedding table, which would be used in its
// place.
func spareHead(src *checkpoints.Weights, found map[string]*checkpoints.Tensor) error {
	var table *checkpoints.Tensor
	for _, family := range vae.Families {
		if t := found[(&vae.Arch{ModelType: family}).EmbedName()]; t != nil {
			table = t
		}
	}
	head, _ := src.Get(headName)
	if table == nil || found[headName] != nil {
		return errUnexpected
	}
	const out = "although config.json ties them (tie_word_embeddings: false uses the head)"
	switch {
	case !slices.Equal(head.Shape, table.Shape):
		return fmt.Errorf("%s is %v and %s %v, %s", headName, head.Shape, table.Name, table.Shape, out)
	case !head.DType.Numeric():
		return fmt.Errorf("%s has the unsupported type %s", headName, head.TypeName)
	}
	if slices.ContainsFunc(src.Tied(), func(names []string) bool {
		return slices.Contains(names, headName) && slices.Contains(names, table.Name)
	}) {
		return nil
	}
	same, err := sameElements(head, table)
	switch {
	case err != nil:
		return err
	case !same:
		return fmt.Errorf("%s differs from %s, %s", headName, table.Name, out)
	}
	return nil
}

// sameElements says that two matrices of one shape hold the same elements as float32, bit by bit. It holds some rows at a time.
func sameElements(a, b *checkpoints.Tensor) (bool, error) {
	rows, cols := a.Shape[0], a.Shape[1]
	step := max(1, 1<<16/max(cols, 1))
	x, y := make([]float32, min(step, rows)*cols), make([]float32, min(step, rows)*cols)
	for lo := 0; lo < rows; lo += step {
		hi := min(lo+step, rows)
		n := (hi - lo) * cols
		if err := a.Rows(lo, hi).Float32(x[:n]); err != nil {
			return false, err
		}
		if err := b.Rows(lo, hi).Float32(y[:n]); err != nil {
			return false, err
		}
		for i, v := range x[:n] {
			if math.Float32bits(v) != math.Float32bits(y[i]) {
				return false, nil
			}
		}
	}
	return true, nil
}

// Arrange makes the tensors of a file of that layout, in its order, from the weights by name, all of which must be there.
// What can be copied as it is stored is; parts of different types are written as F32.
func Arrange(st []Stored, tensors map[string]*checkpoints.Tensor) []checkpoints.Named {
	var ns []checkpoints.Named
	for _, s := range st {
		var parts []*checkpoints.Tensor
		for _, name := range s.Parts {
			t := tensors[name]
			if s.Pairs > 0 {
				t = t.PairRows(s.Pairs)
			}
			parts = append(parts, t)
		}
		if len(parts) > 1 || s.Transposed {
			ns = append(ns, checkpoints.Stack(s.Name, s.Transposed, parts...))
			continue
		}
		n := checkpoints.FromTensor(parts[0])
		n.Name = s.Name
		ns = append(ns, n)
	}
	return ns
}
