#!/usr/bin/env bash
# Ranks under mpirun; a launcher that the program does not know; and what launch.sh does not take.
# SPDX-License-Identifier: Apache-2.0
# mpi.sh LAUNCHER PROGRAM
set -uo pipefail
launcher=$1 program=$2
bash "$(dirname "$0")/processes.sh" "$launcher" "$program" "^rank 0 of 3 failed in step 17, in backward of micro-batch 2.*rank 1 waited in .*; rank 2 waited in " || exit 1
output=$(mktemp)
trap 'rm -f "$output"' EXIT
for how in "lose 0's companion" "lose 0 and its companion"; do # one line, though nobody is left to judge
  timeout 60 bash "$launcher" -n 3 "$program" 1 1 3 "$how" >"$output" 2>&1 && exit 1
  grep -qE "^the companion of rank 0 of 3, through which the ranks watch each other, is gone: .* \(rank 1 (worked|waited) in " "$output" && [ "$(wc -l <"$output")" = 1 ] || { echo "$how:"; cat "$output"; exit 1; }
done
RANK=1 WORLD_SIZE=2 MASTER_ADDR=localhost "$program" 1 1 2 work >"$output" 2>&1 && exit 1
grep -qE "^torchrun started this process as rank 1 of 2, .* include <golem/comm/tcp.hpp>" "$output" || { cat "$output"; exit 1; }
# says PATTERN TP VARIABLES...: a process that comes up as one of one ends with this one line.
says() {
  local pattern=$1 tp=$2
  shift 2
  timeout 60 env "$@" "$program" "$tp" 1 1 work >"$output" 2>&1 && { echo "went well: $*"; exit 1; }
  grep -qE "$pattern" "$output" && [ "$(wc -l <"$output")" = 1 ] || { cat "$output"; echo "it should have said: $pattern"; exit 1; }
}
says "^mpirun started this process as rank 1 of 2, but 1 came up: start it with the mpirun of the MPI that it is linked with" 2 PMI_RANK=1 PMI_SIZE=2
says "^Slurm started this process as rank 0 of 8, but 1 came up: .* srun --mpi=pmix" 8 SLURM_STEP_ID=0 SLURM_PROCID=0 SLURM_STEP_NUM_TASKS=8
says "^rank 0 of 1 failed: a layout of tp 0, pp 1, dp 1 has a degree below 1" 0 OMPI_COMM_WORLD_RANK=0 OMPI_COMM_WORLD_SIZE=1
for words in "-n 0 true" "-n x true" "2 true" "-n 2" "-n 2 no-such-program"; do bash "$launcher" $words >"$output" 2>&1 && { echo "launch.sh takes: $words"; exit 1; }; done
exit 0
