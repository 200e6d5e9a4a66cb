#!/usr/bin/env bash
# Consumes golem from outside in one way: configures, builds, links and runs a small program, or sees the refusal that is due.
# SPDX-License-Identifier: Apache-2.0
# consume.sh WAY GOLEM_SOURCE SCRATCH COMPILER; GOLEM_TEST_COMPONENTS: those that this machine has the libraries of; GOLEM_TEST_NVCC: for split
set -euo pipefail
way=$1 golem=$2 scratch=$3/$1 cxx=$4
here=$golem/tests/consumers
rm -rf "$scratch"
mkdir -p "$scratch"
cd "$scratch"
export CXX=$cxx

# As an installation would, from a build that makes nothing else; moved afterwards, since packages are.
install_golem() {
  cmake -S "$golem" -B golem -DGOLEM_BUILD_TESTS=OFF -DGOLEM_BUILD_BENCH=OFF -DGOLEM_BUILD_EXAMPLES=OFF "$@"
  cmake --install golem --prefix installed
  mv installed prefix
  diff -r "$golem/include/golem" prefix/include/golem
}

# project NAME EXPECTED ARGUMENT...: configures, builds, runs; EXPECTED is a pattern of what the program says
project() {
  local name=$1 expected=$2
  shift 2
  cmake -S "$here" -B "$name" -DGOLEM_SOURCE="$golem" -DCMAKE_PREFIX_PATH="$scratch/prefix" "$@"
  cmake --build "$name"
  "$name/consumer" | tee "$name/output"
  grep -qE -- "$expected" "$name/output" || { echo "it should have said: $expected"; return 1; }
  cmake --install "$name" --prefix "$name/theirs"
}

# refused TEXT COMMAND...: fails, and says so
refused() {
  local text=$1 output
  shift
  if output=$("$@" 2>&1); then
    echo "this should have failed: $*"
    return 1
  fi
  grep -qF -- "$text" <<<"$output" || { printf '%s\nit failed without: %s\n' "$output" "$text"; return 1; }
}

engines='OpenMP [0-9.]+; oneDNN '
has_onednn=no
if echo '#include <dnnl.h>' | "$cxx" -x c++ -E - >/dev/null 2>&1; then has_onednn=yes engines+='[0-9.]+'; fi
none='OpenMP ; oneDNN $'
program() { "$cxx" -std=c++20 -Wall -Wextra -Wpedantic -Werror "$here/program.cpp" "$here/second.cpp" "$@" -o program && ./program; }
bare=(-DCMAKE_DISABLE_FIND_PACKAGE_OpenMP=ON -DCMAKE_DISABLE_FIND_PACKAGE_OneDNN=ON -DCMAKE_DISABLE_FIND_PACKAGE_nlohmann_json=ON -DCMAKE_DISABLE_FIND_PACKAGE_SentencePiece=ON -DCMAKE_DISABLE_FIND_PACKAGE_MPI=ON)

case $way in
include_folder)
  program "-I$golem/include"
  program "-I$golem/include" -fopenmp
  ;;
pkg_config)
  install_golem
  export PKG_CONFIG_PATH=$scratch/prefix/share/pkgconfig
  pkg-config --exact-version "$(sed -n 's/^CMAKE_PROJECT_VERSION:STATIC=//p' golem/CMakeCache.txt)" golem
  # shellcheck disable=SC2046  # words are what is wanted
  program $(pkg-config --cflags --libs golem)
  # shellcheck disable=SC2046
  [ $has_onednn = no ] || program $(pkg-config --cflags --libs golem) $(pkg-config --variable=onednn golem)
  ;;
find_package)
  install_golem
  project plain "$engines" -DCONSUME=find_package
  project all "$engines" -DCONSUME=find_package -DCOMPONENTS="${GOLEM_TEST_COMPONENTS-io;tokenizer;mpi}" -DEXPECTED="${GOLEM_TEST_COMPONENTS-io;tokenizer;mpi}"
  ;;
find_package_bare) # a machine with nothing but a compiler; a package that was made on it, too
  install_golem "${bare[@]}"
  project bare "$none" -DCONSUME=find_package "${bare[@]}" -DOPTIONAL_COMPONENTS="io;tokenizer;mpi" -DUNEXPECTED="io;tokenizer;mpi"
  refused 'no nlohmann_json' cmake -S "$here" -B refused -DCMAKE_PREFIX_PATH="$scratch/prefix" -DCONSUME=find_package -DCOMPONENTS=io "${bare[@]}"
  refused 'no component nonsense' cmake -S "$here" -B refused2 -DCMAKE_PREFIX_PATH="$scratch/prefix" -DCONSUME=find_package -DCOMPONENTS=nonsense
  ;;
fetch_content)
  project whole "$engines" -DCONSUME=fetch_content
  project bare "$none" -DCONSUME=fetch_content "${bare[@]}" -DUNEXPECTED="io;tokenizer;mpi"
  project one_thread "$none" -DCONSUME=fetch_content -DCMAKE_DISABLE_FIND_PACKAGE_OpenMP=ON # oneDNN's OpenMP build is left out too
  ;;
add_subdirectory)
  project whole "$engines" -DCONSUME=add_subdirectory
  project plain "oneDNN \$" -DCONSUME=add_subdirectory -DGOLEM_ONEDNN=OFF
  ;;
mixed_settings) # one half with OpenMP or oneDNN, the other without: the linker refuses, since they would run each other's code
  "$cxx" -std=c++20 "-I$golem/include" -c "$here/program.cpp" -o program.o
  "$cxx" -std=c++20 "-I$golem/include" -fopenmp -c "$here/second.cpp" -o second.o
  refused 'sum_elsewhere' "$cxx" program.o second.o -fopenmp -o program
  [ $has_onednn = yes ] || exit 0
  "$cxx" -std=c++20 "-I$golem/include" -fopenmp -c "$here/program.cpp" -o program.o
  "$cxx" -std=c++20 "-I$golem/include" -fopenmp -DGOLEM_ONEDNN=1 -c "$here/second.cpp" -o second.o
  refused 'sum_elsewhere' "$cxx" program.o second.o -fopenmp -ldnnl -o program
  ;;
split) # nvcc compiles one half, the host's compiler the other; it runs, or says why this machine has no GPU
  nvcc=$GOLEM_TEST_NVCC toolkit=$(dirname "$(dirname "$GOLEM_TEST_NVCC")")
  for level in -O0 -O2; do
    "$nvcc" -std=c++20 $level -arch=sm_80 "-I$golem/include" -c "$here/split/kernels.cu" -o kernels.o
    "$cxx" -std=c++20 $level -Wall -Wextra -Wpedantic -Werror "-I$golem/include" -isystem "$toolkit/include" -c "$here/split/program.cpp" -o program.o
    "$cxx" program.o kernels.o "-L$toolkit/lib64" "-Wl,-rpath,$toolkit/lib64" -lcudart -lcublasLt -o program
    status=0
    ./program >output || status=$?
    cat output
    case $status in
    0) grep -q '^loss .*; 128 logits$' output ;;
    2) grep -qE 'CUDA found no driver|this process sees 0' output ;;
    *) exit 1 ;;
    esac
  done
  ;;
*)
  echo "no way of consuming golem: $way"
  exit 1
  ;;
esac
