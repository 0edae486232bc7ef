package sllm

import (
	"fmt"
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
// type that cannot be read or left over. Those that no model needs may be left over: a tied head stored again, rotary
// tables, GPT-2's masks.
func Find(ws []vae.Weight, st []Stored, src *checkpoints.Weights) (map[string]*checkpoints.Tensor, error) {
	return find(ws, st, src, needless, "the weights do not fit config.json")
}

// find is Find with a rule for what may be left over, and what its error begins with.
func find(ws []vae.Weight, st []Stored, src *checkpoints.Weights, spare func(name string) bool, fault string) (map[string]*checkpoints.Tensor, error) {
	byName := map[string]vae.Weight{}
	for _, w := range ws {
		byName[w.Name] = w
	}
	found, used := map[string]*checkpoints.Tensor{}, map[string]bool{}
	var bad []string
	for _, s := range st {
		shape, err := s.shape(byName)
		if err != nil {
			return nil, err
		}
		name, t := lookUp(src, s.Name)
		used[name] = true
		switch {
		case t == nil:
			bad = append(bad, fmt.Sprintf("missing %s %v", s.Name, shape))
		case !slices.Equal(t.Shape, shape):
			bad = append(bad, fmt.Sprintf("%s is %v, want %v", name, t.Shape, shape))
		case !t.DType.Numeric() || t.DType.Size() == 0 && !s.blocks(shape):
			bad = append(bad, fmt.Sprintf("%s has the unsupported type %s", name, t.TypeName))
		default:
			s.split(t, byName, found)
		}
	}
	for _, w := range ws {
		if found[w.Name] == nil && !slices.ContainsFunc(st, func(s Stored) bool { return slices.Contains(s.Parts, w.Name) }) {
			bad = append(bad, "no tensor holds "+w.Name)
		}
	}
	for _, name := range src.Names() {
		if !used[name] && !spare(name) {
			bad = append(bad, "unexpected "+name)
		}
	}
	if len(bad) == 0 {
		return found, nil
	}
	const most = 20
	n := len(bad)
	if n > most {
		bad = append(bad[:most], fmt.Sprintf("and %d more", n-most))
	}
	return nil, fmt.Errorf("%s: %s", fault, strings.Join(bad, "; "))
}

// lookUp returns a tensor of a source by its name, with or without the outer prefix; nil if there is none.
func lookUp(src *checkpoints.Weights, name string) (string, *checkpoints.Tensor) {
	for _, prefix := range []string{"", "model.", "transformer."} {
		if inner, ok := strings.CutPrefix(name, prefix); ok {
			if t, ok := src.Get(inner); ok {
				return inner, t
			}
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

// needless says that no model needs the tensor of that name: one that is a copy of another or a table that is computed.
func needless(name string) bool {
	for _, suffix := range []string{"lm_head.weight", "rotary_emb.inv_freq", "decoder.version", ".attn.bias", ".attn.masked_bias", ropeFactors} {
		if strings.HasSuffix(name, suffix) {
			return true
		}
	}
	return false
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
