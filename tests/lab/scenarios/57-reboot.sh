#!/bin/bash
# 57-reboot: a host is rebooted during a build and a migration; after boot it serves, and its timer completes the deploy
# timeout: 420
# shellcheck source=tests/lab/lib.sh
. "$(dirname "$0")/../lib.sh"

make_package
give_git_server
give_s3
give_server web app <<'END'
packages: [nginx-light, ruby, bundler]
apps:
  shop:
    repo: "git@git:shop.git"
    port: 3000
    steps:
      - {name: install, run: bundle check}
      - {name: wait, run: "while [ -e /srv/hold-builds ]; do sleep .1; done"}
    assets: {run: bin/build}
    migrate:
      run: |
        echo "begun $REVISION" >>"$SHARED_PATH/log/migrations"
        while [ -e /srv/hold-migrations ]; do sleep .1; done
        echo "ended $REVISION" >>"$SHARED_PATH/log/migrations"
END
on web sed -i "s/git@git:/git@$git_address:/" /etc/trueup/node.yml
on web rm -r /usr/bin/trueup /usr/share/trueup           # only the package's are to be there
lab cp "$package" web:/root/trueup.deb
check "v1 is published" publish "${sha[v1]}" --create
check "the package is installed where settings are" on web env DEBIAN_FRONTEND=noninteractive \
  apt-get -qq -o Dpkg::Options::=--force-confold install /root/trueup.deb
# More often than it is shipped; not before the host is up: a job that waits for a held build would keep it "starting".
write web:/etc/systemd/system/trueup.timer.d/often.conf <<<$'[Timer]\nOnUnitInactiveSec=\nOnBootSec=\nOnBootSec=10s\nOnUnitInactiveSec=1s\nRandomizedDelaySec=0'
on web systemctl daemon-reload
check "the timer is started" on web systemctl enable --now trueup.timer
wait_for 60 "the host converges" page_has web "version v1"

# shut_down "words" SECONDS: it is rebooted as an operator does it, is off within that time, and boots again
off() { lab list | grep -q '^web .* off'; }
shut_down() { on web systemctl reboot --no-block ||:; wait_for "$2" "$1" off; host web; }
# whole SHA: the active release is complete and of that sha, and no temporary file is left. The timer continues meanwhile:
# a file that a pass is writing right now is gone at the next check.
whole() {
  on web sh -ec '[ "$(cat /srv/www/shop/current/REVISION)" = "$0" ]; test -s /srv/www/shop/current/.trueup/puma.rb
    left=$(find /srv/www /var/lib/trueup /etc /home -name "*.trueup~"); [ -z "$left" ] || { echo "left over: $left"; exit 1; }' "$1"
}
releases() { on web sh -c 'ls /srv/www/shop/releases'; }
migrations() { on web grep -c "$1 ${sha[$2]}" /srv/www/shop/shared/log/migrations ||:; }

#### In the middle of a build
on web touch /srv/hold-builds
check "v2 is published" publish "${sha[v2]}"
wait_for 60 "the timer takes it up, and builds it" on web pgrep -f hold-builds
shut_down "a reboot does not wait for the build" 15
wait_for 15 "what boots serves v1" page_has web "version v1"
wait_for 15 "the release is complete" whole "${sha[v1]}"
wait_for 60 "the build is resumed" on web pgrep -f hold-builds
begun=$(releases)
on web rm /srv/hold-builds
wait_for 30 "and v2 is served" page_has web "version v2"
same "from the release that was begun before the reboot" "2 $begun" "$(releases | wc -l) $(releases)"
wait_for 15 "the release is complete" whole "${sha[v2]}"

#### In the middle of a migration
on web touch /srv/hold-migrations
check "v3 is published" publish "${sha[v3]}"
begun() { [ "$(migrations begun v3)" = 1 ]; }
wait_for 60 "the timer takes it up, and migrates" begun
on web sh -c 'sleep 4; rm /srv/hold-migrations' &
shut_down "a reboot waits for the migration" 30
same "which was not cut short" "1 1" "$(migrations begun v3) $(migrations ended v3)"
wait_for 15 "what boots serves" page_has web "version v"
wait_for 60 "and soon v3" page_has web "version v3"
same "without a second migration" 1 "$(migrations begun v3)"
wait_for 15 "the release is complete" whole "${sha[v3]}"
code "then nothing is left to do" 0 on web trueup plan
