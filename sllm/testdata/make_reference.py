#!/usr/bin/env python3
"""Makes small random files as the SentenceVAE reference code saves them, and computes their outputs with PyTorch:
*.pth and *.safetensors in the folder reference next to this file.

The models are written here from the description of the architecture (An et al. 2024, section 3, and the names of the
released state dicts), over the real nn.TransformerEncoderLayer, nn.TransformerDecoderLayer and nn.MultiheadAttention. They
run one sentence at a time, without padding, in float64; the layers over sentences run under a causal mask.

Written with torch 2.15.0, safetensors 0.8.0 and Python 3.11.7; seed 2408. From the repository's root:

    pip install torch==2.15.0 safetensors==0.8.0
    python3 sllm/testdata/make_reference.py

A .safetensors file holds, for S sentences of one document, h the hidden size, V the vocabulary:

    ids sent           token ids (N) without marks, first token of each sentence (S+1)
    latents (S, h)     what the encoder makes of the sentences
    logits (N+S, V)    what the decoder predicts after the begin mark and after every token, sentence after sentence: from
                       the sentence's own latent, or in a sentence-level model from the hidden row of the sentence before
                       it, from zeros for the first
    hidden stop        sentence-level models only: (S, h) the rows behind the last layer, (S, 2) the stop head's logits

The metadata's "options" is what the file does not say of itself.
"""

import json
import math
import os
from collections import OrderedDict

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import nn

SEED = 2408
HIDDEN, VOCAB, HEADS, LENGTHS = 16, 40, 4, [4, 1, 3, 2]
MARK = 2  # begins and ends every sentence
FOLDER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "reference")


def sinusoid(n, d):
    """Returns the table of fixed positions (n, d) (Vaswani et al. 2017, section 3.5)."""
    angle = torch.arange(n, dtype=torch.float64)[:, None] * torch.pow(10000.0, -torch.arange(0, d, 2, dtype=torch.float64) / d)
    return torch.stack([angle.sin(), angle.cos()], -1).reshape(n, d)


class Half(nn.Module):
    """What encoder and decoder share: embeddings and fixed positions."""

    def __init__(self, embed):
        super().__init__()
        self.embed_token = nn.Embedding(VOCAB, embed, padding_idx=1)
        if embed != HIDDEN:
            self.project_in = nn.Linear(embed, HIDDEN, bias=False)

    def rows(self, ids):
        x = self.embed_token(torch.tensor(ids))
        if hasattr(self, "project_in"):
            x = self.project_in(x)
        return (x + sinusoid(len(ids), HIDDEN))[None]


class Encoder(Half):
    def __init__(self, embed, layers, norm_first, weighted):
        super().__init__(embed)
        layer = nn.TransformerEncoderLayer(HIDDEN, HEADS, 2 * HIDDEN, dropout=0.1, batch_first=True, norm_first=norm_first)
        self.encoder = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
        if weighted:
            self.la = nn.Linear(HIDDEN, 1)
        self.lnorm = nn.LayerNorm(HIDDEN)

    def forward(self, ids):
        x = self.encoder(self.rows([MARK] + ids))
        if hasattr(self, "la"):
            x = x * self.la(x)
        return self.lnorm(x.sum(1))  # (1, h)


class Decoder(Half):
    def __init__(self, embed, layers, norm_first):
        super().__init__(embed)
        layer = nn.TransformerDecoderLayer(HIDDEN, HEADS, 2 * HIDDEN, dropout=0.1, batch_first=True, norm_first=norm_first)
        self.decoder = nn.TransformerDecoder(layer, layers)
        self.linear = nn.Linear(HIDDEN, VOCAB)

    def forward(self, ids, memory):
        x = self.rows([MARK] + ids)
        mask = nn.Transformer.generate_square_subsequent_mask(x.shape[1], dtype=x.dtype)
        return self.linear(self.decoder(x, memory[None], tgt_mask=mask))[0]  # (n+1, V)


class SentenceVAE(nn.Module):
    def __init__(self, embed=HIDDEN, layers=1, norm_first=False, weighted=False):
        super().__init__()
        self.encoder = Encoder(embed, layers, norm_first, weighted)
        self.decoder = Decoder(embed, layers, norm_first)

    def outputs(self, sentences):
        z = torch.cat([self.encoder(s) for s in sentences])
        return {"latents": z, "logits": torch.cat([self.decoder(s, z[i : i + 1]) for i, s in enumerate(sentences)])}


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.k_proj, self.v_proj, self.q_proj, self.out_proj = (nn.Linear(HIDDEN, HIDDEN) for _ in range(4))

    def forward(self, x):
        n, d = x.shape[0], HIDDEN // HEADS
        q, k, v = (p(x).view(n, HEADS, d).transpose(0, 1) for p in (self.q_proj, self.k_proj, self.v_proj))
        scores = q @ k.transpose(1, 2) / math.sqrt(d) + torch.full((n, n), -math.inf, dtype=x.dtype).triu(1)
        return self.out_proj((scores.softmax(-1) @ v).transpose(0, 1).reshape(n, HIDDEN))


class Layer(nn.Module):
    """A layer of OPT, whose norms stand before the maps or behind the sums."""

    def __init__(self, post):
        super().__init__()
        self.post = post
        self.self_attn = Attention()
        self.self_attn_layer_norm = nn.LayerNorm(HIDDEN)
        self.fc1 = nn.Linear(HIDDEN, 3 * HIDDEN)
        self.fc2 = nn.Linear(3 * HIDDEN, HIDDEN)
        self.final_layer_norm = nn.LayerNorm(HIDDEN)

    def forward(self, x):
        for norm, part in ((self.self_attn_layer_norm, self.self_attn), (self.final_layer_norm, lambda y: self.fc2(F.relu(self.fc1(y))))):
            x = norm(x + part(x)) if self.post else x + part(norm(x))
        return x


class SentenceLLM(nn.Module):
    def __init__(self, embed=HIDDEN, layers=1, post=False, depth=2):
        super().__init__()
        self.svae = SentenceVAE(embed, layers)
        self.llm_pe = nn.Embedding(14, HIDDEN)
        self.llm_layers = nn.ModuleList(Layer(post) for _ in range(depth))
        self.fc = nn.Linear(HIDDEN, 2)

    def outputs(self, sentences):
        z = torch.cat([self.svae.encoder(s) for s in sentences])
        x = z + self.llm_pe(2 + torch.arange(len(sentences)))  # OPT keeps two rows free
        for layer in self.llm_layers:
            x = layer(x)
        plans = torch.cat([torch.zeros_like(x[:1]), x[:-1]])
        logits = torch.cat([self.svae.decoder(s, plans[i : i + 1]) for i, s in enumerate(sentences)])
        return {"latents": z, "hidden": x, "stop": self.fc(x), "logits": logits}


def write(name, model, options, training=False):
    """Saves a model with weights drawn at random, rounded to float32, and its outputs."""
    with torch.no_grad():
        for key, p in model.named_parameters():
            p.normal_(0, 0.3)
            if p.ndim == 1 and "norm" in key and key.endswith("weight"):
                p += 1
    state = OrderedDict((k, v.clone()) for k, v in model.state_dict().items())
    file = {"meta": {"epoch": 0, "iter": 5000, "cfg": "max_sen_len = 64", "seed": SEED}, "state_dict": state}
    if training:
        raw = OrderedDict(("module." + k, v + 1) for k, v in state.items())
        file["ema_state_dict"] = OrderedDict(raw, steps=torch.tensor(5000))
        file["optimizer"] = {"state": {0: {"step": torch.tensor(5000.0), "exp_avg": torch.zeros(3)}}, "param_groups": [{"lr": 1e-6, "params": [0]}]}
        file["message_hub"] = {"log_scalars": {}, "runtime_info": {"iter": 5000}}
    torch.save(file, os.path.join(FOLDER, name + ".pth"))
    generator = torch.Generator().manual_seed(SEED)
    sentences = [torch.randint(3, VOCAB, (n,), generator=generator).tolist() for n in LENGTHS]
    with torch.no_grad():
        out = model.double().eval().outputs(sentences)
    out["ids"] = torch.tensor(sum(sentences, []), dtype=torch.int32)
    out["sent"] = torch.tensor([0] + torch.tensor(LENGTHS).cumsum(0).tolist(), dtype=torch.int32)
    save_file({k: v.contiguous() for k, v in out.items()}, os.path.join(FOLDER, name + ".safetensors"),
              metadata={"options": json.dumps(options)})


def main():
    torch.manual_seed(SEED)
    write("svae", SentenceVAE(layers=2), {"heads": HEADS})
    write("svae-la", SentenceVAE(embed=8, weighted=True), {"heads": HEADS})
    write("svae-norm-first", SentenceVAE(norm_first=True), {"heads": HEADS, "norm_first": True})
    write("sllm", SentenceLLM(), {"heads": HEADS})
    write("sllm-post", SentenceLLM(embed=8, post=True), {"heads": HEADS, "post_norm": True}, training=True)


if __name__ == "__main__":
    main()
