#!/usr/bin/env bash
# pretrain on eight ranks, as threads and as processes: the same run on every layout, resumed on any, and how it ends when ranks differ, fail or are told to stop.
# SPDX-License-Identifier: Apache-2.0
# ranks.sh BINARIES SOURCE
set -euo pipefail
bin=$1 source=$2
source "$source/tests/programs/texts.sh"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
ln -s "$bin/pretrain" pretrain # so that these processes are known by their name
export OMP_WAIT_POLICY=passive OMP_NUM_THREADS=1
pretrain=$work/pretrain launch=(bash "$source/examples/launch.sh" -n)
mpi=
if command -v mpirun >/dev/null && grep -q MPI_Init_thread "$bin/pretrain"; then mpi=yes; else echo "-- left out: ranks as processes: no mpirun, or pretrain was built without MPI (Debian: libopenmpi-dev, openmpi-bin)"; fi

fail() { echo "FAILED: $*"; exit 1; }
# well NAME COMMAND...: it must go well and print one line of JSON, kept as NAME.json.
well() {
  local name=$1
  shift
  timeout -k 5 120 "$@" >"$name.json" 2>err </dev/null || { cat err; fail "$name: $*"; }
  [ "$(wc -l <"$name.json")" = 1 ] && grep -q '^{"job":"pretrain"' "$name.json" || { cat "$name.json"; fail "$name did not print one line: $*"; }
}
# told PATTERN COMMAND [ERR]: what standard error says, without the lines of a run that goes well, is one line that matches.
told() {
  local err=${3-err}
  grep -vE '^training a tokenizer|^-?[0-9]+ steps, about|^\[.*:[0-9]*\] ' "$err" >"$err.said" || true # the last: Open MPI shows where a program crashed
  grep -qE -- "$1" "$err.said" || { cat "$err"; fail "'$1' was not said by: $2"; }
  [ "$(wc -l <"$err.said")" = 1 ] || { cat "$err"; fail "more than one line was said by: $2"; }
}
# refuse PATTERN COMMAND...: it must fail soon, with one line that matches, and print nothing.
refuse() {
  local pattern=$1 status=0 out=out.$BASHPID err=err.$BASHPID own
  shift
  own=$(mktemp -d) # launchers that run at once would share a folder, which the first to end removes
  TMPDIR=$own timeout -k 5 60 "$@" >"$out" 2>"$err" </dev/null || status=$?
  rm -rf "$own"
  [ $status != 0 ] || fail "went well: $*"
  [ $status -lt 124 ] || { cat "$err"; fail "status $status of: $*"; }
  told "$pattern" "$*" "$err"
  [ ! -s "$out" ] || fail "something was printed by: $*"
}
# beside COMMAND...: runs it beside the next ones, four at a time, since a launcher whose ranks fail waits for a second; settled: all of them went well.
beside() {
  if [ ${#running[@]} = 4 ]; then
    wait "${running[0]}" || failed=yes
    running=("${running[@]:1}")
  fi
  "$@" &
  running+=($!)
}
settled() {
  local one
  for one in "${running[@]}"; do wait "$one" || failed=yes; done
  running=()
  [ ! "$failed" ] || fail "see above"
}
running=() failed=
# field NAME RUN: a number or a word of its JSON line.
field() { sed -E 's/.*"'"$1"'":"?([^,"}]*).*/\1/' "$2.json"; }
# near NAME RUN: its loss is that of the other run, but for rounding.
near() {
  awk -v a="$(field loss "$1")" -v b="$(field loss "$2")" 'BEGIN { d = a > b ? a - b : b - a; exit !(b > 1 && d <= 1e-6 * b) }' || fail "the loss of $1 is $(field loss "$1"), and of $2 $(field loss "$2")"
}

texts text 8
texts other_text 8 8
tiny=(--model tiny --precision fp32 --keep 0)
train=("${tiny[@]}" --steps 20 --seed 1 --corpus text --save-every 10)
cube=(--tp 2 --pp 2 --dp 2)

echo "-- one rank, eight threads, eight processes"
well many "$pretrain" "${train[@]}" --out many "${cube[@]}"
tiny+=(--tokenizer many/tokenizer.model) train+=(--tokenizer many/tokenizer.model)
well one "$pretrain" "${train[@]}" --out one
near many one
grep -q '"layout":{"tp":2,"pp":2,"dp":2' many.json && [[ $(field digest many) =~ ^[0-9a-f]{16}$ ]] || fail "layout and digest: $(cat many.json)"
for axis in world tensor data pipeline; do grep -qE "\"$axis\":\{\"calls\":[1-9][0-9]*,\"bytes\":[1-9]" many.json || fail "no traffic on the $axis axis: $(cat many.json)"; done
if [ $mpi ]; then
  well processes "${launch[@]}" 8 "$pretrain" "${train[@]}" --out processes "${cube[@]}"
  [ "$(field digest processes)" = "$(field digest many)" ] && [ "$(field loss processes)" = "$(field loss many)" ] || fail "processes and threads differ: $(cat processes.json many.json)"
  diff -r many/step-00000020 processes/step-00000020 >/dev/null || fail "processes save other files than threads"
  traffic() { grep -o '"traffic":.*"digest"' "$1.json" | sed -E 's/"seconds":[^}]*//g'; }
  [ "$(traffic processes)" = "$(traffic many)" ] || fail "traffic of processes and threads: $(traffic processes) $(traffic many)"
fi

echo "-- schedules, ZeRO-1, sequence parallelism, recomputation"
variant() {
  rm -rf variant
  well variant "$pretrain" "${train[@]}" --out variant "${cube[@]}" "$@"
  near variant one
}
variant --schedule gpipe --micro-batch 1 --recompute attention
variant --schedule zero_bubble --micro-batch 1 --zero 1
variant --schedule interleaved --chunks 2 --micro-batch 1 --recompute block
variant --sequence-parallel --zero 1 --recompute block_split --check-every 5
grep -q '"sequence_parallel":true,"schedule":"1f1b","chunks":1,"zero":1' variant.json || fail "the layout in: $(cat variant.json)"

echo "-- instructions: the same rows on any layout"
for i in $(seq 1 37); do echo "{\"text\": \"What is $i plus $i?\", \"target\": \"It is $((2 * i)).\"}"; done >instructions.jsonl
for order in golem original; do
  mixed=("${train[@]}" --instructions instructions.jsonl --instruction-part 0.25 --order $order)
  well mixed "$pretrain" "${mixed[@]}" --out mixed
  well mixed_many "$pretrain" "${mixed[@]}" --out mixed_many "${cube[@]}"
  near mixed_many mixed
  losses() { grep -o '"instruction":[0-9.]*' "$1/metrics.jsonl" | cut -d: -f2; }
  paste <(losses mixed) <(losses mixed_many) | awk '{ d = $1 > $2 ? $1 - $2 : $2 - $1; bad += NF < 2 || d > 1e-4 } END { exit bad || NR < 10 }' ||
    fail "losses of instructions: $(losses mixed) $(losses mixed_many)"
  rm -r mixed mixed_many
done

echo "-- resumed: at the same layout byte for byte, at others but for rounding"
# rewind NAME: a copy of the run of eight, as it was after ten steps.
rewind() {
  cp -r many "$1"
  rm -r "$1/step-00000020"
  echo step-00000010 >"$1/latest"
}
rewind again
if [ $mpi ]; then again=("${launch[@]}" 8); else again=(); fi
well again "${again[@]}" "$pretrain" "${train[@]}" --out again --resume auto "${cube[@]}"
diff -r many/step-00000020 again/step-00000020 >/dev/null || fail "the run that went on at the same layout differs"
[ "$(field digest again)" = "$(field digest many)" ] || fail "the digest of the run that went on"
for layout in "1 1 1" "1 4 1" "2 1 2"; do
  read -r tp pp dp <<<"$layout"
  rm -rf moved && rewind moved
  well moved "$pretrain" "${train[@]}" --out moved --resume auto --tp "$tp" --pp "$pp" --dp "$dp"
  near moved many
done
"$bin/quantize" many --out int4 --bits 4 --group 32 2>err | grep -q '"job":"quantize"' || { cat err; fail "quantize"; }
"$bin/fill" --run many --text 'golem is a [MASK]' --max-tokens 4 2>err | grep -q '"job":"fill".*"blanks":1' || { cat err; fail "fill"; }
"$bin/fill" --run many --checkpoint int4 --precision int4 --text 'golem is a' --max-tokens 4 2>err | grep -q '"precision":"int4"' || { cat err; fail "fill with int4"; }

echo "-- what cannot be, is one sentence"
refuse "was not built for tp 3: add it to the list" "$pretrain" "${train[@]}" --out none --tp 3
refuse "tp 8 does not divide|was not built for tp 8" "$pretrain" "${train[@]}" --out none --tp 8
refuse "to be cut in 8 stages .* lower pp" "$pretrain" "${train[@]}" --out none --pp 8
refuse "a step of 4 rows cannot be dealt out to 3 data ranks" "$pretrain" "${train[@]}" --out none --dp 3
refuse "interleaved was asked for with 1 micro-batches on 2 stages" "$pretrain" "${train[@]}" --out none "${cube[@]}" --schedule interleaved --chunks 2
refuse "there is no schedule|--schedule|2f2b" "$pretrain" "${train[@]}" --out none "${cube[@]}" --schedule 2f2b
[ ! -e none ] || fail "a run that cannot be left something"

echo "-- files of ranks that are missing, or of another run"
well foreign "$pretrain" "${tiny[@]}" --corpus text --out foreign "${cube[@]}" --steps 1 --seed 2
cp -r many kept
file=$(cd many/step-00000020 && ls optimizer-*.safetensors | tail -n 1)
resume=("$pretrain" "${train[@]}" --out many --resume auto "${cube[@]}")
mv "many/step-00000020/$file" file
refuse "^pretrain: rank [0-7] of 8 failed .*loading the checkpoint: .*$file" "${resume[@]}"
cp "foreign/step-00000001/$file" "many/step-00000020/$file"
refuse "^pretrain: rank [0-7] of 8 failed .*loading the checkpoint: .*$file' is not what was saved" "${resume[@]}"
if [ $mpi ]; then refuse "^rank [0-7] of 8 failed .*loading the checkpoint: .*$file' is not what was saved" "${launch[@]}" 8 "${resume[@]}"; fi
mv file "many/step-00000020/$file"
diff -r many kept || fail "a refused run changed what was there"

echo "-- told to stop, threads save and leave"
"$pretrain" "${tiny[@]}" --corpus text --steps 100000 --save-every 4 --out stopped "${cube[@]}" >stopped.json 2>err </dev/null &
job=$!
# saved RUN: waits until it has a checkpoint.
saved() {
  for ((i = 0; i < 600; ++i)); do
    [ ! -s "$1/latest" ] || return 0
    kill -0 $job 2>/dev/null || break
    sleep 0.1
  done
  cat err
  fail "$1 saved nothing"
}
# left: the run that was told to stop has saved its last step.
left() {
  wait $job || { cat err; fail "a run that was told to stop failed"; }
  [ "$(wc -l <stopped.json)" = 1 ] && [ "$(field finished stopped)" = false ] && [ "$(cat stopped/latest)" = "$(printf 'step-%08d' "$(field steps stopped)")" ] || fail "a run that was told to stop: $(cat stopped.json stopped/latest)"
}
saved stopped
kill -INT $job
left
[ $mpi ] || { echo "all of it, as threads, is as it should be"; exit 0; }

echo "-- ranks as processes that were started differently"
cat >odd.sh <<'END'
# odd.sh OLD NEW COMMAND...: on rank 1 with NEW for the word OLD
old=$1 new=$2
shift 2
words=("$@")
for i in "${!words[@]}"; do
  if [ "$OMPI_COMM_WORLD_RANK" = 1 ] && [ "${words[i]}" = "$old" ]; then words[i]=$new; fi
done
exec "${words[@]}"
END
base=("$pretrain" --precision fp32 --steps 20 --tokenizer many/tokenizer.model --corpus=text --model=tiny --seed=1 --peak-lr=0.001 --span-mean=1 --dp 2)
odd() { refuse "$1" "${launch[@]}" 2 bash odd.sh "$2" "$3" "${base[@]}" --out="${4-odd}"; }
beside refuse "^a world of 3 ranks was given a layout of tp 1 x pp 1 x dp 2 = 2 ranks" "${launch[@]}" 3 "${base[@]}" --out odd
beside refuse "failed: .*--no-such-option" "${launch[@]}" 2 "${base[@]}" --no-such-option
beside refuse "^a step of 3 rows cannot be dealt out to 2 data ranks" "${launch[@]}" 2 "${base[@]}" --out odd --batch 3
beside odd "^rank 1 does not agree with rank 0 on the seed: '1' on rank 0, '2' on rank 1" --seed=1 --seed=2
beside odd "^rank 1 does not agree with rank 0 on the model: 'tiny' on rank 0, 'small' on rank 1" --model=tiny --model=small
beside odd "^rank 1 does not agree with rank 0 on the options: .*0.001.* on rank 0, .*0.002.* on rank 1" --peak-lr=0.001 --peak-lr=0.002
beside odd "^rank 1 does not agree with rank 0 on the options: .*spans of 1,.* on rank 0, .*spans of 2,.* on rank 1" --span-mean=1 --span-mean=2
beside odd "^rank 1 of 2 failed: .*--sed=3" --seed=1 --sed=3
settled
[ ! -e odd ] || fail "ranks that differ left something"
well other "$pretrain" "${tiny[@]}" --corpus other_text --steps 1 --out other
beside odd "^rank 1 does not agree with rank 0 on the data: " --out=odd --out=other
beside odd "^rank 1 of 2 failed .*nowhere/t" --out=odd2 --out=nowhere odd2
beside refuse "^rank 0 of 2 failed .*no_text" "${launch[@]}" 2 "${base[@]/#--corpus=text/--corpus=no_text}" --out odd3
settled

cat >known.sh <<'END'
# known.sh COMMAND...: notes which process is which rank
echo $$ >"pid-$OMPI_COMM_WORLD_RANK"
exec "$@"
END
# start RUN OPTIONS...: four ranks in the background, until they have saved
start() {
  local run=$1
  shift
  rm -rf "$run"
  "${launch[@]}" 4 bash known.sh "$pretrain" "${tiny[@]}" --corpus text --steps 100000 --save-every 4 --out "$run" --tp 2 --pp 2 "$@" >"$run.json" 2>err </dev/null &
  job=$!
  saved "$run"
}
# ended PATTERN: they must end by themselves
ended() {
  (sleep 60 && kill -9 $job) >/dev/null 2>&1 & # who reads our output need not wait for it
  local watch=$! status=0
  wait $job || status=$?
  kill $watch
  [ $status != 0 ] || fail "a run of which a rank failed went well"
  told "$1" "four ranks"
  gone
}
# gone: soon after a run no process of it is left.
gone() {
  for ((i = 0; i < 50; ++i)); do
    pgrep -f "^$pretrain " >/dev/null || return 0
    sleep 0.1
  done
  fail "processes are left behind: $(pgrep -f -a "^$pretrain ")"
}

echo "-- a rank that is killed; the run goes on from the last whole checkpoint"
start killed
kill -9 "$(cat pid-2)"
ended "^rank 2 of 4 failed in step [0-9]+, in [^:]*: its process was killed, crashed or left without a word \(.*waited in .* in step "
last=$((10#$(sed 's/step-//' killed/latest)))
well killed "$pretrain" "${tiny[@]}" --steps $((last + 2)) --out killed --resume auto --dp 2
[ "$(field steps killed)" = $((last + 2)) ] && [ "$(cat killed/latest)" = "$(printf 'step-%08d' $((last + 2)))" ] || fail "the run did not go on: $(cat killed.json)"

echo "-- a rank that stands still"
start still --deadline 5
kill -STOP "$(cat pid-1)"
ended "^rank 1 of 4 failed in step [0-9]+, in [^:]*: it has not been heard of for [0-9.]+ s, with a deadline of 5 s.*waited in "

echo "-- told to stop, processes save and leave: one rank, or the launcher"
start stopped
kill -INT "$(cat pid-3)"
left
start stopped
kill -TERM $job
left
gone
echo "threads and processes, whole and broken, do what they should"
