#!/bin/bash
# 58-killed: trueup is hung up or killed during a build or a migration: no child runs beside the next pass
# timeout: 180
# shellcheck source=tests/lab/lib.sh
. "$(dirname "$0")/../lib.sh"

give_git_server
give_s3
give_server web app <<END
packages: [nginx-light, ruby, bundler]
apps:
  shop:
    repo: "git@$git_address:shop.git"
    port: 3000
    steps:
      - {name: install, run: bundle check}
      - {name: wait, run: "while [ -e /run/hold-builds ]; do sleep .1; done"}
    assets: {run: bin/build}
    migrate: {run: "echo begun >>log/migrations; while [ -e /run/hold-migrations ]; do sleep .1; done; echo ended >>log/migrations", once: host}
END
check "v1 is published" publish "${sha[v1]}" --create
check "the host converges" on web trueup converge
wait_for 10 "a visitor gets v1" page_has web "version v1"

# begin: a pass by hand; its process id is \$pass. signal NAME: to trueup alone. over: it has ended.
begin() {
  on web sh -c 'trueup converge >/run/output 2>&1 & echo $!' >"$SCRATCH/pid"
  pass=$(cat "$SCRATCH/pid")
}
over() { ! on web kill -0 "$pass" 2>/dev/null; }
works() { on web pgrep -u deploy -f "$1"; }
gone() { ! works "$1"; }
lines() { on web grep -c "$1" /srv/www/shop/shared/log/migrations ||:; }
fresh() { on web sh -c 'cd /srv/www/shop/releases && for release in *; do [ "releases/$release" = "$(readlink ../current)" ] || rm -rf "$release"; done'; }

for signal in HUP KILL; do
  fresh
  on web touch /run/hold-builds
  check "v2 is published" publish "${sha[v2]}"
  begin
  wait_for 20 "a build runs as the deploy user" works hold-builds
  on web kill -$signal "$pass"
  wait_for 10 "with SIG$signal trueup ends" over
  wait_for 5 "and its build with it" gone hold-builds
  on web rm /run/hold-builds
  check "the next pass converges" on web trueup converge
  wait_for 10 "visitors get v2" page_has web "version v2"
  check "v1 is published again" publish "${sha[v1]}"
  check "the next pass completes it" on web trueup converge
done

was=$(lines begun)
on web touch /run/hold-migrations
check "v3 is published" publish "${sha[v3]}"
begin
wait_for 20 "a migration runs as the deploy user" works hold-migrations
on web kill -HUP "$pass"
code "without its terminal the migration continues and keeps the lock" 75 on web trueup converge --no-wait
on web rm /run/hold-migrations
wait_for 20 "trueup ends after it" over
same "and it was not cut short" "$((was + 1))" "$(lines ended)"
check "the next pass continues" on web trueup converge
same "without another" "$((was + 1))" "$(lines begun)"
wait_for 10 "visitors get v3" page_has web "version v3"

on web touch /run/hold-migrations
fresh
on web sh -c 'cd /srv/www/shop/releases && rm -rf $(ls | grep -v "$(basename "$(readlink ../current)")")'
check "v2 is published again" publish "${sha[v2]}"
begin
wait_for 20 "a migration runs" works hold-migrations
on web kill -KILL "$pass"
wait_for 5 "one whose trueup is killed is killed, too: no second one runs beside it" gone hold-migrations
on web rm /run/hold-migrations
check "the next pass migrates" on web trueup converge
wait_for 10 "visitors get v2" page_has web "version v2"
code "then nothing is left to do" 0 on web trueup plan
