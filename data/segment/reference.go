package segment

import "unicode/utf8"

// referencePairs and referenceMarks are the character pairs and characters after which the paper's code cuts
// (An et al. 2024, and their data collator): punctuation of Chinese and English, both kinds of quotes, line breaks.
var referencePairs = map[[2]rune]bool{
	{'…', '…'}: true,
	{'，', '”'}: true, {'”', '，'}: true,
	{'。', '”'}: true, {'”', '。'}: true,
	{'!', '”'}: true, {'”', '！'}: true, // the first is an ASCII mark in the paper's code
	{'？', '”'}: true, {'”', '？'}: true,
	{',', '"'}: true, {'"', ','}: true,
	{'.', '"'}: true, {'"', '.'}: true,
	{'!', '"'}: true, {'"', '!'}: true,
	{'?', '"'}: true, {'"', '?'}: true,
}

func referenceMark(r rune) bool {
	switch r {
	case '，', '。', '”', '！', '？', '；', '：', ',', '.', '!', '?', ';', ':', '"', '\n', '\r':
		return true
	}
	return false
}

// referenceCut returns the length in bytes of the sentence at the start of text, with the spaces and line breaks that
// follow it, or 0 if nothing in text ends one.
func referenceCut(text string) int {
	for p := 0; p < len(text); {
		r, n := utf8.DecodeRuneInString(text[p:])
		p += n
		s, m := utf8.DecodeRuneInString(text[p:])
		switch {
		case referencePairs[[2]rune{r, s}]:
			p += m
		case !referenceMark(r):
			continue
		}
		for p < len(text) && (text[p] == ' ' || text[p] == '\n' || text[p] == '\r') {
			p++
		}
		return p
	}
	return 0
}

// Reference cuts text as the code of the SentenceVAE paper does, over code points: at every comma, stop, quote or line
// break, the spaces behind going to the sentence just closed. What follows the last mark is dropped, and everything
// after maxSentences sentences (0 = no limit), as the paper's code drops it.
func Reference(text string, maxSentences int) []string {
	var out []string
	for maxSentences <= 0 || len(out) < maxSentences {
		n := referenceCut(text)
		if n == 0 {
			break
		}
		out = append(out, text[:n])
		text = text[n:]
	}
	return out
}

// ReferenceLossless makes the cuts of Reference and keeps what follows the last one as a sentence of its own. The
// sentences joined are the text, whatever its bytes.
func ReferenceLossless(text string) []string {
	out := Reference(text, 0)
	n := 0
	for _, s := range out {
		n += len(s)
	}
	if n < len(text) {
		out = append(out, text[n:])
	}
	return out
}
