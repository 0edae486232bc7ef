package data

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"strconv"
	"strings"
	"testing"
)

func TestParseLine(t *testing.T) {
	for _, c := range []struct {
		text, id, content string
		replaced          int
		bad               string // part of the error, "" for none
	}{
		{`{"id":"a","content":"b"}`, "a", "b", 0, ""},
		{" {\t\"content\" : \"b\" , \"id\" : \"a\" } \r", "a", "b", 0, ""},
		{`{"content":"b"}`, "", "b", 0, ""},
		{`{"id":null,"content":"b"}`, "", "b", 0, ""},
		{`{"id":-1.50e+3,"content":"b"}`, "-1.50e+3", "b", 0, ""},
		{`{"x":[1,{"content":"no"},[]],"y":{},"id":"a","content":"b","z":null,"t":true,"f":false}`, "a", "b", 0, ""},
		{`{"content":"first","content":"second"}`, "", "second", 0, ""},
		{`{"content":null,"content":"second"}`, "", "second", 0, ""},
		{`{"Content":"no","content":"b"}`, "", "b", 0, ""},
		{`{"content":"\"\\\/\b\f\n\r\t\u0041\u00e9\u20ac\u0000"}`, "", "\"\\/\b\f\n\r\tA\u00e9\u20ac\x00", 0, ""},
		{`{"content":"\ud83d\ude00"}`, "", "\U0001f600", 0, ""},
		{`{"content":"\ud83d x \ude00 \ud83d\ud83d\ude00"}`, "", "\ufffd x \ufffd \ufffd\U0001f600", 3, ""},
		{`{"content":"\ud83d"}`, "", "\ufffd", 1, ""},
		{"{\"content\":\"a\xff\xe4\xbd b\"}", "", "a\ufffd\ufffd\ufffd b", 3, ""},
		{"{\"content\":\"\u2028\u007f\"}", "", "\u2028\u007f", 0, ""},
		{`{"other":"\ud83d","content":"a"}`, "", "a", 0, ""},
		{`{"id":"a","content":5}`, "", "", 0, "content is not a string"},
		{`{"id":"a","content":["x"]}`, "", "", 0, "content is not a string"},
		{`{"id":"a","content":{"content":"x"}}`, "", "", 0, "content is not a string"},
		{`{"id":"a","content":null}`, "", "", 0, "content is null"},
		{`{"id":"a"}`, "", "", 0, "no content"},
		{`{}`, "", "", 0, "no content"},
		{`{"id":[]}`, "", "", 0, "no content"},
		{`{"id":true,"content":"b"}`, "", "", 0, "id is neither"},
		{`{"id":{},"content":"b"}`, "", "", 0, "id is neither"},
		{`{"id":"` + strings.Repeat("x", 5000) + `","content":"b"}`, "", "", 0, "id of 5000 bytes"},
		{``, "", "", 0, "line ends"},
		{`[]`, "", "", 0, "want an object"},
		{`{"content":"b"`, "", "", 0, "line ends"},
		{`{"content":"b`, "", "", 0, "string has no end"},
		{`{"content":"b\`, "", "", 0, "string has no end"},
		{`{"content":"b"} x`, "", "", 0, "byte 16: unexpected text"},
		{`{"content":"b",}`, "", "", 0, "want a key"},
		{`{"content" "b"}`, "", "", 0, "want ':'"},
		{`{"content":"b" "id":1}`, "", "", 0, "want ',' or '}'"},
		{`{"content":"\x"}`, "", "", 0, "unknown escape"},
		{`{"content":"\u12g4"}`, "", "", 0, "four hex digits"},
		{"{\"content\":\"a\nb\"}", "", "", 0, "control character 0x0a"},
		{`{"x":01,"content":"b"}`, "", "", 0, "want ','"},
		{`{"x":1.,"content":"b"}`, "", "", 0, "want a digit"},
		{`{"x":-,"content":"b"}`, "", "", 0, "want a digit"},
		{`{"x":nul,"content":"b"}`, "", "", 0, "want a value"},
		{`{"x":` + strings.Repeat("[", 1000) + strings.Repeat("]", 1000) + `,"content":"b"}`, "", "", 0, "nested more than"},
		{`{"x":` + strings.Repeat(`{"a":`, 100000), "", "", 0, "nested more than"},
	} {
		name := c.text[:min(len(c.text), 60)]
		l, err := parseLine([]byte(c.text))
		switch {
		case c.bad != "":
			if err == nil || !strings.Contains(err.Error(), c.bad) || strings.Contains(err.Error(), "\n") {
				t.Errorf("%s: error %v, want %q", name, err, c.bad)
			}
		case err != nil:
			t.Errorf("%s: %v", name, err)
		case l.id != c.id || string(l.content) != c.content || l.replaced != c.replaced:
			t.Errorf("%s: %+v (%q), want %q, %q, %d", name, l, l.content, c.id, c.content, c.replaced)
		}
	}
}

// FuzzJSONL: parseLine takes what encoding/json takes, and reads the same from it.
func FuzzJSONL(f *testing.F) {
	f.Add([]byte(`{"id": "edge13", "content": "Escaped emoji \ud83d\ude00 and a lone surrogate \ud83d here.", "x": [1.5e3, {"y": null}]}`))
	f.Add([]byte(`{"id": 606, "content": "The id of this line is a number"}`))
	f.Add([]byte("{\"content\":\"\xff\\u0000\"}"))
	f.Add([]byte(`{"content":"a","content":[[[]]]}`))
	f.Add([]byte(`{"content":"a"}"Content":[[[]]],`))
	f.Fuzz(func(t *testing.T, text []byte) {
		l, err := parseLine(text)
		var want map[string]any
		d := json.NewDecoder(bytes.NewReader(text))
		d.UseNumber()
		jsonErr := d.Decode(&want)
		if jsonErr == nil {
			if _, e := d.Token(); e != io.EOF {
				jsonErr = errors.New("text after the object")
			}
		}
		content, isText := want["content"].(string)
		if (jsonErr != nil || want == nil || !isText) && err == nil {
			t.Fatalf("parseLine took %q, encoding/json says %v", text, jsonErr)
		}
		if err != nil {
			ok := jsonErr != nil || want == nil || !isText || strings.Contains(err.Error(), "nested more") || strings.Contains(err.Error(), "id ")
			if !ok {
				t.Fatalf("parseLine refused %q: %v", text, err)
			}
			return
		}
		if string(l.content) != content {
			t.Fatalf("content %q, want %q", l.content, content)
		}
		if id, ok := want["id"].(string); ok && id != l.id {
			t.Fatalf("id %q, want %q", l.id, id)
		}
		if id, ok := want["id"].(json.Number); ok && string(id) != l.id {
			t.Fatalf("id %q, want %q", l.id, id)
		}
	})
}

func TestReadLine(t *testing.T) {
	for _, c := range []struct {
		text string
		want []string // "+" and a size for a line that is too long
	}{
		{"", nil},
		{"a", []string{"a"}},
		{"a\n", []string{"a"}},
		{"a\r\n\r\nb\r", []string{"a", "", "b"}},
		{"12345678\n123456789\n12345678", []string{"12345678", "+9", "12345678"}},
		{"123456789", []string{"+9"}},
		{strings.Repeat("x", 100) + "\nb\n" + strings.Repeat("y", 50), []string{"+100", "b", "+50"}},
	} {
		b := bufio.NewReaderSize(strings.NewReader(c.text), 16)
		var got []string
		for {
			text, over, err := readLine(b, 8)
			if over > 0 {
				got = append(got, "+"+strconv.Itoa(over))
			} else if err == nil || len(text) > 0 {
				got = append(got, string(text))
			}
			if err != nil {
				break
			}
		}
		if strings.Join(got, "|") != strings.Join(c.want, "|") {
			t.Errorf("%.20q: lines %q, want %q", c.text, got, c.want)
		}
	}
}

func must(b []byte, _ error) []byte { return b }

func BenchmarkParseLine(b *testing.B) {
	line := []byte(`{"id": "x", "content": ` + string(must(json.Marshal(strings.Repeat("It was a “line” of text.\n", 4000)))) + `}`)
	b.SetBytes(int64(len(line)))
	for b.Loop() {
		if _, err := parseLine(line); err != nil {
			b.Fatal(err)
		}
	}
}
