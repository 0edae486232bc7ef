package tokenizer

import (
	"bytes"
	"os"
	"slices"
	"strings"
	"testing"
)

func TestBadJSON(t *testing.T) {
	_, gpt2 := readSmall(t, "gpt2")
	_, llama3 := readSmall(t, "llama3")
	_, spm := readSmall(t, "spm")
	model := func(j map[string]any) map[string]any { return j["model"].(map[string]any) }
	vocab := func(j map[string]any) map[string]any { return model(j)["vocab"].(map[string]any) }
	token := func(j map[string]any, i int) map[string]any { return j["added_tokens"].([]any)[i].(map[string]any) }
	for _, c := range []struct {
		base   []byte
		change func(j map[string]any)
		want   string
	}{
		{gpt2, func(j map[string]any) { vocab(j)["zz"] = 7 }, "same id 7"},
		{gpt2, func(j map[string]any) { vocab(j)["zz"] = 1<<24 + 1 }, `the id of token "zz" is no whole number from 0 to 16777216`},
		{gpt2, func(j map[string]any) { vocab(j)["zz"] = -1 }, `the id of token "zz"`},
		{gpt2, func(j map[string]any) { vocab(j)["zz"] = 1.5 }, `the id of token "zz"`},
		{gpt2, func(j map[string]any) { vocab(j)["zz"] = "1" }, `the id of token "zz"`},
		{gpt2, func(j map[string]any) { delete(vocab(j), "a") }, "byte 0x61"},
		{gpt2, func(j map[string]any) { model(j)["vocab"] = []any{} }, "vocab is no json object"},
		{gpt2, func(j map[string]any) { model(j)["vocab"] = map[string]any{} }, "vocabulary is empty"},
		{gpt2, func(j map[string]any) { model(j)["merges"] = []any{"a zz"} }, `merge 0 ("a" "zz"): token "zz" is not in the vocabulary`},
		{gpt2, func(j map[string]any) { model(j)["merges"] = []any{"~ ~"} }, `token "~~" is not in the vocabulary`},
		{gpt2, func(j map[string]any) { model(j)["merges"] = []any{"a b c"} }, "merge 0"},
		{gpt2, func(j map[string]any) { model(j)["merges"] = []any{"ab"} }, "merge 0"},
		{gpt2, func(j map[string]any) { model(j)["merges"] = []any{[]any{"a"}} }, "merge 0"},
		{gpt2, func(j map[string]any) { model(j)["merges"] = []any{[]any{"a", "b", "c"}} }, "merge 0"},
		{gpt2, func(j map[string]any) { model(j)["merges"] = []any{7} }, "merge 0"},
		{gpt2, func(j map[string]any) { model(j)["merges"] = "x" }, "merges is no json array"},
		{gpt2, func(j map[string]any) { model(j)["type"] = "WordPiece" }, `"WordPiece"`},
		{gpt2, func(j map[string]any) { model(j)["dropout"] = 0.1 }, "dropout"},
		{gpt2, func(j map[string]any) { model(j)["continuing_subword_prefix"] = "##" }, "continuing_subword_prefix"},
		{gpt2, func(j map[string]any) { model(j)["ignore_merges"] = "yes" }, "ignore_merges"},
		{gpt2, func(j map[string]any) { delete(j, "model") }, "there is no model"},
		{gpt2, func(j map[string]any) { token(j, 0)["id"] = 1 << 25 }, "out of 0 to 16777216"},
		{gpt2, func(j map[string]any) { token(j, 0)["id"] = -3 }, "out of 0 to"},
		{gpt2, func(j map[string]any) { token(j, 0)["id"] = token(j, 1)["id"] }, "same id"},
		{gpt2, func(j map[string]any) { token(j, 0)["content"] = "!" }, "the vocabulary gives it 0"},
		{gpt2, func(j map[string]any) { token(j, 0)["content"] = token(j, 1)["content"] }, "has two ids"},
		{gpt2, func(j map[string]any) { token(j, 0)["content"] = "" }, "has no text"},
		{gpt2, func(j map[string]any) { token(j, 0)["content"] = strings.Repeat("x", 5000) }, "5000 bytes long"},
		{gpt2, func(j map[string]any) { token(j, 0)["id"] = "x" }, "added_tokens"},
		{spm, func(j map[string]any) {
			j["added_tokens"] = append(j["added_tokens"].([]any), map[string]any{"id": vocab(j)["<0x41>"], "content": "<0x41>", "special": true})
		}, `added token "<0x41>" (id 68) is also what "A" becomes`},
		{gpt2, func(j map[string]any) { j["normalizer"] = map[string]any{"type": "Lowercase"} }, `"Lowercase"`},
		{gpt2, func(j map[string]any) { j["pre_tokenizer"] = nil }, "not supported"},
		{gpt2, func(j map[string]any) { j["pre_tokenizer"] = map[string]any{"type": "Whitespace"} }, `"Whitespace"`},
		{gpt2, func(j map[string]any) {
			j["pre_tokenizer"] = map[string]any{"type": "Sequence", "pretokenizers": []any{
				map[string]any{"type": "Digits"}, map[string]any{"type": "ByteLevel", "add_prefix_space": false}}}
		}, "[Digits ByteLevel]"},
		{llama3, func(j map[string]any) {
			split := j["pre_tokenizer"].(map[string]any)["pretokenizers"].([]any)[0].(map[string]any)
			split["pattern"] = map[string]any{"Regex": `(a+)+$`}
		}, `the split pattern "(a+)+$" is unknown`},
		{llama3, func(j map[string]any) {
			split := j["pre_tokenizer"].(map[string]any)["pretokenizers"].([]any)[0].(map[string]any)
			split["pattern"] = map[string]any{"String": " "}
		}, "without a Regex"},
		{llama3, func(j map[string]any) {
			split := j["pre_tokenizer"].(map[string]any)["pretokenizers"].([]any)[0].(map[string]any)
			split["behavior"] = "Removed"
		}, `behavior "Removed"`},
		{llama3, func(j map[string]any) {
			j["pre_tokenizer"].(map[string]any)["pretokenizers"].([]any)[1].(map[string]any)["use_regex"] = true
		}, "use_regex"},
		{spm, func(j map[string]any) { delete(vocab(j), "<0x41>") }, "<0x00> to <0xFF>"},
		{spm, func(j map[string]any) {
			model(j)["byte_fallback"] = false
			model(j)["unk_token"] = nil
		}, "unk_token"},
		{spm, func(j map[string]any) { j["normalizer"] = map[string]any{"type": "Precompiled"} }, `"Precompiled"`},
		{spm, func(j map[string]any) { j["normalizer"] = nil }, "this kind of tokenizer"},
		{spm, func(j map[string]any) {
			j["normalizer"] = nil
			j["pre_tokenizer"] = map[string]any{"type": "Metaspace", "replacement": "_"}
		}, `replacement "_"`},
		{spm, func(j map[string]any) {
			j["normalizer"] = nil
			j["pre_tokenizer"] = map[string]any{"type": "Metaspace", "replacement": "▁", "prepend_scheme": "last"}
		}, `"last"`},
	} {
		_, err := FromJSON(edit(t, c.base, c.change))
		if err == nil || !strings.Contains(err.Error(), c.want) || !strings.HasPrefix(err.Error(), "tokenizer.json: ") || strings.Contains(err.Error(), "\n") {
			t.Errorf("want an error with %q, got %v", c.want, err)
		}
	}
	for text, want := range map[string]string{
		"":             "malformed json at byte 0",
		"{":            "malformed json at byte 1",
		"[]":           "another type",
		"null":         "there is no model",
		`{"model":[]}`: `"model" is a array`,
		`{"pre_tokenizer":{"type":"ByteLevel"},"model":{"vocab":{"a":0,"a":0}}}`: `"a" comes twice`,
		`{"model":{"vocab":{"\ud800":0,"\udfff":1}},"normalizer":null}`:          "not supported",
		`{"model":{"vocab":null}}`: "vocab is no json object",
	} {
		_, err := FromJSON([]byte(text))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: want an error with %q, got %v", text, want, err)
		}
	}
}

func TestBadFolder(t *testing.T) {
	_, gpt2 := readSmall(t, "gpt2")
	for _, c := range []struct {
		files map[string]string
		want  string
	}{
		{nil, "holds neither tokenizer.json nor both vocab.json and merges.txt"},
		{map[string]string{"vocab.json": "{}"}, "holds neither"},
		{map[string]string{"vocab.json": "{", "merges.txt": ""}, "vocab.json: malformed json at byte 1"},
		{map[string]string{"vocab.json": `{"a":0}`, "merges.txt": "#version: 0.2\na b\na b c\n"}, "merges.txt:3:"},
		{map[string]string{"vocab.json": `{"a":0}`, "merges.txt": "a b\n"}, "neither OPT's"},
		{map[string]string{"tokenizer.json": string(gpt2), "tokenizer_config.json": "["}, "tokenizer_config.json: malformed json"},
		{map[string]string{"tokenizer.json": string(gpt2), "tokenizer_config.json": `{"bos_token":"<nope>"}`}, `bos_token "<nope>" is not in the vocabulary`},
		{map[string]string{"tokenizer.json": string(gpt2), "special_tokens_map.json": `{"pad_token":7}`}, "special_tokens_map.json: pad_token"},
	} {
		dir := t.TempDir()
		for name, text := range c.files {
			write(t, dir, name, []byte(text))
		}
		if _, err := Load(dir); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("want an error with %q, got %v", c.want, err)
		}
	}
	if _, err := Load(t.TempDir() + "/missing"); err == nil {
		t.Error("a missing folder was loaded")
	}
	dir := t.TempDir()
	if err := os.Mkdir(dir+"/tokenizer.json", 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(dir); err == nil || !strings.Contains(err.Error(), "tokenizer.json") {
		t.Errorf("tokenizer.json is a folder: %v", err)
	}
}

// TestManyMerges reads 50 MB of merges, and refuses a merge of an unknown token.
func TestManyMerges(t *testing.T) {
	if testing.Short() {
		t.Skip("reads 50 MB")
	}
	_, b := readSmall(t, "gpt2")
	i := bytes.Index(b, []byte(`"merges":[`)) + len(`"merges":[`)
	n := bytes.IndexByte(b[i:], ',') + 1 // the first merge and its comma
	big := func(first string, size int) []byte {
		return slices.Concat(b[:i], []byte(first), bytes.Repeat(b[i:i+n], size/n), b[i:])
	}
	if _, err := FromJSON(big("", 50_000_000)); err != nil {
		t.Error(err)
	}
	if _, err := FromJSON(big(`"q q",`, 1_000_000)); err == nil || !strings.Contains(err.Error(), `"qq" is not in the vocabulary`) {
		t.Errorf("got %v", err)
	}
}
