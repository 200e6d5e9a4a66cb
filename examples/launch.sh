#!/usr/bin/env bash
# Runs a program as N processes on this machine under Open MPI: as root too, on fewer cores than ranks, yielding when idle.
# SPDX-License-Identifier: Apache-2.0
# bash examples/launch.sh -n N PROGRAM [ARGUMENT...]
set -euo pipefail
usage() {
  echo "bash examples/launch.sh -n N PROGRAM [ARGUMENT...]: $*" >&2
  exit 2
}
[ "${1-}" = -n ] || usage "the first word must be -n, and was '${1-}'"
ranks=${2-}
[[ $ranks =~ ^[1-9][0-9]{0,4}$ ]] || usage "N must be a number of processes, and was '$ranks'"
shift 2
[ "${1-}" != -- ] || shift
[ $# -gt 0 ] || usage "which program?"
command -v "$1" >/dev/null || usage "there is no program '$1'"
command -v mpirun >/dev/null || { echo "$0 needs Open MPI's mpirun: install it (Debian, Ubuntu: openmpi-bin)" >&2; exit 1; }
version=$(mpirun --version 2>&1)
[[ $version == *"Open MPI"* ]] || { echo "$0 needs Open MPI's mpirun, and $(command -v mpirun) is another: ${version%%$'\n'*}" >&2; exit 1; }

# Each rank's OpenMP team gets its part of the cores; teams that are larger take turns, and run many times slower.
threads=$(($(nproc) / ranks))
[ "$threads" -ge 1 ] || threads=1
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-$threads} OMP_WAIT_POLICY=${OMP_WAIT_POLICY:-passive}

options=(-q --oversubscribe --bind-to none --mca mpi_yield_when_idle 1) # -q: golem itself says why a run ended
[ "$(id -u)" != 0 ] || options+=(--allow-run-as-root)

# Ctrl-C would make mpirun kill the ranks. Instead they are told by SIGUSR1, which it passes on: golem's programs save and leave. A second one kills.
setsid mpirun "${options[@]}" -n "$ranks" "$@" <&0 &
child=$!
signals=0
pass_on() {
  signals=$((signals + 1))
  if [ $signals = 1 ]; then kill -USR1 "$child"; else kill -TERM "$child"; fi
}
trap pass_on INT TERM HUP
status=0 seen=-1
while [ $seen != $signals ]; do # a signal interrupts the wait
  seen=$signals status=0
  wait "$child" || status=$?
done
exit $status
