#!/usr/bin/env python3
"""Computes the fixtures of every family of base models with transformers: families/*.safetensors next to this file.

Each file holds a small random model as its save_pretrained writes it, and what it computes in float64. From the
repository's root:

    pip install torch==2.15.0 transformers==5.24.0 safetensors==0.8.0
    python3 sllm/testdata/make_families.py

    w.NAME     the tensor NAME of model.safetensors, float32
    ids (T)    token ids, the first at position 0
    logits (T, V)
    g.NAME     gradient of the sum over t of -ln p(ids[t+1]), of models that are named in GRADIENTS

Metadata: "config" is config.json as transformers 5 writes it; "config4", where rotary positions are scaled, as 4 did.
"""

import contextlib
import json
import os
import tempfile

import torch
import transformers
from safetensors.torch import load_file, save_file

HERE = os.path.dirname(os.path.abspath(__file__))
SEED = 7
GRADIENTS = {"gpt2", "qwen3", "gemma"}

gpt2 = {"vocab_size": 61, "n_positions": 24, "n_embd": 16, "n_layer": 2, "n_head": 4, "bos_token_id": 2, "eos_token_id": 3}
gpt2 |= {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
opt = {"vocab_size": 61, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4, "ffn_dim": 20, "dropout": 0.0}
opt |= {"max_position_embeddings": 24}
llama = {"vocab_size": 61, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2}
llama |= {"intermediate_size": 20, "max_position_embeddings": 256, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
llama3 = {"rope_type": "llama3", "rope_theta": 500.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
llama3 |= {"original_max_position_embeddings": 64}

FIXTURES = {
    "gpt2": ("GPT2", gpt2),
    "gpt2-untied": ("GPT2", gpt2 | {"n_inner": 40, "activation_function": "gelu", "layer_norm_epsilon": 1e-3, "tie_word_embeddings": False}),
    "opt": ("OPT", opt),
    "opt-post": ("OPT", opt | {"do_layer_norm_before": False, "word_embed_proj_dim": 8}),
    "opt-bare": ("OPT", opt | {"enable_bias": False, "layer_norm_elementwise_affine": False, "activation_function": "gelu"}),
    "opt-no-final-norm": ("OPT", opt | {"_remove_final_layer_norm": True}),
    "llama": ("Llama", llama),
    "llama-tied": ("Llama", llama | {"tie_word_embeddings": True, "head_dim": 6}),  # as SmolLM2 is tied
    "llama-3.1": ("Llama", llama | {"hidden_size": 32, "rope_parameters": llama3}),
    "llama-linear": (
        "Llama",
        llama | {"attention_bias": True, "mlp_bias": True, "rope_parameters": {"rope_type": "linear", "rope_theta": 100.0, "factor": 2.5}},
    ),
    "mistral": ("Mistral", llama | {"head_dim": 8, "sliding_window": 20}),
    "qwen2": ("Qwen2", llama | {"rope_parameters": {"rope_type": "default", "rope_theta": 1e6}, "rms_norm_eps": 1e-4}),
    "qwen3": ("Qwen3", llama | {"head_dim": 8, "tie_word_embeddings": True}),
    "gemma": ("Gemma", llama | {"head_dim": 8, "num_key_value_heads": 1}),
}


@contextlib.contextmanager
def float64():
    """Lets what asks for float32, such as norms, softmax and rotary tables, compute in float64."""
    kept = torch.float32, torch.float, torch.Tensor.float
    torch.float32 = torch.float = torch.float64
    torch.Tensor.float = torch.Tensor.double
    try:
        yield
    finally:
        torch.float32, torch.float, torch.Tensor.float = kept


def build(family, config, weights):
    cls = getattr(transformers, family + ("LMHeadModel" if family == "GPT2" else "ForCausalLM"))
    model = cls(config)
    if weights:
        model = model.double()
        missing, unexpected = model.load_state_dict(weights, strict=False)
        assert not unexpected and set(missing) <= {"lm_head.weight"}, (missing, unexpected)
        model.tie_weights()
    return model.eval()


def v4(config):
    """Returns a config.json as transformers 4 wrote it."""
    c = dict(config)
    rope = dict(c.pop("rope_parameters"))
    c["torch_dtype"] = c.pop("dtype")
    c["rope_theta"] = rope.pop("rope_theta")
    c["rope_scaling"] = None if rope["rope_type"] == "default" else rope
    return c


def make(name, family, settings, seed):
    config = getattr(transformers, family + "Config")(**settings, attn_implementation="eager")
    g = torch.Generator().manual_seed(seed)
    model = build(family, config, None)
    with torch.no_grad():
        for p in model.parameters():  # no weight at its start, where a norm's does nothing
            p.copy_(p.mean().round() + 0.25 * torch.randn(p.shape, generator=g))
    with tempfile.TemporaryDirectory() as d:
        model.save_pretrained(d)
        with open(os.path.join(d, "config.json")) as f:
            saved = json.load(f)
        weights = load_file(os.path.join(d, "model.safetensors"))

    T = 20
    ids = torch.randint(3, config.vocab_size, (T,), generator=g)  # no padding, whose embedding has no gradient there
    with torch.no_grad():
        single = build(family, config, None)
        single.load_state_dict(weights, strict=False)
        single.tie_weights()
        rough = single(input_ids=ids[None]).logits[0]
    with float64():
        double = build(family, config, {k: v.double() for k, v in weights.items()})
        logits = double(input_ids=ids[None]).logits[0]
        assert logits.dtype == torch.float64
        torch.nn.functional.cross_entropy(logits[:-1], ids[1:], reduction="sum").backward()
    apart = ((logits - rough).abs().max() / logits.abs().max()).item()
    assert apart < 1e-5, apart

    out = {"w." + k: v for k, v in weights.items()}
    out |= {"ids": ids.to(torch.int32), "logits": logits.detach().to(torch.float32)}
    if name in GRADIENTS:
        out |= {"g." + k: p.grad.to(torch.float32) for k, p in double.named_parameters() if k in weights}
        assert sum(k.startswith("g.") for k in out) == len(weights)
    metadata = {"config": json.dumps(saved)}
    if "rope_parameters" in saved:
        metadata["config4"] = json.dumps(v4(saved))
    path = os.path.join(HERE, "families", name + ".safetensors")
    save_file({k: v.contiguous() for k, v in out.items()}, path, metadata)
    size = os.path.getsize(path)
    print(f"{name:20} {size:7} bytes, logits up to {logits.abs().max().item():5.2f}, float32 is off by {apart:.0e}")
    return size


def main():
    torch.set_num_threads(1)
    transformers.utils.logging.disable_progress_bar()
    os.makedirs(os.path.join(HERE, "families"), exist_ok=True)
    total = sum(make(name, *f, SEED + i) for i, (name, f) in enumerate(FIXTURES.items()))
    print(f"{total} bytes in all")


if __name__ == "__main__":
    main()
