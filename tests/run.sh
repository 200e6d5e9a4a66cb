#!/usr/bin/env bash
# Installs what is missing (Debian, Ubuntu), builds golem's tests and examples, and runs the tests.
# SPDX-License-Identifier: Apache-2.0
# bash tests/run.sh [--all]     --all: the long tests too (sanitizers, nvcc, headers under clang, every variant of every layout), and the benchmarks are built
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
exec </dev/null

case ${1-} in
'') long=(-LE long) ;;
--all) long=() ;;
*)
  echo "bash tests/run.sh [--all], not: $*"
  exit 2
  ;;
esac

# Each is found, never demanded, but by these tests as many as there are.
packages=(g++ cmake ninja-build pkg-config catch2 libbenchmark-dev libdnnl-dev libsentencepiece-dev nlohmann-json3-dev libcli11-dev libopenmpi-dev openmpi-bin)
missing=()
[ ${#long[@]} -gt 0 ] || packages+=(clang libomp-dev libclang-rt-dev) # ThreadSanitizer
if command -v apt-get >/dev/null; then
  for package in "${packages[@]}"; do
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q '^install ok installed$' || missing+=("$package")
  done
fi
if [ ${#missing[@]} -gt 0 ]; then
  as_root=(env DEBIAN_FRONTEND=noninteractive)
  [ "$(id -u)" = 0 ] || as_root=(sudo -n "${as_root[@]}")
  echo "installing ${missing[*]}"
  "${as_root[@]}" apt-get update -qq || echo "apt-get update failed; its older lists may do"
  "${as_root[@]}" apt-get install -y -qq --no-install-recommends "${missing[@]}" ||
    for package in "${missing[@]}"; do
      "${as_root[@]}" apt-get install -y -qq --no-install-recommends "$package" || echo "could not install $package"
    done
fi
for tool in g++ cmake; do
  command -v $tool >/dev/null || { echo "the tests need $tool: install ${packages[*]}, or what your system calls them"; exit 1; }
done

mkdir -p build
generator=()
if [ ! -e build/CMakeCache.txt ] && command -v ninja >/dev/null; then generator=(-G Ninja); fi
models=tiny cuda_examples=doctor cuda_architectures=80 gpu=() # nvcc takes minutes for each of the others
benches=OFF # they are compiled with the long tests, and by bench/run.sh
if [ ${#long[@]} = 0 ]; then
  benches=ON models='tiny;small' cuda_examples=ON cuda_architectures=90a gpu=(-DGOLEM_TEST_GPU=ON -DGOLEM_BENCH_ARCHITECTURES=90a) # each kernel is in both of its forms in test_gpu
  export GOLEM_TEST_ALL=1 # every variant of every layout
fi
# The example programs' tests are of tiny models: what compiles in half the time runs in little more. And g++ takes a sixth longer where it collects its garbage before 1 GiB, which the largest units want twice.
flags='-O1 -DNDEBUG -pipe'
later='--param=ggc-min-heapsize=1048576'
available=$(sed -n 's/^MemAvailable: *\([0-9]*\) kB/\1/p' /proc/meminfo 2>/dev/null || true)
if [ "${available:-0}" -ge $(($(nproc) * 2500000)) ] && echo 'int golem;' | "${CXX:-c++}" $later -Werror -x c++ -c -o /dev/null - 2>/dev/null; then
  flags+=" $later"
  export NVCC_APPEND_FLAGS="${NVCC_APPEND_FLAGS-} -Xcompiler $later"
fi
cmake -S . -B build "${generator[@]}" -DCMAKE_BUILD_TYPE=Release -DCMAKE_CXX_FLAGS_RELEASE="$flags" -DGOLEM_BUILD_BENCH=$benches -DGOLEM_EXAMPLES_TP="1;2" -DGOLEM_EXAMPLES_MODELS="$models" -DGOLEM_EXAMPLES_CUDA_TP=1 -DGOLEM_EXAMPLES_CUDA="$cuda_examples" -DGOLEM_EXAMPLES_CUDA_ARCHITECTURES="$cuda_architectures" "${gpu[@]}" | tee build/configured
grep -q 'left out: most tests' build/configured && { echo "the tests need Catch2"; exit 1; }
cmake --build build --parallel "$(nproc)"

grep 'left out: ' build/configured || true
[ ${#long[@]} = 0 ] || echo "-- left out: the long tests (bash tests/run.sh --all)"
export OMP_WAIT_POLICY=passive # several test programs share the cores
ctest --test-dir build --no-tests=error --output-on-failure --parallel "$(nproc)" "${long[@]}"
