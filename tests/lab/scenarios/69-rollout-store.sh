#!/bin/bash
# 69-rollout-store: single hosts lose the store at each phase of a rollout; one is suspended, and its slot is broken meanwhile
# timeout: 300
# long timeout: 360
# shellcheck source=tests/lab/lib.sh
. "$(dirname "$0")/../lib.sh"
# shellcheck source=tests/lab/versions.sh
. "$(dirname "$0")/../versions.sh"
# shellcheck source=tests/lab/fleet.sh
. "$(dirname "$0")/../fleet.sh"

suspended=8
[ -z "${LONG:-}" ] || suspended=60

# Boots slowly enough to be seen, and not at all while /srv/cold is there; is not built while /srv/hold-build is there.
make_slow() {
  at_boot 'sleep 2; sleep 0.2 while File.exist?("/srv/cold")'
  sed -i '/^Dir.chdir/i sleep 0.2 while File.exist?("/srv/hold-build")' bin/build
  echo "/* $RANDOM */" >>assets/app.css
}
# shellcheck disable=SC2119  # the app of this repository
give_git_server
clone_versions
for version in second third fourth fifth sixth seventh; do commit $version slow; done
give_versions
# The migration comes after the slot, and before the switch.
give_fleet 'migrate: {run: "while [ -e /srv/hold ]; do sleep 0.2; done", once: host, when_changed: null}'

is_at() { [ "$(at "$1")" = "${sha[$2]}" ]; }

check "v1 is published" publish "${sha[v1]}" --create
check "three hosts converge" passes 0 0 0
new_runs
timers "${hosts[@]}"
watch_hosts

# Before it asks: it builds when it loses the store.
set_flag hold-build app1
check "a version is published" publish "${sha[second]}"
for each in app2 app3; do wait_for 40 "$each takes it" is_at $each second; done
lose_store app1
clear_flag hold-build app1
wait_for 30 "a host that cannot ask says so" says app1 "it cannot ask for permission"
same "and stays where it is" "${sha[v1]}" "$(at app1)"
code "the rollout waits for it" 2 rollout status
has "and says how far it is" "2 of 3 hosts" "$output"
return_store app1
wait_for 40 "with the store back it follows by itself" finished "${sha[second]}" "${hosts[@]}"

# It holds a slot, and has not switched.
new_runs
set_flag hold "${hosts[@]}"
check "a version is published" publish "${sha[third]}"
wait_for 30 "a host has the slot" has_holder
first=$(holder)
lose_store "$first"
sleep 6
clear_flag hold "${hosts[@]}"
wait_for 30 "the host that lost the store does not go on" says "$first" "it cannot ask for permission"
sleep 5
same "it keeps its slot" "$first" "$(holder)"
for each in "${hosts[@]}"; do same "$each has not switched" "${sha[second]}" "$(at "$each")"; done
return_store "$first"
wait_for 60 "with the store back all go on by themselves" finished "${sha[third]}" "${hosts[@]}"

# It has switched, and is not proven.
new_runs
set_flag cold "${hosts[@]}"
check "a version is published" publish "${sha[fourth]}"
wait_for 30 "a host has the slot" has_holder
first=$(holder)
wait_for 30 "it switches" is_at "$first" fourth
lose_store "$first"
clear_flag cold "${hosts[@]}"
serves() { curl -sf -o /dev/null --max-time 2 "http://$(address "$1")/health"; }
wait_for 30 "without the store its release comes up" serves "$first"
sleep 5
same "it keeps its slot" "$first" "$(holder)"
same "and what it has" "${sha[fourth]}" "$(at "$first")"
for each in $(others "$first"); do same "$each waits" "${sha[third]}" "$(at "$each")"; done
return_store "$first"
wait_for 60 "with the store back all go on by themselves" finished "${sha[fourth]}" "${hosts[@]}"

# It waits for a slot.
new_runs
set_flag hold "${hosts[@]}"
check "a version is published" publish "${sha[fifth]}"
wait_for 30 "a host has the slot" has_holder
first=$(holder)
read -r second third <<<"$(others "$first")"
wait_for 30 "another one waits for it" says "$second" "waits for a slot: $first has slot 0"
lose_store "$second"
clear_flag hold "${hosts[@]}"
for each in $first $third; do wait_for 40 "the others go on without it: $each" is_at "$each" fifth; done
same "it stays where it is" "${sha[fourth]}" "$(at "$second")"
return_store "$second"
wait_for 60 "with the store back it follows by itself" finished "${sha[fifth]}" "${hosts[@]}"

# Suspended with a slot, which an operator breaks meanwhile.
new_runs
set_flag hold "${hosts[@]}"
check "a version is published" publish "${sha[sixth]}"
wait_for 30 "a host has the slot" has_holder
first=$(holder)
everything() {
  on "$first" sh -c "pkill -$1 -x trueup; pkill -$1 -f 'while \[ -e /srv/hol[d]'"
  # What runs it from this machine stops with it, and does not go on with it.
  pkill -CONT -P "$(IFS=,; echo "${timers[*]}")" -f "nsenter.*trueup converge" ||:
}
everything STOP
sleep $suspended
code "its slot is not broken without a word, as it was heard of lately" 64 rollout break-slot 0 --reason "does it hang?"
check "with --yes, it is" rollout break-slot 0 --yes --reason "it hangs"
next() { local now; now=$(holder); [ -n "$now" ] && [ "$now" != "$first" ]; }
wait_for 30 "another host takes it" next
second=$(holder)
clear_flag hold "$first"
everything CONT
wait_for 30 "woken up, it gives up what it has not begun" says "$first" "its slot was broken; it asks for another one"
sleep 5
same "the other one keeps the slot" "$second" "$(holder)"
same "and it stays where it is" "${sha[fifth]}" "$(at "$first")"
clear_flag hold "${hosts[@]}"
wait_for 60 "all go on by themselves" finished "${sha[sixth]}" "${hosts[@]}"
has "the history names the act" "break-slot 0 of $first" "$(rollout status)"

most_out 1
stop_timers "${hosts[@]}"
