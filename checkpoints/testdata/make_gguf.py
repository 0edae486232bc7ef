"""Makes the GGUF files of this folder with the gguf package, which follows ggml's rules bit for bit.

blocks.gguf   tensors of every type of blocks, NAME.blocks, and what they dequantise to, NAME.float32; values of every type
written.gguf  a small file of values and tensors that checkpoints.WriteGGUF must write byte for byte

Made with gguf 0.19.0, numpy 2.4.6 (Python 3.11). Run: python make_gguf.py
"""

import pathlib

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Q

HERE = pathlib.Path(__file__).parent
rng = np.random.default_rng(20241125)


def halves(n):
    """float16 scales: of both signs, zero, subnormal, the largest."""
    v = rng.normal(0, 0.02, n).astype(np.float16)
    v[: min(n, 6)] = np.array([0, 5.96e-8, 65504, -0.0, -6e-6, 1], np.float16)[:n]
    return rng.permutation(v).view(np.uint8).reshape(n, 2)


def blocks(kind, rows, cols):
    """Blocks of random bits with finite scales."""
    count, size = gguf.GGML_QUANT_SIZES[kind]
    n = rows * cols // count
    b = rng.integers(0, 256, (n, size), np.uint8)
    at = {Q.Q6_K: [208], Q.Q4_0: [0], Q.Q5_0: [0], Q.Q8_0: [0]}.get(kind, [0, 2])
    for i in at:
        b[:, i : i + 2] = halves(n)
    return b.reshape(rows, cols // count * size)


def hard(rows, cols):
    """Values at which Q8_0 rounds: ties, zeros, the tiny, the equal."""
    x = rng.normal(0, 1, (rows, cols)).astype(np.float32)
    x[0] = np.linspace(-127, 127, cols, dtype=np.float32)
    x[1, :32] = [127] + [k + 0.5 for k in range(31)]
    x[1, 32:64] = [-127] + [-k - 0.5 for k in range(31)]
    x[2] = 0
    x[3, :32] *= np.float32(1e-6)
    x[3, 32:64] *= np.float32(1e-9)
    x[4, :32] = np.nextafter(np.float32(0.5), np.float32(0))
    x[4, 5] = 127
    x[5] *= np.float32(60000)
    return x


w = gguf.GGUFWriter(HERE / "blocks.gguf", "test")
for kind, rows, cols in [
    (Q.Q4_0, 3, 96), (Q.Q4_1, 3, 96), (Q.Q5_0, 3, 96), (Q.Q5_1, 3, 96), (Q.Q8_0, 3, 96),
    (Q.Q4_K, 3, 512), (Q.Q5_K, 3, 512), (Q.Q6_K, 3, 512),
]:
    b = blocks(kind, rows, cols)
    w.add_tensor(kind.name + ".blocks", b, raw_dtype=kind)
    w.add_tensor(kind.name + ".float32", gguf.dequantize(b, kind))
x = hard(8, 128)
w.add_tensor("quantize.float32", x)
w.add_tensor("quantize.blocks", gguf.quantize(x, Q.Q8_0), raw_dtype=Q.Q8_0)
for name, dtype in [("i8", np.int8), ("i16", np.int16), ("i32", np.int32), ("i64", np.int64), ("f64", np.float64), ("f16", np.float16)]:
    w.add_tensor(name, np.array([[1, 2, -3], [4, 5, 100]], dtype))
w.add_tensor("bf16", gguf.quantize(np.array([1.5, -2, 3.140625], np.float32), Q.BF16), raw_dtype=Q.BF16)
w.add_tensor("four", np.arange(24, dtype=np.float32).reshape(1, 2, 3, 4))
for name in ("uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64", "float32", "float64"):
    getattr(w, "add_" + name)("one." + name, -7 if name[0] != "u" else 7)
w.add_bool("one.bool", True)
w.add_string("one.string", 'a "b"\né')
w.add_uint64("one.large", 2**64 - 1)
w.add_array("array.int", [1, -2, 3])
w.add_array("array.float", [1.5, -2.0])
w.add_array("array.bool", [True, False])
w.add_array("array.string", ["", "Ġthe", "▁", "x" * 300])
w.add_array("array.bytes", bytes([0, 255, 7]))
w.write_header_to_file()
w.write_kv_data_to_file()
w.write_tensors_to_file()
w.close()

w = gguf.GGUFWriter(HERE / "written.gguf", "test")
w.add_string("name", "Größe")
w.add_bool("yes", True)
w.add_bool("no", False)
w.add_uint32("u32", 2**32 - 1)
w.add_int32("i32", -5)
w.add_uint64("u64", 2**63 + 1)
w.add_float32("f32", 1e-5)
w.add_array("strings", ["a", "", "Ġb"])
w.add_array("ints", [3, -1])
w.add_array("floats", [0.5, -1.25])
w.add_array("bools", [True, False, True])
base = ((np.arange(3 * 64, dtype=np.float32) * 37 % 101 - 50) / 8).reshape(3, 64)
w.add_tensor("a.weight", base)
w.add_tensor("b.weight", base.astype(np.float16))
w.add_tensor("c.weight", gguf.quantize(base, Q.Q8_0), raw_dtype=Q.Q8_0)
w.add_tensor("d.bias", base[0, :3].copy())
w.add_tensor("e.weight", gguf.quantize(base, Q.BF16), raw_dtype=Q.BF16)
w.write_header_to_file()
w.write_kv_data_to_file()
w.write_tensors_to_file()
w.close()
