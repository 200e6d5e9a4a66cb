#!/usr/bin/env bash
# Builds the CUDA benchmarks for the GPU of this machine, runs them, and writes a table and the raw figures; with --peers, PyTorch's beside them.
# SPDX-License-Identifier: Apache-2.0
# bash bench/cuda/run.sh [--peers] [NAME ...]     NAME: norm, elements, vocabulary, gemm, attention, token, decode, block, train (default: all)
# GOLEM_BENCHMARK_SOURCE: a source folder of Google Benchmark, where none is installed.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
called="bash bench/run.sh --device cuda $*"
peers='' names=()
for argument in "$@"; do
  case $argument in
  --peers) peers=yes ;;
  -*) echo "bash bench/run.sh --device cuda [--peers] [NAME ...], not: $argument"; exit 2 ;;
  *) names+=("$argument") ;;
  esac
done
[ ${#names[@]} -gt 0 ] || names=(norm elements vocabulary gemm attention token decode block train)
for name in "${names[@]}"; do
  [ -e "bench/cuda/$name.cu" ] || { echo "There is no CUDA benchmark $name: name some of norm, elements, vocabulary, gemm, attention, token, decode, block, train."; exit 2; }
done

stop() {
  echo "$*"
  exit 1
}
gpu=${CUDA_VISIBLE_DEVICES:-0} gpu=${gpu%%,*}
about=$(nvidia-smi --query-gpu=name,compute_cap,driver_version --format=csv,noheader -i "$gpu" 2>/dev/null) ||
  stop "This machine shows no GPU (nvidia-smi lists none), so there is nothing to measure: run it where one is."
command -v nvcc >/dev/null || PATH=$PATH:/usr/local/cuda/bin
command -v nvcc >/dev/null || stop "The CUDA benchmarks are built by nvcc, which is not here: install the CUDA toolkit, or put its bin folder on the PATH."
[ -z "$peers" ] || python3 -c 'import torch' 2>/dev/null || stop "The peers need PyTorch, and this machine's python3 has none: leave --peers out, or install it."

IFS=, read -r chip capability driver <<<"$about"
capability=$(tr -d ' .' <<<"$capability") driver=$(tr -d ' ' <<<"$driver")
case $capability in 90 | 100 | 103 | 120) architecture=${capability}a ;; *) architecture=$capability ;; esac

begin=$SECONDS build=build-bench-cuda
generator=()
if [ ! -e "$build/CMakeCache.txt" ] && command -v ninja >/dev/null; then generator=(-G Ninja); fi
cmake -S . -B "$build" "${generator[@]}" -DCMAKE_BUILD_TYPE=Release -DGOLEM_BUILD_TESTS=OFF -DGOLEM_BUILD_EXAMPLES=OFF -DGOLEM_BENCH_ARCHITECTURES="$architecture" \
  ${GOLEM_BENCHMARK_SOURCE:+-DGOLEM_BENCHMARK_SOURCE="$(realpath "$GOLEM_BENCHMARK_SOURCE")"} >"$build.log" || { cat "$build.log"; exit 1; }
grep 'left out: bench' "$build.log" && stop "So the CUDA benchmarks cannot be built."
cmake --build "$build" --parallel "$(nproc)" --target "${names[@]/#/bench_cuda_}" >>"$build.log" 2>&1 || { tail -n 50 "$build.log"; exit 1; }

results=bench/results/$(date +%F)-$(tr -cs 'A-Za-z0-9\n' '-' <<<"$chip" | sed 's/-$//')
mkdir -p "$results"
table=$results/table.md failed=()
toolkit=$(nvcc --version | sed -n 's/.*release \([0-9.]*\),.*/\1/p') revision=$(git rev-parse --short HEAD 2>/dev/null || echo 'of unknown revision')
{
  echo "# $chip, $(date +%F)"
  echo
  echo "Driver $driver, CUDA $toolkit, golem $revision, built for sm_$architecture: \`$called\`"
} | tee "$table"
echo "built in $((SECONDS - begin)) s"
for name in "${names[@]}"; do
  printf '\n## %s\n\n' "$name" | tee -a "$table"
  "$build/bench/bench_cuda_$name" --benchmark_out="$results/$name.json" --benchmark_out_format=json | tee -a "$table" || failed+=("$name")
done
if [ -n "$peers" ]; then
  printf '\n## PyTorch, at the same shapes\n\n' | tee -a "$table"
  python3 bench/peers/torch_cuda.py "$results" | tee -a "$table" || failed+=(peers)
fi
echo "table and raw figures: $results, in $((SECONDS - begin)) s"
[ ${#failed[@]} = 0 ] || stop "failed: ${failed[*]}"
