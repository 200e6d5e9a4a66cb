#!/usr/bin/env bash
# The example programs as a user meets them: a small run from text to filled blanks, resumed byte for byte, and what goes wrong in sentences.
# SPDX-License-Identifier: Apache-2.0
# run.sh BINARIES SOURCE
set -euo pipefail
bin=$1
source "$2/tests/programs/texts.sh"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

fail() { echo "FAILED: $*"; exit 1; }
# refuse WORDS COMMAND...: the command must fail, with these words on standard error and none on standard output.
refuse() {
  local words=$1
  shift
  if "$@" >out 2>err </dev/null; then fail "went well: $*"; fi
  grep -qF -- "$words" err || { cat err; fail "'$words' was not said by: $*"; }
  [ ! -s out ] || fail "something was printed by: $*"
}

texts text 30

train=("$bin/pretrain" --corpus text --model tiny --precision fp32 --threads 1 --batch 4 --micro-batch 4 --validate-every 5)
"${train[@]}" --out straight --steps 12 --save-every 6 --keep 0 >straight.json 2>log || { cat log; fail "pretrain"; }
grep -q '"job":"pretrain".*"steps":12' straight.json || fail "pretrain's last line: $(cat straight.json)"
[ -s straight/loss.svg ] && [ "$(grep -c validation_loss straight/metrics.jsonl)" = 2 ] || fail "pretrain left no chart or log"

echo "-- resumed equals uninterrupted"
cp -r straight resumed
rm -r resumed/step-00000012
echo -n step-00000006 >resumed/latest
"${train[@]}" --out resumed --steps 12 --save-every 6 --keep 0 --resume auto --peak-lr 1.5e-3 --warmup 200 --seed 1234 >resumed.json 2>log || { cat log; fail "pretrain --resume"; }
cmp straight/step-00000012/model.safetensors resumed/step-00000012/model.safetensors 2>/dev/null ||
  diff -r straight/step-00000012 resumed/step-00000012 >/dev/null || fail "the resumed run differs"

echo "-- levers are written to the log"
"${train[@]}" --out resumed --steps 13 --resume auto --new-peak-lr 0.01 --skip-rows 8 --rewarm 2 --new-beta2 0.99 --new-weight-decay 0.2 --new-clip 0.5 >/dev/null 2>log || { cat log; fail "levers"; }
grep -q 'weight decay changed from 0.1 to 0.2' resumed/metrics.jsonl || fail "another weight decay is not told"
grep -q 'peak learning rate changed' resumed/metrics.jsonl && grep -q 'are skipped' resumed/metrics.jsonl || fail "levers are not in the log"

echo "-- a resumed run keeps what it was begun with, and ends elsewhere only where that is said"
rm -rf kept && cp -r straight kept
rm -r kept/step-00000012
echo -n step-00000006 >kept/latest
kept=("$bin/pretrain" --model tiny --precision fp32 --threads 1 --validate-every 5 --keep 0 --out kept --resume auto)
"${kept[@]}" >kept.json 2>log || { cat log; fail "pretrain --resume without options"; }
diff -r straight/step-00000012 kept/step-00000012 >/dev/null || fail "a run that was resumed without options differs"
grep -q '"finished":true,"skipped":0' kept.json || fail "its line: $(cat kept.json)"
"${kept[@]}" --steps 13 >/dev/null 2>log || { cat log; fail "pretrain --resume --steps"; }
grep -q 'the run ends after step 13, and was to end after step 12; its learning rate goes on as it began, and is 1e-05 from row 48 on' kept/metrics.jsonl log || fail "another end is not told"

echo "-- a run that is resumed from an older step goes back to that one, with its levers, and ends where that does not help"
cp -r straight spiking
"${train[@]}" --out spiking --steps 50 --save-every 10 --keep 0 --resume auto >/dev/null 2>log || { cat log; fail "pretrain to 50"; }
latest=$(cat spiking/latest spiking/step-*/state.json | cksum)
refuse "after 8 roll-backs since step" "${train[@]}" --out spiking --steps 60 --resume spiking/step-00000040 --sentinel roll-back --new-peak-lr 3000
[ "$(cat spiking/latest spiking/step-*/state.json | cksum)" = "$latest" ] || fail "a run that came to nothing changed checkpoints"
grep -q 'rolled back to step 40' spiking/metrics.jsonl || fail "it went back to another step: $(grep 'rolled back' spiking/metrics.jsonl)"

echo "-- instructions among the rows, in either order: a loss of their own, and resumed exactly"
for i in $(seq 1 37); do echo "{\"text\": \"What is $i plus $i?\", \"target\": \"It is $((2 * i)).\"}"; done >instructions.jsonl
for order in golem original; do
  mixed=("${train[@]}" --tokenizer straight/tokenizer.model --order $order --instructions instructions.jsonl --instruction-part 0.2 --instruction-ramp 2 --steps 8 --save-every 4 --keep 0)
  "${mixed[@]}" --out $order >$order.json 2>log || { cat log; fail "pretrain --instructions --order $order"; }
  grep -q '"instruction":' $order/metrics.jsonl && grep -q instructions $order/loss.svg || fail "instructions have no loss of their own"
  cp -r $order again
  rm -r again/step-00000008
  echo -n step-00000004 >again/latest
  "${mixed[@]}" --out again --resume auto >/dev/null 2>log || { cat log; fail "pretrain --instructions --resume"; }
  diff -r $order/step-00000008 again/step-00000008 >/dev/null || fail "the resumed run with instructions differs"
  rm -r again
done
cp -r straight added
"${train[@]}" --out added --steps 16 --resume auto --instructions instructions.jsonl --instruction-part 0.2 >/dev/null 2>log || { cat log; fail "instructions for a resumed run"; }
grep -q '"instruction":' added/metrics.jsonl || fail "a resumed run did not begin with instructions"
cp -r straight left_over
cp added/instructions.bin left_over/
"${train[@]}" --out left_over --steps 14 --resume auto >left_over.json 2>log || { cat log; fail "a run with instructions of another call"; }
grep -q '"instructions":0' left_over.json && grep -q "left_over/instructions.bin' is left out, since the checkpoint has no instructions" left_over/metrics.jsonl || fail "instructions of another call were mixed in: $(cat left_over.json log)"

echo "-- told to stop before its first step, a run ends there"
mkdir long_text && for i in $(seq 8); do cat text/*.txt; done >long_text/all.txt
"$bin/pretrain" --corpus long_text --model tiny --precision fp32 --threads 1 --steps 100000 --out early >early.json 2>log </dev/null &
job=$!
for ((i = 0; i < 100; ++i)); do grep -q 'training a tokenizer' log && break || sleep 0.05; done
kill -INT $job
if wait $job; then fail "a run that was told to stop early went well: $(cat early.json log)"; fi
grep -q 'the run was told to stop before its first step, while it was ' log && [ ! -s early.json ] && [ ! -e early/latest ] || fail "told to stop early: $(cat early.json log)"

echo "-- whenever it is told to stop, it says that it has done no step, or leaves a checkpoint"
came() { until [ -e "$1" ] || ! kill -0 $job 2>/dev/null; do sleep 0.01; done; }
# stopped WAIT FLAGS...: begins a run, does WAIT (a command), and tells it to stop; `status` is what it ends with.
stopped() {
  local wait_for=$1
  shift
  rm -rf moment
  "${train[@]}" --steps 100000 --out moment "$@" >moment.json 2>log </dev/null &
  job=$!
  until grep -qs "^SigCgt:.*[2367abef]$" /proc/$job/status || ! kill -0 $job 2>/dev/null; do sleep 0.01; done # SIGINT has its handler
  $wait_for
  kill -INT $job || fail "it ended before it was told to: $(cat log)"
  status=0
  wait $job || status=$?
}
no_step() { [ $status = 1 ] && grep -q 'the run was told to stop before its first step' log && [ ! -s moment.json ] && [ ! -e moment/latest ]; }
for delay in 0.2 0.32 0.5; do
  stopped "sleep $delay"
  if [ $status = 0 ]; then
    grep -q '"finished":false' moment.json && [ -s moment/latest ] || fail "stopped after $delay s, in a step: $(cat moment.json log)"
  else
    no_step || fail "stopped after $delay s, before a step: $(cat moment.json log)"
  fi
done
stopped "came moment/metrics.jsonl" --held-out text # is scored before the first step
no_step || fail "stopped while text was scored: $(cat moment.json log)"
stopped "came moment/metrics.jsonl" --held-out text --sentinel roll-back # what it would have gone back to is there
[ $status = 0 ] && grep -q '"finished":false' moment.json && [ -s moment/latest ] || fail "stopped with a checkpoint: $(cat moment.json log)"

echo "-- quantised, and filled"
"$bin/quantize" straight --out int4 --bits 4 --group 32 | grep -q '"job":"quantize"' || fail "quantize"
for taken in straight straight/step-00000012; do
  before=$(find $taken -type f -exec cksum {} + | sort)
  refuse "--out '$taken' has a checkpoint of another kind already" "$bin/quantize" straight --out $taken
  [ "$(find $taken -type f -exec cksum {} + | sort)" = "$before" ] || fail "a refused quantize changed $taken"
done
"$bin/quantize" straight --out int4 --bits 4 --group 32 >/dev/null 2>log || { cat log; fail "its own quantised checkpoint is not made again"; }
"$bin/checkpoint" verify int4 --heads 4 2>log | grep -q '"sound":true' || { cat log; fail "the doctor of scales of groups"; }
"$bin/fill" --run straight --text 'golem is a [MASK] library' --max-tokens 4 2>/dev/null | grep -q '"job":"fill".*"blanks":1' || fail "fill"
"$bin/fill" --run straight --text 'golem is a [MASK] library for [MASK]' --max-tokens 4 --beams 3 --no-repeat-ngram 2 2>/dev/null | tr '\n' ' ' | grep -q '"other_beams".*"blanks":2' || fail "fill with beams"
printf 'golem is a [MASK] library\n%.0s' 1 2 >same
sampled=("$bin/fill" --run straight --file same --top-k 0 --temperature 2 --min-tokens 8 --max-tokens 8)
for run in first second; do "${sampled[@]}" >$run 2>log || { cat log; fail "fill that samples"; }; done
cmp <(head -n 2 first) <(head -n 2 second) || fail "the same command draws other tokens: $(cat first second)"
[ "$(head -n 2 first | sort -u | wc -l)" = 2 ] || fail "one text twice draws the same answer: $(cat first)"
printf ' golem is a [MASK] library\t\r\n \r\n' >blanks
"$bin/fill" --run straight --file blanks --max-tokens 4 >stripped 2>log && cmp <(head -n 1 stripped) <("$bin/fill" --run straight --text 'golem is a [MASK] library' --max-tokens 4 2>/dev/null | head -n 1) &&
  grep -q '"texts":1' stripped || { cat log stripped; fail "blanks around a line change its answer"; }
printf 'golem is a [MASK] library\r\n\nmore\n' | "$bin/fill" --run straight --max-tokens 4 2>log | grep -q '"texts":1' || { cat log; fail "an empty line should end the keyboard"; }
"$bin/fill" --run straight --checkpoint int4 --precision int4 --text 'golem is a' --max-tokens 4 2>/dev/null | grep -q '"precision":"int4"' || fail "fill with int4"

"$bin/quantize" straight --out int8 --bits 8 >/dev/null || fail "quantize --bits 8"
refuse "its weights were quantised to INT4 with groups of 32: load them in that format, or take the checkpoint that they were made from" "$bin/fill" --run straight --checkpoint int4 --text 'a [MASK]'
refuse "its weights were quantised to INT8 with a scale for each row" "$bin/fill" --run straight --checkpoint int8 --precision int4 --text 'a [MASK]'

echo "-- bits per byte are of the text that is held out now, whatever pretrain measured"
mkdir held_out other_text
cp text/0.txt held_out/
cp text/1.txt other_text/
"${train[@]}" --out measured --steps 2 --held-out held_out >measured.json 2>log || { cat log; fail "pretrain --held-out"; }
for set in held_out other_text; do
  "$bin/evaluate" --run measured --corpus other_text --held-out $set --blanks 1 --threads 1 >$set.json 2>log || { cat log; fail "evaluate --held-out $set"; }
done
bpb_start() { sed -E 's/.*"bpb_start":([0-9.]+).*/\1/' "$1.json"; }
loss() { sed -E 's/.*"loss":([0-9.]+).*/\1/' "$1.json"; }
bpb() { sed -E 's/.*"bpb":([0-9.]+).*/\1/' "$1.json"; }
"${train[@]}" --out measured --steps 2 --held-out held_out --resume auto >again.json 2>log || { cat log; fail "pretrain --held-out --resume"; }
[ "$(bpb_start again)" = "$(bpb_start measured)" ] && [ "$(loss again)" = "$(loss measured)" ] || fail "a run that is resumed at its end: $(cat again.json)"
[ "$(bpb held_out)" = "$(bpb measured)" ] && grep -q '"bpb_start":[0-9]' held_out.json || fail "pretrain's own measure: $(cat measured.json held_out.json)"
cp measured/pretrain.json earlier.json
"${train[@]}" --out measured --steps 6 --held-out held_out --resume auto >later.json 2>log || { cat log; fail "pretrain --resume"; }
cp earlier.json measured/pretrain.json # as if that run had died before its last line
"$bin/evaluate" --run measured --corpus other_text --held-out held_out --blanks 1 --threads 1 >now.json 2>log || { cat log; fail "evaluate a later step"; }
echo "$(bpb now) $(bpb later) $(bpb measured)" | awk '{ d = $1 / $2 - 1; exit !(d < 1e-4 && d > -1e-4 && $2 != $3) }' || fail "bits per byte of a later step: $(cat now.json later.json)"
grep -q '"bpb_precision":"fp32"' held_out.json || fail "the precision of bits per byte: $(cat held_out.json)"
sed 's/"precision":"fp32"/"precision":"bf16_mixed"/' earlier.json >measured/pretrain.json # as pretrain leaves it that trains in bfloat16
sed -i 's/"steps":2/"steps":6/' measured/pretrain.json
"$bin/evaluate" --run measured --corpus other_text --held-out held_out --blanks 1 --threads 1 >mixed.json 2>log && grep -q '"bpb_precision":"bf16_mixed"' mixed.json && grep -q 'full: in bf16_mixed, as pretrain measured it' log || { cat mixed.json log; fail "what full bits per byte are of is not told"; }
grep -q '"bpb_start":null' other_text.json || fail "another text's start: $(cat other_text.json)"
sed -E 's/.*"bpb":([0-9.]+).*"bpb_int8":([0-9.]+).*/\1 \2/' other_text.json | awk '{ d = $1 / $2 - 1; exit !(d < 0.01 && d > -0.01) }' || fail "INT8 beside the bits per byte of another text: $(cat other_text.json)"

echo "-- a text that gives fewer pieces than the model has is trained on with those"
mkdir little && head -c 400 text/0.txt >little/text.md
"$bin/pretrain" --corpus little --model tiny --precision fp32 --threads 1 --out few --steps 1 >few.json 2>log && grep -qE 'the text gave [0-9]{3} pieces' log || { cat log; fail "few pieces"; }
"$bin/fill" --run few --threads 1 --text 'golem is a [MASK] library' >few.json 2>log && grep -q '^{"job":"fill"' few.json || { cat log few.json; fail "fill with few pieces"; }

echo "-- what goes wrong is told"
refuse "has checkpoints of a former run" "${train[@]}" --out straight
refuse "give --corpus" "$bin/pretrain" --out none
for lever in --new-peak-lr --new-min-lr --rewarm --new-shrink --new-shrink-ramp --new-beta2 --new-weight-decay --new-clip --reshuffle --skip-rows; do refuse "$lever requires --resume" "${train[@]}" --out none $lever 2; done
# said OPTION VALUE WORDS: a resumed run's own is another.
said() { refuse "$1 $2 was given for a run that is resumed with $3" "${train[@]}" --out straight --steps 13 --resume auto "$1" "$2"; }
said --peak-lr 0.002 "0.0015: leave it out, or change it by --new-peak-lr"
said --min-lr 0.002 1e-05
said --warmup 3 "200: leave it out"
said --shrink 0.5 1
said --seed 5 "1234: leave it out"
said --beta2 0.9 "0.999: leave it out"
said --weight-decay 0.2 "0.1: leave it out, or change it by --new-weight-decay"
said --clip 2 "1: leave it out"
refuse "the run in 'straight' takes steps of 4 rows, and was to go on with 8: give --batch 4" "$bin/pretrain" --model tiny --precision fp32 --threads 1 --batch 8 --out straight --resume auto
refuse "TrainingConfig::learning_rate.peak must be at least 0, and finite" "${train[@]}" --out none --peak-lr nan
refuse "TrainingConfig::beta2 must be from 0 to below 1" "${train[@]}" --out none --beta2 1
for option in --length-penalty=2 --no-repeat-ngram=2 --sample-beams; do refuse "${option%=*} requires --beams" "$bin/fill" --run straight --text 'a [MASK]' $option; done
for option in --temperature=0.5 --top-p=0.5; do refuse "${option%=*} requires --top-k" "$bin/fill" --run straight --text 'a [MASK]' $option; done
refuse "--beams excludes --top-k" "$bin/fill" --run straight --text 'a [MASK]' --top-k 0 --beams 2
refuse "No such file" "$bin/pretrain" --corpus nowhere --model tiny --out none
refuse "the saved run made blanks of 3 tokens over 0.15 of the text, and this one makes them of 1 over 0.15" "${train[@]}" --out straight --steps 13 --resume auto --span-mean 1
refuse "the saved run made a [gMASK] sample of 0.7 of its rows, and this one makes it of 0.3" "${train[@]}" --out straight --steps 13 --resume auto --generation-part 0.3
refuse "do not go with --order original" "${train[@]}" --out none --order original --mask-ratio 0.3
refuse "do not go with --order original" "${train[@]}" --out none --order original --generation-part 0.3
refuse "--generation-part" "${train[@]}" --out none --generation-part 1.5
refuse "the part between 0 and 1" "${train[@]}" --out none --mask-ratio 1.5
refuse "in another order" "${train[@]}" --out straight --steps 13 --resume auto --order original
refuse "goes with --order original" "${train[@]}" --out none --former-instructions none
refuse "--no-such-option" "$bin/pretrain" --no-such-option
mkdir bad && head -c 2000 /dev/urandom >bad/noise.bin
refuse "bad/noise.bin" "$bin/pretrain" --corpus bad --model tiny --out none
mkdir empty
refuse "there is no text" "$bin/pretrain" --corpus empty --model tiny --out none
refuse "there is no model" "$bin/pretrain" --corpus text --model huge --out none
cp -r straight unnamed
echo '{"model": 7}' >unnamed/pretrain.json
refuse "is not what pretrain writes" "$bin/fill" --run unnamed --text 'a [MASK]'
refuse "is not what pretrain writes" "$bin/evaluate" --run unnamed --corpus other_text --held-out held_out
refuse "ask for at most" "$bin/fill" --run straight --threads 100000 --text 'a [MASK]'
refuse "shorten the text" "$bin/fill" --run straight --text "$(head -c 3000 text/0.txt | tr '\n' ' ')"
refuse "built for 8 bits" "$bin/quantize" straight --out none --bits 5
refuse "quantised already" "$bin/quantize" int4 --out none
shard=$(ls straight/step-00000012/model*.safetensors | head -n 1)
printf 'golem was here' | dd of="$shard" bs=1 seek=70000 conv=notrunc status=none # one byte may by chance be what it was
refuse "is not what was saved" "$bin/fill" --run straight --text 'a [MASK]'
truncate -s 50000 "$shard"
refuse "is not what was saved" "$bin/fill" --run straight --text 'a [MASK]'
"$bin/pretrain" --corpus text/0.txt --model tiny --precision fp32 --threads 1 --out other --steps 1 >/dev/null 2>log || { cat log; fail "another run"; }
cp other/tokenizer.model resumed/tokenizer.model
refuse "another tokenizer" "${train[@]}" --out resumed --steps 14 --resume auto
echo "all went as it should"
