#!/usr/bin/env python3
"""Computes the parity fixtures of the sentence VAE with PyTorch: svae-*.safetensors next to this file.

The layers are the real ones: OPTDecoderLayer, LlamaDecoderLayer and LlamaRotaryEmbedding of transformers,
nn.TransformerEncoderLayer, nn.TransformerDecoderLayer and nn.MultiheadAttention of torch. They run padded, under explicit
masks, in float64, so that the packed float32 code is compared with something that shares nothing with it.

Written with torch 2.15.0, transformers 5.24.0, safetensors 0.8.0 and Python 3.11.7; seed 2408. From the repository's root:

    pip install torch==2.15.0 transformers==5.24.0 safetensors==0.8.0
    python3 vae/testdata/make.py

A fixture holds, with S sentences, K latents each, D the hidden size:

    w.NAME                    every weight (float32)
    ids sent doc begin end    the batch: token ids (N), first token of each sentence (S+1), first sentence of each piece
                              (B+1), whether a piece begins and ends its document (B)
    latents (S*K, D)          what the encoder makes of the sentences
    nats                      -ln p of each target, sentence after sentence
    focal                     with gamma > 0 only: (1-p)^gamma * nats, what the loss sums
    loss (1)                  the sum (float64)
    g.NAME                    the gradient of loss
    losses (10)               loss / targets before each of ten steps of torch.optim.AdamW (float64)

The metadata's "config" is the model as JSON.
"""

import json
import os
import types

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import nn
from torch.func import functional_call
from transformers import LlamaConfig, OPTConfig
from transformers.models.llama import modeling_llama
from transformers.models.opt import modeling_opt

SEED = 2408
PIECES = [[9, 1, 4, 2], [5], [3, 7, 1]]  # the lengths of the sentences in each piece
BEGIN = [1, 1, 0]
END = [1, 0, 1]


class Torch64(types.ModuleType):
    """torch for a module that asks for float32 inside a float64 model: it gets float64."""

    float32 = float = torch.float64

    def __getattr__(self, name):
        return getattr(torch, name)


def use_float64(on=True):
    """Lets transformers' softmax, RMSNorm and rotary tables, which ask for float32, compute in float64."""
    modeling_llama.torch = modeling_opt.torch = Torch64("torch64") if on else torch


def config(family, **changes):
    """Returns the config of a fixture: small, and each size different where the code could confuse two."""
    opt, paper = family == "opt", family == "paper"
    c = {
        "family": family,
        "hidden_size": 16,
        "word_embed_proj_dim": 16,
        "num_attention_heads": 4,
        "num_key_value_heads": 2 if family == "llama" else 4,
        "ffn_dim": 20 if opt else 32 if paper else 24,
        "num_layers": 0,
        "encoder_layers": 1,
        "decoder_layers": 2,
        "vocab_size": 96,
        "max_positions": 14,
        "post_norm": paper,
        "latents": 1,
        "context": 0,
        "end_mark": paper,
        "bos": 1,
        "eos": 2,
        "gamma": 2.0 if paper else 0.0,
        "tied": not paper,
        "rope_theta": 10000.0,
        "norm_eps": 1e-5,
    }
    assert not changes.keys() - c.keys()
    return types.SimpleNamespace(**{**c, **changes})


class Batch:
    """Three pieces of documents, packed; the same tokens in every fixture."""

    def __init__(self, vocab_size):
        lengths = [n for piece in PIECES for n in piece]
        g = torch.Generator().manual_seed(SEED)
        self.ids = torch.randint(3, vocab_size, (sum(lengths),), generator=g)
        self.ids[3] = self.ids[1]  # a token twice in one sentence
        self.sent = [sum(lengths[:s]) for s in range(len(lengths) + 1)]
        self.doc = [sum(len(p) for p in PIECES[:b]) for b in range(len(PIECES) + 1)]
        self.begin, self.end = BEGIN, END
        self.sentences = [self.ids[a:b].tolist() for a, b in zip(self.sent, self.sent[1:])]

    def pieces(self):
        """Yields the numbers of each piece's sentences."""
        for a, b in zip(self.doc, self.doc[1:]):
            yield range(a, b)

    def tensors(self):
        named = {"ids": self.ids, "sent": self.sent, "doc": self.doc, "begin": self.begin, "end": self.end}
        return {name: torch.as_tensor(value, dtype=torch.int32) for name, value in named.items()}


# Weights: one flat dictionary under our names. Modules are shells; a call lends them the weights under a prefix.


def under(w, prefix):
    """Returns the weights under prefix, named as the module names them."""
    return {name[len(prefix) + 1 :]: value for name, value in w.items() if name.startswith(prefix + ".")}


def call(module, w, prefix, *args, **kwargs):
    """Runs module on the weights under prefix; every parameter of it must be there, and no other name."""
    return functional_call(module, under(w, prefix), args, kwargs, strict=True)


def packed_qkv(w, prefix):
    """Returns q_proj, k_proj, v_proj and out_proj under prefix as nn.MultiheadAttention stores them."""
    a = under(w, prefix)
    return {
        "in_proj_weight": torch.cat([a["q_proj.weight"], a["k_proj.weight"], a["v_proj.weight"]]),
        "in_proj_bias": torch.cat([a["q_proj.bias"], a["k_proj.bias"], a["v_proj.bias"]]),
        "out_proj.weight": a["out_proj.weight"],
        "out_proj.bias": a["out_proj.bias"],
    }


def layer_norm(w, prefix, x):
    return F.layer_norm(x, x.shape[-1:], w[prefix + ".weight"], w[prefix + ".bias"], 1e-5)


def linear(w, prefix, x):
    return F.linear(x, w[prefix + ".weight"], w.get(prefix + ".bias"))


def layer_shapes(c, prefix, cross):
    """Yields (name, shape) of one layer; cross adds what the decoder has between attention and FFN."""
    D, ffn = c.hidden_size, c.ffn_dim
    kv = D // c.num_attention_heads * c.num_key_value_heads

    def affine(name, *shape):
        return [(name + ".weight", shape), (name + ".bias", shape[:1])]

    if c.family == "llama":
        names = {"self_attn.q_proj": (D, D), "self_attn.k_proj": (kv, D), "self_attn.v_proj": (kv, D)}
        names |= {"self_attn.o_proj": (D, D), "input_layernorm": (D,), "post_attention_layernorm": (D,)}
        names |= {"mlp.gate_proj": (ffn, D), "mlp.up_proj": (ffn, D), "mlp.down_proj": (D, ffn)}
        shapes = [(name + ".weight", shape) for name, shape in names.items()]
    else:
        shapes = [s for p in "qkv" for s in affine(f"self_attn.{p}_proj", D, D)] + affine("self_attn.out_proj", D, D)
        shapes += affine("self_attn_layer_norm", D) + affine("fc1", ffn, D) + affine("fc2", D, ffn)
        shapes += affine("final_layer_norm", D)
    if cross:
        full = c.latents > 1 or c.family == "paper"
        for p in ["q", "k", "v", "out"] if full else ["v", "out"]:
            shapes += affine(f"cross_attn.{p}_proj", D, D)
        if c.latents > 1 or c.post_norm:
            norm = affine("cross_attn_layer_norm", D)
            shapes += norm[:1] if c.family == "llama" else norm
    for name, shape in shapes:
        yield f"{prefix}.{name}", shape


def svae_shapes(c):
    """Yields (name, shape) of every weight of the encoder and the decoder."""
    D, E, V = c.hidden_size, c.word_embed_proj_dim, c.vocab_size
    for side, layers in ("encoder", c.encoder_layers), ("decoder", c.decoder_layers):
        yield f"{side}.embed_tokens.weight", (V, E)
        if E != D:
            yield f"{side}.project_in.weight", (D, E)
        if c.family == "opt":
            yield f"{side}.embed_positions.weight", (c.max_positions + 2, D)
        for i in range(layers):
            yield from layer_shapes(c, f"{side}.layers.{i}", side == "decoder")
    yield "encoder.norm.weight", (D,)
    yield "encoder.norm.bias", (D,)
    if not c.post_norm:
        yield "decoder.norm.weight", (D,)
        if c.family == "opt":
            yield "decoder.norm.bias", (D,)
    if E != D:
        yield "decoder.project_out.weight", (E, D)
    if not c.tied:
        yield "decoder.lm_head.weight", (V, E)
        yield "decoder.lm_head.bias", (V,)


def init(shapes, seed):
    """Returns random weights: no norm at one, no bias at zero, and sizes at which every part matters.

    They are float32, rounded to bfloat16 so that the files pack well."""
    g = torch.Generator().manual_seed(seed)
    weights = {}
    for name, shape in shapes:
        x = torch.randn(shape, generator=g)
        if "norm" in name and name.endswith(".weight"):
            x = 1 + 0.25 * x
        elif name.endswith(".bias"):
            x = 0.25 * x
        elif "embed_" in name or name == "latent_start":
            x = 0.5 * x
        else:
            x = 1.2 * x / shape[-1] ** 0.5
        assert name not in weights
        weights[name] = x.bfloat16().float()
    return weights


# Padding and masks.


def pad(rows, fill, extra=0):
    """Returns rows as (B, T) and which of the places are real; extra more columns must change nothing."""
    T = max(len(r) for r in rows) + extra
    ids = torch.tensor([r + [fill] * (T - len(r)) for r in rows])
    keep = torch.tensor([[t < len(r) for t in range(T)] for r in rows])
    return ids, keep


def attention_mask(keep, causal, block=1):
    """Returns the additive mask (B, 1, T, T); causal over blocks of rows that see each other."""
    T = keep.shape[1]
    see = keep[:, None, None, :].expand(-1, 1, T, T)
    if causal:
        at = torch.arange(T) // block
        see = see & (at[:, None] >= at[None, :])
    return torch.zeros(see.shape, dtype=torch.float64).masked_fill(~see, float("-inf"))


def sinusoid(T, D):
    """Returns (T, D): sin and cos interleaved (Vaswani et al. 2017, §3.5)."""
    at, i = torch.arange(T, dtype=torch.float64)[:, None], torch.arange(0, D, 2, dtype=torch.float64)
    angle = at * 10000 ** (-i / D)
    return torch.stack([angle.sin(), angle.cos()], -1).reshape(T, D)


# The layers of a base family.


class Opt:
    def __init__(self, c):
        config = OPTConfig(
            hidden_size=c.hidden_size, num_attention_heads=c.num_attention_heads, ffn_dim=c.ffn_dim,
            do_layer_norm_before=not c.post_norm, dropout=0.0, attn_implementation="eager",
        )  # fmt: skip
        self.layer = modeling_opt.OPTDecoderLayer(config, 0).double().eval()

    def embed(self, w, prefix, x):
        return x + w[prefix + ".embed_positions.weight"][2 : 2 + x.shape[1]]

    def whole(self, w, prefix, x, mask):
        return call(self.layer, w, prefix, x, attention_mask=mask)

    def attend(self, w, prefix, x, mask):
        return call(self.layer.self_attn, w, prefix + ".self_attn", x, attention_mask=mask)[0]

    def ffn(self, w, prefix, x):
        return linear(w, prefix + ".fc2", self.layer.activation_fn(linear(w, prefix + ".fc1", x)))

    def norm(self, w, prefix, x):
        return layer_norm(w, prefix, x)

    norm1, norm2 = "self_attn_layer_norm", "final_layer_norm"


class Llama:
    def __init__(self, c):
        config = LlamaConfig(
            hidden_size=c.hidden_size, num_attention_heads=c.num_attention_heads, intermediate_size=c.ffn_dim,
            num_key_value_heads=c.num_key_value_heads, rms_norm_eps=c.norm_eps, rope_theta=c.rope_theta,
            attn_implementation="eager",
        )  # fmt: skip
        self.layer = modeling_llama.LlamaDecoderLayer(config, 0).double().eval()
        self.rope = modeling_llama.LlamaRotaryEmbedding(config)

    def embed(self, w, prefix, x):
        return x

    def turn(self, x):
        return self.rope(x, torch.arange(x.shape[1])[None])

    def whole(self, w, prefix, x, mask):
        return call(self.layer, w, prefix, x, attention_mask=mask, position_embeddings=self.turn(x))

    def attend(self, w, prefix, x, mask):
        layer = self.layer.self_attn
        return call(layer, w, prefix + ".self_attn", x, attention_mask=mask, position_embeddings=self.turn(x))[0]

    def ffn(self, w, prefix, x):
        return call(self.layer.mlp, w, prefix + ".mlp", x)

    def norm(self, w, prefix, x):
        return call(self.layer.input_layernorm, w, prefix, x)

    norm1, norm2 = "input_layernorm", "post_attention_layernorm"


class Paper:
    """nn.TransformerEncoderLayer and nn.TransformerDecoderLayer, under OPT's names."""

    def __init__(self, c):
        args = (c.hidden_size, c.num_attention_heads, c.ffn_dim)
        self.encoder = nn.TransformerEncoderLayer(*args, dropout=0.0, batch_first=True).double().eval()
        self.decoder = nn.TransformerDecoderLayer(*args, dropout=0.0, batch_first=True).double().eval()

    def embed(self, w, prefix, x):
        return x + sinusoid(*x.shape[1:])

    def weights(self, w, prefix, names):
        a = under(w, prefix)
        out = {f"{to}.{end}": a[f"{name}.{end}"] for name, to in names.items() for end in ("weight", "bias")}
        out |= {f"self_attn.{name}": value for name, value in packed_qkv(a, "self_attn").items()}
        if "cross_attn_layer_norm" in names:
            out |= {f"multihead_attn.{name}": value for name, value in packed_qkv(a, "cross_attn").items()}
        return out

    def encode(self, w, prefix, x, keep):
        names = {"self_attn_layer_norm": "norm1", "fc1": "linear1", "fc2": "linear2", "final_layer_norm": "norm2"}
        w = self.weights(w, prefix, names)
        return functional_call(self.encoder, w, (x,), {"src_key_padding_mask": ~keep}, strict=True)

    def decode(self, w, prefix, x, keep, memory):
        names = {"self_attn_layer_norm": "norm1", "cross_attn_layer_norm": "norm2", "final_layer_norm": "norm3"}
        w = self.weights(w, prefix, {**names, "fc1": "linear1", "fc2": "linear2"})
        later = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool).triu(1)
        masks = {"tgt_mask": later, "tgt_key_padding_mask": ~keep}
        return functional_call(self.decoder, w, (x, memory), masks, strict=True)


def family(c):
    return {"opt": Opt, "llama": Llama, "paper": Paper}[c.family](c)


# The model.


def embed(c, f, w, prefix, ids):
    x = F.embedding(ids, w[prefix + ".embed_tokens.weight"])
    if c.word_embed_proj_dim != c.hidden_size:
        x = linear(w, prefix + ".project_in", x)
    return f.embed(w, prefix, x)


def encode(c, w, batch, extra=0):
    """Returns the latents (S, K, D)."""
    f = family(c)
    start = [c.bos] if c.family == "paper" else []
    ids, keep = pad([start + s for s in batch.sentences], 0, extra)
    x = embed(c, f, w, "encoder", ids)
    for i in range(c.encoder_layers):
        prefix = f"encoder.layers.{i}"
        if c.family == "paper":
            x = f.encode(w, prefix, x, keep)
        else:
            x = f.whole(w, prefix, x, attention_mask(keep, causal=False))
    n = keep.sum(1, keepdim=True)
    group = torch.arange(ids.shape[1]) * c.latents // n  # (S, T)
    chosen = (group[:, None] == torch.arange(c.latents)[:, None]) & keep[:, None]  # (S, K, T)
    return layer_norm(w, "encoder.norm", chosen.to(x.dtype) @ x)


def constant_cross(w, prefix, memory):
    """What attention over the one row of memory gives, whatever the query is: (S, 1, D)."""
    return linear(w, prefix + ".out_proj", linear(w, prefix + ".v_proj", memory))


def cross_attention(c, w, prefix, x, memory):
    attention = nn.MultiheadAttention(c.hidden_size, c.num_attention_heads, batch_first=True).double().eval()
    return functional_call(attention, packed_qkv(w, prefix), (x, memory, memory), strict=True)[0]


def decoder_layer(c, f, w, prefix, x, mask, memory):
    p = prefix + "."

    def cross(x):
        if c.latents == 1:
            return constant_cross(w, p + "cross_attn", memory)
        return cross_attention(c, w, p + "cross_attn", x, memory)

    def norm(name, x):
        return f.norm(w, p + name, x)

    if c.post_norm:
        x = norm(f.norm1, x + f.attend(w, prefix, x, mask))
        x = norm("cross_attn_layer_norm", x + cross(x))
        return norm(f.norm2, x + f.ffn(w, prefix, x))
    x = x + f.attend(w, prefix, norm(f.norm1, x), mask)
    x = x + cross(x if c.latents == 1 else norm("cross_attn_layer_norm", x))
    return x + f.ffn(w, prefix, norm(f.norm2, x))


def decode(c, w, batch, memory, extra=0):
    """Returns the logits of every scored row (M, V) and their targets (M); memory is (S, K, D)."""
    f = family(c)
    rows, score, targets = [], [], []
    for piece in batch.pieces():
        before = []
        for s in piece:
            tokens = batch.sentences[s]
            context = before[max(0, len(before) - c.context) :]
            rows.append(context + [c.bos] + (tokens if c.end_mark else tokens[:-1]))
            score.append([0] * len(context) + [1] * (len(rows[-1]) - len(context)))
            targets += tokens + ([c.eos] if c.end_mark else [])
            before = before + tokens
    ids, keep = pad(rows, 0, extra)
    scored = pad(score, 0, extra)[0].bool()
    x = embed(c, f, w, "decoder", ids)
    for i in range(c.decoder_layers):
        prefix = f"decoder.layers.{i}"
        if c.family == "paper":
            x = f.decode(w, prefix, x, keep, memory)
        else:
            x = decoder_layer(c, f, w, prefix, x, attention_mask(keep, causal=True), memory)
    if not c.post_norm:
        x = f.norm(w, "decoder.norm", x)
    x = x[scored]
    if c.word_embed_proj_dim != c.hidden_size:
        x = linear(w, "decoder.project_out", x)
    if c.tied:
        return F.linear(x, w["decoder.embed_tokens.weight"]), torch.tensor(targets)
    return linear(w, "decoder.lm_head", x), torch.tensor(targets)


def token_loss(c, logits, targets):
    """Returns what the loss sums, and what the file holds of it."""
    nats = F.cross_entropy(logits, targets, reduction="none")
    if c.gamma == 0:
        return nats.sum(), {"nats": nats}
    focal = (1 - torch.exp(-nats)) ** c.gamma * nats
    return focal.sum(), {"nats": nats, "focal": focal}


def svae(c, w, batch, extra=0):
    """Returns the loss and the outputs by name."""
    latents = encode(c, w, batch, extra)
    loss, out = token_loss(c, *decode(c, w, batch, latents, extra))
    return loss, {"latents": latents.flatten(0, 1), **out}


# From a model to a file.


def leaves(weights):
    return {name: value.double().requires_grad_() for name, value in weights.items()}


def adamw(c, model, weights, batch, steps=10):
    """Returns loss / targets before each step of AdamW."""
    w = leaves(weights)
    optimizer = torch.optim.AdamW(w.values(), lr=1e-2, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.01)
    losses = []
    for _ in range(steps):
        loss, out = model(c, w, batch)
        loss = loss / len(out["nats"])
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return torch.tensor(losses, dtype=torch.float64)


def dead(c, name):
    """Says if a weight cannot change the loss: a key bias without rotary positions shifts all scores of a row alike, and
    attention over one row does not depend on its query and key."""
    if name.endswith("k_proj.bias"):
        return True
    return c.latents == 1 and ("cross_attn.q_proj" in name or "cross_attn.k_proj" in name)


def check(c, model, weights, batch, loss, out, grads):
    """Padding changes nothing, transformers as it is (float32 inside) agrees, and every weight matters."""
    with torch.no_grad():
        w = leaves(weights)
        for what, tolerance in ("padding", 1e-12), ("float32 inside", 1e-5):
            use_float64(what == "padding")
            other = model(c, w, batch, extra=3 if what == "padding" else 0)[1]
            use_float64()
            for name, value in out.items():
                apart = (other[name] - value).abs().max().item()
                assert apart <= tolerance * max(1, value.abs().max().item()), (what, name, apart)
    assert torch.isfinite(loss)
    for name, grad in grads.items():
        if dead(c, name):
            assert grad.abs().max() < 1e-12, (name, grad.abs().max())
        else:
            assert grad.abs().max() > 1e-4, (name, grad.abs().max())


def check_layers(c, weights, prefix):
    """The halves of a layer that the decoder uses, put together, are the layer."""
    if c.family == "paper":
        return
    f, w = family(c), leaves(weights)
    x = torch.randn(2, 5, c.hidden_size, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    mask = attention_mask(torch.ones(2, 5, dtype=torch.bool), causal=True)
    p = prefix + "."
    if c.post_norm:
        y = f.norm(w, p + f.norm1, x + f.attend(w, prefix, x, mask))
        y = f.norm(w, p + f.norm2, y + f.ffn(w, prefix, y))
    else:
        y = x + f.attend(w, prefix, f.norm(w, p + f.norm1, x), mask)
        y = y + f.ffn(w, prefix, f.norm(w, p + f.norm2, y))
    assert (y - f.whole(w, prefix, x, mask)).abs().max() < 1e-12


def check_cross():
    """Attention over one key is its value, projected out: nn.MultiheadAttention agrees."""
    c = config("opt")
    shapes = [(f"a.{p}_proj.{end}", (16, 16) if end == "weight" else (16,)) for p in ["q", "k", "v", "out"]
              for end in ["weight", "bias"]]  # fmt: skip
    w = leaves(init(shapes, SEED))
    g = torch.Generator().manual_seed(2)
    x, memory = (torch.randn(3, n, 16, dtype=torch.float64, generator=g) for n in (7, 1))
    apart = (cross_attention(c, w, "a", x, memory) - constant_cross(w, "a", memory)).abs().max().item()
    assert apart < 1e-12, apart
    print(f"attention over one key is constant: within {apart:.1e} of nn.MultiheadAttention")


def make(path, c, model, shapes, seed):
    """Computes one fixture, checks it and writes it."""
    batch = Batch(c.vocab_size)
    weights = init(shapes, seed)
    w = leaves(weights)
    loss, out = model(c, w, batch)
    loss.backward()
    grads = {name: value.grad for name, value in w.items()}
    out = {name: value.detach() for name, value in out.items()}
    check(c, model, weights, batch, loss.detach(), out, grads)

    losses = adamw(c, model, weights, batch)
    tensors = {**batch.tensors(), "loss": loss.detach().reshape(1), "losses": losses}
    tensors |= {name: value.float() for name, value in out.items()}
    tensors |= {"w." + name: value for name, value in weights.items()}
    tensors |= {"g." + name: value.float() for name, value in grads.items()}
    # One key of metadata only: save_file writes several in an order that changes from run to run.
    save_file({name: value.contiguous() for name, value in tensors.items()}, path, {"config": json.dumps(vars(c))})

    os.chmod(path, 0o644)
    size, count = os.path.getsize(path), sum(value.numel() for value in weights.values())
    assert size < 150_000, size
    mean = loss.item() / len(out["nats"])
    name = os.path.basename(path)
    print(f"{name:36} {size:7} bytes {count:6} weights {len(out['nats']):3} targets, {mean:.4f} -> {losses[-1]:.4f}")
    return size


def main():
    torch.set_num_threads(1)
    use_float64()
    check_cross()
    configs = {
        "svae-opt": config("opt"),
        "svae-opt-post": config("opt", post_norm=True, word_embed_proj_dim=8),
        "svae-llama": config("llama"),
        "svae-llama-k2": config("llama", latents=2),
        "svae-paper": config("paper"),
    }
    total = 0
    for i, (name, c) in enumerate(configs.items()):
        path = os.path.join(os.path.dirname(os.path.abspath(__file__)), name + ".safetensors")
        total += make(path, c, svae, svae_shapes(c), SEED + i)
        check_layers(c, init(svae_shapes(c), SEED + i), "encoder.layers.0")
    print(f"{total} bytes in all")


if __name__ == "__main__":
    main()
