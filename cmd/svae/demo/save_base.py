#!/usr/bin/env python3
"""Writes a Llama folder in safetensors as the kind of base people download: float16, saved by torch.save.

IN holds config.json (model_type llama), model.safetensors and the tokenizer files. OUT gets pytorch_model.bin (the state
dict, Hugging Face names, a tied head stored once), config.json and the tokenizer files. Then transformers loads OUT, no
name may be missing or left over, and the logits must be finite and close to those of IN.

Written with torch 2.15.0, transformers 5.24.0, safetensors 0.8.0 and Python 3.11.7:

    pip install torch==2.15.0 transformers==5.24.0 safetensors==0.8.0
    python3 save_base.py IN OUT
"""

import argparse
import collections
import json
import os
import shutil

import torch
from safetensors.torch import load_file
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

TOKENIZER_FILES = ["tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "tokenizer.model"]
SIZES = [
    "vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
    "num_key_value_heads", "max_position_embeddings", "rms_norm_eps", "hidden_act", "attention_bias", "mlp_bias",
    "tie_word_embeddings", "initializer_range", "bos_token_id", "eos_token_id", "pad_token_id",
]  # fmt: skip
PROBE = "Fellow-Citizens of the Senate and of the House of Representatives:"


def plain_config(config):
    """Returns the keys of a Llama config.json that every version of transformers reads."""
    rope = config.rope_parameters
    if rope.get("rope_type", "default") != "default":
        raise SystemExit(f"rope_type {rope['rope_type']}: only plain rotary positions are supported")
    out = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "torch_dtype": "float16"}
    out.update((key, getattr(config, key)) for key in SIZES)
    if config.head_dim * config.num_attention_heads != config.hidden_size:
        out["head_dim"] = config.head_dim
    out.update(rope_theta=rope["rope_theta"], rope_scaling=None, use_cache=True)
    return out


def half_weights(weights, tied):
    """Returns the state dict in float16, without a tied head and without rotary tables."""
    out = collections.OrderedDict()
    for name, tensor in weights.items():
        if name.endswith("rotary_emb.inv_freq"):
            continue
        if tied and name == "lm_head.weight":
            if not torch.equal(tensor, weights["model.embed_tokens.weight"]):
                raise SystemExit("the config ties the head to the embeddings, but lm_head.weight differs from them")
            continue
        if tensor.dtype != torch.float32:
            raise SystemExit(f"{name} is {tensor.dtype}; expected float32")
        half = tensor.to(torch.float16)
        if not torch.isfinite(half).all():
            raise SystemExit(f"{name} does not fit float16: its largest value is {tensor.abs().max().item():g}")
        out[name] = half.clone()  # its own storage: torch.save writes whole storages
    return out


def load(folder, dtype):
    """Loads folder with transformers; every weight must come from its file."""
    model, info = LlamaForCausalLM.from_pretrained(folder, dtype=dtype, output_loading_info=True)
    for what in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        if info[what]:
            raise SystemExit(f"{folder}: {what}: {sorted(info[what])}")
    return model.eval()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", metavar="IN")
    parser.add_argument("target", metavar="OUT")
    args = parser.parse_args()

    with open(os.path.join(args.source, "config.json")) as file:
        if (kind := json.load(file).get("model_type")) != "llama":
            raise SystemExit(f"{args.source}/config.json: model_type is {kind}; expected llama")
    config = LlamaConfig.from_pretrained(args.source)
    weights = half_weights(load_file(os.path.join(args.source, "model.safetensors")), config.tie_word_embeddings)

    os.makedirs(args.target)
    torch.save(weights, os.path.join(args.target, "pytorch_model.bin"))
    with open(os.path.join(args.target, "config.json"), "w") as file:
        json.dump(plain_config(config), file, indent=2)
        file.write("\n")
    for name in TOKENIZER_FILES:
        if os.path.exists(path := os.path.join(args.source, name)):
            shutil.copyfile(path, os.path.join(args.target, name))

    tokenizer = AutoTokenizer.from_pretrained(args.target)
    probe = torch.tensor([tokenizer(PROBE)["input_ids"]])
    with torch.no_grad():
        want = load(args.source, torch.float32)(probe).logits
        got = load(args.target, torch.float16)(probe).logits.float()
    if not torch.isfinite(got).all():
        raise SystemExit(f"{args.target}: the logits are not finite")
    apart = (got - want).abs().max().item()
    if apart > 0.02 * want.abs().max().item() + 0.02:
        raise SystemExit(f"{args.target}: the logits are {apart:g} from those of {args.source}")

    count = sum(w.numel() for w in weights.values())
    size = os.path.getsize(os.path.join(args.target, "pytorch_model.bin"))
    print(f"{args.target}: {len(weights)} tensors, {count} weights, {size} bytes")
    print(f"logits within {apart:.2g} of those in float32, the largest being {want.abs().max().item():.3g}")


if __name__ == "__main__":
    main()
