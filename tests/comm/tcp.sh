#!/usr/bin/env bash
# Ranks that are started as torchrun starts them: what they compute, how they end, and what they say where rank 0 cannot be found.
# SPDX-License-Identifier: Apache-2.0
# tcp.sh PROGRAM
set -uo pipefail
program=$1 here=$(dirname "$0")
bash "$here/processes.sh" "$here/torchrun.sh" "$program" "^rank 0 of 3, through which the others talk, was killed, crashed or left without a word, or its machine is down \\(rank 1 waited in " || exit 1
output=$(mktemp)
trap 'rm -f "$output"' EXIT
# says PATTERN VARIABLES...: rank 1 of 2 ends with it.
says() {
  local pattern=$1
  shift
  timeout 60 env RANK=1 WORLD_SIZE=2 "$@" "$program" 1 1 2 stall >"$output" 2>&1 && { echo "went well: $*"; exit 1; }
  grep -qE "$pattern" "$output" || { cat "$output"; echo "it should have said: $pattern"; exit 1; }
}
says "^this rank found no rank 0 at localhost, port 9, within 3 s: Connection refused; is MASTER_ADDR" MASTER_ADDR=localhost GOLEM_PORT=9
says "set MASTER_ADDR, and MASTER_PORT or GOLEM_PORT" MASTER_ADDR=localhost
says "GOLEM_PORT is 'x', which is no port" MASTER_ADDR=localhost GOLEM_PORT=x
RANK=0 WORLD_SIZE=1 MASTER_ADDR=localhost GOLEM_PORT=$((20000 + $$ % 12000)) timeout 60 "$program" 0 1 1 work >"$output" 2>&1 && exit 1
grep -qE "^rank 0 of 1 failed.*: a layout of tp 0, pp 1, dp 1 has a degree below 1" "$output" && [ "$(wc -l <"$output")" = 1 ] || { cat "$output"; echo "a layout that cannot be should be told"; exit 1; }
