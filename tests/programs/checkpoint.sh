#!/usr/bin/env bash
# examples/checkpoint: there and back between layouts and degrees, stopped and gone on with, quantised; and the doctor's findings.
# SPDX-License-Identifier: Apache-2.0
# checkpoint.sh PROGRAM SOURCE
set -euo pipefail
checkpoint=$1 golden=$2/tests/golden/sat
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
fail() { echo "checkpoint.sh: $1"; exit 1; }
says() { # says WORDS COMMAND...: it succeeds, with these words in its last line
  local words=$1
  shift
  "$@" >out 2>err || { cat err; fail "$* ended with an error"; }
  tail -n 1 out | grep -qF -- "$words" || { cat out; fail "$* should end with: $words"; }
}
refuses() { # refuses WORDS COMMAND...: it fails, with these words on standard error
  local words=$1
  shift
  if "$@" >out 2>err; then fail "$* should be refused"; fi
  grep -qF -- "$words" err || { cat err; fail "$* should say: $words"; }
}

says '"ranks":2' "$checkpoint" inspect "$golden" --heads 2 --tensors
grep -q 'transformer.layers.1.mlp.dense_h_to_4h.weight .*f16 (48, 16)' out && fail "a rank has half of the rows"
grep -q 'transformer.layers.1.mlp.dense_h_to_4h.weight .*f16 (24, 16)' out || fail "inspect lists no shapes"
says '"sound":true' "$checkpoint" verify "$golden" --heads 2

echo "-- there and back, through golem's own layout and other degrees"
says '"ranks":1' "$checkpoint" reshard "$golden" --heads 2 --tp 1 --out one
says '"layout":"golem"' "$checkpoint" convert one --heads 2 --layout golem --out own
says '"sound":true' "$checkpoint" verify own
says '"ranks":2' "$checkpoint" convert own --layout sat --tp 2 --out two
says '"ranks":1' "$checkpoint" reshard two --heads 2 --tp 1 --out back
diff -r one back || fail "the way back leads elsewhere"
says '"ranks":1' "$checkpoint" reshard one/49300/ --heads 2 --tp 1 --out slash
diff -r one slash || fail "a slash behind the source's name makes another checkpoint"
(cd one/49300 && "$checkpoint" reshard . --heads 2 --tp 1 --out ../../dot >../../out 2>&1) || fail "'.' is a checkpoint's folder too"
diff -r one dot || fail "the folder that one is in makes another checkpoint"
says '"layout":"golem"' "$checkpoint" convert one/49300/. --heads 2 --layout golem --out slashed
[ -d slashed/step-00049300 ] || fail "the step is that of the source"

echo "-- what a golem checkpoint says of its model goes on with it"
"$checkpoint" synthesize --model glm_tiny --tp 1 --out tiny >out 2>err
says '"layout":"golem"' "$checkpoint" convert tiny --model glm_tiny --layout golem --out named
grep -q '"model": "layers .* rope 10000 exact' named/*/state.json || fail "a named model should be the checkpoint's"
says '"layout":"golem"' "$checkpoint" convert named --type f32 --out renamed
[ "$(grep '"model"' named/*/state.json)" = "$(grep '"model"' renamed/*/state.json)" ] || fail "the model was changed on the way"
refuses "while this model says position rope 10000 exact: choose golem's own layout" "$checkpoint" convert named --layout sat --out none
refuses "while this model says position rope 10000 exact" "$checkpoint" convert named --model glm_tiny --layout sat --out none
refuses "says that its model has 4 heads, and 2 were given" "$checkpoint" convert named --heads 2 --out none
says '"bytes":21120' "$checkpoint" convert "$golden" --heads 2 --layout golem --type f32 --out wide

echo "-- quantised for each rank"
says '"bits":4' "$checkpoint" quantize "$golden" --heads 2 --bits 4 --tp 2 --out int4
tail -n 1 out | grep -q '"quantized_by_this_attempt":{"clamped":0,"signal_to_noise_db":[0-9.]*,"weights":[1-9][0-9]*,"zero_scales":0}' || fail "what was quantised is not told"
says '"bits":4' "$checkpoint" inspect int4 --heads 2
says '"sound":true' "$checkpoint" verify int4 --heads 2
says '"bits":8' "$checkpoint" quantize one --heads 2 --bits 8 --layout golem --out int8
says '"sound":true' "$checkpoint" verify int8
refuses "start from the checkpoint that it was made from" "$checkpoint" reshard int4 --heads 2 --tp 1 --out none

echo "-- what was altered makes no checkpoint, but for who says that it was verified"
cp -r "$golden" bent
printf 9999 | dd of=bent/49300/mp_rank_01_model_states.pt bs=1 seek=8000 conv=notrunc status=none
cp -r own bent_own
bent_file=$(ls bent_own/step-*/model*.safetensors | head -n 1)
printf 9999 | dd of="$bent_file" bs=1 seek=$(($(stat -c %s "$bent_file") - 500)) conv=notrunc status=none
refuses "are not those that were written" "$checkpoint" reshard bent --heads 2 --tp 1 --out unproved
refuses "are not those that were written" "$checkpoint" quantize bent --heads 2 --bits 8 --out unproved
refuses "are not those that were written" "$checkpoint" convert bent --heads 2 --layout golem --out unproved
refuses "is not what was saved" "$checkpoint" convert bent_own --type f32 --out unproved
refuses "is not what was saved" "$checkpoint" quantize bent_own --bits 4 --layout sat --out unproved
[ ! -e unproved ] || fail "an altered checkpoint was converted"
says '"job":"reshard"' "$checkpoint" reshard bent --heads 2 --tp 1 --verified --out trusted
says '"job":"convert"' "$checkpoint" convert bent_own --verified --type f32 --out trusted_own

echo "-- stopped, and gone on with"
synthesis=(synthesize --model glm_tiny --layers 200 --tp 4)
"$checkpoint" "${synthesis[@]}" --out straight >out 2>err
quarter=$(($(stat -c %s straight/49300/mp_rank_00_model_states.pt) / 4))
file=.stopped.unfinished/49300/mp_rank_00_model_states.pt
for attempt in {1..20}; do # a busy machine may look too late
  set -m # a job of its own, as bash lets others in the background ignore SIGINT
  "$checkpoint" "${synthesis[@]}" --out stopped >stopped.out 2>stopped.err &
  pid=$!
  set +m
  while kill -0 $pid 2>/dev/null && [ "$(stat -c %s $file 2>/dev/null || echo 0)" -lt $quarter ]; do sleep 0.002; done
  kill -STOP $pid 2>/dev/null && [ ! -e stopped ] && break
  kill -CONT $pid 2>/dev/null || true
  wait $pid || fail "a conversion that nobody stopped should be complete"
  rm -r stopped
done
refuses "another process is making 'stopped'" "$checkpoint" "${synthesis[@]}" --out stopped/
kill -INT $pid
kill -CONT $pid
wait $pid && fail "the conversion was complete before it was stopped"
[ ! -e stopped ] || fail "a stopped conversion has its name"
grep -q "the same command goes on from there" stopped.err || { cat stopped.err; fail "a stopped conversion should say how it goes on"; }
says '"job":"synthesize"' "$checkpoint" "${synthesis[@]}" --out stopped
tail -n 1 out | grep -q '"resumed_tensors":[1-9][0-9]' || { tail -n 1 out; fail "the second run should go on where the first one stopped"; }
diff -r straight stopped || fail "a stopped conversion differs from a straight one"
[ ! -e .stopped.unfinished ] || fail "a complete conversion left something behind"
says '"sound":true' "$checkpoint" verify straight --heads 4
refuses "exists already" "$checkpoint" "${synthesis[@]}" --out straight
says '"layout":"golem"' "$checkpoint" convert straight --heads 4 --layout golem --out deep
says '"sound":true' "$checkpoint" verify deep

echo "-- the doctor stops when told"
for kind in straight deep; do
  for attempt in {1..20}; do
    set -m
    "$checkpoint" verify $kind --heads 4 >stopped.out 2>stopped.err &
    pid=$!
    set +m
    until grep -qs "^SigCgt:.*[2367abef]$" /proc/$pid/status || ! kill -0 $pid 2>/dev/null; do :; done # SIGINT has its handler
    kill -INT $pid 2>/dev/null || true
    wait $pid || break
  done
  [ "$(cat stopped.err)" = "checkpoint: stopped" ] || { cat stopped.err; fail "a stopped doctor says so"; }
done

echo "-- what is wrong is told"
cp -r "$golden" damaged
rm damaged/49300/mp_rank_00_model_states.pt
truncate -s 9000 damaged/49300/mp_rank_01_model_states.pt
refuses "lacks mp_rank_00_model_states.pt" "$checkpoint" verify damaged --heads 2
grep -q "is truncated" err || fail "the second finding is missing"
tail -n 1 out | grep -q '"sound":false' || fail "verify should end with its line of JSON"
refuses "the pickle names 'posix.system'" bash -c "mkdir -p hostile/1 && cp '$golden/names_os_system.pt' hostile/1/mp_rank_00_model_states.pt && '$checkpoint' inspect hostile/1"
refuses "say how many heads" "$checkpoint" inspect "$golden"
refuses "3 ranks do not divide" "$checkpoint" reshard "$golden" --heads 2 --tp 3 --out none
refuses "there is no model" "$checkpoint" verify "$golden" --model glm_131b
refuses "has layers 2, expected 70" "$checkpoint" inspect "$golden" --model glm_130b --heads 2
refuses "which has 96: leave one of them out" "$checkpoint" verify "$golden" --model glm_130b --heads 2
mkdir parts
for part in 00 01 03; do head -c 50 "$golden/make.py" >parts/glm-130b-sat.tar.part_$part; done
refuses "lacks 57 of the parts of 'glm-130b-sat.tar.part_*' from number 0 to 59" "$checkpoint" verify parts
cp -r "$golden"/. parts
refuses "lacks 57 of the parts" "$checkpoint" verify parts --heads 2
tail -n 1 out | grep -q '"layout":"sat".*"parts":3' || fail "a checkpoint beside parts should be looked at too"
rm parts/49300/mp_rank_00_model_states.pt
refuses "lacks mp_rank_00_model_states.pt" "$checkpoint" verify parts --heads 2
refuses "has layers 200, expected 2" "$checkpoint" verify deep --model glm_tiny
refuses "says that its model has 2 heads, and 4 were given" "$checkpoint" verify own --model glm_tiny
refuses "--tp" "$checkpoint" reshard "$golden" --heads 2 --tp 0 --out none
refuses "--tp" "$checkpoint" convert "$golden" --heads 2 --tp -2 --out none
refuses "leave --tp out, or choose --layout sat" "$checkpoint" quantize own --bits 4 --tp 2 --out none
refuses "no such folder" "$checkpoint" inspect nowhere
refuses "there is no 'nowhere' to look at" "$checkpoint" verify nowhere
[ ! -e none ] && [ ! -e .none.unfinished ] || fail "a refused conversion left something behind"
