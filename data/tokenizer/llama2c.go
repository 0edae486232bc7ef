package tokenizer

import (
	"encoding/binary"
	"fmt"
	"math"
	"strings"
)

// FromLlama2C returns the files of a Hugging Face tokenizer that encodes as llama2.c does with its tokenizer.bin: a
// SentencePiece vocabulary of vocab pieces, of which the first three are unknown, BOS and EOS. The file holds a 32-bit length
// and then, for each piece, its score (float32), length (32 bits) and bytes. Errors name the piece.
func FromLlama2C(tok []byte, vocab int) (map[string][]byte, error) {
	const file = "tokenizer.bin"
	p := &pieces{file: file, dummy: dummyAlways}
	if len(tok) < 4 {
		return nil, fmt.Errorf("%s: %d bytes are no tokenizer of llama2.c", file, len(tok))
	}
	if vocab < 3 || vocab > maxID {
		return nil, fmt.Errorf("%s: a vocabulary of %d (3 to %d are read)", file, vocab, maxID)
	}
	for i := 4; i < len(tok); {
		if len(p.list) == vocab {
			return nil, fmt.Errorf("%s: more than the model's %d pieces: it belongs to another model", file, vocab)
		}
		if len(tok)-i < 8 {
			return nil, fmt.Errorf("%s: piece %d is cut short at byte %d", file, len(p.list), i)
		}
		score := math.Float32frombits(binary.LittleEndian.Uint32(tok[i:]))
		n := binary.LittleEndian.Uint32(tok[i+4:])
		i += 8
		if uint64(n) > uint64(len(tok)-i) {
			return nil, fmt.Errorf("%s: piece %d of %d bytes is cut short at byte %d", file, len(p.list), n, i)
		}
		t := piece{visible(string(tok[i : i+int(n)])), score, pieceNormal}
		i += int(n)
		switch id := len(p.list); {
		case id == 0:
			t.kind = pieceUnknown
		case id <= 2: // the exporter writes them between line breaks
			t.text, t.kind = strings.Trim(t.text, "\n"), pieceControl
		default:
			if _, ok := byteToken(t.text); ok {
				t.kind = pieceByte
			}
		}
		p.list = append(p.list, t)
	}
	if len(p.list) != vocab {
		return nil, fmt.Errorf("%s: %d pieces, the model has %d: it belongs to another model", file, len(p.list), vocab)
	}
	var err error
	if p.bytes, err = p.hasBytes(); err != nil {
		return nil, err
	}
	p.roles = roles{bos: p.name(1), eos: p.name(2), addBOS: true}
	return p.files()
}
