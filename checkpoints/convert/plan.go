package convert

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"svae/checkpoints"
	"svae/sllm"
)

// Format is a format to write.
type Format string

// The formats.
const (
	Folder    Format = "folder"    // a model folder: config.json, safetensors, tokenizer; Hugging Face's for a token-level model
	Torch     Format = "pytorch"   // the same with pytorch_model.bin
	GGUF      Format = "gguf"      // one file, of a token-level model
	Reference Format = "reference" // a .pth file of the SentenceVAE reference code
)

// Formats lists the formats.
var Formats = []string{string(Folder), string(Torch), string(GGUF), string(Reference)}

// FormatOf returns the format that a destination's name asks for: .gguf and .pth are files, everything else is a folder.
func FormatOf(dst string) Format {
	switch strings.ToLower(filepath.Ext(dst)) {
	case ".gguf":
		return GGUF
	case ".pth":
		return Reference
	}
	return Folder
}

// Target says what to write.
type Target struct {
	Path   string
	Format Format
	// DType converts the weights: f32, f16, bf16, or q8_0 in a GGUF file. "" keeps each tensor's type; then block types of
	// GGUF become float32 outside of GGUF.
	DType      string
	ShardBytes int64 // most bytes of one file of a folder; 0 is 5 GB, as Hugging Face's
	Force      bool  // replace a model folder or file of the same name
	NonFinite  bool  // write weights that are NaN or infinite
}

// Move says where one tensor of the output comes from.
type Move struct {
	From     []string `json:"from"`      // tensors of the source
	FromType string   `json:"from_type"` // of the first
	Name     string   `json:"name"`
	Type     string   `json:"type"`
	Shape    []int    `json:"shape"`
	Bytes    int64    `json:"bytes"`
}

// Plan is what would be written.
type Plan struct {
	Source *Source
	Target Target
	Moves  []Move
	Files  map[string][]byte // small files beside the weights
	Bytes  int64             // of the weights
	Memory int64             // that writing may hold at once, beside the mapped files' pages, roughly

	tensors []checkpoints.Named
	layout  map[string]sllm.Stored       // by name
	dtypes  map[string]checkpoints.DType // of each tensor written
	header  []checkpoints.KV
}

// Plan says what writing the source to a target means. Nothing is read but headers, and nothing is written.
func (s *Source) Plan(t Target) (*Plan, error) {
	if t.ShardBytes <= 0 {
		t.ShardBytes = 5_000_000_000
	}
	p := &Plan{Source: s, Target: t, Files: map[string][]byte{}, dtypes: map[string]checkpoints.DType{}, Memory: 64 << 20}
	if err := p.arrange(); err != nil {
		return nil, err
	}
	for i, n := range p.tensors {
		d, err := p.dtype(n)
		if err != nil {
			return nil, err
		}
		p.move(n, d)
		p.dtypes[n.Name] = d
		p.tensors[i] = n.As(d)
	}
	if t.Format == Folder || t.Format == Torch {
		return p, p.folder()
	}
	return p, nil
}

// arrange lays out the tensors of the target format.
func (p *Plan) arrange() (err error) {
	f := p.Source.Folder
	var layout []sllm.Stored
	switch p.Target.Format {
	case Reference:
		p.tensors, err = sllm.WriteReference(f, p.Source.Tensors)
		return err
	case GGUF:
		var extra []*checkpoints.Tensor
		if p.header, extra, err = f.GGUF(p.Source.Tokenizer, fileType(p.Target.DType, p.Source.Tensors)); err != nil {
			return err
		}
		layout = sllm.GGUFLayout(f.Arch(), f.Weights())
		for _, t := range extra {
			p.tensors = append(p.tensors, checkpoints.FromTensor(t))
		}
	case Folder, Torch:
		layout = f.Layout()
	default:
		return fmt.Errorf("no format %q (known: %s)", p.Target.Format, strings.Join(Formats, ", "))
	}
	p.layout = map[string]sllm.Stored{}
	for _, st := range layout {
		p.layout[st.Name] = st
	}
	p.tensors = append(p.tensors, sllm.Arrange(layout, p.Source.Tensors)...)
	return nil
}

// dtype returns the type that a tensor is written in.
func (p *Plan) dtype(n checkpoints.Named) (checkpoints.DType, error) {
	vector := len(n.Shape) < 2
	elements, _ := n.DType.Block()
	gguf := p.Target.Format == GGUF
	if p.Target.Format == Reference {
		return checkpoints.F32, nil
	}
	switch p.Target.DType {
	case "":
		switch {
		case elements > 1 && !gguf, gguf && vector, gguf && n.DType == checkpoints.F64: // which llama.cpp computes nothing with
			return checkpoints.F32, nil
		}
		return n.DType, nil
	case "f32":
		return checkpoints.F32, nil
	case "f16", "bf16":
		if gguf && vector { // llama.cpp wants norms and biases whole
			return checkpoints.F32, nil
		}
		if p.Target.DType == "f16" {
			return checkpoints.F16, nil
		}
		return checkpoints.BF16, nil
	case "q8_0":
		switch {
		case !gguf:
			return 0, fmt.Errorf("q8_0 is a type of GGUF files alone (name the destination .gguf)")
		case vector:
			return checkpoints.F32, nil
		case n.Shape[len(n.Shape)-1]%32 != 0:
			return checkpoints.F16, nil
		}
		return checkpoints.Q8_0, nil
	}
	return 0, errDType(p.Target.DType)
}

func errDType(dtype string) error {
	return fmt.Errorf("no type %q (known: f32, f16, bf16, and q8_0 for GGUF)", dtype)
}

// ParseDType returns the name that [Target] knows for a type, under whatever usual name, in small or large letters.
func ParseDType(name string) (string, error) {
	switch d := strings.ToLower(name); d {
	case "", "f32", "f16", "bf16", "q8_0":
		return d, nil
	case "float32", "fp32":
		return "f32", nil
	case "float16", "fp16", "half":
		return "f16", nil
	case "bfloat16":
		return "bf16", nil
	}
	return "", errDType(name)
}

// Rounded says that tensors change their type to one that holds less.
func (p *Plan) Rounded() bool {
	for _, m := range p.Moves {
		if m.Type != m.FromType && m.Type != "F32" {
			return true
		}
	}
	return false
}

// fileType is GGUF's general.file_type: the type of most weights.
func fileType(dtype string, ts map[string]*checkpoints.Tensor) uint32 {
	codes := map[string]uint32{"f32": 0, "f16": 1, "q8_0": 7, "bf16": 32,
		"q4_0": 2, "q4_1": 3, "q5_0": 8, "q5_1": 9, "q4_k": 15, "q5_k": 17, "q6_k": 18}
	if dtype == "" {
		n := map[string]int{}
		for _, t := range ts {
			if len(t.Shape) > 1 {
				n[strings.ToLower(t.DType.String())] += t.Len()
			}
		}
		for d := range n {
			if dtype == "" || n[d] > n[dtype] || n[d] == n[dtype] && d < dtype {
				dtype = d
			}
		}
	}
	return codes[dtype]
}

// move records what becomes of a tensor.
func (p *Plan) move(n checkpoints.Named, to checkpoints.DType) {
	m := Move{Name: n.Name, Shape: n.Shape, Type: to.String()}
	elements, size := to.Block()
	m.Bytes = int64(size)
	for _, d := range n.Shape {
		m.Bytes *= int64(d)
	}
	m.Bytes /= int64(elements)
	parts := []string{n.Name}
	if st, ok := p.layout[n.Name]; ok {
		parts = st.Parts
		if st.Transposed || len(st.Parts) > 1 { // assembled in memory
			p.Memory = max(p.Memory, 64<<20+4*m.Bytes)
		}
	}
	for _, w := range parts {
		t, ok := p.Source.Tensors[w]
		if !ok {
			continue
		}
		if m.FromType == "" {
			m.FromType = t.DType.String()
		}
		if len(m.From) == 0 || m.From[len(m.From)-1] != t.Name {
			m.From = append(m.From, t.Name)
		}
	}
	if m.FromType == "" {
		m.FromType = n.DType.String()
	}
	p.Moves = append(p.Moves, m)
	p.Bytes += m.Bytes
}

// folder gathers the small files of a model folder.
func (p *Plan) folder() error {
	f := p.Source.Folder
	for name, b := range f.Files {
		p.Files[name] = b
	}
	config, err := withDType(f.Raw, p.mainType())
	p.Files["config.json"] = config
	return err
}

// mainType is the type of most bytes that are written, under PyTorch's name.
func (p *Plan) mainType() string {
	n := map[string]int64{}
	best := ""
	for _, m := range p.Moves {
		if n[m.Type] += m.Bytes; best == "" || n[m.Type] > n[best] {
			best = m.Type
		}
	}
	return map[string]string{"F32": "float32", "F16": "float16", "BF16": "bfloat16"}[best]
}

// withDType returns a config.json that states the type of the weights. A text that does already stays as it is.
func withDType(raw []byte, dtype string) ([]byte, error) {
	var m map[string]json.RawMessage
	if err := json.Unmarshal(raw, &m); err != nil {
		return nil, fmt.Errorf("config.json: %w", err)
	}
	want, err := json.Marshal(dtype)
	if err != nil {
		return nil, err
	}
	says, right := false, true
	for _, key := range []string{"torch_dtype", "dtype"} { // of transformers 4 and 5
		if v, ok := m[key]; ok {
			says, right = true, right && slices.Equal(v, want)
		}
	}
	if dtype == "" || says && right {
		return raw, nil
	}
	delete(m, "dtype")
	m["torch_dtype"] = want
	b, err := json.MarshalIndent(m, "", "  ")
	return append(b, '\n'), err
}
