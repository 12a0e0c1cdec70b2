#!/bin/bash
# 52-store-trouble: S3 unreachable, silent, slow, truncated, full or with another clock: reported, harmless, and recovered from
# timeout: 360
# shellcheck source=tests/lab/lib.sh
. "$(dirname "$0")/../lib.sh"

give_git_server
give_s3
straight=$endpoint                                       # CI's own way to the store has no trouble
give_s3_trouble
give_app_server web "git@$git_address:shop.git"
sed -i "s#$endpoint#$straight#" "$SCRATCH/node.yml"

trouble gone
code "a first pass without a store changes nothing" 1 on web trueup converge
has "the error says that nothing was changed" "no last good manifest yet, so nothing was changed" "$output"
code "and no user was made" 2 on web getent passwd deploy
trouble
check "v1 is published" publish "${sha[v1]}" --create
check "the host converges" on web trueup converge
wait_for 10 "a visitor gets v1" page_has web "version v1"

puma=$(shown web puma-shop InvocationID)
check "v2 is published while the store is unreliable" publish "${sha[v2]}"
# stale "words" FAULT "message"   a pass under this fault is stale, within half a minute, and changes no service
stale() {
  local began=$SECONDS
  trouble "$2"
  on web sh -c 'echo "# by hand" >>/home/deploy/.ssh/config'
  code "$1: the pass is stale" 5 on web trueup converge
  has "$1: the report names the reason" "$3" "$output"
  has "$1: the pass repairs drift" "update ssh-config" "$output"
  has "$1: status is stale" stale "$(on web trueup status ||:)"
  [ $((SECONDS - began)) -lt 35 ] || fail "$1: the pass ends in time" "$((SECONDS - began)) s"
  page_has web "version v1" || fail "$1: visitors get v1" "$(page web)"
}
stale "S3 closes each connection" gone "cannot be reached"
stale "S3 takes requests and does not answer" silent "cannot be reached"
stale "S3 answers 503" 503 "SlowDown"
stale "S3 finds the host's clock wrong" skewed "clock"
stale "S3's answer ends in the middle" cut "cannot be reached"
stale "S3's answer drips" "drip 1" "cannot be reached"
stale "a proxy answers instead of S3" html "answered with"
same "puma was never restarted" "$puma" "$(shown web puma-shop InvocationID)"
trouble slow 2
check "with a slow S3 the pass waits and deploys v2" on web trueup converge
wait_for 10 "visitors get v2" page_has web "version v2"
trouble

#### Gone for an hour
puma=$(shown web puma-shop InvocationID)
answered=$(on web sed -n 's/.*"store_answered":"\([^"]*\)T\([0-9:]*\).*/\1 \2/p' /run/trueup/last.json)
trouble refuse
on web touch /run/before
code "it is gone for as many passes as an hour has" 0 on web \
  sh -c 'for n in $(seq 90); do trueup converge >/dev/null 2>&1; echo $?; done | sort | uniq -c'
same "each of them is stale" "90 5" "$(xargs <<<"$output")"
code "another stale pass exits with 5" 5 on web trueup converge
has "and since when" "the store last answered at $answered" "$output"
has "status is stale" stale "$(on web trueup status ||:)"
same "they wrote nothing outside trueup's own records" "" "$(written web /run/before)"
same "the history has one entry" 1 "$(on web find /var/lib/trueup/runs -newer /run/before -type f | wc -l)"
check "v3 is published meanwhile" publish "${sha[v3]}"
same "puma was not restarted" "$puma" "$(shown web puma-shop InvocationID)"
trouble
check "when it is back the next pass catches up" on web trueup converge
wait_for 10 "visitors get v3" page_has web "version v3"
code "and nothing is stale" 0 on web trueup status

#### The network, too
lab cut web
code "without a cable a pass is stale" 5 on web trueup converge
lab heal web
wait_for 20 "and is over when it is plugged in" on web trueup converge
lab cut web silent
code "a pass without a network is stale" 5 on web trueup converge
lab heal web
check "and is over when it is over" on web trueup converge
