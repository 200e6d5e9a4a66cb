#!/usr/bin/env bash
# Runs the CUDA benchmarks that were built for the host at small shapes, and looks at their tables and raw figures.
# SPDX-License-Identifier: Apache-2.0
# cuda.sh SOURCE FOLDER PROGRAM...
set -euo pipefail
source=$1 folder=$2
shift 2
rm -rf "$folder" && mkdir -p "$folder"

die() {
  echo "$*"
  exit 1
}
for program in "$@"; do
  name=${program##*bench_}
  "$program" --benchmark_out="$folder/$name.json" --benchmark_out_format=json >"$folder/$name.md" || die "bench/cuda/$name.cu failed: $(cat "$folder/$name.md")"
  rows=$(grep -c '"run_name"' "$folder/$name.json") shown=$(grep -c '^| `' "$folder/$name.md")
  [ "$rows" -gt 0 ] && [ "$rows" = "$shown" ] || die "bench/cuda/$name.cu measured $rows rows and showed $shown"
  grep -q '"chip": "the host"' "$folder/$name.json" || die "$name.json does not say which chip"
  if grep -Eq 'nan|inf' "$folder/$name.md"; then die "bench/cuda/$name.cu shows what is no number"; fi
  echo "$name: $rows rows"
done

# What one call moves or computes. On the host every span takes one millisecond, so rates are amounts.
expect() { # PROGRAM ROW COUNTER VALUE
  awk -v row="\"name\": \"$2" -v counter="\"$3\":" -v value="$4" '
    index($0, row) { inside = 1 }
    inside && index($0, counter) { split($0, parts, ": "); got = parts[2] + 0; exit }
    END { if (got < value * (1 - 1e-9) || got > value * (1 + 1e-9)) { print row ": " counter " " got ", not " value; exit 1 } }' "$folder/$1.json"
}
# 6 tokens, 128 wide; 2 heads of 64; 72 inside; vocabulary 104, 5 scored; 520 elements.
expect norm 'normalize<bfloat16>' GB/s 3.632e-3             # 2 x 6 x 128 of two bytes, gamma and beta, two statistics of 6
expect norm 'add_scaled<float16>' GB/s 4.608e-3             # 3 x 6 x 128 of two bytes
expect elements 'rotate<bfloat16>' GB/s 7.704e-3            # q and k, read and written; two tables of 6 x 32 floats; positions
expect elements 'adamw<bfloat16, float>' GB/s 15.6e-3       # 30 bytes of each element
expect vocabulary logit_statistics/rows:5 GB/s 2.16e-3             # 5 x 104 floats, three statistics and a target of each row
expect gemm 'gemm<bfloat16, Op::project>/N:6/I:128/O:384' TFLOP/s 5.89824e-4
expect attention 'attention<bfloat16, Pass::forward>/T:20/D:64/windows:1/prefix:10' TFLOP/s 1.3056e-4   # 4 x 128 x 255 pairs
expect attention 'attention<bfloat16, Pass::backward>/T:20/D:128/windows:1/prefix:20' TFLOP/s 5.12e-4   # 10 x 128 x 400 pairs
expect attention 'attention<float, Pass::forward>/T:20/D:64/windows:1/prefix:0' TFLOP/s 1.0752e-4   # 4 x 128 x 210 pairs
expect attention 'decode<float16>/sequences:8/cached:20' GB/s 90.112e-3  # keys and values of 8 x 20 x 128; 4 x 8 x 128 of new tokens; two bytes each
expect attention 'prompt<float16>/sequences:1/cached:20' TFLOP/s 2.048e-4  # 4 x 128 x 400 pairs
expect token 'project<float16, Quant{.bits = 8}>/N:1' GB/s 51.712e-3  # 384 x 128 integers, scales and bias of 384, 128 + 384 of a token
expect token 'project_many<float16, Quant{.bits = 4}>/N:128' TFLOP/s 1.2582912e-2  # 2 x 128 x 128 x 384
expect norm 'normalize_backward<bfloat16>/N:6' GB/s 8.496e-3          # 4 x 6 x 128 of two bytes, gamma, sums of gamma and beta twice, two statistics of 6
expect token 'choose_token/top_k:1' GB/s 4.24e-4                      # 104 floats and what is chosen
grep -q 'activations: \([0-9]*\) bytes, planned ' "$folder/block.md" || die "bench/cuda/block.cu does not show its memory beside the plan"
grep -q 'memory: .* MiB, planned .* MiB' "$folder/train.md" || die "bench/cuda/train.cu does not show its memory beside the plan"

# Where no GPU is, it says so, and does nothing. (PATH: no nvidia-smi.)
if ! command -v nvidia-smi >/dev/null; then
  if said=$(bash "$source/bench/run.sh" --device cuda); then die "bench/run.sh --device cuda succeeded without a GPU"; fi
  grep -q '^This machine shows no GPU' <<<"$said" || die "bench/run.sh --device cuda without a GPU said: $said"
fi

# The peers' script, on the CPU, at the shapes that were just run.
python=''
for candidate in python3 /usr/bin/python3; do
  if [ -z "$python" ] && $candidate -c 'import torch' 2>/dev/null; then python=$candidate; fi
done
if [ -z "$python" ]; then
  echo "left out: the peers, for there is no PyTorch"
  exit 0
fi
(cd "$source/bench/peers" && $python -c '
import glm_torch
for cut in ((20, 1, 10), (20, 3, 4), (7, 4, 0), (9, 1, 9)):
    windows = glm_torch.windows_of(*cut)
    assert int(glm_torch.visible(windows, cut[0], "cpu").sum()) == glm_torch.visible_pairs(windows), cut') || die "the peers' masks do not have the pairs that are counted"
$python "$source/bench/peers/torch_cuda.py" "$folder" --device cpu >"$folder/peers.md" || die "the peers failed: $(cat "$folder/peers.md")"
if grep 'failed:' "$folder/peers.md"; then die "a peer failed"; fi
for row in 'attention<bfloat16, Pass::backward>' 'block<golem::bf16_mixed, bench::Pass::both>' 'step<golem::bf16_mixed, cuda::ProductChoice::proposed>'; do
  grep -q "^| .$row.*| [0-9.]* | [0-9.]* | [0-9.]* | [0-9.]* |" "$folder/peers.md" || die "no figures of $row among the peers: $(cat "$folder/peers.md")"
done
echo "peers: $(grep -c '^| `' "$folder/peers.md") rows"
