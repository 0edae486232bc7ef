#!/usr/bin/env python3
"""Computes golden.json and golden.f32 next to this file: what the policies "paper" and "reference" must read and answer.

Plain NumPy in float64 over lists and loops, written from the formulas of arXiv 2504.00970 and from a description of how its
published code behaves. Random keys, values and queries stand for those of one layer of a model.

Written with numpy 2.4.6 and Python 3.11.7; seed 250400970. From the repository's root:

    pip install numpy==2.4.6
    python3 kernels/kv/testdata/make.py

golden.f32 holds, as little-endian float32, k (N, KV, K), v (N, KV, K) and q (N, H, K), then for each case and each of 50 steps
the output (H, K). golden.json holds the sizes, the row after each sentence, and for each case and step the rows read by each key
head (paper) or by each head (reference).
"""

import json
import os

import numpy as np

HERE = os.path.dirname(os.path.abspath(__file__))
H, KV, K, N, WINDOW, EDGE, POOL, STEPS = 4, 2, 16, 310, 32, 32, 7, 50
G = H // KV
CASES = [  # policy, rows of the prompt, budget, keep
    ("paper", 260, 96, 2.0), ("paper", 32, 40, 3.0), ("paper", 20, 40, 3.0), ("paper", 250, 70, 3.0),
    ("reference", 260, 96, 2.0), ("reference", 32, 80, 3.0), ("reference", 20, 80, 3.0), ("reference", 250, 70, 3.0),
]


def softmax(z):
    e = np.exp(z - z.max())
    return e / e.sum()


def best_first(x):
    return sorted(range(len(x)), key=lambda i: (-x[i], i))


def window_weights(k, q, n, h):
    """Sum over the last queries of the prompt of the weights of head h on each row before them."""
    first = max(n - WINDOW, 0)
    total = np.zeros(first)
    for t in range(first, n):
        total += softmax(k[: t + 1, h // G] @ q[t, h] / np.sqrt(K))[:first]
    return total


def attend(k, v, q, h, rows):
    return softmax(k[rows, h // G] @ q[h] / np.sqrt(K)) @ v[rows, h // G]


def sentences(bounds, n):
    ends = [b for b in bounds if b <= n]
    if not ends or ends[-1] < n:
        ends.append(n)
    return list(zip([0] + ends[:-1], ends))


def paper(k, v, q, bounds, n, budget, keep):
    first = max(n - WINDOW, 0)
    buckets = []
    for c in range(KV):
        alpha = sum(window_weights(k, q, n, c * G + g) for g in range(G))
        count = min(max(int(keep * min(budget, n)) - WINDOW, 0), first)
        kept = sorted(best_first(alpha)[:count]) + list(range(first, n))
        buckets.append([[r for r in kept if lo <= r < hi] for lo, hi in sentences(bounds, n)])
        buckets[c] = [b for b in buckets[c] if b]
    begin, queries = n, []
    for t in range(n, n + STEPS):
        queries.append(q[t])
        mean = np.mean(queries, axis=0)
        b = min(budget, t + 1)
        head = min(EDGE, b // 2)
        tail = min(EDGE, b - head)
        read = []
        for c in range(KV):
            if b == t + 1:
                read.append(list(range(t + 1)))
                continue
            means = [k[rows, c].mean(axis=0) for rows in buckets[c]]
            score = [max(mean[c * G + g] @ m for g in range(G)) for m in means]
            middle = [r for i in best_first(score) for r in buckets[c][i] if head <= r < t + 1 - tail]
            read.append(sorted(list(range(head)) + middle[: b - head - tail] + list(range(t + 1 - tail, t + 1))))
        yield read, np.stack([attend(k, v, q[t], h, read[h // G]) for h in range(H)])
        if t + 1 in bounds:
            queries = []
            for c in range(KV):
                buckets[c].append(list(range(begin, t + 1)))
            begin = t + 1


def reference(k, v, q, bounds, n, budget, keep):
    kept, means, lists = [], [], []
    first = max(n - WINDOW, 0)
    for h in range(H):
        a = window_weights(k, q, n, h)
        pooled = [max(a[max(i - POOL // 2, 0) : i + POOL // 2 + 1]) for i in range(first)]
        count = min(max(int(keep * min(budget, n)) - WINDOW, 1), first)
        kept.append(sorted(best_first(pooled)[:count]) + list(range(first, n)))
        parts = sentences(bounds, n)
        cap = max(100, 2 * (len(kept[h]) // len(parts)) + 50)
        means.append([])
        lists.append([])
        for lo, hi in parts:
            at = [i for i, r in enumerate(kept[h]) if lo <= r < hi]
            means[h].append(k[[kept[h][i] for i in at], h // G].sum(axis=0) / max(len(at), 1))
            lists[h].append(at[:cap])
    queries, begin = [], len(kept[0])
    for t in range(n, n + STEPS):
        for h in range(H):
            kept[h].append(t)
        count = len(kept[0])
        queries.append(q[t])
        if t + 1 in bounds:
            for h in range(H):
                means[h].append(k[[kept[h][i] for i in range(begin, count)], h // G].mean(axis=0))
                lists[h].append([] if count - begin > cap else list(range(begin, count)))
            queries, begin = [], count
        read = []
        for h in range(H):
            if len(queries) <= 1:
                read.append(list(kept[h]))
                continue
            mean = np.mean([x[h] for x in queries], axis=0)
            order = best_first([mean @ m for m in means[h]])
            found = [i for j in order for i in lists[h][j] if EDGE < i < count - EDGE]
            allowed = set(range(min(EDGE, count))) | set(range(max(count - EDGE, 0), count))
            allowed |= set(found[: max(min(budget, t + 1) - 2 * EDGE, 0)])
            read.append([kept[h][i] for i in sorted(allowed)])
        yield read, np.stack([attend(k, v, q[t], h, read[h]) for h in range(H)])


def main():
    rng = np.random.default_rng(250400970)
    k = rng.normal(size=(N, KV, K)).astype("<f4")
    v = rng.normal(size=(N, KV, K)).astype("<f4")
    q = (1.5 * rng.normal(size=(N, H, K))).astype("<f4")
    bounds, at = [], 0
    while True:
        at += int(rng.integers(1, 25))
        if at > N:
            break
        bounds.append(at)
    cases = []
    with open(os.path.join(HERE, "golden.f32"), "wb") as f:
        for x in (k, v, q):
            f.write(x.tobytes())
        for name, n, budget, keep in CASES:
            steps = []
            wide = [x.astype(np.float64) for x in (k, v, q)]
            for read, out in (paper if name == "paper" else reference)(*wide, bounds, n, budget, keep):
                steps.append([ranges(r) for r in read])
                f.write(out.astype("<f4").tobytes())
            cases.append({"policy": name, "prompt": n, "budget": budget, "keep": keep, "steps": steps})
    with open(os.path.join(HERE, "golden.json"), "w") as f:
        json.dump({"heads": H, "kv_heads": KV, "head_dim": K, "rows": N, "bounds": bounds, "cases": cases}, f, separators=(",", ":"))
        f.write("\n")


def ranges(rows):
    """[lo, hi, lo, hi, ...] of ascending rows."""
    out = []
    for r in rows:
        if out and out[-1] == r:
            out[-1] = r + 1
        else:
            out += [r, r + 1]
    return out


main()
