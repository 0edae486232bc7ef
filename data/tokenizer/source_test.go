package tokenizer

import (
	"encoding/binary"
	"encoding/json"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// spModels is testdata/spmodels.json, made by testdata/spmodels.py with the real SentencePiece.
type spModels struct {
	Cases []struct {
		Name  string
		Model []byte
		Texts []string
		IDs   [][]int32
	}
	Refused []struct {
		Why   string
		Model []byte
	}
}

func readModels(t testing.TB) (m spModels) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", "spmodels.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, &m); err != nil {
		t.Fatal(err)
	}
	return m
}

// TestSentencePiece compares with the ids of the real SentencePiece.
func TestSentencePiece(t *testing.T) {
	m := readModels(t)
	if len(m.Cases) < 20 || len(m.Refused) < 14 {
		t.Fatalf("%d cases, %d refused", len(m.Cases), len(m.Refused))
	}
	compared := 0
	for _, c := range m.Cases {
		dir := t.TempDir()
		write(t, dir, fileModel, c.Model)
		tok, err := Load(dir)
		if err != nil {
			t.Errorf("%s: %v", c.Name, err)
			continue
		}
		for i, s := range c.Texts {
			compared++
			ids, lens := tok.EncodeLens([]byte(s))
			if !slices.Equal(ids, c.IDs[i]) {
				t.Errorf("%s: Encode(%q)\n got %d\nwant %d", c.Name, s, ids, c.IDs[i])
			}
			sum := int32(0)
			for _, n := range lens {
				sum += n
			}
			if int(sum) != len(s) && len(ids) > 0 {
				t.Errorf("%s: %q: %d bytes covered of %d", c.Name, s, sum, len(s))
			}
			if back := string(tok.Decode(ids)); !tok.trim && tok.spm.fallback && back != s {
				t.Errorf("%s: Decode(Encode(%q)) = %q", c.Name, s, back)
			} else if want := strings.Join(strings.FieldsFunc(s, func(r rune) bool { return r == ' ' }), " "); tok.trim && tok.spm.fallback && back != want {
				t.Errorf("%s: Decode(Encode(%q)) = %q, want %q", c.Name, s, back, want)
			}
		}
	}
	if compared < 1000 {
		t.Errorf("only %d comparisons", compared)
	}
	for _, r := range m.Refused {
		if _, err := FromSentencePiece(r.Model); err == nil || !strings.Contains(err.Error(), r.Why) || !strings.HasPrefix(err.Error(), "tokenizer.model: ") || strings.Contains(err.Error(), "\n") {
			t.Errorf("want an error with %q, got %v", r.Why, err)
		}
	}
}

func TestBadModel(t *testing.T) {
	good := readModels(t).Cases[0].Model
	for name, c := range map[string]struct {
		model []byte
		want  string
	}{
		"empty":         {nil, "type UNIGRAM"},
		"cut":           {good[:len(good)-1], "malformed protocol buffer at byte"},
		"cut in piece":  {good[:5], "malformed protocol buffer at byte"},
		"long field":    {[]byte{0x0A, 0xFF, 0xFF, 0xFF, 0xFF, 0x7F}, "malformed protocol buffer at byte 1"},
		"long varint":   {slices.Repeat([]byte{0xFF}, 12), "malformed protocol buffer at byte 0"},
		"field 0":       {[]byte{0, 0}, "malformed protocol buffer at byte 0"},
		"group":         {[]byte{0x0B}, "malformed protocol buffer at byte 1"},
		"score as text": {[]byte{0x0A, 2, 0x12, 0}, "wire type 2, not 5"},
		"type as text":  {[]byte{0x12, 2, 0x1A, 0}, "wire type 2, not 0"},
		"tiktoken":      {[]byte("IQ== 0\nIg== 1\n"), "tiktoken vocabulary"},
		"no pieces":     {[]byte{0x12, 2, 0x18, 2}, "vocabulary is empty"},
		"empty piece":   {[]byte{0x12, 2, 0x18, 2, 0x0A, 0}, "piece 0 is empty"},
		"not utf-8":     {[]byte{0x12, 2, 0x18, 2, 0x0A, 3, 0x0A, 1, 0xFF}, "not UTF-8"},
		"no unknown":    {[]byte{0x12, 2, 0x18, 2, 0x0A, 3, 0x0A, 1, 'a'}, "no unknown piece"},
		"unknown type":  {[]byte{0x12, 2, 0x18, 9, 0x0A, 3, 0x0A, 1, 'a'}, "unknown type 9"},
	} {
		if _, err := FromSentencePiece(c.model); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: want an error with %q, got %v", name, c.want, err)
		}
	}
	for i := range good { // every byte changed: an error or a tokenizer, never a panic
		b := slices.Clone(good)
		b[i] ^= 0x55
		if files, err := FromSentencePiece(b); err == nil {
			if _, err := fromFiles(files); err != nil && strings.Contains(err.Error(), "\n") {
				t.Errorf("byte %d: %v", i, err)
			}
		}
		if i > 600 {
			break
		}
	}
}

// TestModelFolder: the files beside a tokenizer.model count, and all are kept.
func TestModelFolder(t *testing.T) {
	model := readModels(t).Cases[0].Model
	dir, n := t.TempDir(), 480
	files := map[string][]byte{
		fileModel:  model,
		fileConfig: []byte(`{"add_bos_token":false,"bos_token":"<s>","eos_token":"</s>","legacy":false,"added_tokens_decoder":{"480":{"content":"<pad>","special":true}}}`),
		fileAdded:  []byte(`{"<tool>":481}`), fileChat: []byte("{{ messages }}"), fileSpecial: []byte(`{"pad_token":"<pad>"}`),
	}
	for name, b := range files {
		write(t, dir, name, b)
	}
	tok, err := Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	if tok.VocabSize() != n+2 || tok.BOS() != 1 || tok.EOS() != 2 || tok.PAD() != 480 || tok.AddBOS() {
		t.Errorf("size %d bos %d eos %d pad %d, add %t", tok.VocabSize(), tok.BOS(), tok.EOS(), tok.PAD(), tok.AddBOS())
	}
	a, b := tok.Encode([]byte("the<tool>the")), tok.Encode([]byte("the"))
	if len(a) != 2*len(b)+1 && len(a) < 3 || !slices.Contains(a, 481) || slices.Equal(a[len(b)+1:], b) { // legacy false: no space after it
		t.Errorf("<tool>: %d, %d", a, b)
	}
	for name, b := range files {
		if string(tok.Files()[name]) != string(b) {
			t.Errorf("%s was not kept", name)
		}
	}
	saved := t.TempDir()
	if err := tok.Save(saved); err != nil {
		t.Fatal(err)
	}
	back, err := Load(saved)
	if err != nil || back.Fingerprint() != tok.Fingerprint() || !maps.EqualFunc(back.Files(), tok.Files(), func(a, b []byte) bool { return string(a) == string(b) }) {
		t.Errorf("saved and loaded: %v", err)
	}
	// Alone, the model says what is BOS.
	alone := t.TempDir()
	write(t, alone, fileModel, model)
	if tok, err = Load(alone); err != nil || tok.BOS() != 1 || tok.EOS() != 2 || !tok.AddBOS() || tok.Files()[fileJSON] == nil || tok.Files()[fileConfig] == nil {
		t.Errorf("alone: bos %d eos %d add %t (%v)", tok.BOS(), tok.EOS(), tok.AddBOS(), err)
	}
}

// llama2cFile writes pieces as llama2.c's exporter does.
func llama2cFile(t testing.TB, model []byte) (b []byte, n int) {
	p, err := readModel(model)
	if err != nil {
		t.Fatal(err)
	}
	b = []byte{27, 0, 0, 0}
	for i, v := range p.list {
		text := strings.ReplaceAll(v.text, blank, " ")
		if i == 1 || i == 2 {
			text = "\n" + text + "\n"
		}
		b = binary.LittleEndian.AppendUint32(b, math.Float32bits(v.score))
		b = binary.LittleEndian.AppendUint32(b, uint32(len(text)))
		b = append(b, text...)
	}
	return b, len(p.list)
}

func TestLlama2C(t *testing.T) {
	c := readModels(t).Cases[0]
	b, n := llama2cFile(t, c.Model)
	files, err := FromLlama2C(b, n)
	if err != nil {
		t.Fatal(err)
	}
	tok, err := fromFiles(files)
	if err != nil {
		t.Fatal(err)
	}
	for i, s := range c.Texts {
		if got := tok.Encode([]byte(s)); !slices.Equal(got, c.IDs[i]) {
			t.Errorf("Encode(%q) = %d, want %d", s, got, c.IDs[i])
		}
	}
	if tok.BOS() != 1 || tok.EOS() != 2 || !tok.AddBOS() {
		t.Errorf("bos %d eos %d", tok.BOS(), tok.EOS())
	}
	for want, c := range map[string]struct {
		b []byte
		n int
	}{
		"are no tokenizer":        {b[:3], n},
		"cut short at byte":       {b[:len(b)-1], n},
		"more than the model's":   {b, n - 1},
		"480 pieces, the model":   {b, n + 1},
		"a vocabulary of":         {b, -1},
		"of 4294967295 bytes":     {[]byte{0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 255, 255}, 3},
		"the vocabulary of a mod": {nil, 3},
	} {
		_, err := FromLlama2C(c.b, c.n)
		if want == "the vocabulary of a mod" {
			want = "0 bytes are no"
		}
		if err == nil || !strings.Contains(err.Error(), want) || !strings.HasPrefix(err.Error(), "tokenizer.bin: ") {
			t.Errorf("want an error with %q, got %v", want, err)
		}
	}
}

// ggufValues turns what GGUF returns into what a reader of the file gives.
func ggufValues(t testing.TB, tok *Tokenizer) map[string]any {
	t.Helper()
	keys, values, err := tok.GGUF()
	if err != nil {
		t.Fatal(err)
	}
	m := map[string]any{}
	for i, k := range keys {
		switch v := values[i].(type) {
		case uint32:
			m[k] = int64(v)
		case []int32:
			l := make([]int64, len(v))
			for i := range v {
				l[i] = int64(v[i])
			}
			m[k] = l
		case []float32:
			l := make([]float64, len(v))
			for i := range v {
				l[i] = float64(v[i])
			}
			m[k] = l
		default:
			m[k] = v
		}
	}
	return m
}

func fromModel(t testing.TB, model []byte) *Tokenizer {
	t.Helper()
	files, err := FromSentencePiece(model)
	if err != nil {
		t.Fatal(err)
	}
	tok, err := fromFiles(files)
	if err != nil {
		t.Fatal(err)
	}
	return tok
}

// TestGGUFRoundTrip: a tokenizer written as the header of a GGUF file and read back encodes alike.
func TestGGUFRoundTrip(t *testing.T) {
	g := readGolden(t)
	toks := map[string]*Tokenizer{"digits": digitsTokenizer(t)}
	for _, name := range []string{"gpt2", "llama3", "qwen"} {
		toks[name], _ = readSmall(t, name)
	}
	for _, c := range readModels(t).Cases {
		if c.Name == "trained" || c.Name == "trained-trim" || c.Name == "random-4" || c.Name == "runs of spaces" {
			toks[c.Name] = fromModel(t, c.Model)
		}
	}
	for name, tok := range toks {
		v := ggufValues(t, tok)
		v["tokenizer.chat_template"] = "{{ x }}"
		files, err := FromGGUF(v)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		back, err := fromFiles(files)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if back.VocabSize() != tok.VocabSize() || back.BOS() != tok.BOS() || back.EOS() != tok.EOS() || back.PAD() != tok.PAD() || back.AddBOS() != tok.AddBOS() {
			t.Errorf("%s: size %d bos %d eos %d pad %d add %t, want %d %d %d %d %t", name, back.VocabSize(), back.BOS(), back.EOS(), back.PAD(), back.AddBOS(),
				tok.VocabSize(), tok.BOS(), tok.EOS(), tok.PAD(), tok.AddBOS())
		}
		if !strings.Contains(string(files[fileConfig]), "{{ x }}") {
			t.Errorf("%s: the chat template is gone", name)
		}
		for _, s := range g.Strings {
			if plainAdded(s) || strings.Contains(s, "<mask>") || strings.Contains(s, "<pad>") {
				continue // lstrip, rstrip, single_word and normalized have no entry
			}
			if a, b := tok.Encode([]byte(s)), back.Encode([]byte(s)); !slices.Equal(a, b) {
				t.Errorf("%s: Encode(%q) = %d, was %d", name, s, b, a)
			}
			if a, b := tok.EncodeSpecial([]byte(s)), back.EncodeSpecial([]byte(s)); !slices.Equal(a, b) {
				t.Errorf("%s: EncodeSpecial(%q) = %d, was %d", name, s, b, a)
			}
		}
	}
}

// TestRealGGUF is TestGGUFRoundTrip with real vocabularies, on every hard string.
func TestRealGGUF(t *testing.T) {
	if testing.Short() {
		t.Skip("takes seconds, many with the race detector")
	}
	for _, name := range realNames {
		t.Run(name, func(t *testing.T) {
			tok := loadReal(t, name)
			files, err := FromGGUF(ggufValues(t, tok))
			if err != nil {
				t.Fatal(err)
			}
			back, err := fromFiles(files)
			if err != nil {
				t.Fatal(err)
			}
			if back.VocabSize() != tok.VocabSize() || back.BOS() != tok.BOS() || back.EOS() != tok.EOS() {
				t.Errorf("size %d bos %d eos %d, want %d %d %d", back.VocabSize(), back.BOS(), back.EOS(), tok.VocabSize(), tok.BOS(), tok.EOS())
			}
			for _, s := range hardStrings() {
				if a, b := tok.Encode([]byte(s)), back.Encode([]byte(s)); !slices.Equal(a, b) {
					t.Fatalf("Encode(%q) = %d, was %d", s, b, a)
				}
			}
		})
	}
}

func TestGGUFErrors(t *testing.T) {
	gpt2, _ := readSmall(t, "gpt2")
	spm := fromModel(t, readModels(t).Cases[0].Model)
	for _, c := range []struct {
		tok    *Tokenizer
		change func(v map[string]any)
		want   string
	}{
		{gpt2, func(v map[string]any) { clear(v) }, "no tokenizer.ggml.model"},
		{gpt2, func(v map[string]any) { v["tokenizer.ggml.model"] = "bert" }, `"bert" is not supported (gpt2 and llama are)`},
		{gpt2, func(v map[string]any) { v["tokenizer.ggml.model"] = int64(3) }, "is a int64, want a string"},
		{gpt2, func(v map[string]any) { delete(v, "tokenizer.ggml.tokens") }, "no tokenizer.ggml.tokens"},
		{gpt2, func(v map[string]any) { v["tokenizer.ggml.tokens"] = []int64{1} }, "want a []string"},
		{gpt2, func(v map[string]any) { v["tokenizer.ggml.token_type"] = []int64{1} }, "but 1 in tokenizer.ggml.token_type"},
		{gpt2, func(v map[string]any) { v["tokenizer.ggml.token_type"].([]int64)[3] = 77 }, "token 3 (\"$\") is of the unknown type 77"},
		{gpt2, func(v map[string]any) { delete(v, "tokenizer.ggml.pre") }, "no tokenizer.ggml.pre"},
		{gpt2, func(v map[string]any) { v["tokenizer.ggml.pre"] = "tekken" }, `"tekken" is not supported (known: dbrx, gpt-2, llama-bpe, llama-v3, llama3, phi-2, qwen2, refact, smaug-bpe, smollm, starcoder)`},
		{gpt2, func(v map[string]any) { v["tokenizer.ggml.pre"] = "default" }, `"default" is not supported`},
		{gpt2, func(v map[string]any) { v["tokenizer.ggml.add_space_prefix"] = true }, "add_space_prefix"},
		{gpt2, func(v map[string]any) { v["tokenizer.ggml.merges"] = []string{"ab"} }, "merge 0"},
		{gpt2, func(v map[string]any) { v["tokenizer.ggml.tokens"].([]string)[5] = "\xff" }, "token 5 (\"\\xff\") is not UTF-8"},
		{gpt2, func(v map[string]any) { v["tokenizer.ggml.bos_token_id"] = int64(5000) }, "bos_token_id is 5000, out of 0 to"},
		{gpt2, func(v map[string]any) { v["tokenizer.ggml.add_bos_token"] = "yes" }, "add_bos_token is a string, want a bool"},
		{spm, func(v map[string]any) { delete(v, "tokenizer.ggml.scores") }, "no tokenizer.ggml.scores"},
		{spm, func(v map[string]any) { v["tokenizer.ggml.scores"] = []float64{1} }, "but 1 in tokenizer.ggml.scores"},
		{spm, func(v map[string]any) { v["tokenizer.ggml.scores"].([]float64)[400] = math.NaN() }, "no number as its score"},
		{spm, func(v map[string]any) { v["tokenizer.ggml.tokens"].([]string)[10] = "<0x00>" }, "byte pieces, but none for"},
	} {
		v := ggufValues(t, c.tok)
		c.change(v)
		if _, err := FromGGUF(v); err == nil || !strings.Contains(err.Error(), c.want) || !strings.HasPrefix(err.Error(), "GGUF header: ") {
			t.Errorf("want an error with %q, got %v", c.want, err)
		}
	}
	// An old file has no types: bytes, BOS, EOS and the unknown token are known by their names and places.
	v := ggufValues(t, spm)
	delete(v, "tokenizer.ggml.token_type")
	files, err := FromGGUF(v)
	if err != nil {
		t.Fatal(err)
	}
	old, err := fromFiles(files)
	if err != nil || !old.Special(0) || !old.Special(1) || !old.Special(2) || !slices.Equal(old.Encode([]byte("the \xff")), spm.Encode([]byte("the \xff"))) {
		t.Errorf("without types: %v", err)
	}
	// What llama.cpp has no entry for.
	_, b := readSmall(t, "gpt2")
	_, s := readSmall(t, "spm")
	for _, c := range []struct {
		base   []byte
		change func(j map[string]any)
		want   string
	}{
		{b, func(j map[string]any) { j["pre_tokenizer"].(map[string]any)["add_prefix_space"] = true }, "add_prefix_space"},
		{b, func(j map[string]any) { j["pre_tokenizer"].(map[string]any)["use_regex"] = false }, "no name for the pattern none"},
		{b, func(j map[string]any) { j["model"].(map[string]any)["ignore_merges"] = true }, "ignore_merges true"},
		{s, func(j map[string]any) {}, "scores cannot say that"}, // the library's trainer gives each token one merge
		{spm.Files()[fileJSON], func(j map[string]any) {
			m := j["model"].(map[string]any)["merges"].([]any)
			j["model"].(map[string]any)["merges"] = append(m, m[0])
		}, "as an earlier one does"}, // m[0] is no run of one character
	} {
		tok, err := FromJSON(edit(t, c.base, c.change))
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := tok.GGUF(); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("want an error with %q, got %v", c.want, err)
		}
	}
}
