#!/usr/bin/env bash
# A must-not-compile test: the file fails with the sentence of its first line in an error, and compiles with SOUND defined.
# SPDX-License-Identifier: Apache-2.0
# check.sh FILE COMPILER [FLAG...]
set -uo pipefail
file=$1
shift
sentence=$(sed -n '1s|^// Must not compile: \(.*\)\.$|\1|p' "$file")
[ -n "$sentence" ] || { echo "$file: its first line must be '// Must not compile: <sentence>.'"; exit 1; }

if ! "$@" -DSOUND "$file"; then
  echo "$file: the sound twin (-DSOUND) must compile"
  exit 1
fi
if output=$("$@" "$file" 2>&1); then
  echo "$file: it compiled, and should say: $sentence"
  exit 1
fi
if ! grep -F 'error:' <<<"$output" | grep -qF -- "$sentence"; then
  printf '%s\n%s\n' "$output" "$file: no error line says: $sentence"
  exit 1
fi
