#!/bin/bash
# 54-power-cuts: the power is cut at 20 random moments of deploys; after each the host boots, serves, and the next pass converges
# timeout: 480
# shellcheck source=tests/lab/lib.sh
. "$(dirname "$0")/../lib.sh"

give_git_server
give_s3
give_app_server web "git@$git_address:shop.git"
check "v1 is published" publish "${sha[v1]}" --create
begun=$(date +%s%N)
check "the host converges" on web trueup converge
first=$((($(date +%s%N) - begun) / 1000000))
wait_for 10 "a visitor gets v1" page_has web "version v1"

# sound WANTED OTHER: what has to hold at any time, whatever was cut: `current` names a whole release of one of the two.
sound() {
  on web sh -ec 'cd /srv/www/shop; release=$(readlink current); [ -d "$release" ]; sha=$(cat "$release/REVISION")
    [ "$sha" = "$0" ] || [ "$sha" = "$1" ]
    test -s "$release/.trueup/puma.rb" -a -s "$release/public/assets/manifest.json" -a -L "$release/log"' "$@"
}
tidy() { # no half-built release, no temporary file, every record readable
  on web sh -ec 'cd /srv/www/shop
    for release in releases/*; do [ -s "$release/REVISION" ] || { echo "half-built: $release"; exit 1; }; done
    left=$(find /srv/www /var/lib/trueup /etc /home /usr/local/lib/systemd -name "*.trueup~" -o -name "*.lock" -path "*/mirrors/*")
    [ -z "$left" ] || { echo "left over: $left"; exit 1; }
    find /var/lib/trueup -name "*.json" | xargs python3 -c "import json, sys; [json.load(open(name)) for name in sys.argv[1:]]"'
}

RANDOM=${SEED:=$RANDOM} was=v1
echo "  seed $SEED (SEED=$SEED repeats the moments); a first pass takes $first ms"
for cut in {1..20}; do
  case $was in v1) next=v3;; v3) next=v2;; *) next=v1;; esac
  # Every fourth time everything is new, and most of the time goes into the first build.
  [ $((cut % 4)) != 0 ] || on web sh -c 'rm -rf /var/lib/trueup/mirrors'
  # Releases that are there are switched to at once; without them there is something to build.
  on web sh -c 'cd /srv/www/shop/releases && for release in *; do [ "releases/$release" = "$(readlink ../current)" ] || rm -rf "$release"; done'
  publish "${sha[$next]}" >/dev/null 2>&1 || fail "$next is published"
  ms=$((RANDOM % 1500))
  on web trueup converge >"$SCRATCH/cut" 2>&1 & pass=$!
  sleep "$((ms / 1000)).$(printf %03d $((ms % 1000)))"
  lab kill web
  wait $pass 2>/dev/null && in='after the pass' || in='in the pass'
  host web
  sound "${sha[$next]}" "${sha[$was]}" || fail "cut $cut at $ms ms: current names a whole release" "$(on web ls -lR /srv/www/shop)"
  wait_for 15 "cut $cut at $ms ms, $in: what boots serves" page_has web "version v"
  check "cut $cut: the next pass converges to $next" on web trueup converge
  [ "$(on web cat /srv/www/shop/current/REVISION)" = "${sha[$next]}" ] || fail "cut $cut: current is $next"
  page_has web "version $next" || fail "cut $cut: visitors get $next" "$(page web)"
  code "cut $cut: then nothing is left to do" 0 on web trueup plan
  output=$(tidy 2>&1) || fail "cut $cut: nothing half-built is left" "$output"
  was=$next
done
