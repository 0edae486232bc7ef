#!/usr/bin/env python3
"""Computes the parity fixtures of the sentence-level and token-level language models with PyTorch: sllm-*.safetensors and
lm-*.safetensors next to this file.

It stands on vae/testdata/make.py: the same batch, real layers, padding, float64, and the same tensors in a file. Versions
and seed are named there. From the repository's root:

    pip install torch==2.15.0 transformers==5.24.0 safetensors==0.8.0
    python3 sllm/testdata/make.py

A sllm file also holds, for S sentences, K latents each, B pieces, hidden size D:

    hidden ((S+B)*K, D)   the backbone's rows after its final norm, piece after piece; each piece starts with its K start rows
    memory (S*K, D)       what the decoder attends to, sentence after sentence
    stop_nats             -ln p of each stop target, piece after piece
    loss, g, losses       of the sum of nats and stop_nats; losses is divided by the number of tokens

An lm file holds nats and hidden (targets, D): the rows that predict a token, after the final norm.
"""

import importlib.util
import os
import sys

import torch
import torch.nn.functional as F
from torch.func import functional_call
from transformers import LlamaConfig, LlamaForCausalLM, OPTConfig, OPTForCausalLM

HERE = os.path.dirname(os.path.abspath(__file__))
sys.dont_write_bytecode = True  # no __pycache__ beside the fixtures
spec = importlib.util.spec_from_file_location("vae_make", os.path.join(HERE, "..", "..", "vae", "testdata", "make.py"))
vae = importlib.util.module_from_spec(spec)
spec.loader.exec_module(vae)


# The base model: its layers, positions and final norm under Hugging Face's names.


def root(c):
    return "model.decoder" if c.family == "opt" else "model"


def final_norm(c):
    """Returns the name of the norm after the last layer, or None."""
    if c.post_norm:
        return None
    return root(c) + (".final_layer_norm" if c.family == "opt" else ".norm")


def backbone_shapes(c):
    D = c.hidden_size
    if c.family == "opt":
        yield "model.decoder.embed_positions.weight", (c.max_positions + 2, D)
    for i in range(c.num_layers):
        yield from vae.layer_shapes(c, f"{root(c)}.layers.{i}", cross=False)
    if name := final_norm(c):
        yield name + ".weight", (D,)
        if c.family == "opt":
            yield name + ".bias", (D,)


def sllm_shapes(c):
    D = c.hidden_size
    yield from vae.svae_shapes(c)
    yield from backbone_shapes(c)
    yield "latent_start", (D,) if c.latents == 1 else (c.latents, D)
    for name in "latent_in", "latent_out":
        yield name + ".weight", (D, D)
        yield name + ".bias", (D,)
    yield "latent_norm.weight", (D,)
    yield "latent_norm.bias", (D,)
    yield "stop_head.weight", (2, D)
    yield "stop_head.bias", (2,)


def lm_shapes(c):
    D, E = c.hidden_size, c.word_embed_proj_dim
    yield root(c) + ".embed_tokens.weight", (c.vocab_size, E)
    if E != D:
        yield "model.decoder.project_in.weight", (D, E)
        yield "model.decoder.project_out.weight", (E, D)
    yield from backbone_shapes(c)


def backbone(c, w, x, keep):
    """Runs the base's layers and final norm on x (B, T, D); causal over blocks of c.latents rows."""
    f = vae.family(c)
    x = f.embed(w, root(c), x)
    mask = vae.attention_mask(keep, causal=True, block=c.latents)
    for i in range(c.num_layers):
        x = f.whole(w, f"{root(c)}.layers.{i}", x, mask)
    return f.norm(w, final_norm(c), x) if final_norm(c) else x


# The sentence-level model.


def sllm(c, w, batch, extra=0):
    """Returns the loss and the outputs by name."""
    K, D = c.latents, c.hidden_size
    latents = vae.encode(c, w, batch, extra)  # (S, K, D)
    z = vae.linear(w, "latent_in", latents)
    start = w["latent_start"].reshape(K, D)
    rows = [torch.cat([start, z[list(piece)].flatten(0, 1)]) for piece in batch.pieces()]  # (n+1)*K rows each
    x = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
    x = F.pad(x, (0, 0, 0, extra))
    keep = vae.pad([[1] * len(r) for r in rows], 0, extra)[1]
    h = backbone(c, w, x, keep)

    sources, stop_rows, stop_targets = [], [], []
    for b, piece in enumerate(batch.pieces()):
        n = len(piece)
        sources += [h[b, j * K : (j + 1) * K] for j in range(n)]  # row j predicts sentence j
        for j in range(1, n + batch.end[b]):
            stop_rows.append(h[b, (j + 1) * K - 1])
            stop_targets.append(1 if j < n else 0)
    memory = vae.layer_norm(w, "latent_norm", vae.linear(w, "latent_out", torch.stack(sources)))
    stop_logits = vae.linear(w, "stop_head", torch.stack(stop_rows))
    stop_nats = F.cross_entropy(stop_logits, torch.tensor(stop_targets), reduction="none")

    loss, out = vae.token_loss(c, *vae.decode(c, w, batch, memory, extra))
    out |= {"latents": latents.flatten(0, 1), "hidden": h[keep], "memory": memory.flatten(0, 1), "stop_nats": stop_nats}
    return loss + stop_nats.sum(), out


def check_sllm(c, weights):
    """A sentence changes no backbone row before its own, no memory up to its own, and no other piece."""
    batch = vae.Batch(c.vocab_size)
    w = vae.leaves(weights)
    before = sllm(c, w, batch)[1]
    for b, piece in enumerate(batch.pieces()):
        for s in piece:
            other = vae.Batch(c.vocab_size)
            other.sentences[s] = [c.vocab_size - 1 - t for t in other.sentences[s]]
            after = sllm(c, w, other)[1]
            hidden, memory = ((before[name] - after[name]).abs().amax(1) > 0 for name in ("hidden", "memory"))
            row = (s + b + 1) * c.latents  # b+1 start rows stand before it
            assert not hidden[:row].any() and hidden[row : row + c.latents].all()
            assert not hidden[(piece.stop + b + 1) * c.latents :].any()
            assert not memory[: (s + 1) * c.latents].any() and not memory[piece.stop * c.latents :].any()


# The token-level model.


def lm_rows(c, batch):
    """Returns the rows [BOS, tokens...] of each piece and their targets; a piece cut off ends without one."""
    rows, targets = [], []
    for b, piece in enumerate(batch.pieces()):
        tokens = sum((batch.sentences[s] for s in piece), [])
        rows.append([c.bos] + (tokens if batch.end[b] else tokens[:-1]))
        targets += tokens + ([c.eos] if batch.end[b] else [])
    return rows, torch.tensor(targets)


def lm_logits(c, w, ids, keep):
    """Returns hidden (B, T, D) and logits (B, T, V)."""
    table = w[root(c) + ".embed_tokens.weight"]
    x = F.embedding(ids, table)
    if c.word_embed_proj_dim != c.hidden_size:
        x = vae.linear(w, "model.decoder.project_in", x)
    h = x = backbone(c, w, x, keep)
    if c.word_embed_proj_dim != c.hidden_size:
        x = vae.linear(w, "model.decoder.project_out", x)
    return h, F.linear(x, table)


def lm(c, w, batch, extra=0):
    rows, targets = lm_rows(c, batch)
    ids, keep = vae.pad(rows, 0, extra)
    h, logits = lm_logits(c, w, ids, keep)
    loss, out = vae.token_loss(c, logits[keep], targets)
    return loss, {**out, "hidden": h[keep]}


def check_lm(c, weights):
    """OPTForCausalLM and LlamaForCausalLM give the same logits from the same weights."""
    shared = {
        "vocab_size": c.vocab_size, "hidden_size": c.hidden_size, "num_hidden_layers": c.num_layers,
        "num_attention_heads": c.num_attention_heads, "max_position_embeddings": c.max_positions,
        "tie_word_embeddings": True, "attn_implementation": "eager", "bos_token_id": c.bos, "eos_token_id": c.eos,
        "pad_token_id": 0,
    }  # fmt: skip
    if c.family == "opt":
        own = {"ffn_dim": c.ffn_dim, "word_embed_proj_dim": c.word_embed_proj_dim, "dropout": 0.0}
        model = OPTForCausalLM(OPTConfig(**shared, **own, do_layer_norm_before=not c.post_norm))
    else:
        own = {"intermediate_size": c.ffn_dim, "num_key_value_heads": c.num_key_value_heads}
        own |= {"rms_norm_eps": c.norm_eps, "rope_theta": c.rope_theta}
        model = LlamaForCausalLM(LlamaConfig(**shared, **own))
    model = model.double().eval()
    w = vae.leaves(weights)
    names = {**dict(model.named_buffers()), **w, "lm_head.weight": w[root(c) + ".embed_tokens.weight"]}
    ids, keep = vae.pad(lm_rows(c, vae.Batch(c.vocab_size))[0], 0)
    with torch.no_grad():
        args = {"input_ids": ids, "attention_mask": keep.long()}
        want = functional_call(model, names, (), args, strict=True).logits[keep]
        got = lm_logits(c, w, ids, keep)[1][keep]
    apart = (got - want).abs().max().item()
    assert apart < 1e-12 * want.abs().max().item(), apart
    print(f"    logits within {apart:.1e} of {type(model).__name__}, the largest being {want.abs().max().item():.2f}")


def main():
    torch.set_num_threads(1)
    vae.use_float64()
    opt_post = {"post_norm": True, "word_embed_proj_dim": 8}
    token = {"encoder_layers": 0, "decoder_layers": 0, "max_positions": 20, "num_layers": 2}
    fixtures = {
        "sllm-opt": vae.config("opt", num_layers=2),
        "sllm-opt-post": vae.config("opt", num_layers=2, **opt_post),
        "sllm-llama": vae.config("llama", num_layers=2),
        "sllm-llama-k2-context3": vae.config("llama", num_layers=2, latents=2, context=3),
        "lm-opt": vae.config("opt", **token),
        "lm-opt-post": vae.config("opt", **opt_post, **token),
        "lm-llama": vae.config("llama", **token),
    }
    total = 0
    for i, (name, c) in enumerate(fixtures.items(), 100):
        sentences = name.startswith("sllm")
        shapes = list((sllm_shapes if sentences else lm_shapes)(c))
        path = os.path.join(HERE, name + ".safetensors")
        total += vae.make(path, c, sllm if sentences else lm, shapes, vae.SEED + i)
        weights = vae.init(shapes, vae.SEED + i)
        vae.check_layers(c, weights, root(c) + ".layers.0")
        (check_sllm if sentences else check_lm)(c, weights)
    print(f"{total} bytes in all")


if __name__ == "__main__":
    main()
