#!/bin/bash
# 56-two-operators: two converge at once, one rolls back while another converges: serialized, with one restart each
# timeout: 180
# shellcheck source=tests/lab/lib.sh
. "$(dirname "$0")/../lib.sh"

give_git_server
give_s3
give_app_server web "git@$git_address:shop.git"
check "v1 is published" publish "${sha[v1]}" --create
check "the host converges" on web trueup converge
wait_for 10 "a visitor gets v1" page_has web "version v1"

# both "words" COMMAND -- COMMAND: at once; each ends well, or, what the other pinned meanwhile, with 3 (both in
# $ended)
both() {
  local words=$1 one=() first=0 second=0; shift
  while [ "$1" != -- ]; do one+=("$1"); shift; done; shift
  on web "${one[@]}" >"$SCRATCH/one" 2>&1 & a=$!
  on web "$@" >"$SCRATCH/two" 2>&1 & b=$!
  wait $a || first=$?
  wait $b || second=$?
  ended=$first,$second
  case $ended in
    0,0|3,0) _passed "$words ($first and $second)";;
    *) fail "$words" "$first: $(cat "$SCRATCH/one")" "$second: $(cat "$SCRATCH/two")";;
  esac
}

for next in v2 v3; do
  starts=$(starts web puma-shop)
  check "$next is published" publish "${sha[$next]}"
  both "two operators converge to $next at once" trueup converge -- trueup converge
  wait_for 10 "visitors get $next" page_has web "version $next"
  same "puma was restarted once for both" $((starts + 1)) "$(starts web puma-shop)"
  code "and nothing is left to do" 0 on web trueup plan
done

on web sh -c 'cd /srv/www/shop/releases; rm -rf $(ls | grep -v "$(basename "$(readlink ../current)")")'
check "v2 is published again" publish "${sha[v2]}"
on web trueup converge >"$SCRATCH/one" 2>&1 & a=$!
wait_for 10 "one pass builds it" grep -q deploy "$SCRATCH/one"
code "another that shall not wait is refused" 75 on web trueup converge --no-wait
has "with whose pass it is" "trueup converge" "$output"
code=0; wait $a || code=$?
same "the first one ends well" 0 "$code"

check "v1 is published again" publish "${sha[v1]}"
both "one converges to v1 while another goes back" trueup converge -- trueup rollback shop --reason "orders fail"
# In either order the rollback is in force at the end; its target depends on the order: before v2 was
# v3, and before v1 will have been v2.
case $ended in
  3,0) back=v3;;
  0,0) back=v2;;
esac
same "the host is at the release before the one that was left" "${sha[$back]}" "$(on web cat /srv/www/shop/current/REVISION)"
wait_for 10 "visitors get $back" page_has web "version $back"
check "the pin is ended" on web trueup rollback shop --unpin
check "and the next pass brings all back to the manifest" on web trueup converge
wait_for 10 "visitors get v1" page_has web "version v1"
same "releases are complete" 0 "$(on web sh -c 'for release in /srv/www/shop/releases/*; do [ -s $release/REVISION ] || echo; done | wc -l')"
