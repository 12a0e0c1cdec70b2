#!/bin/bash
# 68-rollout-scale: shas in a row behind haproxy: no request fails; then 3, 6 and 2 hosts within one rollout: the slots follow
# timeout: 330
# packages: haproxy
# shellcheck source=tests/lab/lib.sh
. "$(dirname "$0")/../lib.sh"
# shellcheck source=tests/lab/versions.sh
. "$(dirname "$0")/../versions.sh"
# shellcheck source=tests/lab/fleet.sh
. "$(dirname "$0")/../fleet.sh"

# shellcheck disable=SC2119  # the app of this repository
give_git_server
clone_versions
shas=10
for ((n = 1; n <= shas; n++)); do commit "$n" good; done
commit growing good
give_versions
# After the slot and before the switch.
settings='migrate: {run: "while [ -e /srv/hold ]; do sleep 0.2; done", once: host, when_changed: null}'
give_fleet "$settings"
# A host is gone for its rollouts after three heartbeats, and its hosts are counted again at each.
heartbeat='fleet: {heartbeat: 20s}'
for each in "${hosts[@]}"; do write "$each:/etc/trueup/node.d/heartbeat.yml" <<<"$heartbeat"; done
balancers=(lb lb2)
for each in "${balancers[@]}"; do give_balancer "$each"; done

check "v1 is published" publish "${sha[v1]}" --create
check "three hosts converge" passes 0 0 0
for each in "${balancers[@]}"; do
  check "$each converges" on "$each" trueup converge
  wait_for 10 "its visitors get v1" page_has "$each" "version v1"
done

under_load "${balancers[@]}"
started=$(now)
for ((n = 1; n <= shas; n++)); do
  publish "${sha[$n]}" >"$SCRATCH/publish" 2>&1 || fail "version $n is published" "$(cat "$SCRATCH/publish")"
  passes 0 0 0 >"$SCRATCH/end" 2>&1 || fail "three hosts take version $n" "$(cat "$SCRATCH/end")"
  check "version $n is done" finished "${sha[$n]}" "${hosts[@]}"
done
echo "  $shas shas in $(since "$started") s"
for each in "${balancers[@]}"; do wait_for 5 "visitors of $each get the last one" page_has "$each" "version $shas"; done
end_load

# One slot for three hosts.
slots() { { rollout status --output json ||:; } | json 'd["slots"]'; }
slots_are() { [ "$(slots)" = "$1" ]; }
holders_are() { [ "$(holder | wc -w)" = "$1" ]; }
# Also of slots that the number of slots says nothing about any more.
all_slots() { local number; for number in 0 1 2; do s3 GET "slots/production/shop/$number.json" | json 'd.get("holder", {"node": "free"})["node"]'; done | xargs; }
policy '{max_unavailable: 50%}'
set_flag hold "${hosts[@]}"
check "a version is published" publish "${sha[growing]}"
timers "${hosts[@]}"
wait_for 30 "a host has a slot" has_holder
same "of three hosts one may be out" 1 "$(slots)"

# Three more, while the rollout stands still. They take what served before.
under_load "${balancers[@]}"
for each in app4 app5 app6; do
  (fleet_host "$each" "$settings"; set_flag hold "$each"; write "$each:/etc/trueup/node.d/heartbeat.yml" <<<"$heartbeat") & new+=($!)
done
wait "${new[@]}"
timers app4 app5 app6
is_at() { [ "$(at "$1")" = "$2" ]; }
for each in app4 app5 app6; do wait_for 40 "$each takes the version before" is_at "$each" "${sha[$shas]}"; done
for each in "${balancers[@]}"; do check "$each converges" on "$each" trueup converge; done
wait_for 50 "of six hosts three may be out" slots_are 3
wait_for 30 "and so many take a slot" holders_are 3
end_load

# Four vanish, with and without slots, but for one of the first three that has none.
read -r -a out <<<"$(holder)"
echo "  out: ${out[*]}"
kept=()
for each in "${hosts[@]}" app4 app5 app6; do
  if [[ " ${out[*]} " != *" $each "* ]] && [ ${#kept[@]} -lt 2 ]; then kept+=("$each"); else lab kill "$each"; fi
done
code "the rollout waits for those that are out" 2 rollout status
operator() { "$TRUEUP" --config "$SCRATCH/node.yml" "$@"; }
wait_for 110 "the two that are left count themselves alone" slots_are 1
for each in "${hosts[@]}" app4 app5 app6; do
  if [[ " ${kept[*]} " == *" $each "* ]]; then continue; fi
  code "$each is forgotten" 0 operator fleet --env production --forget "$each" --yes
  [[ " ${out[*]} " != *" $each "* ]] || has "and its slot is free" "of shop is free" "$output"
done
wait_for 30 "one of the two takes the one that is left" holders_are 1
same "and the others are free" 2 "$(all_slots | grep -o free | wc -l)"
clear_flag hold "${kept[@]}"
wait_for 60 "the two go on by themselves" finished "${sha[growing]}" "${kept[@]}"
has "the rollout counts them alone" "2 of 2 hosts" "$(rollout status)"
same "no slot is held, whatever its number" "free free free" "$(all_slots)"
stop_timers "${kept[@]}"
