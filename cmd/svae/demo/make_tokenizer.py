#!/usr/bin/env python3
"""Trains the demo's tokenizer: byte-level BPE with GPT-2's splitting rule, 2,048 ids.

It learns from the State of the Union addresses only, so that Moby Dick stays unseen. Ids 0, 1 and 2 are <pad>, <s> and
</s>, 3 to 258 are the bytes, the rest are merges. Encoding a text with the special tokens puts <s> in front, as Llama's
tokenizers do. Needs tokenizers (written with 0.23.3, Python 3.11.7); the same input gives the same files:

    pip install tokenizers==0.23.3
    python3 make_tokenizer.py sotu.jsonl .
"""

import argparse
import json
import os

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors, trainers

VOCAB_SIZE = 2048
MAX_LENGTH = 1024


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", help="WanJuan JSONL, as make_corpus.py writes it")
    parser.add_argument("out", help="the folder that gets tokenizer.json and tokenizer_config.json")
    args = parser.parse_args()

    with open(args.corpus, encoding="utf-8") as lines:
        texts = [json.loads(line)["content"] for line in lines]

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=VOCAB_SIZE,
            special_tokens=[AddedToken(t, special=True, normalized=False) for t in ("<pad>", "<s>", "</s>")],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
        length=len(texts),
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s>:1 $B:1", special_tokens=[("<s>", 1)]
    )
    assert tokenizer.get_vocab_size() == VOCAB_SIZE
    assert [tokenizer.token_to_id(t) for t in ("<pad>", "<s>", "</s>")] == [0, 1, 2]
    nbytes = ntokens = 0
    for text in texts:
        ids = tokenizer.encode(text, add_special_tokens=False).ids
        assert tokenizer.decode(ids) == text
        nbytes += len(text.encode())
        ntokens += len(ids)

    tokenizer.save(os.path.join(args.out, "tokenizer.json"))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<s>",
        "eos_token": "</s>",
        "pad_token": "<pad>",
        "add_bos_token": True,
        "add_eos_token": False,
        "clean_up_tokenization_spaces": False,
        "model_max_length": MAX_LENGTH,
    }
    with open(os.path.join(args.out, "tokenizer_config.json"), "w") as out:
        json.dump(config, out, indent=2)
        out.write("\n")
    print(f"{VOCAB_SIZE} ids; {ntokens} tokens for {nbytes} bytes, {nbytes / ntokens:.3f} bytes a token")


if __name__ == "__main__":
    main()
