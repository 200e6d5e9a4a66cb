#!/usr/bin/env bash
# All-reduce: processes through golem beside a plain MPI program, in turn; threads beside the memory.
# SPDX-License-Identifier: Apache-2.0
# run.sh FOLDER_OF_PROGRAMS [RANKS] [ROUNDS]
set -euo pipefail
programs=$1 ranks=${2:-2} rounds=${3:-5}
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
"$programs/bench_threads" "$ranks"
[ -x "$programs/bench_mpi" ] || { echo "left out: processes, without MPI"; exit 0; }

figures=$(mktemp)
trap 'rm -f "$figures"' EXIT
for ((round = 0; round < rounds; ++round)); do
  for how in plain golem bf16 bf16_op; do bash "$here/../../examples/launch.sh" -n "$ranks" "$programs/bench_mpi" $how >>"$figures"; done
done
# Medians of the rounds' medians. "inside" is MPI_Allreduce called in turn with golem in one process.
awk -v ranks="$ranks" '
  function median(text,   n, values, i, j, t) {
    n = split(text, values, " ")
    for (i = 1; i <= n; ++i) for (j = i + 1; j <= n; ++j) if (values[j] < values[i]) { t = values[i]; values[i] = values[j]; values[j] = t }
    return values[int((n + 1) / 2)]
  }
  { of[$1, $2] = of[$1, $2] " " $3 }
  END {
    printf "%d processes, milliseconds   plain program   golem   golem/plain   inside   golem/inside   bf16: golem   bf16: operation of its own\n", ranks
    for (mb = 1; mb <= 64; mb *= 2) {
      p = median(of["plain", mb]); g = median(of["golem", mb]); i = median(of["inside", mb])
      printf "%3d MB %32.3f %9.3f %10.2f %11.3f %10.2f %13.3f %13.3f\n", mb, p * 1e3, g * 1e3, g / p, i * 1e3, g / i, median(of["bf16", mb]) * 1e3, median(of["bf16_op", mb]) * 1e3
    }
  }' "$figures"
