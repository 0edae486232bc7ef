package sllm

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"svae/checkpoints"
)

// Limits on a YAML file and what it includes.
const (
	maxYAML      = 1 << 20 // bytes of one file
	maxYAMLFiles = 64      // files read in all
	maxYAMLNest  = 32      // includes or values within one another
	maxYAMLNodes = 1 << 16 // values in all, those behind an alias counted each time
)

// ReadYAML reads a configuration of the SentenceVAE reference code. The value of the key __base__, usually
// "!include FILE", is merged under the mapping that holds it, mapping by mapping: what the including file says counts.
// A file is included by a relative path that ends in .yaml or .yml, from the folder of the file that includes it, or else
// from that of path.
//
// Values are string, bool, int, float64, nil, []any and map[string]any. The error names the file and the line.
func ReadYAML(path string) (map[string]any, error) {
	y := &yamlReader{top: filepath.Dir(path)}
	v, err := y.file(path)
	if err != nil {
		return nil, err
	}
	m, ok := v.(map[string]any)
	if !ok {
		return nil, fmt.Errorf("%s: want a mapping of keys to values", path)
	}
	return m, nil
}

// A yamlReader reads one file and all that it includes.
type yamlReader struct {
	top   string
	open  []string // files being read, each included by the one before
	files int
	nodes int
}

func (y *yamlReader) file(path string) (any, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	switch {
	case slices.Contains(y.open, abs):
		return nil, fmt.Errorf("%s: includes itself", path)
	case len(y.open) == maxYAMLNest:
		return nil, fmt.Errorf("%s: included through more than %d files", path, maxYAMLNest)
	}
	if y.files++; y.files > maxYAMLFiles {
		return nil, fmt.Errorf("%s: more than %d files are included", path, maxYAMLFiles)
	}
	data, err := checkpoints.ReadSmall(path, maxYAML)
	if err != nil {
		return nil, err
	}
	y.open = append(y.open, abs)
	defer func() { y.open = y.open[:len(y.open)-1] }()
	return y.parse(path, data)
}

// parse reads the one document of a file.
func (y *yamlReader) parse(path string, data []byte) (any, error) {
	var doc yaml.Node
	d := yaml.NewDecoder(bytes.NewReader(data))
	if err := d.Decode(&doc); err == io.EOF {
		return map[string]any{}, nil
	} else if err != nil {
		return nil, fmt.Errorf("%s: %s", path, oneLine(err))
	}
	if err := d.Decode(new(yaml.Node)); err != io.EOF {
		return nil, fmt.Errorf("%s: more than one YAML document", path)
	}
	return y.value(path, &doc, 0)
}

// oneLine returns the text of an error on one line.
func oneLine(err error) string { return strings.Join(strings.Fields(err.Error()), " ") }

// value converts a node.
func (y *yamlReader) value(path string, n *yaml.Node, depth int) (any, error) {
	fail := func(format string, args ...any) error {
		return fmt.Errorf("%s:%d: "+format, append([]any{path, n.Line}, args...)...)
	}
	if y.nodes++; y.nodes > maxYAMLNodes {
		return nil, fail("more than %d values", maxYAMLNodes)
	}
	if depth > maxYAMLNest {
		return nil, fail("nested more than %d deep", maxYAMLNest)
	}
	switch n.Kind {
	case yaml.DocumentNode:
		return y.value(path, n.Content[0], depth)
	case yaml.AliasNode:
		return y.value(path, n.Alias, depth+1)
	case yaml.MappingNode:
		return y.mapping(path, n, depth)
	case yaml.SequenceNode:
		list := []any{}
		for _, c := range n.Content {
			v, err := y.value(path, c, depth+1)
			if err != nil {
				return nil, err
			}
			list = append(list, v)
		}
		return list, nil
	}
	var v any
	switch tag := n.ShortTag(); tag {
	case "!include":
		return y.include(path, n)
	case "!!timestamp", "!!str":
		return n.Value, nil
	case "!!null", "!!bool", "!!int", "!!float":
		if err := n.Decode(&v); err != nil {
			return nil, fail("%s", oneLine(err))
		}
		switch v.(type) {
		case nil, bool, int, float64:
			return v, nil
		}
		return nil, fail("the number %q is out of range", n.Value)
	default:
		return nil, fail("the tag %q is not known", tag)
	}
}

func (y *yamlReader) mapping(path string, n *yaml.Node, depth int) (any, error) {
	m := map[string]any{}
	base := map[string]any{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		k := n.Content[i]
		if _, twice := m[k.Value]; k.Kind != yaml.ScalarNode || k.ShortTag() != "!!str" || twice {
			return nil, fmt.Errorf("%s:%d: the key %q is no text, or comes twice", path, k.Line, k.Value)
		}
		v, err := y.value(path, n.Content[i+1], depth+1)
		if err != nil {
			return nil, err
		}
		m[k.Value] = v
	}
	if v, ok := m["__base__"]; ok {
		if base, ok = v.(map[string]any); !ok {
			return nil, fmt.Errorf("%s:%d: __base__ is no mapping (want __base__: !include FILE.yaml)", path, n.Line)
		}
		delete(m, "__base__")
	}
	return merged(base, m), nil
}

// merged lays over on base: mappings are merged, anything else is replaced.
func merged(base, over map[string]any) map[string]any {
	m := map[string]any{}
	for k, v := range base {
		m[k] = v
	}
	for k, v := range over {
		a, okA := m[k].(map[string]any)
		b, okB := v.(map[string]any)
		if okA && okB {
			v = merged(a, b)
		}
		m[k] = v
	}
	return m
}

func (y *yamlReader) include(path string, n *yaml.Node) (any, error) {
	name := filepath.FromSlash(n.Value)
	if ext := filepath.Ext(name); ext != ".yaml" && ext != ".yml" || filepath.IsAbs(name) || filepath.VolumeName(name) != "" {
		return nil, fmt.Errorf("%s:%d: cannot include %q (want the relative path of a .yaml file)", path, n.Line, n.Value)
	}
	var err error
	for _, dir := range []string{filepath.Dir(path), y.top} {
		file := filepath.Join(dir, name)
		if _, err = os.Stat(file); err == nil {
			return y.file(file)
		} else if !errors.Is(err, os.ErrNotExist) {
			break
		}
	}
	return nil, fmt.Errorf("%s:%d: include %q: %w", path, n.Line, n.Value, err)
}
