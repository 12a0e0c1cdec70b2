#!/bin/bash
# 65-rollout: three hosts behind haproxy take up shas one at a time; a bad one touches one host, a migration runs once
# timeout: 400
# packages: haproxy
# shellcheck source=tests/lab/lib.sh
. "$(dirname "$0")/../lib.sh"
# shellcheck source=tests/lab/versions.sh
. "$(dirname "$0")/../versions.sh"

# shellcheck disable=SC2119  # the app of this repository
give_git_server
clone_versions
for version in second third fourth; do commit $version good; done
commit crash crash
commit error error
give_versions
give_s3
hosts=(app1 app2 app3)
app_host() {
  give_versioned_server "$1" "preflight: {enabled: false}"
  on "$1" systemctl -q mask --now haproxy
  write "$1:/etc/trueup/node.d/tags.yml" <<<'tags: {tier: front}'
}
for each in "${hosts[@]}"; do app_host "$each"; done
give_balancer lb

# passes CODE…: a run of the timer on each host at the same time; the codes, sorted, with which they end
passes() {
  local each pids=() codes
  for each in "${hosts[@]}"; do
    (code=0; on "$each" env TRIGGER_UNIT=trueup.timer trueup converge >"$SCRATCH/$each.pass" 2>&1 || code=$?; echo $code >"$SCRATCH/$each.code") & pids+=($!)
  done
  wait "${pids[@]}"
  codes=$(for each in "${hosts[@]}"; do cat "$SCRATCH/$each.code"; done | sort | xargs)
  [ "$codes" = "$*" ] || { echo "codes: $codes"; for each in "${hosts[@]}"; do echo "-- $each"; cat "$SCRATCH/$each.pass"; done; return 1; }
}
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
json() { python3 -c 'import json, sys; d = json.load(sys.stdin); print(eval(sys.argv[1]))' "$1"; }
rollout() { "$TRUEUP" --config "$SCRATCH/node.yml" rollout "$1" production shop "${@:2}"; }
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
done
under_load lb
check "a good version is published" publish "${sha[fourth]}"
check "three hosts converge" passes 0 0 0
end_load
code "the rollout is done" 0 rollout status --wait --timeout 10s
rollout status
