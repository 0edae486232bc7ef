package tokenizer

import (
	"bytes"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestCase17Tables: a tokenizer.json whose tables contradict themselves is refused in one line that says where, and none makes
// loading slow. (TestBadJSON has many more, TestManyMerges reads 50 MB of merges.)
func TestCase17Tables(t *testing.T) {
	_, gpt2 := readSmall(t, "gpt2")
	_, llama3 := readSmall(t, "llama3")
	model := func(j map[string]any) map[string]any { return j["model"].(map[string]any) }
	for name, c := range map[string]struct {
		base   []byte
		change func(j map[string]any)
		want   string
	}{
		"id beyond the vocabulary": {gpt2, func(j map[string]any) { model(j)["vocab"].(map[string]any)["zz"] = 1 << 20 }, `"zz" has id 1048576, far beyond the 601 tokens`},
		"added id beyond it":       {gpt2, func(j map[string]any) { j["added_tokens"].([]any)[0].(map[string]any)["id"] = 1 << 20 }, "far beyond the 600 tokens"},
		"duplicate ids":            {gpt2, func(j map[string]any) { model(j)["vocab"].(map[string]any)["zz"] = 7 }, "same id 7"},
		"unknown token in a merge": {gpt2, func(j map[string]any) { model(j)["merges"] = []any{"a zz"} }, `token "zz" is not in the vocabulary`},
		"catastrophic expression": {llama3, func(j map[string]any) {
			j["pre_tokenizer"].(map[string]any)["pretokenizers"].([]any)[0].(map[string]any)["pattern"] = map[string]any{"Regex": `^(\p{L}+)+$`}
		}, "is unknown"},
	} {
		_, err := FromJSON(edit(t, c.base, c.change))
		if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, id := range []int{600 + 8, 60_000} { // tables with holes are real
		if _, err := FromJSON(edit(t, gpt2, func(j map[string]any) { model(j)["vocab"].(map[string]any)["zz"] = id })); err != nil {
			t.Errorf("id %d: %v", id, err)
		}
	}
}

// TestCase18Texts: what users paste comes back as it was.
func TestCase18Texts(t *testing.T) {
	long := strings.Repeat("wordwithoutend", 1<<20/14)
	for name, s := range map[string]string{
		"invalid": "a\xffb\xc3(\xed\xa0\x80", "nul": "\x00a\x00\x00", "bom": "\ufeffHello", "line separators": "a\u2028b\u2029", "right to left": "مرحبا \u202eabc\u202c שלום",
		"emoji": "👩‍👩‍👧‍👦🏳️‍🌈 👍🏽", "no punctuation": long, "only punctuation": strings.Repeat("?!.,;", 1<<18), "empty": "", "only spaces": strings.Repeat(" ", 1<<18),
		"line breaks": strings.Repeat("\r\n", 1<<17),
	} {
		for _, small := range []string{"gpt2", "llama3", "qwen", "spm"} {
			tok, _ := readSmall(t, small)
			if got := string(tok.Decode(tok.Encode([]byte(s)))); got != s {
				t.Errorf("%s: %s: %.40q came back as %.40q", small, name, s, got)
			}
		}
	}
	// A lone surrogate in JSON stands for no character.
	_, b := readSmall(t, "gpt2")
	text := strings.Replace(string(b), `"<|endoftext|>"`, `"<\ud800>"`, 1)
	tok, err := FromJSON([]byte(text))
	if err != nil || len(tok.EncodeSpecial([]byte("<\ufffd>"))) != 1 {
		t.Errorf("a lone surrogate: %v", err)
	}
}

// TestCase19SpecialText: the text of special tokens in what a user writes is text, unless asked for.
func TestCase19SpecialText(t *testing.T) {
	for small, special := range map[string]string{"gpt2": "<|endoftext|>", "llama3": "<|im_start|>", "qwen": "<|im|>", "spm": "</s>", "spm-unk": "<s>"} {
		tok, _ := readSmall(t, small)
		for _, s := range []string{special, "a" + special + "b", special + special} {
			ids := tok.Encode([]byte(s))
			if slices.ContainsFunc(ids, func(id int32) bool { return tok.Special(id) && !(small == "spm-unk" && id == 0) }) {
				t.Errorf("%s: Encode(%q) = %d holds a special token", small, s, ids)
			}
			if tok.spm.fallback || tok.kind == byteLevel {
				if got := string(tok.Decode(ids)); got != s {
					t.Errorf("%s: %q came back as %q", small, s, got)
				}
			}
			if n := strings.Count(s, special); !hasSpecials(tok, tok.EncodeSpecial([]byte(s)), n) {
				t.Errorf("%s: EncodeSpecial(%q) holds no %d special tokens", small, s, n)
			}
		}
	}
}

func hasSpecials(tok *Tokenizer, ids []int32, n int) bool {
	for _, id := range ids {
		if tok.Special(id) {
			n--
		}
	}
	return n == 0
}

// TestCase20LongLine: a line of ten million characters is encoded in bounded memory, and in time that grows with its length:
// with its square these would outlast the limit of go test.
func TestCase20LongLine(t *testing.T) {
	if testing.Short() {
		t.Skip("encodes ten million characters")
	}
	const n = 10_000_000
	letters := make([]byte, n)
	r := random(1)
	for i := range letters {
		letters[i] = "etaoin"[r.below(6)]
	}
	for _, c := range []struct {
		small string
		text  []byte
	}{
		{"gpt2", letters}, {"spm", letters}, {"llama3", []byte(strings.Repeat("\n ", n/2))}, {"qwen", []byte(strings.Repeat("7", n))},
		{"spm-unk", letters[:n/10]}, {"llama3", []byte(strings.Repeat("thebest", n/70))}, {"qwen", []byte(strings.Repeat("e\u0301", n/20))},
		{"gpt2", []byte(strings.Repeat(" ", n/10))}, {"spm", []byte(strings.Repeat(" ", n))}, {"llama3", []byte(strings.Repeat("'s", n/20))},
	} {
		tok, _ := readSmall(t, c.small)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		start := time.Now()
		ids := tok.Encode(c.text)
		took := time.Since(start)
		runtime.ReadMemStats(&after)
		each := float64(after.TotalAlloc-before.TotalAlloc) / float64(len(c.text))
		t.Logf("%s %.10q...: %.1f s, %.0f bytes for each byte", c.small, c.text, took.Seconds(), each)
		if len(ids) == 0 || each > 60 {
			t.Errorf("%s %.10q...: %d tokens, %.1f s, %.0f bytes for each byte", c.small, c.text, len(ids), took.Seconds(), each)
		}
		if !tok.nfc && !bytes.Equal(tok.Decode(ids), c.text) {
			t.Errorf("%s %.10q...: decoded otherwise", c.small, c.text)
		}
	}
	tok := digitsTokenizer(t)
	text := []byte(strings.Repeat("!\U00011de0", n/25)) // numbers of Unicode 17
	if !bytes.Equal(tok.Decode(tok.Encode(text)), text) {
		t.Error("numbers of Unicode 17: decoded otherwise")
	}
}
