#!/usr/bin/env bash
# Builds the tests of ranks that are threads with ThreadSanitizer, and runs them, once it has found races that were planted.
# SPDX-License-Identifier: Apache-2.0
# thread_sanitizer.sh SOURCE BUILD
set -euo pipefail
unset GOLEM_TEST_ALL # of each layout one variant, by turns: the others take hours here, and come by the same code
source=$1 build=$2
fail() { echo "FAILED: $*"; exit 1; }

# clang's OpenMP tells ThreadSanitizer how its threads wait for each other, through libarcher.so; g++'s does not, and gives false reports.
command -v clang++ >/dev/null || fail "ThreadSanitizer needs clang++ (Debian: clang, libomp-dev)"
archer=$(clang++ -print-resource-dir) # llvm/lib/clang/version
archer=${archer%/clang/*}/libarcher.so
[ -e "$archer" ] || fail "there is no libarcher.so beside $(clang++ --version | head -n 1) (Debian: libomp-dev)"
# Memory that there is not is refused as it is without: golem says what was asked for.
export OMP_TOOL_LIBRARIES=$archer TSAN_OPTIONS="ignore_noninstrumented_modules=1 exitcode=66 allocator_may_return_null=1" OMP_WAIT_POLICY=passive
flags="-O1 -g1 -fno-omit-frame-pointer -fsanitize=thread"

mkdir -p "$build"
clang++ -std=c++20 -fopenmp $flags -I"$source/include" "$source/tests/planted_race.cpp" -o "$build/planted_race" ||
  fail "clang++ cannot build with OpenMP and ThreadSanitizer (Debian: clang, libomp-dev, libclang-rt-dev)"
# planted RACE STATUS REPORTS: the program must end with this status, and with so many reports at least
planted() {
  local status=0 reports
  "$build/planted_race" "$1" >"$build/planted" 2>&1 || status=$?
  reports=$(grep -c 'WARNING: ThreadSanitizer: data race' "$build/planted" || true)
  [ $status = "$2" ] && [ "$reports" -ge "$3" ] || { cat "$build/planted"; fail "status $status and $reports reports of the planted race '$1'"; }
}
for i in 1 2 3; do planted none 0 0; done
planted ranks 66 1
planted team 66 1
OMP_TOOL=disabled planted none 66 1 # without libarcher.so what is right is reported, so it was at work
echo "-- planted races are found"

# The tests with ranks that are threads.
files='/comm/|/infer/engine_ranks\.cpp|/io/(background_save|checkpoint_ranks|checkpoint_writer_ranks|open_weights)\.cpp|/train/(layout[a-z_0-9]*|planned_memory|planned_traffic|run_agreement)\.cpp'
for file in $(grep -lE 'run_ranks|run_world|BackgroundSaver' "$source"/tests/{infer,io,train}/*.cpp); do
  [[ $file =~ $files ]] || fail "$file has ranks that are threads, and is not among the files that are looked at"
done
cmake -S "$source" -B "$build" -DGOLEM_TEST_FILES="$files" -DCMAKE_CXX_COMPILER=clang++ -DCMAKE_BUILD_TYPE=Debug -DGOLEM_SANITIZED=ON -DGOLEM_ONEDNN=OFF \
  -DGOLEM_BUILD_EXAMPLES=OFF -DGOLEM_BUILD_BENCH=OFF -DCMAKE_CXX_FLAGS_DEBUG="$flags"
cmake --build "$build" --parallel "$(nproc)" --target test_comm test_infer test_io test_train
# checked PROGRAM TESTS: the tests of that name (Catch2's patterns), of which there must be some
checked() {
  echo "-- $1: $2"
  "$build/tests/$1" "$2" --durations yes --warn NoTests
}
checked test_comm '*'
checked test_infer '*'
checked test_io '*'
checked test_train '~a loader that stands still*' # within a deadline that is too short under ThreadSanitizer
echo "no race was reported"
