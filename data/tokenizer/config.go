package tokenizer

import (
	"encoding/json"
	"errors"
	"fmt"
	"sort"
	"strconv"
	"strings"
)

// config is what is read of tokenizer_config.json and special_tokens_map.json.
type config struct {
	class          string
	addPrefixSpace bool
	noPrefixSpace  bool  // add_prefix_space is false
	legacy         *bool // false: the dummy space is put at the start of a text only
	addBOS, addEOS *bool
	chat           string // Jinja template of a chat
	decoder        map[string]addedToken

	role  [3]*string // bos, eos, pad as named there; nil where not mentioned, "" for null
	from  [3]string  // which file named it
	unk   string     // the unknown token as named there
	guess [3]string  // names to use where role is nil
	opt   bool       // OPT's vocab.json
}

var roleNames = [3]string{"bos_token", "eos_token", "pad_token"}

func readConfig(files map[string][]byte) (*config, error) {
	c := new(config)
	for _, file := range []string{fileSpecial, fileConfig} { // the later one wins
		b, ok := files[file]
		if !ok {
			continue
		}
		var j map[string]json.RawMessage
		if err := unmarshal(file, b, &j); err != nil {
			return nil, err
		}
		for i, key := range roleNames {
			raw, ok := j[key]
			if !ok {
				continue
			}
			name, err := tokenName(raw)
			if err != nil {
				return nil, fmt.Errorf("%s: %s is neither a string nor an object with content", file, key)
			}
			c.role[i], c.from[i] = &name, file
		}
		if name, err := tokenName(j["unk_token"]); err == nil && name != "" {
			c.unk = name
		}
		if file != fileConfig {
			continue
		}
		if err := c.settings(j); err != nil {
			return nil, err
		}
	}
	if b, ok := files[fileChat]; ok {
		c.chat = string(b)
	}
	return c, nil
}

// settings reads what only tokenizer_config.json has.
func (c *config) settings(j map[string]json.RawMessage) error {
	var prefix *bool
	for _, field := range []struct {
		key string
		to  any
	}{
		{"tokenizer_class", &c.class}, {"add_prefix_space", &prefix}, {"added_tokens_decoder", &c.decoder}, {"legacy", &c.legacy},
		{"add_bos_token", &c.addBOS}, {"add_eos_token", &c.addEOS},
	} {
		if raw, ok := j[field.key]; ok {
			if err := unmarshal(fileConfig+": "+field.key, raw, field.to); err != nil {
				return err
			}
		}
	}
	if prefix != nil {
		c.addPrefixSpace, c.noPrefixSpace = *prefix, !*prefix
	}
	c.chat = chatTemplate(j["chat_template"])
	return nil
}

// chatTemplate reads a template, or the one called default of a list of them. A form that is not known gives none: nothing
// that is encoded depends on it.
func chatTemplate(raw json.RawMessage) string {
	var one string
	if json.Unmarshal(raw, &one) == nil {
		return one
	}
	var list []struct{ Name, Template string }
	if json.Unmarshal(raw, &list) == nil {
		for _, t := range list {
			if t.Name == "default" {
				return t.Template
			}
		}
	}
	return ""
}

// tokenName reads "text", {"content": "text"} or null.
func tokenName(raw json.RawMessage) (string, error) {
	var s *string
	if err := json.Unmarshal(raw, &s); err == nil {
		if s == nil {
			return "", nil
		}
		return *s, nil
	}
	var o struct {
		Content *string `json:"content"`
	}
	if err := json.Unmarshal(raw, &o); err != nil {
		return "", err
	}
	if o.Content == nil {
		return "", errors.New("no content")
	}
	return *o.Content, nil
}

// declare makes the tokens that the config names special, and checks that they exist.
func (c *config) declare(r *recipe) error {
	for i, name := range c.role {
		if name == nil || *name == "" {
			continue
		}
		found := false
		for k := range r.added {
			if r.added[k].Content == *name {
				r.added[k].Special = true
				found = true
			}
		}
		for k := 0; k < len(r.vocab) && !found; k++ {
			if r.vocab[k].text == *name {
				r.added = append(r.added, addedToken{ID: r.vocab[k].id, Content: *name, Special: true})
				found = true
			}
		}
		if !found {
			return fmt.Errorf("%s: %s %.40q is not in the vocabulary (add the token or set it to null)", c.from[i], roleNames[i], *name)
		}
	}
	return nil
}

// roles sets bos, eos and pad: as the config names them, else by well-known names of added tokens.
func (c *config) roles(t *Tokenizer, r *recipe) {
	ids := map[string]int32{"": -1}
	for _, a := range r.added {
		ids[a.Content] = a.ID
	}
	known := [3][]string{
		{c.guess[0], "<s>", "<|begin_of_text|>", "<bos>", "<|startoftext|>"},
		{c.guess[1], "</s>", "<|end_of_text|>", "<eos>", "<|endoftext|>"},
		{c.guess[2], "<pad>", "[PAD]", "<|pad|>", "<|finetune_right_pad_id|>"},
	}
	if r.split.name == patternGPT2.name {
		known[0] = append(known[0], "<|endoftext|>")
	}
	for i, to := range []*int32{&t.bos, &t.eos, &t.pad} {
		if c.role[i] != nil {
			*to = ids[*c.role[i]]
			continue
		}
		for _, name := range known[i] {
			if id, ok := ids[name]; ok && id >= 0 {
				*to = id
				break
			}
		}
	}
	c.ends(t, r, ids)
}

// ends sets whether BOS is put in front of a text and EOS behind it: as the config says, else as the post-processor of
// tokenizer.json does.
func (c *config) ends(t *Tokenizer, r *recipe, ids map[string]int32) {
	is := func(name string, id int32) bool { return name != "" && id >= 0 && ids[name] == id }
	t.addBOS, t.addEOS = is(r.first, t.bos) || c.opt, is(r.last, t.eos)
	if c.addBOS != nil {
		t.addBOS = *c.addBOS && t.bos >= 0
	}
	if c.addEOS != nil {
		t.addEOS = *c.addEOS && t.eos >= 0
	}
}

// family decides what a vocab.json is, from its special tokens and the class named in the config.
func (c *config) family(r *recipe, ids map[string]int32) error {
	special := func(names ...string) {
		for _, name := range names {
			if id, ok := ids[name]; ok {
				r.added = append(r.added, addedToken{ID: id, Content: name, Special: true})
			}
		}
	}
	if c.addPrefixSpace {
		r.dummy = dummyAlways
	}
	bos, ok1 := ids["<s>"]
	eos, ok2 := ids["</s>"]
	_, gpt2 := ids["<|endoftext|>"]
	switch class := strings.TrimSuffix(c.class, "Fast"); {
	case class == "Qwen2Tokenizer":
		r.split, r.nfc = patternQwen, true
		special("<|endoftext|>")
	case class != "" && class != "GPT2Tokenizer" && class != "RobertaTokenizer" && class != "OPTTokenizer" && class != "PreTrainedTokenizer":
		return fmt.Errorf("%s: how %q cuts text into words is not in %s (add its %s)", fileConfig, c.class, fileVocab, fileJSON)
	case ok1 && ok2 && bos == 0 && eos == 2:
		special("<s>", "<pad>", "</s>", "<unk>", "<mask>")
		c.guess, c.opt = [3]string{"</s>", "</s>", "<pad>"}, true
	case gpt2:
		special("<|endoftext|>")
		c.guess = [3]string{"<|endoftext|>", "<|endoftext|>", ""}
	default:
		return fmt.Errorf("%s: neither OPT's <s>=0 and </s>=2 nor GPT-2's <|endoftext|> is there, so how text is cut into words is unknown (add %s)",
			fileVocab, fileJSON)
	}
	return nil
}

// readAdded adds the tokens of added_tokens.json and of added_tokens_decoder in the config.
func (c *config) readAdded(r *recipe, b []byte) error {
	var plain map[string]int32
	if b != nil {
		if err := unmarshal(fileAdded, b, &plain); err != nil {
			return err
		}
	}
	known := map[int32]int{}
	for i, a := range r.added {
		known[a.ID] = i
	}
	var more []addedToken
	for key, a := range c.decoder {
		id, err := strconv.ParseInt(key, 10, 32)
		if err != nil {
			return fmt.Errorf("%s: added_tokens_decoder: %.40q is no id", fileConfig, key)
		}
		a.ID = int32(id)
		if i, ok := known[a.ID]; ok {
			r.added[i] = a
			continue
		}
		more = append(more, a)
	}
	for _, a := range more {
		known[a.ID] = -1
	}
	for content, id := range plain {
		if _, ok := known[id]; !ok {
			more = append(more, addedToken{ID: id, Content: content})
		}
	}
	sort.Slice(more, func(i, j int) bool {
		return more[i].ID < more[j].ID || more[i].ID == more[j].ID && more[i].Content < more[j].Content
	})
	r.added = append(r.added, more...)
	return nil
}
