"""Makes the PyTorch and safetensors files of this folder, and golden.json with what each must read as.

Made with torch 2.15.0, numpy 2.4.6, safetensors 0.8.0 (Python 3.11). Run: python make.py
"""

import argparse
import collections
import datetime
import json
import os
import pathlib
import string
import sys
import types

import numpy as np
import torch
from safetensors.torch import save_file

HERE = pathlib.Path(__file__).parent
golden = {}
torch.manual_seed(20240501)


def describe(tensors):
    out = {}
    for name, t in tensors.items():
        t = t.detach()
        flat = t.contiguous().reshape(-1)
        out[name] = {
            "dtype": str(t.dtype).removeprefix("torch."),
            "shape": list(t.shape),
            "raw": bytes(flat.view(torch.uint8).tolist()).hex() if flat.numel() else "",
        }
        if not t.dtype.is_complex and t.dtype not in UNCONVERTED:
            f = flat.to(torch.float32)
            out[name]["f32"] = bytes(f.view(torch.uint8).tolist()).hex() if f.numel() else ""
    return out


UNCONVERTED = {torch.float8_e4m3fn, torch.float8_e5m2, torch.uint16, torch.uint32, torch.uint64}


def save(name, value, tensors, tied=(), opaque=(), meta=None, **kw):
    path = HERE / name
    path.parent.mkdir(exist_ok=True)
    torch.save(value, path, **kw)
    golden[name] = {"tensors": describe(tensors), "tied": list(tied), "opaque": list(opaque), "meta": meta or {}}


# Every element type, with the values at which conversions go wrong.
halves = torch.tensor([0, 0x8000, 1, 0x8001, 0x3FF, 0x400, 0x3C00, 0x3C01, 0x7BFF, 0xFBFF, 0x7C00, 0xFC00, 0x7E00])
halves = halves.to(torch.int32).to(torch.uint16).view(torch.float16)
brains = torch.tensor([0, 0x8000, 1, 0x8001, 0x7F, 0x80, 0x3F80, 0x3F81, 0x7F7F, 0xFF7F, 0x7F80, 0xFF80, 0x7FC0])
brains = brains.to(torch.int32).to(torch.uint16).view(torch.bfloat16)
dtypes = {
    "f32": torch.randn(3, 5),
    "f16": halves,
    "bf16": brains,
    "f64": torch.tensor([1 + 2**-24, 1 + 3 * 2**-24, 1e300, -1e-300, 0.1], dtype=torch.float64),
    "i64": torch.tensor([2**53 + 1, -(2**62), 2**24 + 1, 2**24 + 3, -1]),
    "i32": torch.tensor([2**31 - 1, -(2**31), 0, 7], dtype=torch.int32),
    "i16": torch.tensor([32767, -32768, -1], dtype=torch.int16),
    "i8": torch.tensor([127, -128, -1], dtype=torch.int8),
    "u8": torch.tensor([0, 255, 128], dtype=torch.uint8),
    "bool": torch.tensor([True, False, True]),
    "u16": torch.tensor([65535, 1], dtype=torch.uint16),
    "u32": torch.tensor([2**32 - 1, 1], dtype=torch.uint32),
    "u64": torch.tensor([2**63, 1], dtype=torch.uint64),
    "c64": torch.tensor([1 + 2j, -3.5j]),
    "f8": torch.tensor([1.0, -0.5, 448.0]).to(torch.float8_e4m3fn),
    "f8e5": torch.tensor([1.0, -0.5]).to(torch.float8_e5m2),
}
LEGACY = {"_use_new_zipfile_serialization": False}
save("dtypes.pt", dtypes, dtypes)
save("legacy-dtypes.pt", dtypes, dtypes, **LEGACY)
save_file({k: v for k, v in dtypes.items()}, HERE / "dtypes.safetensors", metadata={"format": "pt", "quote": 'a "b" \u00e9'})
golden["dtypes.safetensors"] = {"tensors": describe(dtypes), "tied": [], "opaque": [], "meta": {"format": "pt", "quote": 'a "b" \u00e9'}}

# Views, ties, parameters.
base = torch.arange(60, dtype=torch.float32)
tied = torch.nn.Parameter(torch.randn(4, 3))
with_state = torch.nn.Parameter(torch.randn(2))
with_state.note = "kept by PyTorch, ignored here"
with_attr = torch.randn(3)
with_attr.note = 1
views = collections.OrderedDict(
    contiguous=base.view(3, 4, 5),
    transposed=base.view(12, 5).t(),
    permuted=base.view(3, 4, 5).permute(2, 0, 1),
    sliced=base[7:19],
    strided=base[3::7],
    block=base.view(12, 5)[2:9, 1:4],
    expanded=base[4:7].view(3, 1).expand(3, 4),
    scalar_expanded=base[9].expand(2, 3),
    windows=base.as_strided((5, 8), (2, 1), 3),
    one_row=base.view(12, 5)[3:4],
    scalar=torch.tensor(2.5),
    scalar_view=base[41],
    empty=torch.zeros(0, 7),
    empty_view=base[5:5],
    half_transposed=torch.randn(6, 7).half().t(),
    byte_strided=torch.arange(20, dtype=torch.uint8)[::3],
    double_transposed=torch.randn(2, 3, dtype=torch.float64).t(),
    parameter=torch.nn.Parameter(torch.randn(2, 2)),
    parameter_state=with_state,
    attribute=with_attr,
    **{"embed.weight": tied, "head.weight": tied, "head.copy": tied.detach()[:]},
)
save("views.pt", views, views, tied=[["embed.weight", "head.copy", "head.weight"]])
save("legacy-views.pt", views, views, tied=[["embed.weight", "head.copy", "head.weight"]], **LEGACY)

# A training checkpoint with values of many kinds, in three protocols.
model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.LayerNorm(4))
opt = torch.optim.AdamW(model.parameters(), lr=0.001)
model(torch.randn(2, 3)).sum().backward()
opt.step()
nested = {
    "model": model.state_dict(),
    "optimizer": opt.state_dict(),
    "args": argparse.Namespace(lr=0.1, names=["a", "b"]),
    "best": np.float64(1.5),
    "history": np.arange(3.0),
    "epoch": 3,
    "big": 2**80,
    "loss": 0.25,
    "done": False,
    "note": "h\u00e9llo",
    "nothing": None,
    "size": torch.Size([2, 3]),
    "dtype": torch.float16,
    "device": torch.device("cpu"),
    "set": {1, 2},
    "frozen": frozenset([1]),
    "complex": 1 + 2j,
    "bytes": b"\x00\xff",
    "bytearray": bytearray(b"ab"),
    "slice": slice(1, 2),
    "range": range(3),
    "default": collections.defaultdict(list, {"x": torch.ones(2)}),
    "counter": collections.Counter("aab"),
    "list": [torch.zeros(1), (torch.ones(1), 5)],
    "half": np.float16(0.5),
    "strings": np.array(["a", "b"]),
    "objects": np.array([1, "x", None], dtype=object),
    "when": datetime.datetime(2024, 5, 1, 12, 30, tzinfo=datetime.timezone.utc),
    "took": datetime.timedelta(seconds=3),
    "path": pathlib.PurePosixPath("a/b"),
    "rng": torch.get_rng_state()[:4].clone(),
    "nested": {"deep": [{"w": torch.ones(2, dtype=torch.int8)}], 5: torch.zeros(1)},
}
expect = dict(model.state_dict())
for i, state in opt.state_dict()["state"].items():
    for k, v in state.items():
        expect[f"optimizer.state.{i}.{k}"] = v
expect |= {"default.x": nested["default"]["x"], "list.0": nested["list"][0], "list.1.0": nested["list"][1][0], "rng": nested["rng"]}
expect |= {"nested.deep.0.w": nested["nested"]["deep"][0]["w"], "nested.5": nested["nested"][5]}
for protocol, legacy in [(p, l) for p in (1, 2, 3, 4, 5) for l in (False, True)]:
    save(
        f"{'legacy-' * legacy}nested{protocol}.pt", nested, expect, pickle_protocol=protocol, **(LEGACY if legacy else {}),
        opaque=sorted(
            "args best history device set frozen complex bytes bytearray slice range counter half strings objects when took path".split()
        ),
        meta={"epoch": "3", "big": str(2**80), "loss": "0.25", "done": "false", "note": "h\u00e9llo", "dtype": "torch.float16"},
    )

# The container that mmengine writes: meta, state_dict, message_hub with an object that refers to its own methods.
mm = types.ModuleType("mmengine.logging.history_buffer")
sys.modules["mmengine"], sys.modules["mmengine.logging"], sys.modules[mm.__name__] = types.ModuleType("mmengine"), types.ModuleType("mmengine.logging"), mm


class HistoryBuffer:
    def mean(self): ...

    def __init__(self):
        self._log_history = np.zeros(2)
        self._statistics_methods = {"mean": HistoryBuffer.mean}


HistoryBuffer.__module__, mm.HistoryBuffer = mm.__name__, HistoryBuffer
meta = {"cfg": "max_iters = 3\n", "iter": 2, "mmengine_version": "0.10.4"}
save(
    "mmengine.pth",
    {"meta": meta, "state_dict": model.state_dict(), "message_hub": {"log_scalars": collections.OrderedDict(loss=HistoryBuffer())}},
    model.state_dict(), opaque=["message_hub.log_scalars.loss"],
    meta={"meta.cfg": "max_iters = 3\n", "meta.iter": "2", "meta.mmengine_version": "0.10.4"},
)

torch.serialization.set_crc32_options(False)
save("nocrc.pt", {"a": base[:4].clone()}, {"a": base[:4]})
torch.serialization.set_crc32_options(True)
save("bare.pt", base[2:5], {"tensor": base[2:5]})
save("legacy-bare.pt", base[2:5], {"tensor": base[2:5]}, **LEGACY)
save("both.pt", {"model": {"x": base[:1]}, "module": {"x": base[1:2]}}, {"model.x": base[:1], "module.x": base[1:2]})

# Sharded folders.
a, b = {"a.weight": torch.randn(3, 2), "a.bias": torch.randn(3)}, {"b.weight": torch.randn(2, 2).bfloat16()}
index = {"metadata": {"total_size": 44, "total_parameters": 13}, "weight_map": {}}
for kind, stem, ext, write in (("bin", "pytorch_model", "bin", torch.save), ("st", "model", "safetensors", save_file)):
    folder = HERE / f"sharded-{kind}"
    folder.mkdir(exist_ok=True)
    for i, part in enumerate((a, b), 1):
        file = f"{stem}-{i:05d}-of-00002.{ext}"
        write(part, folder / file)
        index["weight_map"] |= {k: file for k in part}
    (folder / f"{stem}.{ext}.index.json").write_text(json.dumps(index, indent=2))
    golden[folder.name] = {"tensors": describe(a | b), "tied": [], "opaque": [], "meta": {"total_size": "44", "total_parameters": "13"}}

# Tensors that are not supported, each beside one that is.
coo = torch.eye(3).to_sparse()
save("sparse.pt", {"s": coo, "d": base[:2].clone()}, {"d": base[:2]})
save("meta.pt", {"m": torch.empty(2, 3, device="meta"), "d": base[:2].clone()}, {"d": base[:2]})
save("complex128.pt", {"c": torch.zeros(2, dtype=torch.complex128), "d": base[:2].clone()}, {"d": base[:2]})
save("legacy-complex128.pt", {"c": torch.zeros(2, dtype=torch.complex128), "s": coo, "d": base[:2].clone()}, {"d": base[:2]}, **LEGACY)
save("neg.pt", {"n": torch.tensor([1j, 2j]).conj().imag, "d": base[:2].clone()}, {"d": base[:2]})


# Files to refuse.
class Run:
    def __init__(self, f, *args):
        self.f, self.args = f, args

    def __reduce__(self):
        return self.f, self.args


refused = HERE / "refused"
refused.mkdir(exist_ok=True)
torch.save({"a": base[:2].clone(), "x": Run(os.system, "touch pwned")}, refused / "system2.pt")
torch.save({"a": base[:2].clone(), "x": Run(os.system, "touch pwned")}, refused / "system4.pt", pickle_protocol=4)
torch.save({"a": base[:2].clone(), "x": Run(eval, "1+1")}, refused / "eval.pt")
torch.save({"a": base[:2].clone(), "x": string.Template("a")}, refused / "class.pt")
torch.save(torch.nn.Linear(1, 1), refused / "module.pt")
torch.save({"a": base[:2].clone(), "x": Run(os.system, "touch pwned")}, refused / "legacy-system.pt", **LEGACY)
torch.save(torch.nn.Linear(1, 1), refused / "legacy-module.pt", **LEGACY)
torch.save({"a": 1}, refused / "legacy-empty.pt", **LEGACY)
torch.save({"a": 1}, refused / "empty.pt")
torch.jit.save(torch.jit.script(torch.nn.Linear(1, 1)), refused / "script.pt")

(HERE / "golden.json").write_text(json.dumps(golden, indent=0, sort_keys=True))


# The files that the Go tests write open in PyTorch, and hold the same.
def same(a, b):
    a, b = a.detach().contiguous().reshape(-1), b.reshape(-1)
    return a.dtype == b.dtype and (a.numel() == b.numel() == 0 or torch.equal(a.view(torch.uint8), b.view(torch.uint8)))


for name in ("written.pt", "written-key.pt"):
    for mmap in (False, True):
        got = torch.load(HERE / name, weights_only=True, mmap=mmap)
        got = got.get("state_dict", got)
        want = dtypes | {f"views.{k}": v for k, v in views.items()}
        assert sorted(got) == sorted(want), name
        for k, v in want.items():
            assert got[k].shape == v.shape and same(v, got[k]), (name, k)
