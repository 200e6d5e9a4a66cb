#!/usr/bin/env bash
# Builds the test programs with AddressSanitizer and UndefinedBehaviorSanitizer, and runs them.
# SPDX-License-Identifier: Apache-2.0
# sanitized.sh SOURCE BUILD
set -euo pipefail
export ASAN_OPTIONS=allocator_may_return_null=1 # as without it: golem says what was asked for
unset GOLEM_TEST_ALL # of each layout one variant, by turns: the others come by the same code
# What AddressSanitizer finds anyway is not looked for twice: such checks at every pointer take half of the compile time.
cmake -S "$1" -B "$2" -DCMAKE_BUILD_TYPE=Debug -DGOLEM_SANITIZED=ON -DGOLEM_BUILD_EXAMPLES=OFF -DGOLEM_BUILD_BENCH=OFF \
  -DCMAKE_CXX_FLAGS_DEBUG="-O1 -g1 -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize=null,vptr,object-size -fno-sanitize-recover=all"
cmake --build "$2" --parallel "$(nproc)"
ctest --test-dir "$2" --no-tests=error --output-on-failure --parallel "$(nproc)" -LE 'house|must_not_compile|consumers'
