// Package segment cuts a document into sentences without losing a byte.
//
// The default segmenter is a Rule over tokens: it is told the tokens of a document one by one and says after each whether
// a sentence ends there. Nothing that follows is looked at, so that the rule itself places the ends in training, in
// evaluation and in generation, and no end mark has to be predicted or scored.
//
// Reference and ReferenceLossless cut text by characters as the code of the SentenceVAE paper does (An et al. 2024,
// arXiv:2408.00655).
package segment

import "fmt"

// Names of the segmenters a Config may ask for.
const (
	DefaultName   = "default"
	ReferenceName = "reference"
	LosslessName  = "reference-lossless"
)

// Limits of a sentence when a Config leaves them 0.
const (
	DefaultMin          = 6
	DefaultMax          = 32
	DefaultReferenceMax = 64
)

// maxTokens is the largest MaxTokens that Validate lets through.
const maxTokens = 4096

// Config chooses a segmenter and its limits. The zero value is the default segmenter with its default limits.
type Config struct {
	Name      string `json:"name" toml:"name"`             // "default", "reference" or "reference-lossless"
	MinTokens int    `json:"min_tokens" toml:"min_tokens"` // default segmenter only: no mark ends a shorter sentence; 0 = 6
	// MaxTokens ends a sentence by force; 0 = 32. The reference segmenters count the begin mark that the paper's code
	// puts before every sentence, and their 0 stands for 64: 63 tokens of text.
	MaxTokens    int `json:"max_tokens" toml:"max_tokens"`
	MaxSentences int `json:"max_sentences,omitempty" toml:"max_sentences"` // reference only: most sentences of a document; 0 = no limit
}

// Resolved returns c with every 0 replaced by what it stands for.
func (c Config) Resolved() Config {
	if c.Name == "" {
		c.Name = DefaultName
	}
	switch {
	case c.Name == DefaultName:
		if c.MinTokens == 0 {
			c.MinTokens = DefaultMin
		}
		if c.MaxTokens == 0 {
			c.MaxTokens = DefaultMax
		}
	case c.MaxTokens == 0:
		c.MaxTokens = DefaultReferenceMax
	}
	return c
}

// Validate says what is wrong with c, after its zeros are resolved.
func (c Config) Validate() error {
	c = c.Resolved()
	switch c.Name {
	case DefaultName:
		if c.MinTokens < 1 {
			return fmt.Errorf("segmenter: min tokens %d is below 1", c.MinTokens)
		}
		if c.MaxTokens < c.MinTokens {
			return fmt.Errorf("segmenter: max tokens %d is below min tokens %d", c.MaxTokens, c.MinTokens)
		}
		if c.MaxSentences != 0 {
			return fmt.Errorf("segmenter: max sentences is for segmenter %q only", ReferenceName)
		}
	case ReferenceName, LosslessName:
		if c.MinTokens != 0 {
			return fmt.Errorf("segmenter: min tokens is for segmenter %q only", DefaultName)
		}
		if c.MaxTokens < 2 {
			return fmt.Errorf("segmenter: max tokens %d leaves no room beside the begin mark", c.MaxTokens)
		}
		if c.MaxSentences < 0 || c.MaxSentences > 0 && c.Name != ReferenceName {
			return fmt.Errorf("segmenter: max sentences %d does not fit segmenter %q", c.MaxSentences, c.Name)
		}
	default:
		return fmt.Errorf("segmenter: unknown name %q (known: %s, %s, %s)", c.Name, DefaultName, ReferenceName, LosslessName)
	}
	if c.MaxTokens > maxTokens {
		return fmt.Errorf("segmenter: max tokens %d is above %d", c.MaxTokens, maxTokens)
	}
	return nil
}

// ruleVersion changes whenever Rule would cut any text elsewhere than before; referenceVersion likewise.
const (
	ruleVersion      = 1
	referenceVersion = 1
)

// Fingerprint names the cuts that c makes. Two configurations with the same fingerprint cut every text alike; shards
// store it so that a model is never fed sentences of another make.
func (c Config) Fingerprint() string {
	c = c.Resolved()
	switch c.Name {
	case DefaultName:
		return fmt.Sprintf("%s-v%d min=%d max=%d", c.Name, ruleVersion, c.MinTokens, c.MaxTokens)
	case ReferenceName:
		return fmt.Sprintf("%s-v%d max=%d sentences=%d", c.Name, referenceVersion, c.MaxTokens, c.MaxSentences)
	default:
		return fmt.Sprintf("%s-v%d max=%d", c.Name, referenceVersion, c.MaxTokens)
	}
}
