#!/bin/bash
# 56-two-operators: two converge at once, one rolls back while another converges: one after the other, and one restart each
# timeout: 180
# shellcheck source=tests/lab/lib.sh
. "$(dirname "$0")/../lib.sh"

give_git_server
give_s3
give_app_server web "git@$git_address:shop.git"
check "v1 is published" publish "${sha[v1]}" --create
check "the host converges" on web trueup converge
wait_for 10 "a visitor gets v1" page_says web "version v1"

# both "words" COMMAND -- COMMAND: at once; each ends well, or, what the other pinned meanwhile, with 3
both() {
  local words=$1 one=() first=0 second=0; shift
  while [ "$1" != -- ]; do one+=("$1"); shift; done; shift
  on web "${one[@]}" >"$SCRATCH/one" 2>&1 & a=$!
  on web "$@" >"$SCRATCH/two" 2>&1 & b=$!
  wait $a || first=$?
  wait $b || second=$?
  case $first,$second in
    0,0|3,0) _passed "$words ($first and $second)";;
    *) fail "$words" "$first: $(cat "$SCRATCH/one")" "$second: $(cat "$SCRATCH/two")";;
  esac
}

for next in v2 v3; do
  starts=$(starts web puma-shop)
  check "$next is published" publish "${sha[$next]}"
  both "two operators converge to $next at once" trueup converge -- trueup converge
  wait_for 10 "visitors get $next" page_says web "version $next"
  same "puma was restarted once for both" $((starts + 1)) "$(starts web puma-shop)"
  code "and nothing is left to do" 0 on web trueup plan
done

on web sh -c 'cd /srv/www/shop/releases; rm -rf $(ls | grep -v "$(basename "$(readlink ../current)")")'
check "v2 is published again" publish "${sha[v2]}"
on web trueup converge >"$SCRATCH/one" 2>&1 & a=$!
wait_for 10 "one pass builds it" grep -q deploy "$SCRATCH/one"
code "another that shall not wait is refused" 75 on web trueup converge --no-wait
has "with whose pass it is" "trueup converge" "$said"
code=0; wait $a || code=$?
same "the first one ends well" 0 "$code"

check "v1 is published again" publish "${sha[v1]}"
both "one converges to v1 while another goes back" trueup converge -- trueup rollback shop --reason "orders fail"
at=$(on web cat /srv/www/shop/current/REVISION)
case $at in
  "${sha[v1]}") version=v1;;
  "${sha[v2]}") version=v2;;
  *) fail "the host is at what the one or the other wanted" "$at";;
esac
wait_for 10 "visitors get $version, which the last one wanted" page_says web "version $version"
check "what is pinned, if it is, is let go" on web sh -c 'trueup rollback shop --unpin || [ $? = 3 ]'
check "and the next pass brings all back to the manifest" on web trueup converge
wait_for 10 "visitors get v1" page_says web "version v1"
same "releases are whole" 0 "$(on web sh -c 'for release in /srv/www/shop/releases/*; do [ -s $release/REVISION ] || echo; done | wc -l')"
