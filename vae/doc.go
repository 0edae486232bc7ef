// Package vae is the sentence autoencoder of SentenceVAE (An, Chen, Sun & Li 2024, arXiv 2408.00655): an encoder that
// folds the tokens of a sentence into K latent vectors, and a decoder that writes the sentence again from them, token
// by token. Despite its name the paper's model has no posterior and no KL term; it is a deterministic autoencoder whose
// latents a LayerNorm keeps near a sphere.
//
// Where this differs from the paper, and why:
//
//   - Rows are packed: sentences stand one after the other without padding (§3.1 pads each to 64 tokens).
//   - By default the blocks are those of the base model, and the decoder starts from layers of the base's upper half,
//     its embeddings, its final norm and its head. The preset "paper" has the paper's post-norm blocks with fixed
//     positions, an untied head and everything from scratch.
//   - By default the rule that cuts sentences also ends them when writing, so that no end mark is predicted or scored.
//   - With one latent a sentence, cross-attention is a constant of the sentence and computed once (exact).
//   - More than one latent, and raw tokens before the sentence as context of the decoder, are options.
package vae
