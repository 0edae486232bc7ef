package serve

import (
	"errors"
	"math"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestRefused(t *testing.T) {
	s := start(t, Config{MaxTokens: 100, MaxPrompt: 1000}, &fake{name: "m", pieces: words("a")})
	for fields, want := range map[string]string{
		// what the server does not have
		`"n":2`:                                   "n can only be 1",
		`"best_of":3`:                             "best_of can only be 1",
		`"best_of":"1"`:                           "best_of can only be 1",
		`"suffix":"end"`:                          `suffix can only be ""`,
		`"logit_bias":{"50256":-100}`:             "logit_bias can only be {}",
		`"presence_penalty":0.5`:                  "presence_penalty can only be 0",
		`"frequency_penalty":-1`:                  "frequency_penalty can only be 0",
		`"messages":[]`:                           `field "messages" is not known`,
		`"image_url":"http://127.0.0.1"`:          `field "image_url" is not known`,
		`"Stream":true`:                           `field "Stream" is not known`,
		`"` + strings.Repeat("x", 5000) + `":1`:   "is not known",
		`"\u001b[31m":1`:                          `field "\x1b[31m" is not known`,
		`"stream_options":{"include_usage":true}`: "no effect without stream",
		`"stream_by":"token"`:                     "no effect without stream",
		// values out of range or of another type
		`"max_tokens":0`:                          "max_tokens must be an integer in 1..100",
		`"max_tokens":101`:                        "in 1..100",
		`"max_tokens":-1`:                         "in 1..100",
		`"max_tokens":1.5`:                        "in 1..100",
		`"max_tokens":1e400`:                      "in 1..100",
		`"max_tokens":"10"`:                       "in 1..100",
		`"max_tokens":99999999999999999999999999`: "in 1..100",
		`"max_sentences":0`:                       "max_sentences must be an integer in 1..100",
		`"temperature":-0.1`:                      "temperature must be a number in 0..2",
		`"temperature":2.1`:                       "in 0..2",
		`"temperature":1e400`:                     "in 0..2",
		`"temperature":"1"`:                       "in 0..2",
		`"temperature":NaN`:                       "not JSON",
		`"temperature":Infinity`:                  "not JSON",
		`"top_p":1.01`:                            "top_p must be a number in 0..1",
		`"top_p":[0.5]`:                           "in 0..1",
		`"top_k":-1`:                              "top_k must be an integer",
		`"top_k":1000000000`:                      "top_k must be an integer",
		`"seed":1.5`:                              "seed must be an integer",
		`"seed":9223372036854775808`:              "seed must be an integer",
		`"logprobs":2`:                            "logprobs must be 0",
		`"logprobs":true`:                         "logprobs must be 0",
		`"logprobs":1`:                            "logprobs can only be 0",
		`"logprobs":0,"echo":true`:                "logprobs cannot be had with echo",
		`"echo":1`:                                "echo must be true or false",
		`"stream":"true"`:                         "stream must be true or false",
		`"stream":true,"stream_by":"word"`:        `stream_by must be "token" or "sentence"`,
		`"stream":true,"stream_options":[]`:       "stream_options must be an object",
		`"stream":true,"stream_options":{"x":1}`:  `stream_options has a field "x"`,
		`"stream":true,"stream_options":{"include_usage":1}`:          "include_usage must be true or false",
		`"stream":true,"stream_options":{"include_obfuscation":true}`: "include_obfuscation can only be false",
		`"user":7`:                     "user must be a string",
		`"model":7`:                    "model must be the name",
		`"model":""`:                   "model must be the name",
		`"stop":""`:                    "1..256 are allowed",
		`"stop":["a",""]`:              "1..256 are allowed",
		`"stop":["a","b","c","d","e"]`: "has 5 texts",
		`"stop":7`:                     "stop must be a text",
		`"stop":[null]`:                "stop must be a text",
		`"stop":"` + strings.Repeat("x", 257) + `"`: "1..256 are allowed",
		`"max_tokens":1,"max_tokens":2`:             "stands there twice",
		`"prompt":"again"`:                          "stands there twice",
	} {
		resp, body := s.post(t, `{"prompt":"p",`+fields+`}`)
		wantError(t, resp, body, 400, want)
		if len(body) > 600 {
			t.Errorf("%.40s: an answer of %d bytes", fields, len(body))
		}
		name, _, _ := strings.Cut(strings.TrimPrefix(fields, `"`), `"`)
		p := parse(t, body).Error.Param
		if strings.Contains(want, "not JSON") || strings.ContainsAny(fields, "\\,") && len(fields) < 5000 {
			continue
		}
		if p == nil || *p != clip(name) {
			t.Errorf("%.40s: the answer does not name the field: %s", fields, body)
		}
	}
	for body, want := range map[string]string{
		``:                      "ends too early",
		`{`:                     "ends too early",
		`{"prompt":"p"`:         "ends too early",
		`{"prompt":"p}`:         "ends too early",
		`{}`:                    "prompt is missing",
		`{"prompt":null}`:       "prompt is missing",
		`{"prompt":[]}`:         "prompt must be a text",
		`{"prompt":[1,2]}`:      "lists of token ids are not taken",
		`{"prompt":[[1,2]]}`:    "lists of token ids are not taken",
		`{"prompt":{"a":1}}`:    "prompt must be a text",
		`{"prompt":["p",null]}`: "prompt must be a text",
		`{"prompt":"p"} {}`:     "goes on after",
		`{"prompt":"p"}x`:       "goes on after",
		`[]`:                    "not a JSON object",
		`"p"`:                   "not a JSON object",
		`null`:                  "not a JSON object",
		`{"prompt":'p'}`:        "not JSON",
		`{prompt:"p"}`:          "not JSON",
		`{"prompt":"p",}`:       "not JSON",
		"{\"prompt\":\"\xff\"}": "not UTF-8",
		"\xef\xbb\xbf{}":        "not JSON",
		`{"prompt":` + strings.Repeat("[", 10001):                                            "not JSON",
		`{"prompt":` + strings.Repeat("[", 60000):                                            "not JSON",
		`{"x":` + strings.Repeat(`{"a":`, 9000) + "1" + strings.Repeat("}", 9000) + `}`:      `field "x" is not known`,
		`{"prompt":["` + strings.Repeat(`p","`, maxPrompts) + `"]}`:                          "has 33 texts",
		`{"prompt":"` + strings.Repeat("p", 1001) + `"}`:                                     "1001 bytes",
		`{"prompt":["` + strings.Repeat("p", 501) + `","` + strings.Repeat("p", 501) + `"]}`: "1002 bytes",
	} {
		resp, got := s.post(t, body)
		wantError(t, resp, got, 400, want)
	}
	if n := s.models["m"].(*fake).calls.Load(); n != 0 {
		t.Fatalf("the model was called %d times", n)
	}
}

func TestPromptIsKept(t *testing.T) {
	m := &fake{name: "m", pieces: words("a")}
	s := start(t, Config{}, m)
	s.post(t, `{"prompt":"\u9cb8 \ud83d\ude80 \u0000 </s> \n"}`)
	if got := m.request().Prompt; got != "鲸 🚀 \x00 </s> \n" {
		t.Fatalf("%q", got)
	}
	s.post(t, `{"prompt":""}`)
	if m.request().Prompt != "" || m.calls.Load() != 2 {
		t.Fatal("an empty prompt begins a document")
	}
}

// FuzzDecode checks that a request that is taken is within the limits, and that the error of another is fit for an answer.
func FuzzDecode(f *testing.F) {
	for _, s := range []string{
		`{"prompt":"p"}`, `{"model":"m","prompt":["a","b"],"stop":["x"],"stream":true,"stream_options":{"include_usage":true},"stream_by":"sentence"}`,
		`{"prompt":"p","max_tokens":1e2,"temperature":1e400,"top_p":0,"top_k":5,"seed":-1,"logprobs":1,"n":1.0,"logit_bias":{}}`,
		`{"prompt":"\ud800","echo":true,"max_sentences":3,"best_of":1,"suffix":"","user":"u"}`, `{"prompt":[[[[`, `{"a":{"b":[1,2,{"c":null}]}}`, "\xff", `null`,
	} {
		f.Add([]byte(s))
	}
	cfg, err := Config{Models: []Model{&fake{name: "m"}}, MaxTokens: 100, MaxPrompt: 50}.resolved()
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		c, err := decode(body, &cfg)
		var input *InputError
		if err != nil {
			if !errors.As(err, &input) || len(input.Message) > 600 || !utf8.ValidString(input.Message) || input.Message == "" {
				t.Fatalf("error %q", err)
			}
			return
		}
		size := 0
		for _, p := range c.prompts {
			size += len(p)
			if !utf8.ValidString(p) {
				t.Fatalf("prompt %q", p)
			}
		}
		r := c.Request
		switch {
		case len(c.prompts) < 1 || len(c.prompts) > maxPrompts || size > 50:
			t.Fatalf("prompts %q", c.prompts)
		case r.MaxTokens < 1 || r.MaxTokens > 100 || r.MaxSentences < 0 || r.MaxSentences > 100 || r.TopK < 0:
			t.Fatalf("%+v", r)
		case !(r.Temperature >= 0 && r.Temperature <= 2) || !(r.TopP > 0 && r.TopP <= 1) || math.IsNaN(r.Temperature):
			t.Fatalf("%+v", r)
		case len(c.stops) > maxStops || c.probs > 1 || c.probs >= 0 != r.LogProbs:
			t.Fatalf("%+v", c)
		}
		for _, s := range c.stops {
			if s == "" || len(s) > maxStopBytes {
				t.Fatalf("stop %q", s)
			}
		}
	})
}
