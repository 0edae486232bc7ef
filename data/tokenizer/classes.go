package tokenizer

import (
	"sync"
	"unicode"
	"unicode/utf8"
)

// class is what the patterns tell characters apart by.
type class uint8

const (
	other  class = iota // [^\s\p{L}\p{N}], and bytes that are not UTF-8
	letter              // \p{L}
	number              // \p{N}
	space               // \s, Unicode's White_Space
)

// Letters and numbers of Unicode 15.1 and 16.0, which the tables of Go 1.26 (15.0) lack and the Hugging Face library has.
var newLetters = []unicode.Range32{
	{Lo: 0x1C89, Hi: 0x1C8A, Stride: 1},
	{Lo: 0xA7CB, Hi: 0xA7CD, Stride: 1},
	{Lo: 0xA7DA, Hi: 0xA7DC, Stride: 1},
	{Lo: 0x105C0, Hi: 0x105F3, Stride: 1}, // Todhri
	{Lo: 0x10D4A, Hi: 0x10D65, Stride: 1}, // Garay
	{Lo: 0x10D6F, Hi: 0x10D85, Stride: 1},
	{Lo: 0x10EC2, Hi: 0x10EC4, Stride: 1},
	{Lo: 0x11380, Hi: 0x11389, Stride: 1}, // Tulu-Tigalari
	{Lo: 0x1138B, Hi: 0x1138B, Stride: 1},
	{Lo: 0x1138E, Hi: 0x1138E, Stride: 1},
	{Lo: 0x11390, Hi: 0x113B5, Stride: 1},
	{Lo: 0x113B7, Hi: 0x113B7, Stride: 1},
	{Lo: 0x113D1, Hi: 0x113D1, Stride: 1},
	{Lo: 0x113D3, Hi: 0x113D3, Stride: 1},
	{Lo: 0x11BC0, Hi: 0x11BE0, Stride: 1}, // Sunuwar
	{Lo: 0x13460, Hi: 0x143FA, Stride: 1}, // Egyptian Hieroglyphs Extended-A
	{Lo: 0x16100, Hi: 0x1611D, Stride: 1}, // Gurung Khema
	{Lo: 0x16D40, Hi: 0x16D6C, Stride: 1}, // Kirat Rai
	{Lo: 0x18CFF, Hi: 0x18CFF, Stride: 1},
	{Lo: 0x1E5D0, Hi: 0x1E5ED, Stride: 1}, // Ol Onal
	{Lo: 0x1E5F0, Hi: 0x1E5F0, Stride: 1},
	{Lo: 0x2EBF0, Hi: 0x2EE5D, Stride: 1}, // CJK Extension I
}

var newNumbers = []unicode.Range32{
	{Lo: 0x10D40, Hi: 0x10D49, Stride: 1},
	{Lo: 0x116D0, Hi: 0x116E3, Stride: 1},
	{Lo: 0x11BF0, Hi: 0x11BF9, Stride: 1},
	{Lo: 0x16130, Hi: 0x16139, Stride: 1},
	{Lo: 0x16D70, Hi: 0x16D79, Stride: 1},
	{Lo: 0x1CCF0, Hi: 0x1CCF9, Stride: 1},
	{Lo: 0x1E5F1, Hi: 0x1E5FA, Stride: 1},
}

// classes returns the class of every character below 0x40000; there are no letters, numbers or spaces above.
var classes = sync.OnceValue(func() *[0x40000]class {
	t := new([0x40000]class)
	fill := func(lo, hi, stride uint32, c class) {
		for r := lo; r <= hi && r < uint32(len(t)); r += stride {
			t[r] = c
		}
	}
	for _, g := range []struct {
		tab   *unicode.RangeTable
		extra []unicode.Range32
		c     class
	}{{unicode.L, newLetters, letter}, {unicode.N, newNumbers, number}, {unicode.White_Space, nil, space}} {
		for _, r := range g.tab.R16 {
			fill(uint32(r.Lo), uint32(r.Hi), uint32(r.Stride), g.c)
		}
		for _, r := range g.tab.R32 {
			fill(r.Lo, r.Hi, r.Stride, g.c)
		}
		for _, r := range g.extra {
			fill(r.Lo, r.Hi, r.Stride, g.c)
		}
	}
	return t
})

// digitClasses is classes with the numbers of Unicode 17, which Digits of the Hugging Face library knows and its expressions do
// not.
var digitClasses = sync.OnceValue(func() *[0x40000]class {
	t := *classes()
	for _, r := range []unicode.Range32{{Lo: 0x11DE0, Hi: 0x11DE9}, {Lo: 0x16FF4, Hi: 0x16FF6}} {
		for c := r.Lo; c <= r.Hi; c++ {
			t[c] = number
		}
	}
	return &t
})

// classAt returns the class and the length in bytes of the character at s[i].
func classAt(tab *[0x40000]class, s []byte, i int) (class, int) {
	if c := s[i]; c < utf8.RuneSelf {
		return tab[c], 1
	}
	r, n := utf8.DecodeRune(s[i:])
	if n == 1 || int(r) >= len(tab) {
		return other, n // n is 1 for an invalid byte
	}
	return tab[r], n
}
