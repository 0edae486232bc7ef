package train

import (
	"encoding/json"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"gorgonia.org/gorgonia"

	"svae/checkpoints"
	"svae/data"
	"svae/data/segment"
	"svae/data/tokenizer"
	"svae/kernels"
	"svae/kernels/op"
	"svae/sllm"
	"svae/vae"
)

// newFolder returns the model of a run before its first step: architecture, tokenizer files and weights.
func newFolder(c *Config, be kernels.Backend, meta *data.Meta) (*sllm.Folder, error) {
	f := &sllm.Folder{Kind: sllm.Kind(c.Stage)}
	if c.Stage == VAE {
		f.Kind = sllm.KindVAE
	}
	var base *sllm.Folder
	var err error
	if c.Base != "" {
		if base, err = sllm.ReadConfig(c.Base); err == nil {
			err = base.Wide()
		}
		if err != nil {
			return nil, err
		}
		if base.Kind != sllm.KindLM {
			return nil, fmt.Errorf("%s: is of kind %s, want a token-level model as the base", c.Base, base.Kind)
		}
		f.Files, f.Raw = base.Files, base.Raw
	}
	tok, err := tokenizer.Load(c.tokenizerDir(base))
	if err != nil {
		return nil, err
	}
	if base == nil {
		f.Files = tok.Files()
	}
	if got := tok.Fingerprint(); got != meta.TokenizerFingerprint {
		return nil, fmt.Errorf("%s was built with another tokenizer (%s) than the model's (%s): build it again with --tokenizer %s",
			c.Data, meta.TokenizerFingerprint, got, c.tokenizerDir(base))
	}
	if f.Segmenter, err = json.Marshal(meta.Segmenter); err != nil {
		return nil, err
	}
	if err := c.architecture(f, base, tok, meta); err != nil {
		return nil, err
	}
	if v := f.Arch().VocabSize; meta.VocabSize > v {
		return nil, fmt.Errorf("%s holds ids up to %d, the model's vocabulary is %d", c.Data, meta.VocabSize-1, v)
	}
	return f, c.initialise(f, be, meta.TokenizerFingerprint)
}

func (c *Config) tokenizerDir(base *sllm.Folder) string {
	if base != nil {
		return base.Path
	}
	return c.Tokenizer
}

// architecture fills in the model that the configuration asks for.
func (c *Config) architecture(f, base *sllm.Folder, tok *tokenizer.Tokenizer, meta *data.Meta) error {
	if base == nil {
		m := c.Model
		if m.NumHeads < 1 || m.HiddenSize%m.NumHeads != 0 {
			return fmt.Errorf("num_attention_heads %d do not divide hidden_size %d", m.NumHeads, m.HiddenSize)
		}
		f.Kind, f.LM = sllm.KindLM, vae.Arch{ModelType: "llama", HiddenSize: m.HiddenSize, NumLayers: m.NumLayers, NumHeads: m.NumHeads,
			NumKVHeads: m.NumKVHeads, HeadDim: m.HiddenSize / m.NumHeads, VocabSize: tok.VocabSize(), Positions: m.Positions,
			BOS: tok.BOS(), EOS: tok.EOS(), PAD: tok.PAD(), Intermediate: m.FFNDim, RMSNormEps: 1e-5, RopeTheta: 10000, HiddenAct: "silu"}
		return f.LM.Validate()
	}
	if c.Stage == LM {
		f.Kind, f.LM = sllm.KindLM, base.LM
		return nil
	}
	v, err := c.autoencoder(base.LM, meta)
	if err != nil {
		return err
	}
	if c.Stage == VAE {
		f.SVAE = v
		return f.SVAE.Validate()
	}
	f.Kind = sllm.KindSLLM
	f.SLLM = sllm.Config{Base: base.LM, VAE: v, LatentScale: 1, AELoss: c.Model.AELoss, Null: c.Model.Null}
	return f.SLLM.Validate()
}

// autoencoder returns the sentence autoencoder that the configuration asks for.
func (c *Config) autoencoder(base vae.Arch, meta *data.Meta) (vae.Config, error) {
	m := c.Model
	v := vae.Default(base)
	switch {
	case m.PaperBlocks:
		v = vae.Paper(base)
	case m.Fresh:
		v = vae.Layout(base)
	}
	v.EncoderLayers, v.DecoderLayers = m.EncoderLayers, m.DecoderLayers
	v.EncoderCopies = v.EncoderCopies[:min(len(v.EncoderCopies), m.EncoderLayers)]
	if v.DecoderCopies != nil {
		v.DecoderCopies = vae.UpperLayers(base.NumLayers, m.DecoderLayers)
	}
	if m.DecoderCopies != "" {
		v.DecoderCopies = nil
		for _, l := range strings.Split(m.DecoderCopies, ",") {
			n, err := strconv.Atoi(strings.TrimSpace(l))
			if err != nil {
				return v, fmt.Errorf("decoder-copies %q is not a list of layers such as 0,7", m.DecoderCopies)
			}
			v.DecoderCopies = append(v.DecoderCopies, n)
		}
	}
	v.Latents, v.LatentEvery, v.Context, v.Gamma, v.Noise = m.Latents, m.LatentEvery, m.Context, m.Gamma, m.Noise
	seg := meta.Segmenter.Resolved()
	v.EndMark = v.EndMark || seg.Name != segment.DefaultName
	v.MaxSentence = seg.MaxTokens
	if a := &v.Arch; a.Sinusoid {
		a.Positions = v.Context + v.MaxSentence + 2
	}
	return v, nil
}

// initialise makes the weights: from the base, from a trained autoencoder, or at random. The fingerprint is the
// tokenizer's.
func (c *Config) initialise(f *sllm.Folder, be kernels.Backend, fingerprint string) error {
	var from func(string) ([]float32, error)
	if c.Base != "" {
		base, err := sllm.Load(c.Base, be)
		if err != nil {
			return err
		}
		from = base.Read
		if f.Kind == sllm.KindSLLM {
			f.SLLM.LatentScale = base.LM.EmbedScale() * base.Store.Spread(base.LM.EmbedName())
		}
	}
	var err error
	if f.Store, err = vae.NewStore(be, f.Weights()); err != nil {
		return err
	}
	if err := f.Store.Init(c.Seed, from); err != nil {
		return err
	}
	if c.Graft != "" {
		if err := c.graft(f, be, fingerprint); err != nil {
			return err
		}
	}
	f.Store.ScaleRates(f.Arch().Tied)
	return nil
}

// graft copies a trained autoencoder into the model, if it is one of the same make.
func (c *Config) graft(f *sllm.Folder, be kernels.Backend, fingerprint string) error {
	v, err := sllm.Load(c.Graft, be)
	if err == nil {
		err = v.Wide()
	}
	if err != nil {
		return err
	}
	if v.Kind != sllm.KindVAE {
		return fmt.Errorf("%s: is a %s, want a sentence autoencoder", c.Graft, v.Kind)
	}
	a, b := v.SVAE, f.SLLM.VAE
	for _, m := range []*vae.Config{&a, &b} { // what may differ: how it starts and how it is trained
		m.EncoderCopies, m.DecoderCopies, m.Gamma, m.Noise = nil, nil, 0, 0
	}
	if d := firstDifference(a, b); d != "" {
		return fmt.Errorf("%s: %s: train both with the same layers, latents and context", c.Graft, d)
	}
	if !sameJSON(v.Segmenter, f.Segmenter) {
		return fmt.Errorf("%s: was trained on sentences cut by %s, the data are cut by %s", c.Graft, v.Segmenter, f.Segmenter)
	}
	tok, err := tokenizer.Load(v.Path)
	if err != nil {
		return err
	}
	if tok.Fingerprint() != fingerprint {
		return fmt.Errorf("%s: was trained with another tokenizer", c.Graft)
	}
	for _, w := range v.Store.Weights() {
		be.Copy(f.Store.Buf(w.Name), v.Store.Buf(w.Name))
	}
	return nil
}

// firstDifference names a field in which two architectures differ, with both values.
func firstDifference(a, b vae.Config) string {
	x, y := reflect.ValueOf(a), reflect.ValueOf(b)
	for i := range x.NumField() {
		if u, v := x.Field(i).Interface(), y.Field(i).Interface(); !reflect.DeepEqual(u, v) {
			name, _, _ := strings.Cut(x.Type().Field(i).Tag.Get("json"), ",")
			if name == "arch" {
				return "is of another base"
			}
			return fmt.Sprintf("%s is %v there and %v here", name, u, v)
		}
	}
	return ""
}

// sameJSON says that two texts hold the same values.
func sameJSON(a, b json.RawMessage) bool {
	var x, y any
	return json.Unmarshal(a, &x) == nil && json.Unmarshal(b, &y) == nil && reflect.DeepEqual(x, y)
}

// model runs one kind of model over batches, in a graph or at once.
type model struct {
	folder *sllm.Folder
	vae    vae.Feed
	lm     sllm.LMFeed
	sllm   sllm.Feed
}

// graph builds the loss over graph nodes.
func (m *model) graph(g *op.Graph, get vae.Build[*gorgonia.Node]) *gorgonia.Node {
	switch f := m.folder; f.Kind {
	case sllm.KindLM:
		return sllm.NewLM(&f.LM, get).Loss(g, &m.lm)
	case sllm.KindVAE:
		return vae.New(&f.SVAE, get).Loss(g, &m.vae)
	default:
		return sllm.New(&f.SLLM, get).Loss(g, &m.sllm)
	}
}

// eager returns the same as a function over buffers.
func (m *model) eager() func(*op.Eager) {
	switch f := m.folder; f.Kind {
	case sllm.KindLM:
		l := sllm.NewLM(&f.LM, f.Store.Mat)
		return func(e *op.Eager) { l.Loss(e, &m.lm) }
	case sllm.KindVAE:
		l := vae.New(&f.SVAE, f.Store.Mat)
		return func(e *op.Eager) { l.Loss(e, &m.vae) }
	default:
		l := sllm.New(&f.SLLM, f.Store.Mat)
		return func(e *op.Eager) { l.Loss(e, &m.sllm) }
	}
}

// set points the model at a batch. It fails if a piece is longer than the positions that the model was made for.
func (m *model) set(b *data.Batch, which sllm.Latents) error {
	switch f := m.folder; f.Kind {
	case sllm.KindLM:
		m.lm.Set(&f.LM, b.IDs, b.Sent, b.Doc, b.End)
		return fits(&f.LM, m.lm.Seq.Pos.V)
	case sllm.KindVAE: // one sentence at a time, whose length the segmenter limits
		m.vae.Set(&f.SVAE, b.IDs, b.Sent, b.Doc, b.Before)
		return nil
	default:
		m.sllm.Set(&f.SLLM, b.IDs, b.Sent, b.Doc, b.End, b.Before, which)
		return fits(&f.SLLM.Base, m.sllm.Seq.Pos.V)
	}
}

func fits(a *vae.Arch, pos []int32) error {
	if n := int(slices.Max(pos)) - a.PosOffset() + 1; n > a.Positions {
		return fmt.Errorf("a piece needs %d positions, the model has %d (cut pieces shorter with --sentences or --piece-tokens)", n, a.Positions)
	}
	return nil
}

// pieceTokens returns the most tokens that a piece may have: what was asked for, or what the positions of a token-level
// model leave room for. It refuses more sentences than a sentence-level model has positions for.
func (m *model) pieceTokens(sentences, asked int) (int, error) {
	switch f := m.folder; f.Kind {
	case sllm.KindLM:
		return PieceLimit(f, asked), nil
	case sllm.KindSLLM:
		v := &f.SLLM.VAE
		if n := (sentences + 1) * v.LatentCount(v.MaxSentence); n > f.SLLM.Base.Positions {
			return 0, fmt.Errorf("%d sentences may need %d positions, the base has %d (give fewer --sentences)", sentences, n, f.SLLM.Base.Positions)
		}
	}
	return asked, nil
}

// PieceLimit returns the most tokens of a piece that a model's positions allow, no more than asked for; 0 is no limit.
// Sentence-level models have a position for each sentence and set none.
func PieceLimit(f *sllm.Folder, asked int) int {
	if f.Kind != sllm.KindLM {
		return asked
	}
	most := f.LM.Positions - 1
	if asked > 0 {
		most = min(most, asked)
	}
	return most
}

// context is how many raw tokens before a piece the model wants.
func (m *model) context() int {
	switch f := m.folder; f.Kind {
	case sllm.KindVAE:
		return f.SVAE.Context
	case sllm.KindSLLM:
		return f.SLLM.VAE.Context
	}
	return 0
}

// Nats is what a batch, or a whole data set, cost.
type Nats struct {
	Tokens float64 `json:"tokens"` // of the text
	Ends   float64 `json:"ends"`   // end marks of sentences, or of documents in a token-level model
	Stops  float64 `json:"stops"`  // whether another sentence follows
}

// Total returns the sum.
func (n Nats) Total() float64 { return n.Tokens + n.Ends + n.Stops }

func (n *Nats) add(m Nats) {
	n.Tokens, n.Ends, n.Stops = n.Tokens+m.Tokens, n.Ends+m.Ends, n.Stops+m.Stops
}

// cost reads what the last run of the model found out: for every piece its nats, and the number of scored text tokens.
func (m *model) cost(b *data.Batch) (pieces []Nats, tokens int) {
	pieces = make([]Nats, b.Pieces())
	switch f := m.folder; f.Kind {
	case sllm.KindLM:
		return pieces, m.costLM(b, pieces)
	case sllm.KindVAE:
		return pieces, costDecoder(b, &m.vae.Dec, f.SVAE.EndMark, pieces)
	default:
		row := 0
		for p := range pieces {
			for range b.Doc[p+1] - b.Doc[p] {
				pieces[p].Stops += m.sllm.Stop.Nats[row]
				row++
			}
		}
		return pieces, costDecoder(b, &m.sllm.Dec, f.SLLM.VAE.EndMark, pieces)
	}
}

func (m *model) costLM(b *data.Batch, pieces []Nats) (tokens int) {
	t := &m.lm.Targets
	for p := range pieces {
		lo, hi := int(m.lm.At[p]), int(m.lm.At[p+1])
		n := hi - lo
		if b.End[p] && m.folder.LM.EOS >= 0 {
			n--
			pieces[p].Ends = t.Nats[hi-1]
		}
		for _, v := range t.Nats[lo : lo+n] {
			pieces[p].Tokens += v
		}
		if n > 0 && t.IDs[lo] >= 0 {
			tokens += n
		}
	}
	return tokens
}

// costDecoder shares out the nats of a decoder's targets, which stand in the order of the sentences.
func costDecoder(b *data.Batch, d *vae.DecoderFeed, endMark bool, pieces []Nats) (tokens int) {
	row := 0
	for p := range pieces {
		for s := b.Doc[p]; s < b.Doc[p+1]; s++ {
			n := int(b.Sent[s+1] - b.Sent[s])
			for _, v := range d.Targets.Nats[row : row+n] {
				pieces[p].Tokens += v
			}
			row += n
			tokens += n
			if endMark {
				pieces[p].Ends += d.Targets.Nats[row]
				row++
			}
		}
	}
	return tokens
}

// bits converts nats over bytes of text to bits per byte.
func bits(nats float64, bytes int64) float64 { return nats / math.Ln2 / float64(bytes) }

// tensors lists buffers by weight for a checkpoint of the optimizer.
func tensors(be kernels.Backend, ws []vae.Weight, prefix string, of map[string]kernels.Buf) []checkpoints.Named {
	var ts []checkpoints.Named
	for _, w := range ws {
		if b, ok := of[w.Name]; ok {
			ts = append(ts, sllm.NamedBuf(be, prefix+w.Name, w.Shape, b))
		}
	}
	return ts
}
