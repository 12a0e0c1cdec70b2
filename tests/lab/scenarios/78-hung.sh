#!/bin/bash
# 78-hung: a program that cannot start fails at its deadline; a pass that hangs in a system call ends itself, and the timer continues
# timeout: 420
# shellcheck source=tests/lab/lib.sh
. "$(dirname "$0")/../lib.sh"

host web
give_trueup web
for unit in trueup.service trueup.timer; do lab cp "$tests/../packaging/systemd/$unit" "web:/etc/systemd/system/$unit"; done
on web mkdir -p /srv/store
"$tests/fixtures/make-repo" "$SCRATCH/shop.git" node-app >"$SCRATCH/shas"
lab cp "$SCRATCH/shop.git" web:/srv/shop.git
on web chown -R root: /srv/shop.git
write web:/etc/trueup/node.yml <<'END'
environment: production
roles: [tool]
store: {url: "dir:/srv/store"}
END
role() { { printf 'description: A program and an app of somebody else.\nresources:\n'; cat; } | write web:/etc/trueup/roles/tool.yml; }
write web:/srv/tool 755 <<'END'
#!/bin/sh
touch /srv/done
END
# Blocks every process that opens a file while this runs, like a filesystem that does not respond.
write web:/srv/hold.py <<'END'
import ctypes, os, signal, sys
libc = ctypes.CDLL(None, use_errno=True)
content, add, open_perm, here = 0x4, 0x1, 0x10000, -100
listener = libc.fanotify_init(content, os.O_RDONLY)
marked = libc.fanotify_mark(listener, add, ctypes.c_uint64(open_perm), here, sys.argv[1].encode())
assert listener >= 0 and marked == 0, os.strerror(ctypes.get_errno())
open("/run/held", "w").close()
signal.pause()
END
hold() {
  on web rm -f /run/held
  on web systemd-run -q --unit hold python3 /srv/hold.py "$1"
  wait_for 20 "$1 is held up" on web test -e /run/held
}
check "a manifest is published" on web trueup publish production "shop=$(sed -n 's/^v1 //p' "$SCRATCH/shas")" --ref main --create

# The child hangs before it has become the program.
role <<'END'
  - command: {id: tool, run: [/srv/tool], creates: /srv/done, timeout: 1s}
END
hold /srv/tool
code "a pass ends" 1 on web timeout 60 trueup converge
has "the report names the program that could not start" '`/srv/tool` did not start within 5 s and was killed: its working folder or its program is on a filesystem that does not respond' "$output"
on web systemctl stop hold
check "the next pass does it" on web trueup converge
check "the program has run" on web test -e /srv/done
attacked "a filesystem that does not answer" "holds up a program of a resource before it begins" "it is killed, and the pass continues"

# trueup itself hangs, at a repository that it reads without a child.
role <<'END'
  - release: {app: shop, repo: /srv/shop.git, deploy_to: /srv/shop, fetch_timeout: 1s}
END
hold /srv/shop.git/HEAD
on web systemctl daemon-reload
check "the timer is started" on web systemctl start trueup.timer
pass() { on web systemctl show trueup.service --property=MainPID --value; }
begun() { [ "$(pass)" != 0 ] && on web grep -q fanotify "/proc/$(pass)/wchan" ; }
wait_for 60 "a pass has begun, and is at the repository" begun
pid=$(pass)
on web kill -TERM "$pid"
sleep 5
check "SIGTERM does not end it" on web kill -0 "$pid"
ended() { ! on web kill -0 "$pid" 2>/dev/null; }
wait_for 150 "it ends itself" ended
has "as a failure" "status=1/FAILURE" "$(on web journalctl -u trueup --no-pager)"
# Of the whole journal: journald asks a process that may be gone by then which unit is its.
has "the journal names the operation" "it hung at release:shop: fetch /srv/shop.git, 60 s past the deadline of " "$(on web journalctl --no-pager -o cat)"
code "status shows it" 1 on web trueup status
has "in the same words" "hung at release:shop" "$output"
attacked "a filesystem that does not answer" "hangs a pass in a system call, deaf to SIGTERM" "it ends itself a minute past the deadline, and reports it"

on web systemctl stop hold
wait_for 90 "the timer continues, and the next pass deploys" on web test -e /srv/shop/current
check "the next pass gets the lock" on web timeout 60 trueup converge
