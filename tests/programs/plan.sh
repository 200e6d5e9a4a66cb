#!/usr/bin/env bash
# examples/plan: the original's step, fitted; its pictures; and what cannot be is a sentence.
# SPDX-License-Identifier: Apache-2.0
# plan.sh PROGRAM
set -euo pipefail
plan=$1
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
fail() { echo "plan.sh: $1"; exit 1; }

original=(glm_130b --tp 4 --pp 8 --dp 24 --gradients fp16 --wait-to-reduce --fit 88.5)
"$plan" "${original[@]}" --timeline "$folder/step.svg" --trace "$folder/step.json" --memory "$folder/memory.svg" >"$folder/out"
grep -q '^it fits: stage 0 takes 22.39' "$folder/out" || fail "the original's layout should fit"
tail -n 1 "$folder/out" >"$folder/line"
for part in '"job":"plan"' '"parameters":128697794560' '"fits":true' '"ranks":16384' '"recomputation too"' '"hfu":0.42[0-9]*\|"hfu":0.43' '"bubble_formula":0.0382'; do
  grep -q -- "$part" "$folder/line" || fail "the last line lacks $part"
done
for picture in step memory; do
  head -c 4 "$folder/$picture.svg" | grep -q '<svg' || fail "$picture.svg is no picture"
done
head -c 2 "$folder/step.json" | grep -q '{"' || fail "step.json is no JSON"

# The batch of 6144 with everything else as it was fitted: 122.5 s within 5%.
products=$(grep -o '"products":[0-9.]*' "$folder/line" | cut -d: -f2)
"$plan" "${original[@]:0:10}" --products "$products" --batch 6144 >"$folder/out"
awk '$1 == "step" { found = $2 > 116.4 && $2 < 128.6 } END { exit !found }' "$folder/out" || fail "6144 rows should take 122.5 s within 5%"
says() { # says SENTENCE OPTIONS...
  local sentence=$1
  shift
  "$plan" "$@" >"$folder/out" || fail "$* ended with an error"
  grep -qF -- "$sentence" "$folder/out" || fail "$* should say: $sentence"
}
says "it does not fit: stage 0" glm_130b --tp 2 --pp 4 --dp 96
says "it fits, and is borderline" glm_130b --tp 4 --pp 4 --dp 48 --sequence-parallel --gradients fp16
says "it does not fit: stage 0 takes 42.04" glm_130b --tp 2 --pp 8 --dp 48 --gradients fp16
says "it does not fit: stage 0" glm_130b --tp 2 --pp 8 --dp 48 --gradients fp32
"$plan" glm_tiny --tp 1 --pp 2 --dp 2 --batch 16 --schedule zero_bubble --recompute none --precision fp32 --hardware H100 >/dev/null || fail "a tiny model on four devices"

# outside OPTION VALUE: a number that means nothing, told with CLI11's line on --help behind it.
outside() {
  if "$plan" glm_tiny --tp 1 --pp 1 --dp 1 "$1" "$2" >"$folder/out" 2>"$folder/error"; then fail "$1 $2 should be refused"; fi
  grep -q -- "^$1: .*$2" "$folder/error" && [ ! -s "$folder/out" ] || fail "$1 $2 says: $(cat "$folder/error")"
}
for value in 0 -1 1.5 nan inf; do outside --products $value; done
for value in 7 -1; do outside --zero $value; done
for option in --jitter --slowdown --slow-ranks --fit; do for value in nan -1; do outside $option $value; done; done
for option in --batch --micro-batch --chunks --dp; do outside $option 0; done

refuses() { # refuses SENTENCE OPTIONS...
  local sentence=$1
  shift
  if "$plan" "$@" >"$folder/out" 2>"$folder/error"; then fail "$* should be refused"; fi
  [ "$(wc -l <"$folder/error")" = 1 ] && grep -qF -- "$sentence" "$folder/error" || fail "$* says: $(cat "$folder/error")"
}
refuses "name one of glm_130b" glm_131b
refuses "tp 5 does not divide" glm_130b --tp 5
refuses "micro-batches on each data rank, and plan lays out 16384" glm_130b --batch 240000000000
refuses "make more ranks than plan knows, 1048576" glm_130b --tp 65536 --pp 65536
refuses "cannot plan an engine for 2000000000 sequences of 2048 tokens" glm_130b --sequences 2000000000
refuses "is no multiple of dp 25" glm_130b --dp 25
refuses "set chunks to 2, 3 or 4" glm_130b --schedule interleaved
refuses "cannot write the timeline" glm_tiny --tp 1 --pp 1 --dp 1 --recompute none --timeline "$folder/none/step.svg"
