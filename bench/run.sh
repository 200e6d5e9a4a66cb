#!/usr/bin/env bash
# Builds the benchmarks and runs them; with --peers, PyTorch's block in turn with ours.
# SPDX-License-Identifier: Apache-2.0
# bash bench/run.sh [--device cpu] [--peers] [NAME ...]     NAME: gemm, attention, quantized_gemm, pointwise, block, layouts, comm (default: all)
# bash bench/run.sh --device cuda [--peers] [NAME ...]      those of the CUDA engine: see bench/cuda/run.sh
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
refuse() {
  echo "bash bench/run.sh [--device cpu|cuda] [--peers] [NAME ...], not: $*"
  exit 2
}
device=cpu peers='' names=()
while [ $# -gt 0 ]; do
  case $1 in
  --device) [ $# -gt 1 ] || refuse "$1"; device=$2; shift ;;
  --device=*) device=${1#*=} ;;
  --peers) peers=--peers ;;
  -*) refuse "$1" ;;
  *) names+=("$1") ;;
  esac
  shift
done
case $device in
cpu) ;;
cuda) exec bash bench/cuda/run.sh $peers "${names[@]}" ;;
*) refuse "--device $device" ;;
esac
[ ${#names[@]} -gt 0 ] || names=(gemm attention quantized_gemm pointwise block layouts comm)

configured=$(cmake -S . -B build-bench -DCMAKE_BUILD_TYPE=Release -DGOLEM_BUILD_TESTS=OFF -DGOLEM_BUILD_EXAMPLES=OFF)
known=$(cmake --build build-bench --target help)
grep -qw bench_threads <<<"$known" || { grep 'left out: ' <<<"$configured"; echo "the benchmarks need Google Benchmark (Debian: libbenchmark-dev)"; exit 1; }
targets=()
for name in "${names[@]}"; do
  if [ "$name" != comm ]; then
    targets+=("bench_$name")
  else
    targets+=(bench_threads)
    if grep -qw bench_mpi <<<"$known"; then targets+=(bench_mpi); fi
  fi
done
[ -z "$peers" ] || targets+=(bench_block) # which is run beside them
cmake --build build-bench --parallel "$(nproc)" --target "${targets[@]}"

chip=$(awk -F': ' '/model name/ {print $2; exit}' /proc/cpuinfo | tr -cs 'A-Za-z0-9' '-')
results=bench/results/$(date +%F)-${chip%-}
mkdir -p "$results"
for name in "${names[@]}"; do
  echo "== $name"
  if [ "$name" = comm ]; then
    bash bench/comm/run.sh build-bench/bench | tee "$results/comm.txt"
    continue
  fi
  build-bench/bench/bench_"$name" --benchmark_out="$results/$name.json" --benchmark_out_format=json --benchmark_counters_tabular=true
done
if [ -n "$peers" ]; then
  /usr/bin/python3 -c 'import torch' 2>/dev/null || {
    as_root=(env DEBIAN_FRONTEND=noninteractive)
    [ "$(id -u)" = 0 ] || as_root=(sudo "${as_root[@]}")
    "${as_root[@]}" apt-get update -qq
    "${as_root[@]}" apt-get install -y -qq --no-install-recommends python3-torch python3-numpy libopenblas0-pthread # else its products are those of the reference BLAS
  }
  echo "== PyTorch, and ours again after it"
  /usr/bin/python3 bench/peers/torch_block.py | tee "$results/torch_block.json"
  build-bench/bench/bench_block --benchmark_out="$results/block-after-torch.json" --benchmark_out_format=json --benchmark_counters_tabular=true
fi
echo "raw figures: $results"
