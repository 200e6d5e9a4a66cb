#!/usr/bin/env bash
# The programs for GPUs: on a machine with one they work; elsewhere each says in one sentence what is missing, and which program to use instead.
# SPDX-License-Identifier: Apache-2.0
# cuda.sh BINARIES
set -euo pipefail
bin=$1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

fail() { echo "FAILED: $*"; exit 1; }

"$bin/doctor_cuda" >doctor
cat doctor
grep -qE '^CUDA loaded: [0-9.]+$' doctor && grep -qE '^kernels built for: [0-9]' doctor || fail "doctor_cuda"
if ! grep -q '^GPUs: 0$' doctor; then
  [ -e "$bin/custom_model_cuda" ] || exit 0
  "$bin/custom_model_cuda" >line || fail "custom_model_cuda"
  grep -qE '"loss":0\.[0-9]+' line || fail "custom_model_cuda learnt nothing: $(cat line)"
  exit 0
fi
grep -qE '^hint: (CUDA found no driver|the driver shows no GPU)' doctor || fail "doctor_cuda gives no reason"
for program in "$bin"/*_cuda; do
  name=$(basename "$program" _cuda)
  case $name in
  doctor) continue ;;
  pretrain) words=(--corpus . --out run) ;;
  glm130b_train) words=(--model tiny --corpus . --out run --dp 1 --pp 1) ;;
  glm130b_generate) words=(--model tiny --checkpoint . --text golem) ;;
  evaluate) words=(--corpus . --held-out .) ;;
  *) words=() ;;
  esac
  if "$program" "${words[@]}" >said 2>error </dev/null; then fail "$name went well without a GPU"; fi
  [ "$(wc -l <error)" = 1 ] && grep -qE "^${name}_cuda: .*; the same program for the CPU is $name" error || { cat error; fail "${name}_cuda should say in one sentence that there is no GPU"; }
  [ ! -s said ] && [ ! -e run ] || fail "${name}_cuda left something"
done
