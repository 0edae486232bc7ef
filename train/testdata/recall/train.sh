#!/bin/sh
# Trains the model of this folder, from nothing, with svae alone. Run it at the root of the repository, with the folder for
# everything it makes as its argument:
#
#	go build -o /usr/local/bin/svae ./cmd/svae
#	sh train/testdata/recall/train.sh recall
set -eu
out=${1:?usage: train.sh FOLDER}
tok=cmd/svae/demo/base
mkdir -p "$out"

# The prose is the demo's book.
svae data build --tokenizer $tok --out "$out/book" cmd/svae/demo/moby-dick.jsonl.gz
lessons() { # NAME FLAG...
	name=$1
	shift
	svae data needle --tokenizer $tok --haystack "$out/book" --out "$out/$name.jsonl" "$@"
}
lessons drill --documents 40000 --tokens 96 --keys 6 --prose 0 --ask 0 --template '{key} {value}' --seed 1
lessons short --documents 40000 --tokens 192 --keys 8 --prose 0.2 --ask 0.2 --seed 2
lessons page --documents 6000 --tokens 1024 --keys 40 --prose 0.5 --ask 0.15 --seed 3
lessons long --documents 1500 --tokens 4096 --keys 62 --prose 0.95 --ask 0.15 --seed 4
lessons longest --documents 900 --tokens 8192 --keys 62 --prose 0.95 --ask 0.15 --seed 5
shards() { # NAME LESSONS...
	name=$1
	shift
	svae data build --tokenizer $tok --out "$out/$name" "$@"
}
shards s1 "$out/drill.jsonl"
shards s2 "$out/drill.jsonl" "$out/short.jsonl"
shards s3 "$out/page.jsonl"
shards s4 "$out/long.jsonl"
shards s5 "$out/longest.jsonl"

# One step makes the random weights; the base of the rotary angles is then raised, so that channels are left which turn
# little over 8,192 positions and can compare a question with what was said long before.
svae train lm --tokenizer $tok --data "$out/s1" --out "$out/start" --hidden-size 64 --layers 2 --heads 2 --kv-heads 1 --ffn 128 \
	--positions 8448 --steps 1 --lr 1e-9 --batch-tokens 1024
svae convert "$out/start" "$out/r0"
sed -i 's/"rope_theta": 10000,/"rope_theta": 100000000,/' "$out/r0/config.json"

# Pairs of words until they are recalled, then sentences, then longer and longer documents.
stage() { # RUN BASE SHARDS FLAG...
	run=$1 base=$2 data=$3
	shift 3
	svae train lm --base "$out/$base" --data "$out/$data" --out "$out/$run" --base-lr 1 --sentences 5000 --save-every 0 "$@"
}
stage r1 r0 s1 --lr 0.006 --min-lr 0.3 --steps 2500 --batch-tokens 1024
stage r2 r1 s2 --lr 0.004 --min-lr 0.3 --steps 2000 --batch-tokens 1024
stage r3 r2 s3 --lr 0.004 --min-lr 0.3 --steps 2000 --batch-tokens 2048
stage r4 r3 s4 --lr 0.004 --min-lr 0.1 --steps 1000 --batch-tokens 4096
stage r5 r4 s5 --lr 0.004 --min-lr 0.02 --steps 500 --batch-tokens 8192
svae convert --dtype f16 "$out/r5" "$out/model"
