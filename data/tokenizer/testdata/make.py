"""Makes the tokenizers and the golden ids in this folder, with the Hugging Face library (tokenizers 0.23.3).

    pip install tokenizers==0.23.3
    python3 make.py

Each NAME.json is a small tokenizer trained on the text below. golden.json holds the strings and, for each tokenizer, their
ids with special tokens as text ("text") and, where they differ, as ids ("special": index of the string -> ids).
"""
import json
import os
import random

from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers

HERE = os.path.dirname(os.path.abspath(__file__))

CORPUS = """
It was the best of times, it was the worst of times; it was the age of wisdom, it was the age of foolishness.
The little girl said, "I don't know where we're going, but I'll go with you." She'd never been there before!
There were 12 apples, 345 pears and 67,890 plums in the year 1984. They've gone; that's all I'm sure of.
In the beginning the words were in the book, and the reader of the book was the writer of the words.
    def main(argv):\n\t\treturn len(argv) + 100  # the number of arguments\n
The weather is good today. The weather was bad yesterday. The whether and the weather, the then and the there.
Der kleine Junge ging über die Brücke und fand drei schöne Äpfel. Où est l'école? L'été dernier, à la plage.
今天天气很好。我们去公园玩。他说：“你好！”然后走了。真的吗？是的。我们今天很好。
Привет, мир! Это было лучшее из времён. Привет всем, кто был там. مرحبا بالعالم، كيف حالك اليوم؟
"""

GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
LLAMA3 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
QWEN = LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")


def added(id, content, **flags):
    base = dict(single_word=False, lstrip=False, rstrip=False, normalized=False, special=True)
    return {"id": id, "content": content, **base, **flags}


def train(pre, size, special, alphabet):
    tok = Tokenizer(models.BPE())
    tok.pre_tokenizer = pre
    tok.train_from_iterator(CORPUS.strip("\n").split("\n"), trainers.BpeTrainer(
        vocab_size=size, special_tokens=special, initial_alphabet=alphabet, show_progress=False))
    return json.loads(tok.to_str())


def byte_level(regex, modern, size=600):
    byte = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=not modern)
    pre = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(regex), "isolated"), byte]) if modern else byte
    j = train(pre, size, [], sorted(pre_tokenizers.ByteLevel.alphabet()))
    n = len(j["model"]["vocab"])
    j["added_tokens"] = [
        added(n, "<|endoftext|>"),
        added(n + 1, "<|im_start|>"),
        added(n + 2, "<|im|>"),
        added(n + 3, "<think>", special=False),
        added(n + 4, "<mask>", lstrip=True, special=True),
        added(n + 5, "yes", single_word=True, special=False),
        added(n + 6, "<Café>", normalized=True, special=False),
        added(n + 7, "<pad>", rstrip=True, special=True),
    ]
    return j


def sentence_piece(fallback):
    special = ["<unk>", "<s>", "</s>"]
    byte = ["<0x%02X>" % b for b in range(256)] if fallback else []
    size = 700 if fallback else 400
    j = train(pre_tokenizers.Metaspace(split=True), size, special + byte, [])
    j["added_tokens"] = [added(i, s) for i, s in enumerate(special)]
    n = len(j["model"]["vocab"])
    j["added_tokens"].append(added(n, "<think>", special=False))
    j["model"].update(byte_fallback=fallback, fuse_unk=True, unk_token="<unk>")
    j["pre_tokenizer"] = None
    j["normalizer"] = {"type": "Sequence", "normalizers": [
        {"type": "Prepend", "prepend": "▁"},
        {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]}
    return j


def tokenizers():
    gpt2 = byte_level(GPT2, False)
    llama3 = byte_level(LLAMA3, True)
    llama3["model"]["ignore_merges"] = True
    # Tokens that no merge makes: only a whole word finds them.
    vocab = llama3["model"]["vocab"]
    for a in llama3["added_tokens"]:
        a["id"] += 2
    vocab["Ġunreachable"], vocab["zzyzx"] = len(vocab), len(vocab) + 1
    qwen = byte_level(QWEN, True)
    qwen["normalizer"] = {"type": "NFC"}
    # Old files write merges as "a b".
    gpt2["model"]["merges"] = [" ".join(m) for m in gpt2["model"]["merges"]]
    spm = sentence_piece(True)
    unk = sentence_piece(False)
    meta = json.loads(json.dumps(unk))
    meta["normalizer"] = None
    meta["pre_tokenizer"] = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": True}
    meta["model"]["fuse_unk"] = False
    return {"gpt2": gpt2, "llama3": llama3, "qwen": qwen, "spm": spm, "spm-unk": unk, "spm-metaspace": meta}


def strings():
    s = [
        "", " ", "  ", "   ", "\t", "\n", "\n\n", "\r\n", " \n", "\n ", "\t\n \t", " \r\n\r\n  x", "a\n\n\nb", "a \n b", "a\n b",
        "Hello world", " Hello world", "Hello  world", "Hello   world ", "hello\tworld", "hello\u00a0world", "x\u3000y\u2003z",
        "\u0085a", "a\u2028b\u2029c", "a\u000b\u000cb", "a\u200bb", "\ufeffHello", "a\u180eb", "nul\x00nul", "\x01\x02\x7f",
        "I'm you're we've he'll don't it'd that's", "I'M YOU'RE WE'VE HE'LL DON'T IT'D THAT'S", "'ſ 'ſs x'ſ 'S's", "'r 'v 'l 'lL 'Re 'vE",
        "''s '''t ' s", "'tis 'twas '90s", "don’t we’ll", "'", "''", "a'", "'\u212a", "rock'n'roll's",
        "0 12 345 6789 01234567890123456789", "3.14 1,000,000 2024-01-31", "١٢٣٤ ५६७ ²³ ½ Ⅷ ①", "a1b22c333d4444", "1st 2nd",
        "!!! ??? ... ,,, ;;;", " !x ?y", "a,b;c", "(a) [b] {c}", "#!@$%^&*", "--- --- \n---\n", "...\n\n\nNext", "a/b\\c", "x = y+z;\r\n",
        "今天天气很好", "他说：“你好！”然后走了。", "今天 weather 很好 123", "한국어 텍스트 가각힣", "\u1100\u1161\u11a8 각", "日本語テキスト、カタカナ。",
        "مرحبا بالعالم", "שלום עולם", "สวัสดีชาวโลก", "नमस्ते दुनिया", "Привет, мир!", "Ελληνικά κείμενο", "İstanbul ıI ſ ß ẞ",
        "é e\u0301 \u212b \u1e9b\u0323 \u0958 ﬁ", "e\u0301" * 5, "a" + "\u0301" * 40 + "b", "o\u0323\u0302 o\u0302\u0323 \u01a1\u0301", "\u0301x \u0301",
        "👍", "👍🏽 👨‍👩‍👧‍👦", "🏳️‍🌈🇩🇪🇫🇷", "😶‍🌫️!", "a🙂b 🙂 c", "\U0001f600" * 4, "𝒜𝓑𝕮 𝟘𝟙𝟚", "𓀀𓁐\U00013470\U00014000", "\U000105c0\U000105f3x",
        "\U00010d40\U00010d4a\U0001ccf0a", "\U0002ebf0\U00020000", "\U000e0101\U0010fffd\ue000", "\ufffd\ufffe\uffff",
        "<|endoftext|>", "a<|endoftext|>b", " <|endoftext|> ", "<|endoftext", "<|<|endoftext|>|>", "<|im|><|im_start|>user\nHi<|im_start",
        "<think>yes</think>", "yes, yes! eyes yes_ yes1 yes", "a  <mask>  b", "<mask><mask>", "a <pad>  \n b", "<pad> <mask>", "<Café> <Cafe\u0301> x",
        "<s>Hello</s> world", "<s> Hello </s>", "<unk>", "a<think>b<think> c", "<think> ", " <think>", "<0x41>", "</s><s>", "> <s >", "yes<|im|>yes",
        "unreachable zzyzx azzyzx", " unreachable", " zzyzx",
        "It was the best of times, it was the worst of times.", "the there then weather whether", "them thethe the  the",
        "    def main(argv):\n\t\treturn 1\n", "\"quoted\" 'single' `tick`", "http://example.com/a?b=c&d=e", "snake_case camelCase kebab-case",
        "a" * 60, "ab" * 40, " " * 50, "the" * 30, "\n" * 20, "今" * 30, "😀" * 20, "1" * 55, "=" * 49 + " x",
    ]
    rnd = random.Random(11)
    blocks = [(0x20, 0x7f)] * 5 + [(0xa0, 0x250), (0x370, 0x500), (0x5d0, 0x6ff), (0x900, 0xa00), (0xe00, 0xe80), (0xac00, 0xd7a0),
              (0x1100, 0x1200), (0x2000, 0x2070), (0x2150, 0x2190), (0x3000, 0x3100), (0x4e00, 0x9fff), (0xf900, 0xfb00), (0xff00, 0xfff0),
              (0x1d400, 0x1d800), (0x1f300, 0x1f700), (0x13400, 0x14400), (0x10500, 0x10600), (0x300, 0x370), (0x10d40, 0x10d90)]
    words = CORPUS.split() + ["'s", "'LL", "12", "3456", "<s>", "<think>", "<|im|>", "yes", "<mask>", "<pad>"]
    spaces = [" ", " ", " ", "  ", "\n", "\t", "\r\n", " \n", "\u00a0", ""]
    while len(s) < 280:
        parts = []
        for _ in range(rnd.randint(1, 6)):
            if rnd.random() < 0.45:
                lo, hi = rnd.choice(blocks)
                parts.append("".join(chr(rnd.randrange(lo, hi)) for _ in range(rnd.randint(1, 4))))
            else:
                parts.append(rnd.choice(words))
            parts.append(rnd.choice(spaces))
        s.append("".join(parts))
    return s


def main():
    cases, golden = strings(), {}
    for name, j in tokenizers().items():
        text = json.dumps(j, ensure_ascii=False, separators=(",", ":"))
        with open(os.path.join(HERE, name + ".json"), "w", encoding="utf-8") as f:
            f.write(text + "\n")
        tok = Tokenizer.from_str(text)
        special = [tok.encode(s, add_special_tokens=False).ids for s in cases]
        tok.encode_special_tokens = True
        plain = [tok.encode(s, add_special_tokens=False).ids for s in cases]
        golden[name] = {"text": plain, "special": {i: b for i, (a, b) in enumerate(zip(plain, special)) if a != b}}
    golden = {"strings": cases, "ids": golden}
    with open(os.path.join(HERE, "golden.json"), "w", encoding="utf-8") as f:
        f.write(json.dumps(golden, ensure_ascii=True, separators=(",", ":")) + "\n")


main()
