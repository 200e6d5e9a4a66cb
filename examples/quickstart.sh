#!/usr/bin/env bash
# The main job: a bilingual GLM learns from real text, is quantised, and fills blanks in text that it has not seen.
# SPDX-License-Identifier: Apache-2.0
# bash examples/quickstart.sh [--corpus DIR] [--out DIR] [--minutes N] [--threads N]
#   --corpus DIR   any folder of UTF-8 text, instead of Debian's own books; every tenth file is held out
#   --out DIR      where everything is left, instead of what a job before it left (default: quickstart)
#   --minutes N    scales the fixed number of steps: N minutes in all on two cores with AVX-512 (default: 10; more are for more text than Debian's books)
set -euo pipefail
refuse() {
  echo "quickstart: $*" >&2
  exit 2
}

corpus='' out=quickstart minutes=10 threads=0
while [ $# -gt 0 ]; do
  case $1 in
  --corpus | --out | --minutes | --threads) [ $# -gt 1 ] || refuse "$1 needs a value" ;;
  *) sed -n '4,7s/^# //p' "${BASH_SOURCE[0]}"; exit 2 ;;
  esac
  case $1 in # folders are the caller's; what follows works in golem's
  --corpus) [ -d "$2" ] || refuse "--corpus '$2' is no folder"; corpus=$(realpath -- "$2") ;;
  --out) [ -n "$2" ] || refuse "--out needs the name of a folder"; out=$(realpath -m -- "$2") ;;
  --minutes) minutes=$2 ;;
  --threads) threads=$2 ;;
  esac
  shift 2
done
case $minutes in *[!0-9]* | '' | 0*) refuse "--minutes takes a whole number of minutes, not '$minutes'" ;; esac
cd "$(dirname "${BASH_SOURCE[0]}")/.."
within() { [[ $1/ == "$2"/* ]]; }
if [ -n "$corpus" ] && { within "$corpus" "$(realpath -m -- "$out")" || within "$(realpath -m -- "$out")" "$corpus"; }; then
  refuse "--corpus '$corpus' and --out '$out' lie one within the other, and what is made in --out would replace the text, or be taken for some: name another folder"
fi

say() { echo "== $*" >&2; }

if [ -z "$corpus" ] && [ "$minutes" -gt 15 ]; then
  say "Debian's books are small, and learnt by heart in more than some ten minutes: 60 end at 2.29 bits per byte of other text, 10 at 1.97. Give more text with --corpus"
fi

packages=(g++ cmake ninja-build libdnnl-dev libsentencepiece-dev nlohmann-json3-dev libcli11-dev)
missing=()
if command -v dpkg-query >/dev/null; then
  for package in "${packages[@]}"; do
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q '^install ok installed$' || missing+=("$package")
  done
fi
if [ ${#missing[@]} -gt 0 ]; then
  as_root=(env DEBIAN_FRONTEND=noninteractive)
  [ "$(id -u)" = 0 ] || as_root=(sudo "${as_root[@]}")
  say "installing ${missing[*]}"
  "${as_root[@]}" apt-get update -qq >&2
  "${as_root[@]}" apt-get install -y -qq --no-install-recommends "${missing[@]}" >&2
fi

mkdir -p "$out"
if [ -z "$corpus" ]; then
  bash examples/corpus_debian.sh "$out/corpus" >&2
else
  rm -rf "$out/corpus" && mkdir -p "$out/corpus/train" "$out/corpus/held_out"
  n=0
  while IFS= read -r file; do
    n=$((n + 1))
    if [ $((n % 10)) = 5 ]; then set=held_out; else set=train; fi
    cp "$file" "$out/corpus/$set/$n.txt"
  done < <(find "$corpus" -type f ! -name '.*' | LC_ALL=C sort)
  [ "$n" -ge 5 ] || refuse "'$corpus' has $n files; give at least 5, since every tenth is held out"
fi

started=$(date +%s)
say "building"
mkdir -p build-examples
generator=()
if [ ! -e build-examples/CMakeCache.txt ] && command -v ninja >/dev/null; then generator=(-G Ninja); fi
cmake -S . -B build-examples "${generator[@]}" -DCMAKE_BUILD_TYPE=Release -DGOLEM_BUILD_TESTS=OFF -DGOLEM_BUILD_BENCH=OFF -DGOLEM_CUDA=OFF -DGOLEM_EXAMPLES_TP=1 -DGOLEM_EXAMPLES_MODELS=small >&2
cmake --build build-examples --parallel "$(nproc)" --target pretrain quantize evaluate fill >&2
built=$(date +%s)
say "built in $((built - started)) seconds"

# Steps are fixed, so that the same seed gives the same model: 575 for each minute behind the first three, which are
# for building, measuring and filling. Two cores with AVX-512 do them in the time given; a slower machine says its own.
# Such a text is read many times over: a weight decay five times the usual one keeps it from being learnt by heart.
steps=$(((minutes > 3 ? minutes - 3 : 1) * 575))
bin=build-examples/examples
say "training"
rm -rf "$out/run" "$out/int8" "$out/int4"
$bin/pretrain --corpus "$out/corpus/train" --held-out "$out/corpus/held_out" --out "$out/run" --model small --whole-words --span-mean 0.5 --mask-ratio 0.35 --generation-part 0.5 --weight-decay 0.5 --steps "$steps" --validate-every 300 --threads "$threads" >"$out/pretrain.out"
say "quantising"
$bin/quantize "$out/run" --out "$out/int8" --bits 8 >&2
$bin/quantize "$out/run" --out "$out/int4" --bits 4 --group 32 --search >&2
say "measuring"
$bin/evaluate --run "$out/run" --int8 "$out/int8" --int4 "$out/int4" --corpus "$out/corpus/train" --held-out "$out/corpus/held_out" --threads "$threads" --job quickstart \
  --started "$started" >"$out/result.json"
say "left in $out: run/ (checkpoints, metrics.jsonl, loss.svg), int8/, int4/"
say "now try: $bin/fill --run $out/run --text 'The package [MASK] is installed.'"
cat "$out/result.json"
