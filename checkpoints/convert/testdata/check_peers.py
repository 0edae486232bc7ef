#!/usr/bin/env python3
"""Checks with real transformers and PyTorch what svae convert writes: one tiny random model of every family, saved by transformers,
goes through svae convert into a model folder, a PyTorch folder and (where GGUF has the family) a GGUF file and back. Each
result must load in transformers with the very weights, give the very logits, and open in torch.load(weights_only=True).

    make build && pip install torch==2.15.0 transformers==5.24.0 safetensors==0.8.0
    python3 checkpoints/convert/testdata/check_peers.py bin/svae cmd/svae/demo/base [FOLDER]

With a FOLDER in which check_llama.mjs can run (see there), llama.cpp also reads the GGUF files, in F32 and F16: its greedy tokens
must be those of transformers.
"""

import json
import pathlib
import shutil
import subprocess
import sys
import tempfile

import torch
import transformers
from transformers import (AutoModelForCausalLM, GemmaConfig, GPT2Config, LlamaConfig, MistralConfig, OPTConfig, Qwen2Config, Qwen3Config)

transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()
SVAE, TOKENIZER = sys.argv[1:3]
LLAMA = sys.argv[3] if len(sys.argv) > 3 else None
HERE = pathlib.Path(__file__).parent
V = 2048
COMMON = dict(vocab_size=V, hidden_size=64, intermediate_size=96, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=2,
              max_position_embeddings=128, bos_token_id=1, eos_token_id=2, pad_token_id=None)
LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192,
          "rope_theta": 500000.0}
OPT = dict(vocab_size=V, hidden_size=64, ffn_dim=96, num_hidden_layers=3, num_attention_heads=4, max_position_embeddings=128,
           bos_token_id=1, eos_token_id=2, pad_token_id=1)

CASES = {
    "gpt2": (GPT2Config(vocab_size=V, n_embd=64, n_layer=3, n_head=4, n_positions=128, bos_token_id=1, eos_token_id=2), True),
    "opt": (OPTConfig(**OPT), False),
    "opt post-norm": (OPTConfig(**{**OPT, "word_embed_proj_dim": 32, "do_layer_norm_before": False}), False),
    "llama": (LlamaConfig(**COMMON), True),
    "llama tied": (LlamaConfig(**COMMON, tie_word_embeddings=True), True),
    "llama3 scaling": (LlamaConfig(**COMMON, rope_parameters=LLAMA3), True),
    "llama linear scaling": (LlamaConfig(**COMMON, rope_parameters={"rope_type": "linear", "factor": 4.0, "rope_theta": 10000.0}), True),
    "mistral": (MistralConfig(**COMMON, head_dim=24, sliding_window=None), True),
    "qwen2": (Qwen2Config(**COMMON), True),
    "qwen3": (Qwen3Config(**COMMON, head_dim=24), True),
    "gemma": (GemmaConfig(**COMMON, head_dim=24), False),
}


def convert(*args):
    r = subprocess.run([SVAE, "convert", *map(str, args), "--verify"], capture_output=True, text=True)
    if r.returncode:
        sys.exit(f"svae convert {args}: {r.stderr}")


def check(name, what, folder, model, ids, want):
    got, info = AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True)
    if info["missing_keys"] or info["mismatched_keys"] or info["unexpected_keys"]:
        sys.exit(f"{name} as {what}: {info}")
    for key, value in model.state_dict().items():
        if not torch.equal(value, got.state_dict()[key]):
            sys.exit(f"{name} as {what}: {key} differs")
    for key in ("rope_parameters", "sliding_window", "head_dim"):
        if getattr(got.config, key, None) != getattr(model.config, key, None):
            sys.exit(f"{name} as {what}: {key} is {getattr(got.config, key, None)}, was {getattr(model.config, key, None)}")
    got.eval()
    with torch.no_grad():
        if not torch.equal(got(ids).logits, want):
            sys.exit(f"{name} as {what}: the logits differ")


def check_llama(name, file, model, ids):
    """Compares 8 greedy tokens, as far as the choice is clear: two leading logits that lie within 0.05 may change places."""
    script = pathlib.Path(LLAMA) / "check_llama.mjs"
    shutil.copy(HERE / "check_llama.mjs", script)
    prompt = ids[0, :20].tolist()
    r = subprocess.run(["node", script, file, "8", json.dumps(prompt)], capture_output=True, text=True, cwd=LLAMA)
    if r.returncode:
        sys.exit(f"{name}: llama.cpp: {r.stderr}{r.stdout}")
    got, compared = json.loads(r.stdout.strip().splitlines()[-1])["out"], 0
    for id in got:
        with torch.no_grad():
            top = model(torch.tensor([prompt])).logits[0, -1].topk(2)
        if top.values[0] - top.values[1] > 0.05 and id != top.indices[0]:
            sys.exit(f"{name}: llama.cpp writes {got}, transformers {top.indices[0]} after {prompt}")
        compared += int(top.values[0] - top.values[1] > 0.05)
        prompt.append(id)
    if compared == 0:
        sys.exit(f"{name}: no choice is clear enough to compare")
    print(f"{name}: llama.cpp agrees on {compared} of {len(got)} tokens, {len(got) - compared} are too close to tell")


def main():
    for name, (config, gguf) in CASES.items():
        torch.manual_seed(1)
        model = AutoModelForCausalLM.from_config(config).eval()
        for p in model.parameters():  # norms and biases other than 1 and 0
            p.data.add_(torch.randn_like(p) * 0.05)
        ids = torch.randint(3, V, (2, 40))
        with torch.no_grad():
            want = model(ids).logits
        with tempfile.TemporaryDirectory() as d:
            d = pathlib.Path(d)
            model.save_pretrained(d / "src")
            for file in ("tokenizer.json", "tokenizer_config.json"):
                shutil.copy(pathlib.Path(TOKENIZER) / file, d / "src" / file)
            convert(d / "src", d / "folder")
            check(name, "folder", d / "folder", model, ids, want)
            convert(d / "src", d / "sharded", "--shard-bytes", "100000")
            check(name, "shards", d / "sharded", model, ids, want)
            convert(d / "folder", d / "torch", "--format", "pytorch")
            state = torch.load(d / "torch" / "pytorch_model.bin", weights_only=True)
            assert state, name
            torch.save(state, d / "torch" / "pytorch_model.bin", _use_new_zipfile_serialization=False)  # the legacy format
            (d / "torch" / "manifest.json").unlink()
            convert(d / "torch", d / "back")
            check(name, "PyTorch and back", d / "back", model, ids, want)
            if gguf:
                convert(d / "folder", d / "m.gguf")
                convert(d / "m.gguf", d / "again")
                check(name, "GGUF and back", d / "again", model, ids, want)
                if LLAMA:
                    check_llama(name, d / "m.gguf", model, ids)
                    convert(d / "folder", d / "h.gguf", "--dtype", "f16")
                    check_llama(name + " in F16", d / "h.gguf", model, ids)
        print(f"{name}: equal" + (", also by way of GGUF" if gguf else ""))


main()
