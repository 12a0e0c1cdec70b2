#!/bin/bash
# 43-rpm: the .rpm does nothing until configured, its upgrade does not disturb a running pass, its removal keeps the apps
# timeout: 420
# packages: rpm
# shellcheck source=tests/lab/lib.sh
. "$(dirname "$0")/../lib.sh"

# On Debian, with Debian's rpm: what the package needs of others is there, but not in the form of packages that rpm knows.
rpm() { on web rpm --force-debian "$@"; }
timer() { echo "$(on web systemctl is-active trueup.timer) $(on web systemctl is-enabled trueup.timer)"; }
ended_well() { [ "$(shown web trueup ActiveState) $(shown web trueup Result)" = "inactive success" ]; }
make_rpm() {
  "$tests/../packaging/build" rpm --binary "$TRUEUP" --fast --version "$1" >"$SCRATCH/package" 2>"$SCRATCH/package.log" ||
    fail "an .rpm is built" "$(cat "$SCRATCH/package.log")"
  mv "$(cat "$SCRATCH/package")" "$SCRATCH/trueup-$1.rpm"
}

make_rpm 1.0
make_rpm 1.1
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
    assets: {run: bin/build}
    migrate: {run: "while [ -e /run/hold-migrations ]; do sleep .1; done"}
END
on web sh -c 'rm -r /usr/bin/trueup /usr/share/trueup
  mkdir -p /root/later/node.d; sed -i "s/git@git:/git@$0:/" /etc/trueup/node.yml
  mv /etc/trueup/node.yml /root/later/node.d/host.yml; mv /etc/trueup/deploy_key /root/later/; rmdir /etc/trueup
  mkdir /srv/metrics; echo "metrics: {textfile: /srv/metrics}" >/root/later/node.d/metrics.yml' "$git_address"
lab cp "$SCRATCH/trueup-1.0.rpm" web:/root/trueup-1.0.rpm
lab cp "$SCRATCH/trueup-1.1.rpm" web:/root/trueup-1.1.rpm
check "v1 is published" publish "${sha[v1]}" --create

#### A fresh install
code "it is installed" 0 rpm -i --nodeps /root/trueup-1.0.rpm
has "the next step is shown" "sudo trueup init" "$output"
same "rpm finds nothing changed" "" "$(rpm -V --nodeps trueup)"
same "the timer is off, at boot, too" "inactive disabled" "$(timer)"
code "a pass changes nothing" 78 on web trueup converge
has "the remedy is shown" "trueup init" "$output"
check "its folder for what is running is there" on web test -d /run/trueup

#### Configured
on web cp -r /root/later/. /etc/trueup/
# More often than it is shipped.
write web:/etc/systemd/system/trueup.timer.d/often.conf <<<$'[Timer]\nOnUnitInactiveSec=\nOnBootSec=1s\nOnUnitInactiveSec=1s\nRandomizedDelaySec=0'
on web systemctl daemon-reload
check "the timer is started" on web systemctl enable --now trueup.timer
wait_for 60 "its first pass makes the host an app server" page_has web "version v1"
wait_for 10 "and ends well" ended_well

#### An upgrade in the middle of a pass
on web touch /run/hold-migrations
on web sh -c 'echo "# A note of ours." >>/etc/trueup/node.yml'
check "v2 is published" publish "${sha[v2]}"
wait_for 60 "the timer takes it up" on web pgrep -f hold-migrations
pass=$(shown web trueup MainPID)
check "the package is upgraded meanwhile" rpm -U --nodeps /root/trueup-1.1.rpm
same "to the new version" 1.1 "$(rpm -q --qf '%{VERSION}' trueup)"
same "the pass is the same one, and still at it" "$pass activating" "$(shown web trueup MainPID) $(shown web trueup ActiveState)"
same "the timer is armed" "active enabled" "$(timer)"
same "what was written into node.yml is there" "# A note of ours." "$(on web tail -n 1 /etc/trueup/node.yml)"
on web rm /run/hold-migrations
wait_for 30 "it deploys v2" page_has web "version v2"
wait_for 10 "and ends well" ended_well

#### An operator who stopped the timer on purpose
check "an operator stops the timer" on web systemctl stop trueup.timer
check "the package is installed again" rpm -U --nodeps --oldpackage /root/trueup-1.0.rpm
same "the timer stays stopped" "inactive enabled" "$(timer)"

#### Removed, it leaves the apps
on web touch /run/hold-migrations
check "v3 is published" publish "${sha[v3]}"
check "the timer is started again" on web systemctl start trueup.timer
wait_for 60 "its pass takes it up" on web pgrep -f hold-migrations
rpm -e trueup >"$SCRATCH/removal" 2>&1 & removal=$!
wait_for 30 "a removal of the package waits for it" on web pgrep -f 'flock --timeout 900 /run/trueup/private/lock'
on web rm /run/hold-migrations
wait $removal || fail "the package is removed" "$(cat "$SCRATCH/removal")"
page_has web "version v3" || fail "with v3 in service" "$(page web)"
code "the timer is gone" 4 on web systemctl status trueup.timer
same "programs, roles and units are gone" "" "$(on web sh -c 'ls -d /usr/bin/trueup /usr/share/trueup /run/trueup /usr/lib/systemd/system/trueup.* 2>/dev/null' ||:)"
same "settings and records stay" "deploy_key host.yml metrics.yml mirrors" \
  "$(on web sh -c 'cd /etc/trueup; ls -d deploy_key; ls node.d; cd /var/lib/trueup; ls -d mirrors' | xargs)"
check "the app starts again without trueup" on web systemctl restart puma-shop nginx
wait_for 20 "and serves" page_has web "version v3"

#### Its motd and metrics are removed with it
check "the package is installed again" rpm -i --nodeps /root/trueup-1.1.rpm
same "a configured host continues by its timer" "active enabled" "$(timer)"
check "a sha that no repository has is published" publish "$(printf '%040d' 1)"
code "a pass fails" 1 on web trueup converge
same "motd and metrics report the failure" "/run/motd.d/trueup /srv/metrics/trueup.prom" \
  "$(on web sh -c 'ls /run/motd.d/trueup /srv/metrics/trueup.prom' | xargs)"
check "the package is removed" rpm -e trueup
same "motd and metrics are removed" "" "$(on web sh -c 'ls -d /run/motd.d/trueup /srv/metrics/trueup.prom 2>/dev/null' ||:)"
