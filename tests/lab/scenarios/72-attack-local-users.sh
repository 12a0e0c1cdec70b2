#!/bin/bash
# 72-attack-local-users: locks of other users block no pass; a host without passes is reported as stale
# timeout: 300
# shellcheck source=tests/lab/lib.sh
. "$(dirname "$0")/../lib.sh"

host web
give_trueup web
for unit in trueup.service trueup.timer; do
  lab cp "$tests/../packaging/systemd/$unit" "web:/usr/lib/systemd/system/$unit"
done
on web systemctl daemon-reload
on web sh -ec 'mkdir -p /srv/store /srv/metrics /etc/trueup/roles && useradd --system --create-home deploy'
write web:/srv/store/sha_number.yml <<<'generation: 1'
write web:/etc/trueup/roles/empty.yml <<END
resources:
  - directory: {path: /srv/kept}
END
write web:/etc/trueup/node.yml <<END
environment: production
roles: [empty]
store: {url: "dir:/srv/store"}
metrics: {textfile: /srv/metrics}
END
# What a version of before has left, open to all.
on web sh -c 'mkdir -p /run/trueup && : >/run/trueup/lock && chmod 644 /run/trueup/lock'

# Passes come every second or so: three periods are short.
on web mkdir -p /etc/systemd/system/trueup.timer.d
write web:/etc/systemd/system/trueup.timer.d/often.conf <<END
[Timer]
OnUnitInactiveSec=
OnBootSec=1s
OnUnitInactiveSec=2s
RandomizedDelaySec=0
END
check "the timer makes passes often" on web sh -c 'systemctl daemon-reload && systemctl enable --now trueup.timer'
check "a pass converges" on web trueup converge

# steal USER: locks all that he can open where trueup keeps its things, again and again, and says how much that is
cat >"$SCRATCH/steal" <<'END'
#!/bin/sh
for place in /run/trueup /var/lib/trueup /etc/trueup /var/log/trueup; do
  find "$place" 2>/dev/null
done | while read -r path; do
  for kind in --exclusive --shared; do flock --nonblock $kind "$path" sleep 300 & done
done
END
lab cp "$SCRATCH/steal" web:/usr/local/bin/steal
on web chmod 755 /usr/local/bin/steal
started() { on web sed -n 's/.*"started":"\([^"]*\)".*/\1/p' /run/trueup/last.json; }
later() { [ "$(started)" != "$1" ]; }
for thief in nobody deploy; do
  on web systemd-run -q --unit "steal-$thief" --uid "$thief" --property=Type=forking --property=SuccessExitStatus="0 1" /usr/local/bin/steal
  wait_for 10 "$thief holds every lock that he can open" on web pgrep -u "$thief" -x flock
  check "a pass by hand does not wait" on web trueup converge --no-wait
  was=$(started)
  wait_for 20 "passes of the timer continue" later "$was"
  was=$(started)
  wait_for 20 "and on" later "$was"
  code "status exits with 0" 0 on web trueup status
  attacked "$thief" "lock every file and folder of trueup that he can open" "passes by hand and by the timer continue"
done
same "nothing that others can open is locked" "" "$(on web sh -c 'find /run/trueup -maxdepth 1 -type f -name lock -perm /077')"
code "another user cannot reach the lock" 1 on web setpriv --reuid nobody --clear-groups test -e /run/trueup/private/lock
on web sh -c 'systemctl stop steal-nobody steal-deploy' || :

# Somebody who is root by mistake: a script that locks the same file.
on web systemctl stop trueup.timer
on web systemd-run -q --unit foreign flock /run/trueup/private/lock sleep 300
wait_for 10 "a foreign process has the lock" on web sh -c '! flock --nonblock /run/trueup/private/lock true'
code "that is a failure" 1 on web trueup converge
has "which names it" '(`flock`, run by root) holds the lock /run/trueup/private/lock' "$output"
code "for the unit as well" 1 on web systemctl start trueup.service
code "status fails" 1 on web trueup status
has "with the reason" "cannot start a pass" "$output"
has "motd reports it" "cannot start a pass" "$(on web cat /run/motd.d/trueup)"
on web systemctl stop foreign
check "passes run again" on web sh -c 'systemctl reset-failed trueup.service; trueup converge'
attacked "a script of root" "hold the lock without being a pass" "failed (1), with the process and what to do"

# No pass runs any more, for whatever reason: the host is not reported as converged.
stale() { on web trueup status >"$SCRATCH/status" 2>&1 && return 1; [ $? = 5 ]; }
status_has() { has "$1" "$2" "$(cat "$SCRATCH/status")"; }
check "a timer that is stopped makes status say stale at once" stale
status_has "with what to do" "systemctl enable --now trueup.timer"
check "a pass by hand converges" on web trueup converge
check "and starts no timer, so status remains stale" stale
on web systemctl mask --quiet --now trueup.timer
wait_for 60 "a masked timer makes status stale" stale
status_has "with the command for details" "\`systemctl status trueup.timer\`"
on web systemctl unmask --quiet trueup.timer
attacked "a user with sudo" "stop or mask the timer" "status is stale (5) at once"
check "the timer runs again" on web systemctl start trueup.timer
code "and has its time" 0 on web trueup status
has "monitoring knows the period" "trueup_pass_period_seconds" "$(on web cat /srv/metrics/trueup.prom)"
on web systemctl disable --quiet --now trueup.timer
check "a timer that started the passes until it was disabled makes status stale" stale
status_has "with what to do" "systemctl enable --now trueup.timer"
