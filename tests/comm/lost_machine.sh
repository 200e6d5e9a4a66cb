#!/usr/bin/env bash
# Two machines, each a network namespace of its own, of which the way from one to the other is cut while ranks wait: both ends of the run learn of it within the deadline.
# SPDX-License-Identifier: Apache-2.0
# lost_machine.sh PROGRAM
set -uo pipefail
program=$1 here=golem-$$-0 there=golem-$$-1
work=$(mktemp -d)
trap '{ kill $(jobs -p); ip netns del $here; ip netns del $there; } 2>/dev/null; rm -rf "$work"' EXIT
{ ip netns add $here && ip netns add $there && ip link add golem$$ netns $here type veth peer name golem$$ netns $there; } 2>/dev/null ||
  { echo "skipped: no network namespaces (ip netns, as root)"; exit 0; }
for end in "$here 1" "$there 2"; do
  set -- $end
  ip -n $1 address add 10.137.0.$2/24 dev golem$$ && ip -n $1 link set golem$$ up && ip -n $1 link set lo up || exit 1
done

# rank NUMBER NAMESPACE: of two, of which rank 1 leaves rank 0 waiting
rank() { WORLD_SIZE=2 RANK=$1 MASTER_ADDR=10.137.0.1 GOLEM_PORT=4711 timeout 60 ip netns exec "$2" "$program" 1 1 2 "be cut off" >"$work/$1" 2>&1; }
rank 0 $here &
first=$!
rank 1 $there &
second=$!
for ((look = 0; look < 400; look++)); do # both have come to rank 0's port
  [ "$(ip netns exec $here ss -Htn state established "sport = :4711" | wc -l)" -ge 2 ] && break
  sleep 0.05
done
sleep 0.5
ip -n $here link set golem$$ down
cut=$(date +%s%N)
wait $second
status=$?
took=$((($(date +%s%N) - cut) / 1000000))
[ $status != 0 ] && [ $status != 124 ] && [ $took -lt 15000 ] || { cat "$work/1"; echo "rank 1 ended with $status after $took ms, with a deadline of 8 s"; exit 1; }
grep -qE "^rank 0 of 2, through which the others talk, was killed, crashed or left without a word, or its machine is down \(rank 1 " "$work/1" || { cat "$work/1"; echo "rank 1 should have told of the loss"; exit 1; }
wait $first && { echo "rank 0 went well"; exit 1; }
grep -qE "^rank 1 of 2 failed in step 17, .*: it has not been heard of for .*: its process was stopped, or its machine stands still" "$work/0" || { cat "$work/0"; echo "rank 0 should have told which rank it has not heard of"; exit 1; }
echo "a machine that is lost is told of after $took ms"
