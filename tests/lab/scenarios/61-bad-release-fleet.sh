#!/bin/bash
# 61-bad-release-fleet: three hosts behind haproxy meet bad shas all at once: no request fails with a preflight, few without
# timeout: 300
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
kinds=(crash error word)
for kind in "${kinds[@]}"; do
  commit "$kind" "$kind"
  commit "$kind-again" "$kind"
done
commit good good
give_versions
give_fleet "preflight: {timeout: 10s}"
give_balancer lb

check "v1 is published" publish "${sha[v1]}" --create
check "three hosts converge" passes 0 0 0
check "the balancer converges" on lb trueup converge
serves() { [ "$(curl -sS -o /dev/null -w '%{http_code}' "http://$(address lb)/")" = 200 ]; }
wait_for 10 "it serves" serves

table="kind   preflight  asked  failed  slowest  failing for"
row() { table+=$'\n'$(sed -nE "s/^asked ([0-9]+) failed ([0-9]+) slowest (.*)/$1 $2 \1 \2 \3/p" "$SCRATCH/load" |
  awk '{printf "%-6s %-10s %5s  %6s  %5s s  %s s", $1, $2, $3, $4, $5, $9 ? $9 : "0.0"}'); }
for kind in "${kinds[@]}"; do
  under_load lb
  check "a version with this fault is published: $kind" publish "${sha[$kind]}"
  check "all three refuse it" passes 4 4 4
  has "and say why" "${words[$kind]}" "$(cat "$SCRATCH/app2.pass")"
  end_load
  row "$kind" yes
done

for each in "${hosts[@]}"; do
  write "$each:/etc/trueup/node.d/shop.yml" <<<'attributes: {apps: {shop: {preflight: {enabled: false}}}}'
done
for kind in "${kinds[@]}"; do
  under_load lb
  started=$SECONDS
  check "without a preflight, a version with this fault is published: $kind" publish "${sha[$kind-again]}"
  check "all three take it back" passes 4 4 4
  touch "$SCRATCH/stop"; wait "${visitors[@]}"
  row "$kind" no
  check "within a minute" [ $((SECONDS - started)) -lt 60 ]
  # haproxy may still take a host for down that has just come back.
  wait_for 5 "visitors get v1" page_has lb "version v1"
done
printf '%s\n' "$table" | sed 's/^/  /'
under_load lb
check "a good version is published" publish "${sha[good]}"
check "all three converge to it" passes 0 0 0
end_load
page_has lb "version good" || fail "visitors get it" "$(page lb)"
