#!/bin/bash
# 65-rollout: three hosts behind haproxy take up shas one at a time; a bad one touches one host, a migration runs once
# timeout: 400
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
for version in second third fourth; do commit $version good; done
commit crash crash
commit error error
# Works on some hosts only.
make_picky() { health '(Socket.gethostname == "app3" ? [500, TEXT, ["not here"]] : [200, TEXT, ["ok"]])'; sed -i '1i require "socket"' config.ru; }
commit picky picky
give_versions
# shellcheck disable=SC2119  # no settings of its own
give_fleet
give_balancer lb

check "v1 is published" publish "${sha[v1]}" --create
check "three hosts converge" passes 0 0 0
check "the balancer converges" on lb trueup converge
serves() { [ "$(curl -sS -o /dev/null -w '%{http_code}' "http://$(address lb)/")" = 200 ]; }
wait_for 10 "it serves" serves
for version in second third; do
  under_load lb
  check "$version is published" publish "${sha[$version]}"
  check "three hosts converge" passes 0 0 0
  end_load
done
has "the rollout is done" "third" "$(rollout status | sed "s/${sha[third]:0:7}/third/")"
code "and its status says so" 0 rollout status --wait
output=$(rollout status --output json)
same "no slot is held" 0 "$(json 'len(d["holders"])' <<<"$output")"
same "all hosts are proven" "app1 app2 app3" "$(json '" ".join(d["proven"])' <<<"$output")"

# A bad sha without a preflight: one host meets it, and no visitor.
for kind in crash error; do
  under_load lb
  check "a bad version is published: $kind" publish "${sha[$kind]}"
  check "one host takes it back, the others refuse it" passes 4 4 4
  same "one host has activated it" 1 "$(grep -l 'rolls back to' "$SCRATCH"/app?.pass | wc -l)"
  end_load
  code "the rollout is quarantined" 4 rollout status --wait
  has "with the reason" "failed on app" "$(rollout status 2>&1)"
  has "which the fleet shows" "failed on app" "$(fleet | grep 'rollout of shop:')"
done
under_load lb
check "a good version is published" publish "${sha[fourth]}"
check "three hosts converge" passes 0 0 0
end_load
code "the rollout is done" 0 rollout status --wait --timeout 10s
rollout status

# A rolling restart: each host once, one at a time.
runs() { for each in "${hosts[@]}"; do on "$each" systemctl show -P InvocationID puma-shop; done; }
before=$(runs)
under_load lb
check "an operator asks for a restart" rollout restart --reason "it leaks"
code "which is under way" 2 rollout status
has "on no host yet" "0 of 3 hosts" "$(rollout status || :)"
check "three hosts restart" passes 0 0 0
end_load
after=$(runs)
same "each has restarted" 6 "$(sort -u <<<"$before"$'\n'"$after" | wc -l)"
has "because of it" "because of a rolling restart of shop" "$(cat "$SCRATCH"/app?.pass)"
code "the restart is done" 0 rollout status --wait --timeout 10s
has "and in the history" ": it leaks" "$(rollout status)"
check "another pass restarts nothing" passes 0 0 0
same "the services run on" "$after" "$(runs)"

# A sha that works on two hosts and fails on the third: the two go back.
policy '{on_failure: rollback}'
check "a version that works on two hosts is published" publish "${sha[picky]}"
begin app1 app2; ends "they take it" 0 0
begin app3; ends "the third takes it back" 4
under_load lb
begin app1 app2; ends "the two go back" 3 3
end_load
for each in "${hosts[@]}"; do same "$each is at the version before" "${sha[fourth]}" "$(at "$each")"; done

# A configuration with which the app does not start takes one host out, not three.
serving() { for each in "${hosts[@]}"; do on "$each" curl -s --max-time 2 -o /dev/null -w '%{http_code}\n' http://127.0.0.1:3000/health ||:; done | grep -c 200 ||:; }
check "a version is published for all" publish "${sha[fourth]}"
check "three hosts converge" passes 0 0 0
for each in "${hosts[@]}"; do
  write "$each:/etc/trueup/node.d/wrong.yml" <<<'attributes: {apps: {shop: {command: bundle exec puma --no-such-option}}}'
done
begin "${hosts[@]}"
two_serve() { [ "$(serving)" = 2 ]; }
wait_for 30 "a host goes out" two_serve
sleep 10
same "and no other one" 2 "$(serving)"
has "the others wait for it" "waits for a slot" "$(cat "$SCRATCH"/app?.pass)"
stop_passes
for each in "${hosts[@]}"; do on "$each" rm /etc/trueup/node.d/wrong.yml; done
check "with the right one all serve again" passes 0 0 0
same "and no slot is held" 0 "$(rollout status --output json | json 'len(d["holders"])')"
