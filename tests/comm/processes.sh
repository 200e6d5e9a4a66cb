#!/usr/bin/env bash
# Runs the ranks of comm/mpi.cpp or comm/tcp.cpp as processes, and as threads: what they compute, and how they end when one fails.
# SPDX-License-Identifier: Apache-2.0
# processes.sh LAUNCHER PROGRAM LOST     LOST: what is said where rank 0's process is killed
set -uo pipefail
launcher=$1 program=$2 lost=$3
output=$(mktemp)
trap 'rm -f "$output"' EXIT

# ends STATUS(zero, other) PATTERN TP PP DP HOW: as many ranks as processes say PATTERN, in one line
ends() {
  local status=$1 pattern=$2 ranks=$(($3 * $4 * $5))
  shift 2
  timeout 60 bash "$launcher" -n $ranks "$program" "$@" 2>&1 | grep -v '^\[.*:[0-9]*\] ' >"$output" # Open MPI shows where a program crashed
  local got=${PIPESTATUS[0]}
  echo "$got: $(cat "$output")"
  { [ "$status" = zero ] && [ $got = 0 ]; } || { [ "$status" = other ] && [ $got != 0 ] && [ $got != 124 ]; } || { echo "status $got of: $*"; exit 1; }
  grep -qE -- "$pattern" "$output" || { echo "it should have said: $pattern"; exit 1; }
  [ "$(wc -l <"$output")" = 1 ] || { echo "it should have said one line"; exit 1; }
}

for layout in "1 1 1" "1 1 3" "2 1 2"; do ends zero "all right on" $layout work; done
"$program" 2 1 2 work || exit 1 # threads: no launcher

waited='\(.*waited in (all_reduce of 4000 bytes|barrier) on the world axis in step 17, in backward of micro-batch 2'
in17='rank 2 of 3 failed in step 17, in forward of micro-batch 3'
ends other "^$in17: the corpus has no row 12 $waited" 1 1 3 throw
ends other "^$in17(, in .*)?: its process was killed, crashed or left without a word $waited" 1 1 3 kill
ends other "^$in17(, in .*)?: its process was killed, crashed or left without a word $waited" 1 1 3 crash
ends other "^$in17(, in .*)?: its process was killed, crashed or left without a word $waited" 1 1 3 leave
ends other "^$in17: it has not been heard of for 3.* s, with a deadline of 3 s.* $waited" 1 1 3 stall
ends other "^$in17: it has not been heard of for 3.* s, with a deadline of 3 s: its process was stopped.*rank 0 worked in .*rank 1 waited in " 1 1 3 stop
ends other "$lost" 1 1 3 "kill 0"
ends other "^the ranks of the world axis made different calls in step 17.*: rank 0 all_reduce \(sum\) of 5 f32, rank 2 all_reduce \(sum\) of 7 f32$" 1 1 3 count
ends other "^the ranks of the world axis made different calls in step 17.*: rank 0 all_reduce \(sum\) of 1000 f32, rank 2 barrier$" 1 1 3 kind
ends other "^the ranks of the world axis made different calls in step 17.*: (rank 0 all_reduce \(sum\) of 1000 f32, rank 2 split|of ranks 0 and 2 one split the group, and the other did not)$" 1 1 3 split
ends other "^rank 0 sent 4 f32 to rank 2 on the world axis, which expected 5 f32 in step 17" 1 1 3 message
ends other "^rank 0 sent more to rank 2 on the world axis than the 5 f32 that it expected in step 17" 1 1 3 "longer message"
ends other "^rank 2 does not agree with rank 0 on the seed: '1' on rank 0, '2' on rank 2: start all ranks alike$" 1 1 3 agree

# A layout that is not as many ranks as were started.
timeout 60 bash "$launcher" -n 2 "$program" 2 1 2 work >"$output" 2>&1 && exit 1
grep -qE "^a world of 2 ranks was given a layout of tp 2 x pp 1 x dp 2 = 4 ranks" "$output" && [ "$(wc -l <"$output")" = 1 ] || { cat "$output"; exit 1; }
sleep 1
[ "$(pgrep -f -c "^$program")" = 0 ] || { echo "processes are left behind: $(pgrep -f -a "^$program")"; exit 1; }
echo "processes and threads, whole and broken, do what they should"
