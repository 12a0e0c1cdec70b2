#!/bin/bash
# 69-rollout-apps: an app that comes after another one waits for it, also on one host; a rollback on one host during a rollout
# timeout: 240
# shellcheck source=tests/lab/lib.sh
. "$(dirname "$0")/../lib.sh"
# shellcheck source=tests/lab/versions.sh
. "$(dirname "$0")/../versions.sh"
# shellcheck source=tests/lab/fleet.sh
. "$(dirname "$0")/../fleet.sh"

# shellcheck disable=SC2119  # the app of this repository
give_git_server
clone_versions
for version in second third fourth fifth; do commit $version good; done
give_versions
give_fleet 'migrate: {run: "while [ -e /srv/hold ]; do sleep 0.2; done", once: host, when_changed: null}'
# A second app, on two of the hosts.
for each in app2 app3; do
  write "$each:/etc/trueup/node.d/blog.yml" <<END
attributes:
  apps:
    blog:
      repo: "git@$git_address:shop.git"
      port: 3001
      server_names: [blog.example.com]
      steps: [{name: install, run: bundle check}]
      assets: {run: bin/build}
      health: {url: "http://127.0.0.1:3001/health", body: ok, times: 1, timeout: 3s}
      preflight: {enabled: false}
END
done

publish_both() { "$TRUEUP" --config "$SCRATCH/node.yml" publish production "shop=${sha[$1]}" "blog=${sha[$1]}" "${@:2}"; }
blog() { "$TRUEUP" --config "$SCRATCH/node.yml" rollout "$1" production blog "${@:2}"; }
blog_at() { on "$1" cat /srv/www/blog/current/REVISION; }
is_at() { [ "$(at "$1")" = "${sha[$2]}" ]; }

check "v1 of both apps is published" publish_both v1 --create
check "three hosts converge" passes 0 0 0
policy '{after: [shop]}'

#### The second app comes after the first
new_runs
timers "${hosts[@]}"
set_flag hold "${hosts[@]}"
check "a version of both is published" publish_both second
wait_for 30 "a host has the slot of the first" has_holder
for each in app2 app3; do
  [ "$each" = "$(holder)" ] || wait_for 30 "$each, which runs both, waits with the second" says "$each" "blog/code: waits for shop, which is not done"
  same "$each keeps the second one" "${sha[v1]}" "$(blog_at "$each")"
done
code "the second rollout is under way" 2 blog status
has "its status names what it waits for" "waits for shop, which is not done" "$output"
has "and the command" "trueup rollout skip-after production blog" "$output"
clear_flag hold "${hosts[@]}"
code "the first one is done" 0 rollout status --wait --timeout 60s
code "and then the second one, by itself" 0 blog status --wait --timeout 60s
for each in app2 app3; do same "$each has it" "${sha[second]}" "$(blog_at "$each")"; done
same "no slot is held" 0 "$(blog status --output json | json 'len(d["holders"])')"

# One host keeps the first app from being done, and the others go past it.
policy '{after: [shop], max_unavailable: 2}'
new_runs
set_flag hold app1
check "a version of both is published" publish_both third
for each in app2 app3; do wait_for 40 "$each takes the first" is_at $each third; done
wait_for 30 "and waits with the second" says app3 "blog/code: waits for shop, which is not done"
check "an operator lets it go on" blog skip-after --reason "it does not need it"
code "it goes, before the first one is done" 0 blog status --wait --timeout 60s
has "and its history names the act" "it does not need it" "$output"
code "the first one is not done" 2 rollout status
clear_flag hold app1
code "it is, later" 0 rollout status --wait --timeout 60s

#### A rollback on one host
# While another host has the slot.
policy '{max_unavailable: 1}'
new_runs
set_flag hold "${hosts[@]}"
check "a version is published" publish "${sha[fourth]}"
wait_for 30 "a host has the slot" has_holder
first=$(holder)
read -r second third <<<"$(others "$first")"
began=$SECONDS
code "a rollback on another host waits for the slot" 3 on "$second" trueup rollback shop --reason "carts are empty"
check "but the command does not" [ $((SECONDS - began)) -lt 20 ]
has "and says what the host waits for" "waits for a slot: $first has slot 0" "$output"
clear_flag hold "${hosts[@]}"
wait_for 60 "with the slot free it goes back by itself" is_at "$second" second
wait_for 60 "the others take the new version" is_at "$third" fourth
code "the rollout is done without it" 0 rollout status --wait --timeout 60s
check "the operator ends the pin" on "$second" trueup rollback shop --unpin
wait_for 60 "it takes the new version" finished "${sha[fourth]}" "${hosts[@]}"

# While the rollout stands still for another reason.
stop_timers "${hosts[@]}"
policy '{canary: {hosts: 1, bake: 1h}}'
check "a version with a canary is published" publish "${sha[fifth]}"
begin "${hosts[@]}"
wait_for 30 "the canary takes it" is_at app1 fifth
waits_for_canary() { grep -q "waits for the canary app1" "$SCRATCH/app2.pass"; }
wait_for 30 "the others wait for it" waits_for_canary
is_free() { ! has_holder; }
wait_for 10 "it gives its slot back" is_free
check "a rollback on one of them goes at once" on app2 trueup rollback shop --reason "carts are empty"
differs "to a version before" "${sha[fourth]}" "$(at app2)"
check "and one on the canary" on app1 trueup rollback shop --reason "carts are empty"
same "to the version before" "${sha[fourth]}" "$(at app1)"
code "the rollout waits for its canary" 2 rollout status
has "and says so" "waits for the canary app1; \`trueup rollout skip-canary production shop" "$output"
stop_passes
check "an operator lets it go on without" rollout skip-canary --reason "app1 is pinned"
begin app3; ends "the third host takes it" 0
code "the rollout is done without those that are pinned" 0 rollout status --wait --timeout 20s
same "no slot is held" 0 "$(rollout status --output json | json 'len(d["holders"])')"

# While the store does not answer.
lose_store app3
check "a rollback needs no answer of the store" on app3 trueup rollback shop --reason "carts are empty"
same "and goes to the version before" "${sha[fourth]}" "$(at app3)"
return_store app3
check "the operator ends the pin" on app3 trueup rollback shop --unpin
same "and the host takes what is wanted" "${sha[fifth]}" "$(at app3)"
