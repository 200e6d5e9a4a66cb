#!/usr/bin/env bash
# GLM-130B's programs: its training on paper, the same program to the end with the small sibling, and the sibling generating on one rank and many.
# SPDX-License-Identifier: Apache-2.0
# glm130b.sh BINARIES SOURCE
set -euo pipefail
bin=$1 source=$2
source "$source/tests/programs/texts.sh"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
export OMP_WAIT_POLICY=passive OMP_NUM_THREADS=1

fail() { echo "FAILED: $*"; exit 1; }
# refuse WORDS COMMAND...: the command must fail, with one line that has these words on standard error, and none on standard output.
refuse() {
  local words=$1
  shift
  if timeout 120 "$@" >out 2>err </dev/null; then fail "went well: $*"; fi
  [ "$(wc -l <err)" = 1 ] && grep -qF -- "$words" err || { cat err; fail "'$words' was not said by: $*"; }
  [ ! -s out ] || fail "something was printed by: $*"
}

echo "-- the launch on paper"
"$bin/glm130b_train" --plan --timeline step.svg --memory memory.svg >out
for part in '768 A100-40G: tp 4, pp 8, dp 24, 1f1b' 'loss scale 65536 1 200 2' 'it fits: stage 0 takes 22.' 'step                    88.'; do
  grep -qF -- "$part" out || { cat out; fail "the plan should say: $part"; }
done
tail -n 1 out >line
grep -q '"job":"glm130b_train".*"parameters":128697794560' line && grep -q '"bubble_formula":0.0382' line || fail "the plan's last line: $(cat line)"
for picture in step memory; do head -c 4 $picture.svg | grep -q '<svg' || fail "$picture.svg is no picture"; done
refuse "name one of A100-40G" "$bin/glm130b_train" --plan --hardware A100
if "$bin/glm130b_train" --plan --products 0 >out 2>err; then fail "a plan without products"; fi
[ ! -s out ] && grep -q '^--products: 0 is not a number from' err || { cat err; fail "a plan without products should be refused"; }
refuse "GiB on each rank" "$bin/glm130b_train" --corpus nowhere
refuse "there is no model" "$bin/glm130b_train" --model huge

echo "-- the sibling, to the end"
texts text 30
timeout 400 "$bin/glm130b_train" --model tiny --corpus text --out run >train.json 2>log || { cat log; fail "glm130b_train --model tiny"; }
grep -q '"job":"glm130b_train","model":"tiny","precision":"low_gradients".*"finished":true' train.json || fail "its last line: $(cat train.json)"
grep -qF '"layout":{"tp":2,"pp":2,"dp":2,"sequence_parallel":false,"schedule":"1f1b","chunks":1,"zero":1}' train.json || fail "its layout: $(cat train.json)"
[ -s run/loss.svg ] && grep -q validation_loss run/metrics.jsonl || fail "it left no chart or log"

echo "-- the sibling generates, in each format, and the same on one rank and many"
sibling=("$bin/glm130b_generate" --model tiny --out-seq-length 60)
generate=("${sibling[@]}" --checkpoint run)
"${generate[@]}" --precision int4 --products golem --tp 1 --text 'golem is a [MASK] library' >int4_golem 2>log || { cat log; fail "glm130b_generate by golem's products"; }
grep -q '"precision":"int4","tp":1.*"blanks":1' int4_golem || fail "its last line: $(cat int4_golem)"
for precision in fp16 int8 int4; do
  "${generate[@]}" --precision $precision --tp 1 --text 'golem is a [MASK] library' >$precision 2>log || { cat log; fail "glm130b_generate in $precision"; }
  grep -q "\"job\":\"glm130b_generate\",\"model\":\"tiny\",\"precision\":\"$precision\",\"tp\":1.*\"blanks\":1" $precision || fail "its last line: $(cat $precision)"
done
"${generate[@]}" --tp 1 --top-k 1 --sampling-rules golem --text 'the trainer [gMASK]' >one 2>streamed || { cat streamed; fail "one rank"; }
[ -s streamed ] || fail "nothing was streamed"
# fp16 rounds the sums of two ranks otherwise, and a near tie may fall the other way: few tokens, and no beams. In fp64, test_infer compares all.
"${generate[@]}" --tp 2 --top_k 1 --sampling-rules golem --text 'the trainer [gMASK]' >two 2>log || { cat log; fail "two ranks"; }
for tp in 1 2; do "$bin/glm130b_generate" --model tiny --checkpoint run --out-seq-length 20 --tp $tp --top_k 1 --sampling-rules golem --text 'the trainer [gMASK]' >short$tp 2>log || { cat log; fail "few tokens on $tp"; }; done
cmp <(head -n 1 short1) <(head -n 1 short2) || fail "two ranks answer otherwise than one: $(cat short1 short2)"

"${generate[@]}" --tp 1 --text 'the trainer [gMASK]' >drawn 2>log || { cat log; fail "by the original's rules"; }
"${generate[@]}" --tp 1 --sampling-rules original --top-p 0.7 --seed 1234 --text 'the trainer [gMASK]' >again 2>log || { cat log; fail "by the original's rules, said"; }
cmp <(head -n 1 drawn) <(head -n 1 again) || fail "the defaults should be the original's"

echo "-- beams, on one rank and two"
beams=("${generate[@]}" --sampling-strategy BeamSearchStrategy --num-beams 3 --print-all-beams --min-gen-length 2 --text 'bi [MASK] ku [MASK]')
for how in drawn best; do
  for tp in 1 2; do
    for run in first second; do "${beams[@]}" $([ $how = drawn ] || echo --deterministic) --tp $tp >$run 2>log || { cat log; fail "beams, $how, on $tp"; }; done
    [ "$(grep -c '"answers":\["[^"]*","[^"]*"\]' first)" = 3 ] && grep -q '"texts":1,"blanks":2' first || fail "three beams with two answers each: $(cat first)"
    cmp <(head -n 3 first) <(head -n 3 second) || fail "the same command finds other beams, $how, on $tp: $(cat first second)"
  done
done
search=("${generate[@]}" --sampling-strategy BeamSearchStrategy --deterministic --tp 1 --text 'bi [MASK] kofade')
"${search[@]}" >plain 2>log || { cat log; fail "one answer of four beams"; }
"${search[@]}" --length-penalty 5 --no-repeat-ngram-size 0 >other 2>log || { cat log; fail "beams with a length penalty"; }
[ "$(wc -l <plain)" = 2 ] || fail "the best beam alone should be shown: $(cat plain)"
cmp -s <(head -n 1 plain) <(head -n 1 other) && fail "the length penalty and repeated runs change nothing: $(cat plain)"

echo "-- the layout in which GLM-130B was released"
"$bin/checkpoint" convert run --heads 8 --layout sat --tp 2 --out released >out 2>err || { cat err; fail "checkpoint convert"; }
[ -s released/latest ] && [ "$(find released -name 'mp_rank_0?_model_states.pt' | wc -l)" = 2 ] || fail "no released layout: $(find released)"
for ranks in one two; do
  "${sibling[@]}" --checkpoint released --tokenizer run/tokenizer.model --tp $([ $ranks = one ] && echo 1 || echo 2) --top-k 1 --sampling-rules golem --text 'the trainer [gMASK]' >answers 2>log || { cat log; fail "released on $ranks"; }
  cmp <(head -n 1 $ranks) <(head -n 1 answers) || fail "the released layout answers otherwise than golem's, on $ranks"
done
for source_of in run released; do
  "${sibling[@]}" --checkpoint $source_of --tokenizer run/tokenizer.model --tp 2 --top-k 0 --top-p 0 --text 'the trainer [gMASK]' >drawn_$source_of 2>log || { cat log; fail "$source_of, drawn"; }
done
cmp <(head -n 1 drawn_run) <(head -n 1 drawn_released) || fail "what is drawn from the released layout is something else: not all weights are the same"
refuse "--tokenizer" "${sibling[@]}" --checkpoint released --text x

echo "-- files, ids and the keyboard"
printf 'a\tthe first [MASK] text\nb\tthe second\n' >texts
"${generate[@]}" --input-source texts --with-id --output-path new/answers --seed 5 --min-gen-length 2 >out 2>log || { cat log; fail "a file with ids"; }
[ -s new/answers/a.txt ] && [ -s new/answers/b.txt ] && [ "$(wc -l <out)" = 3 ] || fail "answers: $(ls new/answers; cat out)"
printf 'a \377 byte\nsome text\nstop\nmore text\n' | "${generate[@]}" --tp 2 >out 2>err || { cat err; fail "the keyboard"; }
grep -q '"texts":1' out && grep -q "UTF-8" err || { cat out err; fail "the keyboard: a bad line should be told, and stop should end it"; }

printf 'some text\n \tstop\r\nmore text\n' | "${generate[@]}" >out 2>err || { cat err; fail "the keyboard, with blanks around stop"; }
grep -q '"texts":1' out || { cat out err; fail "stop with blanks around it should end it"; }

echo "-- blanks around a line are none of its text, and a line of blanks is none"
printf 'the first [MASK] text\n\nthe second\n' >plain
printf ' the first [MASK] text\r\n \t\r\nthe second  \r\n' >blanks
for file in plain blanks; do "${generate[@]}" --input-source $file --top-k 1 --top-p 0 >out_$file 2>log || { cat log; fail "the file $file"; }; done
cmp <(head -n 2 out_plain) <(head -n 2 out_blanks) && grep -q '"texts":2' out_blanks || fail "blanks change the answers: $(cat out_plain out_blanks)"

printf 'this is the first of two\nthis is the first of two, again\nthis is the first of two\n' >alike
"${generate[@]}" --input-source alike --output-path alike_answers --top-p 0 --temperature 1.5 --min-gen-length 8 >out 2>log || { cat log; fail "texts that begin alike"; }
[ "$(find alike_answers -name '*.txt' | wc -l)" = 3 ] || fail "three texts, of which a file is lost: $(ls alike_answers)"
answer() { sed -E 's/.*"answers":\["(.*)"\].*/\1/' <<<"$1"; }
[ "$(answer "$(sed -n 1p out)")" != "$(answer "$(sed -n 3p out)")" ] || fail "one text twice draws the same answer: $(cat out)"

echo "-- what goes wrong is told"
refuse "--bminf" "${generate[@]}" --bminf --text x
refuse "takes 8 or 4" "${generate[@]}" --quantization-bit-width 5 --text x
refuse "are not quantised" "${generate[@]}" --quantization-bit-width 8 --from-quantized-checkpoint --text x
refuse "0 or at least 2" "${generate[@]}" --no-repeat-ngram-size 1 --text x
refuse "original or golem" "${generate[@]}" --sampling-rules own --text x
refuse "BaseStrategy or BeamSearchStrategy" "${generate[@]}" --sampling-strategy Greedy --text x
refuse "shorten the text" "${generate[@]}" --tp 2 --text "$(head -c 2000 text/0.txt | tr '\n' ' ')"
refuse "has no tab" "${generate[@]}" --input-source text/0.txt --with-id
printf '\tthe first\n' >texts
refuse "has the id ''" "${generate[@]}" --input-source texts --with-id
printf 'a\t \n' >no_text
refuse "line 1 of 'no_text' has no text behind the id 'a'" "${generate[@]}" --input-source no_text --with-id
for id in ../b a/b; do
  printf '%s\tthe first\n' "$id" >texts
  refuse "has the id '$id'" "${generate[@]}" --input-source texts --with-id --output-path new/answers
done
printf 'a\tthe first\na\tthe second\n' >texts
refuse "line 2 of 'texts' has the id 'a' of an earlier line" "${generate[@]}" --input-source texts --with-id
refuse "name another with --output-path" "${generate[@]}" --text x --output-path texts
refuse "has no RANK" env WORLD_SIZE=2 MASTER_ADDR=localhost "${generate[@]}" --text x
refuse "GiB on each rank" "$bin/glm130b_generate" --checkpoint run --tp 1 --text x
if command -v mpirun >/dev/null && grep -q MPI_Init_thread "$bin/glm130b_generate"; then # processes share a machine as threads do
  refuse "GiB for each of 2: start" bash "$source/examples/launch.sh" -n 2 "$bin/glm130b_generate" --checkpoint run --tp 2 --text x
fi
echo "all went as it should"
