#!/usr/bin/env bash
# The tests on a GPU under compute-sanitizer's four tools, a process for each test and tool, as many at a time as there are cores.
# SPDX-License-Identifier: Apache-2.0
# sanitize.sh TEST_GPU [TOOL...]     tools: memcheck racecheck synccheck initcheck; GOLEM_TEST_PATTERN chooses tests (Catch2's patterns)
set -uo pipefail
test=$1
shift
tools=("$@")
[ ${#tools[@]} -gt 0 ] || tools=(memcheck racecheck synccheck initcheck)
nvidia-smi -L 2>/dev/null | grep -q '^GPU' || { echo "no GPU: left out"; exit 0; }
sanitizer=$(command -v compute-sanitizer || ls /usr/local/cuda/bin/compute-sanitizer 2>/dev/null) || { echo "no GPU: left out, for there is no compute-sanitizer"; exit 0; }
logs=${GOLEM_TEST_LOGS:-$(mktemp -d)}
mkdir -p "$logs"

"$test" ${GOLEM_TEST_PATTERN+"$GOLEM_TEST_PATTERN"} --list-test-names-only >"$logs/names" || true # a count of them
[ -s "$logs/names" ] || { echo "no test of $test is named so: ${GOLEM_TEST_PATTERN-}"; exit 1; }
# one TOOL NUMBER NAME
one() {
  local log="$logs/$1.$2"
  # a name is a pattern to Catch2, in which commas part tests
  timeout --foreground 600 "$sanitizer" --tool "$1" --error-exitcode 9 --print-limit 20 "$test" "${3//,/\\,}" >"$log" 2>&1
  local status=$?
  [ $status = 0 ] && rm "$log" && return
  echo "$1, status $status: $3"
  grep -m 3 -E '^=+ (Error|Warning|Invalid|Race|Barrier|Uninitialized|ERROR)' "$log"
}
export -f one
export test sanitizer logs
for tool in "${tools[@]}"; do
  awk '{ print NR "\n" $0 }' "$logs/names" | tr '\n' '\0' | xargs -0 -n 2 -P "$(nproc)" bash -c 'one "$0" "$1" "$2"' "$tool" >"$logs/$tool"
  echo "-- $tool: $(wc -l <"$logs/names") tests, $(grep -c ', status ' "$logs/$tool") with a report"
done
cat "${tools[@]/#/$logs/}" | tee "$logs/reports"
[ ! -s "$logs/reports" ]
