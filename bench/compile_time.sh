#!/usr/bin/env bash
# What including golem costs: user seconds for one translation unit, as a ratio to three headers of the standard library.
# SPDX-License-Identifier: Apache-2.0
# bench/compile_time.sh [--check]     --check: fails above the budget. CXX chooses the compiler, CXXFLAGS adds flags.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
cxx=${CXX:-g++} budget=6 # ratio, architecture section 8
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

names=('<vector> <string> <memory>' 'golem.hpp' 'golem.hpp, OpenMP')
flags=('' '' '-fopenmp')
printf '#include <%s>\n' vector string memory >"$scratch/0.cpp"
echo '#include <golem/golem.hpp>' | tee "$scratch/1.cpp" >"$scratch/2.cpp"
if echo '#include <dnnl.h>' | "$cxx" -x c++ -E - >/dev/null 2>&1; then
  names+=('golem.hpp, OpenMP, oneDNN')
  flags+=('-fopenmp -DGOLEM_ONEDNN=1')
  cp "$scratch/1.cpp" "$scratch/3.cpp"
fi

# The least of five, taken in turn, so that a busy machine slows all alike.
TIMEFORMAT=%U
for _ in 1 2 3 4 5; do
  for i in "${!names[@]}"; do
    # shellcheck disable=SC2086  # flags are words
    { time "$cxx" -std=c++20 -O2 -Iinclude ${flags[$i]} ${CXXFLAGS-} -c "$scratch/$i.cpp" -o /dev/null 2>&3; } 3>&2 2>>"$scratch/$i.seconds"
  done
done

printf '%-32s %8s %8s\n' 'one translation unit' 'user s' 'ratio'
base=$(sort -n "$scratch/0.seconds" | head -1)
over=0
for i in "${!names[@]}"; do
  seconds=$(sort -n "$scratch/$i.seconds" | head -1)
  awk -v name="${names[$i]}" -v s="$seconds" -v base="$base" -v budget=$budget 'BEGIN { printf "%-32s %8.2f %7.1fx\n", name, s, s / base; exit s / base > budget }' || over=1
done
echo "budget: ${budget}x"
if [ $over = 1 ]; then
  echo "above the budget"
  [ "${1-}" != --check ] || exit 1
fi
