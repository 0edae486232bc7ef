package tokenizer

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// scores returns scores under which SentencePiece's algorithm merges as r does: that of a token is the lower, the later it is
// merged. It fails where no scores can: when a token is made at two places of the list, or not from all the pairs that make it up.
// Runs of one character, whose merges may be mixed, get one score if that changes nothing.
func (r *recipe) scores(names []string, types []int32) ([]float32, error) {
	ids := make(map[string]int32, len(names))
	for id, text := range names {
		if types[id] == pieceNormal {
			ids[text] = int32(id)
		}
	}
	tied := r.tiedRuns(ids)
	out := make([]float32, len(names))
	made := make(map[int32]int, len(ids)) // token -> its pairs
	done := make(map[string]bool, len(ids))
	last, rank := "", 0
	for i, m := range r.merges {
		text := m[0] + m[1]
		id, ok := ids[text]
		if !ok {
			continue // a special token, which text does not become
		}
		group := text
		if c, ok := runOf(text); ok && tied[c] {
			group = string(c) // no token of one character is merged
		}
		if group != last {
			if done[group] {
				return nil, fmt.Errorf("write the tokenizer as GGUF: merge %d makes %.40q, as an earlier one does with others between: scores cannot say that",
					i, text)
			}
			rank++
		}
		last, done[group] = group, true
		made[id]++
		out[id] = -float32(rank)
	}
	for text, id := range ids {
		if utf8.RuneCountInString(text) < 2 || len(text) > maxPiece && made[id] == 0 {
			continue
		}
		pairs := 0
		for k := range text {
			if k == 0 {
				continue
			}
			_, ok1 := ids[text[:k]]
			_, ok2 := ids[text[k:]]
			if ok1 && ok2 {
				pairs++
			}
		}
		if pairs != made[id] {
			return nil, fmt.Errorf("write the tokenizer as GGUF: %.40q can be made of %d pairs of tokens, but has %d merges: scores cannot say that",
				text, pairs, made[id])
		}
	}
	return out, nil
}

// runOf tells whether text is at least two times the same character, and which.
func runOf(text string) (c rune, ok bool) {
	c, size := utf8.DecodeRuneInString(text)
	return c, len(text) > size && strings.Trim(text, string(c)) == ""
}

// tiedRuns returns the characters whose runs are merged in turns and may have one score: their merges stand together in the list,
// no other token holds two of the character, and merging from left to right comes to the same.
func (r *recipe) tiedRuns(ids map[string]int32) map[rune]bool {
	type runs struct {
		first, last, count, longest int
		made                        int // length of the newest run
		seen                        map[int]bool
		mixed                       bool           // a run is made at two places
		rank                        map[[2]int]int // lengths of the two parts -> place
	}
	all := map[rune]*runs{}
	for i, m := range r.merges {
		c, ok := runOf(m[0] + m[1])
		if _, known := ids[m[0]+m[1]]; !ok || !known {
			continue
		}
		g := all[c]
		if g == nil {
			g = &runs{first: i, rank: map[[2]int]int{}, seen: map[int]bool{}}
			all[c] = g
		}
		a, b := utf8.RuneCountInString(m[0]), utf8.RuneCountInString(m[1])
		g.mixed = g.mixed || a+b != g.made && g.seen[a+b]
		g.made, g.seen[a+b] = a+b, true
		g.last, g.longest = i, max(g.longest, a+b)
		g.count++
		g.rank[[2]int{a, b}] = i
	}
	tied := map[rune]bool{}
	for c, g := range all {
		if !g.mixed || g.last-g.first+1 != g.count || g.longest > maxRun || len(tied) == maxTied {
			continue
		}
		ok := true
		for n := 2; n <= 4*g.longest && ok; n++ {
			ok = sameRun(n, func(a, b int) (int, bool) { i, ok := g.rank[[2]int{a, b}]; return i, ok })
		}
		tied[c] = ok
	}
	for text := range ids {
		for c := range tied {
			if d, run := runOf(text); !(run && d == c) && strings.Contains(text, string(c)+string(c)) {
				tied[c] = false
			}
		}
	}
	return tied
}
