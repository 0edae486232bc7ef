package serve

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/openai/openai-go"
	"github.com/openai/openai-go/option"
)

// TestClient has OpenAI's own client read what is hard to read: signs of life, and an error in the middle.
func TestClient(t *testing.T) {
	m := &fake{name: "m", pieces: words("One", " two", ".", " Three"), each: func(_ context.Context, i int) error {
		time.Sleep(30 * time.Millisecond)
		return nil
	}}
	s := start(t, Config{Beat: 5 * time.Millisecond}, m)
	client := openai.NewClient(option.WithBaseURL(s.url+"/v1"), option.WithAPIKey("none"), option.WithMaxRetries(0))
	stream := func() (string, error) {
		st := client.Completions.NewStreaming(t.Context(), openai.CompletionNewParams{Model: "m", Prompt: openai.CompletionNewParamsPromptUnion{OfString: openai.String("p")}})
		defer st.Close()
		var text strings.Builder
		for st.Next() {
			text.WriteString(st.Current().Choices[0].Text)
		}
		return text.String(), st.Err()
	}
	if got, err := stream(); err != nil || got != "One two. Three" {
		t.Fatalf("%q, %v", got, err)
	}
	m.each = func(_ context.Context, i int) error {
		if i == 2 {
			return errors.New("disk on fire")
		}
		return nil
	}
	if got, err := stream(); err == nil || !strings.Contains(err.Error(), "the model failed") || got != "One two" {
		t.Fatalf("%q, %v", got, err)
	}
}
