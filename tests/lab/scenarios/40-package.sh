#!/bin/bash
# 40-package: the .deb does nothing until configured, does not disturb a running pass, and its removal keeps the apps
# timeout: 240
# packages: needrestart
# shellcheck source=tests/lab/lib.sh
. "$(dirname "$0")/../lib.sh"

timer() { on web systemctl is-active trueup.timer; }
apt() { on web env DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Use-Pty=0 "$@"; }
files() { on web sh -c 'find /etc /srv /home /root /var /usr -xdev -newer /run/before \
  -not -path "/var/lib/dpkg*" -not -path "/var/lib/apt/*" -not -path "/var/log/*" -not -path "/var/cache/*" -not -path "/var/lib/systemd*" -not -type d'; }
ended_well() { [ "$(shown web trueup ActiveState) $(shown web trueup Result)" = "inactive success" ]; }
another_pass() { [ "$(shown web trueup InvocationID)" != "$1" ]; }

make_package 1.0-1; first=$package
# The next version: the same, but for what it says in node.yml.
dpkg-deb -R "$first" "$SCRATCH/next"
sed -i 's/^Version: .*/Version: 1.1-1/' "$SCRATCH/next/DEBIAN/control"
echo "# One line more." >>"$SCRATCH/next/etc/trueup/node.yml"
second=$SCRATCH/trueup_1.1-1_amd64.deb
dpkg-deb --root-owner-group -Zgzip -z1 -b "$SCRATCH/next" "$second" >/dev/null
give_git_server
give_s3
give_server web app <<END
packages: [nginx-light, ruby, bundler, hello-trueup]
apps:
  shop:
    repo: "git@$git_address:shop.git"
    port: 3000
    steps:
      - {name: wait, run: "while [ -e /run/hold-builds ]; do sleep .1; done"}
      - {name: install, run: bundle check}
    assets: {run: bin/build}
END
# Only the package is to be there.
on web rm -rf /usr/bin/trueup /usr/share/trueup
on web sh -c 'mkdir /root/later /srv/metrics; mv /etc/trueup/* /root/later/; rmdir /etc/trueup
  echo "metrics: {textfile: /srv/metrics}" >>/root/later/node.yml'
# After each run of apt, needrestart restarts services whose program or libraries were replaced: by itself, as on Ubuntu.
# shellcheck disable=SC2016  # Perl
write web:/etc/needrestart/conf.d/lab.conf <<<'$nrconf{restart} = q(a); $nrconf{kernelhints} = 0;'
lab cp "$first" web:/root/trueup_1.0-1_amd64.deb
lab cp "$second" web:/root/trueup_1.1-1_amd64.deb
check "v1 is published" publish "${sha[v1]}" --create

# --- A fresh install
on web touch /run/before
code "it is installed with apt" 0 apt install /root/trueup_1.0-1_amd64.deb
has "the next step is shown" "sudo trueup init" "$output"
same "everything it brought is its own" "" "$(files | grep -v -e /trueup -e _trueup -e /usr/share/man/man1/)"
same "dpkg finds nothing changed" "" "$(on web dpkg --verify trueup)"
same "what people change is a conffile" "/etc/needrestart/conf.d/trueup.conf /etc/trueup/node.yml" \
  "$(on web sort /var/lib/dpkg/info/trueup.conffiles | xargs)"
code "the timer is off" 3 on web systemctl is-active trueup.timer
same "at boot, too" disabled "$(on web systemctl is-enabled trueup.timer || :)"
code "a pass changes nothing" 78 on web trueup converge
has "the remedy is shown" "trueup init" "$output"
code "not under systemd either" 1 on web systemctl start trueup.service
same "no user was made" "" "$(on web getent passwd deploy || :)"
check "its man page can be read" on web sh -c 'test -s "$(ls /usr/share/man/man1/trueup-converge.1* | head -n 1)"'
has "bash completes its commands" "converge" "$(on web bash -c '. /usr/share/bash-completion/completions/trueup
  COMP_WORDS=(trueup conv) COMP_CWORD=1 COMPREPLY=(); _trueup trueup conv trueup; echo "${COMPREPLY[@]}"')"

# --- The unit as it is shipped does the whole work
on web sh -c 'mv /root/later/deploy_key /etc/trueup/; mkdir /etc/trueup/node.d; mv /root/later/node.yml /etc/trueup/node.d/host.yml'
check "the unit's definition has no mistake" on web sh -c '! systemd-analyze verify --man=no trueup.service trueup.timer 2>&1 | grep trueup'
check "the timer is started" on web systemctl enable --now trueup.timer
wait_for 60 "its first pass makes the host an app server" page_has web "version v1"
wait_for 10 "and ends well" ended_well
same "it ran in the shipped unit" "/lib/systemd/system/trueup.service" "$(shown web trueup FragmentPath | sed s,^/usr,,)"
has "with a package that apt installed" hello "$(on web hello-trueup)"
journal=$(on web journalctl -q -o cat -u trueup.service)
has "the journal names each change" "create user:deploy" "$journal"
has "and how the pass ended" "converged: 1" "$journal"
same "in fields" "create" "$(on web journalctl -q -o json -u trueup.service TRUEUP_RESOURCE=user:deploy --output-fields=TRUEUP_VERB | sed 's/.*"TRUEUP_VERB":"\([^"]*\)".*/\1/')"
exposure=$(on web systemd-analyze security --no-pager trueup.service)
echo "  ${exposure##*$'\n'}"
on web cat /lib/systemd/system/trueup.service >"$SCRATCH/unit"
unexplained=
for word in $(sed -n 's/^✗ \([^ ]*\) .*/\1/p' <<<"$exposure" | sed 's/^RestrictNamespaces=.*/RestrictNamespaces/; s/CAP_//g' | tr '()|~=/' ' '); do
  grep -qF "$word" "$SCRATCH/unit" || unexplained+=" $word"
done
has "systemd-analyze lists the remaining exposures" "✗ NoNewPrivileges=" "$exposure"
same "the unit has a comment for each" "" "$unexplained"

# --- An upgrade in the middle of a pass
on web touch /run/hold-builds
check "v2 is published" publish "${sha[v2]}"
wait_for 60 "seconds after the first pass the timer begins another, which builds it" on web pgrep -f hold-builds
pass=$(shown web trueup MainPID)
check "the package is upgraded meanwhile" apt install /root/trueup_1.1-1_amd64.deb
same "to the new version" 1.1-1 "$(on web dpkg-query -W -f '${Version}' trueup)"
same "the pass is the same one, and still at it" "$pass activating" "$(shown web trueup MainPID) $(shown web trueup ActiveState)"
same "the timer is armed" active "$(timer)"
has "though needrestart finds that its program was replaced" "uses obsolete binary /usr/bin/trueup" "$(on web needrestart -v -r l -l 2>&1)"
# As an operator does after changing the settings.
reloaded() { on web systemctl reload-or-restart trueup >"$SCRATCH/reload" 2>&1; }
reloaded & reload=$!
wait_for 10 "a reload-or-restart waits for the pass" on web pgrep -x systemctl
same "and does not end it" "$pass activating" "$(shown web trueup MainPID) $(shown web trueup ActiveState)"
# From here on more often than it is shipped.
write web:/etc/systemd/system/trueup.timer.d/often.conf <<<$'[Timer]\nOnUnitInactiveSec=\nOnBootSec=1s\nOnUnitInactiveSec=1s\nRandomizedDelaySec=0'
on web sh -c 'systemctl daemon-reload; systemctl restart trueup.timer'
on web rm /run/hold-builds
wait_for 30 "it deploys v2" page_has web "version v2"
wait_for 10 "and ends well" ended_well
wait $reload || fail "so does the reload-or-restart" "$(cat "$SCRATCH/reload")"
same "in one release" 2 "$(on web sh -c 'ls /srv/www/shop/releases | wc -l')"
journal=$(on web journalctl -q -o cat -u trueup.service)
wait_for 60 "the timer comes again" another_pass "$(shown web trueup InvocationID)"
wait_for 10 "to a pass that ends well" ended_well
same "the journal has no new entry" "$journal" "$(on web journalctl -q -o cat -u trueup.service)"
check "v1 is published again" publish "${sha[v1]}"
wait_for 60 "the timer takes it up" page_has web "version v1"

# --- An upgrade that stops at a question
check "the package is downgraded to the first version" apt install --allow-downgrades /root/trueup_1.0-1_amd64.deb
on web sh -c 'echo "# A note of ours." >>/etc/trueup/node.yml'
code "an upgrade fails without an answer to dpkg's question about node.yml" 100 apt install /root/trueup_1.1-1_amd64.deb
same "the timer stays active" active "$(timer)"
check "with the old file kept it is finished" on web dpkg --force-confold --configure -a
same "the timer still runs" active "$(timer)"

# --- An operator who stopped the timer on purpose
check "an operator stops the timer" on web systemctl stop trueup.timer
wait_for 20 "no pass is running" ended_well
before=$(shown web trueup InvocationID)
check "reload-or-restart runs a pass" on web systemctl reload-or-restart trueup
differs "which makes one" "$before" "$(shown web trueup InvocationID)"
before=$(shown web trueup InvocationID)
check "and by restart" on web systemctl restart trueup
differs "which makes one" "$before" "$(shown web trueup InvocationID)"
check "the package is installed again" apt install --reinstall /root/trueup_1.1-1_amd64.deb
code "the timer stays stopped" 3 timer

# --- Removed, it leaves the apps; purged, nothing of itself
on web touch /run/hold-builds
check "v3 is published" publish "${sha[v3]}"
check "the timer is started again" on web systemctl start trueup.timer
wait_for 60 "its pass builds v3" on web pgrep -f hold-builds
apt remove trueup >"$SCRATCH/removal" 2>&1 & removal=$!
wait_for 30 "a removal of the package waits for it" on web pgrep -f 'flock --timeout 900 /run/trueup/private/lock'
on web rm /run/hold-builds
wait $removal || fail "the package is removed" "$(cat "$SCRATCH/removal")"
page_has web "version v3" || fail "with v3 in service" "$(page web)"
puma=$(shown web puma-shop InvocationID) nginx=$(shown web nginx InvocationID)
code "the timer is gone" 4 on web systemctl status trueup.timer
page_has web "version v3" || fail "the app serves" "$(page web)"
same "with the same processes" "$puma $nginx" "$(shown web puma-shop InvocationID) $(shown web nginx InvocationID)"
same "its settings stay" "deploy_key node.d node.yml node.yml.dpkg-dist" "$(on web sh -c 'cd /etc/trueup; echo *')"
check "the package is installed again" apt install /root/trueup_1.1-1_amd64.deb
same "a configured host continues by its timer" "active enabled" "$(timer) $(on web systemctl is-enabled trueup.timer)"
check "a sha that no repository has is published" publish "$(printf '%040d' 1)"
alerts() { on web ls /run/motd.d/trueup /srv/metrics/trueup.prom; }
wait_for 30 "motd and metrics report the failure" alerts
check "the package is purged" apt purge trueup
same "nothing of it is left" "" "$(on web sh -c 'ls -d /run/motd.d/trueup /srv/metrics/trueup.prom /etc/needrestart/conf.d/trueup* /etc/trueup /var/lib/trueup /var/log/trueup /run/trueup /usr/share/trueup /usr/bin/trueup /etc/systemd/system/*/trueup* 2>/dev/null' || :)"
page_has web "version v3" || fail "the app serves" "$(page web)"
same "and all its releases stay" 3 "$(on web sh -c 'ls /srv/www/shop/releases | wc -l')"
check "it starts again without trueup" on web systemctl restart puma-shop nginx
wait_for 20 "and serves" page_has web "version v3"

# --- The other package has the same in it
rpm=$("$tests/../packaging/build" rpm --binary /bin/true --fast 2>"$SCRATCH/package.log") || fail "an .rpm is built" "$(cat "$SCRATCH/package.log")"
in_rpm() { rpm -qlp "$rpm" | sed 's,/zsh/site-functions/,/zsh/vendor-completions/,; s,licenses/trueup/LICENSE,doc/trueup/copyright,' | sort; }
same "the .rpm holds what the .deb holds" "$(dpkg-deb -c "$first" | sed -n 's,^-.* \./,/,p' | sed 's,\.gz$,,' | sort)" "$(in_rpm)"
same "what people change is kept on upgrades" "/etc/needrestart/conf.d/trueup.conf /etc/trueup/node.yml" "$(rpm -qcp "$rpm" | xargs)"
has "and its scripts are the .rpm's own" "systemctl --quiet disable --now trueup.timer" "$(rpm -qp --scripts "$rpm")"
