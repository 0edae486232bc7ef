package checkpoints

import (
	"fmt"
	"math/big"
	"slices"
	"strconv"
	"strings"

	"github.com/nlpodyssey/gopickle/types"
)

// A torchWalk names the tensors of a decoded pickle by their paths. A pickle is a graph: shared values make it far larger to
// walk than to store, and it may hold itself, so steps, depth and bytes are counted.
type torchWalk struct {
	w     *Weights
	m     *mapping
	path  []byte
	steps int
	bytes int
	found map[string]*torchTensor
}

func newTorchWalk(w *Weights, m *mapping) *torchWalk {
	return &torchWalk{w: w, m: m, found: map[string]*torchTensor{}}
}

// run fills w from the root of a pickle.
func (k *torchWalk) run(root any) error {
	switch v := root.(type) {
	case *torchTensor:
		k.path = []byte("tensor") // a bare tensor has no name
	case *opaque:
		return formatf("holds a %s, not weights (save model.state_dict() instead)", clip(v.class))
	}
	if err := k.visit(root, 0, false); err != nil {
		return err
	}
	if len(k.found) == 0 {
		return formatf("holds no tensors (save model.state_dict())")
	}
	prefix := k.prefix(root)
	tied := map[string][]string{}
	for path, t := range k.found {
		name := strings.TrimPrefix(path, prefix)
		k.w.tensors[name] = t.tensor(name, k.m)
		if t.s != nil && k.w.tensors[name].Len() > 0 {
			size := t.dtype.Size()
			if size == 0 {
				size = t.s.typ.width
			}
			region := fmt.Sprint(t.s.at+t.offset*size, t.name, t.shape, t.strides)
			tied[region] = append(tied[region], name)
		}
	}
	for _, names := range tied {
		if len(names) > 1 {
			slices.Sort(names)
			k.w.tied = append(k.w.tied, names)
		}
	}
	slices.SortFunc(k.w.tied, slices.Compare)
	return nil
}

// prefix returns "KEY." when the root keeps the model's weights under one of the usual keys, else "".
func (k *torchWalk) prefix(root any) string {
	prefix := ""
	for _, key := range []string{"state_dict", "model", "module", "model_state_dict"} {
		if !isDict(child(root, key)) {
			continue
		}
		for path := range k.found {
			if !strings.HasPrefix(path, key+".") {
				continue
			}
			if prefix != "" {
				return "" // two of them: which one is meant?
			}
			prefix = key + "."
			break
		}
	}
	for path := range k.found { // a name must not come to mean two tensors
		if _, taken := k.found[strings.TrimPrefix(path, prefix)]; taken && strings.HasPrefix(path, prefix) && prefix != "" {
			return ""
		}
	}
	return prefix
}

// child returns the value of a key, nil when there is none.
func child(dict any, key string) (value any) {
	entries(dict, func(k, v any) error {
		if k == any(key) {
			value = v
		}
		return nil
	})
	return value
}

func isDict(v any) bool {
	switch v.(type) {
	case *types.Dict, *types.OrderedDict:
		return true
	}
	return false
}

// entries calls f for each entry of a dictionary, in order.
func entries(dict any, f func(key, value any) error) error {
	switch d := dict.(type) {
	case *types.Dict:
		for _, e := range *d {
			if err := f(e.Key, e.Value); err != nil {
				return err
			}
		}
	case *types.OrderedDict:
		for e := d.List.Front(); e != nil; e = e.Next() {
			entry := e.Value.(*types.OrderedDictEntry)
			if err := f(entry.Key, entry.Value); err != nil {
				return err
			}
		}
	}
	return nil
}

// visit takes the value at k.path. Within a list, numbers and strings are passed over: there are many, and nameless.
func (k *torchWalk) visit(v any, depth int, inList bool) error {
	if k.steps++; k.steps > maxWalk {
		return formatf("the pickle holds more than %d values", maxWalk)
	}
	if depth > maxNest {
		return formatf("the pickle: %q is nested more than %d deep", clip(string(k.path)), maxNest)
	}
	switch v := v.(type) {
	case nil:
		return nil
	case *torchTensor:
		return k.add(v)
	case *types.Dict, *types.OrderedDict:
		return entries(v, func(key, value any) error {
			return k.into(keyText(key), value, depth, false)
		})
	case *types.List:
		return k.list(*v, depth)
	case *types.Tuple:
		return k.list(*v, depth)
	}
	s, ok := scalar(v)
	switch {
	case !ok:
		k.bytes += len(k.path)
		k.w.opaque = append(k.w.opaque, string(k.path))
	case !inList:
		k.bytes += len(k.path)
		k.w.meta[string(k.path)] = s
	}
	return k.checkBytes()
}

func (k *torchWalk) list(values []any, depth int) error {
	for i, v := range values {
		if err := k.into(strconv.Itoa(i), v, depth, true); err != nil {
			return err
		}
	}
	return nil
}

// into visits a value one level down.
func (k *torchWalk) into(key string, v any, depth int, inList bool) error {
	n := len(k.path)
	if n > 0 {
		k.path = append(k.path, '.')
	}
	k.path = append(k.path, key...)
	if len(k.path) > maxName {
		return formatf("the pickle: a name of %d bytes exceeds the limit of %d", len(k.path), maxName)
	}
	err := k.visit(v, depth+1, inList)
	k.path = k.path[:n]
	return err
}

func (k *torchWalk) add(t *torchTensor) error {
	name := string(k.path)
	if _, ok := k.found[name]; ok {
		return formatf("two tensors are named %q", clip(name))
	}
	k.found[name] = t
	k.bytes += len(name) + 8*len(t.shape) + 256
	return k.checkBytes()
}

func (k *torchWalk) checkBytes() error {
	if k.bytes > maxNames {
		return formatf("the pickle: all names together, at 256 bytes more for a tensor, exceed the limit of %d bytes", maxNames)
	}
	return nil
}

// keyText returns a dictionary key as part of a path.
func keyText(key any) string {
	if s, ok := scalar(key); ok {
		return s
	}
	return fmt.Sprintf("<%T>", key)
}

// scalar returns a plain Python value as text.
func scalar(v any) (string, bool) {
	switch v := v.(type) {
	case string:
		return v, true
	case bool:
		return strconv.FormatBool(v), true
	case int:
		return strconv.Itoa(v), true
	case float64:
		return strconv.FormatFloat(v, 'g', -1, 64), true
	case *big.Int:
		return v.String(), true
	case *torchType:
		return v.name, true
	}
	return "", false
}
