#!/usr/bin/env bash
# pretrain on several ranks that move their gradients through NCCL: every layout ends where one rank ends; and two ranks generate what one does. With fewer GPUs than ranks, the ranks share the first.
# SPDX-License-Identifier: Apache-2.0
# nccl.sh BINARIES SOURCE
set -euo pipefail
bin=$1 source=$2
gpus=$(nvidia-smi -L 2>/dev/null | grep -c '^GPU' || true)
[ "$gpus" -gt 0 ] || { echo "no GPU: left out"; exit 0; }
work=$(mktemp -d)
trap 'kill $(jobs -p) 2>/dev/null || true; rm -rf "$work"' EXIT
cd "$work"

fail() { echo "FAILED: $*"; exit 1; }
field() { sed -E 's/.*"'"$1"'":"?([^,"}]*).*/\1/' "$2.json"; }

mkdir text
cp "$source"/README.md text/
for file in "$source"/include/golem/train/*.hpp; do cp "$file" "text/$(basename "$file").txt"; done
train=(--model tiny --precision fp32 --steps 20 --seed 1 --batch 8 --corpus text --keep 0)
"$bin/pretrain_cuda" "${train[@]}" --out one >one.json || fail "one rank"
train+=(--tokenizer one/tokenizer.model)

# ranks NAME RANKS COMMAND...: NCCL refuses two ranks on one GPU of one host, so that ranks that share one give themselves out for hosts.
port=$((20000 + $$ % 12000))
ranks() {
  local name=$1 ranks=$2 rank started=()
  shift 2
  port=$((port + 1))
  for ((rank = 0; rank < ranks; rank++)); do
    local where=(LOCAL_RANK="$rank")
    [ "$gpus" -ge "$ranks" ] || where=(LOCAL_RANK=0 NCCL_HOSTID="rank$rank" NCCL_SOCKET_IFNAME=lo)
    env "${where[@]}" RANK="$rank" WORLD_SIZE="$ranks" MASTER_ADDR=127.0.0.1 MASTER_PORT="$port" timeout -k 5 240 "$@" >"$name.$rank.json" 2>"$name.$rank.err" &
    started+=($!)
  done
  for rank in "${started[@]}"; do wait "$rank" || { cat "$name".*.err; fail "$name: $*"; }; done
  cat "$name".*.json >"$name.json"
}
on() {
  local name=$1 many=$2
  shift 2
  ranks "$name" "$many" "$bin/pretrain_cuda" "${train[@]}" --out "$name" "$@"
  awk -v a="$(field loss "$name")" -v b="$(field loss one)" 'BEGIN { d = a > b ? a - b : b - a; exit !(b > 1 && d <= 1e-5 * b) }' ||
    fail "the loss of $name is $(field loss "$name"), and of one rank $(field loss one)"
  grep -qE '"(data|tensor|pipeline)":\{"calls":[1-9]' "$name.json" || fail "$name moved nothing: $(cat "$name.json")"
  echo "-- $name: loss $(field loss "$name"), one rank $(field loss one)"
}
on dp2 2 --dp 2
on dp2_zero1 2 --dp 2 --zero 1
on pp2 2 --pp 2
on tp2 2 --tp 2
on tp2_pp2 4 --tp 2 --pp 2
echo "layouts agree: $gpus GPUs"

# Decoding is a graph with NCCL's transfers in it, from the third token on. fp16 rounds the sums of two ranks otherwise, and a near tie may fall the other way: few tokens.
if [ -x "$bin/glm130b_train" ] && [ -x "$bin/glm130b_generate_cuda" ]; then
  "$bin/glm130b_train" --model tiny --corpus text --out sibling >sibling.json 2>sibling.err || { cat sibling.err; fail "glm130b_train --model tiny"; }
  printf '%s\n' 'the trainer [gMASK]' 'golem is a library of templates, and the trainer [gMASK]' >texts
  generate=("$bin/glm130b_generate_cuda" --model tiny --checkpoint sibling --out-seq-length 30 --top_k 1 --sampling-rules golem --input-source texts)
  for tp in 1 2; do
    ranks "generate$tp" "$tp" "${generate[@]}" --tp $tp
    grep -qE '"graphs":[1-9]' generate$tp.json || fail "tokens on $tp ranks were not decoded by graphs: $(cat generate$tp.json)"
  done
  cmp <(head -n 2 generate1.json) <(head -n 2 generate2.json) || fail "two ranks answer otherwise than one: $(cat generate1.json generate2.json)"
  echo "two ranks generate what one does"
else
  echo "glm130b_train and glm130b_generate_cuda are not both in $bin: generation by ranks is left out"
fi
