package tokenizer

import (
	"bytes"
	"slices"
	"testing"
)

// FuzzFromJSON: no input makes the reader panic, and what it accepts can encode.
func FuzzFromJSON(f *testing.F) {
	for _, name := range smallNames {
		_, b := readSmall(f, name)
		f.Add(b)
	}
	f.Add([]byte(`{"model":{"type":"BPE","vocab":{"<unk>":0,"▁":1,"a":2,"▁a":16777216},"merges":["▁ a"],"unk_token":"<unk>"},"normalizer":{"type":"Replace","pattern":{"String":" "},"content":"▁"},"added_tokens":[{"id":9,"content":"a\ud800","lstrip":true}]}`))
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
