package sllm

import (
	"fmt"
	"path/filepath"
	"strings"

	"svae/checkpoints"
	"svae/vae"
)

// ReferenceOptions say of a reference file what it does not say itself.
type ReferenceOptions struct {
	Heads int // of attention; 0: OPT's of that hidden size

	normFirst bool // the autoencoder's blocks have their norms before the maps; the reference's never do
	postNorm  bool // the base's layers have their norms behind the sums; without it only OPT-350M's do
}

// The base models of the released files, by their hidden size.
var referenceBases = map[int]struct{ heads, layers int }{768: {12, 12}, 1024: {16, 24}, 2048: {32, 24}, 2560: {32, 32}}

// referencePost says that a base of that size is OPT-350M, the only one whose layers have their norms behind the sums.
func referencePost(hidden, layers int) bool { return hidden == 1024 && layers == 24 }

// ReferenceHeads returns what [ReferenceOptions] must say to read f from a file of the reference: its attention heads, or 0
// where they are those that its hidden size stands for.
func ReferenceHeads(f *Folder) int {
	v := f.SVAEConfig()
	if v == nil || v.Arch.NumHeads == referenceBases[v.Arch.HiddenSize].heads {
		return 0
	}
	return v.Arch.NumHeads
}

// IsReference reports whether the tensors are those of the SentenceVAE reference code: an autoencoder or a sentence-level
// model.
func IsReference(src *checkpoints.Weights) bool {
	prefix := referencePrefix(src)
	_, enc := src.Get(prefix + "encoder.lnorm.weight")
	_, dec := src.Get(prefix + "decoder.linear.weight")
	return enc && dec
}

// referencePrefix begins the names of the autoencoder's tensors.
func referencePrefix(src *checkpoints.Weights) string {
	if _, ok := src.Get("svae.encoder.lnorm.weight"); ok {
		return "svae."
	}
	return ""
}

// ReadReference reads a file of the SentenceVAE reference code: the config that follows from its tensors, the tokenizer
// files beside it, and every weight by our name. The state dict may stand alone or in a training checkpoint, whose raw
// weights and optimizer are passed over.
//
// Sizes, layer counts and the kind come from the shapes; heads, and where norms stand, from the sizes of OPT or from o. A
// sentence-level model has no final norm, and is marked as trained with bidirectional attention ([Folder.Warnings]).
func ReadReference(src *checkpoints.Weights, o ReferenceOptions) (*Folder, map[string]*checkpoints.Tensor, error) {
	path := src.Files()[0]
	f := &Folder{Path: filepath.Dir(path), Segmenter: []byte(`{"name": "reference-lossless", "max_tokens": 64}`)}
	r := referenceFile{src: src, prefix: referencePrefix(src)}
	err := r.config(f, o)
	if err == nil {
		err = r.err
	}
	if err == nil {
		err = f.SVAEConfig().Validate()
	}
	if err == nil && f.Kind == KindSLLM {
		err = f.SLLM.Validate()
	}
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", path, err)
	}
	tensors, err := find(f.Weights(), f.referenceLayout(), src, passOver, "the tensors are not those of a SentenceVAE")
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", path, err)
	}
	if f.Files, err = readSide(f.Path); err != nil {
		return nil, nil, err
	}
	f.Raw, err = f.Config()
	return f, tensors, err
}

// isTrainingState says that a tensor of a training checkpoint is not the model's: raw weights beside the averaged ones that
// the reference validates and publishes, moments of the optimizer, logs.
func isTrainingState(name string) bool {
	for _, prefix := range []string{"ema_state_dict.", "optimizer.", "param_schedulers.", "message_hub."} {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return false
}

// passOver is the rule for what may be left over in a file of the reference.
func passOver(name string, _ map[string]*checkpoints.Tensor) error {
	if isTrainingState(name) {
		return nil
	}
	return errUnexpected
}

// A referenceFile reads sizes from the shapes of tensors; the first that is missing or odd is kept.
type referenceFile struct {
	src    *checkpoints.Weights
	prefix string
	err    error
}

// shape returns the shape of a tensor, which must have so many dimensions.
func (r *referenceFile) shape(name string, dims int) []int {
	t, ok := r.src.Get(name)
	switch {
	case r.err != nil:
	case !ok:
		r.err = fmt.Errorf("%w: no tensor %s, so not a file of the SentenceVAE reference code", vae.ErrUnknown, name)
	case len(t.Shape) != dims:
		r.err = fmt.Errorf("%s is %v, want %d dimensions", name, t.Shape, dims)
	default:
		return t.Shape
	}
	return make([]int, dims)
}

// count returns how many layers have a tensor; format holds their number.
func (r *referenceFile) count(format string) int {
	for n := 0; ; n++ {
		if _, ok := r.src.Get(fmt.Sprintf(format, n)); !ok {
			return n
		}
	}
}

// config infers the architecture.
func (r *referenceFile) config(f *Folder, o ReferenceOptions) error {
	p := r.prefix
	table := r.shape(p+"encoder.embed_token.weight", 2)
	h := r.shape(p+"encoder.lnorm.weight", 1)[0]
	f.Kind = KindVAE
	llm := r.count("llm_layers.%d.fc1.weight")
	if llm > 0 {
		f.Kind = KindSLLM
	}
	known := referenceBases[h]
	if o.Heads == 0 {
		o.Heads = known.heads
	}
	switch {
	case r.err != nil:
		return r.err
	case o.Heads == 0:
		return fmt.Errorf("hidden size %d is none of OPT's, so the number of attention heads is not known (--heads N)", h)
	case o.Heads < 0 || o.Heads > h || h%o.Heads != 0:
		return fmt.Errorf("%d heads do not divide the hidden size %d", o.Heads, h)
	}
	no := false
	base := vae.Arch{ModelType: "opt", HiddenSize: h, NumLayers: max(llm, known.layers, 1), NumHeads: o.Heads, NumKVHeads: o.Heads, HeadDim: h / o.Heads,
		VocabSize: table[0], Positions: 2048, Tied: true, BOS: 2, EOS: 2, PAD: 1, Dropout: 0.1, FFNDim: 4 * h, EmbedDim: table[1], Act: "relu"}
	if o.postNorm || referencePost(h, llm) {
		base.PreNorm = &no
	}
	v := vae.Paper(base)
	v.Arch.EmbedDim = table[1]
	v.Arch.FFNDim = r.shape(p+"encoder.encoder.layers.0.linear1.weight", 2)[0]
	v.EncoderLayers, v.DecoderLayers = r.count(p+"encoder.encoder.layers.%d.linear1.weight"), r.count(p+"decoder.decoder.layers.%d.linear1.weight")
	_, v.LearnableAdd = r.src.Get(p + "encoder.la.weight")
	if o.normFirst {
		v.Arch.PreNorm, v.Arch.NoFinalNorm = nil, true
	}
	if f.Kind == KindVAE {
		f.SVAE = v
		return nil
	}
	base.FFNDim = r.shape("llm_layers.0.fc1.weight", 2)[0]
	base.Positions = r.shape("llm_pe.weight", 2)[0] - 2
	base.NumLayers, base.NoFinalNorm = llm, true
	v.Arch.NumLayers = llm
	f.SLLM = Config{Base: base, VAE: v, LatentScale: 1, Direct: true, Attention: BidirectionalTrained}
	return nil
}

// referenceLayout returns how the reference names and stacks the weights.
func (f *Folder) referenceLayout() []Stored {
	l := referenceNames{}
	v := f.SVAEConfig()
	if f.Kind == KindSLLM {
		l.prefix = "svae."
	}
	l.half("encoder", v.EncoderLayers, v)
	if v.LearnableAdd {
		l.pair(l.prefix+"encoder.la", "encoder.la")
	}
	l.pair(l.prefix+"encoder.lnorm", "encoder.norm")
	l.half("decoder", v.DecoderLayers, v)
	l.pair(l.prefix+"decoder.linear", "decoder.lm_head")
	if f.Kind == KindVAE {
		return l.st
	}
	l.add("llm_pe.weight", "model.decoder.embed_positions.weight")
	for i := range f.SLLM.Base.NumLayers {
		for _, name := range []string{"self_attn.k_proj", "self_attn.v_proj", "self_attn.q_proj", "self_attn.out_proj", "self_attn_layer_norm",
			"fc1", "fc2", "final_layer_norm"} {
			l.pair(fmt.Sprintf("llm_layers.%d.%s", i, name), f.SLLM.Base.LayerPrefix(i)+name)
		}
	}
	l.pair("fc", "stop_head")
	return l.st
}

// referenceNames gathers a layout.
type referenceNames struct {
	prefix string
	st     []Stored
}

func (l *referenceNames) add(name string, parts ...string) {
	l.st = append(l.st, Stored{Name: name, Parts: parts})
}

// pair adds a weight and a bias.
func (l *referenceNames) pair(name, own string) {
	l.add(name+".weight", own+".weight")
	l.add(name+".bias", own+".bias")
}

// half adds the embeddings and the layers of the encoder or the decoder.
func (l *referenceNames) half(half string, layers int, v *vae.Config) {
	l.add(l.prefix+half+".embed_token.weight", half+".embed_tokens.weight")
	if v.Arch.EmbedSize() != v.Arch.HiddenSize {
		l.add(l.prefix+half+".project_in.weight", half+".project_in.weight")
	}
	for i := range layers {
		name, own := fmt.Sprintf("%s%s.%s.layers.%d.", l.prefix, half, half, i), fmt.Sprintf("%s.layers.%d.", half, i)
		norms := []string{"self_attn_layer_norm", "final_layer_norm"}
		l.attention(name+"self_attn.", own+"self_attn.")
		if half == "decoder" {
			l.attention(name+"multihead_attn.", own+"cross_attn.")
			norms = []string{"self_attn_layer_norm", "cross_attn_layer_norm", "final_layer_norm"}
		}
		l.pair(name+"linear1", own+"fc1")
		l.pair(name+"linear2", own+"fc2")
		for j, n := range norms {
			l.pair(fmt.Sprintf("%snorm%d", name, j+1), own+n)
		}
	}
}

// attention adds a torch.nn.MultiheadAttention, which stacks the maps of queries, keys and values.
func (l *referenceNames) attention(name, own string) {
	for _, part := range []string{"weight", "bias"} {
		l.add(name+"in_proj_"+part, own+"q_proj."+part, own+"k_proj."+part, own+"v_proj."+part)
	}
	l.pair(name+"out_proj", own+"out_proj")
}

// WriteReference makes the tensors of a file that the SentenceVAE reference code loads, in float32: the state_dict of its
// checkpoints. The error lists everything of the model that the format cannot hold.
func WriteReference(f *Folder, tensors map[string]*checkpoints.Tensor) ([]checkpoints.Named, error) {
	if bad := f.unheld(); len(bad) > 0 {
		return nil, fmt.Errorf("the reference's format cannot hold %s (train with --preset paper for an autoencoder that it can)", strings.Join(bad, ", "))
	}
	ns := Arrange(f.referenceLayout(), tensors)
	for i := range ns {
		ns[i] = ns[i].As(checkpoints.F32)
	}
	return ns, nil
}

// unheld names what the reference's format has no place for.
func (f *Folder) unheld() (bad []string) {
	if f.Kind == KindLM {
		return []string{"a token-level model"}
	}
	add := func(is bool, what string) {
		if is {
			bad = append(bad, what)
		}
	}
	v := f.SVAEConfig()
	a := &v.Arch
	no := func(b *bool) bool { return b != nil && !*b }
	add(a.ModelType != "opt" || !a.Sinusoid || a.Act != "relu" && a.Act != "" || no(a.EnableBias) || no(a.NormAffine),
		"autoencoder blocks other than the paper's")
	add(!no(a.PreNorm), "autoencoder blocks whose norms stand before their maps")
	add(a.FFNSize() != 2*a.HiddenSize, fmt.Sprintf("a feed-forward size of %d (its own is %d)", a.FFNSize(), 2*a.HiddenSize))
	add(!v.Single(), "more than one latent a sentence")
	add(v.Context > 0, "tokens before the sentence as context of the decoder")
	add(!v.EndMark, "sentences that end without an end mark")
	add(!v.EncoderBOS, "an encoder whose sentences begin without a begin mark")
	add(!v.UntiedHead, "a head that is the embedding table")
	add(!v.CrossQK, "a cross-attention without query and key maps")
	if f.Kind == KindVAE {
		return bad
	}
	b := &f.SLLM.Base
	add(b.ModelType != "opt" || b.Act != "relu" && b.Act != "" || no(b.EnableBias) || no(b.NormAffine) || b.Sinusoid,
		"layers of a base other than OPT")
	switch post := referencePost(b.HiddenSize, b.NumLayers); {
	case no(b.PreNorm) != post && post:
		add(true, "a base of the size of OPT-350M whose norms stand before its maps")
	case no(b.PreNorm) != post:
		add(true, "a base whose norms stand behind its sums, other than OPT-350M")
	}
	add(!b.NoFinalNorm && !no(b.PreNorm), "the base's final norm")
	add(b.NumHeads != a.NumHeads, "attention heads of the base other than the autoencoder's")
	add(f.SLLM.Null, "plans that are all the start-of-document's")
	add(!f.SLLM.Direct, "a start-of-document latent and maps between latents and the base's layers")
	return bad
}

// SVAEConfig returns the autoencoder of a folder that has one, else nil.
func (f *Folder) SVAEConfig() *vae.Config {
	switch f.Kind {
	case KindVAE:
		return &f.SVAE
	case KindSLLM:
		return &f.SLLM.VAE
	}
	return nil
}

// Warnings lists what whoever uses the model should know, each a sentence.
func (f *Folder) Warnings() []string {
	var ws []string
	if a := f.Arch(); f.Kind != KindVAE && a.Windowed() {
		ws = append(ws, fmt.Sprintf("the model is used within its sliding window of %d positions: it does not continue longer texts", a.Positions))
	}
	if f.Kind == KindSLLM && f.SLLM.Attention == BidirectionalTrained {
		ws = append(ws, "the model was trained with bidirectional attention, in which each sentence saw the one that it had to predict; "+
			"here sentences see only those before them, so that its published scores do not hold")
	}
	if f.Kind == KindSLLM && f.SLLM.Direct {
		ws = append(ws, "the model never learned to write a first sentence: give it a prompt of at least one")
	}
	return ws
}
