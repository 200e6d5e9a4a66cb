#!/usr/bin/env bash
# Fuzzes each parser with libFuzzer under the sanitizers, for so many seconds each, beginning with sound files.
# SPDX-License-Identifier: Apache-2.0
# run.sh SOURCE BUILD SECONDS [TARGET...]     SECONDS "seeds": makes the sound files, and no more; else they are made where there are none
set -euo pipefail
source=$1 build=$2 seconds=$3
shift 3
targets=("$@")
[ ${#targets[@]} -gt 0 ] || for file in "$source"/tests/fuzz/*.cpp; do [[ $file = */seeds.cpp ]] || targets+=("$(basename "$file" .cpp)"); done
mkdir -p "$build"
if [ "$seconds" = seeds ] || [ ! -e "$build/sound" ]; then
  clang++ -std=c++20 -O1 -DGOLEM_TEST_SOURCE="\"$source\"" -I"$source/include" -I"$source/tests" "$source/tests/fuzz/seeds.cpp" -o "$build/seeds" -lsentencepiece -lsentencepiece_train
  "$build/seeds" "$build/sound"
fi
[ "$seconds" != seeds ] || exit 0
for target in "${targets[@]}"; do
  libraries=()
  [ "$target" != tokenizer ] || libraries=(-lsentencepiece)
  clang++ -std=c++20 -O1 -g -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=all -I"$source/include" -I"$source/tests" "$source/tests/fuzz/$target.cpp" \
    -o "$build/$target" "${libraries[@]}"
  [ -e "$build/sound/$target/0" ] || { echo "FAILED: $target has no sound file to begin with (tests/fuzz/seeds.cpp)"; exit 1; }
  mkdir -p "$build/$target.corpus"
  cp "$build/sound/$target"/* "$build/$target.corpus/"
  echo "-- $target, $seconds s"
  "$build/$target" -max_total_time="$seconds" -max_len=262144 -rss_limit_mb=2048 -malloc_limit_mb=1024 -print_final_stats=1 -artifact_prefix="$build/$target." "$build/$target.corpus" >"$build/$target.log" 2>&1 ||
    { tail -n 40 "$build/$target.log"; echo "FAILED: $target; the input is beside $build/$target"; exit 1; }
  grep -E 'stat::number_of_executed_units|stat::peak_rss_mb' "$build/$target.log"
done
