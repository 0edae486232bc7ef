package tokenizer

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestSaveLoad(t *testing.T) {
	g := readGolden(t)
	_, b := readSmall(t, "llama3")
	src, dst := t.TempDir(), t.TempDir()
	files := map[string][]byte{
		"tokenizer.json":          b,
		"tokenizer_config.json":   []byte(`{"bos_token": null, "eos_token": {"content": "<|im|>"}, "tokenizer_class": "PreTrainedTokenizerFast"}`),
		"special_tokens_map.json": []byte(`{"bos_token": "<|im_start|>", "pad_token": "<pad>"}`),
	}
	for name, b := range files {
		write(t, src, name, b)
	}
	write(t, src, "unrelated.txt", []byte("x"))
	a, err := Load(src)
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Save(dst); err != nil {
		t.Fatal(err)
	}
	entries, _ := os.ReadDir(dst)
	if len(entries) != len(files) || len(a.Files()) != len(files) {
		t.Errorf("saved %v", entries)
	}
	for name, want := range files {
		if got, _ := os.ReadFile(filepath.Join(dst, name)); !bytes.Equal(got, want) || !bytes.Equal(a.Files()[name], want) {
			t.Errorf("%s was not kept", name)
		}
	}
	back, err := Load(dst)
	if err != nil {
		t.Fatal(err)
	}
	if back.Fingerprint() != a.Fingerprint() {
		t.Error("the fingerprint changed")
	}
	for _, s := range g.Strings {
		if !slices.Equal(a.Encode([]byte(s)), back.Encode([]byte(s))) {
			t.Errorf("%q encodes otherwise", s)
		}
	}
	// null in the config means none, although the special tokens map names one.
	name := func(s string) int32 { return a.EncodeSpecial([]byte(s))[0] }
	if a.BOS() != -1 || a.EOS() != name("<|im|>") || a.PAD() != name("<pad>") {
		t.Errorf("bos %d eos %d pad %d", a.BOS(), a.EOS(), a.PAD())
	}
	if err := a.Save(filepath.Join(dst, "missing")); err == nil {
		t.Error("saved into a folder that is not there")
	}
}

func TestFingerprint(t *testing.T) {
	tok, b := readSmall(t, "gpt2")
	if !strings.HasPrefix(tok.Fingerprint(), "sha256:") || len(tok.Fingerprint()) != 7+64 {
		t.Errorf("fingerprint %q", tok.Fingerprint())
	}
	same := func(b []byte) bool {
		t.Helper()
		o, err := FromJSON(b)
		if err != nil {
			t.Fatal(err)
		}
		return o.Fingerprint() == tok.Fingerprint()
	}
	if !same(edit(t, b, func(j map[string]any) { // other layout, merges as pairs, no decoder
		delete(j, "decoder")
		m := j["model"].(map[string]any)
		var pairs []any
		for _, s := range m["merges"].([]any) {
			l, r, _ := strings.Cut(s.(string), " ")
			pairs = append(pairs, []any{l, r})
		}
		m["merges"] = pairs
		slices.Reverse(j["added_tokens"].([]any))
	})) {
		t.Error("the fingerprint depends on the layout")
	}
	for name, change := range map[string]func(j map[string]any){
		"merges": func(j map[string]any) {
			m := j["model"].(map[string]any)["merges"].([]any)
			m[0], m[1] = m[1], m[0]
		},
		"special": func(j map[string]any) { j["added_tokens"].([]any)[0].(map[string]any)["special"] = false },
		"nfc":     func(j map[string]any) { j["normalizer"] = map[string]any{"type": "NFC"} },
		"pattern": func(j map[string]any) { j["pre_tokenizer"].(map[string]any)["use_regex"] = false },
		"vocab":   func(j map[string]any) { j["model"].(map[string]any)["vocab"].(map[string]any)["zzz"] = 5000 },
		"whole":   func(j map[string]any) { j["model"].(map[string]any)["ignore_merges"] = true },
	} {
		if same(edit(t, b, change)) {
			t.Errorf("%s changed, the fingerprint did not", name)
		}
	}
}

// TestLoadPair: vocab.json and merges.txt give the same tokenizer as tokenizer.json, and OPT is told from GPT-2.
func TestLoadPair(t *testing.T) {
	g := readGolden(t)
	_, b := readSmall(t, "gpt2")
	var j struct {
		Model struct {
			Vocab  map[string]int32
			Merges []string
		}
	}
	if err := json.Unmarshal(b, &j); err != nil {
		t.Fatal(err)
	}
	plain, err := FromJSON(edit(t, b, func(j map[string]any) { j["added_tokens"] = []any{} }))
	if err != nil {
		t.Fatal(err)
	}
	load := func(shift int32, extra map[string]int32, config string) (*Tokenizer, error) {
		dir := t.TempDir()
		vocab := map[string]int32{}
		for s, id := range j.Model.Vocab {
			vocab[s] = id + shift
		}
		for s, id := range extra {
			vocab[s] = id
		}
		vb, _ := json.Marshal(vocab)
		write(t, dir, "vocab.json", vb)
		write(t, dir, "merges.txt", []byte("#version: 0.2\n"+strings.Join(j.Model.Merges, "\r\n")+"\n"))
		if config != "" {
			write(t, dir, "tokenizer_config.json", []byte(config))
		}
		return Load(dir)
	}
	n := int32(len(j.Model.Vocab))
	gpt2, err := load(0, map[string]int32{"<|endoftext|>": n}, "")
	if err != nil {
		t.Fatal(err)
	}
	opt, err := load(4, map[string]int32{"<s>": 0, "<pad>": 1, "</s>": 2, "<unk>": 3}, "")
	if err != nil {
		t.Fatal(err)
	}
	if gpt2.BOS() != n || gpt2.EOS() != n || gpt2.PAD() != -1 || gpt2.VocabSize() != int(n)+1 {
		t.Errorf("gpt2: bos %d eos %d pad %d of %d", gpt2.BOS(), gpt2.EOS(), gpt2.PAD(), gpt2.VocabSize())
	}
	if opt.BOS() != 2 || opt.EOS() != 2 || opt.PAD() != 1 || !opt.Special(3) {
		t.Errorf("opt: bos %d eos %d pad %d", opt.BOS(), opt.EOS(), opt.PAD())
	}
	for _, s := range g.Strings {
		want := plain.Encode([]byte(s))
		if got := gpt2.Encode([]byte(s)); !slices.Equal(got, want) {
			t.Errorf("gpt2: %q: %d, want %d", s, got, want)
		}
		for i := range want {
			want[i] += 4
		}
		if got := opt.Encode([]byte(s)); !slices.Equal(got, want) {
			t.Errorf("opt: %q: %d, want %d", s, got, want)
		}
	}
	if got := opt.EncodeSpecial([]byte("<s></s>")); !slices.Equal(got, []int32{0, 2}) {
		t.Errorf("<s></s> is %d", got)
	}
	added, err := load(0, map[string]int32{"<|endoftext|>": n}, fmt.Sprintf(
		`{"tokenizer_class":"GPT2Tokenizer","add_prefix_space":true,"pad_token":"<p>","added_tokens_decoder":{"%d":{"content":"<p>","special":true}}}`, n+1))
	if err != nil {
		t.Fatal(err)
	}
	if added.PAD() != n+1 || added.BOS() != n || added.VocabSize() != int(n)+2 || added.Piece(added.Encode([]byte("a"))[0])[0] != ' ' {
		t.Errorf("added: bos %d pad %d", added.BOS(), added.PAD())
	}
	qwen, err := load(0, nil, `{"tokenizer_class":"Qwen2Tokenizer"}`)
	if err != nil {
		t.Fatal(err)
	}
	if !qwen.nfc || qwen.split.name != "qwen" {
		t.Error("Qwen2Tokenizer was not seen")
	}
	for config, want := range map[string]string{
		"":                                    "neither OPT's",
		`{"tokenizer_class":"CodeGenX"}`:      `"CodeGenX"`,
		`{"tokenizer_class":7}`:               "tokenizer_config.json: tokenizer_class",
		`{"eos_token":["x"]}`:                 "eos_token is neither",
		`{"added_tokens_decoder":{"x":{}}}`:   "neither OPT's",
		`{"tokenizer_class":"GPT2Tokenizer"}`: "neither OPT's",
	} {
		if _, err := load(0, nil, config); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("config %q: %v", config, err)
		}
	}
}

// edit changes a tokenizer.json.
func edit(t testing.TB, b []byte, change func(j map[string]any)) []byte {
	t.Helper()
	var j map[string]any
	if err := json.Unmarshal(b, &j); err != nil {
		t.Fatal(err)
	}
	change(j)
	out, err := json.MarshalIndent(j, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func write(t testing.TB, dir, name string, b []byte) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), b, 0o644); err != nil {
		t.Fatal(err)
	}
}
