#!/usr/bin/env bash
# What golem costs to compile: user seconds of one translation unit, as a ratio to one that includes next to nothing, and the size of its object.
# SPDX-License-Identifier: Apache-2.0
# bench/compile_time.sh [--full] [--once] [--check]
#   --full: a trainer, an engine of GLM-130B, and a program in two halves too; by nvcc for one architecture and for two, where nvcc is. Minutes.
#   --once: each unit once, where the least of several would take too long.
#   --check: fails above the budget. CXX and NVCC choose the compilers (NVCC= leaves the second out), CXXFLAGS adds flags for the first.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
cxx=${CXX:-g++} nvcc=${NVCC-$(command -v nvcc || ls /usr/local/cuda/bin/nvcc 2>/dev/null || true)}
full=no check=no most=5
for word in "$@"; do
  case $word in
  --full) full=yes ;;
  --check) check=yes ;;
  --once) most=1 ;;
  *) echo "bench/compile_time.sh [--full] [--once] [--check], not: $word" && exit 2 ;;
  esac
done
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

# row NAME BASE BUDGET ROUNDS FILE COMMAND...: BASE is the number of the row that the ratio is to; BUDGET such as 6x or 20s, or -.
names=() bases=() budgets=() rounds=() files=() commands=()
row() {
  names+=("$1") bases+=("$2") budgets+=("$3") rounds+=("$4") files+=("$5")
  commands+=("${*:6}")
}
host="$cxx -std=c++20 -O2 -Iinclude ${CXXFLAGS-}"
# system_headers FILE FLAG...: the headers that golem's headers include, of the library, the system and the CUDA toolkit: what golem cannot do without.
system_headers() {
  $host "${@:2}" -H -E -x c++ "$scratch/$1" >/dev/null 2>"$scratch/headers" || { cat "$scratch/headers" >&2; return 1; }
  awk '/^\.+ / { depth = length($1); own[depth] = $2 ~ /\/golem\//; if (!own[depth] && depth > 1 && own[depth - 1]) print "#include \"" $2 "\"" }' "$scratch/headers"
}
printf '#include <%s>\n' vector string memory >"$scratch/std.cpp"
echo '#include <golem/golem.hpp>' >"$scratch/golem.cpp"
row '<vector> <string> <memory>' 0 - 5 std.cpp "$host"
system_headers golem.cpp >"$scratch/beneath.cpp"
row 'what golem.hpp includes of others' 0 - 5 beneath.cpp "$host"
row 'golem.hpp' 0 6x 5 golem.cpp "$host"
row 'golem.hpp, OpenMP' 0 6x 5 golem.cpp "$host -fopenmp"
if echo '#include <dnnl.h>' | "$cxx" -x c++ -E - >/dev/null 2>&1; then row 'golem.hpp, OpenMP, oneDNN' 0 6x 5 golem.cpp "$host -fopenmp -DGOLEM_ONEDNN=1"; fi

model='struct m { static constexpr auto config = golem::checked({.layers = 24, .hidden = 2048, .heads = 32, .ffn = 5504, .vocab = 150528, .context = 2048}); };'
trainer='template class golem::TrainerCore<m, golem::bf16_mixed, 1, golem::DEVICE>;'
engine='template class golem::EngineCore<golem::glm_130b, golem::fp16, 8, golem::DEVICE>;'
printf '#include <golem/golem.hpp>\n%s\n%s\n' "$model" "${trainer//DEVICE/cpu::Device}" >"$scratch/trainer.cpp"
printf '#include <golem/golem.hpp>\n%s\n' "${engine//DEVICE/cpu::Device}" >"$scratch/engine.cpp"
printf '#include <golem/golem.cuh>\n%s\n%s\n' "$model" "${trainer//DEVICE/cuda::Device}" >"$scratch/trainer.cu"
printf '#include <golem/golem.cuh>\n%s\n' "${engine//DEVICE/cuda::Device}" >"$scratch/engine.cu"
if [ $full = yes ]; then
  row 'a trainer, CPU' 0 20s 1 trainer.cpp "$host"
  row 'an engine of GLM-130B, CPU' 0 20s 1 engine.cpp "$host"
fi
if [ -n "$nvcc" ]; then
  : >"$scratch/empty.cu"
  echo '#include <golem/golem.cuh>' >"$scratch/golem.cu"
  toolkit=$(dirname "$(dirname "$(readlink -f "$(command -v "$nvcc")")")") cuda_headers=()
  echo '#include <cuda_runtime_api.h>' | "$cxx" -x c++ -E - >/dev/null 2>&1 || cuda_headers=(-isystem "$toolkit/include")
  system_headers golem.cu "${cuda_headers[@]}" >"$scratch/beneath.cu"
  one="-gencode arch=compute_80,code=sm_80" two="-gencode arch=compute_80,code=sm_80 -gencode arch=compute_90a,code=sm_90a"
  for architectures in "$one" "$two"; do
    device="$nvcc -std=c++20 -O2 -Iinclude $architectures" base=${#names[@]} which='sm_80 and sm_90a'
    [ "$architectures" = "$two" ] || { which=sm_80 empty_sm_80=$base; }
    row "an empty .cu, $which" "$base" - 3 empty.cu "$device"
    row "what golem.cuh includes of others, $which" "$base" - 3 beneath.cu "$device"
    row "golem.cuh, $which" "$base" 4x 3 golem.cu "$device"
    [ $full = yes ] || continue
    row "a trainer, $which" "$base" 20s 1 trainer.cu "$device"
    row "an engine of GLM-130B, $which" "$base" 20s 1 engine.cu "$device"
  done
  if [ $full = yes ]; then
    cp tests/consumers/split/* "$scratch"
    row 'in two halves: kernels, sm_80' "$empty_sm_80" - 1 kernels.cu "$nvcc -std=c++20 -O2 -Iinclude $one"
    row 'in two halves: program' 0 - 1 program.cpp "$host ${cuda_headers[*]}"
  fi
else
  echo "-- left out: golem.cuh: no nvcc (CUDA toolkit)"
fi

# The least of all rounds, taken in turn, so that a busy machine slows all alike.
TIMEFORMAT=%U
for ((round = 1; round <= most; ++round)); do
  for i in "${!names[@]}"; do
    [ "$round" -le "${rounds[$i]}" ] || continue
    # shellcheck disable=SC2086  # commands are words
    { time ${commands[$i]} -c "$scratch/${files[$i]}" -o "$scratch/$i.o" >"$scratch/said" 2>&1; } 2>>"$scratch/$i.seconds" || { cat "$scratch/said" && exit 1; }
  done
done

seconds_of() { sort -n "$scratch/$1.seconds" | head -1; }
printf '%-54s %8s %8s %8s %10s\n' 'one translation unit' 'user s' 'ratio' 'budget' 'object KiB'
over=0
for i in "${!names[@]}"; do
  awk -v name="${names[$i]}" -v s="$(seconds_of "$i")" -v base="$(seconds_of "${bases[$i]}")" -v budget="${budgets[$i]}" -v bytes="$(stat -c %s "$scratch/$i.o")" 'BEGIN {
    printf "%-54s %8.2f %7.1fx %8s %10.0f\n", name, s, s / base, budget, bytes / 1024
    exit budget != "-" && (budget ~ /x$/ ? s / base : s) > budget + 0 }' || over=1
done
if [ $over = 1 ]; then
  echo "above the budget"
  [ $check = no ] || exit 1
fi
