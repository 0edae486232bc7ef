package data

import (
	"bytes"
	"regexp"
)

// maxParts is the largest number of documents that one text is cut into; the last one is what remains.
const maxParts = 1 << 20

var bom = []byte("\xef\xbb\xbf")

// plainText removes the byte order mark of a text file and turns its line ends into "\n".
func plainText(text []byte) []byte {
	return bytes.ReplaceAll(bytes.TrimPrefix(text, bom), []byte("\r\n"), []byte("\n"))
}

// splitText cuts text before each match of re. The parts joined are the text; a part without any text but spaces goes
// with the next one.
func splitText(text []byte, re *regexp.Regexp) [][]byte {
	if re == nil {
		return [][]byte{text}
	}
	var out [][]byte
	start := 0
	for _, m := range re.FindAllIndex(text, maxParts) {
		if len(bytes.TrimSpace(text[start:m[0]])) > 0 {
			out = append(out, text[start:m[0]])
			start = m[0]
		}
	}
	return append(out, text[start:])
}

// unwrap joins the hard line breaks of text: a single line break becomes a space, blank lines one line break. Spaces at
// the ends of lines are dropped with them.
func unwrap(text []byte) []byte {
	out := make([]byte, 0, len(text))
	blank := false
	for line := range bytes.SplitSeq(text, []byte("\n")) {
		line = bytes.Trim(line, " \t\r")
		if len(line) == 0 {
			blank = true
			continue
		}
		if len(out) > 0 {
			if blank {
				out = append(out, '\n')
			} else {
				out = append(out, ' ')
			}
		}
		out = append(out, line...)
		blank = false
	}
	return out
}
