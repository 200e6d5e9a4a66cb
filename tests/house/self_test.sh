#!/usr/bin/env bash
# The tests that are scripts can fail: each is given something bad, and must report it; and something good, and must not.
# SPDX-License-Identifier: Apache-2.0
# self_test.sh TESTS_FOLDER COMPILER
set -uo pipefail
tests=$(cd "$1" && pwd) cxx=$2
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
cd "$scratch" || exit 1
mkdir -p golem/core
failed=0

# expect 0|1 TEXT COMMAND...: the command's status, and what it must say
expect() {
  local want=$1 text=$2 got=0 output
  shift 2
  output=$("$@" 2>&1) || got=1
  if [ "$got" != "$want" ] || ! grep -qF -- "$text" <<<"$output"; then
    printf 'status %s and "%s" were expected of: %s\n%s\n' "$want" "$text" "$*" "$output"
    failed=1
  fi
}

headers=(bash "$tests/house/headers.sh" . core "$cxx" -std=c++20 -fsyntax-only -Wall -Wextra -Wpedantic -Werror)
expect 1 'no headers' "${headers[@]}"
printf '#pragma once\ninline int one() { return 1; }\n' >golem/core/good.hpp
expect 0 '1 headers compile alone' "${headers[@]}"
printf '#pragma once\ninline std::string two();\n' >golem/core/bad.hpp
expect 1 'does not compile alone: golem/core/bad.hpp' "${headers[@]}"
printf '#pragma once\ninline int two() { int unused; return 2; }\n' >golem/core/bad.hpp
expect 1 'does not compile alone: golem/core/bad.hpp' "${headers[@]}"
printf 'inline int two() { return 2; }\n' >golem/core/bad.hpp # no guard
expect 1 'does not compile alone: golem/core/bad.hpp' "${headers[@]}"

rule() { printf '%s\n#ifndef SOUND\n%s\n#endif\n' "$1" "$2" >rule.cpp; }
check=(bash "$tests/must_not_compile/check.sh" rule.cpp "$cxx" -std=c++20 -fsyntax-only)
rule '// Must not compile: golem: a rule.' 'static_assert(false, "golem: a rule");'
expect 0 '' "${check[@]}"
rule '// Must not compile: golem: a rule.' 'static_assert(false, "golem: another rule");'
expect 1 'the error does not say: golem: a rule' "${check[@]}"
rule '// Must not compile: golem: a rule.' ''
expect 1 'it compiled, and should say: golem: a rule' "${check[@]}"
rule '// A rule.' 'static_assert(false, "golem: a rule");'
expect 1 'its first line must be' "${check[@]}"
printf '// Must not compile: golem: a rule.\nstatic_assert(false, "golem: a rule");\n' >rule.cpp
expect 1 'the sound twin (-DSOUND) must compile' "${check[@]}"
exit "$failed"
