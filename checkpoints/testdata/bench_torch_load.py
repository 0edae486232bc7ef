"""Opens and converts a state dict of 500 MB with PyTorch and with svae, in turns on one machine, and prints medians of 5.

Run in the repository's root: python checkpoints/testdata/bench_torch_load.py [--mb 500] [--runs 5] [--dir DIR]
Needs torch, safetensors and go. Every run is a process of its own on a file in the page cache; PyTorch's time leaves out its
import. "to safetensors" is torch.load and save_file on one side, open and write on the other. The last rows also wait until
the disk has it, and svae's then has SHA-256 sums too. Memory is the peak of the process, mapped pages included.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

TORCH = """
import sys, time, json, os, torch
from safetensors.torch import save_file
path, out, mmap, sync = sys.argv[1], sys.argv[2], sys.argv[3] == "1", sys.argv[4] == "1"
os.mkdir(out)
start = time.perf_counter()
sd = torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)
opened = time.perf_counter()
save_file(sd, out + "/model.safetensors")
if sync:
    fd = os.open(out + "/model.safetensors", os.O_RDWR); os.fsync(fd); os.close(fd)
print(json.dumps({"open": opened - start, "total": time.perf_counter() - start}))
"""

MAKE = """
import sys, torch
folder, mb = sys.argv[1], int(sys.argv[2])
torch.manual_seed(1)
for name, dtype, size in (("fp32", torch.float32, 4), ("fp16", torch.float16, 2)):
    rows = 2048
    count = max(1, mb * 10**6 // (rows * rows * size))
    sd = {f"model.layers.{i}.weight": torch.randn(rows, rows).to(dtype) for i in range(count)}
    torch.save(sd, f"{folder}/{name}-zip.pt")
    torch.save(sd, f"{folder}/{name}-legacy.pt", _use_new_zipfile_serialization=False)
"""


def run(command):
    """Runs a command; returns what it prints as JSON, with the peak of its memory in MiB."""
    p = subprocess.Popen(command, stdout=subprocess.PIPE)
    out = p.stdout.read()
    _, status, usage = os.wait4(p.pid, 0)
    p.returncode = status
    if status != 0:
        sys.exit(f"{command} failed")
    return json.loads(out) | {"mib": usage.ru_maxrss / 1024}


def read_plainly(path):
    buffer = bytearray(8 << 20)
    start = time.perf_counter()
    with open(path, "rb", buffering=0) as f:
        while f.readinto(buffer):
            pass
    return time.perf_counter() - start


def main():
    a = argparse.ArgumentParser()
    a.add_argument("--mb", type=int, default=500)
    a.add_argument("--runs", type=int, default=5)
    a.add_argument("--dir", help="where to make the files (a temporary folder)")
    a = a.parse_args()
    folder = tempfile.mkdtemp(dir=a.dir)
    try:
        bench(a, folder)
    finally:
        shutil.rmtree(folder)


def bench(a, folder):
    binary = folder + "/bench"
    subprocess.run(["go", "build", "-o", binary, "./checkpoints/testdata/bench"], check=True)
    subprocess.run([sys.executable, "-c", MAKE, folder, str(a.mb)], check=True)
    out = folder + "/out"
    print(f"{'file':<16}{'who':<24}{'open':>10}{'to safetensors':>16}{'peak MiB':>10}")
    for file in ("fp32-zip.pt", "fp16-zip.pt", "fp32-legacy.pt", "fp16-legacy.pt"):
        path = f"{folder}/{file}"
        torch = [sys.executable, "-c", TORCH, path, out]
        who = {
            "torch": torch + ["0", "0"],
            "torch, mmap=True": torch + ["1", "0"],
            "svae": [binary, "-plain", path, out],
            "torch, fsync": torch + ["0", "1"],
            "svae, fsync, sha256": [binary, path, out],
        }
        if "legacy" in file:
            del who["torch, mmap=True"]  # which PyTorch refuses
        results = {name: [] for name in who}
        reads = []
        for i in range(a.runs + 1):
            plain = read_plainly(path)
            for name in list(who) if i % 2 else list(reversed(who)):
                r = run(who[name])
                shutil.rmtree(out)
                os.sync()
                if i > 0:  # the first round warms up
                    results[name].append(r)
            reads.append(plain)
        size = os.path.getsize(path) / 1e6
        print(f"{file:<16}{'reading ' + format(size, '.0f') + ' MB plainly':<24}{statistics.median(reads[1:]) * 1e3:>7.1f} ms")
        for name, r in results.items():
            m = {k: statistics.median(x[k] for x in r) for k in r[0]}
            print(f"{'':<16}{name:<24}{m['open'] * 1e3:>7.1f} ms{m['total'] * 1e3:>13.1f} ms{m['mib']:>10.0f}", flush=True)


main()
