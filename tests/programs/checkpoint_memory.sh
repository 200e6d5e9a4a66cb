#!/usr/bin/env bash
# examples/checkpoint: conversions of a checkpoint that is larger than the memory that they may have.
# SPDX-License-Identifier: Apache-2.0
# checkpoint_memory.sh PROGRAM MODEL HEADS LAYERS TP MEMORY DISK: so many layers of MODEL, cut for TP ranks; MEMORY and DISK in MiB
set -euo pipefail
checkpoint=$1 model=$2 heads=$3 layers=$4 tp=$5 bound=$(($6 << 20)) disk=$7
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
free=$(df --output=avail -B1M . | tail -n 1)
[ "$free" -ge "$disk" ] || { echo "skipped: '$work' has $free MiB of disk left, and this test needs $disk: set TMPDIR to a larger one"; exit 0; }
fail() { echo "checkpoint_memory.sh: $1"; exit 1; }
number() { tail -n 1 out | sed -nE "s/.*\"$1\":([0-9]+)[,}].*/\1/p"; } # number KEY: of the last line of JSON
stays_small() { # stays_small COMMAND...: it succeeds, within the bound of resident memory
  "$checkpoint" "$@" >out 2>err || { cat err; fail "$* ended with an error"; }
  [ "$(number peak_memory)" -gt $((1 << 20)) ] || fail "$* tells no memory"
  [ "$(number peak_memory)" -le $bound ] || fail "$* had $(number peak_memory) bytes of memory, more than $bound"
  echo "$*: $(number peak_memory) bytes of memory"
}

stays_small synthesize --model "$model" --layers "$layers" --tp "$tp" --out source
[ "$(number bytes)" -gt $((bound + bound / 2)) ] || fail "the whole checkpoint would fit"
stays_small reshard source --heads "$heads" --tp 1 --out whole
stays_small verify whole --heads "$heads"
rm -r source
stays_small reshard whole --heads "$heads" --tp "$tp" --out again
rm -r again
stays_small quantize whole --heads "$heads" --bits 4 --tp "$tp" --out int4
rm -r int4
stays_small convert whole --heads "$heads" --layout golem --out own
rm -r whole
stays_small verify own
stays_small convert own --layout golem --type f32 --out wide
