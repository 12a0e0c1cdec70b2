#!/bin/bash
# 66-rollout-faults: canaries, a power cut in a slot, a migration that dies, two publishes at once, a broken environment, a new host
# timeout: 500
# packages: haproxy
# shellcheck source=tests/lab/lib.sh
. "$(dirname "$0")/../lib.sh"
# shellcheck source=tests/lab/versions.sh
. "$(dirname "$0")/../versions.sh"
# shellcheck source=tests/lab/fleet.sh
. "$(dirname "$0")/../fleet.sh"

make_needy() { health '(File.exist?("/srv/database-down") ? [500, TEXT, ["no database"]] : [200, TEXT, ["ok"]])'; }
# shellcheck disable=SC2119  # the app of this repository
give_git_server
clone_versions
for version in second third fourth fifth sixth seventh; do commit $version good; done
commit fades fades
commit needy needy
commit needy2 needy
give_versions
# A migration that waits while /srv/hold is there, says on which host and for the how manieth time it runs, and may fail.
# shellcheck disable=SC2016  # the host expands it
give_fleet 'migrate: {run: "while [ -e /srv/hold ]; do sleep 0.2; done; echo $(hostname) $TRUEUP_ATTEMPT >>/srv/www/shop/shared/migrations; [ ! -e /srv/fail ]", when_changed: null}' \
  'hooks: {after_migrate: [{name: seed, once: fleet, run: "hostname >>/srv/www/shop/shared/seeds; [ ! -e /srv/fail-seed ]"}]}'

migrations() { for each in "${hosts[@]}"; do on "$each" sh -c 'cat /srv/www/shop/shared/migrations 2>/dev/null ||:'; done; }

check "v1 is published" publish "${sha[v1]}" --create
check "three hosts converge" passes 0 0 0
same "one of them migrated" 1 "$(migrations | wc -l)"
seeds() { for each in "${hosts[@]}"; do on "$each" sh -c 'cat /srv/www/shop/shared/seeds 2>/dev/null ||:'; done; }
same "and one ran the step after it" 1 "$(seeds | wc -l)"

# A power cut in the middle of a slot.
for each in "${hosts[@]}"; do on "$each" touch /srv/hold; done
check "a version is published" publish "${sha[second]}"
begin "${hosts[@]}"
wait_for 30 "a host has the slot" has_holder
first=$(holder)
sleep 1
lab kill "$first"
for each in "${hosts[@]}"; do [ "$each" = "$first" ] || on "$each" rm /srv/hold; done
sleep 4
same "its slot stays held" "$first" "$(holder)"
has "and the rollout shows it" "$first" "$(rollout status)"
lab up "$first" >/dev/null
on "$first" rm /srv/hold
stop_passes
check "booted again, it finishes, and the others follow" passes 0 0 0
code "the rollout is done" 0 rollout status --wait --timeout 20s
same "it migrated for all, on its second attempt" "$first 2" "$(migrations | grep -v ' 1$')"

# The same, and it never comes back.
for each in "${hosts[@]}"; do on "$each" touch /srv/hold; done
check "another version is published" publish "${sha[third]}"
begin "${hosts[@]}"
wait_for 30 "a host has the slot" has_holder
first=$(holder)
sleep 1
lab kill "$first"
stop_passes
rest=(); for each in "${hosts[@]}"; do [ "$each" = "$first" ] || rest+=("$each"); done
for each in "${rest[@]}"; do on "$each" rm /srv/hold; done
code "without the result of its step the slot is not broken" 64 rollout break-slot 0 --yes --reason "its disk is gone"
has "the remedy is shown" "--step" "$output"
check "with it, it is" rollout break-slot 0 --yes --step retry --reason "its disk is gone"
begin "${rest[@]}"; ends "the others go on" 0 0
check "the rollout does not wait for it" rollout ignore "$first" --reason "its disk is gone"
code "and is done without it" 0 rollout status --wait --timeout 20s
has "and its history names the acts" "its disk is gone" "$(rollout status)"
lab up "$first" >/dev/null
on "$first" rm -f /srv/hold
check "the host comes back, and catches up" passes 0 0 0

# A migration that fails: nobody activates.
for each in "${hosts[@]}"; do on "$each" touch /srv/fail; done
check "a version whose migration fails is published" publish "${sha[fourth]}"
begin "${hosts[@]}"; ends "no host goes on" 1 3 3
code "the rollout is halted" 1 rollout status --wait
for each in "${hosts[@]}"; do same "$each stays at the version before" "${sha[third]}" "$(at "$each")"; on "$each" rm /srv/fail; done
check "an operator lets it run again" rollout once migrate --resolve retry --reason "the table is there now"
check "three hosts converge" passes 0 0 0
code "the rollout is done" 0 rollout status --wait --timeout 20s

# The same of another step for all: its name is in the remedy.
for each in "${hosts[@]}"; do on "$each" touch /srv/fail-seed; done
before=$(seeds | wc -l)
check "a version whose step fails is published" publish "${sha[seventh]}"
begin "${hosts[@]}"; ends "no host goes on" 1 3 3
same "one host ran it" 1 "$(($(seeds | wc -l) - before))"
has "the rollout names it" "trueup rollout once production shop seed --resolve retry" "$(rollout status || :)"
for each in "${hosts[@]}"; do on "$each" rm /srv/fail-seed; done
check "an operator lets it run again" rollout once seed --resolve retry --reason "the cache is there now"
check "three hosts converge" passes 0 0 0
same "it ran once more" 2 "$(($(seeds | wc -l) - before))"

# Two publishes in ten seconds: the first is never activated later than the second is known.
check "a version is published" publish "${sha[fifth]}"
begin "${hosts[@]}"
sleep 1.5
check "and another one" publish "${sha[sixth]}"
ends "three hosts converge" 0 0 0
check "and again" passes 0 0 0
for each in "${hosts[@]}"; do same "$each is at the second one" "${sha[sixth]}" "$(at "$each")"; done

# A canary whose version fails in the bake.
policy '{canary: {hosts: 1, bake: 80s}}'
check "a version that fades is published" publish "${sha[fades]}"
begin "${hosts[@]}"
sleep 12
same "only the canary takes it" 1 "$(for each in "${hosts[@]}"; do at "$each"; done | grep -c "${sha[fades]}")"
has "the others say so" "canary" "$(rollout status)"
ends "the canary takes it back, and the others refuse it" 4 4 4
code "the rollout is quarantined" 4 rollout status --wait
for each in "${hosts[@]}"; do same "$each is at the version before" "${sha[sixth]}" "$(at "$each")"; done

# A new host takes what served before, builds the rest, and says why.
fleet_host app4
code "a new host waits" 3 on app4 env TRIGGER_UNIT=trueup.timer trueup converge
has "and says what for" "failed on" "$output"
same "it serves the version before" "${sha[sixth]}" "$(at app4)"
code "from then on it refuses the sha like all others" 4 on app4 env TRIGGER_UNIT=trueup.timer trueup converge
lab kill app4
"$TRUEUP" --config "$SCRATCH/node.yml" fleet --env production --forget app4 --yes >/dev/null

# What both versions need is away: not the sha.
policy '{canary: {hosts: 1}}'
check "a version that needs a database is published" publish "${sha[needy]}"
check "three hosts converge" passes 0 0 0
check "another one is published" publish "${sha[needy2]}"
for each in "${hosts[@]}"; do on "$each" touch /srv/database-down; done
begin "${hosts[@]}"; ends "one host meets it" 1 3 3
code "the rollout is halted" 1 rollout status
has "as of the environment" "does not work any more either" "$(rollout status)"
same "no sha is quarantined" "" "$("$TRUEUP" --config "$SCRATCH/node.yml" rollout quarantine list production shop | grep "${sha[needy2]:0:7}" ||:)"
for each in "${hosts[@]}"; do on "$each" rm /srv/database-down; done
check "the host that met it proves the version before" passes 3 3 3
check "an operator resumes it" rollout resume --reason "the database is back"
check "three hosts converge" passes 0 0 0
code "the rollout is done" 0 rollout status --wait --timeout 20s
rollout status
