#!/bin/bash
# 17-many-deploys: many deploys in a row under load, one in ten bad in another way each: no request fails
# timeout: 420
# long timeout: 2400
# shellcheck source=tests/lab/lib.sh
. "$(dirname "$0")/../lib.sh"
# shellcheck source=tests/lab/versions.sh
. "$(dirname "$0")/../versions.sh"

deploys=40
[ -z "${LONG:-}" ] || deploys=200
bad=(fades memory port link dies crash late killed error word hang redirect migration assets)
give_git_server
clone_versions
kind_of() { [ $(($1 % 10)) = 0 ] && echo "${bad[$1 / 10 % ${#bad[@]}]}" || echo good; }
for ((n = 1; n <= deploys; n++)); do commit "$n" "$(kind_of "$n")"; done
give_versions
give_s3
give_versioned_server web "preflight: {timeout: 10s}"
check "v1 is published" publish "${sha[v1]}" --create
check "the host converges" on web trueup converge
wait_for 10 "a visitor gets v1" page_has web "version v1"

now() { date +%s.%N; }
since() { awk -v a="$1" -v b="$(now)" 'BEGIN {printf "%.1f", b - a}'; }
rows() { printf '%-4s %-10s %-4s %6s  %-8s %s\n' "$@"; }
table=$(rows number kind exit 'time s' failed visitors)
good=v1
under_load web
for ((n = 1; n <= deploys; n++)); do
  kind=$(kind_of "$n") started=$(now) failed=0
  [[ " ${bad_later[*]} " != *" $kind "* ]] || { end_load; under_load web; }
  publish "${sha[$n]}" >"$SCRATCH/publish" 2>&1 || fail "version $n is published" "$(cat "$SCRATCH/publish")"
  exit=0
  output=$(on web trueup converge 2>&1) || exit=$?
  case $kind in
    good) same "version $n is deployed" 0 "$exit"; good=$n;;
    dies|fades)
      same "version $n, which will be bad, is deployed ($kind)" 0 "$exit"
      # As the timer does.
      for ((passes = 0; passes < 60 && exit != 4; passes++)); do
        sleep 3
        exit=0
        output=$(on web trueup converge 2>&1) || exit=$?
        [ $exit = 0 ] || [ $exit = 4 ] || printf 'meanwhile: %s\n' "$output"
      done
      same "it is taken back" 4 "$exit"
      has "with the reason" "${words[$kind]}" "$output"
      touch "$SCRATCH/stop"; wait "$visitors"
      failed=$(sed -n 's/.* failed \([0-9]*\) .*/\1/p' "$SCRATCH/load")
      under_load web;;
    *)
      same "version $n is refused ($kind)" "$(pass_code "$kind")" "$exit"
      has "with the reason" "${words[$kind]}" "$output";;
  esac
  page_has web "version $good" || fail "visitors get version $good" "$(page web)"
  table+=$'\n'$(rows "$n" "$kind" "$exit" "$(since "$started")" "$failed" "version $good")
done
end_load
printf '%s\n' "$table" | sed 's/^/  /'
check "five good releases are kept, and at most one that failed and one that was bad" \
  [ "$(on web ls /srv/www/shop/releases | wc -l)" -le 7 ]
