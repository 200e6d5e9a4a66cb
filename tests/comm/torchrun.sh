#!/usr/bin/env bash
# Starts a program with the variables that torchrun sets, as so many ranks of this machine, and waits for all, but not for long where one has failed: its status is the first that is not 0.
# SPDX-License-Identifier: Apache-2.0
# torchrun.sh -n RANKS PROGRAM ARGUMENTS...
ranks=$2
shift 2
export WORLD_SIZE=$ranks MASTER_ADDR=localhost MASTER_PORT=$((20000 + $$ % 12000))
started=()
for ((rank = 0; rank < ranks; rank++)); do
  RANK=$rank LOCAL_RANK=$rank "$@" &
  started+=($!)
done
status=0 late=
for ((ended = 0; ended < ranks; ended++)); do
  wait -n "${started[@]}" 2>/dev/null
  code=$?
  [ $code = 127 ] && break # none is left
  [ $code = 0 ] || [ $status != 0 ] && continue
  status=$code
  (sleep 2 && kill -KILL "${started[@]}") >/dev/null 2>&1 & # as torchrun does with those that are left; who reads our output need not wait for it
  late=$!
done
[ -z "$late" ] || kill "$late" 2>/dev/null
exit $status
