#!/usr/bin/env bash
# A must-not-compile test: the file fails with an error that shows its first line's sentence, and compiles with SOUND defined.
# SPDX-License-Identifier: Apache-2.0
# check.sh FILE COMPILER [FLAG...]
# A static_assert says its sentence in the error's own line; checked() in the source line that the compiler shows with it.
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
if ! grep -qF 'error:' <<<"$output" || ! grep -qF -- "$sentence" <<<"$output"; then
  printf '%s\n%s\n' "$output" "$file: the error does not say: $sentence"
  exit 1
fi
