package tokenizer

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"math"
)

const fileModel = "tokenizer.model"

// FromSentencePiece returns the files of a Hugging Face tokenizer, the model itself and the tokenizer.json and
// tokenizer_config.json that encode as it does (sentencepiece_model.proto). Read are models of type BPE and CHAR without a normalization of
// characters: UNIGRAM and WORD, and the rules nmt_nfkc and nfkc, are refused by name.
//
// Where the model has user-defined symbols, a text that begins with one gets no dummy space. Errors name the piece or the byte.
func FromSentencePiece(model []byte) (map[string][]byte, error) {
	p, err := readModel(model)
	if err != nil {
		return nil, err
	}
	files, err := p.files()
	if err == nil {
		files[fileModel] = model
	}
	return files, err
}

// spModel is a ModelProto as far as it is read. The values that a file leaves out are those of the format.
type spModel struct {
	list []piece

	modelType        uint64 // 1 UNIGRAM, 2 BPE, 3 WORD, 4 CHAR
	byteFallback     bool
	suffix           bool // treat_whitespace_as_suffix
	bos, eos, pad    int32
	normalizer       string // its name
	charsmap         bool
	dummyPrefix      bool
	trim             bool
	escape           bool
	denormalizes     bool
	bosText, eosText string
	padText          string
}

// readModel reads a SentencePiece model.
func readModel(b []byte) (*pieces, error) {
	if line, _, ok := bytes.Cut(b, []byte("\n")); ok {
		if tok, rank, ok := bytes.Cut(line, []byte(" ")); ok && string(rank) == "0" {
			if _, err := base64.StdEncoding.DecodeString(string(tok)); err == nil {
				return nil, fmt.Errorf("%s: this is a tiktoken vocabulary, not a SentencePiece model (add the model's %s)", fileModel, fileJSON)
			}
		}
	}
	m := &spModel{modelType: 1, bos: 1, eos: 2, pad: -1, dummyPrefix: true, trim: true, escape: true,
		bosText: "<s>", eosText: "</s>", padText: "<pad>"}
	if err := m.read(b); err != nil {
		return nil, fmt.Errorf("%s: %w", fileModel, err)
	}
	return m.pieces()
}

// pieces checks what the model asks for.
func (m *spModel) pieces() (*pieces, error) {
	bad := func(format string, args ...any) (*pieces, error) {
		return nil, fmt.Errorf(fileModel+": "+format, args...)
	}
	switch m.modelType {
	case 2, 4:
	case 1:
		return bad("the model is of type UNIGRAM, which is not supported (BPE is)")
	case 3:
		return bad("the model is of type WORD, which is not supported (BPE is)")
	default:
		return bad("the model is of the unknown type %d", m.modelType)
	}
	switch {
	case m.charsmap:
		return bad("the normalization rule %.40q changes characters, which is not supported (identity is)", m.normalizer)
	case m.denormalizes:
		return bad("a denormalizer that changes characters is not supported")
	case m.suffix:
		return bad("treat_whitespace_as_suffix is not supported")
	case !m.escape:
		return bad("escape_whitespaces false is not supported")
	}
	p := &pieces{file: fileModel, list: m.list, trim: m.trim, bytes: m.byteFallback, chars: m.modelType == 4}
	if m.dummyPrefix {
		p.dummy = dummyAlways
		for _, t := range m.list {
			if t.kind == pieceUser {
				p.dummy = dummyFirst // a symbol in the middle of a text has no space after it
			}
		}
	}
	if has, err := p.hasBytes(); err != nil || has != p.bytes {
		if err == nil {
			err = fmt.Errorf("%s: byte_fallback is %t, but byte pieces are there: %t", fileModel, p.bytes, has)
		}
		return nil, err
	}
	role := func(id int32, text string) string {
		if id < 0 || p.name(int64(id)) != text {
			return ""
		}
		return text
	}
	p.roles = roles{bos: role(m.bos, m.bosText), eos: role(m.eos, m.eosText), pad: role(m.pad, m.padText)}
	p.roles.addBOS = p.roles.bos != ""
	return p, nil
}

// read reads the fields of a ModelProto.
func (m *spModel) read(b []byte) error {
	return fields(b, 0, func(f field) error {
		switch f.number {
		case 1: // pieces
			t := piece{kind: pieceNormal}
			err := fields(f.data, f.at, func(f field) error {
				switch f.number {
				case 1:
					t.text = string(f.data)
				case 2:
					t.score = math.Float32frombits(uint32(f.value))
				case 3:
					t.kind = int(min(f.value, 99))
				}
				return f.want(map[int]int{1: 2, 2: 5, 3: 0}[f.number])
			})
			if len(m.list) >= maxID {
				return fmt.Errorf("more than %d pieces", maxID)
			}
			m.list = append(m.list, t)
			return err
		case 2:
			return fields(f.data, f.at, m.trainer)
		case 3:
			return fields(f.data, f.at, m.normal)
		case 5:
			return fields(f.data, f.at, func(f field) error {
				m.denormalizes = m.denormalizes || f.number == 2 && len(f.data) > 0
				return nil
			})
		}
		return nil
	})
}

// trainer reads a field of a TrainerSpec.
func (m *spModel) trainer(f field) error {
	wire := 0
	switch f.number {
	case 3:
		m.modelType = f.value
	case 24:
		m.suffix = f.value != 0
	case 35:
		m.byteFallback = f.value != 0
	case 41:
		m.bos = int32(f.value)
	case 42:
		m.eos = int32(f.value)
	case 43:
		m.pad = int32(f.value)
	case 46:
		m.bosText, wire = string(f.data), 2
	case 47:
		m.eosText, wire = string(f.data), 2
	case 48:
		m.padText, wire = string(f.data), 2
	default:
		return nil
	}
	return f.want(wire)
}

// normal reads a field of a NormalizerSpec.
func (m *spModel) normal(f field) error {
	wire := 0
	switch f.number {
	case 1:
		m.normalizer, wire = string(f.data), 2
	case 2:
		m.charsmap, wire = len(f.data) > 0, 2
	case 3:
		m.dummyPrefix = f.value != 0
	case 4:
		m.trim = f.value != 0
	case 5:
		m.escape = f.value != 0
	default:
		return nil
	}
	return f.want(wire)
}

// field is one field of a protocol buffers message (encoding version 2 and 3).
type field struct {
	number int
	wire   int    // 0 varint, 1 64 bits, 2 bytes, 5 32 bits
	value  uint64 // wire types 0, 1 and 5
	data   []byte // wire type 2; part of the file
	at     int    // offset of what follows the tag, in the file
}

// want fails if a field has another wire type.
func (f field) want(wire int) error {
	if f.wire != wire {
		return fmt.Errorf("field %d at byte %d has wire type %d, not %d: the file is broken", f.number, f.at, f.wire, wire)
	}
	return nil
}

// fields calls each for the fields of a message, which begins at offset base of the file. Nothing is copied.
func fields(b []byte, base int, each func(f field) error) error {
	for i := 0; i < len(b); {
		broken := func() error { return fmt.Errorf("malformed protocol buffer at byte %d", base+i) }
		tag, n := binary.Uvarint(b[i:])
		if n <= 0 || tag>>3 == 0 || tag>>3 > 1<<29-1 {
			return broken()
		}
		i += n
		f := field{number: int(tag >> 3), wire: int(tag & 7), at: base + i}
		switch f.wire {
		case 0:
			f.value, n = binary.Uvarint(b[i:])
			if n <= 0 {
				return broken()
			}
			i += n
		case 1:
			if len(b)-i < 8 {
				return broken()
			}
			f.value = binary.LittleEndian.Uint64(b[i:])
			i += 8
		case 5:
			if len(b)-i < 4 {
				return broken()
			}
			f.value = uint64(binary.LittleEndian.Uint32(b[i:]))
			i += 4
		case 2:
			size, n := binary.Uvarint(b[i:])
			if n <= 0 || size > uint64(len(b)-i-n) {
				return broken()
			}
			i += n
			f.at = base + i
			f.data = b[i : i+int(size)]
			i += int(size)
		default:
			return broken()
		}
		if err := each(f); err != nil {
			return err
		}
	}
	return nil
}
