"""Makes spmodels.json: small SentencePiece models, and the ids that the real library gives with them.

    pip install sentencepiece==0.2.3 protobuf
    python3 spmodels.py

Each case is {"name", "model" (base64), "texts", "ids"}. "trained" is trained on the text of make.py; the others hold random pieces
of few characters, so that merges collide. "refused" holds models that must not load, with a part of the reason.
"""
import base64
import io
import json
import os
import random
import re

import sentencepiece as sp
from sentencepiece import sentencepiece_model_pb2 as pb

HERE = os.path.dirname(os.path.abspath(__file__))
UNKNOWN, CONTROL, USER, UNUSED = 2, 3, 4, 5


def corpus():
    return re.search(r'CORPUS = """\n(.*?)"""', open(os.path.join(HERE, "make.py"), encoding="utf-8").read(), re.S).group(1)


def trained(**options):
    out = io.BytesIO()
    sp.SentencePieceTrainer.train(sentence_iterator=iter(corpus().split("\n")), model_writer=out, model_type="bpe", vocab_size=480,
                                  byte_fallback=True, normalization_rule_name="identity", num_threads=1, minloglevel=2, **options)
    return out.getvalue()


def base(kind=2):
    m = pb.ModelProto()
    for text, k in ("<unk>", UNKNOWN), ("<s>", CONTROL), ("</s>", CONTROL):
        m.pieces.add(piece=text, score=0, type=k)
    m.trainer_spec.model_type = kind
    m.normalizer_spec.name = "identity"
    return m


def rand_model(rnd, user, trim, prefix):
    m, alphabet = base(), rnd.choice(["ab\u2581", "a\u2581bc"])
    pieces = {"".join(rnd.choice(alphabet) for _ in range(rnd.randint(2, 5))) for _ in range(rnd.randint(5, 25))}
    pieces = sorted(pieces) + list(alphabet)
    rnd.shuffle(pieces)
    for i, p in enumerate(pieces):
        m.pieces.add(piece=p, score=-i - 1)
    if user:
        m.pieces.add(piece="<u>", score=0, type=USER)
    m.normalizer_spec.add_dummy_prefix = prefix
    m.normalizer_spec.remove_extra_whitespaces = trim
    texts = ["".join(rnd.choice(["a", "b", "c", " ", " ", "a", "b", "x"] + ["<u>"] * user) for _ in range(rnd.randint(0, 25))) for _ in range(40)]
    return m, [t for t in texts if not t.startswith("<u>")]


def refused():
    out = []

    def add(why, change, kind=2):
        m = base(kind)
        for i, p in enumerate(["\u2581", "a", "b", "ab"]):
            m.pieces.add(piece=p, score=-i)
        change(m)
        out.append({"why": why, "model": base64.b64encode(m.SerializeToString()).decode()})

    add("type UNIGRAM", lambda m: None, 1)
    add("type WORD", lambda m: None, 3)
    add("rule \"nmt_nfkc\"", lambda m: m.normalizer_spec.MergeFrom(pb.NormalizerSpec(name="nmt_nfkc", precompiled_charsmap=b"\0\1")))
    add("treat_whitespace_as_suffix", lambda m: m.trainer_spec.MergeFrom(pb.TrainerSpec(treat_whitespace_as_suffix=True)))
    add("escape_whitespaces", lambda m: m.normalizer_spec.MergeFrom(pb.NormalizerSpec(escape_whitespaces=False)))
    add("denormalizer", lambda m: m.denormalizer_spec.MergeFrom(pb.NormalizerSpec(precompiled_charsmap=b"\0")))
    add("same score", lambda m: [m.pieces.add(piece=p, score=-9) for p in ("ba", "aa")])
    add("no piece", lambda m: m.pieces.add(piece="az", score=-9))
    add("same text", lambda m: m.pieces.add(piece="ab", score=-9))
    add("unused and can be merged", lambda m: m.pieces.add(piece="ba", score=-9, type=UNUSED))
    add("user-defined symbols together", lambda m: m.pieces.add(piece="<u>", score=0, type=USER))
    add("byte pieces, but none for 0x00", lambda m: m.pieces.add(piece="<0x41>", score=0, type=6))
    add("byte_fallback is true", lambda m: m.trainer_spec.MergeFrom(pb.TrainerSpec(byte_fallback=True)))
    add("one character", lambda m: m.pieces.add(piece="!", score=0, type=CONTROL))
    return out


def main():
    rnd, cases = random.Random(3), []

    def add(name, model, texts):
        p = sp.SentencePieceProcessor(model_proto=model)
        cases.append({"name": name, "model": base64.b64encode(model).decode(), "texts": texts, "ids": [p.encode(t) for t in texts]})

    strings = json.load(open(os.path.join(HERE, "golden.json")))["strings"]
    add("trained", trained(remove_extra_whitespaces=False, allow_whitespace_only_pieces=True, split_digits=True), strings)
    add("trained-trim", trained(remove_extra_whitespaces=True), strings[:120])
    chars = base(4)
    for i, c in enumerate("\u2581etaoin"):
        chars.pieces.add(piece=c, score=-i)
    add("characters", chars.SerializeToString(), ["a tone", "  note  it ", "zz q", ""])
    for i in range(16):
        user = i % 4 == 3
        m, texts = rand_model(rnd, user, i % 2 == 0, i % 3 != 0)
        add("random-%d" % i, m.SerializeToString(), texts)
    runs = base()
    for i, n in enumerate([1] + [2, 4, 8, 16, 15, 14, 13, 12, 11, 10, 9, 7, 6, 5, 3]):
        runs.pieces.add(piece="\u2581" * n, score=-1e9)
    for i, p in enumerate(["a", "\u2581a"]):
        runs.pieces.add(piece=p, score=-i)
    runs.normalizer_spec.remove_extra_whitespaces = False
    add("runs of spaces", runs.SerializeToString(), [" " * n + "a" + " " * (n // 3) for n in range(130)])
    with open(os.path.join(HERE, "spmodels.json"), "w") as f:
        json.dump({"cases": cases, "refused": refused()}, f, separators=(",", ":"))
        f.write("\n")


main()
