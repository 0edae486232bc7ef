package tokenizer

import (
	"bytes"
	"encoding/binary"
	"slices"
	"strings"
	"testing"
)

// FuzzFromJSON: no input makes the reader panic, and what it accepts can encode.
func FuzzFromJSON(f *testing.F) {
	for _, name := range smallNames {
		_, b := readSmall(f, name)
		f.Add(b)
	}
	f.Add([]byte(`{"model":{"type":"BPE","vocab":{"<unk>":0,"▁":1,"a":2,"▁a":65000},"merges":["▁ a"],"unk_token":"<unk>"},"normalizer":{"type":"Replace","pattern":{"String":" "},"content":"▁"},"added_tokens":[{"id":9,"content":"a\ud800","lstrip":true}]}`))
	f.Add([]byte(`{"model":{"vocab":{"a" :1 , "b":2},"merges":[ [ "a" , "b" ] ]}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		tok, err := FromJSON(b)
		if err != nil {
			return
		}
		for _, s := range []string{"Hello, world 123\n", " \xff▁<s><|im|> a", string(b[:min(len(b), 200)])} {
			ids, lens := tok.EncodeLens([]byte(s))
			sum := 0
			for i, id := range ids {
				if int(id) >= tok.VocabSize() || lens[i] < 0 {
					t.Fatalf("id %d of %d covers %d bytes", id, tok.VocabSize(), lens[i])
				}
				sum += int(lens[i])
			}
			if sum != len(s) {
				t.Fatalf("%q: %d bytes covered", s, sum)
			}
			tok.Decode(tok.EncodeSpecial([]byte(s)))
		}
		again, err := FromJSON(bytes.Clone(b))
		if err != nil || again.Fingerprint() != tok.Fingerprint() {
			t.Fatalf("loaded a second time: %v", err)
		}
	})
}

// usable checks that a tokenizer which was accepted encodes.
func usable(t *testing.T, tok *Tokenizer, texts ...string) {
	t.Helper()
	for _, s := range append(texts, "Hello, world 123\n", " \xff▁<s><|im|>  a ") {
		ids, lens := tok.EncodeLens([]byte(s))
		sum := 0
		for i, id := range ids {
			if int(id) >= tok.VocabSize() || id < 0 || lens[i] < 0 {
				t.Fatalf("id %d of %d covers %d bytes", id, tok.VocabSize(), lens[i])
			}
			sum += int(lens[i])
		}
		if sum != len(s) && len(ids) > 0 {
			t.Fatalf("%q: %d bytes covered", s, sum)
		}
		tok.Decode(tok.EncodeSpecial([]byte(s)))
	}
}

// reread checks that what GGUF writes of a tokenizer is read as the same vocabulary.
func reread(t *testing.T, tok *Tokenizer) {
	t.Helper()
	if _, _, err := tok.GGUF(); err != nil {
		return
	}
	files, err := FromGGUF(ggufValues(t, tok))
	if err != nil {
		return // a token that the header cannot hold, such as one without text
	}
	back, err := fromFiles(files)
	if err != nil {
		return
	}
	for _, s := range []string{"Hello, world 123\n", "ab a  b", "the best"} {
		if a, b := tok.Encode([]byte(s)), back.Encode([]byte(s)); tok.kind == sentencePiece && !slices.Equal(a, b) {
			t.Fatalf("%q: %d, after GGUF %d", s, a, b)
		}
	}
}

// FuzzSentencePiece: no model makes the reader panic, and what it accepts can encode.
func FuzzSentencePiece(f *testing.F) {
	m := readModels(f)
	for _, c := range m.Cases {
		f.Add(c.Model)
	}
	for _, c := range m.Refused {
		f.Add(c.Model)
	}
	f.Add([]byte{0x12, 2, 0x18, 4, 0x0A, 5, 0x0A, 1, 'a', 0x18, 2})
	f.Fuzz(func(t *testing.T, b []byte) {
		files, err := FromSentencePiece(b)
		if err != nil {
			return
		}
		tok, err := fromFiles(files)
		if err != nil {
			return
		}
		usable(t, tok, string(b[:min(len(b), 200)]))
		reread(t, tok)
	})
}

// FuzzFromGGUF: no header makes the reader panic, and what it accepts can encode.
func FuzzFromGGUF(f *testing.F) {
	join := func(v any) string { s, _ := v.([]string); return strings.Join(s, "\n") }
	add := func(tok *Tokenizer) {
		v := ggufValues(f, tok)
		types, scores := []byte{}, []byte{}
		for _, n := range v["tokenizer.ggml.token_type"].([]int64) {
			types = append(types, byte(n))
		}
		if s, ok := v["tokenizer.ggml.scores"].([]float64); ok {
			for _, x := range s {
				scores = binary.LittleEndian.AppendUint16(scores, uint16(int(x)))
			}
		}
		pre, _ := v["tokenizer.ggml.pre"].(string)
		f.Add(v["tokenizer.ggml.model"].(string), pre, join(v["tokenizer.ggml.tokens"]), join(v["tokenizer.ggml.merges"]), types, scores, int64(1), byte(3))
	}
	for _, name := range []string{"gpt2", "llama3", "qwen"} {
		tok, _ := readSmall(f, name)
		add(tok)
	}
	add(digitsTokenizer(f))
	for _, c := range readModels(f).Cases[:6] {
		add(fromModel(f, c.Model))
	}
	// The BOS is a token that text becomes.
	f.Add("llama", "", "<u>\na\nb\nab", "", []byte{2, 1, 1, 1}, []byte{0, 0, 0, 0, 0, 0, 0, 1}, int64(3), byte(3))
	f.Fuzz(func(t *testing.T, model, pre, tokens, merges string, types, scores []byte, bos int64, flags byte) {
		v := map[string]any{"tokenizer.ggml.model": model, "tokenizer.ggml.pre": pre, "tokenizer.ggml.tokens": strings.Split(tokens, "\n"),
			"tokenizer.ggml.bos_token_id": bos, "tokenizer.ggml.add_bos_token": flags&1 != 0, "tokenizer.ggml.add_space_prefix": flags&2 != 0,
			"tokenizer.ggml.remove_extra_whitespaces": flags&4 != 0, "tokenizer.chat_template": merges}
		if merges != "" {
			v["tokenizer.ggml.merges"] = strings.Split(merges, "\n")
		}
		if flags&8 == 0 {
			list := make([]int64, len(types))
			for i, n := range types {
				list[i] = int64(n)
			}
			v["tokenizer.ggml.token_type"] = list
		}
		if len(scores) > 1 {
			list := make([]float64, len(scores)/2)
			for i := range list {
				list[i] = float64(int16(binary.LittleEndian.Uint16(scores[2*i:])))
			}
			v["tokenizer.ggml.scores"] = list
		}
		files, err := FromGGUF(v)
		if err != nil {
			return
		}
		tok, err := fromFiles(files)
		if err != nil {
			return
		}
		usable(t, tok, tokens[:min(len(tokens), 200)])
		reread(t, tok)
	})
}

// FuzzRoundTrip: what is encoded decodes to the same bytes, with every small tokenizer, and a stream gives the same text.
func FuzzRoundTrip(f *testing.F) {
	g := readGolden(f)
	for _, s := range append(slices.Clone(nasty), g.Strings...) {
		f.Add([]byte(s))
	}
	var toks []*Tokenizer
	for _, name := range smallNames {
		tok, _ := readSmall(f, name)
		toks = append(toks, tok)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, tok := range toks {
			if tok.nfc && plainAdded(string(b)) {
				continue
			}
			checkRoundTrip(t, tok, string(b))
			if tok.kind == byteLevel && !tok.nfc {
				st := tok.NewStream()
				var out []byte
				for _, id := range tok.Encode(b) {
					out = append(out, st.Push(id)...)
				}
				out = append(out, st.Flush()...)
				if want := string([]rune(string(b))); string(out) != want {
					t.Fatalf("%q streamed as %q", want, out)
				}
			}
		}
	})
}
