package sllm

import (
	"fmt"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"
)

// ReferenceRun turns a training configuration of the SentenceVAE reference code, as [ReadYAML] reads it, into the TOML of
// a run with the preset "paper": svae train vae --config FILE, or svae train sllm. Data and the folder of the run are not
// in it. unused lists the keys, with their values, that have no counterpart in a run; the greatest length of a sentence is
// among them, since svae data build cuts (--max-tokens).
//
// A learning rate is base_lr times batch_size, as the reference computes it for each card; a batch holds as many tokens as
// batch_size samples of the greatest length.
func ReferenceRun(m map[string]any) (toml string, unused []string, err error) {
	r := &runReader{m: flatten("", m, map[string]any{}), top: map[string]string{"preset": `"paper"`}, model: map[string]string{}}
	svae, limit := "", "max_seq_len"
	if _, ok := m["llm"]; ok {
		svae, limit = "svae.", "max_sen_len"
	}
	r.top["stage"] = `"vae"`
	if svae != "" {
		r.top["stage"] = `"sllm"`
		r.llm()
	} else {
		r.text("ref_model_dir", "base")
	}
	if n, ok := r.whole(svae + "num_hidden_layers"); ok {
		r.model["encoder_layers"], r.model["decoder_layers"] = strconv.Itoa(n), strconv.Itoa(n)
	}
	batch, sized := r.whole("batch_size")
	r.batch(batch, sized, limit)
	if lr, ok := r.number("base_lr"); ok {
		r.top["lr"] = strconv.FormatFloat(lr*float64(max(batch, 1)), 'g', 6, 64)
	}
	r.set("max_iters", "steps")
	r.set("warmup_iters", "warmup")
	r.set("save_checkpoint_iters", "save_every")
	r.set("max_keep_ckpts", "keep")
	for key, usual := range map[string]any{"dtype": "fp32", "finetune_svae": true, svae + "learnable_add": false, svae + "load_ref_model": false,
		svae + "finetune_embedding": true, svae + "model_path": nil, svae + "ref_model_dtype": nil, "llm.ref_model_dtype": nil} {
		if v, ok := r.m[key]; ok && v == usual { // what the preset does anyway
			delete(r.m, key)
		}
	}
	if r.err != nil {
		return "", nil, r.err
	}
	for _, key := range slices.Sorted(maps.Keys(r.m)) {
		unused = append(unused, fmt.Sprintf("%s = %v", key, r.m[key]))
	}
	return r.toml(), unused, nil
}

// flatten puts nested values under their dotted paths.
func flatten(prefix string, m, to map[string]any) map[string]any {
	for k, v := range m {
		if sub, ok := v.(map[string]any); ok {
			flatten(prefix+k+".", sub, to)
		} else {
			to[prefix+k] = v
		}
	}
	return to
}

// A runReader takes keys away as they are used, and keeps the first error.
type runReader struct {
	m          map[string]any
	top, model map[string]string // of the TOML
	err        error
}

// take removes a key that is there and is not null.
func (r *runReader) take(key string) (any, bool) {
	v, ok := r.m[key]
	if ok && v != nil {
		delete(r.m, key)
	}
	return v, ok && v != nil
}

func (r *runReader) fail(key string, v any, want string) {
	if r.err == nil {
		r.err = fmt.Errorf("%s is %v, want %s", key, v, want)
	}
}

func (r *runReader) whole(key string) (int, bool) {
	v, ok := r.take(key)
	if !ok {
		return 0, false
	}
	n, isInt := v.(int)
	if !isInt || n < 1 || n > 1<<30 {
		r.fail(key, v, "a whole number above 0")
		return 0, false
	}
	return n, true
}

func (r *runReader) number(key string) (float64, bool) {
	v, ok := r.take(key)
	if !ok {
		return 0, false
	}
	switch n := v.(type) {
	case int:
		return float64(n), true
	case float64:
		return n, true
	case string: // YAML 1.1 takes 1e-6 for a text
		if f, err := strconv.ParseFloat(n, 64); err == nil {
			return f, true
		}
	}
	r.fail(key, v, "a number")
	return 0, false
}

// set copies a whole number.
func (r *runReader) set(key, own string) {
	if n, ok := r.whole(key); ok {
		r.top[own] = strconv.Itoa(n)
	}
}

// text copies a text.
func (r *runReader) text(key, own string) {
	v, ok := r.take(key)
	if !ok {
		return
	}
	s, isText := v.(string)
	if !isText {
		r.fail(key, v, "a path")
		return
	}
	r.top[own] = quote(s)
}

// llm reads what only a sentence-level model has.
func (r *runReader) llm() {
	if samePath(r.m["svae.ref_model_dir"], r.m["llm.ref_model_dir"]) { // tokenizer and sizes
		delete(r.m, "svae.ref_model_dir")
	}
	r.text("llm.ref_model_dir", "base")
	r.text("svae.model_path", "vae")
	switch v := r.m["llm.finetune_layers"]; v {
	case -1, 0:
		r.top["base_lr"] = map[any]string{-1: "1.0", 0: "0.0"}[v]
		delete(r.m, "llm.finetune_layers")
	}
}

// samePath says that two values are one path.
func samePath(a, b any) bool {
	s, okA := a.(string)
	t, okB := b.(string)
	return okA && okB && path.Clean(s) == path.Clean(t)
}

// batch turns samples into tokens.
func (r *runReader) batch(samples int, sized bool, limit string) {
	tokens, ok := r.whole(limit)
	if !sized || !ok {
		return
	}
	sentences := 1
	if n, ok := r.whole("max_sen_num"); ok {
		sentences = n
		r.top["sentences"] = strconv.Itoa(n)
	}
	r.m[limit] = tokens // where sentences are cut is the data's matter too
	r.top["batch_tokens"] = strconv.Itoa(min(samples*min(tokens, 1<<12)*min(sentences, 1<<12), 1<<24))
}

func quote(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, c := range s {
		switch {
		case c == '"' || c == '\\':
			b.WriteByte('\\')
			b.WriteRune(c)
		case c < ' ' || c == 0x7f:
			fmt.Fprintf(&b, `\u%04X`, c)
		default:
			b.WriteRune(c)
		}
	}
	return b.String() + `"`
}

// toml writes what was gathered, keys in order.
func (r *runReader) toml() string {
	var b strings.Builder
	for _, k := range slices.Sorted(maps.Keys(r.top)) {
		fmt.Fprintf(&b, "%s = %s\n", k, r.top[k])
	}
	if len(r.model) > 0 {
		b.WriteString("\n[model]\n")
	}
	for _, k := range slices.Sorted(maps.Keys(r.model)) {
		fmt.Fprintf(&b, "%s = %s\n", k, r.model[k])
	}
	return b.String()
}
