package checkpoints

import (
	"slices"
	"testing"
)

func TestSplitParts(t *testing.T) {
	for name, want := range map[string]struct {
		parts []string
		i     int
	}{
		"a-00001-of-00002.gguf":     {[]string{"a-00001-of-00002.gguf", "a-00002-of-00002.gguf"}, 0},
		"q/a-b-00002-of-00002.gguf": {[]string{"q/a-b-00001-of-00002.gguf", "q/a-b-00002-of-00002.gguf"}, 1},
		"-00001-of-00001.gguf":      {[]string{"-00001-of-00001.gguf"}, 0},
		"a-00003-of-00002.gguf":     {nil, 0},
		"a-00000-of-00002.gguf":     {nil, 0},
		"a-00001-of-99999.gguf":     {nil, 0},
		"a-00001-of-00002.gguf.bak": {nil, 0},
		"a-1-of-2.gguf":             {nil, 0},
		"a.gguf":                    {nil, 0},
	} {
		if parts, i := SplitParts(name); !slices.Equal(parts, want.parts) || i != want.i {
			t.Errorf("SplitParts(%s) = %q, %d, want %q, %d", name, parts, i, want.parts, want.i)
		}
	}
}
