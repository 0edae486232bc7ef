// Package sllm is the sentence-level language model of SentenceVAE (An, Chen, Sun & Li 2024, §3.3): the layers of a
// token-level model run over one latent a sentence, between the encoder and the decoder of package vae. It also holds
// the token-level model itself (LM), which is its base and its fair baseline.
//
// Where this differs from the paper and its code, and why:
//
//   - Sentences see only those before them. The reference calls the base's layers without a mask, so that with the
//     libraries of its time each position sees the sentence that it has to predict.
//   - Each sentence is scored with its own length, not with the previous one's.
//   - The base's final norm is kept, and a learned projection leads from it into the decoder's latent space.
//   - A start-of-document latent predicts the first sentence, so that all of a document is scored and a prompt may be
//     empty.
//   - A document that was cut teaches no stop.
//   - A sentence that was generated is encoded in the form in which the encoder was trained.
//
// [ReadReference] imports the files of the paper's code, whose models keep their own structure (Config.Direct) and are
// marked as trained with bidirectional attention; [WriteReference] writes such files, and [ReadYAML] and [ReferenceRun]
// read its configurations.
package sllm
